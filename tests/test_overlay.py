"""What a person sees of a clip: every frame of it, with each keypoint's colour at the keypoint's place."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from matplotlib import colors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

import cache as clip_cache
from pipeline import contact_sheet, overlay
from pipeline.contact_sheet import HEADER
from pipeline.overlay import ClipError, Overlay, chosen_frames, find_clip, parse_part
from pipeline.pictures import class_colours
from tests_support import N_FRAMES, write_small_cache


@pytest.fixture(scope="module")
def clips(small_cache: Path) -> clip_cache.Cache:
    return clip_cache.open(small_cache)


@pytest.fixture(scope="module")
def seen(clips, tmp_path_factory: pytest.TempPathFactory) -> tuple[Overlay, list[Path]]:
    out = tmp_path_factory.mktemp("seen") / "new"
    return Overlay.of(clips[0], 0.9), contact_sheet.inspect(clips[0], out, likelihood_thr=0.9)


def near(picture: np.ndarray, x: float, y: float, colour: str, reach: int = 3) -> bool:
    """Whether the colour is found within `reach` pixels of a place; H.264 changes colours by some levels."""
    part = picture[int(y) - reach : int(y) + reach + 1, int(x) - reach : int(x) + reach + 1, :3].astype(float)
    return bool((np.abs(part - np.array(colors.to_rgb(colour)) * 255).max(axis=-1) < 50).any())


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_the_video_has_every_frame_of_the_clip(seen) -> None:
    shown, (_, video) = seen
    frames = frames_of(video)
    assert len(frames) == len(shown.clip)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, float(stream.average_rate)) == ("h264", "yuv420p", 30.0)
        assert min(stream.width, stream.height) >= 448


def test_keypoints_stand_in_the_video_where_the_cache_has_them(seen) -> None:
    shown, (_, video) = seen
    side = contact_sheet._shown_side(shown.clip)
    n_filled = 0
    for t, picture in enumerate(frames_of(video)):
        for (x, y), visible, colour in zip(shown.xy[t], shown.visible[t], shown.colours, strict=True):
            if visible:
                n_filled += near(picture, x * side, HEADER + y * side, colour)
    # Some lie under others.
    assert n_filled > 0.9 * shown.visible.sum()


def test_the_cursor_and_the_label_go_with_the_frame(seen) -> None:
    shown, (_, video) = seen
    frames = frames_of(video)
    height, width = frames[0].shape[:2]
    colours = class_colours(len(shown.clip.class_names))
    for t in (0, 10, 20, 47):
        cursor = 14 + (t + 0.5) / N_FRAMES * (width - 28)
        assert near(frames[t], cursor, height - 57, "black")
        assert not near(frames[(t + 20) % N_FRAMES], cursor, height - 57, "black", reach=1)
        label_box = frames[t][height - contact_sheet.FOOTER + 2 : height - 80, 16:70]
        face = np.array(colors.to_rgb(colours[shown.labels[t]])) * 255
        assert (np.abs(label_box - face).max(axis=-1) < 40).mean() > 0.2


@pytest.mark.parametrize("frames", [True, False], ids=["video", "pose alone"])
def test_keypoints_stand_in_the_sheet_where_the_cache_has_them(clips, tmp_path: Path, frames: bool) -> None:
    if not frames:
        clips = clip_cache.open(write_small_cache(tmp_path / "cache", recordings=2, frames=False))
    shown = Overlay.of(clips[0], 0.9)
    chosen = chosen_frames(shown.labels, 8)
    figure = contact_sheet.sheet_figure(shown, chosen)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())
    cells = [axes for axes in figure.axes if axes.get_title()]
    assert len(cells) == len(chosen)
    n_found = 0
    for axes, t in zip(cells, chosen, strict=True):
        assert axes.get_title().startswith(f"frame {t} ")
        x, y = axes.transData.transform(shown.xy[t][shown.visible[t]]).T
        colours = np.array(shown.colours)[shown.visible[t]]
        n_found += sum(near(picture, *place) for place in zip(x, len(picture) - y, colours, strict=True))
    assert n_found > 0.9 * shown.visible[chosen].sum()


def test_bones_join_what_stays_together() -> None:
    """Two chains of three points that walk about, each on its own; a point that is never seen joins nothing."""
    rng = np.random.default_rng(0)
    walk = rng.uniform(0.2, 0.8, (200, 2, 1, 2))
    xy = (walk + np.array([[0, 0], [0.03, 0], [0.06, 0]])).reshape(200, 6, 2)
    xy = np.concatenate([xy, np.full((200, 1, 2), np.nan)], axis=1)
    bones = {tuple(sorted(bone)) for bone in overlay._bones(xy)}
    assert bones == {(0, 1), (1, 2), (3, 4), (4, 5)}


def test_a_point_below_the_threshold_is_hollow(clips) -> None:
    shown = Overlay.of(clips[0], 0.95)
    axes = contact_sheet.sheet_figure(shown, [5]).axes[0]
    faces = axes.collections[0].get_facecolors()[:, 3]
    np.testing.assert_array_equal(faces == 1, shown.visible[5])
    assert 0 < shown.visible[5].sum() < 6


def test_the_sheet_is_written(seen) -> None:
    picture = imread(seen[1][0])
    assert picture.shape[0] > 1000
    assert picture[..., :3].std() > 0.1


def test_the_sheet_says_where_the_label_changes(clips) -> None:
    shown = Overlay.of(clips[0], 0.9)
    change = int(np.flatnonzero(np.diff(shown.labels))[0]) + 1
    axes = contact_sheet.sheet_figure(shown, [change - 1, change]).axes
    before, after = (shown.clip.class_names[shown.labels[t]] for t in (change - 1, change))
    assert [a.get_xlabel() for a in axes[:2]] == [before, f"{before} → {after}"]


@pytest.mark.parametrize(
    ("labels", "n", "held"),
    [
        pytest.param([0] * 50, 10, {0, 49}, id="no change"),
        pytest.param([0] * 20 + [1] * 30, 10, {0, 19, 20, 49}, id="one change"),
        pytest.param([0, 1] * 50, 12, {0, 1, 98, 99}, id="more changes than fit"),
        pytest.param([0, 0, 1], 10, {0, 1, 2}, id="short"),
        pytest.param([-1], 10, {0}, id="one frame"),
    ],
)
def test_the_chosen_frames(labels: list[int], n: int, held: set[int]) -> None:
    chosen = chosen_frames(np.array(labels), n)
    assert held <= set(chosen)
    assert len(chosen) == min(n, len(labels)) or len(set(labels)) > 1
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= n


def test_a_part_of_a_clip(clips, tmp_path: Path) -> None:
    _, video = contact_sheet.inspect(clips[1], tmp_path, likelihood_thr=0.9, part=parse_part("40:", N_FRAMES))
    assert len(frames_of(video)) == 8


@pytest.mark.parametrize("text", ["48:", "5:5", "a:b", "7", "-3:4"])
def test_a_part_that_is_none(text: str) -> None:
    with pytest.raises(ClipError, match="expected START:STOP within the clip's 48 frames"):
        parse_part(text, 48)


@pytest.mark.parametrize("name", ["mouse_00M_a/2", "mouse_00M_a_2"])
def test_a_clip_is_found_by_its_name(clips, name: str) -> None:
    clip = find_clip(clips, name)
    assert (clip.recording, clip.trial) == ("mouse_00M_a", 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mouse_00M_a", "2 clips of that name in .*; give one of mouse_00M_a/1, mouse_00M_a/2$"),
        ("00m", "no such clip in .*; expected RECORDING/TRIAL, for example mouse_00M_a/1, mouse_00M_a/2$"),
        ("mouse_01N_a_1", "for example mouse_01M_a/1"),
        ("xyz", "for example mouse_00M_a/1"),
    ],
)
def test_a_wrong_name_gets_near_ones(clips, name: str, message: str) -> None:
    with pytest.raises(ClipError, match=message):
        find_clip(clips, name)
