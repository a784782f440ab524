"""How good predictions are: in frames, in bouts, and in where the keypoints are.

Every figure comes from whole trials with each frame once; unlabelled frames (-1) count nowhere.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from cache.clip import UNLABELLED, Geometry
from pipeline import bouts

SEGMENT_IOUS = (0.1, 0.3, 0.5)


class MetricsError(ValueError):
    """Truth and prediction do not fit each other, so that no score would mean anything."""


@dataclass(frozen=True, eq=False)
class TrialResult:
    """One whole trial: labels (T,), -1 unlabelled; pred (T,), the arg-max classes; keypoints in the padded square.

    xy_true, xy_pred (T,K,2) in [0, 1]; visible (T,K) bool. xy_pred None: the model places no keypoints.
    """

    labels: np.ndarray
    pred: np.ndarray
    xy_true: np.ndarray
    xy_pred: np.ndarray | None
    visible: np.ndarray
    geometry: Geometry

    def __post_init__(self) -> None:
        n_frames = len(self.labels)
        if self.labels.shape != (n_frames,) or self.pred.shape != (n_frames,):
            raise MetricsError(f"labels {self.labels.shape} and predictions {self.pred.shape}: expected both (T,)")
        if self.xy_true.shape != (*self.visible.shape, 2) or len(self.visible) != n_frames:
            raise MetricsError(
                f"keypoints {self.xy_true.shape}, visibility {self.visible.shape}: expected ({n_frames}, K, 2) and "
                f"({n_frames}, K)"
            )
        if self.xy_pred is not None and self.xy_pred.shape != self.xy_true.shape:
            raise MetricsError(f"predicted keypoints {self.xy_pred.shape}: expected {self.xy_true.shape}")


@dataclass(frozen=True, eq=False)
class Scores:
    """All figures of one evaluation. NaN where there is nothing to measure.

    f1_per_class, segment_f1_per_class (IoU 0.3) and support (labelled frames) are by class name, segment_f1 by IoU.
    confusion (N,N): frames, rows the truth. keypoint_mae_norm is of coordinates normalised by the original width and
    height, keypoint_mae_px in pixels of the original video. n_labelled: of the n_trials those with a labelled frame,
    which alone say anything of behaviours.
    """

    class_names: tuple[str, ...]
    macro_f1: float
    f1_per_class: dict[str, float]
    segment_f1: dict[float, float]
    segment_f1_per_class: dict[str, float]
    keypoint_mae_norm: float
    keypoint_mae_px: float
    confusion: np.ndarray
    support: dict[str, int]
    n_trials: int
    n_labelled: int

    def as_dict(self) -> dict[str, Any]:
        """The same in plain values, as JSON has them: NaN becomes None, an IoU a string."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: _plain(value) for name, value in fields.items()}


def score(trials: Sequence[TrialResult], class_names: Sequence[str]) -> Scores:
    """All figures of these trials."""
    n_classes = len(class_names)
    labels, pred = [trial.labels for trial in trials], [trial.pred for trial in trials]
    frames = sum((confusion(t.labels, t.pred, n_classes) for t in trials), np.zeros((n_classes, n_classes), np.int64))
    normalised, px = keypoint_mae(trials)
    return Scores(
        class_names=tuple(class_names),
        macro_f1=macro_f1(frames),
        f1_per_class=_by_name(class_names, f1_per_class(frames)),
        segment_f1={iou: segment_f1(labels, pred, iou) for iou in SEGMENT_IOUS},
        segment_f1_per_class=_by_name(class_names, segment_f1_per_class(labels, pred, 0.3, n_classes)),
        keypoint_mae_norm=normalised,
        keypoint_mae_px=px,
        confusion=frames,
        support=_by_name(class_names, frames.sum(1)),
        n_trials=len(trials),
        n_labelled=sum(bool((trial.labels != UNLABELLED).any()) for trial in trials),
    )


def majority_baseline(train_counts: np.ndarray, trials: Sequence[TrialResult]) -> list[TrialResult]:
    """The same trials as predicted by saying, of every frame, the commonest class of the training frames.

    train_counts (N,): labelled training frames of each class. Keypoints are not predicted.
    """
    commonest = int(np.argmax(train_counts))
    return [dataclasses.replace(trial, pred=np.full_like(trial.pred, commonest), xy_pred=None) for trial in trials]


