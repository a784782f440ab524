"""When the stimulus comes, where annotations do not say it: a table recording,trial,stim_frame."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pipeline import lab_tables
from pipeline.file_names import composed, without_suffix
from pipeline.lab_tables import TableError

EXPECTED = "the columns recording,trial,stim_frame (stim_frame counted from the trial's start, 0)"

Stimuli = dict[tuple[str, int], tuple[int, str]]  # (recording, composed; trial) -> its frame, and where that stands


def read_stimuli(path: Path) -> Stimuli:
    """An empty stim_frame is one that is not known. Raises TableError."""
    header, rows = lab_tables.read(path, EXPECTED)
    lab_tables.require(path, header, ("recording", "trial", "stim_frame"), EXPECTED)
    stimuli: Stimuli = {}
    for row in rows:
        if not row.cells["stim_frame"]:
            continue
        key = without_suffix(lab_tables.filled(path, row, "recording")), lab_tables.whole(path, row, "trial")
        frame = lab_tables.whole(path, row, "stim_frame")
        if key in stimuli and stimuli[key][0] != frame:
            raise TableError(
                f"{stimuli[key][1]} and row {row.number}: other stimulus frames for {key[0]} trial {key[1]}"
            )
        stimuli.setdefault(key, (frame, f"{path} row {row.number}"))
    return stimuli


def of_trial(stimuli: Stimuli, recording: str, trial: int, first: int, stop: int) -> int | None:
    """The frame of a trial's stimulus; None where the table has none. first, stop: its frames, for the message.

    Raises TableError for a frame after the trial's end.
    """
    frame, where = stimuli.get((composed(recording), trial), (None, ""))
    if frame is not None and frame >= stop:
        raise TableError(
            f"{where}: stim_frame {frame} lies outside the trial, whose frames are {first} to {stop - 1}; "
            "it counts from the trial's start, not from the recording's"
        )
    return frame


def of_others(stimuli: Stimuli, known: Collection[tuple[str, int]]) -> list[str]:
    """A note on the stimuli of trials that are not among these (recording, trial); none where there are none."""
    here = {(composed(recording), trial) for recording, trial in known}
    others = [f"{recording} trial {trial}" for recording, trial in sorted(stimuli.keys() - here)]
    return [f"{len(others)} stimuli are of trials that are not here: {', '.join(others[:5])}"] if others else []
