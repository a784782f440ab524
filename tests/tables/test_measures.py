"""Measures against loops that go frame by frame."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import bouts
from pipeline.tables.measures import amount, response
from pipeline.tables.transitions import counts, interval, probabilities

some_labels = st.lists(st.integers(-1, 2), min_size=1, max_size=40).map(lambda ids: np.array(ids, np.int64))
rates = st.sampled_from([30.0, 29.97, 100.0])


def onsets(labels: np.ndarray, class_id: int) -> list[int]:
    return [t for t in range(len(labels)) if labels[t] == class_id and (t == 0 or labels[t - 1] != class_id)]


def lengths(labels: np.ndarray, class_id: int) -> list[int]:
    found = []
    for onset in onsets(labels, class_id):
        n = 0
        while onset + n < len(labels) and labels[onset + n] == class_id:
            n += 1
        found.append(n)
    return found


@settings(deadline=None)
@given(some_labels, rates)
def test_amounts(labels: np.ndarray, fps: float) -> None:
    n_scored = sum(label >= 0 for label in labels)
    for class_id in range(3):
        found = amount(labels, bouts.find(labels), class_id, fps)
        if not n_scored:
            assert all(math.isnan(value) for value in vars(found).values())
            continue
        own = lengths(labels, class_id)
        n = sum(label == class_id for label in labels)
        assert found.time_s == pytest.approx(n / fps)
        assert found.share == pytest.approx(n / n_scored)
        assert found.n_bouts == len(own)
        assert found.bouts_per_min == pytest.approx(len(own) * 60 * fps / n_scored)
        if own:
            assert found.mean_bout_s == pytest.approx(sum(own) / len(own) / fps)
            middle = sorted(own)[(len(own) - 1) // 2], sorted(own)[len(own) // 2]
            assert found.median_bout_s == pytest.approx(sum(middle) / 2 / fps)
        else:
            assert math.isnan(found.mean_bout_s)
            assert math.isnan(found.median_bout_s)


@settings(deadline=None)
@given(some_labels, rates, st.integers(0, 20), st.integers(0, 60))
def test_the_first_bout_after_a_moment(labels: np.ndarray, fps: float, first: int, moment: int) -> None:
    for class_id in range(3):
        found = response(labels, bouts.find(labels), class_id, fps, first, moment)
        after = [first + t for t in range(len(labels)) if first + t >= moment and labels[t] >= 0]
        later = [first + onset for onset in onsets(labels, class_id) if first + onset >= moment]
        if not after:
            assert all(math.isnan(value) for value in vars(found).values())
            continue
        assert found.began == bool(later)
        assert math.isnan(found.latency_s) if not later else found.latency_s == pytest.approx((later[0] - moment) / fps)
        until = later[0] if later else first + len(labels)
        unscored = [t for t in range(moment, until) if t < first or labels[t - first] == -1]
        assert found.unscored_s == pytest.approx(len(unscored) / fps)
        here = moment - first
        running = 0 < here < len(labels) and labels[here] == labels[here - 1] == class_id
        assert found.running == running


@pytest.mark.parametrize(
    ("labels", "first", "moment", "expected"),
    [
        pytest.param([0, 0, 1, 1], 0, 2, (0.0, 1, 0, 0.0), id="begins at the moment"),
        pytest.param([0, 0, 1, 1], 0, 3, (math.nan, 0, 1, 0.0), id="runs at the moment: no answer to it, censored"),
        pytest.param([0, 0, 1, 1], 15, 15, (0.2, 1, 0, 0.0), id="crop: the moment is the first label"),
        pytest.param([0, 0, 1, 1], 15, 17, (0.0, 1, 0, 0.0), id="crop: begins at the moment"),
        pytest.param([1, 1, 0, 0], 15, 0, (1.5, 1, 0, 1.5), id="crop: the trial's start is not scored"),
        pytest.param([0, -1, 1, 1], 0, 0, (0.2, 1, 0, 0.1), id="a gap before it is told"),
        pytest.param([0, 0, 0, 0], 0, 1, (math.nan, 0, 0, 0.0), id="none: censored"),
        pytest.param([0, 0, -1, -1], 0, 2, (math.nan,) * 4, id="nothing scored after it: not known"),
        pytest.param([0, 1], 0, None, (math.nan,) * 4, id="no moment: not known"),
    ],
)
def test_responses(labels: list[int], first: int, moment: int | None, expected: tuple[float, ...]) -> None:
    found = response(np.array(labels), bouts.find(np.array(labels)), 1, 10.0, first, moment)
    np.testing.assert_allclose(list(vars(found).values()), expected)


def test_bouts_that_may_be_longer_are_counted() -> None:
    labels = np.array([1, 0, 1, 1, 0, 1, -1, 1, 0])
    assert amount(labels, bouts.find(labels), 1, 30).n_cut_bouts == 3
    assert amount(labels, bouts.find(labels), 0, 30).n_cut_bouts == 1


@settings(deadline=None)
@given(some_labels)
def test_transitions_are_changes_from_one_frame_to_the_next(labels: np.ndarray) -> None:
    expected = np.zeros((3, 3), int)
    for before, after in pairwise(labels):
        if before != after and before >= 0 and after >= 0:
            expected[before, after] += 1
    np.testing.assert_array_equal(counts(bouts.find(labels), 3), expected)


def test_nothing_follows_across_a_damaged_gap() -> None:
    assert counts(bouts.find(np.array([0, 0, -1, 1, 1])), 2).sum() == 0


def test_rows_of_probabilities_add_up() -> None:
    found = probabilities(np.array([[0, 3, 1], [0, 0, 0], [2, 0, 0]]))
    np.testing.assert_allclose(found, [[0, 0.75, 0.25], [np.nan] * 3, [1, 0, 0]])


def test_transitions_of_few_animals_have_no_interval() -> None:
    one = np.array([[0, 3], [2, 0]])
    nothing = np.zeros((2, 2), int)
    assert np.isnan(interval(np.array([one, one, nothing]), 0)).all()
    low, high = interval(np.array([one, one, one]), 0)
    assert low[0, 1] == high[0, 1] == 1
