"""A folder of results is written by one process at a time: two trainings in one would mix their epochs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


class BusyError(ValueError):
    """Another process is at work in the folder; the message names it."""


def lock_of(out: Path) -> Path:
    """Beside the folder: a former run is moved away as a whole, which Windows refuses of what is open.

    In it where it is a drive of its own, which cannot be moved, and beside which others that share it do not look.
    """
    out = out.resolve()
    return out / ".lock" if os.path.ismount(out) else out.with_name(f".{out.name}.lock")


def is_lock(name: str) -> bool:
    """Whether a file of this name is a lock, of the folder that it lies in or of one beside it."""
    return name.startswith(".") and name.endswith(".lock")


@contextmanager
def held(out: Path, say: Callable[[str], object] = print) -> Iterator[None]:
    """Keeps other processes out of the folder, on this machine and on others that share the drive, until the end or a
    kill. Raises BusyError where another holds it. Where nothing can be locked that is said, and the work goes on.
    """
    path = lock_of(out)
    # Any user of a shared folder may lock it. No soft lock where a drive has no other: it would outlive a kill.
    lock = FileLock(path, mode=0o666, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise BusyError(
            f"--out {out}: another process is at work in this folder (it holds {path}); wait until it has finished, or "
            "choose another"
        ) from None
    except (OSError, NotImplementedError) as error:
        say(f"[warning] {path}: cannot be locked ({error}); start nothing else in {out} meanwhile")
    try:
        yield
    finally:
        with suppress(OSError):  # of a network drive, which would pass for an error of the work that is done
            lock.release()


def refuse_busy(out: Path) -> None:
    """Raises BusyError where another process holds the folder now."""
    if lock_of(out).exists():
        with held(out, lambda line: None):
            pass
