"""The ethogram of a report: bouts of every trial, for page.js to draw a page of trials at a time.

All bouts stay in the file up to a limit; page.js shows as many of them as the screen has pixels for, and each one after
zooming in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline import bouts
from pipeline.pictures import class_colours
from pipeline.report.content import Ethogram
from pipeline.report.figures import plain, short

MOST_BOUTS = 400_000  # about 5 MB of HTML
TRIALS_PER_PAGE = 40
_LONGEST_NAME = 34


@dataclass(frozen=True)
class Row:
    """One trial. lanes: name of a lane -> (class, start, stop) of each bout, (n,3) int, in frames of the trial.

    fps: None where it is not known.
    """

    recording: str
    trial: int
    fps: float | None
    lanes: Mapping[str, np.ndarray]

    @property
    def n_bouts(self) -> int:
        return sum(map(len, self.lanes.values()))


def lane(labels: np.ndarray, first: int) -> np.ndarray:
    """The bouts (n,3) of labels (T,) that begin at frame `first` of the trial."""
    found = [(bout.class_id, first + bout.start, first + bout.stop) for bout in bouts.find(labels)]
    return np.array(found, np.int64).reshape(-1, 3)


def ethogram(rows: Iterable[Row], class_names: Sequence[str], lanes: Sequence[str], caption: str) -> Ethogram:
    """lanes: upper lane first; where there are more than two, the page lets one choose among those below the first.

    Time is in seconds where every trial's frame rate is known, in frames otherwise. Trials from MOST_BOUTS on are left
    out, and the caption says how many.
    """
    shown: list[Row] = []
    n_bouts = left_out = 0
    for row in rows:
        n_bouts += row.n_bouts
        if n_bouts > MOST_BOUTS and shown:
            left_out += 1
        else:
            shown.append(row)
    in_seconds = all(row.fps for row in shown)
    data: dict[str, Any] = {
        "classes": [plain(short(name)) for name in class_names],
        "colours": class_colours(len(class_names)),
        "lanes": list(lanes),
        "unit": "s" if in_seconds else "frames",
        "per_page": TRIALS_PER_PAGE,
        "rows": [
            {
                "name": f"{row.recording} {row.trial}",
                "label": plain(f"{short(row.recording, _LONGEST_NAME)} {row.trial}"),
                "fps": row.fps if in_seconds and row.fps else 1,
                "lanes": [row.lanes[name].ravel().tolist() if name in row.lanes else [] for name in lanes],
            }
            for row in shown
        ],
    }
    if left_out:
        caption += f" Left out, for the size of this file: the last {left_out} of {left_out + len(shown)} trials."
    return Ethogram(data, caption)
