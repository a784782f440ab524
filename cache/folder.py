"""Where a cache that is written lies: what its writer does with files, in a local folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from cache import fingerprint, index
from cache.clip import CacheError, RecordingMeta, meta_to_dict
from cache.recording_writer import Finished, delete, file_name
from cache.remote import Place

LOCK_FILE = ".lock"
_OUR_NAME = re.compile(r".*\.[0-9a-f]{8}\.(zarr|h5)")


class CacheBusyError(CacheError):
    """Another process writes to the cache."""


class Home(Protocol):
    """A cache's place, while one process writes to it. `Folder` and `cache.bucket.Bucket` are such.

    alone: whether its claim keeps all others out for certain; if not, one whose claim was taken over may go on for a
    while, and the other may have committed what it made.
    """

    @property
    def alone(self) -> bool: ...
    @property
    def path(self) -> Place: ...
    @property
    def recordings(self) -> Place: ...

    def claim(self) -> None:
        """Keep other writers out. Raises CacheBusyError, and CacheError where no cache can be."""

    def release(self) -> None:
        """Let others write."""

    def read_index(self) -> index.Index | None:
        """What index.parquet says; None where there is none."""

    def swap_index(self, content: bytes) -> None:
        """Replace index.parquet in one step."""

    def names(self) -> set[str]:
        """Of the recordings that are there under a name of their own."""

    def by_age(self, names: Iterable[str]) -> list[str]:
        """Those that are whole, the oldest first."""

    def settle(self, finished: Finished, retired: set[str]) -> str:
        """Give a finished recording a name that no version of it has had, none of `retired`; returns it."""

    def delete(self, name: str) -> None:
        """Delete a recording, and so that no reader finds a half of it."""

    def discard_unfinished(self) -> None:
        """Delete what was left half made, by processes that are gone."""


class Folder:
    """A cache in a local folder, held by a lock on a file."""

    alone = True

    def __init__(self, path: Path, ending: str) -> None:
        self.path = path
        self.recordings = path / index.RECORDINGS
        self._ending = ending
        self._lock = FileLock(path / LOCK_FILE, timeout=0, thread_local=False)

    def claim(self) -> None:
        if holds_foreign(self.path, lambda: self.recordings.iterdir() if self.recordings.is_dir() else ()):
            raise CacheError(f"{self.path}: holds a folder {index.RECORDINGS} that is not a cache's; {_ELSEWHERE}")
        try:
            self.recordings.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(f"{self.path}: cannot be made a cache ({error}); {_ELSEWHERE}") from None
        try:
            self._lock.acquire()
        except Timeout:
            raise CacheBusyError(
                f"{self.path}: another process is writing to this cache; wait until it has finished, or {_ELSEWHERE}"
            ) from None

    def release(self) -> None:
        self._lock.release()

    def read_index(self) -> index.Index | None:
        for path in index.left_behind(self.path):
            delete(path)
        return index.read_index(self.path) if (self.path / index.INDEX_FILE).exists() else None

    def swap_index(self, content: bytes) -> None:
        index.replace(self.path / index.INDEX_FILE, content)

    def names(self) -> set[str]:
        return our_names((path.name for path in self.recordings.iterdir()), self._ending)

    def by_age(self, names: Iterable[str]) -> list[str]:
        paths = [self.recordings / name for name in names]
        return [path.name for path in sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))]

    def settle(self, finished: Finished, retired: set[str]) -> str:
        assert isinstance(finished.path, Path)
        path = self._unused_path(finished.meta, retired)
        finished.path.rename(path)
        index.sync(self.recordings)
        return path.name

    def _unused_path(self, meta: RecordingMeta, retired: set[str]) -> Path:
        version = 0
        while True:
            key = fingerprint.of_values(meta=meta_to_dict(meta), version=version)[:8]
            path = self.recordings / file_name(meta.recording, f".{key}{self._ending}")
            if not path.exists() and path.name not in retired:
                return path
            version += 1

    def delete(self, name: str) -> None:
        delete(self.recordings / name)

    def discard_unfinished(self) -> None:
        for path in self.recordings.glob(f"{index.TEMPORARY}*"):
            delete(path)


_ELSEWHERE = "use another folder"


def our_names(names: Iterable[str], ending: str) -> set[str]:
    """Those that a cache gives to recordings."""
    return {
        name
        for name in names
        if _OUR_NAME.fullmatch(name) and name.endswith(ending) and not name.startswith(index.TEMPORARY)
    }


def holds_foreign(path: Place, recordings: Callable[[], Iterable[object]]) -> bool:
    """Whether there is something in the folder `recordings` of a place that was never made a cache."""
    # A writer killed before it could write the format file leaves the folder empty.
    return not (path / index.FORMAT_FILE).exists() and any(recordings())
