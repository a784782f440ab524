"""A folder of results is written by one process at a time: two trainings in one would mix their epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


class BusyError(ValueError):
    """Another process is at work in the folder; the message names it."""


def lock_of(out: Path) -> Path:
    """Beside the folder, not in it: a former run is moved away as a whole, which Windows refuses of what is open."""
    out = out.resolve()
    return out.with_name(f".{out.name}.lock")


@contextmanager
def held(out: Path, say: Callable[[str], object] = print) -> Iterator[None]:
    """Keeps other processes out of the folder, on this machine and on others that share the drive, until the end or a
    kill. Raises BusyError where another holds it. Where nothing can be locked that is said, and the work goes on.
    """
    lock = FileLock(lock_of(out), timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"--out {out}: another process is at work in this folder; wait until it has finished, or choose another"
        ) from None
    except OSError as error:
        say(f"[warning] {lock_of(out)}: cannot be locked ({error}); start nothing else in {out} meanwhile")
    try:
        yield
    finally:
        lock.release()
