"""One function per command: does the work, shows the result, returns the exit code."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.console import progress_bar, say, table
from pipeline.settings import PreprocessSettings, TrainSettings
from pipeline.train.run_folder import BEST, write_text

DONE, FAILED, LEFT_OUT = 0, 1, 3


def preprocess(
    settings: PreprocessSettings, *, cache: Path, videos: Path | None, annotations: Path | None, dlc: Path | None
) -> int:
    """`pipeline preprocess`: one table of recordings, one of what was skipped and why."""
    from pipeline.preprocess import stage

    started = time.perf_counter()
    with progress_bar() as progress:
        report = stage.preprocess(
            settings, cache=cache, videos=videos, annotations=annotations, dlc=dlc, progress=progress
        )
    _show_report(report, cache, time.perf_counter() - started)
    return report.exit_code


def check(
    settings: PreprocessSettings,
    *,
    videos: Path | None,
    annotations: Path | None,
    dlc: Path | None,
    quick: bool,
    csv: Path | None,
) -> int:
    """`pipeline check`: a row per trial, all that is wrong, and what the pixels say of the tables' lags."""
    from pipeline.preprocess import check as stage

    with progress_bar() as progress:
        checked = stage.check(settings, videos=videos, annotations=annotations, dlc=dlc, quick=quick, progress=progress)
    _show_checked(checked)
    if csv:
        write_text(csv, _checked_table(checked).to_csv(index=False, lineterminator="\n"))
        say(f"Table: {csv}")
    return checked.exit_code


def train(settings: TrainSettings, *, cache: Path, out: Path, resume: bool, force: bool) -> int:
    """`pipeline train`: the loop, then the scores of the best checkpoint on the held-out recordings."""
    from pipeline.predict import stage as scoring
    from pipeline.train import stage

    with progress_bar() as progress:
        outcome = stage.train(settings, cache=cache, out=out, resume=resume, force=force, say=say, progress=progress)
    say(f"Best epoch {outcome.best_epoch}: {outcome.best}")
    if not outcome.held_out:
        say("Nothing was held out, so there are no scores")
        return DONE
    if outcome.state == "fresh" and (out / scoring.SCORES).exists():
        say(f"Validation macro F1 {outcome.scores['macro_f1']:.4f}, all scores: {out / scoring.SCORES}")
        return DONE
    result = scoring.evaluate(outcome.best, cache=cache, out=out, device=settings.device)
    _show_scores(result, "held-out recordings")
    say(f"Pictures: {out / 'pictures'}")
    return DONE


def predict(*, model: Path, videos: Path | None, dlc: Path | None, out: Path, device: str) -> int:
    """`pipeline predict`: a table per trial, bouts and ethograms."""
    from pipeline.predict import stage

    started = time.perf_counter()
    with progress_bar() as progress:
        done = stage.predict(model, out=out, videos=videos, dlc=dlc, device=device, progress=progress)
    _show_report(done.report, out / "cache", time.perf_counter() - started)
    if done.refused:
        table("Refused by the model", ("recording", "reason"), done.refused.items())
    say(f"{done.n_trials} trials in {out / stage.TABLES}, {done.n_bouts} bouts in {out / stage.BOUTS}")
    for picture in done.pictures:
        say(f"Picture: {picture}")
    return LEFT_OUT if done.refused else done.report.exit_code


def evaluate(*, model: Path, cache: Path, on: str, out: Path | None, device: str) -> int:
    """`pipeline evaluate`: the scores, with the majority baseline beside them."""
    from pipeline.predict import stage

    result = stage.evaluate(model, cache=cache, on=on, out=out, device=device)
    where = "held-out recordings" if on == "val" else "all recordings, those it was trained on among them"
    _show_scores(result, where)
    for picture in result.pictures:
        say(f"Picture: {picture}")
    return DONE


def inspect(clip: str, *, cache: Path, out: Path, frames: str, likelihood_thr: float) -> int:
    """`pipeline inspect`: the contact sheet and the video of one clip."""
    import cache as clip_cache
    from pipeline import contact_sheet, overlay

    found = overlay.find_clip(clip_cache.open(cache), clip)
    part = overlay.parse_part(frames, len(found))
    with progress_bar() as progress:
        paths = contact_sheet.inspect(found, out, likelihood_thr=likelihood_thr, part=part, progress=progress)
    for path in paths:
        say(f"Picture: {path}" if path.suffix == ".png" else f"Video: {path}")
    return DONE


def render(out: Path, *, recordings: int, seed: int, frame_code: bool, with_new: bool) -> None:
    """The rendered data set in out/data, and two recordings of other animals in out/new for predict."""
    from pipeline.demo.dataset import make_dataset

    with progress_bar() as progress:
        options: dict[str, Any] = {"frame_code": frame_code, "processes": 2, "progress": progress}
        make_dataset(out / "data", recordings=recordings, seed=seed, **options)
        if with_new:
            make_dataset(out / "new", recordings=2, seed=seed + 1, **options)
    say(f"Rendered {recordings} recordings: {out / 'data'}")


