"""Out-of-fold labels by a decision layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pipeline.cross_validation.out_of_fold import OutOfFold
from pipeline.train.decide import cross_fitted


def decided_by_other_folds(clips: Sequence[OutOfFold]) -> list[OutOfFold]:
    """The clips with the labels of a decision layer fitted on the other folds; of a single fold, the arg-max."""
    folds = [str(clip.fold) for clip in clips]
    trials, labels = [clip.log_probabilities for clip in clips], [clip.labels for clip in clips]
    said = cross_fitted(trials, labels, folds, parts=len(set(folds)))
    return [dataclasses.replace(clip, decided=ids) for clip, ids in zip(clips, said, strict=True)]
