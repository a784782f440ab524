"""Cross-validation: each recording is tested once, by a model that neither trained on it nor was chosen by it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import cache as clip_cache
from cache import Cache, Place
from pipeline.cluster import IN_PROCESS, Cluster
from pipeline.console import Bar
from pipeline.cross_validation import out_of_fold
from pipeline.cross_validation.crew import work_all
from pipeline.cross_validation.decided import DECIDED, decided_by_other_folds, save_decided
from pipeline.cross_validation.fold import Done, Failed, Task
from pipeline.cross_validation.out_of_fold import OutOfFold
from pipeline.cross_validation.summary import Summary, fold_table, summarise
from pipeline.held import held
from pipeline.model.infer import pick_device
from pipeline.setting_texts import SettingsError
from pipeline.train import pretrained
from pipeline.train.check_settings import check_settings
from pipeline.train.data import Part, common_picture, label_counts, network_config
from pipeline.train.decide import fit_decision
from pipeline.train.folds import FOLDS, Folds, fold_split, load_folds, make_folds, save_folds
from pipeline.train.followers import NOBODY, Follow, check_follow
from pipeline.train.labels import make_merge
from pipeline.train.run_folder import DECISION, RunError, check_apart, holds_files, write_text
from pipeline.train.split import SplitError, group_of, save_split, some
from pipeline.train.stream import load_clips
from pipeline.train_settings import Keep, TrainSettings

SPLITS = "splits"
TABLE = "cross_validation.csv"
SUMMARY = "summary.json"


@dataclass(frozen=True)
class CrossValidation:
    """summary: of the folds that are done, None where none is. decided: the same with a decision layer."""

    summary: Summary | None
    decided: Summary | None
    failed: list[Failed]


def cross_validate(
    settings: TrainSettings,
    *,
    cache: Place,
    out: Path,
    n_folds: int = 5,
    fold_file: Path | None = None,
    cluster: Cluster = IN_PROCESS,
    keep: Keep = Keep.AUTO,
    follow: Follow = NOBODY,
    progress: Bar | None = None,
) -> CrossValidation:
    """Trains and scores a model per fold in OUT/fold-<k>, and writes what they say together.

    The folds are those of fold_file, else those of a former call (OUT/folds.csv), else new ones. A fold that is trained
    and scored is left alone, an interrupted one goes on, one of other settings or data is moved to OUT/fold-<k>.old-N.
    Raises SettingsError, SplitError, RunError and CacheError for what is wrong with all folds alike, and BusyError
    where another process is at work in OUT.
    """
    _check(settings, cache, out)
    check_follow(follow)
    clips = clip_cache.open(cache)
    check_settings(settings, clips.class_names)
    pick_device(settings.device)
    names, counts = _labelled_frames(clips, settings)
    # What keypoints have to do with settings is found in all folds alike.
    shown = common_picture(clips.recordings, settings.encoder)
    network_config(settings, clips.keypoint_names, make_merge(clips.class_names, settings.merge), shown, lambda _: None)
    with held(out):
        folds = _folds(names, counts, settings, out, n_folds, fold_file)
        splits = {k: fold_split(folds, k, names, counts, settings.val_share, settings.seed) for k in folds.numbers}
        check_begun(settings, clips, begun=(out / FOLDS).exists())
        (out / SPLITS).mkdir(parents=True, exist_ok=True)
        save_folds(folds, out / FOLDS)
        tasks = []
        for fold, split in splits.items():
            split_file = (out / SPLITS / f"fold-{fold}.csv").resolve()
            save_split(split, split_file)
            tested = tuple((clip.recording, clip.trial) for clip in clips if clip.recording in split.test)
            init_from = settings.init_from and str(Path(settings.init_from).resolve())  # workers may start elsewhere
            of_fold = dataclasses.replace(settings, split_file=str(split_file), init_from=init_from)
            tasks.append(Task(fold, of_fold, tested, cache, out, keep, follow))
        _discard_former(out, tasks)
        results = list(work_all(tasks, cluster, progress or Bar()))
        done = {result.fold: result for result in results if isinstance(result, Done)}
        failed = sorted((r for r in results if isinstance(r, Failed)), key=lambda result: result.fold)
        tasks = [task for task in tasks if task.fold in done]
        _discard_former(out, tasks)  # also what an earlier model said of a fold that failed now
        summary, decided = _summaries(tasks, done, folds) if done else (None, None)
        return CrossValidation(summary, decided, failed)


def _check(settings: TrainSettings, cache: Place, out: Path) -> None:
    if not settings.learns_behaviour:
        raise SettingsError(
            "--model-type keypoints: names no behaviour to score in cross-validation; train it by `pipeline train`"
        )
    if settings.split_file:
        raise SettingsError(
            f"--split-file {settings.split_file}: cross-validation makes a split for each fold; "
            "folds of your own are given as --fold-file"
        )
    check_apart(out, cache)
    if holds_files(out) and not (out / FOLDS).exists() and not (out / SPLITS).exists():
        raise RunError(f"--out {out}: holds files that are not of a cross-validation; choose an empty or a new folder")


def check_begun(settings: TrainSettings, clips: Cache, *, begun: bool) -> None:
    """Raises CheckpointError where the encoder that all folds begin with does not fit, and SettingsError where it has
    seen what is tested.

    begun: whether folds may have begun, which do not need it again where it is gone.
    """
    if not settings.init_from:
        return
    path = pretrained.checkpoint_of(settings.init_from)
    if path.is_file() or not begun:
        shown = common_picture(clips.recordings, settings.encoder)
        picture: dict[str, Any] = {"channels": shown.channels, "img_size": shown.geometry.img_size}
        pretrained.check(settings, **picture, keypoint_names=clips.keypoint_names)
    seen_before = pretrained.seen_by(path) or set()
    if seen := pretrained.known([meta.recording for meta in clips.recordings], seen_before, settings.group_by):
        what = "animals of " if seen - seen_before else ""
        raise SettingsError(
            f"--init-from {settings.init_from}: was trained on {what}{len(seen)} recordings that are tested here "
            f"({some(seen, 3)}), whose scores would be too good; pretrain on other "
            f"{'animals' if settings.group_by else 'recordings'}"
        )


def _labelled_frames(clips: Cache, settings: TrainSettings) -> tuple[list[str], np.ndarray]:
    """The recordings, sorted, and the labelled frames (recordings, merged classes) of each."""
    merge = make_merge(clips.class_names, settings.merge)
    whole = Part(list(clips), load_clips(clips, merge, settings.kp_likelihood_thr))
    return label_counts(whole, len(merge.names))


def _folds(
    names: list[str], counts: np.ndarray, settings: TrainSettings, out: Path, n_folds: int, fold_file: Path | None
) -> Folds:
    saved = out / FOLDS
    if fold_file:
        folds = load_folds(fold_file, names, settings.group_by)
    elif saved.exists():
        folds = load_folds(saved, names, settings.group_by)
        if len(folds.numbers) != n_folds:
            raise SplitError(f"--folds {n_folds}: {saved} has {len(folds.numbers)}; use another --out for other folds")
    else:
        groups = [group_of(name, settings.group_by) for name in names]
        folds = make_folds(names, groups, counts, n_folds, settings.seed)
    for fold in folds.numbers:
        if not counts[np.isin(names, folds.members(fold))].any():
            raise SplitError(f"fold {fold}: no labelled frame in its recordings; annotate some, or take fewer folds")
    return folds


def _discard_former(out: Path, tasks: Sequence[Task]) -> None:
    """No summary of a former call, and no logits of clips that are gone, may pass for this one's."""
    (out / out_of_fold.FOLDER).mkdir(exist_ok=True)
    for name in (TABLE, SUMMARY, DECISION, DECIDED):
        (out / name).unlink(missing_ok=True)
    tested = {out_of_fold.path_of(out, *clip) for task in tasks for clip in task.clips}
    for path in (out / out_of_fold.FOLDER).glob("*.npz"):
        if path not in tested:
            path.unlink()


