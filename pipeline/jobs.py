"""One function per command: does the work, shows the result, returns the exit code."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import Cache, Place
from pipeline import shown
from pipeline.cluster import Cluster
from pipeline.console import progress_bar, say, table
from pipeline.machine import LOWER, memory_advice
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.torchrun import place
from pipeline.train.followers import Follow
from pipeline.train.run_folder import RECORD, RunRecord, write_text
from pipeline.train_settings import Keep, TrainSettings

DONE, FAILED, LEFT_OUT, STALE, INTERRUPTED = 0, 1, 3, 4, 130

_ELSEWHERE = "use --device cpu, or close what else uses the memory"


@dataclass(frozen=True)
class Folders:
    """Where a lab's files lie."""

    videos: Path | None
    annotations: Path | None
    dlc: Path | None


@dataclass(frozen=True)
class How:
    """What changes how preprocess works, and not what comes out."""

    cluster: Cluster
    stall_s: float
    prune: bool = False


@dataclass(frozen=True)
class HowToTrain:
    """What changes how a model is trained, and not what it learns; for `stage.train`."""

    resume: bool
    force: bool
    keep: Keep
    profile: bool
    follow: Follow


def preprocess(settings: PreprocessSettings, *, cache: Place, folders: Folders, how: How) -> int:
    """`pipeline preprocess`: one table of recordings, one of what was skipped and why."""
    from pipeline.preprocess import stage

    started = time.perf_counter()
    with progress_bar() as progress, how.cluster:
        report = stage.preprocess(settings, cache=cache, **vars(folders), **vars(how), progress=progress)
    shown.show_report(report, cache, time.perf_counter() - started)
    return report.exit_code


def last_run(cache: Place, given: Folders) -> tuple[Folders, dict[str, Any]]:
    """The folders that were given or, if none was, those of the cache's last preprocess; and the settings of that."""
    from pipeline.preprocess import seen

    remembered = seen.load(cache)
    if any(vars(given).values()):
        return given, remembered.settings
    folders = {name: Path(path) if path else None for name, path in remembered.folders.items()}
    return (Folders(**folders) if folders else given), remembered.settings


def status(settings: PreprocessSettings, *, cache: Place, folders: Folders, run: Path | None) -> int:
    """`pipeline status` and `preprocess --dry-run`: what a run would do."""
    from pipeline.preprocess import status as stage

    with progress_bar() as progress:
        found = stage.status(settings, cache=cache, **vars(folders), progress=progress)
    shown.show_status(found, cache)
    up_to_date = _run_status(cache, run) if run else True
    if found.n_stale or found.n_removed or not up_to_date:
        return STALE
    return LEFT_OUT if any(skip.fault for skip in found.skipped) else DONE


def _run_status(cache: Place, run: Path) -> bool:
    """Says whether a run is what training on the cache as it is would give, and returns it."""
    import cache as clip_cache
    from pipeline.train.run_folder import read_record

    record = read_record(run)
    if record is None:
        say(f"{run}: no run there yet")
        return False
    differences = _run_differences(run, record, clip_cache.open(cache))
    for line in differences:
        say(f"{run} is stale: {line}")
    if not differences:
        say(f"{run} is {'up to date' if record.finished else 'not finished; the same train command goes on'}")
    return record.finished and not differences


def _run_differences(run: Path, record: RunRecord, clips: Cache) -> list[str]:
    """Says where the encoder is gone that it began with, which alone makes no run stale that has begun."""
    from pipeline.train import pretrained
    from pipeline.train.run_folder import LAST
    from pipeline.train.stage import record_now

    if (given := record.settings["init_from"]) and not (path := pretrained.checkpoint_of(given)).is_file():
        if not (run / LAST).exists():
            return [f"the encoder of {path} is missing, and no epoch is done yet: training needs it"]
        say(f"{run} began with the encoder of {path}, which is missing: training it anew would need it")
    try:
        return record.differences(record_now(record, clips, run))
    except pretrained.CheckpointError as error:
        return [str(error)]


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
    shown.show_checked(checked)
    if csv:
        write_text(csv, shown.checked_table(checked).to_csv(index=False, lineterminator="\n"))
        say(f"Table: {csv}")
    return checked.exit_code


def run(
    first: PreprocessSettings,
    second: TrainSettings,
    *,
    cache: Place,
    out: Path,
    folders: Folders,
    how: How,
    training: HowToTrain,
) -> int:
    """`pipeline run`: both stages, after a look at what the second would refuse."""
    from pipeline.train import stage

    with memory_advice(LOWER):
        asked: dict[str, Any] = {"resume": training.resume, "force": training.force, "follow": training.follow}
        stage.check(second, first, cache=cache, out=out, **asked)
    code = preprocess(first, cache=cache, folders=folders, how=how)
    return max(code, train(second, cache=cache, out=out, how=training))


