"""The scores of a model on labelled recordings, with and without its decision layer, beside the majority baseline."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import cache as clip_cache
from cache import Cache, Clip, Place, fingerprint
from pipeline.model import checkpoint
from pipeline.model.infer import pick_device
from pipeline.model.trained import Trained
from pipeline.pictures import confusion_picture, ethograms, fps_of, learning_curves
from pipeline.predict import stimulus
from pipeline.predict.models import checkpoints, flipped, load_models, merge_of, misfit, warn_of_networks
from pipeline.predict.scored_trials import FOLDER, ScoredTrial, save_all
from pipeline.train import pretrained
from pipeline.train.balance import balance
from pipeline.train.data import Part
from pipeline.train.decide import cross_fitted, labelled_groups
from pipeline.train.figures import strips_of
from pipeline.train.metrics import Scores, TrialResult, majority_baseline, score
from pipeline.train.run_folder import HISTORY, PICTURES, RECORD, SPLIT, write_text
from pipeline.train.split import SplitError, read_split
from pipeline.train.stream import load_clips
from pipeline.train.validate import Evaluation
from pipeline.train.validate import evaluate as evaluate_clips
from pipeline.train_settings import TrainSettings

SCORES = "scores.json"
HELD_OUT = {"val": "held-out recordings", "test": "test recordings"}  # the parts of a split that can be scored


class EvaluateError(ValueError):
    """A model cannot be scored as asked; the message says why."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Scores of the model and of always saying the commonest training class, on the same frames, and their clips.

    majority: that class. decided: scores of the model's decision layer, None without one. On the run's held-out
    recordings, which it was fitted on, it is fitted anew for each of five parts of them, on the other four; None where
    only one of them has labels. n_known: of the n_recordings that have a labelled frame so many, or others of their
    animals (--group-by of the training), trained the model, chose its epoch or fitted its decision layer; None where no
    split tells.
    """

    model: Evaluation
    baseline: Scores
    decided: Scores | None
    majority: int
    clips: list[Clip]
    n_recordings: int
    n_known: int | None
    pictures: list[Path]


def evaluate(
    models: Sequence[Path],
    *,
    cache: Place,
    on: str = "val",
    out: Path | None = None,
    device: str = "auto",
    flips: bool = False,
    say: Callable[[str], object] = print,
) -> Evaluated:
    """Scores on recordings of the run's split (`val` or `test`) or on every one of the cache (`all`), into `out`.

    models: see `load_models`; parts of a split are those of a single model. flips: each clip is seen in a mirror too,
    and the mean is scored. Raises CheckpointError, CacheError, EvaluateError, SplitError.
    """
    if flips and out and (out / RECORD).exists():
        raise EvaluateError(f"--flips --out {out}: holds a run, whose own scores are without; choose another folder")
    trained = load_models(models, pick_device(device))
    if flips:
        trained = flipped(trained, say)
    run = _run_of(models)
    if run is None and on != "all":
        raise EvaluateError(f"--on {on}: several models have no one split; --on all scores all recordings of the cache")
    clips = clip_cache.open(cache)
    chosen = _chosen(clips, run / SPLIT if run else Path(), on)
    for meta in clips.recordings:
        why = misfit(trained, meta) or _other_classes(trained, meta.class_names)
        if meta.recording in chosen and why:
            raise EvaluateError(f"{meta.recording}: {why}")
    settings = TrainSettings(**trained.train)
    scored = [clip for clip in clips if clip.recording in chosen]
    stimulus.warn_of_unknown(trained, scored, say)
    warn_of_networks(trained, [meta for meta in clips.recordings if meta.recording in chosen], say)
    part = Part(scored, load_clips(scored, merge_of(trained), settings.kp_likelihood_thr))
    labelled = {clip.recording for clip, labels in zip(scored, part.labels, strict=True) if (labels >= 0).any()}
    if not labelled:
        raise EvaluateError(f"{cache}: no labelled frame in the {len(chosen)} recordings to evaluate on")
    balanced = balance(trained.class_counts, settings)
    result = evaluate_clips(trained.network, part, trained.class_names, balanced, settings)
    baseline = score(majority_baseline(trained.class_counts, result.trials), trained.class_names)
    decided = _decided_trials(trained, result, scored, run / SPLIT if run and on == "val" else None)
    decided_scores = score(decided, trained.class_names) if decided else None
    majority = int(trained.class_counts.argmax())
    known = _known(models, labelled)
    n_known = None if known is None else len(known)
    pictures = []
    if out:
        # What says whose the trials are goes first and comes last: none is ever taken for another part's or model's.
        (out / SCORES).unlink(missing_ok=True)
        save_all(_kept(result, decided, scored, trained), out)
        scored_on = {"part": on, "recordings": len(chosen), "known": n_known, "models": _prints(models)}
        scored_on |= {"flips": True} if flips else {}
        pictures = _write(result, baseline, decided_scores, part, trained, run, out, scored_on)
    return Evaluated(result, baseline, decided_scores, majority, scored, len(labelled), n_known, pictures)


def scores_are_of(out: Path, models: Sequence[Path]) -> bool:
    """Whether the scores in a folder are there, whole, and of these models as they are now, without --flips."""
    try:
        scored_on = json.loads((out / SCORES).read_text(encoding="utf-8"))["scored_on"]
        same = scored_on["models"] == _prints(models) and not scored_on.get("flips")
        return bool(same) and (out / FOLDER).is_dir()
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _prints(models: Sequence[Path]) -> list[str]:
    return [fingerprint.of_file(file) for file in checkpoints(models)]


def _known(models: Sequence[Path], chosen: set[str]) -> set[str] | None:
    """Of these recordings those that any of the models, or what it began with, has seen, or others of their animals.

    None where it is not known of a model what it has seen. Each tells animals apart by its own --group-by.
    """
    known: set[str] = set()
    for file in checkpoints(models):
        seen = pretrained.seen_by(file)
        if seen is None:
            return None
        known |= pretrained.known(chosen, seen, checkpoint.load(file)["train"].get("group_by", ""))
    return known


def _run_of(models: Sequence[Path]) -> Path | None:
    """The folder of the run of a single model."""
    files = checkpoints(models)
    return files[0].parent if len(files) == 1 else None


def _decided_trials(
    trained: Trained, result: Evaluation, clips: Sequence[Clip], fitted_on: Path | None
) -> list[TrialResult]:
    """The trials with the decision layer's labels; none without one, or where nothing would be tested.

    fitted_on: the split of the run, where its held-out recordings, on which the layer was fitted, are those scored.
    """
    if trained.decision is None:
        return []
    trials = result.evidence(clips)
    if fitted_on:
        of_recording, labels = read_split(fitted_on).groups, [t.labels for t in result.trials]
        groups = [of_recording[clip.recording] for clip in clips]
        if len(labelled_groups(labels, groups)) < 2:
            return []
        decided = cross_fitted(trials, labels, groups)
    else:
        decided = trained.decision.labels_of(trials)
    return [dataclasses.replace(t, pred=pred) for t, pred in zip(result.trials, decided, strict=True)]


def _other_classes(trained: Trained, class_names: tuple[str, ...]) -> str:
    if class_names == trained.original_classes:
        return ""
    return f"its classes are {', '.join(class_names)}; the model's are {', '.join(trained.original_classes)}"


def _chosen(clips: Cache, split_file: Path, on: str) -> set[str]:
    names = {meta.recording for meta in clips.recordings}
    if on == "all":
        return names
    if on not in HELD_OUT:
        raise EvaluateError(f"--on {on}: expected val, test or all")
    chosen = set(read_split(split_file).members(on))
    if not chosen:
        raise EvaluateError(f"{split_file.parent}: this run has no {HELD_OUT[on]} to score; --on all scores all")
    if missing := chosen - names:
        raise SplitError(f"{split_file}: {len(missing)} {HELD_OUT[on]} are not in the cache ({min(missing)} ...)")
    return chosen


def _kept(
    result: Evaluation, decided: Sequence[TrialResult], clips: Sequence[Clip], trained: Trained
) -> Iterator[ScoredTrial]:
    """What is kept of each trial, for reports."""
    for i, (clip, trial, logits) in enumerate(zip(clips, result.trials, result.logits, strict=True)):
        yield ScoredTrial(
            recording=clip.recording,
            trial=clip.trial,
            logits=logits.astype(np.float32),
            labels=trial.labels.astype(np.int64),
            intact=np.asarray(clip.intact),
            majority=int(trained.class_counts.argmax()),
            class_names=trained.class_names,
            first=clip.source["crop_start"],
            fps=clip.fps,
            decided=decided[i].pred.astype(np.int64) if decided else None,
            keypoint_names=clip.keypoint_names,
            error_px=_error_px(trial),
        )


def _error_px(trial: TrialResult) -> np.ndarray | None:
    """(T,K,2) float32: predicted less true place in pixels of the original video, NaN where it is not visible."""
    if trial.xy_pred is None:
        return None
    size = np.array([trial.geometry.width, trial.geometry.height])
    difference = trial.geometry.from_square(trial.xy_pred) - trial.geometry.from_square(trial.xy_true)
    return np.where(trial.visible[..., None], difference * size, np.nan).astype(np.float32)


def _write(
    result: Evaluation,
    baseline: Scores,
    decided: Scores | None,
    part: Part,
    trained: Trained,
    run: Path | None,
    out: Path,
    scored_on: dict[str, Any],
) -> list[Path]:
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    kp_loss = None if math.isnan(result.kp_loss) else result.kp_loss
    losses_found = {"loss": result.loss, "action_loss": result.action_loss, "kp_loss": kp_loss}
    record: dict[str, Any] = losses_found | {"model": result.scores.as_dict(), "majority": baseline.as_dict()}
    if decided:
        record["decided"] = decided.as_dict()
    record["scored_on"] = scored_on
    write_text(out / SCORES, json.dumps(record, indent=1, allow_nan=False))
    strips = strips_of(part.clips, result.trials)
    pictures = ethograms(strips, trained.class_names, out / PICTURES, fps_of(part.clips))
    confusion = out / PICTURES / "confusion.png"
    pictures.append(confusion_picture(result.scores.confusion, trained.class_names, confusion))
    if run and (run / HISTORY).exists():
        history = run / HISTORY
        pictures.append(learning_curves(pd.read_csv(history), out / PICTURES / "learning_curves.png"))
    return pictures
