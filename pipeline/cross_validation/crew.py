"""Folds side by side, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from pipeline.console import Bar, say
from pipeline.cross_validation.fold import Done, Failed, Task, attempt
from pipeline.machine import cores
from pipeline.model.threads import CHOSEN_BY

# What a member says before its result: a line, or the share of its fold that is trained.
News = str | float | Done | Failed
_SHARE_STEP = 0.01


def work_all(tasks: Sequence[Task], jobs: int, progress: Bar) -> Iterator[Done | Failed]:
    """The results as they are ready, `jobs` folds at a time. jobs 1: one by one in this process."""
    board = _Board(progress, len(tasks))
    if jobs == 1:
        for task in tasks:
            yield board.done(attempt(task, say, progress.below))
        return
    todo, busy = list(tasks), list[_Member]()
    try:
        while todo or busy:
            while todo and len(busy) < jobs:
                busy.append(_Member(todo.pop(0), jobs))
            ready = wait([member.connection for member in busy])
            for member in [member for member in busy if member.connection in ready]:
                news = member.news()
                if isinstance(news, str):
                    say(news)
                elif isinstance(news, float):
                    board.share(member.fold, news)
                else:
                    busy.remove(member)
                    yield board.done(news)
    finally:
        for member in busy:
            member.end()


class _Board:
    """How many folds are done, and how far those are that are being trained."""

    def __init__(self, progress: Bar, n_folds: int) -> None:
        self._progress, self._n_folds, self._n_done = progress, n_folds, 0
        self._shares: dict[int, float] = {}
        progress("folds", 0, n_folds)

    def share(self, fold: int, share: float) -> None:
        self._shares[fold] = share
        self._progress("folds", self._n_done + sum(self._shares.values()), self._n_folds)

    def done(self, result: Done | Failed) -> Done | Failed:
        self._shares.pop(result.fold, None)
        self._n_done += 1
        show = self._progress.found_done if isinstance(result, Done) and result.fresh else self._progress
        show("folds", self._n_done + sum(self._shares.values()), self._n_folds)
        return result


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

    def news(self) -> News:
        """What it says next, or that it died. After its result it is ended."""
        try:
            news: News = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            news = Failed(self.fold, f"its process died ({_death(self.process.exitcode)}); the same command goes on")
        if isinstance(news, Done | Failed):
            self.end()
        return news

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
    told = 0.0

    def tell(share: float) -> None:
        nonlocal told
        if share >= told + _SHARE_STEP:
            told = share
            connection.send(share)

    # Its lines too: the process that shows the progress must write them, or they would run into each other.
    connection.send(attempt(task, connection.send, Bar(tell=tell)))


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
