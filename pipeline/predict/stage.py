"""New recordings in, tables and pictures out; and the scores of a model on labelled recordings."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import cache as clip_cache
from cache import Cache, Clip
from pipeline.model.infer import infer, pick_device
from pipeline.model.trained import Trained, load_trained
from pipeline.predict.exports import Prediction, bout_table, trial_name, trial_table, write_table
from pipeline.predict.pictures import Strip, confusion_picture, ethograms, learning_curves
from pipeline.preprocess.stage import Report, preprocess
from pipeline.settings import STALL_S, PreprocessSettings, TrainSettings
from pipeline.train import losses
from pipeline.train.data import Part
from pipeline.train.labels import Merge
from pipeline.train.metrics import Scores, majority_baseline, score
from pipeline.train.run_folder import HISTORY, PICTURES, SPLIT, write_text
from pipeline.train.split import SplitError, read_split
from pipeline.train.stream import load_clip, load_clips
from pipeline.train.validate import Evaluation
from pipeline.train.validate import evaluate as evaluate_clips
from pipeline.train.windows import tiles

Progress = Callable[[str, float, int], None]

BOUTS = "bouts.csv"
SCORES = "scores.json"
TABLES = "trials"
HELD_OUT = {"val": "held-out recordings", "test": "test recordings"}  # the parts of a split that can be scored


class PredictError(ValueError):
    """A model and the data it is given do not fit each other; the message says what differs."""


@dataclass(frozen=True)
class Predicted:
    """refused: recording -> why the model cannot be used on it. pictures: ethograms of all trials."""

    report: Report
    n_trials: int
    n_bouts: int
    refused: dict[str, str]
    out: Path
    pictures: list[Path]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Scores of the model and of always saying the commonest training class, on the same frames, and their clips.

    majority: that class.
    """

    model: Evaluation
    baseline: Scores
    majority: int
    clips: list[Clip]
    n_recordings: int
    pictures: list[Path]


def predict(
    model: Path,
    *,
    out: Path,
    videos: Path | None = None,
    dlc: Path | None = None,
    device: str = "auto",
    dlc_scorer: str | None = None,
    prefer_filtered: bool | None = None,
    workers: int = 0,
    stall_s: float = STALL_S,
    progress: Progress | None = None,
) -> Predicted:
    """Preprocesses new recordings as the model's were, and writes a table per trial, bouts and ethograms into `out`.

    dlc_scorer, prefer_filtered: which DLC tables to take, None: as for the model's own recordings. workers, stall_s: as
    in preprocess. The cache lies in out/cache: a second call decodes nothing again. Raises CheckpointError, CacheError,
    PredictError.
    """
    trained = load_trained(model, pick_device(device))
    tables = {"dlc_scorer": dlc_scorer, "prefer_filtered": prefer_filtered}
    given = {name: value for name, value in tables.items() if value is not None}
    settings = PreprocessSettings(**(trained.preprocess | given))
    report = preprocess(
        settings,
        cache=out / "cache",
        videos=videos,
        dlc=dlc,
        workers=workers,
        stall_s=stall_s,
        progress=progress,
    )
    clips = clip_cache.open(out / "cache")
    # Recordings of an earlier call whose files are not in this one's folders stay in the cache, and are not asked for.
    asked = {row.recording for row in report.recordings if row.state != "removed"}
    refused = {m.recording: why for m in clips.recordings if m.recording in asked and (why := misfit(trained, m))}
    usable = [clip for clip in clips if clip.recording in asked - refused.keys()]
    (out / TABLES).mkdir(parents=True, exist_ok=True)
    bout_tables, strips = [], []
    for done, clip in enumerate(usable, 1):
        prediction = predict_clip(trained, clip)
        write_table(trial_table(prediction, trained.class_names), out / TABLES / trial_name(clip))
        bout_tables.append(bout_table([prediction], trained.class_names))
        strips.append(Strip(_title(clip), prediction.labels, start=clip.source["crop_start"]))
        if progress:
            progress("predict", done, len(usable))
    bouts = pd.concat(bout_tables, ignore_index=True) if bout_tables else bout_table([], trained.class_names)
    write_table(bouts, out / BOUTS)
    pictures = ethograms(strips, trained.class_names, out / PICTURES, _fps(usable))
    return Predicted(report, len(usable), len(bouts), refused, out, pictures)


def predict_clip(trained: Trained, clip: Clip) -> Prediction:
    """Behaviour and keypoints of every frame of one clip."""
    settings = TrainSettings(**trained.train)
    data = load_clip(clip, _merge(trained), settings.kp_likelihood_thr)
    output = infer(trained.network, clip, data.xy, data.visible, tiles(len(clip), settings.val_T), when_T3=data.when)
    probabilities_TN = output.logits_BTN.softmax(-1).numpy()
    xy_px = None
    if output.xy_BTK2 is not None:
        size = np.array([clip.geometry.width, clip.geometry.height], np.float32)
        xy_px = clip.geometry.from_square(output.xy_BTK2.numpy()) * size
        xy_px[~clip.intact] = np.nan
    labels = np.where(clip.intact, probabilities_TN.argmax(-1), clip_cache.UNLABELLED)
    probabilities_TN[~clip.intact] = np.nan
    return Prediction(clip, labels, probabilities_TN, xy_px)


