"""What predicting takes: memory for a long clip, time for many small recordings and for the decision of a long one.

    python benchmarks/speed_predict.py WORK_FOLDER [PART ...] [--against FOLDER] [--toy]

PART: long, many, decision; all if none is named. --against: a checkout of another commit, whose memory stands beside
ours in `long`. --toy: tiny sizes, to see that it runs. Prints Markdown tables. Linux only.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import measure
import numpy as np
import torch

import cache as clip_cache
from cache import ClipRows, Geometry, RecordingMeta
from pipeline.model import checkpoint
from pipeline.model.decision import Decision, Evidence
from pipeline.model.network import Network, NetworkConfig
from pipeline.model.trained import Trained
from pipeline.predict.stage import predict
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.train_settings import TrainSettings

PARTS = ("long", "many", "decision")
NAMES = ("rest", "paw_withdraw", "paw_lick", "paw_shake", "walk", "active")
KEYPOINTS = ("mouth", "tail_base", "L_frontpaw", "R_frontpaw", "L_hindpaw", "R_hindpaw")
SIDE = 32

# One clip of a cache into its table, in a process of its own; works at commits from before clips were cut into parts.
ONE_CLIP = """
import json, resource, sys, time
from pathlib import Path
import torch
import cache as clip_cache
from pipeline.model.trained import load_trained
from pipeline.predict import exports
from pipeline.predict.stage import predict_clip
torch.set_num_threads(1)
trained, clip = load_trained(Path(sys.argv[1])), clip_cache.open(sys.argv[2])[0]
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, started = peak(), time.process_time()
prediction, path = predict_clip(trained, clip), Path(sys.argv[3])
if hasattr(exports, "write_trial"):
    exports.write_trial(prediction, trained.class_names, path)
else:
    exports.write_table(exports.trial_table(prediction, trained.class_names), path)
