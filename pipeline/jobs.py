"""One function per command: does the work, shows the result, returns the exit code."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.console import progress_bar, say, table
from pipeline.settings import PreprocessSettings, TrainSettings
from pipeline.train.run_folder import BEST, write_text

if TYPE_CHECKING:
    import pandas as pd

DONE, FAILED, LEFT_OUT, STALE, INTERRUPTED = 0, 1, 3, 4, 130
SHOWN_FRESH = 30  # of more recordings that are as they were, only the number is shown

_LOWER = "lower --batch-size or --train-T, or preprocess with a smaller --img-size"
_ELSEWHERE = "use --device cpu, or close what else uses the memory"


class MemoryShortError(ValueError):
    """The device or the machine has too little memory; the message says what to lower."""


@contextmanager
def _memory(advice: str) -> Iterator[None]:
    """Turns what torch and numpy raise where memory runs out into one line with the advice.

    torch.OutOfMemoryError is of GPUs alone: the CPU's is a RuntimeError that its text tells.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = str(error).strip() or "no more memory"
        of_memory = ("out of memory", "can't allocate memory", "alloc_failed")
        if not isinstance(error, MemoryError) and not any(text in said.lower() for text in of_memory):
            raise
        raise MemoryShortError(f"out of memory: {advice} ({said.splitlines()[0][:200]})") from None


@dataclass(frozen=True)
class Folders:
    """Where a lab's files lie."""

    videos: Path | None
    annotations: Path | None
    dlc: Path | None


@dataclass(frozen=True)
class How:
    """What changes how preprocess works, and not what comes out. workers None: one a core."""

    workers: int | None
    stall_s: float
    prune: bool = False

    def options(self) -> dict[str, Any]:
        """For `stage.preprocess`."""
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return {"workers": workers if self.workers is None else self.workers, "stall_s": self.stall_s}


def preprocess(settings: PreprocessSettings, *, cache: Path, folders: Folders, how: How) -> int:
    """`pipeline preprocess`: one table of recordings, one of what was skipped and why."""
    from pipeline.preprocess import stage

    started = time.perf_counter()
    with progress_bar() as progress:
        report = stage.preprocess(
            settings, cache=cache, **vars(folders), **how.options(), prune=how.prune, progress=progress
        )
    _show_report(report, cache, time.perf_counter() - started)
    return report.exit_code


def last_run(cache: Path, given: Folders) -> tuple[Folders, dict[str, Any]]:
    """The folders that were given or, if none was, those of the cache's last preprocess; and the settings of that."""
    from pipeline.preprocess import seen

    remembered = seen.load(cache)
    if any(vars(given).values()):
        return given, remembered.settings
    folders = {name: Path(path) if path else None for name, path in remembered.folders.items()}
    return (Folders(**folders) if folders else given), remembered.settings


def status(settings: PreprocessSettings, *, cache: Path, folders: Folders, run: Path | None) -> int:
    """`pipeline status` and `preprocess --dry-run`: what a run would do."""
    from pipeline.preprocess import status as stage

    with progress_bar() as progress:
        found = stage.status(settings, cache=cache, **vars(folders), progress=progress)
    rows = [
        (row.recording, row.state, row.n_decode or "", "; ".join(row.why))
        for row in found.recordings
        if row.state != "fresh"
    ]
    if rows:
        table("Not up to date", ("recording", "state", "frames to decode", "why"), rows, right=("frames to decode",))
    _show_skipped(found.skipped)
    n_fresh = sum(row.state == "fresh" for row in found.recordings)
    n_removed = sum(row.state == "removed" for row in found.recordings)
    gone = f", {n_removed} without files any more (--prune drops them)" if n_removed else ""
    say(f"{n_fresh} recordings are fresh, {found.n_stale} are not, {len(found.skipped)} skipped{gone}: {cache}")
    if found.n_stale:
        say(f"preprocess would decode {found.n_decode:,} frames{_about(found.seconds)}")
    up_to_date = _run_status(cache, run) if run else True
    if found.n_stale or n_removed or not up_to_date:
        return STALE
    return LEFT_OUT if any(skip.fault for skip in found.skipped) else DONE


