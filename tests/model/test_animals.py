from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.animals import SIDES, animals, entry, exchanged
from pipeline.model.pose_graph import PARTS

MICE = ("individual1_nose", "individual1_tail", "individual2_nose", "individual2_tail")
names = st.from_regex(r"[a-z]{3,8}[0-9]?", fullmatch=True).filter(lambda name: name not in SIDES | {"base", "tip"})


@pytest.mark.parametrize(
    ("keypoints", "expected"),
    [
        (MICE, ((0, 1), (2, 3))),
        (("a_x_nose", "b_x_tail", "b_x_nose", "a_x_tail"), ((0, 3), (2, 1))),
        (("track_0_nose", "track_0_tail_base", "track_1_nose", "track_1_tail_base"), ((0, 1), (2, 3))),
        (("m1_l_ear", "m1_r_ear", "m2_l_ear", "m2_r_ear"), ((0, 1), (2, 3))),
        (("m1_nose", "m1_1", "m2_nose", "m2_1"), ((0, 1), (2, 3))),
    ],
    ids=["two", "in any order", "names with a _", "sides", "a numbered part among others"],
)
def test_several_animals(keypoints: tuple[str, ...], expected: tuple[tuple[int, ...], ...]) -> None:
    assert animals(keypoints) == expected


@pytest.mark.parametrize(
    "keypoints",
    [
        PARTS,
        ("L_paw", "L_ear", "R_paw", "R_ear"),
        ("left_front_paw", "left_front_wrist", "right_front_paw", "right_front_wrist"),
        ("paw_L", "paw_R", "ear_L", "ear_R"),
        ("paw_1", "paw_2", "tail_1", "tail_2"),
        ("ear_base", "ear_tip", "tail_base", "tail_tip"),
        (*MICE, "individual2_ear"),
        (*MICE, "cage"),
        ("m1_nose", "m2_nose"),
        ("m1_nose", "m1_tail"),
        ("_nose", "_tail", "m_nose", "m_tail"),
        ("m1_", "m1_nose", "m2_", "m2_nose"),
        ("nose",),
        (),
    ],
    ids=lambda keypoints: " ".join(keypoints) or "none",
)
def test_one_animal_with_all_keypoints(keypoints: tuple[str, ...]) -> None:
    assert animals(keypoints) == (tuple(range(len(keypoints))),)


@given(
    individuals=st.lists(names, min_size=2, max_size=4, unique=True),
    parts=st.lists(names, min_size=2, max_size=5, unique=True),
    seed=st.integers(0, 999),
)
def test_animals_are_found_in_any_order_of_the_keypoints(individuals: list[str], parts: list[str], seed: int) -> None:
    keypoints = [f"{individual}_{part}" for individual in individuals for part in parts]
    np.random.default_rng(seed).shuffle(keypoints)
    found = animals(keypoints)
    assert sorted(index for group in found for index in group) == list(range(len(keypoints)))
    words = [[keypoints[index].split("_") for index in group] for group in found]
    assert {group[0][0] for group in words} == set(individuals)
    assert all(len({individual for individual, _ in group}) == 1 for group in words)
    assert len({tuple(part for _, part in group) for group in words}) == 1


@given(st.lists(st.from_regex(r"[A-Za-z_]{1,9}", fullmatch=True), unique=True, max_size=9))
def test_whatever_the_names_every_keypoint_is_of_one_animal(keypoints: list[str]) -> None:
    found = animals(keypoints)
    assert sorted(index for group in found for index in group) == list(range(len(keypoints)))
    assert len({len(group) for group in found}) == 1


def test_animals_that_change_places() -> None:
    groups = ((0, 3), (2, 1), (4, 5))
    assert exchanged(groups, 7, (0, 1, 2)) == list(range(7))
    assert exchanged(groups, 7, (1, 0, 2)) == [2, 3, 0, 1, 4, 5, 6]
    assert exchanged(groups, 7, (1, 2, 0)) == [2, 5, 4, 1, 0, 3, 6]


@given(st.permutations(range(4)))
def test_an_exchange_puts_each_animal_where_it_should_be_and_back(order: list[int]) -> None:
    groups = ((0, 4), (1, 5), (2, 6), (3, 7))
    index = exchanged(groups, 8, order)
    for animal, other in enumerate(order):
        assert [index[here] for here in groups[animal]] == list(groups[other])
    back = exchanged(groups, 8, np.argsort(order).tolist())
    assert [index[k] for k in back] == list(range(8))


@given(st.integers(0, 150), st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_entry_is_found_although_tracks_are_lost_and_made_up(alone: int, seed: int, other: int) -> None:
    """Of 300 frames, `alone` before it: the intruder is then seen in 1 of 10 frames, and afterwards in 6 of 10."""
    together = np.zeros(300, bool)
    for start, stop, share in ((0, alone, 0.1), (alone, 300, 0.6)):
        for block in range(start, stop, 10):
            n = min(10, stop - block)
            together[block : block + n][np.random.default_rng((seed, block)).permutation(n)[: round(share * n)]] = True
    visible = np.zeros((300, 4), bool)
    visible[:, 0] = True
    visible[np.arange(300), 2 + np.random.default_rng(other).integers(0, 2, 300)] = together
    found = entry(visible, ((0, 1), (2, 3)))
    assert found is not None
    assert abs(found - alone) <= 10
    assert together[found]
    # The score of every frame, one by one.
    score = [sum(together[frame:]) - 0.25 * (300 - frame) for frame in range(300)]
    assert score[found] == max(score)


def test_no_entry_without_several_animals() -> None:
    seen = np.ones((9, 4), bool)
    assert entry(seen, ((0, 1, 2, 3),)) is None
    assert entry(seen[:0], ((0, 1), (2, 3))) is None
    assert entry(~seen, ((0, 1), (2, 3))) is None
    assert entry(seen, ((0, 1), (2, 3))) == 0
