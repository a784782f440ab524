"""Stimuli that people wrote down, beside the trials of a source."""

from __future__ import annotations

import dataclasses

from pipeline import stimuli as written
from pipeline.stimuli import Stimuli
from pipeline.tables.sources import Source, Trial


def with_stimuli(source: Source, stimuli: Stimuli) -> Source:
    """The trials with the stimuli that are given for them; these win over those of annotations."""
    notes = written.of_others(stimuli, [(trial.recording, trial.trial) for trial in source.trials])
    trials = tuple(_with(trial, stimuli) for trial in source.trials)
    return dataclasses.replace(source, trials=trials, notes=(*source.notes, *notes))


def _with(trial: Trial, stimuli: Stimuli) -> Trial:
    frame = written.of_trial(stimuli, trial.recording, trial.trial, trial.first, trial.stop)
    return trial if frame is None else dataclasses.replace(trial, stim_frame=frame)
