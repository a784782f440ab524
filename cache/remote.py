"""A place in an object store: what of pathlib.Path the cache needs, by few and whole requests.

obstore (the extra s3) carries the requests. Where they go and with which credentials is what its environment says
(AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ...), never an option of this program.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cache.clip import CacheError, first_line

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# In threads: requests that are under way at a time. Each takes some 20 to 100 ms, whatever it asks for.
AT_ONCE = 16
RETRY_S = 90.0  # of asking again, with longer and longer pauses, what failed for a reason that may pass
REQUEST_S = 300.0  # for one request: 18 MB take so long at 0.5 Mbit/s
CONNECT_S = 10.0
_URL = re.compile(r"(s3|gs|az):/+([^/]+)/*(.*?)/*", re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # of two letters or more: C:/ is a disk
# The last is where machines of the cloud ask for theirs, when the environment has none.
_DENIED = re.compile(r"403 Forbidden|401 Unauthorized|169\.254\.169\.254")
_CREDENTIALS = (
    "set the credentials in the environment, for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (the files in ~/.aws "
    "are not read), and see what they may do there"
)

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")

Answer = TypeVar("Answer")

_first_process = 0  # that used an object store; kept in its forks


class StoreError(CacheError, OSError):
    """An object store refuses, or cannot be reached; the message says what it said. What lies there is as it was."""


class ChangedError(CacheError):
    """An object that was to be made or replaced has been made or replaced by another meanwhile."""


@dataclass(frozen=True)
class Stored:
    """An object below a place. name: from that place on. modified: by the server's clock."""

    name: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class Remote:
    """An object, or all objects below a name, in a bucket.

    copy: a local folder in which what is read of recordings is kept. Raises StoreError where the store does not answer,
    and FileNotFoundError where an object is not there.
    """

    url: str
    copy: Path | None = None

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Remote:
        return replace(self, url=f"{self.url}/{name}")

    def joinpath(self, *names: str) -> Remote:
        return self / "/".join(names)

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def _key(self) -> str:
        return self.url.split("/", 3)[3]

    @property
    def _store(self) -> ObjectStore:
        return _opened("/".join(self.url.split("/", 3)[:3]), os.getpid())

    def read_bytes(self) -> bytes:
        """The whole object."""
        return self.read_tagged()[0]

    def read_tagged(self) -> tuple[bytes, dict[str, str], datetime]:
        """The whole object, the mark of this version of it, for `write_bytes`, and when it was written."""

        def ask() -> tuple[bytes, dict[str, str], datetime]:
            answer = _obstore().get(self._store, self._key)
            return answer.bytes().to_bytes(), _tag(answer.meta), answer.meta["last_modified"]

        return self._ask(ask)

    def read_tail(self, size: int) -> bytes:
        """The last `size` bytes; fewer of a shorter object."""
        options: Any = {"range": {"suffix": size}}
        return self._ask(lambda: _obstore().get(self._store, self._key, options=options).bytes().to_bytes())

    def read_ranges(self, starts: Sequence[int], stops: Sequence[int]) -> Sequence[Any]:
        """Bytes [start, stop) of each, as buffers; what lies together is one request.

        Raises CacheError where the object ends before.
        """
        found = self._ask(lambda: _obstore().get_ranges(self._store, self._key, starts=starts, ends=stops))
        for part, start, stop in zip(found, starts, stops, strict=True):
            if len(part) != stop - start:
                raise CacheError(f"{self}: is cut short")
        return found

    def write_bytes(self, content: bytes, *, instead_of: dict[str, str] | None = None, new: bool = False) -> Any:
        """Put the object, whole or not at all; returns the mark of this version.

        new: only where there is none; instead_of: only in place of this version. Raises ChangedError otherwise.
        """
        exceptions = _obstore().exceptions
        mode: Any = "create" if new else instead_of or "overwrite"
        try:
            return _tag(
                self._ask(
                    lambda: _obstore().put(self._store, self._key, content, mode=mode, use_multipart=False),
                )
            )
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            pass
        except FileNotFoundError:
            if instead_of is None:
                raise
        # The answer to an earlier try may have been lost: what is there may be ours.
        try:
            there, tag, _ = self.read_tagged()
        except FileNotFoundError:
            there, tag = b"", {}
        if there == content and tag:
            return tag
        raise ChangedError(f"{self}: was changed by another process")

    def exists(self) -> bool:
        """Whether there is an object of this very name."""
        try:
            self._ask(lambda: _obstore().head(self._store, self._key))
        except FileNotFoundError:
            return False
        return True

    def folders(self) -> list[str]:
        """Names right below this place that have others below them."""
        found = self._ask(lambda: _obstore().list_with_delimiter(self._store, self._key))
        return [prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"]]

    def objects(self) -> list[Stored]:
        """All objects below this place."""
        listed = self._ask(lambda: [each for chunk in _obstore().list(self._store, self._key) for each in chunk])
        start = len(self._key) + 1
        return [Stored(each["path"][start:], each["size"], each["last_modified"]) for each in listed]

    def delete_below(self, names: Sequence[str]) -> None:
        """Delete objects below this place; those that are not there are none."""
        if names:
            paths = [f"{self._key}/{name}" for name in names]
            self._ask(lambda: _obstore().delete(self._store, paths))

    def delete(self) -> None:
        """Delete this object; where there is none, nothing is done."""
        self._ask(lambda: _obstore().delete(self._store, self._key))

    def copy_of(self, source: Remote) -> None:
        """Make this object a copy of another one; the store does it, no byte travels here."""
        self._ask(lambda: _obstore().copy(self._store, source._key, self._key))

    def _ask(self, ask: Callable[[], Answer]) -> Answer:
        """What `ask` returns; obstore asks again by itself, but not where a list was cut in its middle."""
        stop = time.monotonic() + RETRY_S
        pause_s = 0.1
        while True:
            try:
                with self._explained():
                    return ask()
            except _CutError as error:
                if time.monotonic() + pause_s > stop:
                    raise StoreError(str(error)) from None
            time.sleep(pause_s)
            pause_s *= 2

    @contextmanager
    def _explained(self) -> Iterator[None]:
        exceptions = _obstore().exceptions
        try:
            yield
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError, StoreError):
            raise
        except (exceptions.BaseError, OSError) as error:
            said = str(error)
            if "NoSuchBucket" in said:
                bucket = self.url.split("/")[2]
                raise StoreError(f"{self}: there is no bucket {bucket}; make it, or correct the address") from None
            if isinstance(error, FileNotFoundError | exceptions.NotFoundError):
                raise FileNotFoundError(f"{self} is not there") from None
            line = _short(said)
            denied = (PermissionError, exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
            if isinstance(error, denied) or _DENIED.search(said):
                raise StoreError(f"{self}: the object store does not let you in ({line}); {_CREDENTIALS}") from None
            message = f"{self}: the object store does not answer as it should ({line}); nothing is lost: try again"
            if "request or response body error" in said:  # no other sign of it is given
                raise _CutError(message) from None
            raise StoreError(message) from None


class _CutError(Exception):
    """An answer ended in its middle."""


Place = Path | Remote


def place(where: Path | str | Remote, copy: Path | None = None) -> Place:
    """A local folder, or an address in an object store: s3://bucket/cache (also gs:// and az://).

    copy: local folder for copies of what is read of an object store. Raises CacheError.
    """
    if isinstance(where, Remote):
        return replace(where, copy=copy or where.copy)
    match = _URL.fullmatch(str(where))  # also of a Path, which makes one stroke of two
    if match is None and _SCHEME.match(str(where)):
        raise CacheError(f"{where}: expected a folder, or an object store's s3://bucket/cache (or gs://, az://)")
    if match is None:
        if not isinstance(where, Path) and (_URL.match(path := str(Path(str(where).strip()))) or _SCHEME.match(path)):
            raise CacheError(f"{where}: looks like an address and is none; give s3://bucket/cache, or another folder")
        if copy is not None:
            raise CacheError(f"--cache-copy {copy}: is for a cache in an object store; {where} is a local folder")
        return Path(where)
    scheme, bucket, key = match.groups()
    if "@" in bucket:  # not repeated: it is a secret
        raise CacheError(
            f"{scheme}://...@...: no credentials in an address, which is kept with every run; {_CREDENTIALS}"
        )
    if not key:
        raise CacheError(f"{where}: a cache needs a name in its bucket: {scheme}://{bucket}/cache")
    if {"", ".", ".."} & set(key.split("/")) or not key.isprintable():
        raise CacheError(f"{where}: expected s3://bucket/folder/cache, in which no name is empty, . or ..")
    return Remote(f"{scheme}://{bucket}/{key}", copy)


def _short(said: str) -> str:
    """The first line, with the code in the place of the XML that servers send along."""
    code = re.search(r"<Code>(\w+)</Code>", said)
    return re.sub(r":?\s*<\?xml.*", f": {code[1]}" if code else "", said.splitlines()[0]).rstrip(": ")


def _tag(meta: Any) -> dict[str, str]:
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name)}


