from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.train.windows import Window, class_counts, every_window, plan_epoch, rare_boost, tiles
from pipeline.train_settings import TrainSettings

REST, LICK, SHAKE = 0, 1, 2
NO_BOOST = np.ones(3)


def trial(n_frames: int = 360, **bouts: tuple[int, int]) -> np.ndarray:
    labels = np.full(n_frames, REST)
    for name, (start, stop) in bouts.items():
        labels[start:stop] = {"lick": LICK, "shake": SHAKE, "unlabelled": -1}[name]
    return labels


@settings(deadline=None)
@given(st.integers(0, 2000), st.integers(0, 400))
def test_tiles_hold_each_frame_once(n_frames, T):
    ranges = tiles(n_frames, T)
    assert [i for start, stop in ranges for i in range(start, stop)] == list(range(n_frames))
    lengths = [stop - start for start, stop in ranges]
    assert not T or max(lengths, default=0) <= T
    assert not lengths or (min(lengths) > 0 and max(lengths) - min(lengths) <= 1)
    assert len(ranges) == (0 if not n_frames else -(-n_frames // T) if T else 1)


def test_tiles_of_a_cropped_trial():
    assert tiles(345, 180) == [(0, 172), (172, 345)]
    assert every_window([345, 100], 180) == [Window(0, 0, 172), Window(0, 172, 345), Window(1, 0, 100)]


def test_a_class_of_short_bouts_is_rare_although_no_trial_is_mostly_it():
    labels = [trial(lick=(100, 103)), trial(unlabelled=(0, 180)), trial()]
    counts = class_counts(labels, 3)
    assert counts.tolist() == [360 - 3 + 180 + 360, 3, 0]
    boost = rare_boost(counts / counts.sum(), 0.02, 30.0)
    assert boost.tolist() == pytest.approx([1, 0.02 * 900 / 3, 1])


@pytest.mark.parametrize(
    ("share", "threshold", "cap", "expected"),
    [
        pytest.param(0.01, 0.02, 30, 2, id="half the threshold"),
        pytest.param(0.0001, 0.02, 30, 30, id="capped"),
        pytest.param(0.0001, 0.02, 12, 12, id="another cap"),
        pytest.param(0.01, 0.04, 30, 4, id="another threshold"),
        pytest.param(0.02, 0.02, 30, 1, id="at the threshold"),
        pytest.param(0.01, 0.0, 30, 1, id="threshold 0"),
        pytest.param(0.0, 0.02, 30, 1, id="absent"),
    ],
)
def test_rare_boost(share, threshold, cap, expected):
    assert rare_boost(np.array([share, 1 - share]), threshold, cap) == pytest.approx([expected, 1])


def test_the_settings_reach_the_plan():
    labels = [trial(lick=(50, 53))] + [trial() for _ in range(9)]

    def drawn(settings: TrainSettings) -> int:
        counts = class_counts(labels, 3)
        boost = rare_boost(counts / counts.sum(), settings.rare_threshold_share, settings.rare_boost_cap)
        windows = plan_epoch(labels, 60, boost, settings.seed, 0)
        return sum(LICK in labels[w.clip][w.start : w.stop] for w in windows)

    counts = [
        drawn(TrainSettings(rare_threshold_share=share, rare_boost_cap=cap))
        for share, cap in [(0.0, 30.0), (0.02, 5.0), (0.02, 30.0)]
    ]
    assert counts[0] < counts[1] < counts[2]


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(-1, 2), min_size=1, max_size=50), max_size=5),
    st.integers(0, 30),
    st.lists(st.floats(1, 30), min_size=3, max_size=3),
    st.integers(0, 5),
)
def test_windows_lie_in_their_clips_and_are_as_many_as_tiles(ids, T, boost, epoch):
    labels = [np.array(clip) for clip in ids]
    lengths = [len(clip) for clip in labels]
    windows = plan_epoch(labels, T, np.array(boost), 123, epoch)
    assert len(windows) == len(every_window(lengths, T))
    for window in windows:
        whole = lengths[window.clip]
        assert 0 <= window.start < window.stop <= whole
        assert window.n_frames == (min(T, whole) if T else whole)


