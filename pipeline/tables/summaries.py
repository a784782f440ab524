"""Tables per trial, per animal and per group. Trials of an animal are averaged first: animals are what is independent.

Columns are described in docs/tables.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline import bootstrap, bouts
from pipeline.tables.groups import GROUP, Place, of_group
from pipeline.tables.measures import amount, first_seen, response
from pipeline.tables.sources import Source, Trial

IDENTITY = ("recording", "trial", "animal", *GROUP)
# What is averaged over the trials of an animal, and then over animals.
MEASURES = (
    "time_s", "share", "n_bouts", "bouts_per_min", "mean_bout_s", "median_bout_s", "latency_from_stimulus_s",
    "responded", "latency_from_trial_start_s",
)  # fmt: skip
OF_TRIAL = ("fps", "first_frame", "n_frames", "stim_frame", "scored_s", "damaged_s", "unlabelled_s")
OF_BEHAVIOUR = (
    "time_s", "share", "n_bouts", "n_cut_bouts", "bouts_per_min", "mean_bout_s", "median_bout_s",
    "latency_from_stimulus_s", "responded", "running_at_stimulus", "unscored_after_stimulus_s",
    "latency_from_trial_start_s", "unscored_after_trial_start_s",
)  # fmt: skip
ENOUGH = 10  # animals, from which on the interval holds the true mean in about 90 % of cases; docs/tables.md
FEW = f"fewer than {bootstrap.MIN_UNITS} animals with a value: no interval"
NARROW = f"fewer than {ENOUGH} animals with a value: the interval is too narrow"


def per_trial(source: Source, places: Sequence[Place], more: Sequence[str]) -> pd.DataFrame:
    """A row per trial and behaviour. more: names of the further columns that places carry."""
    rows = []
    for trial, place in zip(source.trials, places, strict=True):
        identity = identity_of(trial, place) | dict(zip(more, place.more, strict=True))
        of_trial = _of_trial(trial)
        rows += [identity | {"behaviour": name} | of_trial | row for name, row in behaviours(trial, source.class_names)]
    return pd.DataFrame(rows, columns=[*IDENTITY, *more, "behaviour", *OF_TRIAL, *OF_BEHAVIOUR])


def identity_of(trial: Trial, place: Place) -> dict[str, Any]:
    """The columns that say which trial a row is of."""
    of_trial = {"recording": trial.recording, "trial": trial.trial, "animal": place.animal}
    return of_trial | dict(zip(GROUP, place.group, strict=True))


def behaviours(trial: Trial, class_names: Sequence[str]) -> Iterator[tuple[str, dict[str, float]]]:
    """Each behaviour and its measures in a trial, whose frame rate is known."""
    assert trial.fps
    found = bouts.find(trial.labels)
    for class_id, name in enumerate(class_names):
        after = response(trial.labels, found, class_id, trial.fps, trial.first, trial.stim_frame)
        latency_s, unscored_s = first_seen(trial.labels, found, class_id, trial.fps, trial.first)
        yield (
            name,
            dataclasses.asdict(amount(trial.labels, found, class_id, trial.fps))
            | {
                "latency_from_stimulus_s": after.latency_s,
                "responded": after.began,
                "running_at_stimulus": after.running,
                "unscored_after_stimulus_s": after.unscored_s,
                "latency_from_trial_start_s": latency_s,
                "unscored_after_trial_start_s": unscored_s,
            },
        )


def per_animal(trials: pd.DataFrame, more: Sequence[str]) -> pd.DataFrame:
    """A row per known animal, group and behaviour: means over its trials that have a value, and how many do not."""
    rows = []
    for (animal, *group), found in trials[trials["animal"] != ""].groupby(["animal", *GROUP], sort=True):
        also = {name: "; ".join(sorted(set(found[name]))) for name in more}
        identity = {"animal": animal} | dict(zip(GROUP, group, strict=True)) | also
        for behaviour, own in found.groupby("behaviour", sort=False):
            rows.append(identity | {"behaviour": behaviour} | _counts(own) | own[list(MEASURES)].mean().to_dict())
    columns = ["animal", *GROUP, *more, "behaviour", *COUNTS, *MEASURES]
    return pd.DataFrame(rows, columns=columns)


COUNTS = (
    "n_trials", "n_trials_scored", "n_trials_without_behaviour", "n_trials_with_stimulus", "n_trials_censored",
    "scored_s", "damaged_s", "unlabelled_s",
)  # fmt: skip


def per_group(animals: pd.DataFrame, order: Sequence[tuple[str, str]], seed: int) -> pd.DataFrame:
    """A row per group, behaviour and measure: the mean over animals with its interval. order: the groups to give."""
    rows = []
    for group in order:
        inside = animals[of_group(animals, group)].sort_values("animal")
        for behaviour, own in inside.groupby("behaviour", sort=False):
            identity = dict(zip(GROUP, group, strict=True)) | {"behaviour": behaviour}
            rows += [identity | row for row in _means(own, seed)]
    columns = [*GROUP, "behaviour", "measure", "mean", "low", "high", "sd", "n_animals", "n_animals_in_group"]
    return pd.DataFrame(rows, columns=[*columns, "n_trials", "n_trials_without_behaviour", "n_trials_censored", "note"])


def _means(own: pd.DataFrame, seed: int) -> Iterator[dict[str, Any]]:
    """own: a row per animal of one group and behaviour."""
    values = own[list(MEASURES)].to_numpy(float)
    mean, low, high, n_known = bootstrap.mean_interval(values, seed)
    counts = {name: int(own[name].sum()) for name in ("n_trials_without_behaviour", "n_trials_censored")}
    for i, measure in enumerate(MEASURES):
        known = values[np.isfinite(values[:, i]), i]
        yield {
            "measure": measure, "mean": mean[i], "low": low[i], "high": high[i],
            "sd": known.std(ddof=1) if len(known) > 1 else np.nan, "n_animals": int(n_known[i]),
            "n_animals_in_group": len(own), "n_trials": int(own["n_trials"].sum()), **counts,
            "note": FEW if n_known[i] < bootstrap.MIN_UNITS else NARROW if n_known[i] < ENOUGH else "",
        }  # fmt: skip


def _of_trial(trial: Trial) -> dict[str, Any]:
    assert trial.fps
    scored, intact = trial.labels >= 0, trial.intact
    return {
        "fps": trial.fps,
        "first_frame": trial.first,
        "n_frames": len(trial.labels),
        "stim_frame": np.nan if trial.stim_frame is None else float(trial.stim_frame),
        "scored_s": scored.sum() / trial.fps,
        "damaged_s": (~intact).sum() / trial.fps,
        "unlabelled_s": (intact & ~scored).sum() / trial.fps,
    }


def _counts(own: pd.DataFrame) -> dict[str, Any]:
    """own: the rows of an animal's trials, of one behaviour."""
    return {
        "n_trials": len(own),
        "n_trials_scored": int((own["scored_s"] > 0).sum()),
        "n_trials_without_behaviour": int((own["n_bouts"] == 0).sum()),
        "n_trials_with_stimulus": int(own["responded"].notna().sum()),
        "n_trials_censored": int((own["responded"] == 0).sum()),
        **{name: own[name].sum() for name in ("scored_s", "damaged_s", "unlabelled_s")},
    }
