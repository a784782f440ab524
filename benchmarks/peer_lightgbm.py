"""Boosted trees on windowed pose features, as SimBA, MARS and JABS learn, on rat_social; prints a Markdown table.

    pip install lightgbm    # 4.7 was used; nothing else in this repository needs it
    python benchmarks/peer_lightgbm.py RAT_SOCIAL WORK --folds FOLDS.csv --label-set social
    python benchmarks/peer_lightgbm.py RAT_SOCIAL WORK --folds FOLDS.csv --label-set aggression --rounds 80 --every 16

RAT_SOCIAL holds dlc/ and annotations_social/ or annotations_aggression/. Every fold is scored once, by trees grown on
the other folds' recordings. The features of a frame, in pixels and frames: all distances between points, within and
between the animals; speeds of points and animals over several lags; the animals' distance and its change; how they
face each other, turn and approach; missing points. Of each, the value itself, and means, deviations, minima and maxima
over centred windows. A point that is missing for at most 15 frames is interpolated, for longer it is NaN, which the
trees take. Each feature of one animal is there as the smaller and the larger of both animals' values: which of them
the tracker calls individual1 is chance.

How many rounds (at most --rounds) is chosen in each fold and for each kind of weights by trees that are grown without
one of the training folds, by their macro F1 on it; the trees that are scored are then grown on all training folds.
Settled in favour of this peer: frames with equal weights or with weights by the square root of their class's inverse
share; labels by the largest probability or by the largest of probabilities averaged over 15 or 61 frames. All six are
printed, and that with the best macro F1 over all folds is called its result, though the scored recordings chose it.
The size of its trees was settled by growing some on folds 1 to 3 and looking at fold 4.

Alike with ours: recordings, folds, classes, the threshold of a point's likelihood, one thread, and
`pipeline.train.metrics` on whole recordings with each frame once. Not alike: ours learns its features from the points,
this one sees about 270 frames at once, and learns from one frame in --every of the common classes, with the weight
of that many. It takes no likelihoods. It knows the names `top`, `body` and `tail`, of which it makes an animal's
position and heading.

WORK/<label set>_<weights>/<recording>.npz holds of each recording `proba` (T,N) float32, not averaged, by trees that
have not seen it, and `labels` (T,). A fold that is in WORK with the same settings is not done again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import lightgbm
import numpy as np
import pandas as pd
from peer_lightning_action import CLASSES, LIKELIHOOD, annotation, labels_of, table_of
from scipy.ndimage import maximum_filter1d, minimum_filter1d, uniform_filter1d

from pipeline.model.animals import entry
from pipeline.train import metrics

TRUNK = ("top", "body", "tail")
LONGEST_GAP = 15
# A tree sees a tenth of the features, by chance: of the time so many copies, that most trees see it.
TIME_COPIES = 15
LAGS = (1, 5, 15, 30)
MEANS, DEVIATIONS, EXTREMES = (5, 15, 31, 61, 121, 241), (15, 61, 121), (15, 61)
# Every frame of the other classes is learned from.
THINNED = {"social": CLASSES["social"], "aggression": ("base",)}
# What may be shown of the time, and the mark of it in the names of folders.
TIMES = {"none": "", "clip": "_time", "entry": "_entry"}
WEIGHTS = {"plain": "equal weights", "weighted": "class weights"}
AVERAGED = (1, 15, 61)
# Small trees, each of a tenth of the features and half of the frames: neighbouring ones are nearly alike. Trees of
# 31 leaves, a fifth of the features and all frames took three times as long; on fold 4 of aggression (fold 0 not
# used, class weights) their macro F1 was 0.30 after 30 rounds and 0.27 after 60, of these 0.28 after 40 and after 80.
BOOSTING = {
    "objective": "multiclass", "learning_rate": 0.1, "num_leaves": 15, "min_data_in_leaf": 100, "lambda_l2": 1.0,
    "feature_fraction": 0.1, "bagging_fraction": 0.5, "bagging_freq": 1, "max_bin": 63,
    "num_threads": 1, "force_col_wise": True, "verbosity": -1,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Sample:
    """The frames of one recording that are learned from: features (M,F), labels (M,), and how many each stands for."""

    features: np.ndarray
    labels: np.ndarray
    stands_for: np.ndarray


def main() -> None:
    options = parse()
    folds = folds_of(options)
    samples: dict[str, Sample] = {}
    for held_out in sorted(set(folds.values())):
        settings = settings_of(options, folds, held_out)
        if all(is_done(options, weights, held_out, settings) for weights in WEIGHTS):
            continue
        for name in folds:
            if name not in samples:
                samples[name] = sample(options, name)
        learn_fold(options, folds, held_out, samples, settings)
    print(report(options, folds))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rat_social", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--folds", type=Path, required=True, help="table with the columns recording,fold")
    parser.add_argument("--label-set", choices=list(CLASSES), default="social")
    parser.add_argument("--rounds", type=int, default=160, help="trees of each class at most")
    parser.add_argument("--every", type=int, default=12, help="learn from one frame of so many of the common classes")
    parser.add_argument(
        "--time", choices=list(TIMES), default="none",
        help="show the trees the time too: in the recording, and since the last animal came in, as --time-input has it",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def folds_of(options: argparse.Namespace) -> dict[str, int]:
    """The fold of each recording that has labels."""
    with options.folds.open(encoding="utf-8", newline="") as file:
        folds = {row["recording"]: int(row["fold"]) for row in csv.DictReader(file)}
    names = [name for name in sorted(folds) if annotation(options.rat_social, options.label_set, name).exists()]
    if len({folds[name] for name in names}) < 3:
        raise SystemExit(f"{options.folds}: expected three folds or more of recordings with {options.label_set} labels")
    return {name: folds[name] for name in names}


def settings_of(options: argparse.Namespace, folds: dict[str, int], held_out: int) -> dict[str, Any]:
    """All that the trees of a fold follow from. inner: the recordings of the next fold, by which rounds are chosen."""
    numbers = sorted(set(folds.values()))
    following = numbers[(numbers.index(held_out) + 1) % len(numbers)]
    train = [name for name, fold in folds.items() if fold != held_out]
    inner = [name for name in train if folds[name] == following]
    windows = {"lags": LAGS, "means": MEANS, "deviations": DEVIATIONS, "extremes": EXTREMES, "gap": LONGEST_GAP}
    chosen = {"rounds": options.rounds, "every": options.every, "seed": options.seed}
    chosen |= {"train": train, "inner": inner} | ({"time": TIME_COPIES} if TIMES[options.time] else {})
    return json.loads(json.dumps(chosen | windows | BOOSTING))


def folder(options: argparse.Namespace, weights: str) -> Path:
    return options.work / f"{options.label_set}{TIMES[options.time]}_{weights}"


def record(options: argparse.Namespace, weights: str, held_out: int) -> Path:
    """What is written last of a fold."""
    return folder(options, weights) / f"fold{held_out}.json"


def is_done(options: argparse.Namespace, weights: str, held_out: int, settings: dict[str, Any]) -> bool:
    path = record(options, weights, held_out)
    return path.exists() and json.loads(path.read_text())["settings"] == settings


def points(path: Path) -> tuple[np.ndarray, list[str], list[str]]:
    """A DLC table's points xy (T,K,2), NaN where missing, with the animal and the body part of each."""
    with path.open(encoding="utf-8", newline="") as file:
        _, animals, parts, _ = (row[1::3] for _, row in zip(range(4), csv.reader(file), strict=False))
    # Without its header: pandas takes an empty first row below several header rows for the name of the index.
    values = pd.read_csv(path, skiprows=4, header=None, index_col=0).to_numpy(np.float64)
    values = values.reshape(len(values), len(parts), 3)
    return np.where(values[..., 2:] >= LIKELIHOOD, values[..., :2], np.nan), animals, parts


