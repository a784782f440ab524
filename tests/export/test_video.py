"""Annotated videos: frame n shows trial frame n, with its keypoints, its labels and the cursor at its place."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from matplotlib import colors

from lab import HEIGHT, WIDTH, Lab
from pipeline.drawing import point_colours
from pipeline.export import video
from pipeline.export.formats import Format
from pipeline.export.stage import Asked, export
from pipeline.pictures import class_colours
from tables_lab import LENGTH, lived, write_predictions

SCALE = 4


def frames_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def picture_of(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    return frames[:, video.HEADER : video.HEADER + height, :width]


def numbers(frames: np.ndarray, width: int, height: int) -> np.ndarray:
    """What the pictures in the video's frames show."""
    above = (width - height) // 2
    square = np.pad(picture_of(frames, width, height), ((0, 0), (above, above), (0, 0), (0, 0)))
    return Lab.numbers(square.mean(-1, keepdims=True))


def near(picture: np.ndarray, x: float, y: float, colour: str, reach: int = 3) -> bool:
    """Whether the colour is found within `reach` pixels of a place; H.264 changes colours by some levels."""
    part = picture[int(y) - reach : int(y) + reach + 1, int(x) - reach : int(x) + reach + 1].astype(float)
    return bool((np.abs(part - np.array(colors.to_rgb(colour)) * 255).max(axis=-1) < 50).any())


@pytest.fixture(scope="module")
def made(filmed, tmp_path_factory: pytest.TempPathFactory) -> dict[int, np.ndarray]:
    out = tmp_path_factory.mktemp("videos")
    assert export(Asked(Format.VIDEO, filmed.predicted, cache=filmed.cache), out).exit_code == 0
    assert sorted(path.name for path in (out / "video").iterdir()) == ["export.json", "m_1M_1.mp4", "m_1M_2.mp4"]
    return {number: frames_of(out / "video" / f"m_1M_{number}.mp4") for number in (1, 2)}


def test_frame_n_shows_trial_frame_n(made) -> None:
    for number, frames in made.items():
        shown = numbers(frames, SCALE * WIDTH, SCALE * HEIGHT)
        np.testing.assert_array_equal(shown, np.arange(LENGTH) + LENGTH * (number - 1))


def test_keypoints_stand_where_the_model_puts_them(filmed, made) -> None:
    picture = picture_of(made[2], SCALE * WIDTH, SCALE * HEIGHT)
    places = SCALE * filmed.xy_px[LENGTH : 2 * LENGTH]
    found = [
        near(picture[t], *places[t, k], colour) for t in range(LENGTH) for k, colour in enumerate(point_colours(3))
    ]
    assert np.mean(found) > 0.9  # some lie under others


def test_labels_probabilities_and_cursor_go_with_the_frame(filmed, made) -> None:
    frames, true, said = made[2], filmed.true[LENGTH:], filmed.said[LENGTH:]
    height, width = frames.shape[1:3]
    left, span = video._LEFT, width - video._LEFT - 2 * video.MARGIN
    top = video.HEADER + SCALE * HEIGHT + video.MARGIN
    lanes = top + video.PROBABILITIES + video.MARGIN
    place = [left + (t + 0.5) / LENGTH * span for t in range(LENGTH)]
    palette = ["#ffffff", *class_colours(3)]
    for t in (0, 20, 40, 59):
        for y in (top + video.PROBABILITIES / 2, lanes + video.LANE, height - video.AXIS - 3):
            assert near(frames[t], place[t], y, "black", reach=2)
            assert not near(frames[(t + 30) % LENGTH], place[t], y, "black", reach=1)
        other = frames[(t + 30) % LENGTH]
        assert near(other, place[t], lanes + video.LANE / 2, palette[true[t] + 1], reach=1)
        assert near(other, place[t], lanes + video.LANE * 1.5, palette[said[t] + 1], reach=1)
        for p_below, share, label in zip(*_stacked(filmed.probabilities[LENGTH + t]), range(3), strict=True):
            if share > 0.2:
                y = top + video.PROBABILITIES * (1 - p_below - share / 2)
                assert near(other, place[t], y, palette[label + 1], reach=2)
        for i, label in enumerate((true[t], said[t])):
            chip = frames[t][video.HEADER + 8 + 26 * i :][:14, SCALE * WIDTH + 84 :][:, :30]
            face = np.array(colors.to_rgb(palette[label + 1])) * 255
            assert (np.abs(chip - face).max(axis=-1) < 40).mean() > 0.2


def _stacked(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.cumsum(probabilities) - probabilities, probabilities


def test_without_the_video_the_cache_s_frames_are_shown(filmed, tmp_path: Path) -> None:
    shutil.copytree(filmed.predicted, tmp_path / "p")
    hidden = filmed.videos.with_name("moved")
    filmed.videos.rename(hidden)
    try:
        asked = Asked(Format.VIDEO, tmp_path / "p", cache=filmed.cache, clips=("m_1M/2",))
        assert export(asked, tmp_path).exit_code == 0
        frames = frames_of(tmp_path / "video" / "m_1M_2.mp4")
        assert numbers(frames, 448, 336).tolist() == list(range(LENGTH, 2 * LENGTH))  # 64 x 48 cached pixels, 7 times
        found = export(dataclasses.replace(asked, to=Format.BORIS, videos=hidden), tmp_path)
        media = pd.read_csv(found.files[0])["Media file name"][0]
        assert (tmp_path / "boris" / media).samefile(hidden / "m_1M.mp4")
    finally:
        hidden.rename(filmed.videos)


def test_a_video_that_is_another_one_is_refused(filmed, tmp_path: Path) -> None:
    film = filmed.videos / "m_1M.mp4"
    kept = film.with_suffix(".kept")
    film.rename(kept)
    try:
        Lab(filmed.videos).video("m_1M.mp4", 125)
        made = export(Asked(Format.ALL, filmed.predicted), tmp_path)
    finally:
        kept.replace(film)
    ((name, to, why),) = made.left_out
    assert (name, to) == ("m_1M", "")
    assert "has 125 frames of 128x96, the video that was preprocessed had 130 of 128x96: preprocess again" in why


def test_of_many_trials_the_first_ones_are_shown(tmp_path: Path) -> None:
    folder = write_predictions(tmp_path / "p", {f"m{i}": [lived((1, 5, 9))] * 2 for i in range(2)})
    made = export(Asked(Format.VIDEO, folder, most_videos=1), tmp_path / "out")
    assert [path.name for path in made.files] == ["m0_1.mp4"]
    assert "videos of the first 1 of 4 trials; --clip RECORDING/TRIAL (repeatable) chooses others" in "".join(
        made.notes
    )
    assert len(frames_of(made.files[0])) == LENGTH  # no video: keypoints on white
