"""Writing a cache so that it may be killed at any moment.

A recording is written under a temporary name and then renamed: it is there whole or not at all. A new version of it
gets a new name, and which version counts is what the index says; the index is swapped in one step. Old versions are
deleted after that. Readers that still use one finish with an error, never with wrong data.

One process holds the cache (CacheWriter); others may write recordings for it (Writer), which it then takes.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from filelock import FileLock, Timeout

from cache import fingerprint, index
from cache.clip import ARRAY_DTYPES, CacheError, RecordingMeta, meta_to_dict
from cache.store import FORMATS, Reader, compression_of, explained, open_reader
from cache.zarr_store import ZarrReader, ZarrWriter

LOCK_FILE = ".lock"
_OUR_NAME = re.compile(r".*\.[0-9a-f]{8}\.(zarr|h5)")
_number = itertools.count()
COPY_FRAMES = 360  # frames in memory when they are copied from one recording to another


class CacheBusyError(CacheError):
    """Another process writes to the cache."""


@dataclass(frozen=True)
class Finished:
    """A recording that is whole on the disk under a temporary name; `CacheWriter.take` gives it its place."""

    path: Path
    meta: RecordingMeta

    def discard(self) -> None:
        """Delete it."""
        _delete(self.path)


class Writer:
    """One recording on its way into a cache.

    Any process may write one into the folder `recordings` of a cache; only what the cache's own writer takes counts.
    """

    def __init__(
        self,
        recordings: Path,
        store: str,
        recording: str,
        take: Callable[[Finished], None] | None = None,
        *,
        compression: str = "auto",
    ) -> None:
        self._recording = recording
        self._take = take
        # The process in its name: one that outlives its killed cache writer never writes into the next one's files.
        # The number: names that a file system, or being cut to its length, makes one are still apart.
        mark = f"{_mark(os.getpid())}{next(_number)}-"
        self._temporary = recordings / (mark + _file_name(recording, FORMATS[store].suffix))
        _delete(self._temporary)
        self._compression = compression_of(store, compression)
        self._arrays = FORMATS[store].writer(self._temporary, self._compression)
        self._frame_shape: tuple[int, ...] | None = None

    def append_frames(self, frames: np.ndarray) -> None:
        """Frames (n, H, W, C) uint8 after the former ones; n need not be a round number."""
        self._frame_shape = self._frame_shape or frames.shape[1:]
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != self._frame_shape:
            expected = self._frame_shape if frames.ndim == 4 else "(H, W, C)"
            raise ValueError(f"frames of {frames.shape} {frames.dtype}: expected n times {expected}, uint8")
        self._arrays.append_frames(frames)

    def copy_frames_from(self, reader: Reader, alive: Callable[[], object] = lambda: None) -> None:
        """All frames of another version of the recording; in a zarr cache they are linked, which takes no time, unless
        they are to be packed otherwise.

        alive: called now and then while they are. Raises CacheError where that version is damaged.
        """
        if not reader.meta.has_frames:
            return
        n_frames, frame_shape = reader.meta.n_frames, reader.meta.frame_shape
        own = self._arrays
        if isinstance(reader, ZarrReader) and isinstance(own, ZarrWriter):
            with explained(reader.path):
                reader.check_frames()
                linked = own.takes_files_of(reader)
            if linked:
                own.link_frames(reader)
                self._frame_shape = frame_shape
                return
        buffer = np.empty((min(COPY_FRAMES, n_frames), *frame_shape), np.uint8)
        for start in range(0, n_frames, COPY_FRAMES):
            block = buffer[: n_frames - start]
            with explained(reader.path):
                reader.read_frames_into(start, start + len(block), block)
            self.append_frames(block)
            alive()

    def finish(
        self,
        meta: RecordingMeta,
        *,
        keypoints: np.ndarray,
        labels: np.ndarray,
        frame_index: np.ndarray,
        time_s: np.ndarray,
        intact: np.ndarray | None = None,
    ) -> Finished:
        """Write the arrays (n, ...), n rows for all clips together; a recording of `CacheWriter.writer` is then in it.

        intact None: every frame is. `cache.clip` describes the arrays.
        Raises ValueError where rows, frames and clips don't fit each other; what was written is then discarded.
        """
        arrays = {"keypoints": keypoints, "labels": labels, "frame_index": frame_index, "time_s": time_s}
        meta = replace(meta, compression=self._compression if meta.has_frames else "")
        arrays["intact"] = np.ones(meta.n_frames, dtype=bool) if intact is None else intact
        try:
            _check(meta, self._recording, (self._arrays.n_frames, *(self._frame_shape or ())), arrays)
            typed = {name: np.ascontiguousarray(arrays[name], dtype) for name, dtype in ARRAY_DTYPES.items()}
            self._arrays.finish(meta, typed)
            for path in _walk(self._temporary):
                index.sync(path)
        except BaseException:
            self.discard()
            raise
        finished = Finished(self._temporary, meta)
        if self._take is not None:
            self._take(finished)
        return finished

    def discard(self) -> None:
        """Forget the recording; an earlier version in the cache stays."""
        self._arrays.close()
        _delete(self._temporary)


class CacheWriter:
    """A cache open for writing, by one process at a time. As a context manager it commits at the end.

    recordings: what is whole on disk, also what a killed run finished but did not commit. An exception that leaves the
    `with` block commits nothing; what was finished before is found again by the next writer. Of what else lies in the
    folder nothing is touched.
    """

    def __init__(self, path: Path, store: str, compression: str) -> None:
        self.path = path
        self.store = store
        self.compression = compression_of(store, compression)
        self.suffix = FORMATS[store].suffix
        self.recordings_folder = path / index.RECORDINGS
        if _holds_foreign_recordings(path, self.recordings_folder):
            raise CacheError(f"{path}: holds a folder {index.RECORDINGS} that is not a cache's; use another folder")
        try:
            self.recordings_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(f"{path}: cannot be made a cache ({error}); use another folder") from None
        self._lock = FileLock(path / LOCK_FILE, timeout=0, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise CacheBusyError(
                f"{path}: another process is writing to this cache; wait until it has finished, or use another folder"
            ) from None
        try:
            self._load()
        except BaseException:
            self._lock.release()
            raise

    def _load(self) -> None:
        """Take over the index and what a killed run finished beyond it; delete what it left half done."""
        if not (self.path / index.FORMAT_FILE).exists():
            index.write_format(self.path, self.store)
        if (found := index.read_format(self.path)) != self.store:
            raise CacheError(
                f"{self.path}: the cache's store is {found}, not {self.store}; use --store {found} or another folder"
            )
        # What the index on disk says; None: there is none.
        self._written: index.Index | None = None
        if (self.path / index.INDEX_FILE).exists():
            self._written = index.read_index(self.path)
        committed = self._written or index.Index({}, {}, ())
        for path in list(self.recordings_folder.glob(f"{index.TEMPORARY}*")):
            _delete(path)
        self._retired = set(committed.retired)
        self._committed = set(committed.files.values())
        on_disk = set(self._names())
        self._files = {name: file for name, file in committed.files.items() if file in on_disk}
        self.recordings = {name: committed.recordings[name] for name in self._files}
        self._skipped: list[index.Skip] = []
        self._skipped_before = committed.skipped
        self._adopt(on_disk - self._committed - self._retired)

    def _adopt(self, names: set[str]) -> None:
        """Take what a killed run finished after its last commit; of two versions of a recording the later one."""
        paths = [self.recordings_folder / name for name in names]
        for path in sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name)):
            with suppress(CacheError):  # damaged: nothing names it, and the next commit deletes it
                meta = open_reader(path).meta
                self.recordings[meta.recording] = meta
                self._files[meta.recording] = path.name

    def writer(self, recording: str) -> Writer:
        """Begin a recording, or a new version of it; a second one for the same recording replaces the first."""
        return Writer(self.recordings_folder, self.store, recording, self.take, compression=self.compression)

    def file_of(self, recording: str) -> Path:
        """Where the version that is whole on disk lies. Raises KeyError where there is none."""
        return self.recordings_folder / self._files[recording]

    def reader(self, recording: str) -> Reader:
        """That version. Raises KeyError where there is none."""
        return open_reader(self.file_of(recording))

    def remove(self, recording: str) -> None:
        """Take a recording out, at the next commit. Raises KeyError where there is none."""
        del self.recordings[recording]
        del self._files[recording]

    def skip(self, recording: str, trial: int | None, reason: str) -> None:
        """Say why a trial, or with trial None a whole recording, is not in the cache."""
        self._skipped.append(index.Skip(recording, trial, reason))

    def keep_skips(self, recording: str) -> None:
        """Go on saying what was said, before this writer, of the trials of a recording that stays as it is."""
        self._skipped += [
            skip for skip in self._skipped_before if skip.recording == recording and skip.trial is not None
        ]

    def describe(self, meta: RecordingMeta) -> None:
        """Replace what is said of a recording (paths, settings), at the next commit; its arrays stay as they are.

        Only the index is written. Raises ValueError unless clips and fingerprints say what they said.
        """
        old = self.recordings[meta.recording]
        rows = [[(clip.trial, clip.start, clip.stop, clip.first_frame) for clip in each.clips] for each in (old, meta)]
        if rows[0] != rows[1] or old.fingerprints != meta.fingerprints:
            raise ValueError(f"recording {meta.recording}: other clips or fingerprints need a new version")
        self.recordings[meta.recording] = meta

    def commit(self) -> None:
        """Make what was written, removed and skipped so far what readers see."""
        files = dict(sorted(self._files.items()))
        recordings = {name: self.recordings[name] for name in files}
        retired = sorted(set(self._names()) - set(files.values()))
        content = index.Index(recordings, files, tuple(self._skipped), tuple(retired))
        if content != self._written:
            index.write_index(self.path, content)
            self._written = content
        self._committed = set(files.values())
        for name in retired:
            _delete(self.recordings_folder / name)
        self._retired = set(retired) & set(self._names())
        if retired:
            # Said no longer than needed: the index is then the same whenever in between there were commits and kills.
            self._written = replace(content, retired=tuple(sorted(self._retired)))
            index.write_index(self.path, self._written)

    def close(self) -> None:
        """Commit, and let others write."""
        try:
            self.commit()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._lock.release()

    def take(self, finished: Finished) -> None:
        """Move a finished recording into place, under a name that no version of it has had."""
        meta = finished.meta
        path = self._unused_path(meta)
        finished.path.rename(path)
        index.sync(self.recordings_folder)
        former = self._files.get(meta.recording)
        self._files[meta.recording] = path.name
        self.recordings[meta.recording] = meta
        if former is not None and former not in self._committed:
            _delete(self.recordings_folder / former)

    def _unused_path(self, meta: RecordingMeta) -> Path:
        version = 0
        while True:
            key = fingerprint.of_values(meta=meta_to_dict(meta), version=version)[:8]
            path = self.recordings_folder / _file_name(meta.recording, f".{key}{self.suffix}")
            if not path.exists() and path.name not in self._retired:
                return path
            version += 1

    def _names(self) -> Iterator[str]:
        names = (path.name for path in self.recordings_folder.iterdir())
        return (
            name
            for name in names
            if _OUR_NAME.fullmatch(name) and name.endswith(self.suffix) and not name.startswith(index.TEMPORARY)
        )


def create(path: Path | str, *, store: str = "zarr", compression: str = "auto") -> CacheWriter:
    """Open a cache for writing, and make it where there is none.

    store: zarr or hdf5. compression of frames written from now on: zstd (small; zarr alone), none (faster to read), or
    auto: zstd for zarr, none for hdf5.
    Raises CacheBusyError while another process writes to it, CacheError where it has another store or schema version.
    """
    return CacheWriter(Path(path), store, compression)


def discard_left_by(pid: int | None, recordings: Path) -> None:
    """Delete what a process that is gone left half made in the folder `recordings` of a cache."""
    for path in list(recordings.glob(f"{_mark(pid)}*")):
        _delete(path)


def _mark(pid: int | None) -> str:
    return f"{index.TEMPORARY}{pid}-"


def _holds_foreign_recordings(path: Path, recordings: Path) -> bool:
    """Whether there is something in the folder `recordings` of a folder that was never made a cache."""
    # A writer killed before it could write the format file leaves the folder empty.
    return not (path / index.FORMAT_FILE).exists() and recordings.is_dir() and any(recordings.iterdir())


def _check(meta: RecordingMeta, recording: str, frames_shape: tuple[int, ...], arrays: dict[str, np.ndarray]) -> None:
    name, rows = meta.recording, meta.n_frames
    if name != recording:
        raise ValueError(f"recording {name}: the writer is for {recording}")
    starts = [0, *(clip.stop for clip in meta.clips)]
    if not meta.clips or any(c.start != start or c.stop <= start for c, start in zip(meta.clips, starts, strict=False)):
        raise ValueError(f"recording {name}: its clips must follow one another from row 0 on, found {meta.clips}")
    frames_expected = (rows, *meta.frame_shape) if meta.has_frames else (0,)
    expected = {"frames": frames_expected, "keypoints": (rows, len(meta.keypoint_names), 3)}
    found = {"frames": frames_shape} | {array: values.shape for array, values in arrays.items()}
    for array, shape in found.items():
        if shape != (needed := expected.get(array, (rows,))):
            raise ValueError(f"recording {name}: {array} of {shape}, its clips need {needed}")


def _file_name(recording: str, ending: str) -> str:
    # File systems allow 255 bytes; the key, of which the whole name is a part, keeps shortened names apart.
    return recording.encode()[:200].decode(errors="ignore") + ending


def _walk(path: Path) -> Iterator[Path]:
    """Files before the folders that hold them."""
    for folder, _, files in os.walk(path, topdown=False):
        yield from (Path(folder, file) for file in files)
        yield Path(folder)
    if path.is_file():
        yield path


def _delete(path: Path) -> None:
    """Delete a file or a folder: moved away first, so that no reader finds a half of it.

    What another program holds open on Windows stays; the next writer tries again.
    """
    trash = path
    if not path.name.startswith(index.TEMPORARY):
        trash = path.with_name(f"{index.TEMPORARY}{path.name}")
    with suppress(OSError):
        path.rename(trash)
        if trash.is_dir():
            shutil.rmtree(trash)
        else:
            trash.unlink()
