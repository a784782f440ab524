"""The sections of a report that follow from scored trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cache.clip import UNLABELLED
from pipeline import bouts
from pipeline.bootstrap import MIN_UNITS
from pipeline.predict.scored_trials import ScoredTrial
from pipeline.report import figures, measures
from pipeline.report.content import DASH, Cell, Note, Plot, Section, Table, count, number, share, text
from pipeline.report.ethogram import Row, ethogram, lane
from pipeline.report.trials import ARGMAX, DECIDED, predictions, shown
from pipeline.train.decide import SEGMENT_IOU
from pipeline.train.metrics import SEGMENT_IOUS, confusion, f1_per_class, macro_f1, segment_f1, segment_f1_per_class

FEW_BOUTS = 10  # of a class: with fewer, one bout more or less moves its F1 by several hundredths


@dataclass(frozen=True)
class Scored:
    """Trials of at least one, and what was said of them. said: see `trials.predictions`."""

    trials: list[ScoredTrial]

    @property
    def names(self) -> tuple[str, ...]:
        return self.trials[0].class_names

    @cached_property
    def labels(self) -> list[np.ndarray]:
        return [trial.labels for trial in self.trials]

    @cached_property
    def said(self) -> dict[str, list[np.ndarray]]:
        return predictions(self.trials)

    @cached_property
    def baseline(self) -> list[np.ndarray]:
        return [np.full_like(trial.labels, trial.majority) for trial in self.trials]

    def frames(self, pred: Sequence[np.ndarray]) -> np.ndarray:
        """Confusion in frames (N,N)."""
        n = len(self.names)
        return np.sum([confusion(t, p, n) for t, p in zip(self.labels, pred, strict=True)], axis=0)

    @cached_property
    def best(self) -> str:
        """Of which labels trials are judged: those that `pipeline predict` gives."""
        return DECIDED if DECIDED in self.said else ARGMAX


def sections(scored: Scored, how: str, summary: Mapping[str, Any] | None = None) -> list[Section]:
    """how: what the scores are of, in full sentences. summary: of a cross-validation, for its intervals."""
    return [
        Section("Scores", [Note(how), _overall(scored, summary), _per_class(scored, summary)]),
        Section("Confusion", _confusions(scored)),
        Section("Certainty", _certainty(scored)),
        Section("Ethograms", [_ethogram(scored)]),
        *_keypoints(scored),
    ]


def _overall(scored: Scored, summary: Mapping[str, Any] | None) -> Table:
    frames = {name: scored.frames(pred) for name, pred in {**scored.said, "baseline": scored.baseline}.items()}
    preds = {**scored.said, "baseline": scored.baseline}
    found: dict[str, dict[str, float]] = {"macro F1": {name: macro_f1(table) for name, table in frames.items()}}
    for iou in SEGMENT_IOUS:
        found[f"segment F1@{iou}"] = {name: segment_f1(scored.labels, pred, iou) for name, pred in preds.items()}
    found["frames that are correct"] = {name: _ratio(table.trace(), table.sum()) for name, table in frames.items()}
    columns = ["figure", *_kinds(scored, ""), "majority baseline"]
    rows = [[text(name), *(number(value) for value in values.values())] for name, values in found.items()]
    if summary:
        columns += ["mean of folds ± SD (arg-max)", "95 % interval (arg-max)"]
        folds = {"macro F1": summary["macro_f1"]}
        folds |= {f"segment F1@{iou}": figure for iou, figure in summary["segment_f1"].items()}
        rows = [[*row, *_over_folds(folds.get(row[0].text))] for row in rows]
    majority = sorted({scored.names[trial.majority] for trial in scored.trials})
    caption = (
        "Macro F1 is the mean over the classes that occur in the truth or in the prediction. Segment F1 matches bouts "
        "of one class one to one where they overlap enough (IoU). The majority baseline always says the commonest "
        f"class of the training frames ({', '.join(majority)})."
    )
    if DECIDED in scored.said:
        caption += (
            " arg-max: the likeliest class of each frame alone. decided: with the decision layer, fitted without the "
            "recordings that are scored where these are held-out or out-of-fold ones; `pipeline predict` uses it."
        )
    return Table(columns, rows, caption)


def _per_class(scored: Scored, summary: Mapping[str, Any] | None) -> Table:
    n = len(scored.names)
    f1 = [f1_per_class(scored.frames(pred)) for pred in scored.said.values()]
    segment = [segment_f1_per_class(scored.labels, pred, SEGMENT_IOU, n) for pred in scored.said.values()]
    baseline = f1_per_class(scored.frames(scored.baseline))
    support = scored.frames(scored.baseline).sum(1)
    n_bouts, n_recordings = _bouts_and_recordings(scored)
    predicted = np.sum([scored.frames(pred).sum(0) for pred in scored.said.values()], axis=0)
    columns = ["class", *_kinds(scored, "F1, "), "F1, majority baseline", *_kinds(scored, "segment F1@0.3, ")]
    columns += ["frames", "bouts", "recordings"]
    if summary:
        columns += ["F1, mean of folds ± SD", "95 % interval"]
    rows = []
    for i, name in enumerate(scored.names):
        row = [text(name), *(number(values[i]) for values in f1), number(baseline[i])]
        row += [*(number(values[i]) for values in segment), count(support[i]), count(n_bouts[i])]
        row.append(count(n_recordings[i]))
        if summary:
            row += _over_folds(summary["f1_per_class"].get(name))
        rows.append([*row, text(remark(support[i], n_bouts[i], n_recordings[i], bool(predicted[i])))])
    caption = (
        "frames, bouts, recordings: how often people labelled the class in what is scored. noisy: fewer than "
        f"{FEW_BOUTS} bouts or {MIN_UNITS} recordings, so that other recordings may give quite another figure. "
        f"{DASH}: nothing to measure."
    )
    return Table([*columns, "note"], rows, caption)


def remark(frames: int, n_bouts: int, n_recordings: int, predicted: bool) -> str:
    """What is to be minded of a class' figures."""
    if not frames:
        return "never labelled here" + (", but predicted: how well it is found is not known" if predicted else "")
    if n_bouts < FEW_BOUTS or n_recordings < MIN_UNITS:
        s = "" if n_bouts == 1 else "s"
        return f"noisy: {n_bouts} bout{s} in {n_recordings} recording{'' if n_recordings == 1 else 's'}"
    return ""


