from __future__ import annotations

import numpy as np
import pytest

from pipeline.demo.behaviour import perform
from pipeline.demo.mouse import make_animal, move
from pipeline.demo.script import CLASS_NAMES, TRIAL_FRAMES, annotate, write_trials


def cast(n_trials: int, seed: int):
    rng = np.random.default_rng(seed)
    animals = [make_animal(f"{i}M", rng) for i in range(max(2, n_trials // 6))]
    return [animals[i % len(animals)] for i in range(n_trials)], rng


@pytest.fixture(scope="module")
def many():
    return write_trials(*cast(400, 0))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("rest", 0.70, 0.80),
        ("paw_withdraw", 0.015, 0.04),
        ("paw_lick", 0.01, 0.035),
        ("paw_guard", 0.005, 0.03),
        ("paw_shake", 0.007, 0.03),
        ("flinch", 0.003, 0.03),
        ("walk", 0.025, 0.09),
        ("active", 0.08, 0.20),
    ],
)
def test_share_of_a_class_is_that_of_real_data(many, name, low, high):
    truth = np.concatenate([trial.truth for trial in many])
    assert low < np.mean(truth == CLASS_NAMES.index(name)) < high


@pytest.mark.parametrize(
    ("name", "shortest_s", "longest_s"),
    [("paw_withdraw", 0.3, 2.0), ("flinch", 0.1, 0.3), ("paw_lick", 0.5, 4.0), ("paw_shake", 0.2, 0.8)],
)
def test_bouts_have_realistic_lengths(many, name, shortest_s, longest_s):
    lengths = [a.stop - a.start for trial in many for a in trial.acts if a.name == name and a.stop < TRIAL_FRAMES]
    assert min(lengths) >= round(30 * shortest_s)
    assert max(lengths) <= round(30 * longest_s)
    assert len(set(lengths)) > 3


@pytest.mark.parametrize("seed", range(4))
def test_a_small_data_set_has_every_class(seed):
    truth = np.concatenate([trial.truth for trial in write_trials(*cast(24, seed))])
    assert set(truth.tolist()) == set(range(len(CLASS_NAMES)))
    assert 0.62 < np.mean(truth == 0) < 0.85


def test_acts_cover_a_trial_and_answers_follow_the_stimulus(many):
    for trial in many:
        assert trial.acts[0].start == 0
        assert trial.acts[-1].stop == TRIAL_FRAMES
        assert all(a.stop == b.start for a, b in zip(trial.acts, trial.acts[1:], strict=False))
        pain = [a.start for a in trial.acts if a.name in CLASS_NAMES[1:6]]
        assert all(start > trial.stim_frame for start in pain)


def test_labels_are_the_truth_but_for_borders_and_doubtful_bouts(many):
    rng = np.random.default_rng(0)
    wrong = np.concatenate([annotate(trial, rng) != trial.truth for trial in many])
    assert 0.005 < wrong.mean() < 0.05
    borders = [act.start for act in many[0].acts[1:]]
    far = [t for t in range(TRIAL_FRAMES) if all(abs(t - border) > 3 for border in borders)]
    heard = np.stack([annotate(many[0], np.random.default_rng(seed)) for seed in range(5)])
    assert np.mean(heard[:, far] == many[0].truth[far]) > 0.95


def test_a_paw_leaves_the_floor_only_where_the_script_says(many):
    """The sore paw is up in most frames of a withdrawal, down in most frames of rest, and beats in a shake."""
    animals, rng = cast(400, 0)
    lift, beat = {name: [] for name in CLASS_NAMES}, {name: [] for name in CLASS_NAMES}
    for trial, animal in list(zip(many, animals, strict=True))[:120]:
        pose = move(perform(trial.acts, TRIAL_FRAMES, animal, rng), animal, (320, 240), rng)
        paw = 2 + animal.sore
        jerk = np.linalg.norm(np.diff(pose.paws[:, paw], 2, axis=0, prepend=0, append=0), axis=1) / pose.body_px
        for act in (a for a in trial.acts if a.stop - a.start > 5):
            lift[act.name].append(pose.lift[act.start + 2 : act.stop - 2, paw].mean())
            beat[act.name].append(np.median(jerk[act.start + 2 : act.stop - 2]))
    assert np.median(lift["paw_withdraw"]) > 0.4
    assert np.median(lift["paw_guard"]) > 0.3
    assert np.median(lift["rest"]) < 0.1
    assert np.median(beat["paw_shake"]) > 5 * np.median(beat["paw_withdraw"])
