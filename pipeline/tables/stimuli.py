"""When the stimulus comes, where annotations do not say it: a table recording,trial,stim_frame."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pipeline.tables import text
from pipeline.tables.sources import Source, Trial, without_suffix
from pipeline.tables.text import TableError

EXPECTED = "the columns recording,trial,stim_frame (stim_frame counted from the trial's start, 0)"

Stimuli = dict[tuple[str, int], tuple[int, str]]  # (recording, trial) -> its frame, and where that stands


def read_stimuli(path: Path) -> Stimuli:
    """An empty stim_frame is one that is not known. Raises TableError."""
    header, rows = text.read(path, EXPECTED)
    text.require(path, header, ("recording", "trial", "stim_frame"), EXPECTED)
    stimuli: Stimuli = {}
    for row in rows:
        if not row.cells["stim_frame"]:
            continue
        key = without_suffix(text.filled(path, row, "recording")), text.whole(path, row, "trial")
        frame = text.whole(path, row, "stim_frame")
        if key in stimuli and stimuli[key][0] != frame:
            raise TableError(
                f"{stimuli[key][1]} and row {row.number}: other stimulus frames for {key[0]} trial {key[1]}"
            )
        stimuli.setdefault(key, (frame, f"{path} row {row.number}"))
    return stimuli


def with_stimuli(source: Source, stimuli: Stimuli) -> Source:
    """The trials with the stimuli that are given for them; these win over those of annotations."""
    known = {(trial.recording, trial.trial) for trial in source.trials}
    others = [f"{recording} trial {trial}" for recording, trial in sorted(stimuli.keys() - known)]
    notes = [f"{len(others)} stimuli are of trials that are not here: {', '.join(others[:5])}"] if others else []
    trials = tuple(_with(trial, stimuli.get((trial.recording, trial.trial))) for trial in source.trials)
    return dataclasses.replace(source, trials=trials, notes=(*source.notes, *notes))


def _with(trial: Trial, found: tuple[int, str] | None) -> Trial:
    if found is None:
        return trial
    frame, where = found
    if frame >= trial.stop:
        raise TableError(
            f"{where}: stim_frame {frame} lies outside the trial, whose frames are {trial.first} to {trial.stop - 1}; "
            "it counts from the trial's start, not from the recording's"
        )
    return dataclasses.replace(trial, stim_frame=frame)