def test_without_boosts_each_tile_is_shown_once():
    labels = [trial(), trial(345), trial(200), trial(90)]
    for epoch in range(5):
        assert Counter(w.clip for w in plan_epoch(labels, 180, NO_BOOST, 1, epoch)) == {0: 2, 1: 2, 2: 2, 3: 1}


def test_windows_drawn_for_a_rare_class_hold_it_at_every_phase():
    labels = [trial(lick=(100, 104), shake=(300, 302))]
    boost = np.array([1.0, 20.0, 30.0])
    windows = [w for epoch in range(300) for w in plan_epoch(labels, 60, boost, 7, epoch)]
    phases = {LICK: set(), SHAKE: set()}
    for window in windows:
        inside = labels[0][window.start : window.stop]
        for class_id in set(inside.tolist()) - {REST}:
            phases[class_id].add(int(np.flatnonzero(inside == class_id)[0]))
    lick, shake = (sum(c in labels[0][w.start : w.stop] for w in windows) / len(windows) for c in (LICK, SHAKE))
    # weights of the six tiles: 20 (lick), 30 (shake), 4 x 1; some unboosted windows reach a bout by chance
    assert 20 / 54 < lick < 20 / 54 + 0.05
    assert 30 / 54 < shake < 30 / 54 + 0.05
    assert phases[LICK] == set(range(60))
    assert phases[SHAKE] == set(range(60))


def test_a_tile_with_two_frames_of_a_rare_class_is_drawn_as_often_as_a_tile_full_of_it():
    labels = [trial(90, lick=(10, 40)), trial(30)]
    labels[0][80:82] = LICK
    held = Counter()
    for epoch in range(400):
        for window in plan_epoch(labels, 30, np.array([1.0, 30.0, 1.0]), 3, epoch):
            if window.clip == 0 and LICK in labels[0][window.start : window.stop]:
                held["short" if window.start > 52 - 1 else "long"] += 1
    # tiles (0, 30) and (30, 60) hold parts of the long bout, (60, 90) the short one: a third of the draws each
    assert held["short"] / held.total() == pytest.approx(1 / 3, abs=0.03)


def test_every_frame_is_seen_about_equally_often_without_boosts():
    seen = np.zeros(360)
    for epoch in range(2000):
        for window in plan_epoch([trial()], 180, NO_BOOST, 5, epoch):
            seen[window.start : window.stop] += 1 / 2000
    assert seen.min() > 0.4
    assert seen.max() < 1.6


def test_a_plan_depends_on_seed_and_epoch_alone():
    labels = [trial(lick=(50, 60)), trial(345), trial(unlabelled=(0, 360))]
    boost = np.array([1.0, 3.0, 1.0])
    first = plan_epoch(labels, 60, boost, 123, 4)
    assert plan_epoch(labels, 60, boost, 123, 4) == first
    assert plan_epoch(labels, 60, boost, 123, 5) != first
    assert plan_epoch(labels, 60, boost, 124, 4) != first


def test_unlabelled_clips_are_shown_too():
    labels = [trial(unlabelled=(0, 360)), trial()]
    assert {w.clip for w in plan_epoch(labels, 180, NO_BOOST, 1, 0)} == {0, 1}


def test_what_has_no_label_is_left_out_where_it_teaches_nothing():
    labels = [trial(unlabelled=(0, 360)), trial(unlabelled=(0, 180)), trial()]
    for epoch in range(20):
        windows = plan_epoch(labels, 180, NO_BOOST, 1, epoch, labelled_only=True)
        assert Counter(w.clip for w in windows) == {1: 1, 2: 2}
