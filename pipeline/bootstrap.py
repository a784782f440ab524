"""How far a figure of some recordings would be from that of others like them: the percentile bootstrap.

Units are what is drawn anew: recordings, or animals. Frames are not independent of each other, and so no units.
Shapes: U units, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
MIN_UNITS = 3  # an interval of fewer says nothing


def draws(n_units: int, seed: int, n_resamples: int = RESAMPLES) -> np.ndarray:
    """How often each resample holds each unit, (R,U) int64: n_units draws with replacement, each unit as likely."""
    return np.random.default_rng(seed).multinomial(n_units, np.full(n_units, 1 / n_units), size=n_resamples)


def interval(
    per_unit: np.ndarray, seed: int, figure: Callable[[np.ndarray], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the 95 % interval of figure(sum of per_unit (U, ...) over the units of a resample).

    A unit says something of a figure if it has one alone (its own is not NaN); ends are NaN where fewer than MIN_UNITS
    do. A resample whose figure is NaN (a class that none of its units has) counts for nothing.
    """
    enough = _n_known(per_unit, figure) >= MIN_UNITS
    if not enough.any():
        return np.full(enough.shape, np.nan), np.full(enough.shape, np.nan)
    totals = np.tensordot(draws(len(per_unit), seed), per_unit, 1)
    found = np.array([figure(total) for total in totals])
    outside = (1 - LEVEL) / 2
    ends = np.nanquantile(np.where(enough, found, 0), [outside, 1 - outside], axis=0)
    low, high = np.where(enough, ends, np.nan)
    return low, high


def _n_known(per_unit: np.ndarray, figure: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """How many units (of per_unit (U, ...)) have each figure alone: an int array of the figure's shape."""
    nothing = np.zeros(figure(per_unit.sum(axis=0)).shape, np.int64)
    return sum((np.isfinite(figure(unit)).astype(np.int64) for unit in per_unit), nothing)


def mean_interval(values: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean of values (U, ...) over the units, the ends of its interval, and how many units have a value: each (...).

    NaN: the unit has no value; it is drawn all the same. Ends are NaN where fewer than MIN_UNITS units have one.
    """
    known = np.isfinite(values)
    per_unit = np.stack([np.where(known, values, 0), known], axis=-1)
    low, high = interval(per_unit, seed, _mean)
    return _mean(per_unit.sum(0)), low, high, known.sum(0)


def _mean(totals: np.ndarray) -> np.ndarray:
    """Of (..., 2), sum and number: the mean (...), NaN of nothing."""
    return np.where(totals[..., 1] > 0, totals[..., 0] / np.maximum(totals[..., 1], 1), np.nan)
