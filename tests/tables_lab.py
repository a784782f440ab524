"""Caches and predictions of labels alone: what tables are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import cache as clip_cache
from cache.clip import ClipRows, Geometry, RecordingMeta
from pipeline.cross_validation import out_of_fold
from pipeline.cross_validation.out_of_fold import OutOfFold
from pipeline.predict.exports import TABLES, Prediction, trial_name, trial_table, write_table

CLASSES = ("rest", "lick", "walk")
LENGTH = 60


@dataclass(frozen=True)
class Lived:
    """What happens in a trial of LENGTH frames; labels are cut to [crop:LENGTH]. damaged: frames of the trial."""

    labels: np.ndarray
    stim_frame: int | None = None
    crop: int = 0
    damaged: Sequence[int] = ()


def lived(*bouts: tuple[int, int, int], stim: int | None = None, crop: int = 0, damaged: Sequence[int] = ()) -> Lived:
    """Rest, but for bouts (class, start, stop) in trial frames."""
    labels = np.zeros(LENGTH, np.int16)
    for class_id, start, stop in bouts:
        labels[start:stop] = class_id
    return Lived(labels, stim, crop, damaged)


def write_cache(path: Path, recordings: Mapping[str, Sequence[Lived]], *, fps: float | None = 30.0) -> Path:
    """A cache of keypoints and labels, as preprocess would write it."""
    with clip_cache.create(path) as cache:
        for name, trials in recordings.items():
            rows, frames = [], []
            for number, trial in enumerate(trials):
                start = sum(map(len, frames))
                frames.append(np.arange(number * LENGTH + trial.crop, (number + 1) * LENGTH, dtype=np.int32))
                places = (number + 1, start, start + len(frames[-1]), frames[-1][0].item(), trial.crop)
                rows.append(ClipRows(*places, stim_frame=trial.stim_frame))
            frame_index = np.concatenate(frames)
            n = len(frame_index)
            damaged = [number * LENGTH + frame for number, trial in enumerate(trials) for frame in trial.damaged]
            meta = RecordingMeta(
                recording=name, video=f"{name}.mp4", dlc=f"{name}.csv", geometry=Geometry.pose_only(64, 48), channels=1,
                fps=fps, decoder=None, keypoint_names=("mouth",), class_names=CLASSES, clips=tuple(rows),
                fingerprints=dict.fromkeys(("frames", "keypoints", "labels"), name), settings={},
            )  # fmt: skip
            cache.writer(name).finish(
                meta,
                keypoints=np.zeros((n, 1, 3), np.float32),
                labels=np.concatenate([trial.labels[trial.crop :] for trial in trials]),
                frame_index=frame_index,
                time_s=frame_index / (fps or np.nan),
                intact=~np.isin(frame_index, damaged),
            )
    return path


def write_predictions(path: Path, recordings: Mapping[str, Sequence[Lived]], *, fps: float | None = 30.0) -> Path:
    """A folder of `pipeline predict` that says these labels."""
    unlabelled = {
        name: [Lived(np.full(LENGTH, -1, np.int16), None, trial.crop, trial.damaged) for trial in trials]
        for name, trials in recordings.items()
    }
    write_cache(path / "cache", unlabelled, fps=fps)
    (path / TABLES).mkdir()
    for clip in clip_cache.open(path / "cache"):
        trial = recordings[clip.recording][clip.trial - 1]
        labels = np.where(clip.intact, trial.labels[trial.crop :], -1)
        probabilities = np.where(clip.intact[:, None], np.eye(len(CLASSES))[labels], np.nan)
        table = trial_table(Prediction(clip, labels, probabilities, None), CLASSES)
        write_table(table, path / TABLES / trial_name(clip))
    return path


def write_out_of_fold(folder: Path, lab: Mapping[str, Sequence[Lived]]) -> None:
    """A cross-validation that says each label one frame late."""
    (folder / out_of_fold.FOLDER).mkdir(parents=True)
    for i, (name, trials) in enumerate(lab.items()):
        for number, trial in enumerate(trials, 1):
            labels = trial.labels[trial.crop :].astype(np.int64)
            logits = 3 * np.eye(3, dtype=np.float32)[np.roll(labels, 1)]
            intact = ~np.isin(np.arange(trial.crop, LENGTH), trial.damaged)
            out_of_fold.save(OutOfFold(name, number, i % 2, logits, labels, intact, 0, CLASSES), folder)


def random_lab(seed: int, animals: int = 8, trials: int = 3) -> dict[str, list[Lived]]:
    """Recordings mouse_<n>M of random bouts; every other trial is cropped, some frames are damaged."""
    rng = np.random.default_rng(seed)
    lab = {}
    for animal in range(animals):
        made = []
        for number in range(trials):
            labels = np.repeat(rng.integers(0, 3, LENGTH), rng.integers(1, 12, LENGTH))[:LENGTH].astype(np.int16)
            damaged = rng.choice(LENGTH, 3, replace=False).tolist()
            made.append(Lived(labels, int(rng.integers(15, 40)), 15 * (number % 2), damaged))
        lab[f"mouse_{animal:02d}M"] = made
    return lab
