from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipeline.demo.behaviour import Act, perform
from pipeline.demo.mouse import KEYPOINTS, Motion, make_animal, move

SIZE = (320, 240)


def pose_of(name: str, seed: int, n_frames: int = 90):
    rng = np.random.default_rng(seed)
    animal = make_animal("1M", rng)
    return animal, move(perform([Act(name, 0, n_frames)], n_frames, animal, rng), animal, SIZE, rng)


def test_left_is_where_a_camera_below_sees_it():
    """Seen from below an animal that heads up the picture has its left paws on the right."""
    _, pose = pose_of("rest", 0)
    axis = pose.spine[0, -1] - pose.spine[0, 0]
    for left, right in ((0, 1), (2, 3)):
        across = pose.paws[0, left] - pose.paws[0, right]
        assert axis[0] * across[1] - axis[1] * across[0] > 0


def test_feet_stand_still_under_a_still_animal():
    rng = np.random.default_rng(0)
    pose = move(Motion.still(40), make_animal("1M", rng), SIZE, rng)
    assert np.ptp(pose.paws, axis=0).max() < 1e-6
    assert pose.lift.max() == 0
    assert np.ptp(pose.girth) > 0  # it breathes


@pytest.mark.parametrize("seed", range(3))
def test_a_walker_crosses_the_floor_and_each_paw_steps(seed):
    _, pose = pose_of("walk", seed)
    path = np.linalg.norm(np.diff(pose.spine[:, 3], axis=0), axis=1).sum()
    assert path > pose.body_px
    assert (pose.lift.max(axis=0) > 0.5).all()
    standing = pose.lift[1:-1] == 0
    slip = np.linalg.norm(np.diff(pose.paws, axis=0), axis=2)[:-1][standing]
    assert np.median(slip) < 0.5


def test_a_licking_mouth_is_at_the_sore_paw():
    animal, pose = pose_of("paw_lick", 3)
    to_sore = np.linalg.norm(pose.spine[20:70, -1] - pose.paws[20:70, 2 + animal.sore], axis=1)
    assert np.median(to_sore) < 0.25 * pose.body_px
    _, calm = pose_of("rest", 3)
    assert np.linalg.norm(calm.spine[:, -1] - calm.paws[:, 2 + animal.sore], axis=1).min() > 0.4 * calm.body_px


def test_a_shaken_paw_beats_at_8_to_15_hz():
    animal, pose = pose_of("paw_shake", 5, n_frames=60)
    paw = pose.paws[6:54, 2 + animal.sore]
    power = np.abs(np.fft.rfft(paw - paw.mean(axis=0), axis=0)) ** 2
    hertz = np.fft.rfftfreq(len(paw), 1 / 30)
    assert power[hertz >= 7.5].sum() > 0.6 * power.sum()


@pytest.mark.parametrize("name", ["rest", "walk", "active", "paw_lick"])
def test_keypoints_stay_in_the_picture(name):
    for seed in range(8):
        _, pose = pose_of(name, seed)
        assert pose.keypoints.shape == (90, len(KEYPOINTS), 2)
        inside = (pose.keypoints >= 0).all(axis=2) & (pose.keypoints < SIZE).all(axis=2)
        assert inside.mean() > 0.97


def test_animals_differ_and_a_seed_fixes_them():
    first, again, other = (make_animal("1M", np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first == again
    changed = [f.name for f in dataclasses.fields(first) if getattr(first, f.name) != getattr(other, f.name)]
    assert {"length", "fur", "tempo", "vigour", "skin"} <= set(changed)
