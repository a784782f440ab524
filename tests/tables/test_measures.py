"""Measures against loops that go frame by frame."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import bouts
from pipeline.tables.measures import amount, first_seen, response
from pipeline.tables.transitions import counts, interval, probabilities

short_labels = st.lists(st.integers(-1, 2), min_size=1, max_size=6).map(lambda ids: np.array(ids, np.int64))
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


def worlds(labels: np.ndarray, first: int, stim: int) -> list[list[int]]:
    """All that may have happened from the frame before the stimulus on: each unscored frame may be of any class."""
    start = stim - 1 - first
    seen = [int(labels[t]) if 0 <= t < len(labels) else -1 for t in range(start, len(labels))]
    return [list(one) for one in product(*([0, 1, 2] if label < 0 else [label] for label in seen))]


def agreed(values: set[float]) -> float:
    return values.pop() if len(values) == 1 else math.nan


@settings(deadline=None, max_examples=150)
@given(short_labels, rates, st.integers(0, 2), st.integers(0, 6))
def test_what_is_told_of_a_response_holds_whatever_the_unscored_frames_were(
    labels: np.ndarray, fps: float, first: int, stim: int
) -> None:
    for class_id in range(3):
        found = response(labels, bouts.find(labels), class_id, fps, first, stim)
        if not any(first + t >= stim and labels[t] >= 0 for t in range(len(labels))):
            assert all(math.isnan(value) for value in vars(found).values())
            continue
        all_worlds = worlds(labels, first, stim)
        begins = [[t for t in range(1, len(one)) if one[t] == class_id != one[t - 1]] for one in all_worlds]
        seen = [onset for onset in onsets(labels, class_id) if first + onset >= stim]
        if not seen:
            assert found.began == 0
        else:
            np.testing.assert_equal(found.began, 1.0 if all(begins) else math.nan)
        np.testing.assert_equal(found.running, agreed({float(one[0] == one[1] == class_id) for one in all_worlds}))
        # Where the first bout that is seen is an answer in every world, the latency is to its first seen frame.
        of_seen = [onset - (stim - 1 - first) for onset in seen]  # as a world counts
        is_answer = bool(seen) and all(any(t <= of_seen[0] for t in begun) for begun in begins)
        assert math.isnan(found.latency_s) != is_answer
        if is_answer:
            assert found.latency_s == pytest.approx((of_seen[0] - 1) / fps)
        certain = [t for t in of_seen if all(any(begin <= t for begin in begun) for begun in begins)]
        until = first + (seen[of_seen.index(certain[0])] if certain else len(labels))
        unscored = [t for t in range(stim, until) if t < first or labels[t - first] == -1]
        assert found.unscored_s == pytest.approx(len(unscored) / fps)


@settings(deadline=None)
@given(some_labels, rates, st.integers(0, 20))
def test_when_a_behaviour_is_first_seen(labels: np.ndarray, fps: float, first: int) -> None:
    for class_id in range(3):
        latency_s, unscored_s = first_seen(labels, bouts.find(labels), class_id, fps, first)
        if not any(label >= 0 for label in labels):
            assert math.isnan(latency_s)
            assert math.isnan(unscored_s)
            continue
        seen = [t for t in range(len(labels)) if labels[t] == class_id]
        np.testing.assert_allclose(latency_s, (first + seen[0]) / fps if seen else math.nan)
        n = first + sum(label == -1 for label in labels[: seen[0] if seen else len(labels)])
        assert unscored_s == pytest.approx(n / fps)


@pytest.mark.parametrize(
    ("labels", "first", "moment", "expected"),
    [
        pytest.param([0, 0, 1, 1], 0, 2, (0.0, 1, 0, 0.0), id="begins at the moment"),
        pytest.param([0, 0, 1, 1], 0, 3, (math.nan, 0, 1, 0.0), id="runs at the moment: no answer to it, censored"),
        pytest.param([0, 0, 1, 1], 15, 15, (0.2, 1, 0, 0.0), id="crop: the moment is the first label"),
        pytest.param([0, 0, 1, 1], 15, 17, (0.0, 1, 0, 0.0), id="crop: begins at the moment"),
        pytest.param([1, 1, 0, 0], 15, 15, (math.nan, math.nan, math.nan, 0.0), id="crop: it may run since before"),
        pytest.param([1, 1, 0, 0], 15, 10, (math.nan, math.nan, math.nan, 0.5), id="crop after the stimulus"),
        pytest.param([1, 0, 0, 1], 15, 15, (math.nan, 1, math.nan, 0.0), id="crop: answered, by one or the other"),
        pytest.param([1, 1, -1, 1], 0, 1, (math.nan, math.nan, 1, 0.1), id="goes on behind a damaged frame"),
        pytest.param([0, -1, 1, 1], 0, 2, (math.nan, math.nan, math.nan, 0.0), id="the frame before it is damaged"),
        pytest.param([0, -1, 1, 1], 0, 1, (0.1, 1, 0, 0.1), id="its own frame is damaged: none ran before"),
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
