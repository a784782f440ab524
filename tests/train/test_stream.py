import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import cache as clip_cache
from cache.clip import ClipRows, Geometry, RecordingMeta
from pipeline.model.pose_branch import TIMES
from pipeline.train import stream as stream_module
from pipeline.train.labels import make_merge
from pipeline.train.stream import ClipData, Stream, StreamError, load_clip
from pipeline.train.windows import Window, every_window

CLASSES = ("rest", "walk", "lick")
KEYPOINTS = ("nose", "paw")
LENGTHS = (70, 41, 55)
SIDE = 8


def write_cache(path: Path, store: str = "zarr", frames: bool = True, channels: int = 1, side: int = SIDE) -> None:
    """Two recordings with the clips of LENGTHS; the pixels of a frame, its label and its paw tell which frame it is."""
    with clip_cache.create(path, store=store) as cache:
        for recording, lengths, first in (("one", LENGTHS[:2], 0), ("two", LENGTHS[2:], 100)):
            number = first + np.arange(sum(lengths))
            keypoints = np.tile(np.array([[0.5, 0.5, 1], [0, 0.25, 1]], np.float32), (len(number), 1, 1))
            keypoints[:, 1, 0] = number / 1000
            geometry = Geometry.fit(20, 10, side) if frames else Geometry.pose_only(20, 10)
            pixels = numbered(number, channels, side) if frames else None
            write_recording(cache, recording, lengths, keypoints, number % 4 - 1, geometry, pixels)


def write_recording(
    cache, recording, lengths, keypoints, labels, geometry, frames=None, intact=None, crop_start=0, stim_frame=None,
    keypoint_names=KEYPOINTS,
) -> None:  # fmt: skip
    n = len(labels)
    edges = np.cumsum([0, *lengths]).tolist()
    writer = cache.writer(recording)
    if frames is not None:
        writer.append_frames(frames)
    meta = RecordingMeta(
        recording=recording,
        video=None if frames is None else f"{recording}.mp4",
        dlc=f"{recording}.csv",
        geometry=geometry,
        channels=1 if frames is None else frames.shape[-1],
        fps=None if frames is None else 30.0,
        decoder=None if frames is None else "pyav",
        keypoint_names=keypoint_names[: keypoints.shape[1]],
        class_names=CLASSES,
        clips=tuple(
            ClipRows(i + 1, a, b, a, crop_start, stim_frame=stim_frame) for i, (a, b) in enumerate(pairwise(edges))
        ),
        fingerprints={},
    )
    arrays = {"frame_index": np.arange(n, dtype=np.int32), "time_s": np.arange(n) / 30}
    writer.finish(meta, keypoints=keypoints, labels=labels.astype(np.int16), intact=intact, **arrays)


def numbered(number: np.ndarray, channels: int = 1, side: int = SIDE) -> np.ndarray:
    return np.broadcast_to(number.astype(np.uint8)[:, None, None, None], (len(number), side, side, channels)).copy()


@pytest.fixture(scope="module", params=["zarr", "hdf5"])
def clips(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "CACHE"
    write_cache(path, request.param)
    return list(clip_cache.open(path))


def data_of(clips) -> list[ClipData]:
    return [load_clip(clip, make_merge(CLASSES, "none"), 0.9) for clip in clips]


def first_number(window: Window) -> int:
    return (0, LENGTHS[0], 100)[window.clip] + window.start


def random_windows(n: int = 40, longest: int = 30) -> list[Window]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n):
        clip = int(rng.integers(len(LENGTHS)))
        length = int(rng.integers(1, longest))
        start = int(rng.integers(LENGTHS[clip] - length + 1))
        found.append(Window(clip, start, start + length))
    return found


