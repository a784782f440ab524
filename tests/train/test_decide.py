from __future__ import annotations

import numpy as np
import pytest

from pipeline.model.decision import Evidence, evidence, undecided
from pipeline.train.decide import PIECE, _pieces_of, cross_fitted, fit_decision, labelled_groups
from pipeline.train.metrics import confusion, macro_f1, segment_f1


def trial(seed: int, T: int = 300, boundary_at: int | None = None) -> tuple[Evidence, np.ndarray]:
    """Bouts of about 30 frames of three classes, and predictions of them that flicker and shun the last class.

    boundary_at: boundaries are seen so many frames after the bouts begin; None: no boundary head.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 3, T // 30), 30)
    logits = rng.normal(0, 1.5, (T, 3)) + 1.5 * np.eye(3)[labels] - [0, 0, 1.5]
    seen = None if boundary_at is None else np.where(np.arange(T) % 30 == boundary_at, 3.0, -3.0)
    return evidence(logits.astype(np.float32), np.ones(T, bool), seen), labels


def quality(said: list[np.ndarray], labels: list[np.ndarray]) -> tuple[float, float]:
    frames = sum(confusion(t, p, 3) for t, p in zip(labels, said, strict=True))
    return macro_f1(np.asarray(frames)), segment_f1(labels, said, 0.3)


def test_a_fitted_decision_is_better_on_other_trials_too() -> None:
    fitted_on, others = [trial(i) for i in range(6)], [trial(100 + i) for i in range(6)]
    decision = fit_decision([t for t, _ in fitted_on], [labels for _, labels in fitted_on])
    trials, labels = [t for t, _ in others], [labels for _, labels in others]
    before, after = quality(undecided(3).labels_of(trials), labels), quality(decision.labels_of(trials), labels)
    assert after[0] > before[0] + 0.1
    assert after[1] > before[1] + 0.2


def test_boundaries_are_weighed_where_they_help() -> None:
    fitted_on, others = ([trial(first + i, boundary_at=0) for i in range(6)] for first in (0, 100))
    trials, labels = [t for t, _ in others], [labels for _, labels in others]
    decision = fit_decision(*map(list, zip(*fitted_on, strict=True)))
    without = fit_decision(
        [Evidence(t.log_p_TN, 0 * t.log_begin_T) for t, _ in fitted_on], [ids for _, ids in fitted_on]
    )
    assert decision.boundary > 0
    assert without.boundary == 0
    found, expected = (quality(d.labels_of(trials), labels) for d in (decision, without))
    assert found[0] > expected[0] + 0.02
    assert found[1] >= expected[1]


def test_boundaries_that_are_seen_elsewhere_are_left_out() -> None:
    fitted_on = [trial(i, boundary_at=15) for i in range(6)]
    assert fit_decision(*map(list, zip(*fitted_on, strict=True))).boundary == 0


def test_what_is_decided_of_a_group_does_not_depend_on_its_own_labels() -> None:
    pairs = [trial(i) for i in range(6)]
    trials, labels = [t for t, _ in pairs], [labels for _, labels in pairs]
    groups = ["a", "a", "b", "b", "c", "c"]
    said = cross_fitted(trials, labels, groups)
    lied = [*labels[:2], *((ids + 1) % 3 for ids in labels[2:4]), *labels[4:]]
    again = cross_fitted(trials, lied, groups)
    for i in (2, 3):
        np.testing.assert_array_equal(said[i], again[i])
    assert any((a != b).any() for a, b in zip(said, again, strict=True))  # the others' decisions saw the lie


def test_of_a_single_group_it_is_the_arg_max() -> None:
    pairs = [trial(i) for i in range(2)]
    said = cross_fitted([t for t, _ in pairs], [labels for _, labels in pairs], ["a", "a"])
    for ids, (spoken, _) in zip(said, pairs, strict=True):
        np.testing.assert_array_equal(ids, spoken.log_p_TN.argmax(1))


def test_groups_without_labels_do_not_count() -> None:
    pairs = [trial(i) for i in range(6)]
    trials, labels = [t for t, _ in pairs], [ids if i < 4 else np.full(300, -1) for i, (_, ids) in enumerate(pairs)]
    assert labelled_groups(labels, list("bbaacc")) == ["a", "b"]
    said = cross_fitted(trials, labels, list("bbaacc"))
    for one, other in zip(said[:4], cross_fitted(trials[:4], labels[:4], list("bbaa")), strict=True):
        np.testing.assert_array_equal(one, other)
    alone = cross_fitted(trials, labels, list("aaaabb"))  # all labels are of one group: nothing to fit on for it
    for ids, spoken in zip(alone, trials, strict=True):
        np.testing.assert_array_equal(ids, spoken.log_p_TN.argmax(1))


@pytest.mark.parametrize("parts", [2, 5, 9])
def test_every_trial_is_decided_whatever_the_parts(parts: int) -> None:
    pairs = [trial(i, 90) for i in range(5)]
    said = cross_fitted([t for t, _ in pairs], [labels for _, labels in pairs], list("abcde"), parts)
    assert [len(ids) for ids in said] == [90] * 5


def test_long_recordings_are_fitted_on_in_pieces_that_lose_no_frame() -> None:
    (long, labels), (short, _) = trial(3, 6_000, 0), trial(4, 2_040, 0)
    pieces = _pieces_of([long, short])
    assert max(map(len, pieces)) <= PIECE
    for name in ("log_p_TN", "log_begin_T"):
        whole = [getattr(spoken, name) for spoken in (long, short)]
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in pieces]), np.concatenate(whole))
    long, labels = trial(3, 6_000)
    decision = fit_decision([long], [labels])
    before, after = quality(undecided(3).labels_of([long]), [labels]), quality([decision.labels(long)], [labels])
    assert after[0] > before[0] + 0.1
    assert after[1] > before[1] + 0.2
