"""Recordings side by side: what hangs or crashes costs one recording, not the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from cache import Place
from pipeline.cluster import Cluster, Lost, Tell
from pipeline.preprocess.decode import share_cores
from pipeline.preprocess.discovery import Skip
from pipeline.preprocess.recording import Result, work
from pipeline.preprocess.staleness import Task

TELL_S = 0.2  # between two signs of life

# progress(recording, frames done, frames to do)
Progress = Callable[[str, int, int], None]


def work_all(
    tasks: Sequence[Task], recordings: Place, *, cluster: Cluster, stall_s: float, progress: Progress
) -> Iterator[Result]:
    """The results in the order in which they are ready.

    A recording of which nothing is heard for stall_s seconds (0: forever) is given up, as is one that kills its
    process; the others go on. Raises OSError where the cache cannot be written.
    """
    named = {task.files.name: task for task in tasks}
    # From another process progress is told now and then; here it costs nothing.
    function = partial(_serve, recordings, 0.0 if cluster.in_process else TELL_S)
    for name, answer in cluster.run_all(
        function, named, stall_s=stall_s, heard=lambda name, what: progress(name, *what)
    ):
        if isinstance(answer, Lost):
            yield Result(name, None, (Skip(name, None, f"{answer.reason}; the others went on", passing=True),))
        else:
            yield answer


def _serve(recordings: Place, tell_s: float, task: Task, beside: int, tell: Tell) -> Result:
    """`work`, where nothing that a recording's files make a library raise ends the run."""
    share_cores(beside)
    said = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said > tell_s or (done == total and total):
            said = time.monotonic()
            tell((done, total))

    try:
        return work(task, recordings, progress)
    except OSError:
        raise
    except Exception as error:
        reason = f"failed unexpectedly ({type(error).__name__}: {error}); please report this, with the file"
        name = task.files.name
        return Result(name, None, (Skip(name, None, reason, passing=True),))
