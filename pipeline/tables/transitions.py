"""Which behaviour follows which, bout to bout.

Shapes: N classes, U animals; rows the bout that ends, columns the one that follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pipeline import bootstrap
from pipeline.bouts import Bout


def counts(found: Sequence[Bout], n_classes: int) -> np.ndarray:
    """(N,N) int64 of the bouts of one trial. Two with an unscored frame between them do not follow each other."""
    matrix = np.zeros((n_classes, n_classes), np.int64)
    for left, right in pairwise(found):
        if left.stop == right.start:
            matrix[left.class_id, right.class_id] += 1
    return matrix


def probabilities(matrix: np.ndarray) -> np.ndarray:
    """Of counts (N,N): the share of each row, NaN in a row without a transition."""
    total = matrix.sum(axis=1, keepdims=True)
    return np.where(total > 0, matrix / np.maximum(total, 1), np.nan)


def interval(per_animal: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ends (N,N) of the intervals of `probabilities` of the summed counts (U,N,N), animals drawn anew.

    NaN in a row that fewer than MIN_UNITS animals have a transition in.
    """
    return bootstrap.interval(per_animal, seed, probabilities)
