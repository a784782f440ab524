"""The pose-only trainer against the dilated TCN of lightning-action 1.0.2, on rat_social; prints a Markdown table.

    python benchmarks/peer_lightning_action.py RAT_SOCIAL WORK --folds FOLDS.csv --peer-python OTHER/bin/python

RAT_SOCIAL holds dlc/ and annotations_social/ or annotations_aggression/. OTHER is an environment of its own, without
what only the other's video models need (DALI, torchvision, transformers, OpenCV):

    python -m venv OTHER
    OTHER/bin/pip install --no-deps lightning-action==1.0.2
    OTHER/bin/pip install torch "lightning>=2.5,<3" "numpy>=2" pandas scikit-learn tensorboard pyyaml
    OTHER/bin/pip install jaxtyping "typeguard<3"

The same for both: training and held-out recordings, classes, points below the likelihood threshold count as missing,
frames in a window, batch size, channels, layers, taps of a kernel, epochs, and the threads, one of the CPU each. Of
each, training is timed without validation and without the first epoch, and the frames that both predict are scored by
one function. Each is otherwise trained in its own way: loss, augmentation, learning rate, features, choice of the best
epoch. Ours by its defaults, the other as configs/ibl.yaml of its repository says, an example with a dilated TCN.
--ours and --peer change them: --ours lr=1e-3 --ours warmup_epochs=2 --peer optimizer.lr=1e-3

Not alike whatever is set: a layer of the other's has two dilated convolutions and ours one, so it has more weights and
looks further (--peer model.num_layers=5 sees about as far as 6 of ours); it computes its context at both ends of every
window too, and so more frames; it takes no likelihoods and no missing points, which are interpolated for it; it
predicts no frames after a recording's last whole window. Ours chooses its best epoch by the macro F1 of the held-out
recordings, which is what is then scored, and the other by its loss on them: only the last epochs are unchosen for both.
Our whole epochs hold a second evaluation, on as many training frames as are held out.
What is done already in WORK with the same settings is not done again. --sides peer trains and scores the other alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from command import pipeline

CLASSES = {
    "social": ("base", "social", "nonsocial", "aggression"),
    "aggression": ("base", "lateralthreat", "keepdown", "clinch", "uprightposture", "freezing", "bite", "chase"),
}
WINDOW, CHANNELS, LIKELIHOOD = 180, 128, 0.1
SIDES = {"ours": "ours", "peer": "lightning-action"}
CHOICES = {"best": "its best epoch", "last": "the last epoch"}
CHILD = "--train-one-side"
NOT_PREDICTED = -1
LAYERS_HELP = "with more, the other's context is longer than a window, and it cuts its windows wrongly"


def main() -> None:
    options = parse()
    rat, work, classes = options.rat_social.resolve(), options.work.resolve(), CLASSES[options.label_set]
    train, val = fold(options)
    name = f"{options.label_set}_{options.only or 'all'}"
    print(f"{len(train)} training and {len(val)} held-out recordings; {machine()}", flush=True)
    links = link_recordings(rat, options.label_set, [*train, *val], work / "recordings" / f"{name}_{options.fold}")
    cache = work / "caches" / f"{name}_{options.fold}"
    folders = ["--dlc", links / "dlc", "--annotations", links / "annotations", "--cache", cache, "--workers", 0]
    settings = ["--classes", ",".join(classes), "--trial-frames", 0, "--frame-size", options.frame_size]
    pipeline("preprocess", *folders, *settings)
    peer_data = work / "peer_data" / options.label_set
    write_peer_data(rat, options.label_set, [*train, *val], peer_data)
    task = {
        "train": train, "val": val, "classes": classes, "epochs": options.epochs, "batch_size": options.batch_size,
        "layers": options.layers, "seed": options.seed, "threads": options.threads,
    }  # fmt: skip
    run = work / "runs" / f"{name}_{options.fold}_epochs{options.epochs}_seed{options.seed}"
    tasks = {
        "ours": task | {"cache": str(cache), "given": options.ours, "python": sys.executable},
        "peer": task | {"data": str(peer_data), "given": options.peer, "python": options.peer_python},
    }
    results = {side: train_side(side, tasks[side], run / side) for side in options.sides}
    truth = {name: labels_of(rat, options.label_set, name) for name in val}
    scores = {which: score(run, which, truth, classes, options.sides) for which in CHOICES}
    print(markdown(results, scores, options))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rat_social", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--peer-python", required=True, help="Python of the environment with lightning-action")
    parser.add_argument("--label-set", choices=list(CLASSES), default="social")
    parser.add_argument("--folds", type=Path, required=True, help="table with the columns recording,fold")
    parser.add_argument("--fold", type=int, default=0, help="the fold that is held out")
    parser.add_argument("--only", type=int, default=0, help="take the first so many recordings of each side; 0: all")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=8, help="windows in a batch; 8 is the other's in ibl.yaml")
    parser.add_argument("--layers", type=int, default=6, choices=range(2, 7), help=LAYERS_HELP)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each; one is what ours takes by itself")
    parser.add_argument("--frame-size", default="1920x1080", help="all points lie within; the videos are not there")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--ours", action="append", default=[], metavar="lr=1e-3", help="a setting of ours")
    parser.add_argument("--peer", action="append", default=[], metavar="optimizer.lr=1e-3", help="one of the other's")
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error("--epochs: expected 2 or more, since the first one is not timed")
    return options


def fold(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Training and held-out recordings that have labels; the first --only of each."""
    with options.folds.open(encoding="utf-8", newline="") as file:
        rows = [(row["recording"], int(row["fold"]) == options.fold) for row in csv.DictReader(file)]
    rows = [(name, held) for name, held in rows if annotation(options.rat_social, options.label_set, name).exists()]
    train, val = (sorted(name for name, held in rows if held is wanted) for wanted in (False, True))
    train, val = train[: options.only or None], val[: options.only or None]
    if not train or not val:
        raise SystemExit(f"fold {options.fold} of {options.folds}: no recordings to train on or to hold out")
    return train, val


