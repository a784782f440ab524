"""What a report says of each kind of folder whose trials were scored: a run, a cross-validation, an evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import cache as clip_cache
from cache import Place
from cache.clip import UNLABELLED
from pipeline.bootstrap import MIN_UNITS
from pipeline.cross_validation.stage import SUMMARY
from pipeline.model import checkpoint
from pipeline.predict.evaluation import SCORES, scores_are_of
from pipeline.predict.scored_trials import FOLDER, load_all
from pipeline.report import about, figures, made, trials, worst
from pipeline.report.content import Note, Report, Section, Table, number, text
from pipeline.report.made import Made
from pipeline.report.scored import Scored, sections
from pipeline.train.folds import FOLDS
from pipeline.train.run_folder import BEST, HISTORY, SPLIT, read_record
from pipeline.train.split import read_split

_LIKELIHOOD = "kp_likelihood_thr"


class ReportError(ValueError):
    """Nothing can be reported of a folder; the message says what it lacks and what to do."""


def of_run(folder: Path, page: Path, cache: Place | None) -> Report:
    """Curves, scores on what the run's split holds out, data and settings."""
    known, split = made.read(folder), read_split(folder / SPLIT)
    record = read_record(folder)
    if record is None or not (folder / BEST).is_file():
        raise ReportError(f"{folder}: the run has no {BEST} yet; `pipeline train` goes on with it")
    best = checkpoint.load(folder / BEST)
    scored, how = _scored_of(folder)
    if scored and not scores_are_of(folder, [folder / BEST]):
        scored = None
        how = f"The scores that are here are of another model: of an earlier epoch, or of another run. {_AGAIN}"
    facts = about.facts(known) | {"Model": f"epoch {best['epoch']}: {BEST}"}
    if not record.finished:
        facts["Not finished"] = "the same train command goes on; the model is that of the best epoch so far"
    report = Report("Training report", folder.resolve().name, facts)
    report.sections.extend(_curves(folder / HISTORY, best["epoch"], bool(split.val)))
    names_behaviours = record.settings.get("model_type") != "keypoints"
    if not names_behaviours:
        report.sections.append(Section("Scores", [Note(_keypoint_error(best["scores"]))]))
    elif scored:
        report.sections.extend(sections(scored, how))
        thr = record.settings[_LIKELIHOOD]
        report.sections.append(worst.section(scored, folder, _cache(cache, known), page, thr))
    else:
        report.sections.append(Section("Scores", [Note(how if split.val else _NOTHING_HELD_OUT)]))
    counts = {}
    if names_behaviours:
        counts["training"] = dict(zip(best["class_names"], best["class_counts"], strict=True))
    parts = about.split_parts(split)
    report.sections.extend(_data(parts, split.groups, counts | _scored_counts(scored), known))
    report.sections.extend([*about.settings_sections(record.settings), about.versions_section(known)])
    return report


def of_cross_validation(folder: Path, page: Path, cache: Place | None) -> Report:
    """Scores of all folds, each on recordings that its model never saw."""
    if not (folder / SUMMARY).is_file():
        raise ReportError(f"{folder}: no {SUMMARY} in it: no fold is done; the same `pipeline cross-validate` goes on")
    known, summary = made.read(folder), _json(folder / SUMMARY)
    scored = Scored(trials.of_cross_validation(folder))
    table = pd.read_csv(folder / FOLDS, dtype={"recording": str})
    bootstrap = summary["bootstrap"]
    how = (
        f"Out of fold: each of {_counted(scored)} is scored once, by the model of a fold that neither "
        "trained on its recording nor chose its epoch by it. Figures are of all trials together; intervals are of "
        f"{bootstrap['resamples']:,} bootstrap resamples of {bootstrap['number']} {bootstrap['of']}, too narrow "
        f"where these are few, and missing where fewer than {MIN_UNITS} of them have what a figure is of."
    )
    facts = about.facts(known) | {"Folds": ", ".join(map(str, summary["folds"]))}
    if summary["not_done"]:
        facts["Folds without scores"] = f"{', '.join(map(str, summary['not_done']))}: their recordings are not here"
    report = Report("Cross-validation report", folder.resolve().name, facts)
    report.sections.extend(sections(scored, how, summary))
    report.sections.insert(1, _fold_section(folder, summary))
    thr = summary["settings"][_LIKELIHOOD]
    report.sections.append(worst.section(scored, folder, _cache(cache, known), page, thr))
    parts = {f"fold {fold}": own["recording"].tolist() for fold, own in table.groupby("fold")}
    groups = dict(zip(table["recording"], table["group"], strict=True)) if "group" in table else {}
    report.sections.extend(_data(parts, groups, _scored_counts(scored), known))
    report.sections.extend([*about.settings_sections(summary["settings"]), about.versions_section(known)])
    return report


