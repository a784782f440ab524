"""Copies of what was read of a cache in an object store, in a local folder.

FOLDER/NAME-KEY/RECORDING/... has each object that was asked for. NAME and KEY are of the cache's address; RECORDING is
the name of a version of a recording, which no other version has: a copy is never out of date. What belongs to versions
that are gone is not deleted by itself; the whole folder may be, whenever nothing reads it.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from cache import fingerprint
from cache.remote import Remote, StoreError

PARTIAL = ".partial"  # where downloads lie until they are whole
_OLD_S = 3600.0  # of a download that nothing has been added to: it was killed

Fetch = Callable[[Remote, Path], None]

_guard = threading.Lock()
_fetching: dict[Path, threading.Lock] = {}


def copied(recording: Remote) -> tuple[Path, Fetch]:
    """Where the copy of a recording lies, and what fetches an object of it: fetch(object, its path in the copy)."""
    assert recording.copy is not None
    cache_url = recording.url.rsplit("/", 2)[0]
    folder = _prepared(recording.copy, cache_url)
    return folder / recording.name, lambda remote, path: _fetch(remote, path, folder / PARTIAL)


@lru_cache
def _prepared(copy: Path, cache_url: str) -> Path:
    """The folder of a cache's copies, without what killed downloads left there."""
    key = fingerprint.of_values(url=cache_url)[:8]
    folder = copy / f"{cache_url.rpartition('/')[2]}-{key}"
    with _explained(copy):
        (folder / PARTIAL).mkdir(parents=True, exist_ok=True)
    for path in (folder / PARTIAL).iterdir():
        try:
            if time.time() - path.stat().st_mtime > _OLD_S:
                path.unlink()
        except OSError:  # another process has moved or deleted it
            continue
    return folder


def _fetch(remote: Remote, path: Path, partial: Path) -> None:
    """Beside, and then moved into place. Threads wait for one another; two processes both fetch it, harmlessly."""
    if path.exists():
        return
    with _guard:
        lock = _fetching.setdefault(path, threading.Lock())
    with lock:
        if not path.exists():
            content = remote.read_bytes()
            beside = partial / uuid.uuid4().hex
            with _explained(partial.parent):
                try:
                    beside.write_bytes(content)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    beside.replace(path)
                except BaseException:
                    beside.unlink(missing_ok=True)
                    raise
    with _guard:
        _fetching.pop(path, None)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """What goes wrong with the copy says nothing of the store, where all is as it was."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"--cache-copy {folder}: cannot be written ({error}); make room, or give another folder or none"
        ) from None
