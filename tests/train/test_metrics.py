import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from cache.clip import Geometry
from pipeline.train.metrics import (
    MetricsError,
    TrialResult,
    confusion,
    f1_per_class,
    keypoint_mae,
    macro_f1,
    majority_baseline,
    score,
    segment_f1,
    segment_f1_per_class,
)

N = 4
SQUARE = Geometry.fit(100, 100, 50)


def result(labels, pred, **changed) -> TrialResult:
    n = len(labels)
    keypoints = {
        "xy_true": np.full((n, 2, 2), 0.5, np.float32),
        "xy_pred": np.full((n, 2, 2), 0.5, np.float32),
        "visible": np.ones((n, 2), bool),
        "geometry": SQUARE,
    }
    return TrialResult(np.array(labels), np.array(pred), **(keypoints | changed))


@st.composite
def trials_of_ids(draw, lowest=-1):
    """Labels and predictions of a few trials, in stretches, so that bouts of several frames occur."""
    labels, pred = [], []
    for _ in range(draw(st.integers(1, 3))):
        n = draw(st.integers(1, 14))
        for ids, low in ((labels, lowest), (pred, 0)):
            changes = draw(st.lists(st.tuples(st.integers(low, 2), st.integers(1, 6)), min_size=n, max_size=n))
            ids.append(np.repeat([c for c, _ in changes], [k for _, k in changes])[:n])
    return labels, pred


# Frames


@settings(deadline=None)
@given(trials_of_ids())
def test_f1_agrees_with_scikit_learn(trials):
    labels, pred = (np.concatenate(ids) for ids in trials)
    keep = labels >= 0
    frames = confusion(labels, pred, N)
    if not keep.any():
        assert math.isnan(macro_f1(frames))
        return
    true, predicted = labels[keep], pred[keep]
    assert frames.tolist() == sklearn_metrics.confusion_matrix(true, predicted, labels=range(N)).tolist()
    assert macro_f1(frames) == pytest.approx(sklearn_metrics.f1_score(true, predicted, average="macro"))
    each = sklearn_metrics.f1_score(true, predicted, average=None, labels=range(N), zero_division=np.nan)
    assert f1_per_class(frames) == pytest.approx(each, nan_ok=True)


def test_a_class_predicted_but_never_true_lowers_the_macro_f1():
    frames = confusion(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1]), N)
    assert f1_per_class(frames) == pytest.approx([6 / 7, 0, np.nan, np.nan], nan_ok=True)
    assert macro_f1(frames) == pytest.approx(3 / 7)