def _run_status(cache: Path, run: Path) -> bool:
    """Says whether a run is what training on the cache as it is would give, and returns it."""
    import cache as clip_cache
    from pipeline.train.run_folder import read_record

    record = read_record(run)
    if record is None:
        say(f"{run}: no run there yet")
        return False
    recordings = {meta.recording: meta.fingerprints for meta in clip_cache.open(cache).recordings}
    differences = record.differences(replace(record, recordings=recordings))
    for line in differences:
        say(f"{run} is stale: {line}")
    if not differences:
        say(f"{run} is {'up to date' if record.finished else 'not finished; the same train command goes on'}")
    return record.finished and not differences


def _about(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 90:
        return f", in about {math.ceil(seconds)} s"
    return f", in about {seconds / 60:.0f} min" if seconds < 5400 else f", in about {seconds / 3600:.1f} h"


def check(
    settings: PreprocessSettings,
    *,
    folders: Folders,
    quick: bool,
    csv: Path | None,
) -> int:
    """`pipeline check`: a row per trial, all that is wrong, and what the pixels say of the tables' lags."""
    from pipeline.preprocess import check as stage

    with progress_bar() as progress:
        checked = stage.check(settings, **vars(folders), quick=quick, progress=progress)
    _show_checked(checked)
    if csv:
        write_text(csv, _checked_table(checked).to_csv(index=False, lineterminator="\n"))
        say(f"Table: {csv}")
    return checked.exit_code


def run(
    first: PreprocessSettings,
    second: TrainSettings,
    *,
    cache: Path,
    out: Path,
    folders: Folders,
    how: How,
    resume: bool,
    force: bool,
) -> int:
    """`pipeline run`: both stages, after a look at what the second would refuse."""
    from pipeline.train import stage

    with _memory(_LOWER):
        stage.check(second, first, cache=cache, out=out, resume=resume, force=force)
    code = preprocess(first, cache=cache, folders=folders, how=how)
    return max(code, train(second, cache=cache, out=out, resume=resume, force=force))


@_memory(_LOWER)
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


@_memory(_ELSEWHERE)
def predict(
    *,
    model: Path,
    videos: Path | None,
    dlc: Path | None,
    out: Path,
    device: str,
    dlc_scorer: str | None,
    prefer_filtered: bool | None,
) -> int:
    """`pipeline predict`: a table per trial, bouts and ethograms."""
    from pipeline.predict import stage

    started = time.perf_counter()
    with progress_bar() as progress:
        done = stage.predict(
            model,
            out=out,
            videos=videos,
            dlc=dlc,
            device=device,
            dlc_scorer=dlc_scorer,
            prefer_filtered=prefer_filtered,
            progress=progress,
        )
    _show_report(done.report, out / "cache", time.perf_counter() - started)
    if done.refused:
        table("Refused by the model", ("recording", "reason"), done.refused.items())
    say(f"{done.n_trials} trials in {out / stage.TABLES}, {done.n_bouts} bouts in {out / stage.BOUTS}")
    for picture in done.pictures:
        say(f"Picture: {picture}")
    return LEFT_OUT if done.refused else done.report.exit_code


@_memory(_ELSEWHERE)
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
    _show_skipped(report.skipped)
    n_all, used = len(report.recordings), sum(row.trials for row in report.recordings)
    say(f"{n_all} recordings, {used} trials used, {len(report.skipped)} skipped, {seconds:.1f} s: {cache}")


def _show_skipped(skipped: Sequence[Any]) -> None:
    if skipped:
        rows = [(skip.recording, "all" if skip.trial is None else skip.trial, skip.reason) for skip in skipped]
        table("Skipped", ("recording", "trial", "reason"), rows, right=("trial",))


def _checked_table(checked: Any) -> pd.DataFrame:
    """A row per trial, with all that is to be said of it and of its recording."""
    import pandas as pd  # takes longer than all that a preprocess without news does

    rows = []
    for row in checked.rows:
        remarks = checked.remarks_on(row)
        said = {name: " | ".join(getattr(r, name) for r in remarks) for name in ("reason", "what_to_do")}
        rows.append(asdict(row) | said)
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
    matrix = zip(scores.class_names, scores.confusion.tolist(), strict=True)
    frames = [(name, *(f"{n:,}" for n in row)) for name, row in matrix]
    table("Confusion in frames (rows: truth)", ("truth", *scores.class_names), frames, right=scores.class_names)


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
