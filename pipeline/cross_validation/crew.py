"""Folds one by one in this process, or side by side on a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from pipeline.cluster import Cluster, Lost, Tell
from pipeline.console import progress_bar, say
from pipeline.cross_validation.fold import Done, Failed, Task, attempt
from pipeline.machine import cores
from pipeline.model.threads import CHOSEN_BY


def work_all(tasks: Sequence[Task], cluster: Cluster) -> Iterator[Done | Failed]:
    """The results as they are ready."""
    if cluster.in_process:
        for task in tasks:
            with progress_bar() as progress:
                yield attempt(task, say, progress)
        return
    by_name = {f"fold-{task.fold}": task for task in tasks}
    # Never given up for being silent: an epoch may take hours.
    for name, answer in cluster.run_all(_serve, by_name, stall_s=0, heard=lambda _, line: say(line)):
        if isinstance(answer, Lost):
            yield Failed(by_name[name].fold, f"{answer.reason}; the same command goes on")
        else:
            yield answer


def _serve(task: Task, beside: int, tell: Tell) -> Done | Failed:
    import torch

    if not any(name in os.environ for name in CHOSEN_BY):
        torch.set_num_threads(max(1, cores() // beside))
    return attempt(task, tell)
