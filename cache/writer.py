"""Writing a cache so that it may be killed at any moment.

A recording is written under a temporary name and then renamed: it is there whole or not at all. A new version of it
gets a new name, and which version counts is what the index says; the index is swapped in one step. Old versions are
deleted after that. Readers that still use one finish with an error, never with wrong data.

One process holds the cache (CacheWriter); others may write recordings for it (Writer), which it then takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from cache import fingerprint, index
from cache.clip import CacheError, RecordingMeta, meta_to_dict
from cache.recording_writer import Finished, Writer, delete, file_name
from cache.store import FORMATS, Reader, compression_of, open_reader

LOCK_FILE = ".lock"
_OUR_NAME = re.compile(r".*\.[0-9a-f]{8}\.(zarr|h5)")


class CacheBusyError(CacheError):
    """Another process writes to the cache."""


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
        self.discard_unfinished()
        for path in index.left_behind(self.path):
            delete(path)
        if self._written is not None and not index.is_said(self.path, self._written.skipped):
            self._written = None  # killed between the index and the table that says the same: both are written again
        self._retired = set(committed.retired)
        self._committed = set(committed.files.values())
        on_disk = set(self._names())
        self._files = {name: file for name, file in committed.files.items() if file in on_disk}
        self.recordings = {name: committed.recordings[name] for name in self._files}
        self._skipped: list[index.Skip] = []
        self._skipped_before: dict[str, list[index.Skip]] = {}
        for skip in committed.skipped:
            self._skipped_before.setdefault(skip.recording, []).append(skip)
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
        self._skipped += [skip for skip in self._skipped_before.get(recording, []) if skip.trial is not None]

    def describe(self, meta: RecordingMeta) -> None:
        """Replace what is said of a recording (paths, settings), at the next commit; its arrays stay as they are.

        Only the index is written. Raises ValueError unless clips and fingerprints say what they said.
        """
        old = self.recordings[meta.recording]
        rows = [[(clip.trial, clip.start, clip.stop, clip.first_frame) for clip in each.clips] for each in (old, meta)]
        if rows[0] != rows[1] or old.fingerprints != meta.fingerprints:
            raise ValueError(f"recording {meta.recording}: other clips or fingerprints need a new version")
        self.recordings[meta.recording] = meta

    def discard_unfinished(self) -> None:
        """Delete what processes that are gone left half made, and what nobody took."""
        for path in self.recordings_folder.glob(f"{index.TEMPORARY}*"):
            delete(path)

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
            delete(self.recordings_folder / name)
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
            delete(self.recordings_folder / former)

    def _unused_path(self, meta: RecordingMeta) -> Path:
        version = 0
        while True:
            key = fingerprint.of_values(meta=meta_to_dict(meta), version=version)[:8]
            path = self.recordings_folder / file_name(meta.recording, f".{key}{self.suffix}")
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


def _holds_foreign_recordings(path: Path, recordings: Path) -> bool:
    """Whether there is something in the folder `recordings` of a folder that was never made a cache."""
    # A writer killed before it could write the format file leaves the folder empty.
    return not (path / index.FORMAT_FILE).exists() and recordings.is_dir() and any(recordings.iterdir())
