"""Processes that make recordings and are watched: what hangs or crashes costs one recording, not the run."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path

from cache.recording_writer import discard_left_by
from pipeline.preprocess.decode import share_cores
from pipeline.preprocess.discovery import Skip
from pipeline.preprocess.recording import Result, work
from pipeline.preprocess.staleness import Task

ALIVE_S = 0.2  # between two signs of life
START_S = 120.0  # for a process to start, on a machine that has other things to do

# progress(recording, frames done, frames to do)
Progress = Callable[[str, int, int], None]


def work_all(
    tasks: Sequence[Task], recordings: Path, *, workers: int, stall_s: float, progress: Progress
) -> Iterator[Result]:
    """The results in the order in which they are ready. workers 0: one by one in this process, unwatched.

    A recording of which nothing is heard for stall_s seconds (0: forever) is given up, as is one whose process dies;
    the others go on. Raises OSError where the cache cannot be written.
    """
    if workers == 0:
        for task in tasks:
            yield _guarded(task, recordings, partial(progress, task.files.name))
        return
    size = min(workers, len(tasks))
    crew = [_Worker(recordings, size) for _ in range(size)]
    todo = deque(tasks)
    try:
        while True:
            for worker in crew:
                if todo and worker.task is None:
                    worker.give(todo.popleft())
            busy = [worker for worker in crew if worker.task is not None]
            if not busy:
                return
            for worker in busy:
                result = worker.listen(stall_s, progress)
                if result is not None:
                    # Before the result is taken, which may write the index: the worker goes on meanwhile.
                    if todo and worker.process is not None:
                        worker.give(todo.popleft())
                    yield result
            wait([worker.connection for worker in busy if worker.task is not None], timeout=ALIVE_S)
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    """A process that does one task after another; started for its first one, and again after one that it died of."""

    def __init__(self, recordings: Path, crew: int) -> None:
        self.recordings, self.crew = recordings, crew
        self.task: Task | None = None
        self.process: multiprocessing.process.BaseProcess | None = None

    def _start(self) -> None:
        # Spawned, not forked: decord and zarr hang in a process that was forked after they were used.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.recordings, self.crew), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, task: Task) -> None:
        self.task, self.heard = task, time.monotonic()
        if self.process is None:
            self._start()
            self.heard += START_S
        with suppress(OSError):  # it died meanwhile: `listen` says so
            self.connection.send(task)

    def listen(self, stall_s: float, progress: Progress) -> Result | None:
        """What has come in; the result of the task, if it is there or never will be. Raises OSError as work_all."""
        assert self.task is not None
        name = self.task.files.name
        try:
            while self.connection.poll():
                message = self.connection.recv()
                self.heard = time.monotonic()
                if isinstance(message, OSError):
                    raise _CacheTroubleError(message)
                if isinstance(message, Result):
                    self.task = None
                    return message
                progress(name, *message)
        except _CacheTroubleError as trouble:
            raise trouble.error from None
        except (EOFError, OSError):
            assert self.process is not None
            self.process.join()
            return self._given_up(f"the process that read it died ({_death(self.process.exitcode)})")
        if 0 < stall_s < time.monotonic() - self.heard:
            return self._given_up(f"nothing was heard of it for {stall_s:g} s (--stall-timeout): its reader hangs")
        return None

    def _given_up(self, reason: str) -> Result:
        assert self.task is not None
        name, self.task = self.task.files.name, None
        self.end()
        return Result(name, None, (Skip(name, None, f"{reason}; the others went on", passing=True),))

    def end(self) -> None:
        """Kill it, and delete what it left half made."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            discard_left_by(self.process.pid, self.recordings)
            self.process = None


class _CacheTroubleError(Exception):
    """Carries the worker's OSError past the one that a broken pipe raises."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


def _serve(connection: Connection, recordings: Path, crew: int) -> None:
    """What a worker process does, one of a crew of so many, until the other end is closed."""
    share_cores(crew)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it ends it
    said = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said > ALIVE_S or (done == total and total):
            said = time.monotonic()
            connection.send((done, total))

    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send((0, 0))
        while True:
            task = connection.recv()
            try:
                answer: Result | OSError = _guarded(task, recordings, progress)
            except (BrokenPipeError, ConnectionResetError):
                raise
            except OSError as error:
                answer = error
            connection.send(answer)


def _guarded(task: Task, recordings: Path, progress: Callable[[int, int], None]) -> Result:
    """`work`, where nothing that a recording's files make a library raise ends the run."""
    try:
        return work(task, recordings, progress)
    except OSError:
        raise
    except Exception as error:
        reason = f"failed unexpectedly ({type(error).__name__}: {error}); please report this, with the file"
        name = task.files.name
        return Result(name, None, (Skip(name, None, reason, passing=True),))


def _death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        with suppress(ValueError):
            return f"{signal.Signals(-exitcode).name}: its video crashes the decoder, or memory ran out"
    return f"exit code {exitcode}"