@memory_advice(LOWER)
def train(settings: TrainSettings, *, cache: Place, out: Path, how: HowToTrain) -> int:
    """`pipeline train`: the loop, then the scores of the best checkpoint on the held-out recordings."""
    from pipeline.predict import evaluation as scoring
    from pipeline.report import stage as reports
    from pipeline.train import stage

    with progress_bar() as progress:
        outcome = stage.train(settings, cache=cache, out=out, **vars(how), say=say, progress=progress)
    if place().rank:
        return DONE  # the first rank alone scores, and writes
    say(f"Best epoch {outcome.best_epoch}: {outcome.best}")
    fresh = outcome.state == "fresh"
    if not outcome.held_out:
        say("Nothing was held out to choose the epoch by, so there are no validation scores")
    elif not settings.learns_behaviour:
        shown.show_keypoint_error(outcome.scores)
    elif fresh and scoring.scores_are_of(out, [outcome.best]):
        say(f"Validation macro F1 {outcome.scores['macro_f1']:.4f}, all scores: {out / scoring.SCORES}")
    else:
        result = scoring.evaluate([outcome.best], cache=cache, out=out, device=settings.device)
        shown.show_scores(result, "held-out recordings")
        say(f"Pictures: {out / 'pictures'}")
        fresh = False
    if not fresh or not (out / reports.REPORT).exists():
        reports.make_or_warn(out, say, cache=cache, models=[outcome.best])
    return DONE


def cross_validate(
    settings: TrainSettings,
    *,
    cache: Place,
    out: Path,
    folds: int,
    fold_file: Path | None,
    cluster: Cluster,
    keep: Keep,
    follow: Follow,
) -> int:
    """`pipeline cross-validate`: a model per fold, and what they say of the recordings that they never saw."""
    from pipeline.cross_validation import stage
    from pipeline.report import stage as reports

    how: dict[str, Any] = {"n_folds": folds, "fold_file": fold_file, "keep": keep, "follow": follow}
    with progress_bar() as progress, cluster:
        found = stage.cross_validate(settings, cache=cache, out=out, cluster=cluster, **how, progress=progress)
    if found.summary:
        shown.show_cross_validation(found.summary)
        if found.decided:
            shown.show_decided(found.decided)
        say(f"A row per fold: {out / stage.TABLE}; all figures: {out / stage.SUMMARY}")
        reports.make_or_warn(out, say, cache=cache)
    if found.failed:
        table("Folds without scores", ("fold", "reason"), [(one.fold, one.reason) for one in found.failed])
    if not found.summary:
        return FAILED
    return LEFT_OUT if found.failed else DONE


def tune(
    settings: TrainSettings,
    *,
    cache: Place,
    out: Path,
    trials: int,
    folds: int,
    search: Path | None,
    cluster: Cluster,
    keep: Keep,
    follow: Follow,
) -> int:
    """`pipeline tune`: cross-validation of several settings, and a table of the best of them."""
    from pipeline.tuning import stage
    from pipeline.tuning.search import DEFAULT, read_search

    space = read_search(search) if search else DEFAULT
    how: dict[str, Any] = {"n_trials": trials, "n_folds": folds, "keep": keep, "follow": follow}
    with progress_bar() as progress, cluster:
        found = stage.tune(settings, cache=cache, out=out, search=space, cluster=cluster, **how, progress=progress)
    shown.show_trials(found)
    if found[0].score is None:
        return FAILED
    say(f"The best is chosen for its score, which is therefore too good; its settings (--config): {out / stage.BEST}")
    return LEFT_OUT if any(trial.score is None for trial in found) else DONE


@memory_advice(_ELSEWHERE)
def predict(
    *,
    models: Sequence[Path],
    videos: Path | None,
    dlc: Path | None,
    out: Path,
    device: str,
    how: How,
    dlc_scorer: str | None,
    prefer_filtered: bool | None,
    decide: bool,
    flips: bool = False,
    stimulus: Path | None = None,
    force: bool,
) -> int:
    """`pipeline predict`: a table per trial, bouts, a summary and ethograms."""
    from pipeline.predict import stage
    from pipeline.report import stage as reports

    started = time.perf_counter()
    with progress_bar() as progress, how.cluster:
        done = stage.predict(
            models,
            out=out,
            videos=videos,
            dlc=dlc,
            device=device,
            dlc_scorer=dlc_scorer,
            prefer_filtered=prefer_filtered,
            decide=decide,
            flips=flips,
            stimulus=stimulus,
            force=force,
            cluster=how.cluster,
            stall_s=how.stall_s,
            progress=progress,
            say=say,
        )
    shown.show_report(done.report, out / "cache", time.perf_counter() - started)
    shown.show_predicted(done)
    left_out = [(name, "", why) for name, why in done.left_out.items()]
    left_out += [(skip.recording, str(skip.trial), skip.reason) for skip in done.report.skipped if skip.trial]
    labels_by = "decision layer, where the model has one" if decide else "arg-max (--no-decision)"
    labels_by += ", of the mean of each clip and its mirror image (--flips)" if flips else ""
    reports.make_or_warn(out, say, cache=out / "cache", models=models, labels_by=labels_by, left_out=left_out)
    return LEFT_OUT if done.n_faulty else done.report.exit_code


@memory_advice(_ELSEWHERE)
def evaluate(
    *, models: Sequence[Path], cache: Place, on: str, out: Path | None, flips: bool = False, device: str
) -> int:
    """`pipeline evaluate`: the scores, with the majority baseline beside them."""
    from pipeline.predict import evaluation as stage
    from pipeline.report import stage as reports

    result = stage.evaluate(models, cache=cache, on=on, out=out, device=device, flips=flips, say=say)
    shown.show_scores(result, stage.HELD_OUT.get(on, "recordings of the cache"))
    if on == "all":
        shown.show_known(result)
    for picture in result.pictures:
        say(f"Picture: {picture}")
    if out:
        is_run = (out / RECORD).exists()  # whose folder says how it was trained
        reports.make_or_warn(out, say, **({} if is_run else {"cache": cache, "models": models}))
    return DONE


def inspect(clip: str, *, cache: Place, out: Path, frames: str, likelihood_thr: float) -> int:
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
