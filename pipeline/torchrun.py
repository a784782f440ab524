"""What torchrun tells a process: which it is of those that train one model together, its ranks.

A process that torchrun did not start is alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from pipeline.setting_texts import SettingsError

STARTED_BY = "TORCHELASTIC_RUN_ID"  # set by torchrun alone
# torchrun ends all ranks when it sees that one has failed. Those that have nothing to tell stay for so long, so that
# the one that has is not ended before it did.
STAY_S = 5.0


class ElsewhereError(ValueError):
    """Another rank failed, and says why; this one cannot go on without it."""

    def __init__(self) -> None:
        super().__init__("another rank failed; its own message, or torchrun's, says why")


@dataclass(frozen=True)
class Place:
    """rank: of `size` ranks on all machines; local_rank: of `local_size` on this machine. All are counted from 0."""

    rank: int
    size: int
    local_rank: int
    local_size: int


def place() -> Place:
    """Of this process. Raises SettingsError where the environment is not as torchrun makes it."""
    size = _number("WORLD_SIZE", 1)
    if size < 2:  # whatever else is set: others call their variables RANK too
        return Place(0, 1, 0, 1)
    if STARTED_BY not in os.environ:
        raise SettingsError(f"WORLD_SIZE is {size}, but torchrun did not start this process: unset WORLD_SIZE")
    rank = _number("RANK", 0)
    return Place(rank, size, _number("LOCAL_RANK", rank), _number("LOCAL_WORLD_SIZE", size))


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    if value and not value.isdecimal():
        raise SettingsError(f"the environment variable {name} is {value!r}: expected a number, as torchrun sets it")
    return int(value or default)


def refuse(command: str) -> None:
    """Raises SettingsError where a command that works in one process was started as several."""
    if (size := place().size) > 1:
        raise SettingsError(
            f"pipeline {command}: works in one process, and was started as {size} (WORLD_SIZE); start it without "
            "torchrun, which is for pipeline train alone"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Within it the first rank alone writes to stdout, and the first of each machine to stderr."""
    here = place()
    with ExitStack() as stack:
        nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        if here.rank:
            stack.enter_context(redirect_stdout(nowhere))
        if here.local_rank:
            stack.enter_context(redirect_stderr(nowhere))
        yield


def told(error: Exception) -> str | None:
    """What this rank says of an error, with its number if it is not the first; None: another one says it.

    Settings are those of all ranks, so the first of each machine tells what is wrong with them.
    """
    try:
        here = place()
    except SettingsError:  # which is the error, or follows from it
        return str(error)
    if here.size > 1 and (isinstance(error, ElsewhereError) or (isinstance(error, SettingsError) and here.local_rank)):
        time.sleep(STAY_S)
        return None if here.local_rank else str(error)
    return f"rank {here.rank}: {error}" if here.rank else str(error)
