"""The labels that `pipeline predict` left in a folder."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

import cache as clip_cache
from cache import UNLABELLED, Clip
from pipeline.predict.exports import TABLES, trial_name
from pipeline.tables.sources import Source, SourceError, Trial, some, without_suffix


def from_predictions(folder: Path) -> Source:
    """The tables that `pipeline predict` wrote, with what its cache knows of their recordings.

    Where that cache is gone, names come from the files' names and frame rates from the column Time_s.
    """
    files = sorted((folder / TABLES).glob("prediction_*.csv"))
    if not files:
        raise SourceError(f"{folder}: no {TABLES}/prediction_*.csv in it; expected a folder of `pipeline predict`")
    notes = []
    clips: dict[str, Clip] = {}
    if (folder / "cache").is_dir():
        clips = {trial_name(clip): clip for clip in clip_cache.open(folder / "cache")}
    if without := sum(file.name not in clips for file in files):
        notes.append(
            f"{without} of {len(files)} predictions are not of a recording in {folder / 'cache'}: the recording's name "
            "is that of the file, the frame rate that of Time_s, and no stimulus is known"
        )
    class_names = read_class_names(files[0])
    trials = [_predicted(file, class_names, clips.get(file.name)) for file in files]
    trials.sort(key=lambda trial: (trial.recording, trial.trial))
    return Source(class_names, tuple(trials), "predicted labels", tuple(notes))


def read_class_names(file: Path) -> tuple[str, ...]:
    columns = _columns(file)
    names = tuple(name.removeprefix("p_") for name in columns if name.startswith("p_"))
    if not names or not {"Frame", "Action", "Time_s"} <= set(columns):
        raise SourceError(f"{file}: expected the columns Frame, Action, Time_s and p_<class>, found {some(columns)}")
    return names


def _columns(file: Path) -> list[str]:
    try:
        return list(pd.read_csv(file, nrows=0).columns)
    except (OSError, ValueError) as error:
        raise SourceError(f"{file}: cannot be read as a table ({error}); run `pipeline predict` again") from None


def _predicted(file: Path, class_names: tuple[str, ...], clip: Clip | None) -> Trial:
    if (found := read_class_names(file)) != class_names:
        raise SourceError(
            f"{file}: its classes are {', '.join(found)}, of other tables {', '.join(class_names)}; "
            "predict all of them with one model"
        )
    table = pd.read_csv(file, usecols=["Frame", "Action", "Time_s"], dtype={"Action": str}, keep_default_na=False,
                        na_values={"Time_s": [""]})  # fmt: skip
    frames = table["Frame"].to_numpy()
    if not len(frames) or (np.diff(frames) != 1).any():
        raise SourceError(f"{file}: Frame has gaps, or no row; run `pipeline predict` again")
    ids = {name: i for i, name in enumerate((*class_names, ""))} | {"": UNLABELLED}
    if unknown := sorted(set(table["Action"]) - set(ids)):
        raise SourceError(f"{file}: Action {unknown[0]!r} is none of {', '.join(class_names)}")
    labels = table["Action"].map(ids).to_numpy(np.int64)
    recording, number = (clip.recording, clip.trial) if clip else names_of(file)
    fps = clip.fps if clip else _rate(table["Time_s"].to_numpy(float))
    return Trial(recording, number, labels, labels >= 0, fps, int(frames[0]), clip.stim_frame if clip else None)


def names_of(file: Path) -> tuple[str, int]:
    """Recording and trial, of prediction_<video file name>_<trial>.csv."""
    match = re.fullmatch(r"prediction_(.+)_(\d+)\.csv", file.name)
    if not match:
        raise SourceError(f"{file}: expected a name like prediction_<video>_<trial>.csv")
    return without_suffix(match[1]), int(match[2])


def _rate(times_s: np.ndarray) -> float | None:
    known = np.flatnonzero(np.isfinite(times_s))
    if len(known) < 2 or times_s[known[-1]] <= times_s[known[0]]:
        return None
    return float((known[-1] - known[0]) / (times_s[known[-1]] - times_s[known[0]]))
