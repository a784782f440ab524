"""What it costs to run preprocess again: nothing changed, one label file, one new recording, all; prints a table.

    python benchmarks/rerun.py WORK_FOLDER [--recordings 300 1000 3000]

Small real files are made (videos of 40 frames of 32x32, trials of 12 frames); each figure is a whole command, from its
start to its exit.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path

import av
import numpy as np
from command import PIPELINE

N_FRAMES, TRIAL_FRAMES, SIDE = 40, 12, 32
PARTS = ("mouth", "tail_base")
REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--recordings", type=int, nargs="+", default=[300, 1000, 3000])
    options = parser.parse_args()
    print(
        "| recordings | trials | all new (s) | nothing changed (s): median, range | one label file (s) | one new (s) |"
    )
    print("|---|---|---|---|---|---|")
    for n in options.recordings:
        print(row(options.work / str(n), n), flush=True)


def row(work: Path, n: int) -> str:
    """The times for n recordings, as a line of the table."""
    videos, annotations, cache = work / "Videos", work / "Annotations", work / "cache"
    videos.mkdir(parents=True, exist_ok=True)
    annotations.mkdir(exist_ok=True)
    n_trials = sum(make_recording(videos, annotations, i) for i in range(n))
    command = [*PIPELINE, "preprocess", "--videos", videos, "--annotations", annotations, "--cache", cache]
    command += ["--trial-frames", TRIAL_FRAMES, "--min-frames", TRIAL_FRAMES, "--img-size", SIDE]
    time.sleep(2.5)  # files are trusted by their dates only when these are older than two seconds
    first = seconds(command)
    seconds(command)
    nothing = sorted(seconds(command) for _ in range(REPEATS))
    label = annotations / "prediction_r00000.mp4_1.csv"
    label.write_text(label.read_text().replace(",0", ",7"))
    one_label = seconds(command)
    make_recording(videos, annotations, n)
    one_new = seconds(command)
    spread = f"{nothing[REPEATS // 2]:.2f}, {nothing[0]:.2f} to {nothing[-1]:.2f}"
    return f"| {n:,} | {n_trials:,} | {first:.0f} | {spread} | {one_label:.2f} | {one_new:.2f} |"


def make_recording(videos: Path, annotations: Path, number: int) -> int:
    """A video, its DLC table and three or (every third) four annotations; returns how many."""
    name, n_trials = f"r{number:05d}", 4 if number % 3 == 0 else 3
    n_frames = max(N_FRAMES, n_trials * TRIAL_FRAMES)
    with av.open(str(videos / f"{name}.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"preset": "ultrafast", "threads": "1"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        rng = np.random.default_rng(number)
        for _ in range(n_frames):
            picture = rng.integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
    columns = [(part, coord) for part in PARTS for coord in ("x", "y", "likelihood")]
    lines = [",".join(["scorer", *("net" for _ in columns)]), ",".join(["bodyparts", *(part for part, _ in columns)])]
    lines += [",".join(["coords", *(coord for _, coord in columns)])]
    lines += [f"{i},{i % SIDE},5,0.99,7,{i % SIDE},0.99" for i in range(n_frames)]
    (videos / f"{name}DLC_net.csv").write_text("\n".join(lines) + "\n")
    rows = "Frame,Action\n" + "".join(f"{i},{i % 2}\n" for i in range(TRIAL_FRAMES))
    for trial in range(1, n_trials + 1):
        (annotations / f"prediction_{name}.mp4_{trial}.csv").write_text(rows)
    return n_trials


def seconds(command: list[object]) -> float:
    """How long the command takes; it must succeed."""
    started = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