def demo_commands(out: Path) -> list[list[str]]:
    """The three stages on the rendered data, with settings for a few minutes on two cores.

    The defaults are meant for long runs on a lab's own data.
    """
    data, cache, run = out / "data", out / "cache", out / "run"
    preprocess = [
        "--videos",
        data / "Videos",
        "--annotations",
        data / "Annotations",
        "--cache",
        cache,
        "--img-size",
        96,
    ]
    train = ["--cache", cache, "--out", run, "--group-by", r"_(\d+M)_", "--epochs", 12, "--batch-size", 4, "--lr", 1e-3]
    train += ["--warmup-epochs", 1, "--train-T", 120, "--early-stopping-patience", 0]
    predict = ["--model", run / BEST, "--videos", out / "new" / "Videos", "--out", out / "predicted"]
    commands = {"preprocess": preprocess, "train": train, "predict": predict}
    return [[name, *map(str, arguments)] for name, arguments in commands.items()]


def show_demo(out: Path) -> int:
    """Where everything lies."""
    say(f"\nThe data, the cache, the run and the predictions lie in {out}; its pictures:")
    for picture in sorted(out.glob("*/pictures/*.png")):
        say(f"  {picture}")
    return DONE


def _show_report(report: Any, cache: Path, seconds: float) -> None:
    rows = [
        (row.recording, row.state, row.trials, row.frames, row.decoder or "-", "; ".join(row.notes))
        for row in report.recordings
    ]
    columns = ("recording", "state", "trials", "frames", "decoder", "notes")
    table("Recordings", columns, rows, right=("trials", "frames"))
    if report.skipped:
        skipped = [
            (skip.recording, "all" if skip.trial is None else skip.trial, skip.reason) for skip in report.skipped
        ]
        table("Skipped", ("recording", "trial", "reason"), skipped, right=("trial",))
    used = sum(row.trials for row in report.recordings)
    say(f"{len(rows)} recordings, {used} trials used, {len(report.skipped)} skipped, {seconds:.1f} s: {cache}")


def _checked_table(checked: Any) -> pd.DataFrame:
    """A row per trial, with all that is to be said of it and of its recording."""
    rows = []
    for row in checked.rows:
        remarks = checked.remarks_on(row)
        said = {name: " | ".join(getattr(r, name) for r in remarks) for name in ("reason", "what_to_do")}
        rows.append(dataclasses.asdict(row) | said)
    return pd.DataFrame(rows, dtype=object)


def _show_checked(checked: Any) -> None:
    trials = _checked_table(checked).drop(columns=["reason", "what_to_do"])
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
    n = {verdict: int((trials["verdict"] == verdict).sum()) for verdict in ("ok", "warning", "skipped")}
    faults = sum(remark.fault for remark in checked.remarks)
    say(f"{n['ok']} ok, {n['warning']} with a warning, {n['skipped']} skipped; {faults} faults")


def _lag_cells(lag: Any) -> tuple[str, ...]:
    says = f"cannot tell: {lag.unknown}" if lag.unknown else "out of step" if lag.differs else "in step"
    known = "?" if lag.unknown else f"{lag.lag:+d}" if lag.lag else "0"
    return known, f"{lag.low} to {lag.high}", _number(lag.change, 1), _number(lag.change_at_0, 1), says


def _show_scores(result: Any, where: str) -> None:
    scores, baseline = result.model.scores, result.baseline
    rows: list[tuple[str, ...]] = [
        (
            name,
            _number(scores.f1_per_class[name]),
            _number(baseline.f1_per_class[name]),
            _number(scores.segment_f1_per_class[name]),
            f"{scores.support[name]:,}",
        )
        for name in scores.class_names
    ]
    title = f"Scores on {scores.n_trials} trials of {result.n_recordings} {where}"
    columns = ("class", "F1", "F1 of the majority baseline", "segment F1@0.3", "frames")
    table(title, columns, rows, right=columns[1:])
    figures = [("macro F1", scores.macro_f1, baseline.macro_f1)]
    figures += [(f"segment F1@{iou}", scores.segment_f1[iou], baseline.segment_f1[iou]) for iou in scores.segment_f1]
    figures += [
        ("keypoint MAE (normalised)", scores.keypoint_mae_norm, math.nan),
        ("keypoint MAE (px)", scores.keypoint_mae_px, math.nan),
    ]
    figures += [("loss", result.model.loss, math.nan), ("action loss", result.model.action_loss, math.nan)]
    figures += [("keypoint loss", result.model.kp_loss, math.nan)]
    rows = [(name, _number(ours, 4), _number(theirs, 4)) for name, ours, theirs in figures]
    table("", ("figure", "model", "majority baseline"), rows, right=("model", "majority baseline"))


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