def annotation(rat: Path, label_set: str, name: str) -> Path:
    return rat / f"annotations_{label_set}" / f"prediction_{name}_1.csv"


def table_of(rat: Path, name: str) -> Path:
    return next((rat / "dlc").glob(f"{name}DLC*.csv"))


def labels_of(rat: Path, label_set: str, name: str) -> np.ndarray:
    """Class ids (T,) of every frame, from the annotation itself: neither trainer's reading of it is scored against."""
    ids = {label: index for index, label in enumerate(CLASSES[label_set])}
    return pd.read_csv(annotation(rat, label_set, name))["Action"].map(ids).to_numpy(np.int64)


def link_recordings(rat: Path, label_set: str, names: list[str], folder: Path) -> Path:
    """A folder of these recordings alone: preprocess takes all that it finds in one."""
    for name in names:
        for source, kind in ((table_of(rat, name), "dlc"), (annotation(rat, label_set, name), "annotations")):
            link = folder / kind / source.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(source)
    return folder


def write_peer_data(rat: Path, label_set: str, names: list[str], folder: Path) -> None:
    """The other's layout: markers/ in DLC's single-animal form, labels/ one-hot, a CSV of each recording."""
    for name in names:
        if (folder / "labels" / f"{name}.csv").exists():
            continue
        markers, labels = filled_markers(table_of(rat, name)), labels_of(rat, label_set, name)
        if len(markers) != len(labels):
            raise SystemExit(f"{name}: {len(markers)} rows of keypoints, {len(labels)} of labels")
        one_hot = pd.DataFrame(np.eye(len(CLASSES[label_set]), dtype=int)[labels], columns=list(CLASSES[label_set]))
        for kind, table in (("markers", markers), ("labels", one_hot)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            table.to_csv(folder / kind / "unfinished")
            (folder / kind / "unfinished").replace(folder / kind / f"{name}.csv")


def filled_markers(path: Path) -> pd.DataFrame:
    """A DLC table of several animals as one of a single animal: the columns (animal_bodypart, x/y/likelihood).

    Points that count as missing for ours are missing here too. They are interpolated over time, since the other has no
    way to leave one out and says nothing of how to fill it.
    """
    with path.open(encoding="utf-8", newline="") as file:
        scorers, animals, parts, coords = (row[1:] for _, row in zip(range(4), csv.reader(file), strict=False))
    # Read without its header: pandas takes an empty first row below several header rows for the name of the index.
    table = pd.read_csv(path, skiprows=4, header=None, index_col=0)
    names = [f"{animal}_{part}" for animal, part in zip(animals, parts, strict=True)]
    table.columns = pd.MultiIndex.from_arrays([scorers, names, coords], names=["scorer", "bodyparts", "coords"])
    for name in dict.fromkeys(names):
        likelihood = table[scorers[0], name, "likelihood"].fillna(0.0)
        for axis in "xy":
            seen = table[scorers[0], name, axis].where(likelihood >= LIKELIHOOD)
            table[scorers[0], name, axis] = seen.interpolate(limit_direction="both").fillna(0.0)
        table[scorers[0], name, "likelihood"] = likelihood
    return table


def train_side(side: str, task: dict[str, Any], run: Path) -> dict[str, Any]:
    """Trains and predicts in a process of its own, whose memory and threads are then that side's alone."""
    known = json.loads((run / "result.json").read_text()) if (run / "result.json").exists() else {}
    task = json.loads(json.dumps(task))
    if known.get("task") == task:
        return known
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    (run / "task.json").write_text(json.dumps(task, indent=1))
    threads = {name: str(task["threads"]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    environment = os.environ | threads | {"CUDA_VISIBLE_DEVICES": ""}
    if side == "peer":  # its environment must not see our packages
        environment.pop("PYTHONPATH", None)
    print(f"$ train {SIDES[side]}", flush=True)
    command = [task["python"], __file__, CHILD, side, str(run)]
    with (run / "log.txt").open("w") as log:
        done = subprocess.run(command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        text = (run / "log.txt").read_text()[-3000:]
        raise SystemExit(f"{SIDES[side]} failed with exit code {done.returncode}:\n{text}")
    return json.loads((run / "result.json").read_text())


def child(side: str, run: Path) -> None:
    """What `train_side` starts; `run` holds task.json, and result.json and the predictions afterwards."""
    task = json.loads((run / "task.json").read_text())
    result = {"ours": train_ours, "peer": train_peer}[side](task, run)
    (run / "result.json").write_text(json.dumps(result | {"task": task}, indent=1))


def train_ours(task: dict[str, Any], run: Path) -> dict[str, Any]:
    """As `pipeline train` does, which says when an epoch begins and when its last step is done."""
    import torch

    import cache as clip_cache
    from pipeline.console import Bar
    from pipeline.model.tcn import receptive_field
    from pipeline.model.trained import load_trained
    from pipeline.predict.stage import predict_clip
    from pipeline.settings_given import checked
    from pipeline.train.run_folder import BEST, HISTORY, LAST
    from pipeline.train.split import Split, save_split
    from pipeline.train.stage import train
    from pipeline.train_settings import TrainSettings

    parts = {"train": tuple(task["train"]), "val": tuple(task["val"])}
    save_split(Split(**parts, groups={name: name for names in parts.values() for name in names}), run / "fold.csv")
    values = {
        "encoder": "none", "device": "cpu", "merge": "none", "kp_likelihood_thr": LIKELIHOOD, "train_T": WINDOW,
        "tcn_channels": CHANNELS, "tcn_layers": task["layers"], "tcn_kernel": 3, "batch_size": task["batch_size"],
        "epochs": task["epochs"], "early_stopping_patience": 0, "seed": task["seed"],
        "split_file": str(run / "fold.csv"),
    }  # fmt: skip
    settings = checked(TrainSettings(**values | dict(given(task))))
    began: list[float] = []
    stepped: list[float] = []
    steps: list[int] = []

    def say(line: str) -> None:
        print(line, flush=True)
        if line.startswith("Epoch "):
            began.append(time.perf_counter())

    class Watch(Bar):
        """The steps of an epoch, instead of the epochs."""

        @property
        def below(self) -> Bar:
            return self

        def __call__(self, what: str, done: float, total: int) -> None:
            if what != "epochs" and done == total:
                stepped.append(time.perf_counter())
                steps.append(total)

    clips = Path(task["cache"])
    outcome = train(settings, cache=clips, out=run / "model", say=say, progress=Watch())
    peak = peak_mb()
    for which, name in (("best", BEST), ("last", LAST)):
        trained = load_trained(run / "model" / name)
        held_out = [clip for clip in clip_cache.open(clips) if clip.recording in task["val"]]
        save_predictions(run, which, {clip.recording: predict_clip(trained, clip).labels for clip in held_out})
    return {
        "training_s": [end - start for start, end in zip(began, stepped, strict=True)],
        "epoch_s": pd.read_csv(run / "model" / HISTORY)["seconds"].tolist(),
        "peak_mb": peak,
        "best_epoch": outcome.best_epoch,
        "steps": steps[0],
        "weights": sum(weight.numel() for weight in trained.network.parameters()),
        "seen": receptive_field(settings.tcn_layers, settings.tcn_kernel),
        "computed": WINDOW,
        "lr": settings.lr,
        "torch": torch.__version__,
    }


def train_peer(task: dict[str, Any], run: Path) -> dict[str, Any]:
    """By its own Model, with the held-out recordings for validation: its own split takes random windows of all."""
    # Its api package imports the video model, and that torchvision, which a model of the pose does not use.
    video = types.ModuleType("lightning_action.api.video_model")
    video.VideoModel = object  # type: ignore[attr-defined]
    sys.modules[video.__name__] = video
    import lightning.pytorch as pl
    import torch
    import yaml
    from lightning_action import train as training
    from lightning_action.api.model import Model
    from lightning_action.data import DataModule, compute_sequence_pad
    from lightning_action.models import Segmenter
    from torch.utils.data import Subset

    class ByRecording(DataModule):
        def __init__(self, *args: Any, num_workers: int, **others: Any) -> None:
            super().__init__(*args, num_workers=num_workers, persistent_workers=num_workers > 0, **others)

        def setup(self, stage: str | None = None) -> None:
            ids = [info["dataset_id"] for info in self.dataset.sequence_info]
            parts = [[i for i, name in enumerate(ids) if name in task[part]] for part in ("train", "val")]
            self.dataset_train, self.dataset_val = (Subset(self.dataset, indices) for indices in parts)

    class Clock(pl.Callback):
        def __init__(self) -> None:
            self.began: list[float] = []
            self.stepped: list[float] = []
            self.ended: list[float] = []

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.began.append(time.perf_counter())

        def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if not trainer.sanity_checking:
                self.stepped.append(time.perf_counter())

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.ended.append(time.perf_counter())
            # Without a frame to learn from its loss is 0, and it goes on as if nothing were wrong.
            if not trainer.callback_metrics["train_loss"] > 0:
                raise ValueError("it learned nothing in this epoch")

    clock, callbacks = Clock(), training.get_callbacks_from_config
    training.DataModule = ByRecording
    training.get_callbacks_from_config = lambda config: [clock, *callbacks(config)]
    config = peer_config(task)
    # Its model cuts this much off both ends of every window, whether or not its data have it: by default they do not.
    config["training"]["sequence_pad"] = compute_sequence_pad(config["model"]["head"], **config["model"])
    model = Model.from_config(config)
    model.train(output_dir=run / "model", post_inference=False)
    peak = peak_mb()
    config = yaml.safe_load((run / "model" / "config.yaml").read_text())
    best = next((run / "model").rglob("*best*.ckpt"))
    for which, path in (("best", best), ("last", run / "model" / "final_model.ckpt")):
        # Not Model.from_dir: with VelocityConcat it doubles the input size again, and no checkpoint fits.
        trained = Model(Segmenter.load_from_checkpoint(path, config=config), config, run / "model")
        trained.predict(task["data"], "markers", run / "model" / which, expt_ids=task["val"])
        tables = {name: pd.read_csv(run / "model" / which / f"{name}_predictions.csv") for name in task["val"]}
        save_predictions(run, which, {name: commonest(table[task["classes"]]) for name, table in tables.items()})
    return {
        "training_s": [end - start for start, end in zip(clock.began, clock.stepped, strict=True)],
        "epoch_s": [end - start for start, end in zip(clock.began, clock.ended, strict=True)],
        "peak_mb": peak,
        "best_epoch": int(best.name.split("epoch=")[1].split("-")[0]) + 1,
        "steps": config["optimizer"]["steps_per_epoch"],
        "weights": sum(weight.numel() for weight in trained.model.parameters()),
        "seen": 1 + 2 * trained.model.sequence_pad,
        "computed": WINDOW + 2 * trained.model.sequence_pad,
        "lr": config["optimizer"]["lr"],
        "torch": torch.__version__,
    }


def peer_config(task: dict[str, Any]) -> dict[str, Any]:
    """As in its configs/ibl.yaml, but for what is the same for both, and without worker processes.

    Its data lie in memory, and four processes to hand them on made it no faster. x and y of 10 keypoints are 20 inputs,
    which it doubles itself for the velocities. ignore_index -100: every frame is scored.
    """
    config: dict[str, Any] = {
        "data": {
            "data_path": task["data"], "input_dir": "markers", "expt_ids": [*task["train"], *task["val"]],
            "transforms": ["VelocityConcat", "ZScore"], "ignore_index": -100, "weight_classes": True,
        },
        "model": {
            "input_size": 20, "output_size": len(task["classes"]), "head": "dtcn", "num_hid_units": CHANNELS,
            "num_layers": task["layers"], "num_lags": 1, "seed": task["seed"],
        },
        "optimizer": {"type": "Adam", "lr": 1e-4, "wd": 0, "scheduler": None},
        "training": {
            "device": "cpu", "num_epochs": task["epochs"], "batch_size": task["batch_size"], "num_workers": 0,
            "sequence_length": WINDOW, "seed": task["seed"], "progress_bar": False,
        },
    }  # fmt: skip
    for name, value in given(task):
        section, _, key = name.partition(".")
        config[section][key] = value
    return config


def given(task: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of --ours or --peer; a value is JSON, or else text."""
    for pair in task["given"]:
        name, _, text = pair.partition("=")
        try:
            yield name, json.loads(text)
        except json.JSONDecodeError:
            yield name, text


def peak_mb() -> float:
    """Largest resident size of this process so far; NaN where the system does not say.

    Not ru_maxrss, which begins with the size of the process that started this one.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), float("nan"))


def commonest(probabilities: pd.DataFrame) -> np.ndarray:
    """Class ids (T,) with the largest probability; of rows without one nothing is predicted."""
    return np.where(probabilities.notna().all(axis=1), probabilities.fillna(0).to_numpy().argmax(1), NOT_PREDICTED)


def save_predictions(run: Path, which: str, predicted: dict[str, np.ndarray]) -> None:
    np.savez(run / f"{which}.npz", **predicted)


def score(
    run: Path, which: str, truth: dict[str, np.ndarray], classes: tuple[str, ...], sides: list[str]
) -> dict[str, dict[str, float]]:
    """Of each side: macro F1, that of segments, and F1 of each class, over the held-out frames that all sides predict.

    The mean is over the classes that occur in the truth, so that all are divided by the same number.
    """
    from sklearn.metrics import f1_score

    from pipeline.train.metrics import segment_f1

    loaded = {side: np.load(run / side / f"{which}.npz") for side in sides}
    for side, found in loaded.items():
        if wrong := [name for name, labels in truth.items() if found[name].shape != labels.shape]:
            raise SystemExit(f"{SIDES[side]}: the predictions of {', '.join(wrong)} do not fit the labels")
    # Only frames at the end of a recording are left out, so none of a segment's frames is missing from its middle.
    scored = {name: np.all([found[name] != NOT_PREDICTED for found in loaded.values()], axis=0) for name in truth}
    true = [truth[name][scored[name]] for name in truth]
    present = np.unique(np.concatenate(true))
    scores = {}
    for side, found in loaded.items():
        predicted = [found[name][scored[name]] for name in truth]
        f1 = f1_score(np.concatenate(true), np.concatenate(predicted), labels=present, average=None, zero_division=0)
        scores[side] = {
            "macro F1": float(f1.mean()),
            "segment F1@0.3": segment_f1(true, predicted, 0.3),
            **{f"F1 {classes[i]}": value for i, value in zip(present, f1, strict=True)},
            "frames": sum(map(len, true)),
            "of": sum(map(len, truth.values())),
        }
    return scores


def markdown(results: dict[str, Any], scores: dict[str, Any], options: argparse.Namespace) -> str:
    sides = list(results)
    frames = scores["best"][sides[0]]
    title = (
        f"{options.label_set}, fold {options.fold}, {options.epochs} epochs, batches of {options.batch_size} windows "
        f"of {WINDOW} frames, {options.threads} thread(s), seed {options.seed}; scored on {frames['frames']:,} of "
        f"{frames['of']:,} held-out frames"
    )
    rows = {
        "training, s per epoch": lambda side: spread(results[side]["training_s"]),
        "whole epoch with its own validation, s": lambda side: spread(results[side]["epoch_s"]),
        "peak memory of training, MB": lambda side: f"{results[side]['peak_mb']:.0f}",
        "steps per epoch": lambda side: results[side]["steps"],
        "frames computed for a window": lambda side: results[side]["computed"],
        "weights": lambda side: f"{results[side]['weights']:,}",
        "frames that one output depends on": lambda side: results[side]["seen"],
        "learning rate": lambda side: results[side]["lr"],
        "torch": lambda side: results[side]["torch"],
        "best epoch, by its own rule": lambda side: results[side]["best_epoch"],
    }
    lines = [f"\n### {title}\n", f"| | {' | '.join(SIDES[side] for side in sides)} |", "|---" * (len(sides) + 1) + "|"]
    lines += [f"| {row} | {' | '.join(str(cell(side)) for side in sides)} |" for row, cell in rows.items()]
    for which, said in CHOICES.items():
        for figure in [name for name in scores[which][sides[0]] if "F1" in name]:
            cells = [f"{scores[which][side][figure]:.3f}" for side in sides]
            lines.append(f"| {figure}, {said} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(seconds: list[float]) -> str:
    """Median of all but the first, in which things are loaded; smallest and largest in brackets."""
    later = seconds[1:]
    return f"{statistics.median(later):.2f} ({min(later):.2f} to {max(later):.2f})"


def machine() -> str:
    return f"{os.cpu_count()} cores ({platform.machine()}), load before the start {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        child(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
