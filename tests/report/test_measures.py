"""Figures of a report against what they are by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.report.ethogram import MOST_BOUTS, Row, ethogram, lane
from pipeline.report.measures import bout_confusion, place_errors, precision_recall, reliability
from pipeline.report.scored import remark
from pipeline.train.metrics import segment_counts


def test_the_diagonal_of_bouts_is_what_segment_f1_counts() -> None:
    rng = np.random.default_rng(0)
    labels = [np.repeat(rng.integers(-1, 4, 60), rng.integers(1, 9, 60)) for _ in range(5)]
    pred = [np.where(rng.random(len(t)) < 0.8, t.clip(0), rng.integers(0, 4, len(t))) for t in labels]
    table = bout_confusion(labels, pred, 4)
    matched, total = segment_counts(labels, pred, 0.3, 4)
    np.testing.assert_array_equal(np.diag(table)[:4], matched)
    np.testing.assert_array_equal(table.sum(1)[:4] + table.sum(0)[:4], total)
    assert table[4, 4] == 0


def test_bouts_of_other_classes_are_missed_or_confused() -> None:
    labels, pred = np.array([0] * 10 + [1] * 10 + [0] * 10), np.array([0] * 10 + [2] * 10 + [0] * 8 + [1] * 2)
    table = bout_confusion([labels], [pred], 3)
    assert table.tolist() == [[2, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]


def test_calibration_by_hand() -> None:
    found = reliability(np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, True, True, False]))
    assert found.frames.tolist() == [2, 2]
    np.testing.assert_allclose(found.certainty, [0.55, 0.95])
    np.testing.assert_allclose(found.correct, [0.5, 1])
    assert found.error == pytest.approx(0.05)
    assert np.isnan(reliability(np.zeros(0), np.zeros(0, bool)).error)


def test_a_class_that_is_never_or_always_there_has_no_curve() -> None:
    assert precision_recall(np.zeros(4, bool), np.arange(4) / 4) is None
    assert precision_recall(np.ones(4, bool), np.arange(4) / 4) is None
    curve = precision_recall(np.array([False, True, True]), np.array([0.1, 0.8, 0.9]))
    assert curve is not None
    assert (curve.average_precision, curve.share) == (1, pytest.approx(2 / 3))


def test_errors_of_places_are_distances_where_visible() -> None:
    error = np.full((4, 2, 2), np.nan)
    error[:, 0] = [[3, 4], [0, 0], [6, 8], [-3, -4]]
    seen, never = place_errors([error], ["nose", "tail"])
    assert (seen.frames, seen.median) == (4, 5)
    assert seen.mean_absolute == pytest.approx((7 + 0 + 14 + 7) / 8)
    assert never.frames == 0
    assert np.isnan(never.median)


def test_what_few_bouts_are_worth_is_said() -> None:
    assert remark(50, 1, 1, True) == "noisy: 1 bout in 1 recording"
    assert remark(0, 0, 0, True).startswith("never labelled here, but predicted")
    assert remark(0, 0, 0, False) == "never labelled here"
    assert remark(5000, 80, 9, True) == ""


def test_too_many_bouts_are_left_out_and_counted() -> None:
    many = np.tile([[0, 0, 1]], (MOST_BOUTS // 2, 1))
    shown = ethogram([Row("a", i, None, {"labelled": many}) for i in range(1, 5)], ["rest"], ["labelled"], "All.")
    assert [row["name"] for row in shown.data["rows"]] == ["a 1", "a 2"]
    assert shown.caption == "All. Left out, for the size of this file: the last 2 of 4 trials."
    assert shown.data["unit"] == "frames"


def test_a_lane_begins_where_the_crop_does() -> None:
    assert lane(np.array([1, 1, -1, 0]), 15).tolist() == [[1, 15, 17], [0, 18, 19]]
    assert lane(np.array([-1, -1]), 15).shape == (0, 3)
