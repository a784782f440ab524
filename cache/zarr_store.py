"""A recording as a zarr v3 group: frames packed by zstd, one file for every 360 of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import zarr
from zarr.buffer.cpu import NDBuffer
from zarr.codecs import ZstdCodec

from cache.clip import RecordingMeta, meta_from_dict, meta_to_dict

SUFFIX = ".zarr"
CHUNK = 60  # frames unpacked at once: short enough for short windows, long enough for zstd to see what stands still
SHARD = 360  # frames in one file: one trial

Shape = tuple[int, ...]


class ZarrReader:
    """Reads a finished group; safe to use from several threads. Raises OSError where a file of it is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._group = zarr.open_group(path, mode="r", zarr_format=3)
        self.meta = meta_from_dict(dict(self._group.attrs["meta"]))  # type: ignore[arg-type]
        self._arrays: dict[str, zarr.Array] = {}

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) of an array, freshly read."""
        rows = np.asarray(self._array(name)[start:stop])
        self._check_present()
        return rows

    def read_frames_into(self, start: int, stop: int, out: np.ndarray) -> None:
        """Frames [start, stop) into out (stop - start, H, W, C) uint8."""
        self._array("frames").get_basic_selection(slice(start, stop), out=NDBuffer.from_numpy_array(out))
        self._check_present()

    def _array(self, name: str) -> zarr.Array:
        if name not in self._arrays:
            array = self._group[name]
            assert isinstance(array, zarr.Array)
            rows_per_file = (array.shards or array.chunks)[0]
            _check_files(self.path / name / "c", -(-array.shape[0] // rows_per_file))
            self._arrays[name] = array
        return self._arrays[name]

    def _check_present(self) -> None:
        # zarr reads a file that is gone as zeros. A version is moved away whole before it is deleted: while its
        # metadata stands where it stood, so did everything that was read before.
        (self.path / "zarr.json").stat()


class ZarrWriter:
    """Fills a new group at `path`. The metadata that marks it as complete is written last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_frames = 0
        self._group = zarr.create_group(path, zarr_format=3)
        self._frames: zarr.Array | None = None
        self._buffer = np.empty((0, 0, 0, 0), np.uint8)
        self._buffered = 0

    def append_frames(self, frames: np.ndarray) -> None:
        """Frames (n, H, W, C) after the former ones; written a whole shard at a time, or zarr would rewrite it."""
        if self._frames is None:
            shape = frames.shape[1:]
            self._frames = self._create("frames", (0, *shape), (CHUNK, *shape), (SHARD, *shape), frames.dtype)
            self._buffer = np.empty((SHARD, *shape), np.uint8)
        self.n_frames += len(frames)
        while len(frames):
            taken = frames[: SHARD - self._buffered]
            self._buffer[self._buffered : self._buffered + len(taken)] = taken
            self._buffered += len(taken)
            frames = frames[len(taken) :]
            if self._buffered == SHARD:
                self._flush()

    def link_frames(self, reader: ZarrReader) -> None:
        """All frames of another group, without copying them where the file system has hard links."""
        self.n_frames = reader._array("frames").shape[0]
        shutil.copytree(reader.path / "frames", self.path / "frames", copy_function=_link)

    def finish(self, meta: RecordingMeta, arrays: dict[str, np.ndarray]) -> None:
        """Write what is still in memory, the small arrays and, last, the metadata."""
        if self._buffered:
            self._flush()
        for name, values in arrays.items():
            self._create(name, values.shape, values.shape, None, values.dtype)[:] = values
        self._group.attrs["meta"] = meta_to_dict(meta)

    def close(self) -> None:
        """Nothing to do: zarr keeps no file open."""

    def _create(self, name: str, shape: Shape, chunks: Shape, shards: Shape | None, dtype: np.dtype) -> zarr.Array:
        # Level 3 packs no better. All-zero chunks are written too, so that a missing file is always damage.
        return self._group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            shards=shards,
            dtype=dtype,
            compressors=ZstdCodec(level=1, checksum=True),
            config={"write_empty_chunks": True},
        )

    def _flush(self) -> None:
        assert self._frames is not None
        start = self._frames.shape[0]
        self._frames.resize((start + self._buffered, *self._frames.shape[1:]))
        self._frames[start:] = self._buffer[: self._buffered]
        self._buffered = 0


def _check_files(folder: Path, expected: int) -> None:
    found = sum(1 for path in folder.rglob("*") if path.is_file())
    if found != expected:
        raise FileNotFoundError(f"{folder} holds {found} files, expected {expected}")


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
