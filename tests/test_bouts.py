from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import bouts
from pipeline.bouts import Bout

some_labels = st.lists(st.integers(-1, 2), max_size=40).map(lambda ids: np.array(ids, np.int64))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param([], [], id="no frames"),
        pytest.param([-1, -1], [], id="unlabelled"),
        pytest.param([0, 0, 0], [Bout(0, 0, 3)], id="one"),
        pytest.param([0, 1, 1, 0], [Bout(0, 0, 1), Bout(1, 1, 3), Bout(0, 3, 4)], id="three"),
        pytest.param([2, 2, -1, 2], [Bout(2, 0, 2), Bout(2, 3, 4)], id="unlabelled frames break a bout"),
    ],
)
def test_find(labels, expected):
    assert bouts.find(np.array(labels, np.int16)) == expected


@settings(deadline=None)
@given(some_labels)
def test_painting_the_bouts_gives_the_labels_back(labels):
    painted = np.full(len(labels), -1)
    for bout in bouts.find(labels):
        assert (painted[bout.start : bout.stop] == -1).all()
        painted[bout.start : bout.stop] = bout.class_id
    assert (painted == labels).all()


@settings(deadline=None)
@given(some_labels)
def test_neighbours_of_one_class_are_never_left_apart(labels):
    found = bouts.find(labels)
    for left, right in pairwise(found):
        assert left.stop < right.start or left.class_id != right.class_id


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param((0, 10), (0, 10), 1.0, id="same"),
        pytest.param((0, 10), (10, 20), 0.0, id="touching"),
        pytest.param((0, 10), (5, 15), 5 / 15, id="half"),
        pytest.param((0, 10), (2, 5), 0.3, id="inside"),
    ],
)
def test_iou_whatever_the_class(a, b, expected):
    assert bouts.iou(Bout(0, *a), Bout(1, *b)) == expected
    assert bouts.iou(Bout(1, *b), Bout(0, *a)) == expected


@settings(deadline=None)
@given(some_labels, some_labels)
def test_overlapping_finds_every_pair_that_shares_a_frame(a, b):
    left, right = bouts.find(a), bouts.find(b)
    expected = [
        (i, j)
        for i, p in enumerate(left)
        for j, q in enumerate(right)
        if set(range(p.start, p.stop)) & set(range(q.start, q.stop))
    ]
    assert sorted(bouts.overlapping(left, right)) == expected


@pytest.mark.parametrize("values", [(0, 5, 5), (0, -1, 4), (-1, 0, 4)], ids=["empty", "before the trial", "no class"])
def test_a_bout_that_cannot_be_is_refused(values):
    with pytest.raises(ValueError, match="expected 0 <= start < stop"):
        Bout(*values)


def test_find_takes_one_trial():
    with pytest.raises(ValueError, match=r"expected the labels of one trial, \(T,\), found shape \(2, 3\)"):
        bouts.find(np.zeros((2, 3), int))
