"""The files of a zarr v3 array that is cut along its first axis, read without zarr's own machinery.

zarr-python reads them all the same. Through it a window of 60 frames takes several times as long as unpacking it does:
it plans, allocates and copies where here the packed bytes are read and unpacked straight into the caller's buffer.
An array's zarr.json is what says how its files are laid out, so arrays of other chunk lengths are read too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numcodecs import zstd

from cache.clip import CacheError
from cache.remote import Place, Remote, StoreError
from cache.zarr_layout import ABSENT, CRC_BYTES, Layout, crc, read_layout

_scratch = threading.local()


class WrongSizeError(CacheError):
    """A chunk holds more or less than it should."""


class ArrayFiles:
    """Reads rows of an array; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._path: Place = path
        self.layout = self._read_layout()
        self._indices: dict[int, np.ndarray] = {}

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop), freshly read."""
        out = np.empty((stop - start, *self.layout.shape[1:]), self.layout.dtype)
        self.read_into(start, stop, out)
        return out

    def read_into(self, start: int, stop: int, out: np.ndarray) -> None:
        """Rows [start, stop) into out, C-contiguous.

        Raises OSError, CacheError or RuntimeError where files are missing or damaged.
        """
        if not 0 <= start <= stop <= self.layout.shape[0]:
            raise CacheError(f"{self._path}: rows [{start}, {stop}) of {self.layout.shape[0]}")
        rows = self.layout.file
        for number in range(start // rows, -(-stop // rows) if stop > start else start // rows):
            first, last = max(start, number * rows), min(stop, (number + 1) * rows)
            self._read_file(number, first - number * rows, last - number * rows, out[first - start : last - start])

    def names(self) -> list[str]:
        """Of its files, below its folder."""
        return ["zarr.json", *map(self.layout.file_name, range(self.layout.n_files))]

    def check_files(self) -> None:
        """Raises OSError or CacheError where a file is missing or, in a sharded array, cut short."""
        for number in range(self.layout.n_files):
            path = self._file(number)
            size = path.stat().st_size
            if self.layout.sharded:
                with path.open("rb", buffering=0) as file:
                    index = self._index(number, file).astype(np.int64)
                there = index[index[:, 0] >= 0]
                if len(there) and there.sum(axis=1).max() > size:
                    raise CacheError(f"{path}: is cut short")

    def _read_layout(self) -> Layout:
        return read_layout(self._path)

    def _file(self, number: int) -> Path:
        assert isinstance(self._path, Path)
        return self._path / self.layout.file_name(number)

    def _read_file(self, number: int, start: int, stop: int, out: np.ndarray) -> None:
        path = self._file(number)
        chunk = self.layout.chunk
        with path.open("rb", buffering=0) as file:
            index = self._index(number, file) if self.layout.sharded else None
            for i in range(start // chunk, -(-stop // chunk)):
                first, last = max(start, i * chunk), min(stop, (i + 1) * chunk)
                place = (0, path.stat().st_size) if index is None else (int(index[i, 0]), int(index[i, 1]))
                part = out[first - start : last - start]
                self._read_chunk(file, path, place, first - i * chunk, part)

    def _index(self, number: int, file: BinaryIO) -> np.ndarray:
        """Offset and length of each chunk of a shard, uint64; read once."""
        if number not in self._indices:
            size = self._index_bytes
            file.seek(-size, 2)
            self._indices[number] = self._parsed_index(file.read(size), file.name)
        return self._indices[number]

    @property
    def _index_bytes(self) -> int:
        return 16 * (self.layout.file // self.layout.chunk) + CRC_BYTES

    def _parsed_index(self, content: bytes, name: object) -> np.ndarray:
        index, checksum = content[:-CRC_BYTES], content[-CRC_BYTES:]
        if len(content) < self._index_bytes or crc(index) != checksum:
            raise CacheError(f"{name}: the index of its chunks is damaged")
        return np.frombuffer(index, "<u8").reshape(-1, 2)

    def _read_chunk(self, file: BinaryIO, path: Path, place: tuple[int, int], start: int, out: np.ndarray) -> None:
        """Rows from `start` of a chunk on, as many as `out` has."""
        offset, length = place
        if offset == ABSENT:
            raise CacheError(f"{path}: a chunk of it was never written")
        flat = out.reshape(-1).view(np.uint8).data
        if not self.layout.packed:
            file.seek(offset + start * self.layout.row_bytes)
            if _read_exactly(file, flat) < len(flat):
                raise CacheError(f"{path}: is cut short")
            return
        file.seek(offset)
        packed = _buffer("packed", length)
        if _read_exactly(file, packed) < length:
            raise CacheError(f"{path}: is cut short")
        self._unpack(packed, path, start, flat)

    def _unpack(self, packed: memoryview, path: Place, start: int, flat: memoryview) -> None:
        """Rows from `start` of a packed chunk on, as many bytes as `flat` has."""
        size = self.layout.chunk * self.layout.row_bytes
        if _content_size(packed) != size:  # unpacking less would leave in the buffer what was there before
            raise WrongSizeError(f"{path}: a chunk of it holds {_content_size(packed)} bytes, expected {size}")
        if len(flat) == size:
            zstd.decompress(packed, flat)
        else:
            whole = _buffer("whole", size)
            zstd.decompress(packed, whole)
            flat[:] = whole[start * self.layout.row_bytes :][: len(flat)]


class RemoteArray(ArrayFiles):
    """The same of an array in an object store: what a read needs of a file is one request, its index one more, once."""

    def __init__(self, path: Remote, layout: Layout | None = None) -> None:
        self._path: Remote = path
        self.layout = layout or self._read_layout()
        self._indices = {}

    def check_files(self) -> None:
        """Raises OSError or CacheError where a file is missing; there is none that is cut short in an object store."""
        there = {each.name for each in self._path.objects()}
        for name in self.names():
            if name not in there:
                raise FileNotFoundError(f"{self._path / name} is not there")

    def _read_file(self, number: int, start: int, stop: int, out: np.ndarray) -> None:
        path, chunk, row = self._path / self.layout.file_name(number), self.layout.chunk, self.layout.row_bytes
        flat = out.reshape(-1).view(np.uint8).data
        if not self.layout.sharded and self.layout.packed:
            self._unpack(memoryview(path.read_bytes()), path, start, flat)
            return
        if not self.layout.sharded:
            flat[:] = path.read_ranges([start * row], [stop * row])[0]
            return
        rows = [(max(start, i * chunk), min(stop, (i + 1) * chunk)) for i in range(start // chunk, -(-stop // chunk))]
        index = self._remote_index(number, path)[start // chunk :][: len(rows)]
        if (index[:, 0] == ABSENT).any():
            raise CacheError(f"{path}: a chunk of it was never written")
        starts, lengths = index.astype(int).T
        if not self.layout.packed:
            starts = starts + [(first % chunk) * row for first, _ in rows]
            lengths = np.array([(last - first) * row for first, last in rows])
        parts = path.read_ranges(starts.tolist(), (starts + lengths).tolist())
        for (first, last), part in zip(rows, parts, strict=True):
            out_part = flat[(first - start) * row : (last - start) * row]
            if self.layout.packed:
                self._unpack(memoryview(part), path, first % chunk, out_part)
            else:
                out_part[:] = memoryview(part)

    def _remote_index(self, number: int, path: Remote) -> np.ndarray:
        if number not in self._indices:
            self._indices[number] = self._parsed_index(path.read_tail(self._index_bytes), path)
        return self._indices[number]


class CopiedArray(ArrayFiles):
    """The same of an array in an object store, whose files are fetched when they are first read and then kept."""

    def __init__(self, path: Remote, local: Path, fetch: Callable[[Remote, Path], None]) -> None:
        self._remote, self._fetch = path, fetch
        super().__init__(local)

    def _read_layout(self) -> Layout:
        assert isinstance(self._path, Path)
        self._fetch(self._remote / "zarr.json", self._path / "zarr.json")
        return super()._read_layout()

    def _file(self, number: int) -> Path:
        path = super()._file(number)
        self._fetch(self._remote / self.layout.file_name(number), path)
        return path

    def _read_file(self, number: int, start: int, stop: int, out: np.ndarray) -> None:
        try:
            super()._read_file(number, start, stop, out)
        except (StoreError, FileNotFoundError):
            raise
        except (OSError, CacheError, RuntimeError):  # the copy may be damaged, by a machine that stopped: fetch it anew
            self._indices.pop(number, None)
            super()._file(number).unlink(missing_ok=True)
            super()._read_file(number, start, stop, out)


def _read_exactly(file: BinaryIO, out: memoryview) -> int:
    """Bytes read into out; fewer than it has only at the end of the file."""
    done = 0
    while done < len(out):
        n = file.readinto(out[done:])  # type: ignore[attr-defined]
        if not n:
            break
        done += n
    return done


def _buffer(name: str, size: int) -> memoryview:
    """A buffer of this thread's own, used again and again: fresh memory costs as much as filling it."""
    buffer = getattr(_scratch, name, None)
    if buffer is None or len(buffer) < size:
        buffer = np.empty(size, np.uint8)
        setattr(_scratch, name, buffer)
    return buffer.data[:size]


def _content_size(packed: memoryview) -> int:
    """Bytes that a zstd frame unpacks to, by its header (RFC 8878, section 3.1.1.1); -1 where it does not say."""
    if len(packed) < 5:
        return -1
    descriptor = packed[4]
    single = descriptor >> 5 & 1
    n = (single, 2, 4, 8)[descriptor >> 6]
    start = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    if not n or len(packed) < start + n:
        return -1
    return int.from_bytes(packed[start : start + n], "little") + (256 if n == 2 else 0)