@pytest.mark.parametrize(("batch_size", "threads", "depth"), [(1, 1, 1), (2, 2, 4), (3, 4, 2), (64, 2, 4)])
def test_frames_keypoints_and_labels_are_those_of_the_window(clips, batch_size, threads, depth):
    windows = random_windows()
    with Stream(clips, data_of(clips), windows, batch_size, "cpu", threads=threads, depth=depth) as stream:
        seen = []
        for batch in stream:
            longest = int(batch.valid.sum(1).max())
            assert batch.valid.shape[1] == longest
            for b, window in enumerate(windows[len(seen) : len(seen) + batch_size]):
                n = window.n_frames
                number = first_number(window) + np.arange(n)
                assert batch.valid[b].tolist() == [True] * n + [False] * (longest - n)
                assert (batch.frames[b, :n].numpy() == numbered(number)).all()
                assert batch.labels[b, :n].tolist() == (number % 4 - 1).tolist()
                assert batch.xy[b, :n, 1, 0].numpy() == pytest.approx(number / 1000, abs=1e-6)
                assert batch.when[b, :n, 0].tolist() == list(range(window.start, window.stop))
                last = LENGTHS[window.clip] - 1
                assert batch.when[b, :n, 1].tolist() == [last - t for t in range(window.start, window.stop)]
                assert batch.when[b, :n, 2:].isnan().all()
                # the padding is no data, whatever the buffer held before
                assert not batch.frames[b, n:].any()
                assert (batch.labels[b, n:] == -1).all()
                assert not batch.visible[b, n:].any()
                assert not batch.xy[b, n:].any()
                assert batch.when[b, n:].isnan().all()
                seen.append(window)
    assert seen == windows
    assert len(stream) == -(-len(windows) // batch_size)


def test_colour_frames(tmp_path):
    write_cache(tmp_path / "CACHE", channels=3)
    clips = list(clip_cache.open(tmp_path / "CACHE"))
    batch = next(iter(Stream(clips, data_of(clips), [Window(0, 5, 9)], 1, "cpu")))
    assert (batch.frames[0].numpy() == numbered(np.arange(5, 9), 3)).all()


class SlowClip:
    """A clip that counts the reads begun, each of which takes a while."""

    def __init__(self, clip, seconds: float = 0) -> None:
        self._frames, self._seconds, self.reads = clip.frames, seconds, 0
        self.frames, self.shape, self.has_frames, self.recording = self, clip.frames.shape, True, clip.recording
        self.remote = None

    def read_into(self, start, stop, out):
        self.reads += 1
        time.sleep(self._seconds)
        self._frames.read_into(start, stop, out)


def test_a_batch_holds_until_the_next_is_asked_for(clips):
    clip = SlowClip(clips[0])
    windows = [Window(0, i, i + 1) for i in range(50)]
    stream = Stream([clip], data_of(clips[:1]), windows, 1, "cpu", threads=2, depth=2)
    for number, batch in enumerate(stream):
        for _ in range(1000):  # until everything that may be read ahead has been
            if clip.reads >= min(number + 2, 50):
                break
            time.sleep(0.001)
        assert clip.reads <= number + 2
        assert (batch.frames == number).all()


def test_buffers_are_reused(clips):
    places = {batch.frames.data_ptr() for batch in Stream(clips, data_of(clips), random_windows(), 2, "cpu", depth=3)}
    assert len(places) == 3


def test_large_windows_get_fewer_buffers(clips, monkeypatch):
    monkeypatch.setattr(stream_module, "RING_BYTES", 2 * 41 * SIDE * SIDE)
    windows = [Window(1, 0, 41)] * 6
    batches = list(Stream(clips, data_of(clips), windows, 1, "cpu", depth=4))
    assert len({batch.frames.data_ptr() for batch in batches}) == 2
    monkeypatch.setattr(stream_module, "RING_BYTES", 1)
    for batch in Stream(clips, data_of(clips), windows, 1, "cpu", depth=4):
        assert (batch.frames[0].numpy() == numbered(70 + np.arange(41))).all()


def test_an_error_in_a_thread_reaches_the_loop_in_its_turn(clips):
    windows = [Window(0, 0, 20), Window(0, 60, 71), Window(0, 0, 20)]
    when = np.zeros((71, TIMES), np.float32)
    data = [ClipData(np.zeros(71, np.int64), np.zeros((71, 2, 2), np.float32), np.zeros((71, 2), bool), when)]
    stream = iter(Stream(clips[:1], data, windows, 1, "cpu"))
    next(stream)
    with pytest.raises(IndexError, match=r"frames \[60, 71\) of a clip of 70 frames"):
        next(stream)


@pytest.mark.parametrize("how", ["close", "break", "error", "with"])
def test_leaving_early_ends_the_threads(clips, how):
    def names():
        return {thread.name for thread in threading.enumerate() if thread.name.startswith("stream")}

    stream = Stream(clips, data_of(clips), random_windows(), 1, "cpu")
    if how == "close":
        next(iter(stream))
        assert names()
        stream.close()
    elif how == "break":
        for _ in stream:
            break
        stream.close()
    elif how == "with":
        with stream:
            next(iter(stream))
    else:
        with pytest.raises(KeyError), stream:
            raise KeyError(next(iter(stream)))
    assert not names()


def test_a_second_pass_gives_the_same(clips):
    stream = Stream(clips, data_of(clips), random_windows(), 2, "cpu")
    next(iter(stream))
    first, second = ([batch.frames.clone() for batch in stream] for _ in range(2))
    assert len(first) == len(second) == 20
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_wait_is_measured(clips):
    stream = Stream([SlowClip(clips[0], 0.05)], data_of(clips[:1]), [Window(0, 0, 5)] * 5, 1, "cpu", depth=1)
    assert stream.waited_s == 0
    list(stream)
    assert stream.waited_s > 0.05


@pytest.mark.parametrize(("frames", "with_frames"), [(True, False), (False, True), (False, False)])
def test_pose_alone(tmp_path, frames, with_frames):
    write_cache(tmp_path / "CACHE", frames=frames)
    clips = list(clip_cache.open(tmp_path / "CACHE"))
    windows = every_window(LENGTHS, 30)
    batches = list(Stream(clips, data_of(clips), windows, 2, "cpu", with_frames=with_frames))
    assert all(batch.frames is None for batch in batches)
    assert sum(int(batch.valid.sum()) for batch in batches) == sum(LENGTHS)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        pytest.param({"frames": False}, "one has no frames, two has frames of 8x8x1", id="no video"),
        pytest.param({"side": 12}, "one has frames of 12x12x1, two has frames of 8x8x1", id="size"),
        pytest.param({"channels": 3}, "one has frames of 8x8x3, two has frames of 8x8x1", id="channels"),
    ],
)
def test_clips_that_cannot_stand_in_one_batch_are_refused(tmp_path, other, message):
    write_cache(tmp_path / "A")
    write_cache(tmp_path / "B", **other)
    clips = [clip_cache.open(tmp_path / "A")[2], clip_cache.open(tmp_path / "B")[0]]
    with pytest.raises(StreamError, match=message):
        Stream(clips, data_of(clips), [Window(0, 0, 5), Window(1, 0, 5)], 2, "cpu")