def _bouts_and_recordings(scored: Scored) -> tuple[np.ndarray, np.ndarray]:
    n_bouts = np.zeros(len(scored.names), np.int64)
    recordings: list[set[str]] = [set() for _ in scored.names]
    for trial in scored.trials:
        for bout in bouts.find(trial.labels):
            n_bouts[bout.class_id] += 1
            recordings[bout.class_id].add(trial.recording)
    return n_bouts, np.array([len(names) for names in recordings])


def _confusions(scored: Scored) -> list[Plot]:
    plots = []
    for name, pred in scored.said.items():
        plots.append(
            figures.confusion(
                scored.frames(pred), scored.names, scored.names, f"Frames ({name})",
                "Rows are what people labelled, columns what is predicted; colours are shares of the row; "
                "white: never labelled.",
            )
        )  # fmt: skip
        table = measures.bout_confusion(scored.labels, pred, len(scored.names))
        plots.append(
            figures.confusion(
                table, [*scored.names, "(none)"], [*scored.names, "(missed)"], f"Bouts ({name})",
                f"Bouts that overlap at an IoU of at least {SEGMENT_IOU}. Last column: found by none; last row: "
                "predicted where people saw no such bout.",
            )
        )  # fmt: skip
    return plots


def _certainty(scored: Scored) -> list[Plot | Note | Table]:
    labels = np.concatenate(scored.labels)
    known = labels != UNLABELLED
    labels_F = labels[known]
    p_FN = measures.softmax(np.concatenate([trial.logits for trial in scored.trials])[known].astype(np.float64))
    if not len(labels_F):
        return [Note("No labelled frame: there is nothing to measure.")]
    curves = {name: measures.precision_recall(labels_F == i, p_FN[:, i]) for i, name in enumerate(scored.names)}
    overall = measures.reliability(p_FN.max(1), p_FN.argmax(1) == labels_F)
    per_class = {
        name: measures.reliability(p_FN[:, i], labels_F == i) for i, name in enumerate(scored.names) if curves[name]
    }
    calibration = figures.calibration(
        overall, per_class,
        "Of the frames of which the model is so certain, the share that is correct. Below the dotted line it is too "
        f"sure. ECE: expected calibration error, the mean distance from that line ({measures.BINS} bins, weighted by "
        "their frames). Larger points hold more frames. Click a class in the legend to see it alone.",
    )  # fmt: skip
    precision = figures.precision_recall(
        curves, "By the probability of each class alone, over all thresholds; in brackets the average precision. "
        "A class without a curve is not labelled in what is scored.",
    )  # fmt: skip
    rows = [_certainty_row(name, curve, per_class.get(name)) for name, curve in curves.items()]
    rows.append([text("all classes, arg-max"), number(None), number(None), number(overall.error)])
    columns = ("class", "average precision", "share of the frames (chance)", "expected calibration error")
    return [precision, calibration, Table(columns, rows, "Frames of one bout are much alike: these are not that many.")]


