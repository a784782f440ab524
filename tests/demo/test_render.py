from __future__ import annotations

import dataclasses

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.demo.behaviour import Act, perform
from pipeline.demo.dataset import write_video
from pipeline.demo.mouse import make_animal, move
from pipeline.demo.render import code, film, make_scene, read_code

SIZE = (320, 240)


@given(number=st.integers(0, 65535), width=st.sampled_from([96, 160, 320, 641]), colour=st.booleans())
def test_code_reads_as_written(number, width, colour):
    frame = np.full((120, width, 3)[: 2 + colour], 90, np.uint8)
    code(frame, number)
    assert read_code(frame) == number


@pytest.mark.parametrize("number", [-1, 65536])
def test_code_refuses_a_number_that_does_not_fit(number):
    with pytest.raises(ValueError, match="0 to 65535, found"):
        code(np.zeros((240, 320), np.uint8), number)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (224, 168), (160, 120), (96, 72)])
def test_code_survives_compression_and_scaling(tmp_path, width, height):
    rng = np.random.default_rng(0)
    numbers = [0, 1, 359, 360, 719, 21845, 43690, 65535, *rng.integers(0, 65536, 30).tolist()]
    frames = [rng.integers(0, 256, (240, 320)).astype(np.uint8) for _ in numbers]
    for frame, number in zip(frames, numbers, strict=True):
        code(frame, number)
    write_video(tmp_path / "a.mp4", frames, np.array([2, -3]))
    with av.open(str(tmp_path / "a.mp4")) as video:
        shown = [f.to_ndarray(width=width, height=height, format="rgb24") for f in video.decode(video=0)]
    assert [read_code(frame) for frame in shown] == numbers
    assert [read_code(frame[:, :, 0]) for frame in shown] == numbers


def shots(name: str, seed: int, n_frames: int = 12, probe_xy: np.ndarray | None = None):
    rng = np.random.default_rng(seed)
    animal = dataclasses.replace(make_animal("1M", rng), fur=70.0, skin=190.0)
    pose = move(perform([Act(name, 0, n_frames)], n_frames, animal, rng), animal, SIZE, rng)
    scene = make_scene(SIZE, rng)
    probe = np.full((n_frames, 2), np.nan) if probe_xy is None else probe_xy
    return scene, pose, np.stack(list(film(scene, animal, pose, probe, rng)))


@pytest.mark.parametrize("seed", range(5))
def test_keypoints_lie_on_the_drawn_parts(seed):
    """A standing paw is brighter at its keypoint than its surroundings are."""
    _, pose, frames = shots("rest", seed)
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    brighter = []
    for t in range(len(frames)):
        for paw in np.flatnonzero(pose.lift[t] < 0.05):
            away = np.hypot(x - pose.paws[t, paw, 0], y - pose.paws[t, paw, 1])
            brighter.append(frames[t][away < 2.5].mean() - np.median(frames[t][(away > 12) & (away < 24)]))
    assert np.mean(np.array(brighter) > 10) > 0.9


def test_a_lifted_paw_is_darker_than_a_standing_one():
    rng = np.random.default_rng(0)
    animal, scene = make_animal("1M", rng), make_scene(SIZE, rng)
    pose = move(perform([Act("rest", 0, 1)], 1, animal, rng), animal, SIZE, rng)
    pose = dataclasses.replace(pose, **{f: np.repeat(getattr(pose, f), 2, axis=0) for f in POSE_ARRAYS})
    pose.lift[:] = [[0, 0, 0, 0], [0, 0, 1, 0]]
    standing, lifted = film(scene, animal, pose, np.full((2, 2), np.nan), rng)
    x, y = pose.paws[0, 2].astype(int)
    spot = (slice(y - 2, y + 3), slice(x - 2, x + 3))
    assert lifted[spot].mean() < standing[spot].mean() - 8


def test_the_mouse_fills_a_20th_to_an_8th_of_the_picture():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        animal = make_animal("1M", rng)
        pose = move(perform([Act("rest", 0, 2)], 2, animal, rng), animal, SIZE, rng)
        scene = make_scene(SIZE, rng)
        black = dataclasses.replace(
            scene, floor=np.full_like(scene.floor, -1e4), veil=np.ones_like(scene.veil), noise=0
        )
        image = next(film(black, animal, pose, np.full((2, 2), np.nan), rng))
        assert 1 / 26 < np.mean(image > 20 + scene.haze) < 1 / 7


def test_the_rod_is_in_the_picture_only_where_it_is_said_to_be():
    probe = np.full((4, 2), np.nan)
    probe[2] = 160, 120
    _, _, with_rod = shots("rest", 1, 4, probe)
    _, _, without = shots("rest", 1, 4)
    changed = [np.mean(np.abs(a.astype(int) - b) > 8) for a, b in zip(with_rod, without, strict=True)]
    assert changed[2] > 0.002
    assert max(changed[0], changed[1], changed[3]) == 0


POSE_ARRAYS = ("spine", "paws", "tail", "heading", "head_heading", "paw_heading", "lift", "curl", "girth", "rear")