def test_no_windows_no_batches(clips):
    assert list(Stream(clips, data_of(clips), [], 2, "cpu")) == []


@pytest.fixture(scope="module")
def doubtful_clip(tmp_path_factory):
    """Six frames of one keypoint: sure, below 0.9, without x, without likelihood, outside the picture, at (0, 0)."""
    rows = [(0.5, 0.5, 0.95), (0.5, 0.5, 0.89), (np.nan, 0.5, 0.95), (0.5, 0.5, np.nan), (1.3, 1.8, 0.99), (0, 0, 0.9)]
    path = tmp_path_factory.mktemp("doubtful") / "CACHE"
    with clip_cache.create(path, store="zarr") as cache:
        keypoints = np.array(rows, np.float32)[:, None]
        write_recording(cache, "r", [6], keypoints, np.array([-1, 1, 2, 0, 0, 0]), Geometry.pose_only(200, 100))
    return clip_cache.open(path)[0]


def test_a_missing_keypoint_is_not_one_at_the_origin(doubtful_clip):
    data = load_clip(doubtful_clip, make_merge(CLASSES, "lick=rest"), 0.9)
    assert data.visible[:, 0].tolist() == [True, False, False, False, True, True]
    # the corner (0, 0) of a wide picture lies at (0, 0.25) of its square
    assert data.xy[:, 0].tolist() == [[0.5, 0.5], [0, 0], [0, 0], [0, 0], [1, 1], [0, 0.25]]
    assert data.labels.tolist() == [-1, 1, 0, 0, 0, 0]


