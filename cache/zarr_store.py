"""A recording as a zarr v3 group: frames packed by zstd or as they are, one file for every 360 of them."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from cache.clip import ARRAY_DTYPES, CacheError, RecordingMeta, meta_from_dict, meta_to_dict
from cache.local_copy import copied
from cache.remote import Place, Remote
from cache.zarr_files import ArrayFiles, CopiedArray, RemoteArray, WrongSizeError
from cache.zarr_layout import Layout, read_layout
from cache.zarr_shards import LEVEL, ShardFiles

SUFFIX = ".zarr"
CHUNK = 30  # frames unpacked at once: a window of 60 then unpacks 89 on average, with chunks of 60 it would be 119
SHARD = 360  # frames in one file: one trial

Shape = tuple[int, ...]


class ZarrReader:
    """Reads a finished group; safe to use from several threads. Raises OSError where a file of it is missing.

    meta: where it is known, an object store is not asked for it.
    """

    def __init__(self, path: Place, meta: RecordingMeta | None = None) -> None:
        self.path = path
        if meta is None or isinstance(path, Path):
            meta = meta_from_dict(json.loads((path / "zarr.json").read_bytes())["attributes"]["meta"])
        self.meta = meta
        self._arrays: dict[str, ArrayFiles] = {}
        self._lock = threading.Lock()

    @property
    def compression(self) -> str:
        """How the frames are packed in their files: zstd or none."""
        return "zstd" if self._array("frames").layout.packed else "none"

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) of an array, freshly read."""
        if isinstance(self.path, Remote) and self.path.copy is None and name not in self._arrays:
            # As this program writes them, which saves every other request; what is otherwise is asked for its layout.
            shape = (self.meta.n_frames, *((len(self.meta.keypoint_names), 3) if name == "keypoints" else ()))
            layout = Layout(shape, np.dtype(ARRAY_DTYPES[name]), shape[0], shape[0], sharded=False, packed=True)
            with suppress(FileNotFoundError, WrongSizeError):
                return RemoteArray(self.path / name, layout).read(start, stop)
        return self._array(name).read(start, stop)

    def read_frames_into(self, start: int, stop: int, out: np.ndarray) -> None:
        """Frames [start, stop) into out (stop - start, H, W, C) uint8, C-contiguous."""
        self._array("frames").read_into(start, stop, out)

    def check_frames(self) -> None:
        """Raises OSError or CacheError where files of the frames are missing, cut short, or of another recording."""
        frames = self._array("frames")
        if frames.layout.shape != (self.meta.n_frames, *self.meta.frame_shape):
            raise CacheError(f"{self.path}: its frames are {frames.layout.shape}, not what it says of them")
        frames.check_files()

    def is_whole(self) -> bool:
        """Whether all that belongs to a recording in an object store is there: one that is deleted is less and less."""
        assert isinstance(self.path, Remote)
        there = {each.name for each in self.path.objects()}
        names = [*ARRAY_DTYPES, *(["frames"] if self.meta.has_frames else [])]
        if not there.issuperset(f"{name}/zarr.json" for name in names):
            return False
        return all(there.issuperset(f"{name}/{file}" for file in self._array(name).names()) for name in names)

    def _array(self, name: str) -> ArrayFiles:
        with self._lock:
            if name not in self._arrays:
                self._arrays[name] = _array_of(self.path, name)
            return self._arrays[name]


def _array_of(path: Place, name: str) -> ArrayFiles:
    if isinstance(path, Path):
        return ArrayFiles(path / name)
    if path.copy is None:
        return RemoteArray(path / name)
    local, fetch = copied(path)
    return CopiedArray(path / name, local / name, fetch)


class ZarrWriter:
    """Fills a new group at `path`. The metadata that marks it as complete is written last.

    compression: zstd or none, of the frames; only the former has a checksum, as the small arrays have.
    """

    def __init__(self, path: Path, compression: str) -> None:
        self.path = path
        self.n_frames = 0
        self._compression = compression
        self._group = zarr.create_group(path, zarr_format=3)
        self._frames: zarr.Array | None = None
        self._files: ShardFiles | None = None

    def append_frames(self, frames: np.ndarray) -> None:
        """Frames (n, H, W, C) after the former ones."""
        if self._files is None:
            shape = frames.shape[1:]
            self._frames = self._create("frames", (0, *shape), (CHUNK, *shape), (SHARD, *shape), frames.dtype)
            self._files = ShardFiles(self.path / "frames", read_layout(self.path / "frames"))
        self._files.append(frames)
        self.n_frames += len(frames)

    def takes_files_of(self, reader: ZarrReader) -> bool:
        """Whether the frames of another group are packed as these would be."""
        return reader.compression == self._compression

    def link_frames(self, reader: ZarrReader) -> None:
        """All frames of another, checked group, without copying them where the file system has hard links.

        Those in an object store are left out here: `cache.bucket.upload` copies them there.
        """
        self.n_frames = reader.meta.n_frames
        if isinstance(reader.path, Remote):
            return
        shutil.copytree(reader.path / "frames", self.path / "frames", copy_function=_link)

    def finish(self, meta: RecordingMeta, arrays: dict[str, np.ndarray]) -> None:
        """Write what is still in memory, the small arrays and, last, the metadata."""
        if self._files is not None and self._frames is not None:
            self._files.finish()
            self._frames.resize((self.n_frames, *self._frames.shape[1:]))
        for name, values in arrays.items():
            self._create(name, values.shape, values.shape, None, values.dtype)[:] = values
        self._group.attrs["meta"] = meta_to_dict(meta)

    def close(self) -> None:
        """Nothing to do: no file is kept open."""

    def _create(self, name: str, shape: Shape, chunks: Shape, shards: Shape | None, dtype: np.dtype) -> zarr.Array:
        packed = name != "frames" or self._compression == "zstd"
        # All-zero chunks are written too, so that a missing file is always damage.
        return self._group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            shards=shards,
            dtype=dtype,
            compressors=ZstdCodec(level=LEVEL, checksum=True) if packed else None,
            config={"write_empty_chunks": True},
        )


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