print(json.dumps([peak() - before, time.process_time() - started]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--against", type=Path)
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    parts = options.parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    print(measure.machine())
    if "long" in parts:
        long_clips(options.work, (300,) if options.toy else (20_000, 80_000), options.against)
    if "many" in parts:
        many_recordings(options.work, 3 if options.toy else 100)
    if "decision" in parts:
        decision(2_000 if options.toy else 324_000)


def write_model(path: Path, encoder: str) -> Path:
    """Untrained: what it says takes as long as what a trained one says. Pose windows take most memory of all inputs."""
    config = NetworkConfig(
        n_classes=len(NAMES), keypoint_names=KEYPOINTS, encoder=encoder, img_size=SIDE, encoder_width=32,
        pose_windows=(15, 60, 240),
    )  # fmt: skip
    cached = PreprocessSettings(img_size=SIDE, classes=",".join(NAMES), frame_size="640x480")
    made = (np.arange(len(NAMES)), np.ones(len(NAMES), np.int64), dataclasses.asdict(cached))
    costs = Decision((0.0,) * len(NAMES), (2.0,) * len(NAMES))
    trained = Trained(Network(config).eval(), NAMES, NAMES, *made, vars(TrainSettings(encoder=encoder)), costs)
    checkpoint.save(path, trained.as_dict())
    return path


def long_clips(work: Path, lengths: tuple[int, ...], against: Path | None) -> None:
    """One clip of each length, by pose alone and with frames, in a process each."""
    codes = {"ours": Path(__file__).parents[1]} | ({"before": against.resolve()} if against else {})
    rows = []
    for n in lengths:
        shutil.rmtree(work / "long", ignore_errors=True)
        cache = write_long(work / "long", n)
        for encoder in ("none", "cnn"):
            model = write_model(work / f"{encoder}.pt", encoder)
            cells = [f"{n:,}", encoder]
            for code in codes.values():
                command = [sys.executable, "-c", ONE_CLIP, str(model), str(cache), str(work / "table.csv")]
                # From its folder: Python looks there first, and then where PYTHONPATH says.
                there = {"cwd": code, "env": os.environ | {"PYTHONPATH": str(code)}}
                done = subprocess.run(command, check=True, capture_output=True, text=True, **there)
                grown, seconds = json.loads(done.stdout)
                cells += [f"{grown:.0f}", f"{seconds:.1f}"]
            rows.append(cells)
    header = ["frames of a clip", "encoder"]
    for name in codes:
        header += [f"{name}: peak memory above that before, MiB", "processor time, s"]
    measure.table("A long clip", header, rows)


def write_long(path: Path, n: int) -> Path:
    """One clip of noise and of six points that circle about."""
    rng, t = np.random.default_rng(0), np.arange(n)[:, None]
    points = 0.5 + 0.2 * np.stack([np.sin(t / 50 + np.arange(6)), np.cos(t / 70 + np.arange(6))], -1)
    with clip_cache.create(path, compression="none") as cache:
        meta = RecordingMeta(
            recording="long", video="long.mp4", dlc="long.csv", geometry=Geometry.fit(640, 480, SIDE), channels=1,
            fps=30.0, decoder="pyav", keypoint_names=KEYPOINTS, class_names=NAMES, clips=(ClipRows(1, 0, n, 0, 0),),
            fingerprints=dict.fromkeys(("frames", "keypoints", "labels"), "long"), settings={},
        )  # fmt: skip
        writer = cache.writer("long")
        for start in range(0, n, 1000):
            writer.append_frames(rng.integers(0, 255, (min(1000, n - start), SIDE, SIDE, 1), np.uint8))
        writer.finish(
            meta,
            keypoints=np.concatenate([points, np.ones((n, 6, 1))], -1).astype(np.float32),
            labels=np.full(n, -1, np.int16),
            frame_index=np.arange(n),
            time_s=np.arange(n) / 30,
        )
    return path


def many_recordings(work: Path, n: int) -> None:
    """A folder of small recordings, pose alone: predicted, found up to date, and with one of them changed."""
    lab, out = work / "lab", work / "predicted"
    for folder in (lab, out):
        shutil.rmtree(folder, ignore_errors=True)
    lab.mkdir()
    for i in range(n):
        write_table(lab / f"mouse_{i:03d}DLC_resnet50.csv", i)
    model = write_model(work / "none.pt", "none")
    rows = []
    for call in ("first call", "second call", "one table changed", "--force"):
        if call == "one table changed":
            write_table(lab / "mouse_000DLC_resnet50.csv", n)
        started = time.perf_counter()
        done = predict([model], out=out, dlc=lab, force=call == "--force")
        seconds = time.perf_counter() - started
        n_predicted = sum(row.state == "predicted" for row in done.outcomes)
        rows.append([call, n_predicted, f"{seconds:.2f}", f"{1000 * seconds / n:.1f}"])
    header = ["", "predicted", "whole call, s", "ms a recording"]
    measure.table(f"{n} recordings of 360 frames, pose alone", header, rows)


def write_table(path: Path, seed: int) -> None:
    """A DLC table of 360 frames."""
    xy = 200 + np.random.default_rng(seed).normal(0, 2, (360, 6, 2)).cumsum(0) + 30 * np.arange(12).reshape(6, 2)
    columns = [(name, coord) for name in KEYPOINTS for coord in ("x", "y", "likelihood")]
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["scorer", *("DLC_resnet50" for _ in columns)])
        out.writerow(["bodyparts", *(name for name, _ in columns)])
        out.writerow(["coords", *(coord for _, coord in columns)])
        for i, points in enumerate(xy):
            out.writerow([i, *(f"{value:.3f}" for x, y in points for value in (x, y, 0.99))])


def decision(n: int) -> None:
    """The decision layer on one trial of n frames."""
    log_p = np.log(np.random.default_rng(0).dirichlet(np.ones(len(NAMES)), n)).astype(np.float32)
    trial = Evidence(log_p, np.zeros(n, np.float32))
    layer = Decision((0.0,) * len(NAMES), (3.0,) * len(NAMES))
    started = time.process_time()
    layer.labels(trial)
    seconds = time.process_time() - started
    tracemalloc.start()
    layer.labels(trial)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    measure.table(
        "The decision of a long trial",
        ["frames", "classes", "processor time, s", "peak memory, MiB"],
        [[f"{n:,}", len(NAMES), f"{seconds:.1f}", f"{peak:.0f}"]],
    )


if __name__ == "__main__":
    main()
