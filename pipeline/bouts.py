"""Bouts: stretches of one behaviour within one trial. Ranges are half open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bout:
    """Frames [start, stop) of a trial, all of class class_id."""

    class_id: int
    start: int
    stop: int

    def __post_init__(self) -> None:
        if not (0 <= self.start < self.stop and self.class_id >= 0):
            raise ValueError(f"{self}: expected 0 <= start < stop and a class from 0 on")

    @property
    def n_frames(self) -> int:
        return self.stop - self.start


def find(labels: np.ndarray) -> list[Bout]:
    """The bouts of labels (T,) in order of time. -1 belongs to none and breaks a bout in two."""
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"expected the labels of one trial, (T,), found shape {labels.shape}")
    if not len(labels):
        return []
    starts = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1])
    stops = np.append(starts[1:], len(labels))
    return [
        Bout(int(label), int(start), int(stop))
        for label, start, stop in zip(labels[starts], starts, stops, strict=True)
        if label >= 0
    ]


def labels_of(bouts: Iterable[Bout], n_frames: int) -> np.ndarray:
    """The labels (n_frames,) int16 whose bouts `find` gives; -1 where there is none."""
    labels = np.full(n_frames, -1, np.int16)
    for bout in bouts:
        labels[bout.start : bout.stop] = bout.class_id
    return labels


def overlap(a: Bout, b: Bout) -> int:
    """Frames that both hold, whatever their classes."""
    return max(0, min(a.stop, b.stop) - max(a.start, b.start))


def iou(a: Bout, b: Bout) -> float:
    """Frames that both hold over frames that either holds, whatever their classes."""
    shared = overlap(a, b)
    return shared / (a.n_frames + b.n_frames - shared)


def overlapping(a: Sequence[Bout], b: Sequence[Bout]) -> Iterator[tuple[int, int]]:
    """Index pairs (i, j) of the bouts a[i] and b[j] that share a frame; both in order of time, as `find` gives them."""
    i = j = 0
    while i < len(a) and j < len(b):
        if overlap(a[i], b[j]):
            yield i, j
        if a[i].stop <= b[j].stop:
            i += 1
        else:
            j += 1
