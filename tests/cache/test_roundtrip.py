"""What is written comes back, from every range of rows, in both formats."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import cache
from cache import hdf5_store


@pytest.fixture(scope="module", params=[1, 3], ids=["gray", "colour"])
def written(request, store, tmp_path_factory, make_meta, put):
    """An open cache of one recording of 345 + 360 + 361 frames, and the frames that were written."""
    path = tmp_path_factory.mktemp("cache")
    with cache.create(path, store=store) as writer:
        frames = put(writer, make_meta(lengths=(345, 360, 361), channels=request.param))
    return cache.open(path), frames


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(trial=st.integers(0, 2), a=st.integers(0, 400), length=st.integers(0, 400))
@example(trial=0, a=0, length=345)
@example(trial=1, a=14, length=2)  # rows 359 and 360: two files of the zarr store
@example(trial=1, a=0, length=360)
@example(trial=2, a=360, length=1)
def test_any_range_of_frames_comes_back(written, trial, a, length):
    opened, frames = written
    clip = opened[trial]
    first = [0, 345, 705][trial]
    a = min(a, len(clip))
    b = min(a + length, len(clip))
    assert np.array_equal(clip.frames[a:b], frames[first + a : first + b])
    buffer = np.full((b - a, *clip.frames.shape[1:]), 9, np.uint8)
    clip.frames.read_into(a, b, buffer)
    assert np.array_equal(buffer, frames[first + a : first + b])


def test_a_clip_has_its_own_rows(written, make_arrays):
    opened, frames = written
    expected = make_arrays(opened.recordings[0])
    assert [(clip.trial, len(clip)) for clip in opened] == [(1, 345), (2, 360), (3, 361)]
    for clip, rows in zip(opened, [slice(0, 345), slice(345, 705), slice(705, 1066)], strict=True):
        assert np.array_equal(clip.frames[:], frames[rows])
        for name, dtype in {
            "keypoints": "f4",
            "labels": "i2",
            "frame_index": "i4",
            "time_s": "f8",
            "intact": "?",
        }.items():
            values = getattr(clip, name)
            assert values.dtype == dtype
            assert np.array_equal(values, expected[name][rows].astype(dtype), equal_nan=name == "keypoints")


def test_a_clip_knows_where_it_came_from(written):
    clip = written[0][1]
    assert (clip.recording, clip.trial, clip.stim_frame, clip.fps) == ("mouse_1", 2, 30, 30.0)
    assert clip.class_names == written[0].class_names == ("rest", "walk")
    assert clip.keypoint_names == written[0].keypoint_names == ("mouth", "tail_base")
    assert clip.source == {
        "video": "mouse_1.mp4",
        "dlc": "mouse_1.csv",
        "annotation": "mouse_1_2.csv",
        "decoder": "pyav",
        "crop_start": 0,
        "first_frame": 360,
    }


def test_frames_index_like_an_array(written):
    opened, frames = written
    view = opened[0].frames
    assert np.array_equal(view[-1], frames[344])
    assert np.array_equal(view[-3:], frames[342:345])
    assert np.array_equal(view[340:999], frames[340:345])
    assert view[9:3].shape == (0, *view.shape[1:])
    with pytest.raises(IndexError):
        view[345]
    with pytest.raises(ValueError, match="without a step"):
        view[::2]


@pytest.mark.parametrize(
    ("a", "b", "shape", "dtype", "error"),
    [
        pytest.param(0, 346, (346, 12, 12), np.uint8, IndexError, id="into the next trial"),
        pytest.param(-1, 3, (4, 12, 12), np.uint8, IndexError, id="before the first row"),
        pytest.param(0, 3, (4, 12, 12), np.uint8, ValueError, id="buffer of another length"),
        pytest.param(0, 3, (3, 12, 12), np.float32, ValueError, id="buffer of another dtype"),
    ],
)
def test_read_into_checks_its_arguments(written, a, b, shape, dtype, error):
    view = written[0][0].frames
    with pytest.raises(error, match=r"expected|clip of 345 frames"):
        view.read_into(a, b, np.empty((*shape, view.shape[-1]), dtype))


def test_small_arrays_are_shared_and_read_only(written):
    clip = written[0][0]
    assert np.shares_memory(clip.labels, clip.labels)
    with pytest.raises(ValueError, match="read-only"):
        clip.labels[0] = 3


def test_threads_read_what_one_reads(written):
    opened, frames = written
    opened = cache.open(opened.path)  # not read yet: the threads open it at the same time
    wrong = []

    def read(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(30):
            trial, a, n = random.integers(3), random.integers(300), random.integers(1, 46)
            clip, first = opened[int(trial)], [0, 345, 705][trial] + a
            same = np.array_equal(clip.frames[int(a) : int(a + n)], frames[first : first + n])
            if not same or clip.frame_index[a] != first + 15:
                wrong.append((trial, a, n))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("n", [1, 59, 60, 360, 361, 720])
def test_lengths_around_chunks_and_files(store, tmp_path, make_meta, put, n):
    with cache.create(tmp_path, store=store) as writer:
        frames = put(writer, make_meta(lengths=(n,)), block=360)
    assert np.array_equal(cache.open(tmp_path)[0].frames[:], frames)


def test_zeros_are_data(store, tmp_path, make_meta, make_arrays):
    meta = make_meta()
    zeros = {name: np.zeros_like(values) for name, values in make_arrays(meta).items()}
    with cache.create(tmp_path, store=store) as writer:
        recording = writer.writer("mouse_1")
        recording.append_frames(np.zeros((meta.n_frames, *meta.frame_shape), np.uint8))
        recording.finish(meta, **zeros)
    clip = cache.open(tmp_path)[1]
    for values in (clip.frames[:], clip.keypoints, clip.labels, clip.frame_index, clip.time_s, clip.intact):
        assert len(values) == 360
        assert not values.any()


def test_a_recording_without_a_video_has_no_frames(store, tmp_path, make_meta, make_arrays):
    geometry = cache.Geometry.pose_only(640, 480)
    meta = make_meta(geometry=geometry, video=None, fps=None, decoder=None)
    with cache.create(tmp_path, store=store) as writer:
        writer.writer("mouse_1").finish(meta, **make_arrays(meta))
    clip = cache.open(tmp_path)[1]
    assert not clip.has_frames
    assert clip.frame_index[0] == 360
    with pytest.raises(cache.CacheError, match="mouse_1: has no frames"):
        clip.frames  # noqa: B018


def test_metadata_comes_back_from_index_and_recording(store, tmp_path, make_meta, put):
    meta = make_meta(
        notes=("the table has one row more",), settings={"img_size": 12}, damage=(cache.Damage(2, 5, 360),)
    )
    with cache.create(tmp_path, store=store) as writer:
        put(writer, meta)
        written = dataclasses.replace(meta, compression="zstd" if store == "zarr" else "none")
        assert writer.reader("mouse_1").meta == written
    assert cache.open(tmp_path).recordings == (written,)


def test_frames_are_intact_unless_it_is_said(store, tmp_path, make_meta, make_frames, make_arrays):
    meta = make_meta()
    arrays = {name: values for name, values in make_arrays(meta).items() if name != "intact"}
    with cache.create(tmp_path, store=store) as writer:
        recording = writer.writer("mouse_1")
        recording.append_frames(make_frames(meta))
        recording.finish(meta, **arrays)
    assert all(clip.intact.all() and clip.intact.shape == (len(clip),) for clip in cache.open(tmp_path))


def test_the_same_input_gives_the_same_bytes(store, tmp_path, make_meta, put, contents):
    for name, block in (("a", 60), ("b", 360 if store == "hdf5" else 53)):
        with cache.create(tmp_path / name, store=store) as writer:
            put(writer, make_meta("mouse_1"), block=block)
            put(writer, make_meta("mouse_2", (50,)), block=block)
            writer.skip("mouse_3", 2, "too short")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_more_recordings_than_files_may_be_open(tmp_path, make_meta, put):
    n = hdf5_store.MAX_OPEN + 3
    with cache.create(tmp_path, store="hdf5") as writer:
        frames = [put(writer, make_meta(f"mouse_{i:03}", (2,)), version=i) for i in range(n)]
    opened = cache.open(tmp_path)
    for _ in range(2):
        assert all(np.array_equal(clip.frames[:], expected) for clip, expected in zip(opened, frames, strict=True))
    assert len(hdf5_store._open_files) == hdf5_store.MAX_OPEN


def test_opening_reads_the_index_alone(store, tmp_path, make_meta, put):
    with cache.create(tmp_path, store=store) as writer:
        put(writer, make_meta())
    (tmp_path / "recordings").rename(tmp_path / "elsewhere")
    opened = cache.open(tmp_path)
    assert (len(opened), opened[1].trial) == (2, 2)
    with pytest.raises(cache.CacheError, match=r"cannot be read .* run preprocess"):
        opened[0].labels  # noqa: B018


def test_importing_the_cache_imports_neither_torch_nor_pipeline():
    code = "import sys, cache; print({'torch', 'pipeline'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "set()"
    )


@given(
    width=st.integers(16, 4000),
    height=st.integers(16, 4000),
    img_size=st.integers(8, 512),
    xy=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_square_coordinates_have_an_inverse(width, height, img_size, xy):
    for geometry in (cache.Geometry.fit(width, height, img_size), cache.Geometry.pose_only(width, height)):
        square = geometry.to_square(np.array(xy))
        assert np.all((square >= 0) & (square <= 1))
        assert np.allclose(geometry.from_square(square), xy, atol=1e-4 * max(width, height) / min(width, height))


def test_metadata_of_another_version_is_refused(make_meta):
    values = cache.clip.meta_to_dict(make_meta()) | {"schema_version": 1}
    with pytest.raises(cache.CacheError, match="mouse_1: schema version 1, expected 2"):
        cache.clip.meta_from_dict(values)


def test_metadata_survives_json(make_meta):
    meta = make_meta(notes=("a", "b"))
    assert cache.clip.meta_from_dict(cache.clip.meta_to_dict(meta)) == meta
    assert dataclasses.replace(meta, notes=()) != meta
