"""Writing a cache so that it may be killed at any moment.

A recording is written under a temporary name and then renamed: it is there whole or not at all. A new version of it
gets a new name, and which version counts is what the index says; the index is swapped in one step. Old versions are
deleted after that. Readers that still use one finish with an error, never with wrong data. How all that is done is
another matter in a folder (`cache.folder`) than in an object store (`cache.bucket`).

One process holds the cache (CacheWriter); others may write recordings for it (Writer), which it then takes.
"""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import Self

from cache import index
from cache.bucket import Bucket
from cache.clip import CacheError, RecordingMeta
from cache.folder import Folder, Home
from cache.recording_writer import Finished, Writer
from cache.remote import Place, Remote, StoreError, place
from cache.store import FORMATS, Reader, compression_of, open_reader


class CacheWriter:
    """A cache open for writing, by one process at a time. As a context manager it commits at the end.

    recordings: what is whole on disk, also what a killed run finished but did not commit. An exception that leaves the
    `with` block commits nothing; what was finished before is found again by the next writer. Of what else lies in the
    folder nothing is touched.
    """

    def __init__(self, path: Place, store: str, compression: str) -> None:
        self.store = store
        self.compression = compression_of(store, compression)
        self.suffix = FORMATS[store].suffix
        if isinstance(path, Remote) and store != "zarr":
            raise CacheError(f"{path}: the {store} store needs a local folder; use --store zarr")
        self._home: Home = Bucket(path, self.suffix) if isinstance(path, Remote) else Folder(path, self.suffix)
        self.path, self.recordings_folder = self._home.path, self._home.recordings
        self._home.claim()
        try:
            self._load()
        except BaseException:
            self._home.release()
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
        self._written = self._home.read_index()
        committed = self._written or index.Index({}, {}, ())
        self.discard_unfinished()
        if self._written is not None and not index.is_said(self.path, self._written.skipped):
            self._written = None  # killed between the index and the table that says the same: both are written again
        self._retired = set(committed.retired)
        self._committed = set(committed.files.values())
        on_disk = self._home.names()
        self._files = {name: file for name, file in committed.files.items() if file in on_disk}
        self.recordings = {name: committed.recordings[name] for name in self._files}
        self._skipped: list[index.Skip] = []
        self._skipped_before: dict[str, list[index.Skip]] = {}
        for skip in committed.skipped:
            self._skipped_before.setdefault(skip.recording, []).append(skip)
        self._adopt(on_disk - self._committed - self._retired)

    def _adopt(self, names: set[str]) -> None:
        """Take what a killed run finished after its last commit; of two versions of a recording the later one."""
        for name in self._home.by_age(names):
            try:
                meta = open_reader(self.recordings_folder / name).meta
            except StoreError:
                raise
            except CacheError:  # damaged: nothing names it, and the next commit deletes it
                continue
            # It may be of a writer that was refused: older than what counts, whenever it was put there.
            if not self._home.alone and self._files.get(meta.recording) in self._committed:
                continue
            self.recordings[meta.recording] = meta
            self._files[meta.recording] = name

    def writer(self, recording: str) -> Writer:
        """Begin a recording, or a new version of it; a second one for the same recording replaces the first."""
        return Writer(self.recordings_folder, self.store, recording, self.take, compression=self.compression)

    def file_of(self, recording: str) -> Place:
        """Where the version that is whole lies. Raises KeyError where there is none."""
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
        self._home.discard_unfinished()

    def commit(self) -> None:
        """Make what was written, removed and skipped so far what readers see."""
        files = dict(sorted(self._files.items()))
        recordings = {name: self.recordings[name] for name in files}
        retired = sorted(self._home.names() - set(files.values()))
        content = index.Index(recordings, files, tuple(self._skipped), tuple(retired))
        if content != self._written:
            index.write_index(self.path, content, self._home.swap_index)
            self._written = content
        self._committed = set(files.values())
        for name in retired:
            self._home.delete(name)
        self._retired = set(retired) & self._home.names()
        if retired:
            # Said no longer than needed: the index is then the same whenever in between there were commits and kills.
            self._written = replace(content, retired=tuple(sorted(self._retired)))
            index.write_index(self.path, self._written, self._home.swap_index)

    def close(self) -> None:
        """Commit, and let others write."""
        try:
            self.commit()
        finally:
            self._home.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._home.release()

    def take(self, finished: Finished) -> None:
        """Give a finished recording its place, under a name that no version of it has had."""
        meta = finished.meta
        name = self._home.settle(finished, self._retired)
        former = self._files.get(meta.recording)
        self._files[meta.recording] = name
        self.recordings[meta.recording] = meta
        # Who took the claim over may have committed it: the next commit deletes it, if that one counts.
        if former is not None and former not in self._committed and self._home.alone:
            self._home.delete(former)


def create(path: Place | str, *, store: str = "zarr", compression: str = "auto") -> CacheWriter:
    """Open a cache for writing, in a folder or an object store (s3://bucket/cache), and make it where there is none.

    store: zarr, or in a folder hdf5. compression of frames written from now on: zstd (small; zarr alone), none (faster
    to read), or auto: zstd for zarr, none for hdf5.
    Raises CacheBusyError while another process writes to it, CacheError where it has another store or schema version.
    """
    return CacheWriter(place(path), store, compression)