def of_evaluation(folder: Path, page: Path, cache: Place | None) -> Report:
    """Scores of a model on labelled recordings."""
    known = made.read(folder)
    scored, how = _scored_of(folder)
    facts = about.facts(known) | ({"Models": ", ".join(known.models)} if known.models else {})
    report = Report("Evaluation report", folder.resolve().name, facts)
    if scored is None:
        report.sections.append(Section("Scores", [Note(how)]))
        return report
    report.sections.extend(sections(scored, how))
    report.sections.append(worst.section(scored, folder, _cache(cache, known), page, 0.9))
    parts = {"scored": sorted({trial.recording for trial in scored.trials})}
    report.sections.extend([*_data(parts, {}, _scored_counts(scored), known), about.versions_section(known)])
    return report


_NOTHING_HELD_OUT = (
    "Nothing was held out, so there are no scores: how well this model does on recordings that it has not seen is "
    "not known. `pipeline cross-validate` tells."
)


def _keypoint_error(scores: Mapping[str, Any]) -> str:
    said = "The model was trained on keypoints alone and names no behaviour."
    if scores["keypoint_mae_norm"] is None:
        return f"{said} Nothing was held out to measure the error of the keypoints on."
    return (
        f"{said} The mean absolute error of the keypoints is {scores['keypoint_mae_px']:.2f} px of the video "
        f"({scores['keypoint_mae_norm']:.4f} of its size) on the {scores['n_trials']} held-out trials, by which the "
        "epoch was chosen. It tells how well the model agrees with DeepLabCut, not how right both are."
    )


_AGAIN = "The same command again scores it."


def _scored_of(folder: Path) -> tuple[Scored | None, str]:
    """The trials that were scored in a folder, and what they are, in sentences."""
    found = load_all(folder)
    if not found or not (folder / SCORES).is_file():
        return None, (
            f"What the model says of each trial was not kept here (no {FOLDER}/): the run was made by an earlier "
            f"version, or is not scored yet. {_AGAIN}"
        )
    on = _json(folder / SCORES).get("scored_on", {})
    if on.get("recordings") != len({trial.recording for trial in found}):
        return None, f"The trials in {FOLDER}/ are not those that {SCORES} is of. {_AGAIN}"
    scored = Scored(found)
    n = _counted(scored)
    if on.get("part") == "val":
        how = (
            f"Scores are of held-out recordings, on which nothing was trained: {n}. They chose the epoch whose model "
            "is kept, so the scores are a little too good; with few recordings they depend on which were held out."
        )
    elif on.get("part") == "test":
        how = f"Scores are of test recordings, which neither trained the model nor chose its epoch: {n}."
    else:
        how = f"Scores are of all recordings of the cache: {n}. {_known(on.get('known'))}"
    how += " They are of the mean of each clip and its mirror image (--flips)." if on.get("flips") else ""
    return scored, how


