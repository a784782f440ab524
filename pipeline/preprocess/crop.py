"""Which frames of its trial an annotation's rows belong to."""

from __future__ import annotations

import numpy as np

from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import SettingsError, parse_map

_DEFAULT_CROPS = PreprocessSettings().crops


class CropError(ValueError):
    """The rows of an annotation cannot be placed in their trial; the message is the reason."""


def parse_crops(text: str, trial_frames: int) -> dict[int, int]:
    """`345=15` as {rows: first frame of the trial}; empty if trial_frames is 0 (whole recordings are never cropped).

    The default is left out where it doesn't fit the trial: who says how long trials are need not say that as well.
    Raises SettingsError for what is no number and for rows that would run past the trial's end.
    """
    crops: dict[int, int] = {}
    for rows, start in parse_map(text, "crops").items() if trial_frames else ():
        if not (rows.isdecimal() and start.isdecimal() and int(rows) > 0):
            raise SettingsError(f"--crops {text}: expected ROWS=START in frames, found {rows}={start}")
        if int(start) + int(rows) > trial_frames and text == _DEFAULT_CROPS:
            continue
        if int(start) + int(rows) > trial_frames:
            raise SettingsError(
                f"--crops {text}: {rows} rows from frame {start} run past --trial-frames {trial_frames}; correct it"
            )
        crops[int(rows)] = int(start)
    return crops


def trial_crop(n_rows: int, trial_frames: int, min_frames: int, crops: dict[int, int]) -> int:
    """The frame of the trial (from 0) that the annotation's first row belongs to. Raises CropError.

    With trial_frames 360, min_frames 345, crops {345: 15}: 360 rows are frames [0, 360) of the trial -> 0;
    345 rows are frames [15, 360) -> 15; 344 rows are too short; 350 rows are ambiguous. In trial 2 of a recording,
    row 0 of 345 is therefore frame 360 * (2 - 1) + 15 = 375 of the video.
    """
    if n_rows == trial_frames:
        return 0
    if n_rows < min_frames:
        raise CropError(f"too short: {n_rows} rows, expected at least {min_frames} (--min-frames)")
    if n_rows in crops:
        return crops[n_rows]
    known = ", ".join(str(rows) for rows in sorted({trial_frames, *crops}))
    raise CropError(f"ambiguous: {n_rows} rows, expected {known}; which frames are they? (--crops {n_rows}=START)")


def whole_crop(n_rows: int, n_frames: int) -> int:
    """The same for a recording that is one clip: 0 if every frame has its row. Raises CropError."""
    if n_rows != n_frames:
        raise CropError(
            f"ambiguous: {n_rows} rows, the recording has {n_frames} frames (--trial-frames 0: all of them)"
        )
    return 0


def check_frame_column(frames: np.ndarray, crop_start: int) -> None:
    """Raise CropError unless `frames` (rows,) counts by one from 0 or from crop_start."""
    if len(frames) == 0:
        return
    first = int(frames[0])
    if first not in (0, crop_start):
        expected = "0" if crop_start == 0 else f"0 or {crop_start}"
        raise CropError(f"its Frame column starts at {first}, expected {expected}")
    wrong = np.flatnonzero(frames != first + np.arange(len(frames)))
    if len(wrong):
        row = int(wrong[0])
        raise CropError(
            f"its Frame column has a gap or a double: row {row + 2} of the file says {frames[row]}, "
            f"expected {first + row}"
        )
