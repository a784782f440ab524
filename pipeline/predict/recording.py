"""One recording: what a model says of its clips, written as it is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cache import UNLABELLED, Clip
from cache.clip import first_line
from pipeline.machine import out_of_memory
from pipeline.model.decision import evidence
from pipeline.model.infer import infer
from pipeline.model.network import Output
from pipeline.model.room import Room
from pipeline.model.trained import Trained
from pipeline.predict.exports import Prediction, bout_table, trial_name, write_trial
from pipeline.predict.models import merge_of
from pipeline.predict.records import PredictFolder, Record, TrialRecord
from pipeline.train.run_folder import is_too_long
from pipeline.train.stream import load_clip
from pipeline.train.windows import tiles
from pipeline.train_settings import TrainSettings


def predict_clip(
    trained: Trained, clip: Clip, room: Room | None = None, passed: Callable[[int], object] = lambda n_frames: None
) -> Prediction:
    """Behaviour and keypoints of every frame of one clip. room, passed: see `infer`."""
    settings = TrainSettings(**trained.train)
    data = load_clip(clip, merge_of(trained), settings.kp_likelihood_thr)
    ranges = tiles(len(clip), settings.val_T)
    output = infer(
        trained.network, clip, data.xy, data.visible, ranges, when_TW=data.when, room=room, passed=passed
    )  # fmt: skip
    probabilities_TN = output.logits_BTN.softmax(-1).numpy()
    decided_T = _decided(trained, output, clip.intact)
    xy_px = None
    if output.xy_BTK2 is not None:
        size = np.array([clip.geometry.width, clip.geometry.height], np.float32)
        xy_px = clip.geometry.from_square(output.xy_BTK2.numpy()) * size
        xy_px[~clip.intact] = np.nan
    labels = np.where(clip.intact, decided_T, UNLABELLED)
    probabilities_TN[~clip.intact] = np.nan
    return Prediction(clip, labels, probabilities_TN, xy_px)


def _decided(trained: Trained, output: Output, intact_T: np.ndarray) -> np.ndarray:
    """The labels (T,) of a clip. A damaged frame speaks for no class."""
    logits_TN = output.logits_BTN.numpy()
    if trained.decision is None:
        return logits_TN.argmax(-1)
    boundary_T = None if output.boundary_BT is None else output.boundary_BT.numpy()
    return trained.decision.labels(evidence(logits_TN, intact_T, boundary_T))


def predict_recording(
    trained: Trained,
    clips: Sequence[Clip],
    folder: PredictFolder,
    made_of: dict[str, Any],
    room: Room,
    passed: Callable[[int], object],
) -> str:
    """Writes the tables of a recording's clips and, last, its record; or returns why nothing can be said of it.

    Raises OSError where they cannot be written.
    """
    if long := [name for name in map(trial_name, clips) if is_too_long(name)]:
        return f"{long[0]}: too long a name for a table; rename the video, and what is named after it"
    trials: list[TrialRecord] = []
    bouts: list[dict[str, Any]] = []
    for clip in clips:
        try:
            prediction = predict_clip(trained, clip, room, passed)
        except Exception as error:  # what damaged data make libraries raise; the other recordings go on
            return _reason(error)
        path = write_trial(prediction, trained.class_names, folder.table(trial_name(clip)))
        trials.append(_trial_record(prediction, path.name, path.stat().st_size, len(trained.class_names)))
        bouts += _rows(bout_table([prediction], trained.class_names))
    folder.write(Record(clips[0].recording, made_of, clips[0].fps, tuple(trials), tuple(bouts)))
    return ""


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Plain values, NaN as None."""
    plain = table.astype(object).where(table.notna(), None)
    return [dict(zip(plain.columns, row, strict=True)) for row in plain.to_numpy().tolist()]


def _trial_record(prediction: Prediction, table: str, n_bytes: int, n_classes: int) -> TrialRecord:
    clip, labels = prediction.clip, prediction.labels
    intact = labels >= 0
    sure = prediction.probabilities[intact, labels[intact]]
    return TrialRecord(
        trial=clip.trial,
        table=table,
        n_bytes=n_bytes,
        n_frames=len(clip),
        n_damaged=int((~intact).sum()),
        crop_start=clip.source["crop_start"],
        frames=tuple(np.bincount(labels[intact], minlength=n_classes).tolist()),
        certainty=float(sure.mean(dtype=np.float64)) if len(sure) else None,
    )


def _reason(error: Exception) -> str:
    if out_of_memory(error):
        return f"out of memory ({first_line(error)[:200]})"
    if type(error).__module__.split(".")[0] in {"cache", "pipeline"}:
        return first_line(error)
    return f"failed unexpectedly ({type(error).__name__}: {first_line(error)[:200]}); please report this"