def _counted(scored: Scored) -> str:
    """The trials that the scores are of, and how many more, without a labelled frame, say nothing of them."""
    labelled = [trial for trial in scored.trials if (trial.labels != UNLABELLED).any()]
    n_recordings = len({trial.recording for trial in labelled})
    said = f"{_number_of(len(labelled), 'labelled trial')} of {_number_of(n_recordings, 'recording')}"
    more = len(scored.trials) - len(labelled)
    return f"{said} ({more} more without a labelled frame say nothing)" if more else said


def _number_of(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _known(n_known: int | None) -> str:
    if n_known is None:
        return "If the model has seen any of them, which is not known here, the scores are too good."
    if n_known:
        return (
            f"{n_known} of them, or others of their animals, trained this model, chose its epoch or fitted its "
            "decision layer: all scores are too good."
        )
    return "The model has seen none of them, nor, as far as its --group-by tells, of their animals."


def _curves(path: Path, best_epoch: int, held_out: bool) -> list[Section]:
    if not path.is_file():
        return []
    history = pd.read_csv(path)
    row = history.loc[history["epoch"] == best_epoch]
    gap = "Nothing was held out, so there is no validation curve."
    if held_out and len(row):
        train, val = float(row["train_loss"].iloc[0]), float(row["val_loss"].iloc[0])
        gap = (
            f"Epoch {best_epoch} is kept: training loss {train:.3f}, validation loss {val:.3f}, a gap of "
            f"{val - train:+.3f}. Both are computed alike, without augmentation and dropout. A gap that grows while "
            "the training loss falls means that the model learns these recordings by heart."
        )
    plots = [figures.loss_curves(history, best_epoch, ""), figures.score_curves(history, best_epoch, "")]
    return [Section("Learning curves", [Note(gap), *(plot for plot in plots if plot.data)])]


def _fold_section(folder: Path, summary: Mapping[str, Any]) -> Section:
    files = {fold: folder / f"fold-{fold}" / HISTORY for fold in summary["folds"]}
    histories = {fold: pd.read_csv(path) for fold, path in files.items() if path.is_file()}
    macro = summary["macro_f1"]["per_fold"]
    decided = (summary["decided"] or {}).get("macro_f1", {}).get("per_fold", {})
    rows = [[text(fold), number(value), number(decided.get(fold))] for fold, value in macro.items()]
    table = Table(("fold", "macro F1 (arg-max)", "macro F1 (decided)"), rows, "On the fold's own test recordings.")
    caption = "On the recordings that choose the epoch, which the fold does not test."
    loss = figures.fold_curves(histories, "val_loss", "validation loss", caption)
    score = figures.fold_curves(histories, "val_macro_f1", "validation macro F1", caption)
    gap = figures.fold_curves(histories, "train_loss", "training loss", "Without augmentation and dropout.")
    return Section("Folds", [table, *(plot for plot in (loss, gap, score) if plot.data)])


def _data(
    parts: Mapping[str, Sequence[str]],
    groups: Mapping[str, str],
    counts: Mapping[str, Mapping[str, int]],
    known: Made,
) -> list[Section]:
    shown: list[Any] = [about.parts_table(parts, known), *([about.classes_table(counts)] if counts else [])]
    if not known.recordings:
        shown.append(Note("Numbers of trials and frames were not kept: made by an earlier version."))
    every = about.recordings_table(parts, groups, known)
    return [Section("Data", shown), Section("All recordings", [every], folded=True)]


def _scored_counts(scored: Scored | None) -> dict[str, dict[str, int]]:
    if scored is None:
        return {}
    frames = scored.frames(scored.baseline).sum(1)
    return {"scored": dict(zip(scored.names, map(int, frames), strict=True))}


def _cache(given: Place | None, known: Made) -> clip_cache.Cache | None:
    """The cache that was given, which must be one; else the one that the folder was made from, if it is there."""
    if given:
        return clip_cache.open(given)
    try:
        return clip_cache.open(known.cache) if known.cache else None
    except clip_cache.CacheError:
        return None


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ReportError(f"{path}: missing or damaged; the command that made it makes it again") from None
    return content