def _summaries(tasks: Sequence[Task], done: dict[int, Done], folds: Folds) -> tuple[Summary, Summary | None]:
    """What the folds that are done say together, by arg-max and decided, written down. tasks: theirs."""
    out, settings = tasks[0].out, dataclasses.replace(tasks[0].settings, split_file="")
    clips = out_of_fold.load(out, [clip for task in tasks for clip in task.clips])
    summary = summarise(clips, folds.groups, settings.seed)
    decided = _decided(clips, out) if settings.decision else []
    decided_summary = summarise(decided, folds.groups, settings.seed) if decided else None
    trained: dict[int, dict[str, Any]] = {
        fold: {"best_epoch": result.best_epoch, "seconds": result.seconds} for fold, result in done.items()
    }
    table = fold_table(summary, trained, clips)
    if decided_summary:
        table["decided_macro_f1"] = list(decided_summary.macro.per_fold.values())
        for iou, figure in decided_summary.segments.items():
            table[f"decided_segment_f1@{iou}"] = list(figure.per_fold.values())
    write_text(out / TABLE, table.to_csv(index=False, lineterminator="\n"))
    not_done = [fold for fold in folds.numbers if fold not in done]
    record = summary.as_dict() | {"not_done": not_done, "settings": dataclasses.asdict(settings)}
    record["decided"] = decided_summary.as_dict() if decided_summary else None
    write_text(out / SUMMARY, json.dumps(record, indent=1, allow_nan=False))
    return summary, decided_summary


def _decided(clips: Sequence[OutOfFold], out: Path) -> list[OutOfFold]:
    """The clips with the labels of a decision layer that was fitted on the other folds; none where there is one fold.

    The layer that all folds together give is written beside, for predictions by the mean of the folds' models.
    """
    if len({clip.fold for clip in clips}) < 2:
        return []
    trials, labels = [clip.evidence for clip in clips], [clip.labels for clip in clips]
    decision = fit_decision(trials, labels).as_dict() | {"class_names": list(clips[0].class_names)}
    write_text(out / DECISION, json.dumps(decision, indent=1))
    decided = decided_by_other_folds(clips)
    save_decided(decided, out)
    return decided
