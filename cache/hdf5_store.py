"""A recording as one HDF5 file: frames as they are, the fastest to read and the largest on disk.

No filter: a window is read at 8 microseconds a frame of 224x224, with HDF5's own lzf at 160. Where space counts, the
zarr store is smaller by a factor of 6 or more. Frames carry no checksum here: a byte that the disk got wrong is
read as it is (the zarr store notices it).
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from cache.clip import RecordingMeta, meta_from_dict, meta_to_dict

SUFFIX = ".h5"
CHUNK = 60
MAX_OPEN = 64  # files kept open; a process may have 1,024 or even 256 of all kinds

# HDF5 lets one thread in at a time anyway; this lock also keeps a file open while it is read.
_lock = threading.Lock()
_open_files: OrderedDict[tuple[Path, int, int], h5py.File] = OrderedDict()


class HDF5Reader:
    """Reads a finished file; safe to use from several threads. Raises OSError where it is missing or damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as file:
            self.meta = meta_from_dict(json.loads(file["meta"][()]))

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) of an array, freshly read."""
        with _opened(self.path) as file:
            return np.asarray(file[name][start:stop])

    def read_frames_into(self, start: int, stop: int, out: np.ndarray) -> None:
        """Frames [start, stop) into out (stop - start, H, W, C) uint8, C-contiguous."""
        with _opened(self.path) as file:
            file["frames"].read_direct(out, np.s_[start:stop])


class HDF5Writer:
    """Fills a new file at `path`. The metadata that marks it as complete is written last.

    Raises OSError where the disk is full or fails; the file is then to be closed and deleted.
    """

    def __init__(self, path: Path, compression: str) -> None:
        assert compression == "none"
        self.path = path
        self.n_frames = 0
        self._sink = _Sink(path)
        self._file = h5py.File(self._sink, "w")

    def append_frames(self, frames: np.ndarray) -> None:
        """Frames (n, H, W, C) after the former ones."""
        if "frames" not in self._file:
            shape = frames.shape[1:]
            self._file.create_dataset(
                "frames", (0, *shape), np.uint8, maxshape=(None, *shape), chunks=(CHUNK, *shape), track_times=False
            )
        dataset = self._file["frames"]
        dataset.resize(self.n_frames + len(frames), axis=0)
        dataset[self.n_frames :] = frames
        self.n_frames += len(frames)
        del dataset  # closing it writes
        self._sink.check()

    def finish(self, meta: RecordingMeta, arrays: dict[str, np.ndarray]) -> None:
        """Write the small arrays and, last, the metadata."""
        for name, values in arrays.items():
            self._file.create_dataset(name, data=values, track_times=False)
        # A dataset and no attribute, which could hold 64 KB only.
        text = json.dumps(meta_to_dict(meta), sort_keys=True)
        self._file.create_dataset("meta", data=text.encode(), track_times=False)
        self.close()
        self._sink.check()

    def close(self) -> None:
        """Close the file, finished or not."""
        self._file.close()
        self._sink.close()


class _Sink:
    """The file that HDF5 writes through; the first error is kept for `check`, and nothing is written after it.

    HDF5 itself must not see it: on a full disk it loses data without an error and crashes when the file is closed.
    """

    def __init__(self, path: Path) -> None:
        self._raw = path.open("w+b", buffering=0)
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise what has gone wrong, if anything has."""
        if self._error is not None:
            raise self._error

    def write(self, data: memoryview) -> int:
        left = memoryview(data).cast("B")
        with self._kept():
            while self._error is None and len(left):
                left = left[self._raw.write(left) :]
        return len(data)

    def truncate(self, size: int) -> int:
        with self._kept():
            if self._error is None:
                self._raw.truncate(size)
        return size

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def read(self, size: int = -1) -> bytes:
        return self._raw.read(size)

    def readinto(self, buffer: memoryview) -> int:
        return self._raw.readinto(buffer)

    def flush(self) -> None:
        """Nothing is buffered here."""

    def close(self) -> None:
        with self._kept():
            self._raw.close()

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._error = self._error or error


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The file, opened or still open from before; the least recently used is closed beyond MAX_OPEN."""
    with _lock:
        stat = path.stat()
        key = (path, stat.st_ino, stat.st_mtime_ns)  # what now has the name of a deleted file is another file
        if key not in _open_files:
            # Without a chunk cache only the rows asked for are read. Without locks: a finished file never changes.
            _open_files[key] = h5py.File(path, "r", locking=False, rdcc_nbytes=0)
        _open_files.move_to_end(key)
        while len(_open_files) > MAX_OPEN:
            _open_files.popitem(last=False)[1].close()
        yield _open_files[key]
