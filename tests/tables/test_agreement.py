"""Agreement against figures that are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.tables.agreement import Z, agreement, trial_variance


def several(seed: int, n_animals: int, n_trials: int, between: float, within: float) -> tuple[np.ndarray, np.ndarray]:
    """Differences of trials, and their animals."""
    rng = np.random.default_rng(seed)
    d = rng.normal(0, between, n_animals)[:, None] + rng.normal(0, within, (n_animals, n_trials))
    return d.ravel(), np.repeat(np.arange(n_animals), n_trials)


def test_with_one_trial_an_animal_the_limits_are_the_usual_ones() -> None:
    rng = np.random.default_rng(0)
    true, d = rng.normal(5, 2, 12), rng.normal(0.3, 0.5, 12)
    found = agreement(true + d, true, np.array([f"a{i}" for i in range(12)]), 0)
    assert found.mean_error == pytest.approx(d.mean())
    assert (found.limits_low, found.limits_high) == pytest.approx(
        (d.mean() - Z * d.std(ddof=1), d.mean() + Z * d.std(ddof=1))
    )
    assert found.mean_abs_error == pytest.approx(abs(d).mean())
    assert found.pearson_r == pytest.approx(np.corrcoef(true + d, true)[0, 1])
    assert found.mean_error_low < found.mean_error < found.mean_error_high


def test_the_variance_of_a_trial_is_that_between_and_within_animals() -> None:
    found = [trial_variance(*several(seed, 40, 5, 0.6, 0.8)) for seed in range(200)]
    assert np.mean(found) == pytest.approx(0.6**2 + 0.8**2, rel=0.03)


def test_unequal_numbers_of_trials_leave_it_unbiased() -> None:
    found = []
    for seed in range(300):
        d, unit = several(seed, 30, 8, 0.6, 0.8)
        kept = np.arange(len(d)) % 8 < np.random.default_rng(seed).integers(1, 9, 30)[unit]
        found.append(trial_variance(d[kept], unit[kept]))
    assert np.mean(found) == pytest.approx(1.0, rel=0.04)


def test_trials_of_an_animal_are_averaged_first() -> None:
    """Animal a is off by 1 in its one trial, b and c by 0 in many: the mean is of animals, not of trials."""
    predicted = np.array([1.0] + [0.0] * 20)
    found = agreement(predicted, np.zeros(21), np.array(["a"] + ["b"] * 10 + ["c"] * 10), 0)
    assert found.mean_error == pytest.approx(1 / 3)
    assert (found.n_animals, found.n_trials) == (3, 21)


def test_concordance_sees_a_bias_that_correlation_does_not() -> None:
    true = np.array([1.0, 2, 3, 4])
    animals = np.array(list("abcd"))
    found = agreement(true + 2, true, animals, 0)
    assert found.pearson_r == pytest.approx(1)
    assert found.concordance == pytest.approx(2 * 1.25 / (1.25 + 1.25 + 4))
    assert agreement(true, true, animals, 0).concordance == pytest.approx(1)


def test_two_animals_have_no_interval_and_no_limits() -> None:
    found = agreement(np.array([1.0, 2]), np.array([1.0, 3]), np.array(["a", "b"]), 0)
    assert found.mean_error == -0.5
    assert np.isnan([found.mean_error_low, found.limits_low, found.pearson_r, found.concordance]).all()


def test_nothing_in_common_is_no_figure() -> None:
    found = agreement(np.array([np.nan]), np.array([1.0]), np.array(["a"]), 0)
    assert (found.n_animals, found.n_trials) == (0, 0)
    assert np.isnan(found.mean_error)
