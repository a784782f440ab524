"""What a file format does: the two protocols that both fill, and a recording that opens itself when it is read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from cache.clip import CacheError, RecordingMeta, first_line
from cache.hdf5_store import SUFFIX as HDF5_SUFFIX
from cache.hdf5_store import HDF5Reader, HDF5Writer
from cache.remote import Place, Remote, StoreError
from cache.zarr_store import SUFFIX as ZARR_SUFFIX
from cache.zarr_store import ZarrReader, ZarrWriter


class Reader(Protocol):
    """A finished recording; safe to use from several threads."""

    @property
    def path(self) -> Place: ...
    @property
    def meta(self) -> RecordingMeta: ...

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) of an array, freshly read."""

    def read_frames_into(self, start: int, stop: int, out: np.ndarray) -> None:
        """Frames [start, stop) into out (stop - start, H, W, C) uint8, C-contiguous."""


class ArrayWriter(Protocol):
    """A recording that is being written; what a format does of `cache.Writer`."""

    n_frames: int

    def append_frames(self, frames: np.ndarray) -> None:
        """Frames (n, H, W, C) uint8 after the former ones."""

    def finish(self, meta: RecordingMeta, arrays: dict[str, np.ndarray]) -> None:
        """Write everything else, the metadata last."""

    def close(self) -> None:
        """Let go of the files."""


@dataclass(frozen=True)
class Format:
    """What reads and writes recordings whose names end in `suffix`.

    writer: of a path and one of `compressions`, of which the first is the default.
    """

    suffix: str
    reader: Callable[[Path], Reader]
    writer: Callable[[Path, str], ArrayWriter]
    compressions: tuple[str, ...]


FORMATS = {
    "zarr": Format(ZARR_SUFFIX, ZarrReader, ZarrWriter, ("zstd", "none")),
    "hdf5": Format(HDF5_SUFFIX, HDF5Reader, HDF5Writer, ("none",)),
}


def compression_of(store: str, wanted: str) -> str:
    """How a store packs frames: zstd or none; `wanted` may be auto. Raises CacheError for what it cannot do."""
    possible = FORMATS[store].compressions
    if wanted != "auto" and wanted not in possible:
        raise CacheError(f"--compression {wanted}: the {store} store takes {' or '.join(possible)}; use --store zarr")
    return possible[0] if wanted == "auto" else wanted


def open_reader(path: Place, meta: RecordingMeta | None = None) -> Reader:
    """Open a finished recording, by the suffix of its name. Raises CacheError.

    meta: where it is known, an object store is not asked for it.
    """
    with explained(path):
        if isinstance(path, Remote):
            return ZarrReader(path, meta)
        reader = next(form.reader for form in FORMATS.values() if form.suffix == path.suffix)
        return reader(path)


def is_packed_as(meta: RecordingMeta, store: str, wanted: str) -> bool:
    """Whether a recording's frames, if it has any, are compressed as is wanted; wanted may be auto."""
    found = meta.compression or FORMATS[store].compressions[0]
    return not meta.has_frames or found == compression_of(store, wanted)


class Recording:
    """A recording in the cache, opened when it is first read; its small arrays are read once and shared."""

    def __init__(self, path: Place, meta: RecordingMeta) -> None:
        self.path = path
        self.meta = meta
        self._lock = threading.Lock()
        self._reader: Reader | None = None
        self._arrays: dict[str, np.ndarray] = {}

    def array(self, name: str) -> np.ndarray:
        """A whole small array, read-only."""
        reader = self._opened()
        with self._lock:
            if name not in self._arrays:
                with explained(self.path):
                    values = reader.read(name, 0, self.meta.n_frames)
                values.setflags(write=False)
                self._arrays[name] = values
            return self._arrays[name]

    def forget(self) -> None:
        """Let go of the small arrays."""
        with self._lock:
            self._arrays.clear()

    def read_frames_into(self, start: int, stop: int, out: np.ndarray) -> None:
        """Frames [start, stop) of the recording's array into out."""
        reader = self._opened()
        with explained(self.path):
            reader.read_frames_into(start, stop, out)

    def _opened(self) -> Reader:
        with self._lock:
            if self._reader is None:
                self._reader = open_reader(self.path, self.meta)
            return self._reader


@contextmanager
def explained(path: Place) -> Iterator[None]:
    """Turn what a format raises for missing or damaged files into a CacheError that says what to do."""
    try:
        yield
    except (MemoryError, StoreError):
        raise
    except Exception as error:  # damaged files make zarr, numcodecs and HDF5 raise whatever they meet first
        raise CacheError(
            f"{path}: cannot be read ({first_line(error)}); if preprocess has run meanwhile, start again; otherwise "
            "delete it and run preprocess"
        ) from error