def evaluate(model: Path, *, cache: Path, on: str = "val", out: Path | None = None, device: str = "auto") -> Evaluated:
    """Scores on recordings of the run's split (`val` or `test`) or on every one of the cache (`all`), into `out`.

    Raises CheckpointError, CacheError, PredictError, SplitError.
    """
    trained = load_trained(model, pick_device(device))
    clips = clip_cache.open(cache)
    chosen = _chosen(clips, model.parent / SPLIT, on)
    for meta in clips.recordings:
        why = misfit(trained, meta) or _other_classes(trained, meta.class_names)
        if meta.recording in chosen and why:
            raise PredictError(f"{meta.recording}: {why}")
    settings = TrainSettings(**trained.train)
    scored = [clip for clip in clips if clip.recording in chosen]
    part = Part(scored, load_clips(scored, _merge(trained), settings.kp_likelihood_thr))
    if not any((labels >= 0).any() for labels in part.labels):
        raise PredictError(f"{cache}: no labelled frame in the {len(chosen)} recordings to evaluate on")
    weights_N = losses.class_weights(torch.from_numpy(trained.class_counts), settings.class_weight_power)
    result = evaluate_clips(trained.network, part, trained.class_names, weights_N, settings)
    baseline = score(majority_baseline(trained.class_counts, result.trials), trained.class_names)
    pictures = _write(result, baseline, part, trained, model, out) if out else []
    majority = int(trained.class_counts.argmax())
    return Evaluated(result, baseline, majority, scored, len(chosen), pictures)


def misfit(trained: Trained, meta: clip_cache.RecordingMeta) -> str:
    """Why the model cannot be used on a recording, or an empty string."""
    if meta.keypoint_names != trained.keypoint_names:
        return (
            f"its keypoints are {', '.join(meta.keypoint_names)}; the model was trained on "
            f"{', '.join(trained.keypoint_names)}"
        )
    if trained.network.encoder is None:
        return ""
    if not meta.has_frames:
        return "it has no video, and the model looks at frames"
    config = trained.network.config
    expected = (config.img_size, config.img_size, config.channels)
    if meta.frame_shape != expected:
        return f"its frames are {_shape(meta.frame_shape)}; the model was trained on {_shape(expected)}"
    return ""


def _other_classes(trained: Trained, class_names: tuple[str, ...]) -> str:
    if class_names == trained.original_classes:
        return ""
    return f"its classes are {', '.join(class_names)}; the model's are {', '.join(trained.original_classes)}"


def _chosen(clips: Cache, split_file: Path, on: str) -> set[str]:
    names = {meta.recording for meta in clips.recordings}
    if on == "all":
        return names
    if on not in HELD_OUT:
        raise PredictError(f"--on {on}: expected val, test or all")
    chosen = set(read_split(split_file).members(on))
    if not chosen:
        raise PredictError(f"{split_file.parent}: this run has no {HELD_OUT[on]} to score; --on all scores all")
    if missing := chosen - names:
        raise SplitError(f"{split_file}: {len(missing)} {HELD_OUT[on]} are not in the cache ({min(missing)} ...)")
    return chosen


def _write(result: Evaluation, baseline: Scores, part: Part, trained: Trained, model: Path, out: Path) -> list[Path]:
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    kp_loss = None if math.isnan(result.kp_loss) else result.kp_loss
    losses_found = {"loss": result.loss, "action_loss": result.action_loss, "kp_loss": kp_loss}
    record: dict[str, Any] = losses_found | {"model": result.scores.as_dict(), "majority": baseline.as_dict()}
    write_text(out / SCORES, json.dumps(record, indent=1, allow_nan=False))
    strips = [
        Strip(_title(c), t.pred, t.labels, c.source["crop_start"])
        for c, t in zip(part.clips, result.trials, strict=True)
    ]
    pictures = ethograms(strips, trained.class_names, out / PICTURES, _fps(part.clips))
    confusion = out / PICTURES / "confusion.png"
    pictures.append(confusion_picture(result.scores.confusion, trained.class_names, confusion))
    history = model.parent / HISTORY
    if history.exists():
        pictures.append(learning_curves(pd.read_csv(history), out / PICTURES / "learning_curves.png"))
    return pictures


def _merge(trained: Trained) -> Merge:
    return Merge(trained.class_names, trained.merge_lookup)


def _title(clip: Clip) -> str:
    return f"{clip.recording} {clip.trial}"


def _fps(clips: list[Clip]) -> float:
    """Frame rate for the time axis; 30 where the recordings have no video."""
    return next((clip.fps for clip in clips if clip.fps), 30.0)


def _shape(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]} with {shape[2]} channel{'s' if shape[2] > 1 else ''}"
