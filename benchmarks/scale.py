"""What a cache of a million clips costs to open, to write to and to keep up to date; prints Markdown tables.

    python benchmarks/scale.py WORK_FOLDER [--recordings 333334] [--steps STEP ...] [--keep]

Recordings of a few trials each, of which a few are real (see scale_lab.py); the index, seen.json, the names in
`recordings` and all videos, tables and annotations are there, as many as are asked for. Each step is a process of its
own. At a million clips: 2,000,000 inodes and 7 GB of memory. WORK_FOLDER/scale is deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import measure

STEPS = (
    "start", "make", "write", "read", "read_all", "commit", "inputs", "find", "remember", "recall", "run_again",
    "split", "load",
)  # fmt: skip
LOADED = 20_000  # recordings: all keypoints of a million clips do not fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--recordings", type=int, default=333_334)
    parser.add_argument("--steps", nargs="+", default=STEPS, metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--trials", type=int, default=3, help="of each recording")
    parser.add_argument("--keep", action="store_true", help="leave WORK_FOLDER/scale, for other steps")
    options = parser.parse_args()
    from scale_lab import Lab

    work = options.work.resolve() / "scale"
    print(measure.machine())
    Lab(work, 0, options.trials).render()
    rows = []
    for step in options.steps:
        n = min(options.recordings, LOADED) if step == "load" else options.recordings
        rows += measured(step, work, n, options.trials)
    title = f"{options.recordings:,} recordings, {options.recordings * options.trials:,} clips"
    measure.table(title, ["", "s", "s of the processor", "", "peak memory of the process, MiB"], rows)
    if not options.keep:
        shutil.rmtree(work)


def measured(step: str, work: Path, n: int, n_trials: int) -> list[list[object]]:
    """Rows of the table."""
    command = [sys.executable, Path(__file__).with_name("scale_steps.py"), step, work, n, n_trials]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, check=True)
    *lines, peak = (json.loads(line) for line in done.stdout.splitlines())
    rows: list[list[object]] = [
        [what, f"{seconds:.2f}", f"{processor:.2f}", remark, ""] for what, seconds, processor, remark in lines
    ]
    rows[-1][-1] = f"{peak:,.0f}"
    print(*rows, sep="\n", file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    main()
