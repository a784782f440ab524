"""Recordings whose every array says which recording, version and row it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cache

IMG_SIZE = 12


@pytest.fixture(scope="session", params=["zarr", "hdf5"])
def store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def make_meta() -> Callable[..., cache.RecordingMeta]:
    def make(
        recording: str = "mouse_1",
        lengths: tuple[int, ...] = (345, 360),
        *,
        version: int = 0,
        channels: int = 1,
        **changes,
    ) -> cache.RecordingMeta:
        stops = np.cumsum((0, *lengths)).tolist()
        clips = tuple(
            cache.ClipRows(i + 1, stops[i], stops[i + 1], 360 * i, 360 - n, f"{recording}_{i + 1}.csv", stim_frame=30)
            for i, n in enumerate(lengths)
        )
        values = {
            "recording": recording,
            "video": f"{recording}.mp4",
            "dlc": f"{recording}.csv",
            "geometry": cache.Geometry.fit(640, 480, IMG_SIZE),
            "channels": channels,
            "fps": 30.0,
            "decoder": "pyav",
            "keypoint_names": ("mouth", "tail_base"),
            "class_names": ("rest", "walk"),
            "clips": clips,
            "fingerprints": {"frames": f"f{version}", "keypoints": f"k{version}", "labels": f"l{version}"},
        }
        return cache.RecordingMeta(**(values | changes))

    return make


@pytest.fixture(scope="session")
def make_frames() -> Callable[..., np.ndarray]:
    def make(meta: cache.RecordingMeta, seed: int = 0) -> np.ndarray:
        shape = (meta.n_frames, *meta.frame_shape)
        frames = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
        frames[len(frames) // 2 :: 7] = 0  # black frames must come back as well
        return frames

    return make


@pytest.fixture(scope="session")
def make_arrays() -> Callable[..., dict[str, np.ndarray]]:
    def make(meta: cache.RecordingMeta, version: int = 0) -> dict[str, np.ndarray]:
        rows = np.arange(meta.n_frames)
        keypoints = np.repeat(rows[:, None, None] / 1000, 2, axis=1) + np.array([0, 0.25, np.nan])
        return {
            "keypoints": keypoints,
            "labels": rows % 300 - 1 + version,
            "frame_index": rows + 15,
            "time_s": rows / 30,
            "intact": rows % 50 != 7,
        }

    return make


@pytest.fixture(scope="session")
def put(make_arrays, make_frames) -> Callable[..., np.ndarray]:
    """Write one whole recording; returns its frames."""

    def write(writer: cache.CacheWriter, meta: cache.RecordingMeta, *, version: int = 0, block: int = 77) -> np.ndarray:
        frames = make_frames(meta, seed=version)
        recording = writer.writer(meta.recording)
        for start in range(0, len(frames), block):
            recording.append_frames(frames[start : start + block])
        recording.finish(meta, **make_arrays(meta, version))
        return frames

    return write


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder and its bytes."""

    def read(folder: Path) -> dict[str, bytes]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    return read
