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
    per_unit: np.ndarray, times_RU: np.ndarray, figure: Callable[[np.ndarray], np.ndarray | float]
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the 95 % interval of figure(sum of per_unit (U, ...) over the units of a resample).

    A resample whose figure is NaN (a class that none of its units has) counts for nothing; NaN where all of them are.
    """
    totals = np.tensordot(times_RU, per_unit, 1)
    found = np.array([figure(total) for total in totals])
    outside = (1 - LEVEL) / 2
    defined = np.isfinite(found).any(axis=0)
    ends = np.nanquantile(np.where(defined, found, 0), [outside, 1 - outside], axis=0)
    low, high = np.where(defined, ends, np.nan)
    return low, high


def mean_interval(values: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean of values (U, ...) over the units, the ends of its interval, and how many units have a value: each (...).

    NaN: the unit has no value; it is drawn all the same. Ends are NaN where fewer than MIN_UNITS units have one.
    """
    known = np.isfinite(values)
    per_unit = np.stack([np.where(known, values, 0), known], axis=-1)
    total, n_known = per_unit.sum(0), known.sum(0)
    if len(values) < MIN_UNITS:
        return _mean(total), np.full(n_known.shape, np.nan), np.full(n_known.shape, np.nan), n_known
    low, high = interval(per_unit, draws(len(values), seed), _mean)
    enough = n_known >= MIN_UNITS
    return _mean(total), np.where(enough, low, np.nan), np.where(enough, high, np.nan), n_known


def _mean(totals: np.ndarray) -> np.ndarray:
    """Of (..., 2), sum and number: the mean (...), NaN of nothing."""
    return np.where(totals[..., 1] > 0, totals[..., 0] / np.maximum(totals[..., 1], 1), np.nan)
