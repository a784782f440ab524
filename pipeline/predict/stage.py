"""New recordings in, tables and pictures out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import cache as clip_cache
from cache import Clip
from pipeline.cluster import IN_PROCESS, Cluster
from pipeline.model.decision import log_probabilities
from pipeline.model.infer import infer, pick_device
from pipeline.model.trained import Trained
from pipeline.pictures import Strip, ethograms, fps_of, title_of
from pipeline.predict.exports import TABLES, Prediction, bout_table, trial_name, trial_table, write_table
from pipeline.predict.models import load_models, merge_of, misfit
from pipeline.preprocess.stage import Report, preprocess
from pipeline.settings import STALL_S, PreprocessSettings, TrainSettings
from pipeline.train.run_folder import PICTURES
from pipeline.train.stream import load_clip
from pipeline.train.windows import tiles

Progress = Callable[[str, float, int], None]

BOUTS = "bouts.csv"


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


def predict(
    models: Sequence[Path],
    *,
    out: Path,
    videos: Path | None = None,
    dlc: Path | None = None,
    device: str = "auto",
    dlc_scorer: str | None = None,
    prefer_filtered: bool | None = None,
    cluster: Cluster = IN_PROCESS,
    stall_s: float = STALL_S,
    decide: bool = True,
    progress: Progress | None = None,
) -> Predicted:
    """Preprocesses new recordings as the model's were, and writes a table per trial, bouts and ethograms into `out`.

    models: see `load_models`. decide False: the arg-max of each frame, whatever decision layer the model has.
    dlc_scorer, prefer_filtered: which DLC tables to take, None: as for the model's own recordings. cluster, stall_s: as
    in preprocess. The cache lies in out/cache: a second call decodes nothing again. Raises CheckpointError, CacheError.
    """
    trained = load_models(models, pick_device(device))
    if not decide:
        trained = dataclasses.replace(trained, decision=None)
    tables = {"dlc_scorer": dlc_scorer, "prefer_filtered": prefer_filtered}
    given = {name: value for name, value in tables.items() if value is not None}
    settings = PreprocessSettings(**(trained.preprocess | given))
    report = preprocess(
        settings,
        cache=out / "cache",
        videos=videos,
        dlc=dlc,
        cluster=cluster,
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
        strips.append(Strip(title_of(clip), prediction.labels, start=clip.source["crop_start"]))
        if progress:
            progress("predict", done, len(usable))
    bouts = pd.concat(bout_tables, ignore_index=True) if bout_tables else bout_table([], trained.class_names)
    write_table(bouts, out / BOUTS)
    pictures = ethograms(strips, trained.class_names, out / PICTURES, fps_of(usable))
    return Predicted(report, len(usable), len(bouts), refused, out, pictures)


def predict_clip(trained: Trained, clip: Clip) -> Prediction:
    """Behaviour and keypoints of every frame of one clip."""
    settings = TrainSettings(**trained.train)
    data = load_clip(clip, merge_of(trained), settings.kp_likelihood_thr)
    output = infer(trained.network, clip, data.xy, data.visible, tiles(len(clip), settings.val_T), when_T3=data.when)
    probabilities_TN = output.logits_BTN.softmax(-1).numpy()
    decided_T = _decided(trained, output.logits_BTN.numpy(), clip.intact)
    xy_px = None
    if output.xy_BTK2 is not None:
        size = np.array([clip.geometry.width, clip.geometry.height], np.float32)
        xy_px = clip.geometry.from_square(output.xy_BTK2.numpy()) * size
        xy_px[~clip.intact] = np.nan
    labels = np.where(clip.intact, decided_T, clip_cache.UNLABELLED)
    probabilities_TN[~clip.intact] = np.nan
    return Prediction(clip, labels, probabilities_TN, xy_px)


def _decided(trained: Trained, logits_TN: np.ndarray, intact_T: np.ndarray) -> np.ndarray:
    """The labels (T,) of a clip. A damaged frame speaks for no class."""
    if trained.decision is None:
        return logits_TN.argmax(-1)
    return trained.decision.labels(log_probabilities(logits_TN, intact_T))