def _obstore() -> Any:
    try:
        import obstore
        import obstore.exceptions
    except ImportError:
        raise StoreError("a cache in an object store needs obstore: pip install 'paw-pipeline[s3]'") from None
    return obstore


@lru_cache
def _opened(bucket: str, process: int) -> ObjectStore:
    """The store of a bucket. Raises StoreError in a fork of a process that used one, where it would wait for ever."""
    global _first_process
    _obstore()
    # obstore's threads are of the process that made its first request; in a fork of it there are none.
    _first_process = _first_process or process
    if _first_process != process:
        raise StoreError(
            f"{bucket}: a process that was forked from one that used an object store cannot use it; start processes "
            "with multiprocessing.get_context('spawn')"
        )
    from obstore.store import from_url

    options: Any = {"timeout": timedelta(seconds=REQUEST_S), "connect_timeout": timedelta(seconds=CONNECT_S)}
    if any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS):
        options["allow_http"] = True
    backoff = {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=10), "base": 2}
    retry: Any = {"max_retries": 12, "retry_timeout": timedelta(seconds=RETRY_S), "backoff": backoff}
    try:
        return from_url(bucket, client_options=options, retry_config=retry)
    except Exception as error:  # of obstore, for a setting that the environment lacks
        raise StoreError(f"{bucket}: {first_line(error)}; see the environment variables of this object store") from None
