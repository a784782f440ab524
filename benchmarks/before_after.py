"""The old settings, the defaults and others on the rendered set, several seeds each; prints a Markdown table.

    python benchmarks/before_after.py WORK_FOLDER [--epochs 20] [--recordings 12] [--jobs 2] [--rows ...] [--seeds ...]

All train the same number of epochs, each at its own learning rate, with a split by animal that differs from seed to
seed. Their losses are compared by the plain cross-entropy, whatever each was trained on. What is done already in
WORK_FOLDER is not done again, so an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from command import named, pipeline, words_of

IMG_SIZE = 96
OLD = {
    "kp-jitter-std": 0, "aug-brightness": 0, "aug-contrast": 0, "aug-temporal-drop": 0, "aug-hflip": 0,
    "aug-noise-std": 0, "aug-roll": 0, "label-smoothing": 0, "lambda-smooth": 0, "focal-gamma": 1.5,
    "rare-boost-cap": 12, "dropout": 0.1, "weight-decay": 1e-2, "lr": 1e-4, "warmup-epochs": 3,
    "pose-features": "graph",
}  # fmt: skip
# docs/recipes.md, "Video and pose", but for the patches around the paws, which are a row of their own.
RECOMMENDED = {"view": "animal", "lr": 1e-3, "warmup-epochs": 2}
POSE_ALONE = RECOMMENDED | {"view": "full", "encoder": "none"}
SETTINGS: dict[str, dict[str, object]] = {
    "old settings": OLD,
    "defaults": {},
    "recommended": RECOMMENDED,
    "recommended but whole frame": RECOMMENDED | {"view": "full"},
    "recommended but whole frame and turned": RECOMMENDED | {"view": "full", "aug-turn": 180},
    "recommended but frames without their change": RECOMMENDED | {"frame-change": False},
    "recommended but graph alone": RECOMMENDED | {"pose-features": "graph"},
    "recommended but action only": RECOMMENDED | {"model-type": "action_only"},
    "recommended but pose alone": POSE_ALONE,
    "recommended but pose alone and graph alone": POSE_ALONE | {"pose-features": "graph"},
    "recommended but pose alone and motion alone": POSE_ALONE | {"pose-features": "motion"},
    "recommended but pose alone and no boost": POSE_ALONE | {"rare-boost-cap": 1},
    "recommended but pose alone and since the stimulus": POSE_ALONE | {"time-input": "stimulus"},
    "recommended but pose alone and windowed": POSE_ALONE | {"pose-windows": "15,61,241"},
    "recommended but pose alone and no focal loss": POSE_ALONE | {"focal-gamma": 0},
    "recommended but pose alone and no class weights": POSE_ALONE | {"class-weight-power": 0},
    "recommended but pose alone and logit adjustment": POSE_ALONE | {"class-weight-power": 0, "logit-adjust": 1},
    "recommended but pose alone and one refinement": POSE_ALONE | {"refine-stages": 1, "lambda-tmse": 0.15},
    "recommended but pose alone and boundary head": POSE_ALONE | {"lambda-boundary": 0.1},
    "recommended but pose alone and average of the weights": POSE_ALONE | {"use-ema": True, "ema-decay": 0.99},
    "recommended but pose alone and time stretch": POSE_ALONE | {"aug-stretch": 0.25},
    "recommended but pose alone and mixing": POSE_ALONE | {"aug-mix": 0.3},
    "recommended but pose alone and points dropped": POSE_ALONE | {"aug-kp-drop": 0.2},
    "recommended but pose alone and mirrored": POSE_ALONE | {"aug-hflip": 0.5},
    "recommended but pose alone and no keypoint jitter": POSE_ALONE | {"kp-jitter-std": 0},
    "recommended but video alone": RECOMMENDED | {"view": "full", "pose-features": "none"},
    "recommended and windowed": RECOMMENDED | {"pose-windows": "15,61,241"},
    "recommended and paw patches": RECOMMENDED | {"patch-size": 24},
    "recommended and paw patches but action only": RECOMMENDED | {"patch-size": 24, "model-type": "action_only"},
    "recommended and pretrained": RECOMMENDED | {"freeze-encoder-epochs": 2},
}
# Rows that begin with the encoder of a training of keypoints alone, on the same training animals for as many epochs.
PRETRAINING = {"recommended and pretrained": RECOMMENDED | {"model-type": "keypoints"}}

UNDECIDED = {"macro_f1": math.nan, "segment_f1": {"0.3": math.nan}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--recordings", type=int, default=12)
    parser.add_argument("--lost", type=float, default=0.0, help="share of each paw's frames that the tracking loses")
    parser.add_argument(
        "--rows", default="old settings,defaults,recommended", help=f"all, or of: {', '.join(SETTINGS)}"
    )
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time; the cores are shared between them")
    options = parser.parse_args()
    rows = named(options.rows, SETTINGS, parser)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    data, cache = options.work / "data", options.work / "cache"
    pipeline("demo", "--out", options.work, "--recordings", options.recordings, "--lost", options.lost, "--only-data")
    folders = ["--videos", data / "Videos", "--annotations", data / "Annotations"]
    pipeline("preprocess", *folders, "--cache", cache, "--img-size", IMG_SIZE)
    threads = max(1, (os.cpu_count() or 1) // options.jobs)
    started = time.perf_counter()
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = [(name, seed) for seed in seeds for name in rows]
        jobs = [pool.submit(train, options.work, cache, name, seed, options.epochs, threads) for name, seed in runs]
        for job in jobs:
            job.result()
    print(f"{len(runs)} runs: {(time.perf_counter() - started) / 60:.0f} min")
    print(markdown({name: [figures(run_folder(options.work, name, seed)) for seed in seeds] for name in rows}))


def train(work: Path, cache: Path, name: str, seed: int, epochs: int, threads: int) -> None:
    out = run_folder(work, name, seed)
    common = ["--cache", cache, "--group-by", r"_(\d+M)_", "--epochs", epochs, "--seed", seed]
    common += ["--early-stopping-patience", 0]
    if name in PRETRAINING:
        encoder = out.with_name(f"{out.name}_encoder")
        pipeline("train", *common, "--out", encoder, *words_of(PRETRAINING[name]), threads=threads)
        common += ["--init-from", encoder]
    pipeline("train", *common, "--out", out, *words_of(SETTINGS[name]), threads=threads)


def run_folder(work: Path, name: str, seed: int) -> Path:
    return work / f"{name.replace(' ', '_')}_{seed}"


def figures(run: Path) -> dict[str, float]:
    """Of the best checkpoint, on the held-out animals."""
    scores = json.loads((run / "scores.json").read_text())
    history = pd.read_csv(run / "history.csv")
    best = history.loc[history["val_macro_f1"].idxmax()]
    model, decided = scores["model"], scores.get("decided") or UNDECIDED
    last = history.iloc[-1]
    rows = {"best epoch": best["epoch"]}
    for when, row in (("best epoch", best), ("last epoch", last)):
        train, val = row["train_cross_entropy"], row["val_cross_entropy"]
        rows |= {f"cross-entropy, training animals, {when}": train, f"cross-entropy, held-out animals, {when}": val}
        rows[f"gap of the cross-entropies, {when}"] = val - train
    rows |= {"macro F1": model["macro_f1"], "macro F1 of the majority baseline": scores["majority"]["macro_f1"]}
    rows |= {f"F1 {name}": value for name, value in model["f1_per_class"].items()}
    rows |= {f"segment F1@{iou}": value for iou, value in model["segment_f1"].items()}
    return rows | {
        "macro F1, decided": decided["macro_f1"],
        "segment F1@0.3, decided": decided["segment_f1"]["0.3"],
        "training, min": history["seconds"].sum() / 60,
        "keypoint MAE (normalised)": model["keypoint_mae_norm"],
        "keypoint MAE (px)": model["keypoint_mae_px"],
    }


def markdown(results: dict[str, list[dict[str, float]]]) -> str:
    """Mean and, in brackets, each seed."""
    lines = [f"| | {' | '.join(results)} |", "|---" * (len(results) + 1) + "|"]
    for figure in next(iter(results.values()))[0]:
        cells = []
        for runs in results.values():
            values = pd.Series([run[figure] for run in runs], dtype=float)
            digits = 0 if figure == "best epoch" else 2 if figure.endswith("(px)") else 3
            each = ", ".join(f"{value:.{digits}f}" for value in values)
            cells.append(f"{values.mean():.{digits}f} ({each})")
        lines.append(f"| {figure} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
