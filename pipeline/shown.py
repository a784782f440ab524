"""The tables that the commands show, of what the stages return."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cache import Place
from pipeline.console import say, table

if TYPE_CHECKING:
    import pandas as pd

SHOWN_TRIALS = 10
SHOWN_FRESH = 30  # of more recordings that are as they were, only the number is shown


def show_report(report: Any, cache: Place, seconds: float) -> None:
    n_fresh = sum(row.state == "fresh" for row in report.recordings)
    rows = [
        (row.recording, row.state, row.trials, row.frames, row.decoder or "-", "; ".join(row.notes))
        for row in report.recordings
        if row.state != "fresh" or n_fresh <= SHOWN_FRESH
    ]
    columns = ("recording", "state", "trials", "frames", "decoder", "notes")
    if rows:
        table("Recordings", columns, rows, right=("trials", "frames"))
    if n_fresh > SHOWN_FRESH:
        say(f"{n_fresh} recordings are as they were")
    show_skipped(report.skipped)
    _show_warnings(report.warnings)
    n_all, used = len(report.recordings), sum(row.trials for row in report.recordings)
    say(f"{n_all} recordings, {used} trials used, {len(report.skipped)} skipped, {seconds:.1f} s: {cache}")


def show_predicted(done: Any) -> None:
    """What became of the recordings: those that are as they were only where they are few, all that were left out."""
    from pipeline.predict.summary import STATES

    rows = [(row.recording, row.state, row.reason) for row in done.outcomes]
    many = len(rows) > SHOWN_FRESH
    if shown := [row for row in rows if not many or row[2]]:
        table("Predictions", ("recording", "state", "reason"), shown)
    if done.former:
        say(f"The folder held the results of another model: they are now in {done.former}")
    counts = Counter(row.state for row in done.outcomes)
    says = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) or "no recording"
    say(f"{says}; {done.n_trials} trials, {done.n_bouts} bouts: {done.out}")
    for picture in done.pictures:
        say(f"Picture: {picture}")


def _show_warnings(warnings: Sequence[str]) -> None:
    for warning in warnings:
        say(f"[warning] {warning}")


def show_skipped(skipped: Sequence[Any]) -> None:
    if skipped:
        rows = [(skip.recording, "all" if skip.trial is None else skip.trial, skip.reason) for skip in skipped]
        table("Skipped", ("recording", "trial", "reason"), rows, right=("trial",))


def checked_table(checked: Any) -> pd.DataFrame:
    """A row per trial, with all that is to be said of it and of its recording."""
    import pandas as pd  # takes longer than all that a preprocess without news does

    rows = []
    for row in checked.rows:
        remarks = checked.remarks_on(row)
        said = {name: " | ".join(getattr(r, name) for r in remarks) for name in ("reason", "what_to_do")}
        rows.append(asdict(row) | said)
    return pd.DataFrame(rows, dtype=object)


def show_checked(checked: Any) -> None:
    trials = checked_table(checked).drop(columns=["reason", "what_to_do"])
    shown = [["-" if cell is None or cell == "" else cell for cell in row] for row in trials.to_numpy().tolist()]
    columns = [str(name).replace("_", " ") for name in trials]
    table("Trials", columns, shown, right=("trial", "frames", "decoded", "dlc rows", "label rows", "fps", "lag"))
    if checked.lags:
        rows = [(name, *_lag_cells(lag)) for name, lag in checked.lags.items()]
        columns = ["recording", "lag", "surely within", "change at it", "at 0", "keypoints and video"]
        table("\nRows that the keypoints run ahead of the video", columns, rows, right=columns[1:5])
    if checked.remarks:
        rows = [
            (r.recording, "all" if r.trial is None else r.trial, r.verdict, r.reason, r.what_to_do)
            for r in checked.remarks
        ]
        table("\nTo look at", ("recording", "trial", "verdict", "reason", "what to do"), rows, right=("trial",))
    _show_warnings(checked.warnings)
    n = {verdict: int((trials["verdict"] == verdict).sum()) for verdict in ("ok", "warning", "skipped")}
    faults = sum(remark.fault for remark in checked.remarks)
    say(f"{n['ok']} ok, {n['warning']} with a warning, {n['skipped']} skipped; {faults} faults")


def _lag_cells(lag: Any) -> tuple[str, ...]:
    says = f"cannot tell: {lag.unknown}" if lag.unknown else "out of step" if lag.differs else "in step"
    known = "?" if lag.unknown else f"{lag.lag:+d}" if lag.lag else "0"
    return known, f"{lag.low} to {lag.high}", _number(lag.change, 1), _number(lag.change_at_0, 1), says


def show_scores(result: Any, where: str) -> None:
    scores, baseline, decided = result.model.scores, result.baseline, result.decided
    rows: list[tuple[str, ...]] = [
        (
            name,
            _number(scores.f1_per_class[name]),
            _number(decided.f1_per_class[name]) if decided else "-",
            _number(baseline.f1_per_class[name]),
            _number(scores.segment_f1_per_class[name]),
            f"{scores.support[name]:,}",
        )
        for name in scores.class_names
    ]
    title = f"Scores on {scores.n_labelled} labelled trials of {result.n_recordings} {where}"
    columns = ("class", "F1", "F1, decided", "F1 of the majority baseline", "segment F1@0.3", "frames")
    table(title, columns, rows, right=columns[1:])
    figures = [("macro F1", scores.macro_f1, decided.macro_f1 if decided else math.nan, baseline.macro_f1)]
    figures += [
        (f"segment F1@{iou}", found, decided.segment_f1[iou] if decided else math.nan, baseline.segment_f1[iou])
        for iou, found in scores.segment_f1.items()
    ]
    alone = {
        "keypoint MAE (normalised)": scores.keypoint_mae_norm,
        "keypoint MAE (px)": scores.keypoint_mae_px,
        "loss": result.model.loss,
        "action loss": result.model.action_loss,
        "keypoint loss": result.model.kp_loss,
    }
    figures += [(name, value, math.nan, math.nan) for name, value in alone.items()]
    rows = [(name, *(_number(value, 4) for value in values)) for name, *values in figures]
    kinds = ("model (arg-max)", "decided", "majority baseline")
    table("", ("figure", *kinds), rows, right=kinds)
    if decided:
        say("decided: with the model's decision layer; of held-out recordings, one that is fitted on the others")
    _show_confusion(scores.confusion, scores.class_names)


def show_keypoint_error(scores: dict[str, Any]) -> None:
    """scores: of the held-out recordings, as a checkpoint has them."""
    error, px = scores["keypoint_mae_norm"], scores["keypoint_mae_px"]
    say(f"Validation keypoint MAE {error:.4f} (normalised), {px:.2f} px of the video, on {scores['n_trials']} trials")
    say("The model names no behaviour; `pipeline train --init-from` begins one that does with its encoder")


def show_known(result: Any) -> None:
    """How many of the scored recordings the model knows, where all of a cache are scored."""
    if result.n_known is None:
        say("[warning] nothing tells what the model has seen: if any of these recordings, the scores are too good")
    elif result.n_known:
        say(
            f"[warning] {result.n_known} of the {result.n_recordings} recordings, or others of their animals, trained "
            "this model, chose its epoch or fitted its decision layer: all of these scores are too good"
        )
    else:
        say("[info] the model has seen none of these recordings, nor, as far as its --group-by tells, of their animals")


def show_cross_validation(summary: Any) -> None:
    """Scores of all folds: their mean, and of all out-of-fold frames together."""
    n_folds = len(summary.folds)
    rows: list[tuple[str, ...]] = [
        (
            name,
            *_over_folds(figure),
            f"{sum(summary.support[name].values()):,}",
            f"{sum(n > 0 for n in summary.support[name].values())} of {n_folds}",
        )
        for name, figure in summary.classes.items()
    ]
    columns = ("F1, mean of folds ± SD", "pooled", "95 % interval", "of the majority baseline")
    counted = ("frames", "folds with it")
    title = f"F1 on {n_folds} folds, each of recordings that its model never saw"
    table(title, ("class", *columns, *counted), rows, right=(*columns, *counted))
    figures = {"macro F1": summary.macro} | {f"segment F1@{iou}": f for iou, f in summary.segments.items()}
    columns = ("mean of folds ± SD", *columns[1:])
    table("", ("figure", *columns), [(name, *_over_folds(f)) for name, f in figures.items()], right=columns)
    for name, figure in summary.classes.items():
        if figure.unmeasured:
            say(f"{name}: not true and not predicted in {_folds(figure.unmeasured)}, which its mean leaves out")
    from pipeline.bootstrap import MIN_UNITS  # numpy, which not every command needs

    of = f"{summary.n_units} {summary.unit} with labelled frames"
    say(f"Intervals: bootstrap of {of}; none where fewer than {MIN_UNITS} of them have what a figure is of")
    _show_confusion(summary.confusion, tuple(summary.classes))


def show_decided(summary: Any) -> None:
    """Scores of all folds with the decision layer."""
    columns = ("mean of folds ± SD", "pooled", "95 % interval", "of the majority baseline")
    figures = {"macro F1": summary.macro} | {f"segment F1@{iou}": f for iou, f in summary.segments.items()}
    figures |= {f"F1 {name}": figure for name, figure in summary.classes.items()}
    title = "With the decision layer, each fold's fitted on the other folds"
    table(title, ("figure", *columns), [(name, *_over_folds(f)) for name, f in figures.items()], right=columns)


def show_trials(trials: Sequence[Any]) -> None:
    """The best trials of a tuning, best first, and those that failed."""
    names = list(trials[0].changed)
    rows = [
        (trial.folder, "-" if trial.score is None else _number(trial.score, 4), *map(_setting, trial.changed.values()))
        for trial in trials[:SHOWN_TRIALS]
    ]
    table("Trials, best first", ("trial", "macro F1", *names), rows, right=("macro F1", *names))
    for trial in trials:
        if trial.score is None:
            say(f"{trial.folder} has no score: {trial.reason}")


def _setting(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _over_folds(figure: Any) -> tuple[str, ...]:
    spread = f"{_number(figure.mean)} ± {_number(figure.sd)}"
    interval = "-" if math.isnan(figure.low) else f"{_number(figure.low)} to {_number(figure.high)}"
    return spread, _number(figure.pooled), interval, _number(figure.baseline)


def _folds(numbers: Sequence[int]) -> str:
    return f"fold{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _show_confusion(confusion: Any, class_names: tuple[str, ...]) -> None:
    """confusion (N,N): frames, rows the truth."""
    frames = [(name, *(f"{n:,}" for n in row)) for name, row in zip(class_names, confusion.tolist(), strict=True)]
    table("Confusion in frames (rows: truth)", ("truth", *class_names), frames, right=class_names)


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def show_status(status: Any, cache: Place) -> None:
    """What is not up to date and why, what is skipped, and how long a run would take."""
    rows = [
        (row.recording, row.state, row.n_decode or "", "; ".join(row.why))
        for row in status.recordings
        if row.state != "fresh"
    ]
    if rows:
        table("Not up to date", ("recording", "state", "frames to decode", "why"), rows, right=("frames to decode",))
    show_skipped(status.skipped)
    n_fresh = sum(row.state == "fresh" for row in status.recordings)
    gone = f", {status.n_removed} without files any more (--prune drops them)" if status.n_removed else ""
    say(f"{n_fresh} recordings are fresh, {status.n_stale} are not, {len(status.skipped)} skipped{gone}: {cache}")
    if status.n_stale:
        say(f"preprocess would decode {status.n_decode:,} frames{_about(status.seconds)}")


def _about(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 90:
        return f", in about {math.ceil(seconds)} s"
    return f", in about {seconds / 60:.0f} min" if seconds < 5400 else f", in about {seconds / 3600:.1f} h"
