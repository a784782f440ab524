"""Where a cache that is written lies, in an object store.

Who makes a recording uploads it (`cache.upload`). What counts is what index.parquet names, and that is replaced only if
it is still the version that this writer read or wrote: of two writers one is refused, and nothing of the other's is
lost.

A lease (`.lock`) keeps most writers from ever coming so far, as a local cache's lock does. It is renewed every
RENEW_S; one that nobody has renewed for STALE_S is taken over. Who takes over writes the index anew before anything is
deleted, so that a writer who was only slow can no longer commit.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from cache import index
from cache.clip import CacheError
from cache.folder import LOCK_FILE, CacheBusyError, holds_foreign, our_names
from cache.recording_writer import Finished, is_running
from cache.remote import ChangedError, Remote, StoreError
from cache.upload import LAST, discard
from cache.zarr_store import ZarrReader

RENEW_S = 60.0
STALE_S = 600.0


class Bucket:
    """A cache in an object store, held by a lease."""

    alone = False

    def __init__(self, path: Remote, ending: str) -> None:
        self.path = Remote(path.url)  # a writer keeps no copies
        self.recordings = self.path / index.RECORDINGS
        self._ending = ending
        self._index_tag: dict[str, str] | None = None
        self._names: set[str] = set()
        self._lease = _Lease(self.path / LOCK_FILE)

    def claim(self) -> None:
        if holds_foreign(self.path, self.recordings.folders):
            raise CacheError(f"{self.path}: holds {index.RECORDINGS}/ that is not a cache's; use another address")
        over = self._lease.take()
        try:
            self._lease.probe()
            if over:
                self._fence()
        except BaseException:
            self._lease.give_back()
            raise

    def release(self) -> None:
        self._lease.give_back()

    def _fence(self) -> None:
        """Another version of the index, so that the writer whose lease was taken over cannot replace it any more."""
        content = self._read_index()
        said = index.Index({}, {}, ()) if content is None else index.read_index(self.path, content)
        index.write_index(self.path, said, self.swap_index, mark=secrets.token_hex(8))

    def _read_index(self) -> bytes | None:
        try:
            content, self._index_tag, _ = (self.path / index.INDEX_FILE).read_tagged()
        except FileNotFoundError:
            self._index_tag = None
            return None
        return content

    def read_index(self) -> index.Index | None:
        content = self._read_index()
        return None if content is None else index.read_index(self.path, content)

    def swap_index(self, content: bytes) -> None:
        place, tag = self.path / index.INDEX_FILE, self._index_tag
        try:
            self._lease.check()
            self._index_tag = place.write_bytes(content, instead_of=tag, new=tag is None)
        except ChangedError:
            raise CacheBusyError(
                f"{self.path}: another process has written to this cache meanwhile; what it wrote counts, what was "
                "made here does not: run preprocess again when it has finished"
            ) from None

    def names(self) -> set[str]:
        return set(self._names)

    def by_age(self, names: Iterable[str]) -> list[str]:
        ages = {name: _age_if_whole(self.recordings / name) for name in names}
        return [name for age, name in sorted((age, name) for name, age in ages.items() if age is not None)]

    def settle(self, finished: Finished, retired: set[str]) -> str:
        self._names.add(finished.path.name)
        return finished.path.name

    def delete(self, name: str) -> None:
        discard(self.recordings / name)
        self._names.discard(name)

    def discard_unfinished(self) -> None:
        """What lies there and is not named is deleted by the next commit, like versions that were replaced."""
        self._names = our_names(self.recordings.folders(), self._ending)


def _age_if_whole(recording: Remote) -> datetime | None:
    """When it was made whole; None for a half of one, which nothing names and the next commit deletes."""
    try:
        _, _, modified = (recording / LAST).read_tagged()
        return modified if ZarrReader(recording).is_whole() else None
    except StoreError:
        raise
    except (OSError, ValueError, KeyError):
        return None


class _Lease:
    """An object that says who writes to a cache. A thread renews it."""

    def __init__(self, place: Remote) -> None:
        self._place = place
        self._tag: dict[str, str] = {}
        self._who = {"host": platform.node(), "pid": os.getpid(), "key": secrets.token_hex(8)}
        self._stop = threading.Event()
        self._lost = False
        self._thread: threading.Thread | None = None

    def take(self) -> bool:
        """Returns whether it was taken over from one that has not let go of it. Raises CacheBusyError."""
        over = False
        try:
            self._tag = self._place.write_bytes(self._content(), new=True)
        except ChangedError:
            self._tag = self._take_over()
            over = True
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()
        return over

    def probe(self) -> None:
        """Raises CacheError where the server replaces what it was told not to: nothing would keep writers apart."""
        with suppress(ChangedError):
            self._place.write_bytes(self._content(), new=True)
            self._place.delete()
            raise CacheError(
                f"{self._place}: this object store ignores If-None-Match, so that two writers would undo each other's "
                "work; preprocess into a local folder, and copy it there"
            )

    def check(self) -> None:
        """Raises ChangedError where another has taken it over."""
        if self._lost:
            raise ChangedError(f"{self._place}: was taken over")

    def give_back(self) -> None:
        self._stop.set()
        if self._thread is None:
            return
        self._thread.join()
        with suppress(StoreError, FileNotFoundError):  # it will be found stale
            if not self._lost and self._place.read_tagged()[1] == self._tag:
                self._place.delete()

    def _take_over(self) -> dict[str, str]:
        try:
            content, tag, since = self._place.read_tagged()
        except FileNotFoundError:  # given back just now
            return self._write(None)
        who = _parsed(content)
        age_s = (datetime.now(UTC) - since).total_seconds()
        gone = who.get("host") == self._who["host"] and not is_running(who.get("pid"))
        if age_s < STALE_S and not gone:
            raise CacheBusyError(
                f"{self._place}: process {who.get('pid', '?')} on {who.get('host', '?')} is writing to this cache (its "
                f"last sign of life is {max(0, age_s):.0f} s old); wait until it has finished. If it was killed, its "
                f"claim ends after {STALE_S / 60:.0f} minutes, or delete this object"
            )
        return self._write(tag)

    def _write(self, tag: dict[str, str] | None) -> dict[str, str]:
        try:
            written: dict[str, str] = self._place.write_bytes(self._content(), instead_of=tag, new=tag is None)
        except ChangedError:
            raise CacheBusyError(f"{self._place}: another process began to write to this cache just now") from None
        return written

    def _is_own(self) -> bool:
        """Whether the claim there is of this writer: the answer to a renewal was lost, and all tries after it."""
        try:
            content, tag, _ = self._place.read_tagged()
        except StoreError:
            return True  # unknown: the next renewal says it
        except FileNotFoundError:
            return False
        if _parsed(content).get("key") != self._who["key"]:
            return False
        self._tag = tag
        return True

    def _content(self) -> bytes:
        # Another text each time: the mark of a version may be a checksum of it.
        return json.dumps(self._who | {"sign": secrets.token_hex(4)}).encode() + b"\n"

    def _renew(self) -> None:
        while not self._stop.wait(RENEW_S):
            try:
                self._tag = self._place.write_bytes(self._content(), instead_of=self._tag)
            except ChangedError:
                if not self._is_own():
                    self._lost = True
                    return
            except StoreError:  # the next time, perhaps
                continue


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        who = json.loads(content)
    except ValueError:
        return {}
    return who if isinstance(who, dict) else {}
