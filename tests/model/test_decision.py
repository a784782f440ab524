from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import bouts
from pipeline.model.decision import LEAST, Decision, _of_like_length, log_probabilities, undecided


def scores(seed: int, T: int, N: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 2, (T, N)).astype(np.float32)
    return log_probabilities(logits, np.ones(T, bool))


def by_trying_all(log_p_TN: np.ndarray, decision: Decision) -> float:
    """The largest value of any path, of every path there is."""
    T, N = log_p_TN.shape
    return max(value(log_p_TN, decision, path) for path in itertools.product(range(N), repeat=T))


def value(log_p_TN: np.ndarray, decision: Decision, path: tuple[int, ...]) -> float:
    total = sum(float(log_p_TN[t, n]) + decision.bias[n] for t, n in enumerate(path))
    return total - sum(decision.begin[b] for a, b in itertools.pairwise(path) if a != b)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    T=st.integers(1, 6),
    bias=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    begin=st.lists(st.floats(0, 5), min_size=3, max_size=3),
)
def test_no_path_is_worth_more(seed: int, T: int, bias: list[float], begin: list[float]) -> None:
    log_p_TN, decision = scores(seed, T, 3), Decision(tuple(bias), tuple(begin))
    found = value(log_p_TN, decision, tuple(decision.labels(log_p_TN)))
    assert found == pytest.approx(by_trying_all(log_p_TN, decision), abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), lengths=st.lists(st.integers(0, 30), min_size=1, max_size=5))
def test_trials_together_are_decided_as_alone(seed: int, lengths: list[int]) -> None:
    trials = [scores(seed + i, n, 4) for i, n in enumerate(lengths)]
    decision = Decision((0.3, 0.0, -0.5, 0.0), (1.0, 3.0, 0.2, 2.0))
    for together, trial in zip(decision.labels_of(trials), trials, strict=True):
        np.testing.assert_array_equal(together, decision.labels(trial))


def test_without_costs_it_is_the_arg_max() -> None:
    log_p_TN = scores(1, 200, 5)
    np.testing.assert_array_equal(undecided(5).labels(log_p_TN), log_p_TN.argmax(1))


def test_a_bout_that_is_not_worth_its_begin_is_none() -> None:
    p_TN = np.full((60, 2), [0.9, 0.1])
    p_TN[20:23] = [0.4, 0.6]  # 3 frames of log-odds 0.4 are worth 1.2
    p_TN[40:50] = [0.3, 0.7]  # 10 of 0.85 are worth 8.5
    log_p_TN = log_probabilities(np.log(p_TN), np.ones(60, bool))
    assert [(b.start, b.stop) for b in bouts.find(Decision((0, 0), (0, 0)).labels(log_p_TN)) if b.class_id] == [
        (20, 23),
        (40, 50),
    ]
    # To begin the behaviour and to begin rest again cost 2 together.
    assert [(b.start, b.stop) for b in bouts.find(Decision((0, 0), (1, 1)).labels(log_p_TN)) if b.class_id] == [
        (40, 50)
    ]
    assert not Decision((0, 0), (5, 5)).labels(log_p_TN).any()


def test_a_damaged_frame_speaks_for_no_class() -> None:
    logits = np.array([[0.0, 9.0], [9.0, 0.0], [0.0, 9.0]], np.float32)
    log_p_TN = log_probabilities(logits, np.array([True, False, True]))
    assert log_p_TN[1].tolist() == [0.0, 0.0]
    assert Decision((0, 0), (1, 1)).labels(log_p_TN).tolist() == [1, 1, 1]


def test_no_frame_is_surer_than_the_least_probability() -> None:
    log_p_TN = log_probabilities(np.array([[0.0, 1000.0], [-1e30, 0.0]], np.float32), np.ones(2, bool))
    assert np.isfinite(log_p_TN).all()
    assert log_p_TN.min() == pytest.approx(np.log(LEAST))


def test_a_damaged_stretch_does_not_speak_by_its_bias() -> None:
    logits = np.tile(np.array([[2.0, 0.0]], np.float32), (80, 1))
    logits[30:40] = [0.0, 0.5]
    intact = np.arange(80) < 40
    biased = Decision((0.0, 1.0), (15.0, 15.0))
    assert not biased.labels(log_probabilities(logits, intact))[:40].any()


def test_a_long_trial_does_not_pad_short_ones() -> None:
    assert _of_like_length([360, 50_000, 345, 0, 720, 360]) == [[3], [2, 0, 5], [4], [1]]
    assert _of_like_length([]) == []
