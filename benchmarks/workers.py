"""How preprocess gains by workers: frames/s with --workers 0, 1 and 2, on one core and on two; prints Markdown tables.

    python benchmarks/workers.py WORK_FOLDER [--recordings 12 36] [--rounds 3] [--data FOLDER]

Recordings of 640x480 are rendered into WORK_FOLDER once; more of them are the same under other names. --data: a folder
with Videos and Annotations of your own in their place. Each figure is of a process of its own that has imported
everything and whose workers have each done a recording: their start is told beside. "two processes, a core each" are
two runs of --workers 0 on half of the recordings each, which know nothing of each other: no more can be had of this
machine. Needs an idle machine with two cores, and Linux (sched_setaffinity).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import measure


@dataclass(frozen=True)
class Case:
    """processes: commands at the same time, that share the recordings; the n-th runs on the n-th core if pinned."""

    name: str
    workers: int
    pinned: bool
    processes: int = 1


ONE, TWO = "one core, --workers 1", "two cores, --workers 2"
LIMIT = "two processes, a core each"
CASES = (
    Case("one core, --workers 0", 0, True),
    Case(ONE, 1, True),
    Case("two cores, --workers 0", 0, False),
    Case("two cores, --workers 1", 1, False),
    Case(TWO, 2, False),
    Case(LIMIT, 0, True, processes=2),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--recordings", type=int, nargs="+", default=[12, 36])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--toy", action="store_true", help="tiny recordings, to see that it runs")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)  # what a case's process is started with
    options = parser.parse_args()
    if options.one:
        print(json.dumps(timed(options.work, *options.one)))
        return
    print(measure.machine())
    data = options.data or render(options.work, options.toy)
    for n in options.recordings:
        compare(options.work, data, n, options.rounds, 32 if options.toy else 224)


def render(work: Path, toy: bool) -> Path:
    from pipeline.demo.dataset import make_dataset

    size, recordings, trials = ((64, 48), 2, 1) if toy else ((640, 480), 12, 3)
    make_dataset(work / "data", recordings=recordings, trials=trials, size=size, processes=1 if toy else 2)
    return work / "data"


def compare(work: Path, data: Path, n: int, rounds: int, img_size: int) -> None:
    """Prints the table of n recordings."""
    parts = shared(work / f"recordings_{n}", data, n)
    frames_per_s: dict[str, list[float]] = {case.name: [] for case in CASES}
    rest: dict[str, list[list[float]]] = {case.name: [] for case in CASES}
    for number in range(rounds):
        for case in CASES if number % 2 == 0 else reversed(CASES):
            n_frames, seconds, *others = run(case, parts, img_size)
            frames_per_s[case.name].append(n_frames / seconds)
            rest[case.name].append([others[0] / n_frames * 1e6, others[1]])
    rows = []
    for name, found in frames_per_s.items():
        against = measure.ratios({name: [1 / x for x in found], ONE: [1 / x for x in frames_per_s[ONE]]}, name, ONE)
        work_us, start_s = (median(values) for values in zip(*rest[name], strict=True))
        rows.append([name, measure.spread(found, 0), measure.spread(against), f"{work_us:.0f}", f"{start_s:.1f}"])
    header = ["", "frames/s", f"times those of {ONE}", "us of the processor a frame", "start of the workers, s"]
    measure.table(f"{n} recordings, {n_frames:,} frames", header, rows)


def shared(work: Path, data: Path, n: int) -> Path:
    """Folders all, 0 and 1: n recordings, half of them each; and first: one for each worker to begin with."""
    from recordings import linked

    stems = sorted(path.stem for path in (data / "Videos").glob("*.mp4"))
    copies = -(-n // len(stems))
    everything = [(stem, f"{stem}_copy{copy}") for copy in range(copies) for stem in stems][:n]
    shutil.rmtree(work, ignore_errors=True)
    for part, some in (("all", everything), ("0", everything[::2]), ("1", everything[1::2]), ("first", everything[:2])):
        for stem, name in some:
            linked(data, work / part, lambda file, s=stem, new=name: [file.replace(s, new)] if s in file else [])
    return work


def run(case: Case, parts: Path, img_size: int) -> list[float]:
    """Frames, seconds, seconds of the processor, seconds of the start; of all processes of a case together."""
    began, command = [], [sys.executable, __file__, str(parts), "--one"]
    for number in range(case.processes):
        core = str(number) if case.pinned else "all"
        part = str(number) if case.processes > 1 else "all"
        words = [*command, part, core, str(case.workers), str(img_size)]
        began.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
    said = [process.communicate()[0] for process in began]
    if any(process.returncode for process in began):
        sys.exit(f"{case.name}: failed")
    found = [json.loads(text.splitlines()[-1]) for text in said]  # before it the address of a dashboard
    frames, seconds, processor, start = zip(*found, strict=True)
    return [sum(frames), max(seconds), sum(processor), max(start)]


def timed(parts: Path, part: str, core: str, workers: str, img_size: str) -> Sequence[float]:
    """What a case's process does."""
    if core != "all":
        mine = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {mine[int(core) % len(mine)]})
    import pipeline.preprocess.stage  # noqa: F401  (here and not within what is timed)
    from pipeline.cluster import Cluster

    with Cluster(int(workers)) as cluster:
        began = time.perf_counter()
        for _ in range(2):  # the second time nothing is started
            first = time.perf_counter() - began
            began = time.perf_counter()
            preprocessed(parts / "first", cluster, int(img_size))
        start = first - (time.perf_counter() - began)
        began, worked = time.perf_counter(), processor_s()
        frames = preprocessed(parts / part, cluster, int(img_size))
        seconds, processor = time.perf_counter() - began, processor_s() - worked
    return frames, seconds, processor, start


def preprocessed(folder: Path, cluster: object, img_size: int) -> int:
    """Makes its cache anew; returns the frames that were decoded."""
    from pipeline.preprocess.stage import preprocess
    from pipeline.preprocess_settings import PreprocessSettings

    cache = folder / f"cache-{os.getpid()}"
    settings = PreprocessSettings(img_size=img_size)
    folders = {"videos": folder / "Videos", "annotations": folder / "Annotations"}
    report = preprocess(settings, cache=cache, cluster=cluster, **folders)  # type: ignore[arg-type]
    shutil.rmtree(cache)
    if report.n_bad:
        sys.exit(f"preprocess left something out: {report.skipped}")
    return sum(row.frames for row in report.recordings)


def processor_s() -> float:
    """Seconds of the processor that this process and those that it started have used."""
    import psutil

    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)


if __name__ == "__main__":
    main()
