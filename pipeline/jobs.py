"""One function per command: does the work, shows the result, returns the exit code."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.console import progress_bar, say, table
from pipeline.settings import PreprocessSettings, TrainSettings
from pipeline.train.run_folder import BEST

DONE, FAILED, LEFT_OUT, INTERRUPTED = 0, 1, 3, 130

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


def run(
    first: PreprocessSettings,
    second: TrainSettings,
    *,
    cache: Path,
    out: Path,
    videos: Path | None,
    annotations: Path | None,
    dlc: Path | None,
    resume: bool,
    force: bool,
) -> int:
    """`pipeline run`: both stages, after a look at what the second would refuse."""
    from pipeline.train import stage

    with _memory(_LOWER):
        stage.check(second, first, cache=cache, out=out, resume=resume, force=force)
    code = preprocess(first, cache=cache, videos=videos, annotations=annotations, dlc=dlc)
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
