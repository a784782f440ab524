"""Predictions against people's labels: the table of errors of each trial, and of agreement over animals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.tables.agreement import Agreement, agreement
from pipeline.tables.groups import GROUP, Group, Place, of_group
from pipeline.tables.sources import Source, Trial
from pipeline.tables.summaries import IDENTITY, behaviours, identity_of

COMPARED = ("time_s", "n_bouts", "latency_from_stimulus_s")
COLUMNS = (*IDENTITY, "behaviour", "measure", "compared_s", "predicted", "true", "error", "abs_error")
ALL = "all"  # as treatment: of all animals together


def error_table(source: Source, places: Sequence[Place]) -> pd.DataFrame:
    """A row per trial, behaviour and measure, on the frames that model and people both name; none without labels."""
    rows: list[dict[str, Any]] = []
    for trial, place in zip(source.trials, places, strict=True):
        if trial.true is None or not trial.fps:
            continue
        said, true = both_named(trial, trial.true)
        compared_s = (said.labels >= 0).sum() / trial.fps
        identity = identity_of(trial, place) | {"compared_s": compared_s}
        pairs = zip(behaviours(said, source.class_names), behaviours(true, source.class_names), strict=True)
        for (name, found), (_, expected) in pairs:
            rows += [identity | {"behaviour": name} | _row(measure, found, expected) for measure in COMPARED]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def both_named(trial: Trial, true: np.ndarray) -> tuple[Trial, Trial]:
    """The trial as predicted and as labelled by people, each -1 where the other is."""
    both = (trial.labels >= 0) & (true >= 0)
    said, truth = np.where(both, trial.labels, -1), np.where(both, true, -1)
    return dataclasses.replace(trial, labels=said), dataclasses.replace(trial, labels=truth)


def agreement_table(errors: pd.DataFrame, order: Sequence[Group], seed: int) -> pd.DataFrame:
    """A row per behaviour and measure: of all animals that are known, and of each group where there are several."""
    parts = [((ALL, ""), errors[errors["animal"] != ""])]
    if len(order) > 1:
        parts += [(group, errors[of_group(errors, group)]) for group in order]
    rows = []
    for group, inside in parts:
        for (behaviour, measure), own in inside.groupby(["behaviour", "measure"], sort=False):
            said, true = (own[name].to_numpy(float) for name in ("predicted", "true"))
            found = agreement(said, true, own["animal"].to_numpy(str), seed)
            identity = dict(zip(GROUP, group, strict=True)) | {"behaviour": behaviour, "measure": measure}
            rows.append(identity | dataclasses.asdict(found))
    columns = [*GROUP, "behaviour", "measure", *(field.name for field in dataclasses.fields(Agreement))]
    return pd.DataFrame(rows, columns=columns)


def _row(measure: str, found: dict[str, float], expected: dict[str, float]) -> dict[str, Any]:
    error = found[measure] - expected[measure]
    return {
        "measure": measure,
        "predicted": found[measure],
        "true": expected[measure],
        "error": error,
        "abs_error": abs(error),
    }