def test_the_likelihood_threshold_is_used(doubtful_clip):
    merge = make_merge(CLASSES, "none")
    assert [int(load_clip(doubtful_clip, merge, thr).visible.sum()) for thr in (0.0, 0.9, 0.97)] == [4, 3, 1]


def test_a_damaged_frame_is_unlabelled_and_shows_no_keypoint(tmp_path):
    intact = np.array([True, True, False, False, True])
    with clip_cache.create(tmp_path / "CACHE") as cache:
        keypoints = np.full((5, 2, 3), 0.5, np.float32)
        geometry = Geometry.pose_only(20, 10)
        write_recording(cache, "r", [5], keypoints, np.array([0, 1, 1, 2, -1]), geometry, intact=intact)
    clip = clip_cache.open(tmp_path / "CACHE")[0]
    data = load_clip(clip, make_merge(CLASSES, "none"), 0.0)
    assert data.labels.tolist() == [0, 1, -1, -1, -1]
    assert data.visible.tolist() == [[good, good] for good in intact]
    assert not data.xy[~intact].any()
    assert clip.labels.tolist() == [0, 1, 1, 2, -1]


@pytest.mark.parametrize(
    ("crop_start", "stim_frame", "first"),
    [(15, 60, -45), (0, 60, -60), (15, 0, 15), (15, None, None)],
    ids=["the clip begins later", "from the start on", "before the clip", "not known"],
)
def test_the_stimulus_is_counted_from_the_trials_start(tmp_path, crop_start, stim_frame, first):
    """Trials of 360 frames of which the clip is [15:360]: the stimulus at frame 60 is the clip's frame 45."""
    n = 360 - crop_start
    with clip_cache.create(tmp_path / "CACHE") as cache:
        rows = np.zeros(2 * n, int), Geometry.pose_only(20, 10)
        keypoints = np.full((2 * n, 2, 3), 0.5, np.float32)
        write_recording(cache, "r", [n, n], keypoints, *rows, crop_start=crop_start, stim_frame=stim_frame)
    for clip in clip_cache.open(tmp_path / "CACHE"):
        when = load_clip(clip, make_merge(CLASSES, "none"), 0.0).when
        assert when.dtype == np.float32
        assert when[:, 0].tolist() == list(range(crop_start, 360))
        assert when[:, 1].tolist() == list(range(n))[::-1]
        if first is None:
            assert np.isnan(when[:, 2]).all()
        else:
            assert when[:, 2].tolist() == list(range(first, first + n))
            assert np.flatnonzero(when[:, 2] == 0).tolist() == ([-first] if first <= 0 else [])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pinned_buffers_are_not_overwritten_before_they_are_copied(clips):
    windows = [Window(0, i, i + 30) for i in range(40)] * 10
    kept = list(Stream(clips, data_of(clips), windows, 2, "cuda", threads=2, depth=2))
    for i, batch in enumerate(kept):
        for b, window in enumerate(windows[2 * i : 2 * i + 2]):
            assert (batch.frames[b].cpu().numpy() == numbered(window.start + np.arange(30))).all()


@pytest.mark.parametrize(("together", "entered"), [((200, 400), 200), ((0, 400), 0), ((400, 400), None)])
def test_the_entry_of_the_second_animal_is_seen_in_the_keypoints(tmp_path, together, entered):
    """The second mouse is lost in every other frame, and seen for 10 frames although it is not there yet."""
    keypoints = np.full((400, 4, 3), 0.5, np.float32)
    keypoints[:, 2:, 2] = 0
    keypoints[20:30, 2:, 2] = 1 if entered != 0 else 0
    keypoints[slice(*together, 2), 3, 2] = 1
    if entered is None:
        keypoints[:, 2:, 2] = 0
    with clip_cache.create(tmp_path / "CACHE") as cache:
        names = ("a_nose", "a_tail", "b_nose", "b_tail")
        labels = np.zeros(400, int), Geometry.pose_only(20, 10)
        write_recording(cache, "r", [400], keypoints, *labels, keypoint_names=names)
    (clip,) = clip_cache.open(tmp_path / "CACHE")
    since = load_clip(clip, make_merge(CLASSES, "none"), 0.5).when[:, 3]
    if entered is None:
        assert np.isnan(since).all()
    else:
        assert since.tolist() == list(range(-entered, 400 - entered))
