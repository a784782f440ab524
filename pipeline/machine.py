"""What the machine, or the batch system on it, lets this process have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from pipeline.torchrun import place

# Of a control group: its limit, what it uses, and in memory.stat what of that the system gives back when asked.
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = ("memory.max", "memory.current", "inactive_file")


LOWER = "use --keep disk, lower --batch-size or --train-T, or preprocess with a smaller --img-size"


class MemoryShortError(ValueError):
    """The device or the machine has too little memory; the message says what to lower."""


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Turns what torch and numpy raise where memory runs out into one line with the advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        said = str(error).strip() or "no more memory"
        raise MemoryShortError(f"out of memory: {advice} ({said.splitlines()[0][:200]})") from None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out.

    torch.OutOfMemoryError is of GPUs alone: the CPU's is a RuntimeError that its text tells.
    """
    texts = ("out of memory", "can't allocate memory", "alloc_failed")
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in texts)


def cores() -> int:
    """Cores that this process may use; ranks of one training on this machine have a part each."""
    all_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, all_cores // place().local_size)


def free_memory() -> int:
    """Bytes that this process may still take, also where a batch system allows it less than the machine has.

    Ranks of one training on this machine have a part each.
    """
    free = min([psutil.virtual_memory().available, *_left(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])
    return free // place().local_size


def _left(membership: Path, root: Path) -> Iterator[int]:
    """What each control group that this process is in has left of its limit."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:  # not Linux
        return
    for line in lines:
        if len(line) != 3 or (line[1] and "memory" not in line[1].split(",")):
            continue
        top, names = (root / "memory", _VERSION_1) if line[1] else (root, _VERSION_2)
        inside = top / line[2].lstrip("/")
        for group in (inside, *inside.parents):
            with suppress(OSError, ValueError):  # no such file, or "max": no limit
                yield _left_of(group, *names)
            if group == top:
                break


def _left_of(group: Path, limit_file: str, used_file: str, given_back: str) -> int:
    limit, used = int((group / limit_file).read_text()), int((group / used_file).read_text())
    lines = (group / "memory.stat").read_text().splitlines() if (group / "memory.stat").exists() else []
    back = sum(int(line.split()[1]) for line in lines if line.split()[0] == given_back)
    return max(0, limit - used + back)