def _certainty_row(name: str, curve: measures.Curve | None, found: measures.Reliability | None) -> list[Cell]:
    if curve is None or found is None:
        return [text(name), number(None), number(None), number(None)]
    return [text(name), number(curve.average_precision), share(curve.share), number(found.error)]


def _ethogram(scored: Scored) -> Any:
    below = [name for name in (DECIDED, ARGMAX) if name in scored.said]
    rows = []
    for i, trial in enumerate(scored.trials):
        lanes = {"labelled": lane(trial.labels, trial.first)}
        lanes |= {name: lane(shown(scored.said[name][i], trial.intact), trial.first) for name in below}
        rows.append(Row(trial.recording, trial.trial, trial.fps, lanes))
    caption = (
        "Upper half of each row: labelled by people; lower half: predicted "
        f"({', or '.join(below)}). White: not labelled, or damaged frames. On paper: the trials that are chosen."
    )
    return ethogram(rows, scored.names, ["labelled", *below], caption)


def _keypoints(scored: Scored) -> list[Section]:
    """Of trials of one set of body parts; none where the model places no keypoints."""
    with_places = [trial for trial in scored.trials if trial.error_px is not None]
    if not with_places:
        return []
    names = with_places[0].keypoint_names
    errors = [t.error_px for t in with_places if t.keypoint_names == names and t.error_px is not None]
    found = measures.place_errors(errors, names)
    rows = [
        [text(e.name), number(e.median, 2), number(e.low, 2), number(e.high, 2), number(e.mean_absolute, 2),
         count(e.frames)]
        for e in found
    ]  # fmt: skip
    columns = ("body part", "median distance (px)", "10 % are below", "10 % are above", "mean absolute error (px)")
    caption = (
        "Distance between the model's place and DeepLabCut's, in pixels of the video, where DeepLabCut is certain. "
        "It tells how well the model agrees with DeepLabCut, not how right both are."
    )
    plot = figures.place_errors(found, "Bar: the median; whisker: the middle 80 % of the frames.")
    seen = [plot] if any(error.frames for error in found) else []
    return [Section("Keypoints", [*seen, Table([*columns, "frames where it is visible"], rows, caption)])]


def _kinds(scored: Scored, what: str) -> list[str]:
    return [f"{what}{name}" for name in scored.said]


def _over_folds(figure: Mapping[str, Any] | None) -> list[Cell]:
    """Mean ± SD over the folds, and the interval, of a figure of summary.json."""
    if figure is None or figure["mean"] is None:
        return [Cell(DASH, None), Cell(DASH, None)]
    spread = "" if figure["sd"] is None else f" ± {figure['sd']:.3f}"
    low, high = figure["low"], figure["high"]
    interval = Cell(DASH, None) if low is None or high is None else Cell(f"{low:.3f} to {high:.3f}", low)
    return [Cell(f"{figure['mean']:.3f}{spread}", figure["mean"]), interval]


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
