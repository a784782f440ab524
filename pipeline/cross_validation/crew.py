"""Folds side by side, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from pipeline.console import progress_bar, say
from pipeline.cross_validation.fold import Done, Failed, Task, attempt
from pipeline.machine import cores
from pipeline.model.threads import CHOSEN_BY


def work_all(tasks: Sequence[Task], jobs: int) -> Iterator[Done | Failed]:
    """The results as they are ready, `jobs` folds at a time. jobs 1: one by one in this process."""
    if jobs == 1:
        for task in tasks:
            with progress_bar() as progress:
                yield attempt(task, say, progress)
        return
    todo, busy = list(tasks), list[_Member]()
    try:
        while todo or busy:
            while todo and len(busy) < jobs:
                busy.append(_Member(todo.pop(0), jobs))
            ready = wait([member.connection for member in busy])
            for member in [member for member in busy if member.connection in ready]:
                busy.remove(member)
                yield member.result()
    finally:
        for member in busy:
            member.end()


class _Member:
    """A process that works on one fold."""

    def __init__(self, task: Task, jobs: int) -> None:
        # Spawned, not forked: CUDA and zarr cannot be used in a process that was forked after they were.
        context = multiprocessing.get_context("spawn")
        self.fold = task.fold
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, task, max(1, cores() // jobs)), daemon=True)
        self.process.start()
        theirs.close()

    def result(self) -> Done | Failed:
        """What it answers, or that it died."""
        try:
            answer: Done | Failed = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            answer = Failed(self.fold, f"its process died ({_death(self.process.exitcode)}); the same command goes on")
        self.end()
        return answer

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _serve(connection: Connection, task: Task, threads: int) -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it ends it
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    if not any(name in os.environ for name in CHOSEN_BY):
        torch.set_num_threads(threads)
    connection.send(attempt(task, say))


def _end_with(connection: Connection) -> None:
    """Ends this process when the other end is closed: one that was killed must not leave folds that go on."""
    with suppress(EOFError, OSError):
        connection.recv()
    os._exit(1)


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        with suppress(ValueError):
            return f"{signal.Signals(-exitcode).name}; memory may have run out"
    return f"exit code {exitcode}"
