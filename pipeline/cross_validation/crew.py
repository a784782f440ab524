"""Folds one by one in this process, or side by side on a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from pipeline.cluster import Cluster, Lost, Tell
from pipeline.console import Bar, say
from pipeline.cross_validation.fold import Done, Failed, Task, attempt
from pipeline.machine import cores
from pipeline.model.threads import CHOSEN_BY

_SHARE_STEP = 0.01


def work_all(tasks: Sequence[Task], cluster: Cluster, progress: Bar) -> Iterator[Done | Failed]:
    """The results as they are ready."""
    board = _Board(progress, len(tasks))
    if cluster.in_process:
        for task in tasks:
            yield board.done(attempt(task, say, progress.below))
        return
    by_name = {f"fold-{task.fold}": task for task in tasks}

    def heard(name: str, what: str | float) -> None:
        if isinstance(what, str):
            say(what)
        else:
            board.share(by_name[name].fold, what)

    # Never given up for being silent: an epoch may take hours.
    for name, answer in cluster.run_all(_serve, by_name, stall_s=0, heard=heard):
        if isinstance(answer, Lost):
            answer = Failed(by_name[name].fold, f"{answer.reason}; the same command goes on")
        yield board.done(answer)


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


def _serve(task: Task, beside: int, tell: Tell) -> Done | Failed:
    """A fold on a worker, which tells its lines and the share of it that is trained."""
    import torch

    if not any(name in os.environ for name in CHOSEN_BY):
        torch.set_num_threads(max(1, cores() // beside))
    told = 0.0

    def tell_share(share: float) -> None:
        nonlocal told
        if share >= told + _SHARE_STEP:
            told = share
            tell(share)

    # Its lines too: the process that shows the progress must write them, or they would run into each other.
    return attempt(task, tell, Bar(tell=tell_share))
