"""What the pictures of a report are made of: precision and recall, calibration, bouts against bouts, errors of places.

Axes: F labelled frames of all trials, N classes, K keypoints, B bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cache.clip import UNLABELLED
from pipeline import bouts
from pipeline.train.decide import SEGMENT_IOU
from pipeline.train.metrics import matched

BINS = 10  # of certainty
_POINTS = 200  # of a curve that is drawn


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision over recall of one class, thinned for drawing; average_precision is of all frames.

    share: of the frames that are of the class, which is what chance would reach.
    """

    recall: np.ndarray
    precision: np.ndarray
    average_precision: float
    share: float


@dataclass(frozen=True, eq=False)
class Reliability:
    """certainty, correct, frames (B,): of the bins that hold a frame. error: the expected calibration error, or NaN."""

    certainty: np.ndarray
    correct: np.ndarray
    frames: np.ndarray
    error: float


def softmax(logits_TN: np.ndarray) -> np.ndarray:
    """Probabilities (T,N)."""
    grown_TN = np.exp(logits_TN - logits_TN.max(-1, keepdims=True))
    return np.asarray(grown_TN / grown_TN.sum(-1, keepdims=True))


def precision_recall(is_class_F: np.ndarray, probability_F: np.ndarray) -> Curve | None:
    """None for a class that no frame, or every frame, is of: there is nothing to tell apart."""
    from sklearn.metrics import average_precision_score, precision_recall_curve  # takes a second, for scores alone

    share = float(is_class_F.mean()) if len(is_class_F) else 0.0
    if not 0 < share < 1:
        return None
    precision, recall, _ = precision_recall_curve(is_class_F, probability_F)
    # Evenly along the recall: of 100,000 thresholds nearly all lie where the curve is flat.
    wanted = np.linspace(0, 1, _POINTS)
    chosen = np.unique(np.searchsorted(-recall, -wanted).clip(0, len(recall) - 1))
    average = float(average_precision_score(is_class_F, probability_F))
    return Curve(recall[chosen], precision[chosen], average, share)


def reliability(certainty_F: np.ndarray, correct_F: np.ndarray) -> Reliability:
    """How often what is said with a certainty is correct, in BINS of equal width.

    The expected calibration error is the mean distance of the two over the bins, weighted by their frames (Naeini et
    al. 2015); NaN of no frame.
    """
    bin_F = np.minimum((certainty_F * BINS).astype(int), BINS - 1)
    frames = np.bincount(bin_F, minlength=BINS)
    some = frames > 0
    certainty = np.bincount(bin_F, certainty_F, BINS)[some] / frames[some]
    correct = np.bincount(bin_F, correct_F, BINS)[some] / frames[some]
    found = frames[some]
    error = float((found * np.abs(certainty - correct)).sum() / found.sum()) if found.sum() else math.nan
    return Reliability(certainty, correct, found, error)


def bout_confusion(labels: Sequence[np.ndarray], pred: Sequence[np.ndarray], n_classes: int) -> np.ndarray:
    """True bouts against predicted ones, (N+1,N+1) int64: the last column is missed, the last row invented.

    Bouts of one class are matched first, as for segment F1@0.3, so that the diagonal is what that counts; then those
    that are left, of whatever class, at the same IoU.
    """
    table = np.zeros((n_classes + 1, n_classes + 1), np.int64)
    for labels_T, pred_T in zip(labels, pred, strict=True):
        true_bouts = bouts.find(labels_T)
        pred_bouts = bouts.find(np.where(labels_T == UNLABELLED, UNLABELLED, pred_T))
        for any_class in (False, True):
            pairs = matched(true_bouts, pred_bouts, SEGMENT_IOU, any_class=any_class)
            for i, j in pairs:
                table[true_bouts[i].class_id, pred_bouts[j].class_id] += 1
            taken_true, taken_pred = {i for i, _ in pairs}, {j for _, j in pairs}
            true_bouts = [bout for i, bout in enumerate(true_bouts) if i not in taken_true]
            pred_bouts = [bout for j, bout in enumerate(pred_bouts) if j not in taken_pred]
        for bout in true_bouts:
            table[bout.class_id, -1] += 1
        for bout in pred_bouts:
            table[-1, bout.class_id] += 1
    return table


@dataclass(frozen=True)
class PlaceError:
    """Distance in pixels between predicted and true places of one keypoint; NaN where it is never visible.

    mean_absolute: of x and y alike, as in the other tables. frames: in which it is visible.
    """

    name: str
    frames: int
    median: float
    low: float
    high: float
    mean_absolute: float


def place_errors(error_px: Sequence[np.ndarray], names: Sequence[str]) -> list[PlaceError]:
    """Of errors (T,K,2) of each trial, NaN where not visible; low and high hold the middle 80 % of the frames."""
    found = []
    for k, name in enumerate(names):
        errors = np.concatenate([trial[:, k] for trial in error_px])
        errors = errors[np.isfinite(errors).all(-1)].astype(np.float64)
        if not len(errors):
            found.append(PlaceError(name, 0, math.nan, math.nan, math.nan, math.nan))
            continue
        low, median, high = np.quantile(np.hypot(*errors.T), [0.1, 0.5, 0.9])
        found.append(
            PlaceError(name, len(errors), float(median), float(low), float(high), float(np.abs(errors).mean()))
        )
    return found