@pytest.mark.parametrize(
    ("labels", "pred", "message"),
    [
        pytest.param([0, 1], [0], "differ in length", id="lengths"),
        pytest.param([0, 4], [0, 0], "label 4: expected a class from 0 to 3", id="label"),
        pytest.param([0, -2], [0, 0], "label -2: expected", id="a label below -1"),
        pytest.param([0, 1], [0, 7], "prediction 7: expected a class from 0 to 3", id="prediction"),
        pytest.param([0, 1], [0, -1], "prediction -1: expected", id="a labelled frame without prediction"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, pred, message):
    with pytest.raises(MetricsError, match=message):
        confusion(np.array(labels), np.array(pred), N)
    with pytest.raises(MetricsError):
        segment_f1_per_class([np.array(labels)], [np.array(pred)], 0.3, N)


# Bouts


def brute_force_counts(labels, pred, iou):
    """True positives, true bouts and predicted bouts of one trial by trying every assignment of sets of frames."""

    def runs(ids):
        found, start = [], 0
        for class_id, group in itertools.groupby(ids):
            length = len(list(group))
            if class_id >= 0:
                found.append((class_id, frozenset(range(start, start + length))))
            start += length
        return found

    true = runs(labels)
    predicted = runs([p if t >= 0 else -1 for t, p in zip(labels, pred, strict=True)])

    def best(rest, free):
        if not rest:
            return 0
        (class_id, frames), *others = rest
        most = best(others, free)
        for j in free:
            other_class, other = predicted[j]
            if class_id == other_class and len(frames & other) / len(frames | other) >= iou:
                most = max(most, 1 + best(others, free - {j}))
        return most

    return best(true, frozenset(range(len(predicted)))), len(true), len(predicted)


@settings(max_examples=150, deadline=None)
@given(trials_of_ids(), st.sampled_from([0.1, 0.3, 0.5, 0.75, 1.0]))
def test_segment_f1_agrees_with_trying_every_assignment(trials, iou):
    labels, pred = trials
    pairs = zip(labels, pred, strict=True)
    tp, n_true, n_pred = np.sum([brute_force_counts(t.tolist(), p.tolist(), iou) for t, p in pairs], 0)
    expected = 2 * tp / (n_true + n_pred) if n_true + n_pred else math.nan
    assert segment_f1(labels, pred, iou) == pytest.approx(expected, nan_ok=True)


def ms_tcn_f1(labels, pred, overlap):
    """The F-score of Farha & Gall 2019 as published (each predicted bout takes its best partner), over trials."""

    def segments(ids):
        starts = [0, *(i for i in range(1, len(ids)) if ids[i] != ids[i - 1])]
        return [(ids[s], s, e) for s, e in zip(starts, [*starts[1:], len(ids)], strict=True)]

    tp = fp = fn = 0
    for truth, predicted in zip(labels, pred, strict=True):
        y = segments(truth)
        hits = [False] * len(y)
        for c, start, stop in segments(predicted):
            ious = [
                max(0, min(stop, e) - max(start, s)) / (max(stop, e) - min(start, s)) * (c == label)
                for label, s, e in y
            ]
            i = int(np.argmax(ious))
            if ious[i] >= overlap and not hits[i]:
                tp, hits[i] = tp + 1, True
            else:
                fp += 1
        fn += len(y) - sum(hits)
    return 2 * tp / (2 * tp + fp + fn)


@settings(deadline=None)
@given(trials_of_ids(lowest=0))
def test_segment_f1_is_the_published_one_where_a_bout_can_have_one_partner_only(trials):
    assert segment_f1(*trials, 0.55) == pytest.approx(ms_tcn_f1(*trials, 0.55))
    assert segment_f1(*trials, 0.3) >= ms_tcn_f1(*trials, 0.3) - 1e-12


@pytest.mark.parametrize(
    ("labels", "pred", "expected"),
    [
        pytest.param("aaabbb", "aaabbb", 1.0, id="perfect"),
        pytest.param("aaaaaa", "bbbbbb", 0.0, id="another class"),
        pytest.param("aaabbb", "aabbbb", 1.0, id="borders off by one"),
        pytest.param("aaaaaaaaaa", "abababababa"[:10], 0.0, id="flicker matches no bout"),
        pytest.param("aaaaaa", "aabaaa", 2 / 4, id="one bout in two pieces: the longer matches, once"),
        pytest.param("aaabaa", "aaaaaa", 2 / 4, id="two bouts as one"),
        pytest.param("aaaaaaaaaa", "aaabbbbbbb", 2 / 3, id="IoU of just 0.3 counts"),
        pytest.param("aaaaaaaaaa", "aabbbbbbbb", 0.0, id="IoU of 0.2 does not"),
        pytest.param("aaa...aaa", "aaaaaaaaa", 1.0, id="an unlabelled stretch breaks both"),
        pytest.param("aaa...", "aaabbb", 1.0, id="what is said of unlabelled frames does not count"),
    ],
)
def test_segment_f1_by_hand(labels, pred, expected):
    def ids(text):
        return np.array([".ab".index(letter) - 1 for letter in text])

    assert segment_f1([ids(labels)], [ids(pred)], 0.3) == pytest.approx(expected)


def test_bouts_match_within_their_trial_only():
    a, b = np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0])
    assert segment_f1([a, b], [b, a], 0.3) == 0
    assert segment_f1([a, b], [a, b], 0.3) == 1
    # a bout that goes on in the next trial is two bouts
    assert segment_f1([np.zeros(4, int), np.zeros(4, int)], [np.zeros(4, int), np.ones(4, int)], 0.3) == 0.5


def test_segment_f1_of_each_class():
    labels, pred = [np.array([0, 0, 0, 1, 1, 0])], [np.array([0, 0, 0, 1, 2, 2])]
    assert segment_f1_per_class(labels, pred, 0.3, N) == pytest.approx([2 / 3, 1, 0, np.nan], nan_ok=True)


def test_segment_f1_of_nothing_is_not_a_score():
    assert math.isnan(segment_f1([np.array([-1, -1])], [np.array([0, 1])], 0.3))


@pytest.mark.parametrize("iou", [0.0, -0.1, 1.5])
def test_an_iou_that_would_match_anything_is_refused(iou):
    with pytest.raises(MetricsError, match="expected a value above 0 and up to 1"):
        segment_f1([np.array([0])], [np.array([0])], iou)


# Keypoints


def test_keypoint_mae_in_a_wide_picture():
    # 200x100 in a square of 50: content 50x25; 0.1 of the square is 0.1 of the width and 0.2 of the height, 20 px each
    wide = Geometry.fit(200, 100, 50)
    true = np.full((3, 2, 2), 0.5, np.float32)
    shifted = true + np.array([0.1, 0.0], np.float32)
    assert keypoint_mae([result([0] * 3, [0] * 3, xy_true=true, xy_pred=shifted, geometry=wide)]) == pytest.approx(
        (0.1 / 2, 20 / 2), rel=1e-3
    )
    shifted = true - np.array([0.0, 0.1], np.float32)
    assert keypoint_mae([result([0] * 3, [0] * 3, xy_true=true, xy_pred=shifted, geometry=wide)]) == pytest.approx(
        (0.2 / 2, 20 / 2), rel=1e-3
    )


