"""The trials that a folder's scores are of, with what was said of each."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from cache.clip import UNLABELLED
from pipeline.cross_validation import out_of_fold
from pipeline.cross_validation.decided import load_decided
from pipeline.cross_validation.fold import TEST
from pipeline.cross_validation.out_of_fold import OutOfFold
from pipeline.predict.scored_trials import ScoredTrial, load_all
from pipeline.train.run_folder import DECISION

ARGMAX, DECIDED = "arg-max", "decided"


def predictions(trials: list[ScoredTrial]) -> dict[str, list[np.ndarray]]:
    """The labels (T,) of each trial, by arg-max and, where there are such, decided."""
    said = {ARGMAX: [trial.logits.argmax(-1) for trial in trials]}
    decided = [trial.decided for trial in trials if trial.decided is not None]
    return said | {DECIDED: decided} if len(decided) == len(trials) and trials else said


def shown(labels_T: np.ndarray, intact_T: np.ndarray) -> np.ndarray:
    """The labels, nothing of damaged frames."""
    return np.where(intact_T, labels_T, UNLABELLED)


def of_cross_validation(folder: Path) -> list[ScoredTrial]:
    """Out-of-fold trials, with what the folds' own test folders know of their crops, frame rates and keypoints."""
    names = [path.stem.rpartition("_")[::2] for path in sorted((folder / out_of_fold.FOLDER).glob("*.npz"))]
    clips = out_of_fold.load(folder, [(recording, int(trial)) for recording, trial in names])
    decided = load_decided(clips, folder) if (folder / DECISION).is_file() else clips
    folds = {clip.fold for clip in clips}
    known = {
        (trial.recording, trial.trial): trial for fold in folds for trial in load_all(folder / f"fold-{fold}" / TEST)
    }
    trials = [_trial(clip, known.get((clip.recording, clip.trial))) for clip in decided]
    return sorted(trials, key=lambda trial: (trial.recording, trial.trial))


def _trial(clip: OutOfFold, known: ScoredTrial | None) -> ScoredTrial:
    own = {name: getattr(clip, name) for name in ("recording", "trial", "logits", "labels", "intact", "decided")}
    own |= {"majority": clip.majority, "class_names": clip.class_names}
    if known is None or len(known.labels) != len(clip.labels):
        return ScoredTrial(**own)
    return dataclasses.replace(known, **own)
