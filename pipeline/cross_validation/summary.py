"""Scores of all folds together: of each fold, their mean, and pooled over all out-of-fold frames.

Shapes: N classes, U units (recordings, or animals).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline import bootstrap
from pipeline.cross_validation.out_of_fold import OutOfFold
from pipeline.train.metrics import SEGMENT_IOUS, confusion, f1_per_class, macro_f1, segment_counts


@dataclass(frozen=True, eq=False)
class Counts:
    """What scores are made of; sums over sets of clips. frames (N,N): rows the truth; baseline: the same, of it.

    segments, baseline_segments (IoUs, 2, N): matched pairs, and true plus predicted bouts.
    """

    frames: np.ndarray
    baseline: np.ndarray
    segments: np.ndarray
    baseline_segments: np.ndarray

    @classmethod
    def of(cls, clips: Sequence[OutOfFold]) -> Counts:
        """Of at least one clip."""
        n_classes = len(clips[0].class_names)
        return cls(
            frames=np.sum([confusion(clip.labels, clip.pred, n_classes) for clip in clips], axis=0),
            baseline=np.sum([confusion(clip.labels, clip.baseline, n_classes) for clip in clips], axis=0),
            segments=_segments(clips, [clip.pred for clip in clips]),
            baseline_segments=_segments(clips, [clip.baseline for clip in clips]),
        )


@dataclass(frozen=True)
class Figure:
    """One score. per_fold: fold -> score, NaN where there is nothing to measure; mean and sd are over the others.

    pooled: of all out-of-fold frames together; low, high: its 95 % bootstrap interval. baseline: pooled as well.
    """

    per_fold: dict[int, float]
    pooled: float
    low: float
    high: float
    baseline: float

    @property
    def mean(self) -> float:
        return float(np.mean(self._measured)) if self._measured else math.nan

    @property
    def sd(self) -> float:
        """With one degree of freedom taken off; NaN for fewer than two folds."""
        return float(np.std(self._measured, ddof=1)) if len(self._measured) > 1 else math.nan

    @property
    def unmeasured(self) -> list[int]:
        """The folds that say nothing: with the class in neither truth nor prediction."""
        return [fold for fold, score in self.per_fold.items() if math.isnan(score)]

    @property
    def _measured(self) -> list[float]:
        return [score for score in self.per_fold.values() if not math.isnan(score)]


@dataclass(frozen=True, eq=False)
class Summary:
    """classes: F1 of each. segments: segment F1 by IoU. support: class -> fold -> labelled frames of it.

    n_units, unit: of what the bootstrap draws, which has labelled frames. confusion (N,N): all out-of-fold frames,
    rows the truth.
    """

    classes: dict[str, Figure]
    macro: Figure
    segments: dict[float, Figure]
    support: dict[str, dict[int, int]]
    confusion: np.ndarray
    folds: tuple[int, ...]
    unit: str
    n_units: int

    def as_dict(self) -> dict[str, Any]:
        """The same in plain values, as JSON has them: NaN becomes None."""
        return {
            "folds": list(self.folds),
            "bootstrap": {"resamples": bootstrap.RESAMPLES, "of": self.unit, "number": self.n_units},
            "macro_f1": _plain(self.macro),
            "segment_f1": {str(iou): _plain(figure) for iou, figure in self.segments.items()},
            "f1_per_class": {name: _plain(figure) for name, figure in self.classes.items()},
            "support": {name: sum(of_fold.values()) for name, of_fold in self.support.items()},
            "confusion": self.confusion.tolist(),
        }


def summarise(clips: Sequence[OutOfFold], groups: Mapping[str, str], seed: int) -> Summary:
    """Scores of at least one clip of each fold. groups: recording -> what the bootstrap draws; seed: of its draws.

    What has no labelled frame says nothing of a score and is not drawn: with it, intervals would be of other data.
    """
    names = clips[0].class_names
    of_fold = {fold: Counts.of(found) for fold, found in _parted(clips, lambda clip: clip.fold)}
    every = [Counts.of(found) for _, found in _parted(clips, lambda clip: groups[clip.recording])]
    units = [unit for unit in every if unit.frames.any()]

    def figures(count: str, baseline: str, figure: Callable[[np.ndarray], np.ndarray]) -> list[Figure]:
        """`figure` makes one or several scores, (n,), of a count."""
        folds = {fold: figure(getattr(counts, count)) for fold, counts in of_fold.items()}
        total = np.sum([getattr(counts, count) for counts in of_fold.values()], axis=0)
        per_unit = np.array([getattr(unit, count) for unit in units]).reshape(-1, *total.shape)
        pooled = figure(total)
        low, high = bootstrap.interval(per_unit, seed, figure)
        of_baseline = figure(np.sum([getattr(counts, baseline) for counts in of_fold.values()], axis=0))
        return [
            Figure(
                {fold: float(score[i]) for fold, score in folds.items()},
                *(float(score[i]) for score in (pooled, low, high, of_baseline)),
            )
            for i in range(len(pooled))
        ]

    support = {fold: counts.frames.sum(1) for fold, counts in of_fold.items()}
    return Summary(
        classes=dict(zip(names, figures("frames", "baseline", f1_per_class), strict=True)),
        macro=figures("frames", "baseline", lambda frames: np.array([macro_f1(frames)]))[0],
        segments=dict(zip(SEGMENT_IOUS, figures("segments", "baseline_segments", _segment_f1), strict=True)),
        support={name: {fold: int(n[i]) for fold, n in support.items()} for i, name in enumerate(names)},
        confusion=np.sum([counts.frames for counts in of_fold.values()], axis=0),
        folds=tuple(of_fold),
        unit="recordings" if all(groups[clip.recording] == clip.recording for clip in clips) else "groups",
        n_units=len(units),
    )


def fold_table(summary: Summary, trained: Mapping[int, Mapping[str, Any]], clips: Sequence[OutOfFold]) -> pd.DataFrame:
    """A row per fold: all its scores, how often each class occurs in it, and `trained`: columns that each fold has."""
    rows = []
    for fold, found in _parted(clips, lambda clip: clip.fold):
        row: dict[str, Any] = {"fold": fold, "macro_f1": summary.macro.per_fold[fold]}
        row |= {f"segment_f1@{iou}": figure.per_fold[fold] for iou, figure in summary.segments.items()}
        row |= {"majority_baseline_macro_f1": macro_f1(Counts.of(found).baseline)}
        row |= {f"f1_{name}": figure.per_fold[fold] for name, figure in summary.classes.items()}
        row |= {f"support_{name}": of_fold[fold] for name, of_fold in summary.support.items()}
        rows.append(row | dict(trained[fold]))
    return pd.DataFrame(rows)


def _segments(clips: Sequence[OutOfFold], pred: Sequence[np.ndarray]) -> np.ndarray:
    labels, n_classes = [clip.labels for clip in clips], len(clips[0].class_names)
    return np.array([segment_counts(labels, pred, iou, n_classes) for iou in SEGMENT_IOUS])


def _segment_f1(segments: np.ndarray) -> np.ndarray:
    """Of counts (IoUs, 2, N), pooled over classes, (IoUs,); NaN where there is no bout."""
    matched, total = segments.sum(-1).T
    return np.where(total > 0, 2 * matched / np.maximum(total, 1), np.nan)


def _parted(clips: Iterable[OutOfFold], key: Callable[[OutOfFold], Any]) -> list[tuple[Any, list[OutOfFold]]]:
    """The clips of each key, keys sorted."""
    parts: dict[Any, list[OutOfFold]] = {}
    for clip in clips:
        parts.setdefault(key(clip), []).append(clip)
    return sorted(parts.items(), key=lambda part: part[0])


def _plain(figure: Figure) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(figure, name) for name in ("mean", "sd", "pooled", "low", "high")}
    values |= {"majority_baseline": figure.baseline}
    plain = {name: None if math.isnan(value) else value for name, value in values.items()}
    of_folds = {str(fold): None if math.isnan(score) else score for fold, score in figure.per_fold.items()}
    return plain | {"per_fold": of_folds}
