"""How good pose-only models are on real labels (rat_social), cross-validated, row by row; prints Markdown tables.

    python benchmarks/quality_pose.py RAT_SOCIAL WORK --folds FOLDS.csv --label-set social --rows recommended

RAT_SOCIAL holds dlc/ and annotations_social/ or annotations_aggression/. Every row is one `pipeline cross-validate`
with the given folds and one seed: each recording is scored once, by a model that has not seen it, of which nothing was
chosen by it (no epoch either: nothing is held out, and the last epoch's average of the weights is taken). "decided" is
with the decision layer, fitted on the other folds. The folds, the frames and the metrics are those of the peers'
scripts beside this one. A row that is done in WORK is not trained again; an interrupted one goes on.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from command import named, pipeline, words_of
from peer_lightning_action import CLASSES, LIKELIHOOD, annotation, link_recordings

Flags = Mapping[str, object]

# What all rows share: how these recordings are read.
READ: Flags = {"encoder": "none", "merge": "none", "kp-likelihood-thr": LIKELIHOOD, "val-share": 0}
# docs/recipes.md, "Pose alone".
RECOMMENDED: Flags = {
    "kp-jitter-std": 0, "focal-gamma": 0, "weight-decay": 1e-2, "aug-swap": 0.5, "tcn-channels": 64,
    "lr": 2e-3, "warmup-epochs": 1, "use-ema": True, "ema-decay": 0.99, "tcn-layers": 9, "train-T": 1536,
    "pose-windows": "15,61,241",
}  # fmt: skip
# By how long the behaviours last, seen in steps of 3 or 2 frames.
LENGTHS: Mapping[str, Flags] = {
    "social": {"tcn-stride": 3, "batch-size": 4, "epochs": 10},
    "aggression": {"tcn-stride": 2, "batch-size": 2, "epochs": 12},
}
# As the defaults are, but for what their 200 epochs would need: a learning rate for as few epochs as all others have.
REFERENCE: Flags = {"lr": 1e-3, "warmup-epochs": 1, "epochs": 10, "batch-size": 8}
CHANGES: Mapping[str, Flags | None] = {
    "reference": None,
    "recommended": {},
    "with the time in the recording": {"time-input": "clip"},
    "with the time since the entry": {"time-input": "entry"},
    "without windowed values": {"pose-windows": ""},
    "animals not exchanged": {"aug-swap": 0},
    "keypoint jitter of the defaults": {"kp-jitter-std": 0.02},
    "focal loss of the defaults": {"focal-gamma": 2.5},
    "no class weights": {"class-weight-power": 0},
    "logit adjustment for class weights": {"class-weight-power": 0, "logit-adjust": 1},
    "no boost of rare windows": {"rare-boost-cap": 1},
    "short context": {"tcn-layers": 6},
    "every frame by itself": {"tcn-stride": 1},
    "one refinement": {"refine-stages": 1, "lambda-tmse": 0.15},
    "boundary head": {"lambda-boundary": 0.1},
    "128 channels": {"tcn-channels": 128},
    "no average of the weights": {"use-ema": False},
    "20 epochs": {"epochs": 20},
    "time stretch": {"aug-stretch": 0.25},
    "mixing of windows": {"aug-mix": 0.3},
    "points dropped": {"aug-kp-drop": 0.2},
    "half of the windows mirrored": {"aug-hflip": 0.5},
}


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core a run
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rat_social", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--label-set", choices=list(CLASSES), default="social")
    parser.add_argument("--folds", type=Path, required=True, help="table with the columns recording,fold")
    parser.add_argument("--rows", default="reference,recommended", help=f"all, or some of: {', '.join(CHANGES)}")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--frame-size", default="1920x1080", help="all points lie within; the videos are not there")
    options = parser.parse_args()
    rows = named(options.rows, CHANGES, parser)
    cache, folds = prepared(options)
    found = {row: cross_validated(row, options, cache, folds) for row in rows}
    print(markdown(found, CLASSES[options.label_set]))


def prepared(options: argparse.Namespace) -> tuple[Path, Path]:
    """The cache of all recordings with these labels, and their folds."""
    rat, work, label_set = options.rat_social.resolve(), options.work.resolve(), options.label_set
    lines = options.folds.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines[1:] if annotation(rat, label_set, line.split(",")[0]).exists()]
    folds = work / f"folds_{label_set}.csv"
    work.mkdir(parents=True, exist_ok=True)
    folds.write_text("\n".join([lines[0], *kept, ""]), encoding="utf-8")
    names = [line.split(",")[0] for line in kept]
    links = link_recordings(rat, label_set, names, work / "recordings" / label_set)
    cache = work / f"cache_{label_set}"
    folders = ["--dlc", links / "dlc", "--annotations", links / "annotations", "--cache", cache, "--workers", 0]
    settings = ["--classes", ",".join(CLASSES[label_set]), "--trial-frames", 0, "--frame-size", options.frame_size]
    pipeline("preprocess", *folders, *settings)
    return cache, folds


def cross_validated(row: str, options: argparse.Namespace, cache: Path, folds: Path) -> dict[str, Any]:
    """What summary.json holds, and the seconds of training, of one row."""
    out = options.work / f"{options.label_set}_{row.replace(' ', '_')}_{options.seed}"
    given = ["--cache", cache, "--out", out, "--fold-file", folds, "--seed", options.seed]
    pipeline("cross-validate", *given, *flags_of(row, options.label_set))
    seconds = [json.loads(path.read_text())["seconds"] for path in sorted(out.glob("fold-*/test/scored.json"))]
    return json.loads((out / "summary.json").read_text()) | {"training_s": sum(seconds) / len(seconds)}


def flags_of(row: str, label_set: str) -> list[object]:
    change = CHANGES[row]
    flags = {**READ, **(REFERENCE if change is None else {**RECOMMENDED, **LENGTHS[label_set], **change})}
    return words_of(flags)


def markdown(found: Mapping[str, dict[str, Any]], classes: tuple[str, ...]) -> str:
    """Mean of the folds ± SD; behind it in brackets with the decision layer."""
    figures = {"macro F1": ("macro_f1",), "segment F1@0.3": ("segment_f1", "0.3")}
    figures |= {f"F1 {name}": ("f1_per_class", name) for name in classes}
    lines = [f"| | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for name, keys in figures.items():
        cells = [f"{figure(summary, keys)} ({figure(summary['decided'], keys)})" for summary in found.values()]
        lines.append(f"| {name} (decided) | {' | '.join(cells)} |")
    lines.append("| training of a fold, s | " + " | ".join(f"{s['training_s']:.0f}" for s in found.values()) + " |")
    first = next(iter(found.values()))
    lines.append(f"\nMajority baseline: macro F1 {first['macro_f1']['majority_baseline']:.3f}.")
    return "\n".join(lines)


def figure(summary: dict[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        summary = summary[key]
    mean, sd = (summary[name] for name in ("mean", "sd"))
    return "-" if mean is None else f"{mean:.3f}" + ("" if sd is None else f" ± {sd:.3f}")


if __name__ == "__main__":
    main()
