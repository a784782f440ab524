"""Fits the decision layer on predictions of recordings that the model was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cache.clip import UNLABELLED
from pipeline.model import checkpoint
from pipeline.model.decision import Decision, Evidence, undecided
from pipeline.model.infer import pick_device
from pipeline.model.trained import load_trained
from pipeline.train.balance import balance
from pipeline.train.data import TrainingData
from pipeline.train.metrics import confusion, macro_f1, segment_f1
from pipeline.train.validate import evaluate
from pipeline.train_settings import TrainSettings

# Tried one after the other, the classes' own values about the common one after that.
COMMON_BEGIN = (1.0, 2.0, 4.0, 8.0, 12.0, 20.0, 30.0, 45.0, 70.0)
BEGIN_FACTORS = (0.3, 0.6, 1.6, 3.0)
# Where the network says boundaries: weights of these, each with the common cost times each of the factors.
BOUNDARY_WEIGHTS = (0.5, 1.0, 2.0, 4.0, 8.0)
BOUNDARY_FACTORS = (0.0, 0.25, 0.5, 1.0)
BIAS_STEPS = (-1.5, -0.7, -0.3, 0.3, 0.7, 1.5)
# Of the IoU at which bouts count as found.
SEGMENT_IOU = 0.3
# A value of one class alone must better the score by so much: less is chance, and would not hold for other recordings.
WORTH = 0.002
# Recordings are fitted on in pieces of so many frames, side by side: 100,000 frames in a row take 50 times as long.
PIECE = 2_048


def fit_decision(trials: Sequence[Evidence], labels: Sequence[np.ndarray]) -> Decision:
    """The decision under which the mean of macro F1 and segment F1@0.3 is largest.

    labels: (T,) of each, -1 unlabelled. One value after the other is tried and kept
    where it is better, so it never scores less than the arg-max does on these trials; on others it may, which is
    why it is scored on others (see `cross_fitted`). Of long trials, bouts are cut where the pieces are.
    """
    n_classes = trials[0].log_p_TN.shape[1]
    trials, labels = _pieces_of(trials), _pieces(labels)

    def quality(decision: Decision) -> float:
        predicted = decision.labels_of(trials)
        frames = sum((confusion(t, p, n_classes) for t, p in zip(labels, predicted, strict=True)))
        bouts_found = segment_f1(labels, predicted, SEGMENT_IOU)
        return float(np.nan_to_num(macro_f1(np.asarray(frames))) + np.nan_to_num(bouts_found)) / 2

    best = undecided(n_classes)
    best_quality = quality(best)
    for cost in COMMON_BEGIN:
        best, best_quality = _better(replace(best, begin=(cost,) * n_classes), best, best_quality, quality, 0.0)
    if any(trial.log_begin_T.any() for trial in trials):
        for tried in _by_boundaries(best):
            best, best_quality = _better(tried, best, best_quality, quality, WORTH)
    present = sorted({int(i) for labels_T in labels for i in np.unique(labels_T) if i != UNLABELLED})
    for n in present:
        for tried in _of_class(best, n):
            best, best_quality = _better(tried, best, best_quality, quality, WORTH)
    return best


def cross_fitted(
    trials: Sequence[Evidence], labels: Sequence[np.ndarray], groups: Sequence[str], parts: int = 5
) -> list[np.ndarray]:
    """Labels (T,) of each trial by a decision that was fitted on the trials of other groups (animals) alone.

    What `fit_decision` gains for new recordings is told by these. Groups are dealt out in turn to at most `parts`
    parts, those with labelled frames first, so that there is something to fit on for every part; with a single such
    group there is not, and the arg-max is given.
    """
    labelled = labelled_groups(labels, groups)
    decided: list[np.ndarray] = [trial.log_p_TN.argmax(-1) for trial in trials]
    if len(labelled) < 2:
        return decided
    names = [*labelled, *sorted(set(groups) - set(labelled))]
    part_of = {name: i % min(parts, len(labelled)) for i, name in enumerate(names)}
    for part in sorted(set(part_of.values())):
        inside = [i for i, group in enumerate(groups) if part_of[group] == part]
        outside = [i for i, group in enumerate(groups) if part_of[group] != part]
        decision = fit_decision([trials[i] for i in outside], [labels[i] for i in outside])
        for i, ids in zip(inside, decision.labels_of([trials[i] for i in inside]), strict=True):
            decided[i] = ids
    return decided


def labelled_groups(labels: Sequence[np.ndarray], groups: Sequence[str]) -> list[str]:
    """The groups, sorted, of which a trial has a labelled frame. labels: (T,) of each trial; groups: of each trial."""
    return sorted({group for labels_T, group in zip(labels, groups, strict=True) if (labels_T != UNLABELLED).any()})


def decide_run(settings: TrainSettings, data: TrainingData, model: Path, say: Callable[[str], None]) -> None:
    """Puts a decision layer into a run's checkpoint, fitted on its held-out recordings; or none, and says why."""
    groups = [data.split.groups[clip.recording] for clip in data.val.clips]
    if len(labelled_groups(data.val.labels, groups)) < 2 or not settings.decision:
        if settings.decision:
            say("[info] no decision layer: it is fitted on two or more labelled held-out recordings or animals")
        checkpoint.save(model, checkpoint.load(model) | {"decision": None})
        return
    best = load_trained(model, pick_device(settings.device))
    found = evaluate(best.network, data.val, data.merge.names, balance(data.class_counts, settings), settings)
    say("[info] fitting the decision layer on the held-out recordings")
    decision = fit_decision(found.evidence(data.val.clips), data.val.labels)
    content = checkpoint.load(model)
    checkpoint.save(model, content | {"decision": decision.as_dict()})


def _pieces(trials: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The same frames, none of the arrays (T,...) longer than PIECE; of a long one all about as long."""
    return [piece for trial in trials for piece in np.array_split(trial, max(1, -(-len(trial) // PIECE)))]


def _pieces_of(trials: Sequence[Evidence]) -> list[Evidence]:
    both = (_pieces([getattr(trial, name) for trial in trials]) for name in ("log_p_TN", "log_begin_T"))
    return list(map(Evidence, *both))


def _better(
    tried: Decision, best: Decision, best_quality: float, quality: Callable[[Decision], float], worth: float
) -> tuple[Decision, float]:
    found = quality(tried)
    return (tried, found) if found > best_quality + worth else (best, best_quality)


def _by_boundaries(decision: Decision) -> list[Decision]:
    """The decisions that also weigh boundaries: what these add to a bout's cost, its begin may do without."""
    tried = [
        replace(decision, begin=tuple(factor * cost for cost in decision.begin), boundary=weight)
        for weight in BOUNDARY_WEIGHTS
        for factor in BOUNDARY_FACTORS
    ]
    return list(dict.fromkeys(tried))


def _of_class(decision: Decision, n: int) -> list[Decision]:
    """The decisions beside this one in the bias and the cost of class n."""
    biases = [_with(decision.bias, n, decision.bias[n] + step) for step in BIAS_STEPS]
    costs = [_with(decision.begin, n, max(decision.begin[n], 0.5) * factor) for factor in BEGIN_FACTORS]
    return [replace(decision, bias=bias) for bias in biases] + [replace(decision, begin=cost) for cost in costs]


def _with(values: tuple[float, ...], n: int, value: float) -> tuple[float, ...]:
    return (*values[:n], value, *values[n + 1 :])
