"""The table of transitions: of each trial, summed over those of an animal, and over the animals of a group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline import bouts
from pipeline.tables.groups import GROUP, Group, Place
from pipeline.tables.sources import Source
from pipeline.tables.summaries import identity_of
from pipeline.tables.transitions import counts, interval, probabilities

COLUMNS = (
    "level", *GROUP, "animal", "recording", "trial", "from_behaviour", "to_behaviour", "count", "probability", "low",
    "high", "n_animals", "n_trials",
)  # fmt: skip


def transition_table(source: Source, places: Sequence[Place], order: Sequence[Group], seed: int) -> pd.DataFrame:
    """level: trial, animal (in one group) or group; what a level does not name is empty."""
    matrices = [counts(bouts.find(trial.labels), len(source.class_names)) for trial in source.trials]
    rows: list[dict[str, Any]] = []
    for trial, place, matrix in zip(source.trials, places, matrices, strict=True):
        rows += _cells({"level": "trial"} | identity_of(trial, place), matrix, source.class_names)
    of_animal = _summed(places, matrices)
    for (animal, group), (matrix, n_trials) in sorted(of_animal.items()):
        identity = {"level": "animal", "animal": animal, "n_trials": n_trials} | dict(zip(GROUP, group, strict=True))
        rows += _cells(identity, matrix, source.class_names)
    for group in order:
        inside = [of_animal[key] for key in sorted(of_animal) if key[1] == group]
        n_trials = sum(n for _, n in inside)
        identity = {"level": "group", "n_animals": len(inside), "n_trials": n_trials}
        identity |= dict(zip(GROUP, group, strict=True))
        per_animal = np.array([matrix for matrix, _ in inside])
        rows += _cells(identity, per_animal.sum(axis=0), source.class_names, interval(per_animal, seed))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    texts = [*GROUP, "animal", "recording"]
    table[texts] = table[texts].fillna("")
    return table


def _summed(places: Sequence[Place], matrices: Sequence[np.ndarray]) -> dict[tuple[str, Group], tuple[np.ndarray, int]]:
    """The counts, and the number of trials, of each known animal in each group."""
    summed: dict[tuple[str, Group], tuple[np.ndarray, int]] = {}
    for place, matrix in ((p, m) for p, m in zip(places, matrices, strict=True) if p.animal):
        before, n_trials = summed.get((place.animal, place.group), (np.zeros_like(matrix), 0))
        summed[place.animal, place.group] = before + matrix, n_trials + 1
    return summed


def _cells(
    identity: dict[str, Any],
    matrix: np.ndarray,
    class_names: Sequence[str],
    ends: tuple[np.ndarray, np.ndarray] | None = None,
) -> Iterator[dict[str, Any]]:
    """A row per pair of different behaviours: no bout follows one of its own behaviour."""
    share = probabilities(matrix)
    for i, j in np.ndindex(*matrix.shape):
        if i != j:
            cell: dict[str, Any] = {"from_behaviour": class_names[i], "to_behaviour": class_names[j]}
            cell |= {"count": int(matrix[i, j]), "probability": share[i, j]}
            yield identity | cell | ({"low": ends[0][i, j], "high": ends[1][i, j]} if ends else {})
