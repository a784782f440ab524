"""The share of trials in each behaviour around the stimulus.

Shapes: P moments, N classes, U animals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pipeline import bootstrap
from pipeline.tables.groups import GROUP, Group, Place
from pipeline.tables.sources import Source

STEP_S = 0.1
BEFORE_S, AFTER_S = -5.0, 15.0
COLUMNS = (
    *GROUP, "behaviour", "time_from_stimulus_s", "share_of_trials", "low", "high", "n_animals", "n_trials",
)  # fmt: skip


def moments() -> np.ndarray:
    """Seconds from the stimulus (P,), 0 among them."""
    return np.arange(round(BEFORE_S / STEP_S), round(AFTER_S / STEP_S) + 1) * STEP_S


def states(labels: np.ndarray, fps: float, first: int, stim_frame: int) -> np.ndarray:
    """The label (P,) of the frame that is shown at each moment; -1 where there is none or it is not scored.

    At 0 s that is the stimulus frame, which counts from the trial's start; labels begin at trial frame `first`.
    """
    frames = stim_frame - first + np.floor(moments() * fps + 1e-6).astype(int)
    inside = (frames >= 0) & (frames < len(labels))
    return np.where(inside, labels[np.clip(frames, 0, len(labels) - 1)], -1)


def shares(trials: np.ndarray, n_classes: int) -> np.ndarray:
    """Of the states (n,P) of one animal's trials: the share (P,N) of those scored at a moment; NaN where none is."""
    n_in = (trials[:, :, None] == np.arange(n_classes)).sum(axis=0)
    n_scored = (trials >= 0).sum(axis=0)[:, None]
    return np.where(n_scored > 0, n_in / np.maximum(n_scored, 1), np.nan)


def peri_stimulus_table(source: Source, places: Sequence[Place], order: Sequence[Group], seed: int) -> pd.DataFrame:
    """A row per group, behaviour and moment at which any trial of the group is scored."""
    tables = []
    for group in order:
        of_animal: dict[str, list[np.ndarray]] = {}
        for trial, place in zip(source.trials, places, strict=True):
            if place.group == group and trial.stim_frame is not None and trial.fps:
                found = states(trial.labels, trial.fps, trial.first, trial.stim_frame)
                of_animal.setdefault(place.animal, []).append(found)
        if of_animal:
            tables.append(_group_table(group, of_animal, source.class_names, seed))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))


def _group_table(
    group: Group, of_animal: Mapping[str, list[np.ndarray]], class_names: Sequence[str], seed: int
) -> pd.DataFrame:
    trials = [np.array(of_animal[name]) for name in sorted(of_animal)]
    per_animal = np.array([shares(one, len(class_names)) for one in trials])  # (U,P,N)
    mean, low, high, n_animals = bootstrap.mean_interval(per_animal, seed)
    n_trials = sum((one >= 0).sum(axis=0) for one in trials)
    shown = n_animals[:, 0] > 0
    parts = []
    for i, name in enumerate(class_names):
        columns = {"time_from_stimulus_s": np.round(moments(), 6), "share_of_trials": mean[:, i], "low": low[:, i]}
        columns |= {"high": high[:, i], "n_animals": n_animals[:, i], "n_trials": n_trials}
        parts.append(pd.DataFrame(columns)[shown].assign(behaviour=name, **dict(zip(GROUP, group, strict=True))))
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]