def confusion(labels: np.ndarray, pred: np.ndarray, n_classes: int) -> np.ndarray:
    """Frames of each (true, predicted) pair, (N,N) int64, over labelled frames of labels (T,) and pred (T,)."""
    if labels.shape != pred.shape:
        raise MetricsError(f"labels {labels.shape} and predictions {pred.shape} differ in length")
    labelled = labels != UNLABELLED
    true, predicted = labels[labelled].astype(np.int64), pred[labelled].astype(np.int64)
    for what, ids in (("label", true), ("prediction", predicted)):
        outside = ids[(ids < 0) | (ids >= n_classes)]
        if len(outside):
            raise MetricsError(f"{what} {outside[0]}: expected a class from 0 to {n_classes - 1}")
    return np.bincount(true * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


def f1_per_class(confusion_NN: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN) of each class, (N,); NaN for a class neither in the truth nor in the prediction."""
    return _ratio(2 * np.diag(confusion_NN), confusion_NN.sum(0) + confusion_NN.sum(1))


def macro_f1(confusion_NN: np.ndarray) -> float:
    """The mean F1 of the classes in the truth or in the prediction; NaN if there is no labelled frame.

    A class that is predicted but never true counts as 0: scikit-learn's f1_score(average="macro").
    """
    f1 = f1_per_class(confusion_NN)
    return float(np.nanmean(f1)) if np.isfinite(f1).any() else float("nan")


def segment_f1(labels: Sequence[np.ndarray], pred: Sequence[np.ndarray], iou: float) -> float:
    """F1 of bouts, pooled over classes and trials (Lea et al. 2017): a bout counts once, whatever its length.

    labels, pred: (T,) of each trial. Bouts of one class and one trial are matched one to one at IoU >= iou, as many
    pairs as can be (published code takes each predicted bout's best partner in turn, which may find fewer at IoU below
    0.5). Unlabelled frames are taken out of both, and so break bouts. NaN where neither has a bout.
    """
    n_classes = 1 + max((int(ids.max()) for ids in [*labels, *pred] if len(ids)), default=0)
    found, total = segment_counts(labels, pred, iou, n_classes)
    return float(_ratio(2 * found.sum(), total.sum()))


def segment_f1_per_class(
    labels: Sequence[np.ndarray], pred: Sequence[np.ndarray], iou: float, n_classes: int
) -> np.ndarray:
    """segment_f1 of each class alone, (N,); NaN for a class without a bout in the truth and in the prediction."""
    found, total = segment_counts(labels, pred, iou, n_classes)
    return _ratio(2 * found, total)


def segment_counts(
    labels: Sequence[np.ndarray], pred: Sequence[np.ndarray], iou: float, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """What segment_f1 is made of: matched pairs, and true plus predicted bouts, of each class; two arrays (N,) int64.

    F1 is twice the first over the second. Of several sets of trials together they are the sums of each set's.
    """
    if not 0 < iou <= 1:
        raise MetricsError(f"IoU threshold {iou}: expected a value above 0 and up to 1")
    found, total = np.zeros(n_classes, np.int64), np.zeros(n_classes, np.int64)
    for labels_T, pred_T in zip(labels, pred, strict=True):
        confusion(labels_T, pred_T, n_classes)  # checks lengths and ids
        true_bouts = bouts.find(labels_T)
        pred_bouts = bouts.find(np.where(labels_T == UNLABELLED, UNLABELLED, pred_T))
        np.add.at(found, [true_bouts[i].class_id for i, _ in matched(true_bouts, pred_bouts, iou)], 1)
        np.add.at(total, [bout.class_id for bout in [*true_bouts, *pred_bouts]], 1)
    return found, total


def keypoint_mae(trials: Sequence[TrialResult]) -> tuple[float, float]:
    """Mean absolute error of the coordinates (x and y alike) over visible keypoints of all trials.

    Once of coordinates normalised by the original width and height, once in its pixels. NaN where no keypoint is
    visible or none is predicted. Raises MetricsError where some trials have predictions and others none.
    """
    predicted = [trial for trial in trials if trial.xy_pred is not None]
    if predicted and len(predicted) < len(trials):
        raise MetricsError(f"keypoints are predicted in {len(predicted)} of {len(trials)} trials; expected all or none")
    errors = [_errors(trial) for trial in predicted]
    count = sum(len(error) for error in errors)
    if not count:
        return float("nan"), float("nan")
    sizes = [np.array([trial.geometry.width, trial.geometry.height]) for trial in predicted]
    normalised = sum(error.sum() for error in errors)
    px = sum((error * size).sum() for error, size in zip(errors, sizes, strict=True))
    return float(normalised / (2 * count)), float(px / (2 * count))


def _errors(trial: TrialResult) -> np.ndarray:
    """Absolute errors (visible keypoints, 2) of coordinates normalised by the original width and height."""
    assert trial.xy_pred is not None
    true, predicted = trial.xy_true[trial.visible], trial.xy_pred[trial.visible]
    if not (np.isfinite(true).all() and np.isfinite(predicted).all()):
        raise MetricsError("a visible keypoint is not finite, in the truth or in the prediction")
    difference = trial.geometry.from_square(predicted) - trial.geometry.from_square(true)
    return np.abs(difference.astype(np.float64))


def matched(
    true_bouts: Sequence[bouts.Bout], pred_bouts: Sequence[bouts.Bout], iou: float, *, any_class: bool = False
) -> list[tuple[int, int]]:
    """Index pairs of a largest one-to-one matching at IoU >= iou, of bouts of one class (any_class: of whatever)."""
    pairs = [
        (i, j)
        for i, j in bouts.overlapping(true_bouts, pred_bouts)
        if (any_class or true_bouts[i].class_id == pred_bouts[j].class_id)
        and bouts.iou(true_bouts[i], pred_bouts[j]) >= iou
    ]
    if not pairs:
        return []
    rows, columns = np.array(pairs).T
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), (len(true_bouts), len(pred_bouts))).tocsr()
    partners = maximum_bipartite_matching(graph, perm_type="column")
    return [(i, int(partner)) for i, partner in enumerate(partners) if partner >= 0]


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where whole is 0."""
    return np.where(np.asarray(whole) > 0, part / np.maximum(whole, 1), np.nan)


def _by_name(class_names: Sequence[str], values: np.ndarray) -> dict[str, Any]:
    return dict(zip(class_names, values.tolist(), strict=True))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | tuple):
        return list(value.tolist() if isinstance(value, np.ndarray) else value)
    return None if isinstance(value, float) and math.isnan(value) else value
