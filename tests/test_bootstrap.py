"""The bootstrap against one that draws recordings by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from pipeline.bootstrap import draws, interval, mean_interval
from pipeline.train.metrics import confusion, f1_per_class, macro_f1


def test_every_resample_has_as_many_units_and_each_is_as_likely() -> None:
    times_RU = draws(7, seed=0, n_resamples=4000)
    assert (times_RU.sum(1) == 7).all()
    np.testing.assert_allclose(times_RU.mean(0), 1, atol=0.08)
    np.testing.assert_allclose(times_RU.var(0), 6 / 7, atol=0.1)  # of a draw with replacement
    np.testing.assert_array_equal(times_RU, draws(7, seed=0, n_resamples=4000))
    assert (times_RU != draws(7, seed=1, n_resamples=4000)).any()


def test_the_interval_is_that_of_frames_put_together_by_hand() -> None:
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 3, 40) for _ in range(5)]
    pred = [np.where(rng.random(40) < 0.5, one, rng.integers(0, 3, 40)) for one in labels]
    per_unit = np.array([confusion(a, b, 3) for a, b in zip(labels, pred, strict=True)])
    by_hand = []
    for times in draws(5, seed=3):
        chosen = np.repeat(np.arange(5), times)
        true, found = (np.concatenate([arrays[i] for i in chosen]) for arrays in (labels, pred))
        by_hand.append(f1_score(true, found, average=None, labels=[0, 1, 2]))
    low, high = interval(per_unit, 3, f1_per_class)
    np.testing.assert_allclose(low, np.percentile(by_hand, 2.5, axis=0))
    np.testing.assert_allclose(high, np.percentile(by_hand, 97.5, axis=0))
    macro = interval(per_unit, 3, lambda frames: np.array([macro_f1(frames)]))
    np.testing.assert_allclose(np.ravel(macro), np.percentile(np.mean(by_hand, axis=1), [2.5, 97.5]))


def test_a_class_that_some_resamples_lack_is_measured_on_the_others() -> None:
    per_unit = np.array([np.diag([4, 0, 0])] * 5 + [[[2, 0, 0], [1, 3, 0], [0, 0, 0]]] * 3)
    assert (draws(8, seed=0)[:, 5:].sum(1) == 0).any()
    low, high = interval(per_unit, 0, f1_per_class)
    np.testing.assert_allclose((low[1], high[1]), (6 / 7, 6 / 7))
    assert np.isnan([low[2], high[2]]).all()


def test_of_too_few_units_there_is_no_interval() -> None:
    alike = np.array([[[4, 0], [2, 6]]] * 3)
    assert np.isfinite(interval(alike, 0, f1_per_class)).all()
    assert np.isnan(interval(alike[:2], 0, f1_per_class)).all()
    assert np.isnan(interval(alike[:0], 0, f1_per_class)).all()
    per_unit = np.array([np.diag([4, 0])] * 5 + [[[2, 0], [1, 3]]] * 2)  # two have the second class
    low, high = interval(per_unit, 0, f1_per_class)
    assert np.isfinite([low[0], high[0]]).all()
    assert np.isnan([low[1], high[1]]).all()


@pytest.mark.parametrize("n_units", [1, 2])
def test_few_units_are_drawn_too(n_units: int) -> None:
    assert draws(n_units, 0).shape == (1000, n_units)


def test_means_of_animals_that_have_a_value() -> None:
    values = np.array([[1.0, np.nan, 5.0], [2.0, np.nan, 6.0], [6.0, np.nan, np.nan], [7.0, 1.0, np.nan]])
    mean, low, high, n_known = mean_interval(values, seed=4)
    np.testing.assert_allclose(mean, [4, 1, 5.5])
    np.testing.assert_array_equal(n_known, [4, 1, 2])
    by_hand = [values[np.repeat(np.arange(4), times), 0].mean() for times in draws(4, 4)]
    np.testing.assert_allclose((low[0], high[0]), np.percentile(by_hand, [2.5, 97.5]))
    assert np.isnan([low[1:], high[1:]]).all()  # fewer than MIN_UNITS have a value
    assert np.isnan(mean_interval(values[:2], seed=4)[1]).all()
    assert np.isnan(mean_interval(values[:0], seed=4)[0]).all()
