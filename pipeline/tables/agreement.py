"""How far predictions are from people's labels, with animals as what is independent.

Shapes: n trials, U animals. d: predicted minus true.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline import bootstrap

Z = 1.959964  # of the middle 95 % of a normal distribution


@dataclass(frozen=True)
class Agreement:
    """mean_error (bias), mean_abs_error: trials of an animal averaged first, then animals; low, high: 95 % intervals.

    limits_low, limits_high: Bland and Altman's 95 % limits of agreement of single trials. pearson_r, concordance (Lin):
    of the animals' means. NaN where fewer than three animals have both figures (or these do not vary).
    """

    n_animals: int
    n_trials: int
    mean_predicted: float
    mean_true: float
    mean_error: float
    mean_error_low: float
    mean_error_high: float
    mean_abs_error: float
    mean_abs_error_low: float
    mean_abs_error_high: float
    limits_low: float
    limits_high: float
    pearson_r: float
    concordance: float


def agreement(predicted: np.ndarray, true: np.ndarray, animals: np.ndarray, seed: int) -> Agreement:
    """Of figures (n,) and the animal (n,) of each; a pair of which one is NaN is left out."""
    both = np.isfinite(predicted) & np.isfinite(true)
    predicted, true, animals = predicted[both], true[both], animals[both]
    columns = np.stack([predicted, true, predicted - true, np.abs(predicted - true)], axis=1)
    names, unit = np.unique(animals, return_inverse=True)
    per_animal = np.array([columns[unit == i].mean(axis=0) for i in range(len(names))]).reshape(-1, 4)
    mean, low, high, _ = bootstrap.mean_interval(per_animal, seed)
    limits_low, limits_high = _limits(predicted - true, unit, float(mean[2]))
    pearson_r, concordance = _correlations(per_animal[:, 0], per_animal[:, 1])
    return Agreement(
        n_animals=len(names),
        n_trials=len(true),
        mean_predicted=float(mean[0]),
        mean_true=float(mean[1]),
        mean_error=float(mean[2]),
        mean_error_low=float(low[2]),
        mean_error_high=float(high[2]),
        mean_abs_error=float(mean[3]),
        mean_abs_error_low=float(low[3]),
        mean_abs_error_high=float(high[3]),
        limits_low=limits_low,
        limits_high=limits_high,
        pearson_r=pearson_r,
        concordance=concordance,
    )


def _limits(d: np.ndarray, unit: np.ndarray, bias: float) -> tuple[float, float]:
    sd = math.sqrt(trial_variance(d, unit))
    return bias - Z * sd, bias + Z * sd


def trial_variance(d: np.ndarray, unit: np.ndarray) -> float:
    """Variance of a single trial's d (n,) of any animal; unit (n,) int: its animal. NaN of fewer than three animals.

    Bland and Altman 2007, J Biopharm Stat 17:571, section 3: variance between animals plus that within, of a one-way
    analysis of variance, since the trials of an animal are not independent.
    """
    n_of = np.bincount(unit).astype(float) if len(unit) else np.zeros(0)
    n_units = len(n_of)
    if n_units < bootstrap.MIN_UNITS:
        return math.nan
    means = np.bincount(unit, weights=d) / n_of
    between = float((n_of * (means - d.mean()) ** 2).sum()) / (n_units - 1)
    if len(d) == n_units:
        return between
    within = float(((d - means[unit]) ** 2).sum()) / (len(d) - n_units)
    per_unit = (n_of.sum() ** 2 - (n_of**2).sum()) / ((n_units - 1) * n_of.sum())
    return max(0.0, (between - within) / per_unit) + within


def _correlations(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Pearson's r and Lin's concordance (1989, Biometrics 45:255; with n in its denominators)."""
    if len(true) < bootstrap.MIN_UNITS:
        return math.nan, math.nan
    covariance = float(((predicted - predicted.mean()) * (true - true.mean())).mean())
    spread = float(predicted.std() * true.std())
    apart = float(predicted.var() + true.var() + (predicted.mean() - true.mean()) ** 2)
    return covariance / spread if spread > 1e-12 else math.nan, 2 * covariance / apart if apart > 1e-12 else math.nan