def bridged(xy: np.ndarray) -> np.ndarray:
    """xy (T,K,2) with gaps of up to LONGEST_GAP frames interpolated, longer ones left NaN as a whole."""
    flat = pd.DataFrame(xy.reshape(len(xy), -1))
    missing = flat.isna()
    filled = flat.interpolate(limit_area="inside")
    for column in flat:
        runs = (missing[column] != missing[column].shift()).cumsum()
        too_long = missing[column] & (runs.map(runs.value_counts()) > LONGEST_GAP)
        filled[column] = filled[column].where(~too_long)
    return filled.to_numpy().reshape(xy.shape)


def moved(values: np.ndarray, lag: int) -> np.ndarray:
    """What values (T,...) change by over `lag` frames around each frame, shorter at both ends of the recording."""
    frames = np.arange(len(values))
    after = np.minimum(frames + lag // 2, len(values) - 1)
    return values[after] - values[np.maximum(frames + lag // 2 - lag, 0)]


def mean_present(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of those that are not NaN, NaN of none."""
    present = np.isfinite(values)
    count = present.sum(axis)
    return np.where(count > 0, np.where(present, values, 0).sum(axis) / np.maximum(count, 1), np.nan)


def smaller_and_larger(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(T,A) of one animal and of the other as (T,2A), so that it does not matter which is which."""
    return np.hstack([np.fmin(one, other), np.fmax(one, other)])


def frame_features(path: Path) -> np.ndarray:
    """(T,F) of each frame alone and of what moves around it."""
    raw, animals, parts = points(path)
    xy = bridged(raw)
    first, second = ([i for i, name in enumerate(animals) if name == animal] for animal in dict.fromkeys(animals))
    one, two = xy[:, first], xy[:, second]
    part_names = [parts[i] for i in first]
    trunk = [part_names.index(part) for part in TRUNK]
    places = [mean_present(animal[:, trunk], 1) for animal in (one, two)]
    towards = places[1] - places[0]
    apart = np.linalg.norm(towards, axis=1)

    a, b = np.triu_indices(len(first), 1)
    between = np.linalg.norm(one[:, :, None] - two[:, None], axis=3)  # (T,K,K)
    same = np.arange(len(first))
    singles = [
        single_features(animal, place, trunk, sign * towards / np.maximum(apart, 1e-6)[:, None])
        for animal, place, sign in ((one, places[0], 1), (two, places[1], -1))
    ]
    headings = [heading(animal, trunk) for animal in (one, two)]
    missing = np.isnan(raw[..., 0])
    return np.hstack([
        smaller_and_larger(*singles),
        between[:, same, same],
        smaller_and_larger(between[:, a, b], between[:, b, a]),
        np.fmin.reduce(between.reshape(len(xy), -1), axis=1)[:, None],
        apart[:, None],
        *(moved(apart, lag)[:, None] for lag in LAGS),
        (headings[0] * headings[1]).sum(1, keepdims=True),
        smaller_and_larger(*(missing[:, animal].sum(1, keepdims=True).astype(float) for animal in (first, second))),
    ])  # fmt: skip


def single_features(xy: np.ndarray, place: np.ndarray, trunk: list[int], towards: np.ndarray) -> np.ndarray:
    """(T,A) of one animal's points (T,K,2), its place (T,2) and the unit vector (T,2) from it to the other animal."""
    a, b = np.triu_indices(xy.shape[1], 1)
    ahead = heading(xy, trunk)
    columns = [np.linalg.norm(xy[:, a] - xy[:, b], axis=2)]
    columns += [np.linalg.norm(moved(xy, lag), axis=2) for lag in LAGS[:3]]
    for lag in LAGS:
        # Of the points that both frames have: a mean place jumps where one of them goes missing.
        step = mean_present(moved(xy[:, trunk], lag), 1)
        columns += [np.linalg.norm(step, axis=1)[:, None], (step * towards).sum(1, keepdims=True)]
        columns += [(step * ahead).sum(1, keepdims=True)]
    columns += [(ahead * towards).sum(1, keepdims=True)]
    columns += [np.linalg.norm(moved(ahead, lag), axis=1)[:, None] for lag in LAGS[1:3]]
    return np.hstack(columns)


def heading(xy: np.ndarray, trunk: list[int]) -> np.ndarray:
    """Unit vector (T,2) from the tail's root to the front, or from or to the body where one of them is missing."""
    front, body, rear = (xy[:, i] for i in trunk)
    ahead = front - rear
    for instead in (front - body, body - rear):
        ahead = np.where(np.isfinite(ahead), ahead, instead)
    return ahead / np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-6)


def windowed(values: np.ndarray) -> np.ndarray:
    """values (T,F) with their means, deviations and extremes over centred windows, (T,F') float32.

    Over the frames that are there: windows are shorter at both ends, and NaN only where all of their frames are.
    """
    present = np.isfinite(values)
    filled = np.where(present, values, 0)
    sums = {what: np.cumsum(np.pad(x, ((1, 0), (0, 0))), axis=0) for what, x in (("n", present), ("x", filled))}
    squares = np.cumsum(np.pad(filled**2, ((1, 0), (0, 0))), axis=0)
    frames = np.arange(len(values))

    def total(sums: np.ndarray, window: int) -> np.ndarray:
        return sums[np.minimum(frames + window // 2 + 1, len(frames))] - sums[np.maximum(frames - window // 2, 0)]

    columns = [values.astype(np.float32)]
    for window in MEANS:
        count = total(sums["n"], window)
        mean = np.where(count > 0, total(sums["x"], window) / np.maximum(count, 1), np.nan)
        columns.append(mean.astype(np.float32))
        if window in DEVIATIONS:
            variance = total(squares, window) / np.maximum(count, 1) - mean**2
            columns.append(np.sqrt(np.maximum(variance, 0)).astype(np.float32))
    low, high = (np.where(present, values, empty).astype(np.float32) for empty in (np.inf, -np.inf))
    for window in EXTREMES:
        for filtered, x, empty in ((minimum_filter1d, low, np.inf), (maximum_filter1d, high, -np.inf)):
            extreme = filtered(x, window, axis=0, mode="constant", cval=empty)
            columns.append(np.where(np.isfinite(extreme), extreme, np.nan).astype(np.float32))
    return np.hstack(columns)


def features_of(options: argparse.Namespace, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features (T,F) float32 and labels (T,) of all frames of a recording."""
    table = table_of(options.rat_social, name)
    features = windowed(frame_features(table))
    if TIMES[options.time]:
        since = np.arange(len(features), dtype=np.float32)
        times = [since, len(features) - 1 - since]
        if options.time == "entry":
            times.append(since - entered(table))
        features = np.hstack([features, np.tile(np.stack(times, 1), (1, TIME_COPIES))])
    labels = labels_of(options.rat_social, options.label_set, name)
    if len(features) != len(labels):
        raise SystemExit(f"{name}: {len(features)} rows of keypoints, {len(labels)} of labels")
    return features, labels


def entered(table: Path) -> float:
    """The frame in which the second animal came in; NaN if the two are never seen together."""
    xy, animals, _ = points(table)
    groups = [[i for i, name in enumerate(animals) if name == animal] for animal in dict.fromkeys(animals)]
    frame = entry(np.isfinite(xy).all(-1), groups)
    return float("nan") if frame is None else float(frame)


def sample(options: argparse.Namespace, name: str) -> Sample:
    features, labels = features_of(options, name)
    thinned = [CLASSES[options.label_set].index(label) for label in THINNED[options.label_set]]
    common = np.isin(labels, thinned)
    kept = ~common | (np.arange(len(labels)) % options.every == 0)
    return Sample(features[kept], labels[kept], np.where(common, options.every, 1.0)[kept])


def learn_fold(
    options: argparse.Namespace,
    folds: dict[str, int],
    held_out: int,
    samples: dict[str, Sample],
    settings: dict[str, Any],
) -> None:
    """Grows trees with either weights, and writes their probabilities of the held-out recordings."""
    for weights in WEIGHTS:
        folder(options, weights).mkdir(parents=True, exist_ok=True)
        record(options, weights, held_out).unlink(missing_ok=True)
    train, inner = settings["train"], settings["inner"]
    watched = {name: features_of(options, name) for name in inner}
    tried = grow(
        options, [samples[name] for name in train if name not in inner], dict.fromkeys(WEIGHTS, options.rounds)
    )
    rounds = {weights: best_rounds(options, trees, list(watched.values())) for weights, (trees, _) in tried.items()}
    del watched
    grown = grow(options, [samples[name] for name in train], rounds)
    for name in (name for name, fold in folds.items() if fold == held_out):
        features, truth = features_of(options, name)
        for weights, (trees, _) in grown.items():
            proba = np.asarray(trees.predict(features), np.float32)
            np.savez(folder(options, weights) / f"{name}.npz", proba=proba, labels=truth)
    frames = class_frames(options, [samples[name] for name in train])
    for weights, (trees, seconds) in grown.items():
        done = {"settings": settings, "rounds": rounds[weights], "training_s": seconds, "inner_s": tried[weights][1]}
        done |= {"features": trees.num_feature(), "train_frames": frames.tolist()}
        done |= {"learned_from": sum(len(samples[name].labels) for name in train)}
        record(options, weights, held_out).write_text(json.dumps(done, indent=1))
        said = f"{options.label_set}, fold {held_out}, {WEIGHTS[weights]}: {done['learned_from']:,} frames"
        print(f"{said}, {rounds[weights]} rounds, {done['inner_s']:.0f} + {seconds:.0f} s", flush=True)


def grow(
    options: argparse.Namespace, train: list[Sample], rounds: dict[str, int]
) -> dict[str, tuple[lightgbm.Booster, float]]:
    """Trees by either weights, and the seconds that they took, with the binning of the features."""
    labels, stands_for = (np.concatenate([getattr(s, what) for s in train]) for what in ("labels", "stands_for"))
    frames = class_frames(options, train)
    by_weights = {"plain": np.ones(len(frames)), "weighted": np.sqrt(frames.sum() / np.maximum(frames, 1))}
    parameters = BOOSTING | {"num_class": len(frames), "seed": options.seed}
    start = time.perf_counter()
    data = lightgbm.Dataset(np.concatenate([s.features for s in train]), labels, params=parameters).construct()
    binning = time.perf_counter() - start
    grown = {}
    for weights, of_class in by_weights.items():
        start = time.perf_counter()
        data.set_weight(stands_for * of_class[labels])
        trees = lightgbm.train(parameters, data, rounds[weights])
        grown[weights] = trees, binning + time.perf_counter() - start
    return grown


def class_frames(options: argparse.Namespace, train: list[Sample]) -> np.ndarray:
    """Frames (N,) of each class, those included that are left out for others that stand for them."""
    return sum(np.bincount(s.labels, s.stands_for, len(CLASSES[options.label_set])) for s in train)


def best_rounds(
    options: argparse.Namespace, trees: lightgbm.Booster, watched: list[tuple[np.ndarray, np.ndarray]]
) -> int:
    """After an eighth, a quarter, half or all of the rounds: the best macro F1 on recordings that are not scored."""
    classes = CLASSES[options.label_set]
    labels = [truth for _, truth in watched]

    def macro_f1(rounds: int) -> float:
        pred = [np.asarray(trees.predict(x, num_iteration=rounds)).argmax(1) for x, _ in watched]
        return scores_of(labels, pred, classes)["macro F1"]

    return max((options.rounds // part for part in (8, 4, 2, 1)), key=macro_f1)


def scores_of(labels: list[np.ndarray], pred: list[np.ndarray], classes: tuple[str, ...]) -> dict[str, float]:
    frames = sum(metrics.confusion(t, p, len(classes)) for t, p in zip(labels, pred, strict=True))
    f1 = metrics.f1_per_class(frames)
    return {
        "macro F1": metrics.macro_f1(frames),
        "segment F1@0.3": metrics.segment_f1(labels, pred, 0.3),
        "accuracy": np.trace(frames) / frames.sum(),
        **{f"F1 {name}": value for name, value in zip(classes, f1, strict=True)},
    }


def averaged(proba: np.ndarray, window: int) -> np.ndarray:
    return uniform_filter1d(proba, window, axis=0, mode="nearest") if window > 1 else proba


def report(options: argparse.Namespace, folds: dict[str, int]) -> str:
    """Scores of every fold by every choice, and of the majority; then the best choice, fold by fold."""
    classes = CLASSES[options.label_set]
    numbers = sorted(set(folds.values()))
    columns: dict[str, list[dict[str, float]]] = {}
    records = {}
    for weights, said in WEIGHTS.items():
        for held_out in numbers:
            done = json.loads(record(options, weights, held_out).read_text())
            records[weights, held_out] = done
            files = [np.load(folder(options, weights) / f"{name}.npz") for name in folds if folds[name] == held_out]
            labels, proba = [file["labels"] for file in files], [file["proba"] for file in files]
            majority = int(np.argmax(done["train_frames"]))
            if weights == "plain":
                baseline = scores_of(labels, [np.full_like(t, majority) for t in labels], classes)
                columns.setdefault("majority", []).append(baseline)
            for window in AVERAGED:
                column = said + (f", mean of {window}" if window > 1 else "")
                scores = scores_of(labels, [averaged(p, window).argmax(1) for p in proba], classes)
                columns.setdefault(column, []).append(
                    scores | {"rounds": done["rounds"], "training, s": done["training_s"]}
                )
    rivals = {name: scores for name, scores in columns.items() if name != "majority"}
    best = max(rivals, key=lambda name: np.mean([fold["macro F1"] for fold in rivals[name]]))
    first = records["plain", numbers[0]]
    title = (
        f"LightGBM {lightgbm.__version__}, {options.label_set}: {len(folds)} recordings, {first['features']} features, "
        f"at most {options.rounds} rounds, one frame of {options.every} of {', '.join(THINNED[options.label_set])}"
    )
    learned = [done["learned_from"] for (weights, _), done in records.items() if weights == "plain"]
    preface = (
        f"Learned from {min(learned):,} to {max(learned):,} frames. Mean over folds ± standard deviation. Best of "
        f"{len(rivals)}, chosen in favour of the peer: **{best}**."
    )
    rows = list(rivals[best][0])
    summary = table(list(columns), rows, lambda row, name: spread([fold.get(row) for fold in columns[name]]))
    by_fold = {str(number): scores for number, scores in zip(numbers, rivals[best], strict=True)}
    each = table(list(by_fold), rows, lambda row, number: spread([by_fold[number][row]]))
    return "\n".join([f"\n### {title}\n", preface, "", *summary, f"\n{best}, fold by fold:\n", *each])


def table(columns: list[str], rows: list[str], cell: Callable[[str, str], str]) -> list[str]:
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    return lines + [f"| {row} | {' | '.join(cell(row, column) for column in columns)} |" for row in rows]


def spread(values: list[float | None]) -> str:
    """Mean ± standard deviation of those that there are; a class that a fold neither has nor predicts is left out."""
    known = [value for value in values if value is not None and np.isfinite(value)]
    if not known:
        return "-"
    digits = 0 if max(known) > 1 else 3
    return f"{np.mean(known):.{digits}f}" + (f" ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else "")


if __name__ == "__main__":
    main()
