"""Where tasks run: in this process, in processes of this machine, or on those of a Dask scheduler or of Slurm.

Dask's distributed engine carries them. All machines must see the same files under the same paths.
"""

from __future__ import annotations

import logging
import queue
import shutil
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pipeline.console import say
from pipeline.setting_texts import SettingsError

if TYPE_CHECKING:
    from distributed import Client, Future

LOOK_S = 0.5  # between two looks at what hangs and at which workers there are
BEGIN_S = 30.0  # for a task that was handed out to say that it begins; it may hang before it can
RESTART_S = 30.0  # for a worker that is given up to be replaced
SLURM_JOBS = 10  # where --workers does not say how many
# Of workers that a task was on, in Dask's own count. Here those that it was in are counted, by what it tells: one that
# merely waited there is not to suffer.
DEATHS = 5
TRIES = 2  # of a task whose worker is lost: one that kills each worker must not go on for ever
_DEADLY = "the process that did it died, and so did the next: it crashes them, or memory ran out"
_PARTS = ("client", "nanny", "scheduler", "utils", "worker")
_LOGGERS = ("asyncio", "distributed", *(f"distributed.{part}" for part in _PARTS), "tornado", "tornado.application")
_SETTINGS: dict[str, Any] = {
    "distributed.scheduler.allowed-failures": DEATHS,
    "distributed.logging": {},
    # Without MALLOC_TRIM_THRESHOLD_, with which each frame's memory is given back, and asked for and cleared again.
    "distributed.nanny.pre-spawn-environ": {"OMP_NUM_THREADS": 1, "MKL_NUM_THREADS": 1, "OPENBLAS_NUM_THREADS": 1},
    "distributed.worker.profile.enabled": False,
}
_SLOT = "paw_task"  # what a worker has one of, and each task takes

Tell = Callable[[Any], None]
# function(task, side by side, tell) -> answer. Side by side: so many tasks share the machine's cores.
Function = Callable[[Any, int, Tell], Any]
Heard = Callable[[str, Any], None]


class ClusterError(ValueError):
    """A scheduler cannot be used; the message says which, and what to do."""


class NoLongerWanted(BaseException):
    """Ends a task whose result nobody waits for any more, at the next thing that it tells."""


@dataclass(frozen=True)
class Lost:
    """A task that has no answer, and why."""

    reason: str


@dataclass
class _Running:
    """A task that was handed out. worker: None until it begins, and again when its worker is lost."""

    future: Future
    heard: float
    worker: str | None = None
    begun: int = 0


