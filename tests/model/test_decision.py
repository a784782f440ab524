from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import bouts
from pipeline.model.decision import (
    LEAST,
    Decision,
    Evidence,
    _of_like_length,
    evidence,
    log_probabilities,
    undecided,
)


def scores(seed: int, T: int, N: int) -> Evidence:
    rng = np.random.default_rng(seed)
    return evidence(rng.normal(0, 2, (T, N)).astype(np.float32), np.ones(T, bool), rng.normal(0, 2, T))


def by_trying_all(trial: Evidence, decision: Decision) -> float:
    """The largest value of any path, of every path there is."""
    T, N = trial.log_p_TN.shape
    return max(value(trial, decision, path) for path in itertools.product(range(N), repeat=T))


def value(trial: Evidence, decision: Decision, path: tuple[int, ...]) -> float:
    total = sum(float(trial.log_p_TN[t, n]) + decision.bias[n] for t, n in enumerate(path))
    begins = [t for t in range(1, len(path)) if path[t] != path[t - 1]]
    return total - sum(decision.begin[path[t]] - decision.boundary * trial.log_begin_T[t] for t in begins)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    T=st.integers(1, 6),
    bias=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    begin=st.lists(st.floats(0, 5), min_size=3, max_size=3),
    boundary=st.floats(0, 3),
)
def test_no_path_is_worth_more(seed: int, T: int, bias: list[float], begin: list[float], boundary: float) -> None:
    trial, decision = scores(seed, T, 3), Decision(tuple(bias), tuple(begin), boundary)
    found = value(trial, decision, tuple(decision.labels(trial)))
    assert found == pytest.approx(by_trying_all(trial, decision), abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), lengths=st.lists(st.integers(0, 30), min_size=1, max_size=5))
def test_trials_together_are_decided_as_alone(seed: int, lengths: list[int]) -> None:
    trials = [scores(seed + i, n, 4) for i, n in enumerate(lengths)]
    decision = Decision((0.3, 0.0, -0.5, 0.0), (1.0, 3.0, 0.2, 2.0), 0.7)
    for together, trial in zip(decision.labels_of(trials), trials, strict=True):
        np.testing.assert_array_equal(together, decision.labels(trial))


def test_without_costs_it_is_the_arg_max() -> None:
    trial = scores(1, 200, 5)
    np.testing.assert_array_equal(undecided(5).labels(trial), trial.log_p_TN.argmax(1))


def test_a_boundary_says_where_a_bout_begins() -> None:
    """Frames 10 to 29 are as much of one class as of the other: the change is where the network sees a boundary."""
    logits = np.zeros((40, 2), np.float32)
    logits[:10, 0] = logits[30:, 1] = 3.0
    boundary = np.full(40, -4.0, np.float32)
    boundary[21] = 2.0
    decision = Decision((0, 0), (1, 1), 1.0)
    assert decision.labels(evidence(logits, np.ones(40, bool), boundary)).tolist() == [0] * 21 + [1] * 19
    unweighted = Decision((0, 0), (1, 1))
    labels = [unweighted.labels(evidence(logits, np.ones(40, bool), b)) for b in (boundary, None)]
    np.testing.assert_array_equal(*labels)
    assert np.flatnonzero(np.diff(labels[0])).tolist() != [20]


def test_a_damaged_frame_says_nothing_of_boundaries() -> None:
    boundary = np.array([-3.0, 50.0, -1.0, -1e30], np.float32)
    trial = evidence(np.zeros((4, 2), np.float32), np.array([True, False, True, True]), boundary)
    said = [-np.log1p(np.exp(3.0)), -np.log1p(np.exp(1.0)), np.log(LEAST)]
    np.testing.assert_allclose(trial.log_begin_T, [said[0], np.mean(said), *said[1:]], rtol=1e-5)
    nothing = evidence(np.zeros((4, 2), np.float32), np.zeros(4, bool), boundary)
    assert not nothing.log_begin_T.any()


def test_without_a_boundary_head_it_is_kept_as_before() -> None:
    assert Decision((0.5,), (1.0,)).as_dict() == {"bias": (0.5,), "begin": (1.0,)}
    weighed = Decision((0.5,), (1.0,), 2.0)
    assert Decision(**weighed.as_dict()) == weighed


def test_a_bout_that_is_not_worth_its_begin_is_none() -> None:
    p_TN = np.full((60, 2), [0.9, 0.1])
    p_TN[20:23] = [0.4, 0.6]  # 3 frames of log-odds 0.4 are worth 1.2
    p_TN[40:50] = [0.3, 0.7]  # 10 of 0.85 are worth 8.5
    trial = evidence(np.log(p_TN), np.ones(60, bool))
    assert [(b.start, b.stop) for b in bouts.find(Decision((0, 0), (0, 0)).labels(trial)) if b.class_id] == [
        (20, 23),
        (40, 50),
    ]
    # To begin the behaviour and to begin rest again cost 2 together.
    assert [(b.start, b.stop) for b in bouts.find(Decision((0, 0), (1, 1)).labels(trial)) if b.class_id] == [(40, 50)]
    assert not Decision((0, 0), (5, 5)).labels(trial).any()


def test_a_damaged_frame_speaks_for_no_class() -> None:
    logits = np.array([[0.0, 9.0], [9.0, 0.0], [0.0, 9.0]], np.float32)
    trial = evidence(logits, np.array([True, False, True]))
    assert trial.log_p_TN[1].tolist() == [0.0, 0.0]
    assert Decision((0, 0), (1, 1)).labels(trial).tolist() == [1, 1, 1]


def test_no_frame_is_surer_than_the_least_probability() -> None:
    log_p_TN = log_probabilities(np.array([[0.0, 1000.0], [-1e30, 0.0]], np.float32), np.ones(2, bool))
    assert np.isfinite(log_p_TN).all()
    assert log_p_TN.min() == pytest.approx(np.log(LEAST))


def test_a_damaged_stretch_does_not_speak_by_its_bias() -> None:
    logits = np.tile(np.array([[2.0, 0.0]], np.float32), (80, 1))
    logits[30:40] = [0.0, 0.5]
    intact = np.arange(80) < 40
    biased = Decision((0.0, 1.0), (15.0, 15.0))
    assert not biased.labels(evidence(logits, intact))[:40].any()


def test_a_long_trial_does_not_pad_short_ones() -> None:
    assert _of_like_length([360, 50_000, 345, 0, 720, 360]) == [[3], [2, 0, 5], [4], [1]]
    assert _of_like_length([]) == []
