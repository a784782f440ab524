"""How far a figure of some recordings would be from that of others like them: the percentile bootstrap.

Units are what is drawn anew: recordings, or animals. Frames are not independent of each other, and so no units.
Shapes: U units, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95


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