def test_keypoint_mae_of_pixels_as_written_down():
    rng = np.random.default_rng(0)
    trials, errors, errors_px = [], [], []
    for width, height, n in ((1064, 1070, 5), (640, 480, 9)):
        geometry = Geometry.fit(width, height, 224)
        size = np.array([width, height])
        true_px, pred_px = rng.uniform(0, size, (n, 3, 2)), rng.uniform(0, size, (n, 3, 2))
        visible = rng.random((n, 3)) < 0.6
        to_square = lambda px, g=geometry, s=size: g.to_square(px / s)  # noqa: E731
        trials.append(
            result(
                [0] * n,
                [0] * n,
                xy_true=to_square(true_px),
                xy_pred=to_square(pred_px),
                visible=visible,
                geometry=geometry,
            )
        )
        errors_px.append(np.abs(true_px - pred_px)[visible])
        errors.append(np.abs(true_px / size - pred_px / size)[visible])
    expected = np.concatenate(errors).mean(), np.concatenate(errors_px).mean()
    assert keypoint_mae(trials) == pytest.approx(expected, rel=1e-4)


def test_invisible_keypoints_count_nowhere():
    visible = np.array([[True, False]])
    wrong = np.array([[[0.5, 0.5], [0.0, 0.0]]], np.float32)
    one = {"xy_true": np.full((1, 2, 2), 0.5, np.float32), "xy_pred": wrong}
    assert keypoint_mae([result([0], [0], visible=visible, **one)]) == (0, 0)
    assert keypoint_mae([result([0], [0], **one)])[0] == pytest.approx(0.25)
    assert all(math.isnan(v) for v in keypoint_mae([result([0], [0], visible=np.zeros((1, 2), bool), **one)]))


def test_keypoints_without_prediction():
    assert all(math.isnan(v) for v in keypoint_mae([result([0], [0], xy_pred=None)]))
    with pytest.raises(MetricsError, match="predicted in 1 of 2 trials; expected all or none"):
        keypoint_mae([result([0], [0], xy_pred=None), result([0], [0])])


@pytest.mark.parametrize("which", ["xy_true", "xy_pred"])
def test_a_visible_keypoint_that_is_not_finite_is_refused(which):
    with pytest.raises(MetricsError, match="not finite"):
        keypoint_mae([result([0], [0], **{which: np.full((1, 2, 2), np.nan, np.float32)})])


# All of it


@pytest.mark.parametrize(
    "changed",
    [
        {"pred": np.zeros(2, int)},
        {"visible": np.ones((2, 2), bool)},
        {"xy_true": np.zeros((3, 3, 2), np.float32)},
        {"xy_pred": np.zeros((3, 2, 3), np.float32)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_trial_whose_arrays_do_not_fit_is_refused(changed):
    fitting = vars(result([0, 0, 0], [0, 0, 0]))
    with pytest.raises(MetricsError, match="expected"):
        TrialResult(**(fitting | changed))


@settings(deadline=None)
@given(trials_of_ids())
def test_scores_put_the_figures_together(trials):
    labels, pred = trials
    names = ["rest", "lick", "shake", "walk"]
    scores = score([result(t, p) for t, p in zip(labels, pred, strict=True)], names)
    whole = confusion(np.concatenate(labels), np.concatenate(pred), N)
    assert scores.confusion.tolist() == whole.tolist()
    assert scores.macro_f1 == pytest.approx(macro_f1(whole), nan_ok=True)
    assert scores.f1_per_class == pytest.approx(dict(zip(names, f1_per_class(whole), strict=True)), nan_ok=True)
    assert list(scores.segment_f1) == [0.1, 0.3, 0.5]
    for iou, found in scores.segment_f1.items():
        assert found == pytest.approx(segment_f1(labels, pred, iou), nan_ok=True)
    assert sum(scores.support.values()) == sum((t >= 0).sum() for t in labels)
    assert (scores.keypoint_mae_norm, scores.keypoint_mae_px, scores.n_trials) == (0, 0, len(labels))
    assert scores.n_labelled == sum((t >= 0).any() for t in labels)


def test_scores_as_plain_values():
    plain = score([result([0, 0, -1], [0, 1, 1], xy_pred=None)], ["rest", "lick", "walk"]).as_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["f1_per_class"] == {"rest": pytest.approx(2 / 3), "lick": 0.0, "walk": None}
    assert plain["keypoint_mae_norm"] is None
    assert plain["segment_f1"] == {
        "0.1": pytest.approx(2 / 3),
        "0.3": pytest.approx(2 / 3),
        "0.5": pytest.approx(2 / 3),
    }
    assert plain["confusion"] == [[1, 1, 0], [0, 0, 0], [0, 0, 0]]
    assert plain["support"] == {"rest": 2, "lick": 0, "walk": 0}


def test_scores_of_no_trial_are_no_figures():
    scores = score([], ["rest", "lick"])
    assert math.isnan(scores.macro_f1)
    assert math.isnan(scores.segment_f1[0.3])
    assert scores.support == {"rest": 0, "lick": 0}


def test_the_majority_baseline_says_the_commonest_training_class():
    trials = [result([0, 0, 1, 2], [0, 0, 1, 2])]
    baseline = majority_baseline(np.array([5, 90, 5]), trials)
    assert baseline[0].pred.tolist() == [1, 1, 1, 1]
    assert score(baseline, ["rest", "lick", "walk"]).macro_f1 == pytest.approx((0 + 2 / 5 + 0) / 3)
    assert trials[0].pred.tolist() == [0, 0, 1, 2]
