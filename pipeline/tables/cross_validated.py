"""The out-of-fold labels of a cross-validation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

import cache as clip_cache
from cache import UNLABELLED, Place
from pipeline.cross_validation import out_of_fold
from pipeline.cross_validation.decided import decided_by_other_folds
from pipeline.tables.sources import Source, SourceError, trial_of
from pipeline.train.run_folder import DECISION


def from_cross_validation(folder: Path, cache: Place, decide: bool) -> Source:
    """What the model of each fold says of recordings that it never saw, beside people's labels.

    cache: the one that was cross-validated, which knows frame rates, stimuli and crops. decide: by a decision layer
    that is fitted on the other folds, where the cross-validation made one; otherwise the arg-max.
    """
    clips = {(clip.recording, clip.trial): clip for clip in clip_cache.open(cache)}
    names = sorted(
        path.stem.rpartition("_")[::2] for path in (folder / out_of_fold.FOLDER).glob("*.npz")
    )  # (recording, trial) as text
    if not names:
        raise SourceError(f"{folder}: no {out_of_fold.FOLDER}/*.npz in it; expected that of `pipeline cross-validate`")
    said = out_of_fold.load(folder, [(recording, int(trial)) for recording, trial in names])
    for one in said:
        clip = clips.get((one.recording, one.trial))
        if clip is None or len(clip) != len(one.labels):
            found = "does not hold it" if clip is None else f"has {len(clip)} frames of it, not {len(one.labels)}"
            raise SourceError(
                f"{folder}: tested {one.recording} trial {one.trial}; {cache} {found}. Give the cache that was "
                "cross-validated, or cross-validate again"
            )
    decided = decide and (folder / DECISION).is_file()
    said = decided_by_other_folds(said) if decided else said
    trials = [
        dataclasses.replace(
            trial_of(clips[one.recording, one.trial], np.where(one.intact, one.pred, UNLABELLED)),
            intact=one.intact,
            true=np.where(one.intact, one.labels, UNLABELLED),
        )
        for one in said
    ]
    trials.sort(key=lambda trial: (trial.recording, trial.trial))
    how = "decision layer fitted on the other folds" if decided else "arg-max"
    return Source(said[0].class_names, tuple(trials), f"out-of-fold predictions ({how})")