@dataclass
class Cluster:
    """workers: tasks at a time, in processes of this machine or as jobs of Slurm; 0: none but this process, one by one.

    scheduler: the address of a Dask scheduler, whose workers are used. slurm: what dask_jobqueue.SLURMCluster is given.
    Nothing is started before it is needed; what was started ends with the `with` block.
    """

    workers: int = 0
    scheduler: str | None = None
    slurm: Mapping[str, Any] | None = None
    _client: Client | None = field(default=None, repr=False)
    _own: Any = field(default=None, repr=False)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what was started; what is needed later is started again."""
        for opened in (self._client, self._own):
            if opened is not None:
                with suppress(TimeoutError, OSError):
                    opened.close(timeout=RESTART_S)
        self._client = self._own = None

    @property
    def in_process(self) -> bool:
        return not (self.workers or self.scheduler or self.slurm is not None)

    def run_all(
        self, function: Function, tasks: Mapping[str, Any], *, stall_s: float, heard: Heard
    ) -> Iterator[tuple[str, Any]]:
        """(name, answer) as they are ready, each once; (name, Lost) of what hangs or kills every process that it is in.

        What a task tells comes to `heard(name, what)`. Nothing heard of a task for stall_s seconds: it is given up
        (0: never). A task whose worker is lost is done again, TRIES times in all. What a function raises
        is raised here.
        """
        if self.in_process:
            for name, task in tasks.items():
                yield name, function(task, 1, lambda what, name=name: heard(name, what))  # type: ignore[misc]
        elif tasks:
            yield from _Run(self._open(len(tasks)), self, stall_s, heard).run(function, tasks)

    def _open(self, n_tasks: int) -> Client:
        if self._client is None:
            import dask
            from distributed import Client

            for name in _LOGGERS:
                logging.getLogger(name).setLevel(logging.CRITICAL)  # what is to be known is said by this program
            dask.config.set(_SETTINGS)
            try:
                if self.scheduler:
                    self._client = Client(self.scheduler, timeout=RESTART_S, set_as_default=False)
                else:
                    self._own = self._slurm(n_tasks) if self.slurm is not None else self._local(n_tasks)
                    self._client = Client(self._own, set_as_default=False)
            except (SettingsError, ClusterError):
                raise
            except (OSError, ValueError, RuntimeError) as error:
                where = f"--scheduler {self.scheduler}" if self.scheduler else "workers of this machine"
                raise ClusterError(f"{where}: cannot be reached ({error})") from None
            if find_spec("bokeh"):
                say(f"[info] Dask's dashboard: {self._client.dashboard_link}")
        return self._client

    def _local(self, n_tasks: int) -> Any:
        from distributed import LocalCluster

        return LocalCluster(
            n_workers=min(self.workers, n_tasks), threads_per_worker=1, processes=True, memory_limit=0,
            host="127.0.0.1", dashboard_address="127.0.0.1:0", resources={_SLOT: 1}, silence_logs=logging.CRITICAL,
        )  # fmt: skip

    def _slurm(self, n_tasks: int) -> Any:
        try:
            from dask_jobqueue import SLURMCluster
        except ImportError:
            raise SettingsError("--slurm needs dask-jobqueue: pip install 'paw-pipeline[cluster]'") from None
        if not shutil.which("sbatch"):
            raise SettingsError("--slurm: there is no sbatch here; start it on a machine that Slurm takes jobs from")
        given = {"processes": 1, "silence_logs": logging.CRITICAL} | dict(self.slurm or {})
        extra = given.get("worker_extra_args", [])
        if not isinstance(extra, list):
            raise SettingsError(
                f"[slurm] in the settings file: worker_extra_args = {extra!r}: expected a list of texts"
            )
        try:
            cluster = SLURMCluster(**given | {"worker_extra_args": [*extra, "--resources", f"{_SLOT}=1"]})
        except (TypeError, ValueError, RuntimeError, OSError) as error:
            raise SettingsError(f"[slurm] in the settings file: {error}") from None
        n_jobs = min(self.workers or SLURM_JOBS, n_tasks)

        async def asked() -> None:
            await cluster
            for job in cluster.workers.values():
                if job.job_id is None:
                    await job  # asks once more, and raises what sbatch says

        try:
            cluster.scale(jobs=n_jobs)
            cluster.sync(asked)
        except (RuntimeError, ValueError, OSError) as error:
            with suppress(Exception):  # jobs that never began cannot be ended
                cluster.close(timeout=RESTART_S)
            said = (str(error).strip().splitlines() or [""])[-1]
            raise ClusterError(f"--slurm: Slurm does not take the jobs: {said}") from None
        say(f"[info] asked Slurm for {n_jobs} jobs; they begin when it starts them")
        return cluster


IN_PROCESS = Cluster()


class _Run:
    """One call of `run_all`: what is handed out, and what was heard of it."""

    def __init__(self, client: Client, cluster: Cluster, stall_s: float, heard: Heard) -> None:
        self.client, self.stall_s, self.heard, self.cluster = client, stall_s, heard, cluster
        # Only workers that were started here have what each task takes.
        self.takes = None if cluster.scheduler else {_SLOT: 1}
        self.busy: dict[str, _Running] = {}
        self.inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.topic = f"paw-{uuid.uuid4().hex}"
        self.slots: Mapping[str, int] = {}
        self.looked = 0.0
        self.waiting_since: float | None = time.monotonic()

    def run(self, function: Function, tasks: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        todo = deque(tasks.items())
        self.client.subscribe_topic(self.topic, lambda event: self.inbox.put(event[1]))
        try:
            while todo or self.busy:
                self._look()
                self._hand_out(function, todo)
                for name, answer in [*self._listen(), *self._stalled()]:
                    # Before the answer is taken, which may take its time: the worker goes on meanwhile.
                    self._hand_out(function, todo)
                    yield name, answer
        finally:
            self.client.unsubscribe_topic(self.topic)
            self.client.cancel([running.future for running in self.busy.values()], force=True)

    def _look(self) -> None:
        """Which workers there are, and how many tasks each does at a time; what one that is gone did has not begun."""
        if time.monotonic() - self.looked < LOOK_S:
            return
        self.looked = time.monotonic()
        try:
            # Workers that were started here do one task each, whatever cores they have for it.
            self.slots = dict.fromkeys(self.client.nthreads(), 1) if self.takes else self.client.nthreads()
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(f"Dask's scheduler is gone ({error}); the same command goes on") from None
        if self.slots:
            self.waiting_since = time.monotonic()
        elif self.waiting_since is not None and time.monotonic() - self.waiting_since > BEGIN_S:
            say("[info] no worker is there; waiting for one")
            self.waiting_since = None  # said once
        for running in self.busy.values():
            if running.worker is not None and running.worker not in self.slots:
                running.worker, running.heard = None, time.monotonic()

    def _hand_out(self, function: Function, todo: deque[tuple[str, Any]]) -> None:
        """No more than begins at once: what waits on a worker that dies would count as having killed it."""
        while todo and len(self.busy) < sum(self.slots.values()):
            name, task = todo.popleft()
            future = self.client.submit(
                _call, function, task, name, self.topic, self._side_by_side(),
                key=f"{name}-{uuid.uuid4().hex}", pure=False, resources=self.takes,
            )  # fmt: skip
            self.busy[name] = _Running(future, time.monotonic())
            future.add_done_callback(lambda _, name=name: self.inbox.put((name, _Ended())))

    def _side_by_side(self) -> int:
        """Tasks that share a machine's cores. Jobs of Slurm have theirs to themselves."""
        if self.cluster.slurm is not None:
            return int(self.cluster.slurm.get("processes", 1))
        return len(self.slots) if self.takes else max(self.slots.values())

    def _listen(self) -> Iterator[tuple[str, Any]]:
        """Answers that have come in; waits a little for the first message."""
        messages = []
        with suppress(queue.Empty):
            messages.append(self.inbox.get(timeout=LOOK_S))
            while True:
                messages.append(self.inbox.get_nowait())
        for name, what in messages:
            running = self.busy.get(name)
            if running is None:
                continue  # of a task that was given up
            if isinstance(what, _Ended):
                del self.busy[name]
                yield name, self._answer(running)
            else:
                worker, told = what
                running.worker, running.heard = worker, time.monotonic()
                if told != _BEGUN:
                    self.heard(name, told)
                    continue
                running.begun += 1
                if running.begun > TRIES:
                    del self.busy[name]
                    self.client.cancel([running.future], force=True)
                    yield name, Lost(_DEADLY)

    def _answer(self, running: _Running) -> Any:
        from distributed.scheduler import KilledWorker

        if running.future.status in ("cancelled", "lost"):
            raise ClusterError("Dask's scheduler is gone, or dropped a task; the same command goes on")
        try:
            return running.future.result()
        except KilledWorker:
            return Lost(_DEADLY)
        except ImportError as error:
            raise ClusterError(f"the workers lack this program, or have another version of it: {error}") from None

    def _stalled(self) -> Iterator[tuple[str, Any]]:
        for name, running in list(self.busy.items()):
            limit_s = self.stall_s + (0 if running.worker else BEGIN_S)
            if self.stall_s > 0 and limit_s < time.monotonic() - running.heard:
                del self.busy[name]
                workers = [worker for worker, keys in self.client.processing().items() if running.future.key in keys]
                self.client.cancel([running.future], force=True)
                with suppress(Exception):  # a worker without a nanny cannot be replaced from here
                    self.client.restart_workers(workers, timeout=RESTART_S, raise_for_error=False)
                yield name, Lost(f"nothing was heard of it for {self.stall_s:g} s (--stall-timeout): it hangs")


class _Ended:
    """Says that a task's future has an answer or an error."""


_BEGUN = "begun"


def _call(function: Function, task: Any, name: str, topic: str, beside: int) -> Any:
    """What a worker does with a task; (name, (worker, what)) is told to those who listen to the topic."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def tell(what: Any) -> None:
        state = worker.state.tasks.get(key)
        if state is None or state.state in ("cancelled", "resumed"):
            raise NoLongerWanted
        worker.log_event(topic, (name, (worker.address, what)))

    tell(_BEGUN)
    return function(task, beside, tell)
