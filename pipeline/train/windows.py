"""Which stretches of which clips an epoch shows, and in which order.

Rare classes are found by frames: a trial that is mostly rest still holds the bout of licking that the epoch needs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline import bouts


@dataclass(frozen=True)
class Window:
    """Frames [start, stop) of the clip at index `clip` of the sequence that is trained on."""

    clip: int
    start: int
    stop: int

    @property
    def n_frames(self) -> int:
        return self.stop - self.start


def tiles(n_frames: int, T: int) -> list[tuple[int, int]]:
    """Half-open ranges of at most T frames that hold each frame once; T 0: the whole clip.

    Their lengths differ by one frame at most, so that no frame is left with a short window and little context:
    345 frames at T 180 are (0, 172) and (172, 345).
    """
    if not n_frames:
        return []
    count = -(-n_frames // T) if T else 1
    edges = [n_frames * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))


def every_window(lengths: Sequence[int], T: int) -> list[Window]:
    """The tiles of all clips, in order: each frame once."""
    return [Window(clip, *tile) for clip, n_frames in enumerate(lengths) for tile in tiles(n_frames, T)]


def class_counts(labels: Iterable[np.ndarray], n_classes: int) -> np.ndarray:
    """Labelled frames of each class, (n_classes,) int64, over all clips' labels (T,)."""
    counts = np.zeros(n_classes, np.int64)
    for labels_T in labels:
        counts += np.bincount(labels_T[labels_T >= 0], minlength=n_classes)
    return counts


def rare_boost(shares: np.ndarray, threshold: float, cap: float) -> np.ndarray:
    """How many times more often windows with each class are drawn, (n_classes,) >= 1.

    shares (n_classes,): of the labelled training frames. The factor is threshold / share for a class below the
    threshold, at most cap; 1 for the others and for those that do not occur.
    """
    rare = (shares > 0) & (shares < threshold)
    return np.where(rare, np.clip(threshold / np.where(rare, shares, 1), 1, cap), 1.0)


def plan_epoch(
    labels: Sequence[np.ndarray], T: int, boost: np.ndarray, seed: int, epoch: int, *, labelled_only: bool = False
) -> list[Window]:
    """The windows of one training epoch, as many as there are tiles, in random order.

    labels: merged labels (n_frames,) of each clip, -1 unlabelled. A tile's expected number of windows is proportional
    to the largest boost among its frames. A window drawn for a rare class holds frames of it; any other lies within
    half a tile of its own. Windows have T frames, clips of up to T frames (or T 0) come whole. labelled_only leaves out
    the tiles without a label, from which a model that places no keypoints has nothing to learn.
    """
    rng = np.random.default_rng((seed, epoch))
    all_tiles = every_window([len(labels_T) for labels_T in labels], T)
    if labelled_only:
        all_tiles = [tile for tile in all_tiles if (labels[tile.clip][tile.start : tile.stop] >= 0).any()]
    boost_or_1 = np.append(boost, 1.0)  # the last entry is what label -1 indexes
    weights = np.array([boost_or_1[labels[tile.clip][tile.start : tile.stop]].max() for tile in all_tiles])
    return [_place(all_tiles[i], labels[all_tiles[i].clip], T, boost_or_1, rng) for i in _draw(weights, rng)]


def _draw(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """len(weights) indices in random order, index i drawn len(weights) * weights[i] / sum times, rounded up or down.

    Systematic resampling (Kitagawa 1996): without boosts an epoch shows every tile exactly once.
    """
    n = len(weights)
    order = rng.permutation(n)
    edges = np.cumsum(weights[order]) * (n / max(weights.sum(), 1e-12))
    drawn = np.searchsorted(edges, np.arange(n) + rng.random(), side="right")
    return rng.permutation(order[np.minimum(drawn, n - 1)])


def _place(tile: Window, labels_T: np.ndarray, T: int, boost_or_1: np.ndarray, rng: np.random.Generator) -> Window:
    """The window of T frames that is shown for a tile.

    Starts that would lie outside the clip are moved to its edge, so the first and last frames are seen about as often
    as the others.
    """
    if not T or len(labels_T) <= T:
        return Window(tile.clip, 0, len(labels_T))
    inside = labels_T[tile.start : tile.stop]
    largest = boost_or_1[inside].max()
    if largest > 1:
        rare_class = rng.choice(np.unique(inside[boost_or_1[inside] == largest]))
        start = tile.start + _frame_of(inside, rare_class, rng) - int(rng.integers(T))
    else:
        half = tile.n_frames // 2
        start = tile.start + int(rng.integers(-half, half + 1))
    start = min(max(start, 0), len(labels_T) - T)
    return Window(tile.clip, start, start + T)


def _frame_of(labels_T: np.ndarray, class_id: int, rng: np.random.Generator) -> int:
    """A random frame of a random bout of the class: short bouts are found as often as long ones."""
    found = [bout for bout in bouts.find(labels_T) if bout.class_id == class_id]
    bout = found[rng.integers(len(found))]
    return int(rng.integers(bout.start, bout.stop))
