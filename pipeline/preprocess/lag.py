"""How many rows a DLC table runs ahead of its video, as the pixels tell it.

A keypoint sits on the same piece of the animal in every frame, so the picture around it changes least while the animal
moves if each row of the table is laid on the frame that it was made from. Rows of up to 10 frames before and after are
tried, and the bootstrap over stretches of a second says how sure the best of them is.

Axes: n frames, L lags, K keypoints, s stretches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

MAX_LAG = 10  # rows
LAGS = np.arange(-MAX_LAG, MAX_LAG + 1)
GAP = 10  # frames that are compared: of 2, 5 and 10, ten stood the most noise in the keypoints
_STRETCH = 30  # frames
_SURE = 0.6  # likelihood of the keypoints that are followed
_REACH = 2 / 224  # of the picture's side: around a keypoint so much is averaged, 5 x 5 pixels of 224
_MIN_STRETCHES = 8
_RESAMPLES, _TAILS = 500, (1, 99)  # percentiles of the best lag over the resamples
_WIDEST = 2  # rows between them, where the lag counts as told
_CLEARLY = 1.05  # times that the picture changes more at the lags that are wrong


@dataclass(frozen=True)
class LagEstimate:
    """Which row of the table belongs to frame n: row n + lag, or `unknown` says why that cannot be told.

    low, high: the best lag in 98% of the resamples lies between them. change, change_at_0: mean change of the picture
    around the keypoints in GAP frames, in gray levels, at the best lag and as the table is. differs: whether another
    lag than 0 fits clearly better.
    """

    lag: int
    low: int
    high: int
    change: float
    change_at_0: float
    unknown: str | None = None

    @property
    def differs(self) -> bool:
        outside = self.low > 0 or self.high < 0
        return self.unknown is None and outside and self.change_at_0 >= _CLEARLY * self.change


def estimate_lag(blocks: Iterable[np.ndarray], keypoints: np.ndarray) -> LagEstimate:
    """The lag of a recording whose gray frames come in blocks (n, S, S), in order and each once.

    keypoints: (MAX_LAG + frames + MAX_LAG, K, 3) x, y in [0, 1] of the square and likelihood: those of frame -MAX_LAG
    (as the table is now) stand first, NaN where there are none.
    """
    sums, counts = _changes(blocks, keypoints)  # (s, L)
    n_told = int((counts > 0).all(axis=1).sum())
    if n_told < _MIN_STRETCHES:
        found = f"{n_told} s-long stretches with sure keypoints, at least {_MIN_STRETCHES} are needed"
        return LagEstimate(0, -MAX_LAG, MAX_LAG, np.nan, np.nan, f"too little is tracked: {found}")
    curve_L = sums.sum(axis=0) / counts.sum(axis=0)
    best = int(curve_L.argmin())
    low, high = np.percentile(_resampled_lags(sums, counts), _TAILS).round().astype(int).tolist()
    unknown = None
    if high - low > _WIDEST or np.median(curve_L) < _CLEARLY * curve_L[best]:
        unknown = f"anything from {low} to {high} fits: the animal moves too little, or is tracked too unsteadily"
    elif max(abs(low), abs(high)) == MAX_LAG:
        unknown = f"it fits best at {LAGS[best]:+d}, the end of what is tried: it may be more"
    return LagEstimate(int(LAGS[best]), low, high, float(curve_L[best]), float(curve_L[MAX_LAG]), unknown)


def _resampled_lags(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The best lag in each of the bootstrap's resamples of the stretches."""
    n = len(sums)
    weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), _RESAMPLES)
    curves = (weights @ sums) / np.maximum(weights @ counts, 1)
    return LAGS[curves.argmin(axis=1)]


def _changes(blocks: Iterable[np.ndarray], keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum (s, L) of the change of brightness around all keypoints over GAP frames, and its number of terms."""
    sums, counts = [np.zeros((0, len(LAGS)))], [np.zeros((0, len(LAGS)), int)]
    sure = np.where(keypoints[..., 2:] >= _SURE, keypoints[..., :2], np.nan)
    before = np.empty((0, len(LAGS), keypoints.shape[1]), np.float32)
    n_done = 0
    for block in blocks:
        rows = np.arange(n_done, n_done + len(block))[:, None] + LAGS + MAX_LAG
        bright_nLK = np.concatenate([before, _brightness(block, sure[rows])])
        change_nLK = np.abs(bright_nLK[GAP:] - bright_nLK[:-GAP])
        for start in range(0, len(change_nLK), _STRETCH):
            stretch = change_nLK[start : start + _STRETCH]
            sums.append(np.nan_to_num(stretch).sum(axis=(0, 2), dtype=np.float64)[None])
            counts.append((~np.isnan(stretch)).sum(axis=(0, 2))[None])
        before = bright_nLK[-GAP:]
        n_done += len(block)
    return np.concatenate(sums), np.concatenate(counts)


def _brightness(block: np.ndarray, xy_nLK2: np.ndarray) -> np.ndarray:
    """Mean gray (n, L, K) of frames (n, S, S) at nine points around each place; NaN where the place is."""
    side = block.shape[1]
    reach = max(1, round(side * _REACH))
    known = ~np.isnan(xy_nLK2).any(axis=-1)
    column, row = np.moveaxis(np.where(known[..., None], xy_nLK2 * side, 0).astype(int), -1, 0)
    frame = np.arange(len(block))[:, None, None]
    total = np.zeros(known.shape, np.float32)
    for dy in (-reach, 0, reach):
        for dx in (-reach, 0, reach):
            total += block[frame, (row + dy).clip(0, side - 1), (column + dx).clip(0, side - 1)]
    return np.where(known, total / 9, np.nan)
