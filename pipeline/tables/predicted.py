"""The labels that `pipeline predict` left in a folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

import cache as clip_cache
from cache import UNLABELLED, Clip
from cache.clip import first_line
from pipeline.file_names import without_suffix
from pipeline.predict.exports import TABLES, trial_name
from pipeline.predict.records import ABOUT, PredictFolder
from pipeline.tables.sources import Source, SourceError, Trial, some


def from_predictions(folder: Path, *, leave_out_bad: bool = False) -> Source:
    """The tables that `pipeline predict` wrote, with what its cache knows of their recordings.

    Where that cache is gone, names come from the files' names and frame rates from the column Time_s. A table that
    cannot be used raises SourceError; with leave_out_bad it is left out, as long as another can be used.
    """
    files = sorted((folder / TABLES).glob("prediction_*.csv"))
    if not files:
        raise SourceError(f"{folder}: no {TABLES}/prediction_*.csv in it; expected a folder of `pipeline predict`")
    notes = _notes(folder, files)
    clips: dict[str, Clip] = {}
    if (folder / "cache").is_dir():
        clips = {trial_name(clip): clip for clip in clip_cache.open(folder / "cache")}
    if without := sum(file.name not in clips for file in files):
        notes.append(
            f"{without} of {len(files)} predictions are not of a recording in {folder / 'cache'}: the recording's name "
            "is that of the file, the frame rate that of Time_s, and no stimulus is known"
        )
    class_names: tuple[str, ...] = ()
    trials: list[Trial] = []
    left_out: list[tuple[str, int, str]] = []
    told = told_class_names(folder)
    for file in files:
        try:
            found = read_class_names(file, told)
            trials.append(_predicted(file, found, class_names or found, clips.get(file.name)))
            class_names = class_names or found
        except SourceError as error:
            if not leave_out_bad:
                raise
            left_out.append((*(_named(file) or (file.name, 0)), str(error)))
    if not trials:
        raise SourceError(left_out[0][2])
    trials.sort(key=lambda trial: (trial.recording, trial.trial))
    return Source(class_names, tuple(trials), "predicted labels", tuple(notes), tuple(left_out))


def _notes(folder: Path, files: list[Path]) -> list[str]:
    """What the folder says of the call that filled it."""
    if not (folder / ABOUT).is_file():
        return []
    asked = PredictFolder(folder).tables_asked()
    if asked is None:
        return [f"the `pipeline predict` of {folder} did not come to its end; the same command goes on"]
    if not (others := [file.name for file in files if file.name not in asked]):
        return []
    return [
        f"{len(others)} of {len(files)} predictions are of recordings that only earlier calls of `pipeline predict` "
        f"were asked for ({others[0]} ...); take them out of {folder / TABLES} if they are not to count"
    ]


def told_class_names(folder: Path) -> tuple[str, ...]:
    """The behaviours that the model of the folder's last call names; empty where nothing tells."""
    names = PredictFolder(folder).about().get("class_names")
    return tuple(map(str, names)) if isinstance(names, list) else ()


def read_class_names(file: Path, told: tuple[str, ...]) -> tuple[str, ...]:
    """The behaviours of a trial's table: those that are told, where they are its columns; else as its columns look.

    Behind the probabilities stand places, <keypoint>_x and _y, and a keypoint may be called `p_hind`.
    """
    columns = _columns(file)
    values = columns[next((i for i, name in enumerate(columns) if name.startswith("p_")), len(columns)) :]
    is_told = values[: len(told)] == [f"p_{name}" for name in told] and not _n_probabilities(values[len(told) :])
    names = told if told and is_told else tuple(name[2:] for name in values[: _n_probabilities(values)])
    if not names or not {"Frame", "Action", "Time_s"} <= set(columns):
        raise SourceError(f"{file}: expected the columns Frame, Action, Time_s and p_<class>, found {some(columns)}")
    return names


def _n_probabilities(columns: Sequence[str]) -> int:
    """How many columns p_<class> come before the first place or other column."""
    is_place = (x.endswith("_x") and y == f"{x[:-1]}y" for x, y in pairwise([*columns, ""]))
    return next((i for i, place in enumerate(is_place) if place or not columns[i].startswith("p_")), len(columns))


def _labels(file: Path) -> pd.DataFrame:
    types = {"Frame": int, "Action": str, "Time_s": float}
    try:
        return pd.read_csv(file, usecols=list(types), dtype=types, keep_default_na=False, na_values={"Time_s": [""]})
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from None


def _columns(file: Path) -> list[str]:
    try:
        return list(pd.read_csv(file, nrows=0).columns)
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> SourceError:
    return SourceError(f"{file}: cannot be read as a table ({first_line(error)}); run `pipeline predict` again")


def _predicted(file: Path, found: tuple[str, ...], class_names: tuple[str, ...], clip: Clip | None) -> Trial:
    """found: the file's own behaviours; class_names: those of the other files."""
    if found != class_names:
        raise SourceError(
            f"{file}: its classes are {', '.join(found)}, of other tables {', '.join(class_names)}; "
            "predict all of them with one model"
        )
    table = _labels(file)
    frames = table["Frame"].to_numpy()
    if not len(frames) or (np.diff(frames) != 1).any():
        raise SourceError(f"{file}: Frame has gaps, or no row; run `pipeline predict` again")
    ids = {name: i for i, name in enumerate((*class_names, ""))} | {"": UNLABELLED}
    if unknown := sorted(set(table["Action"]) - set(ids)):
        raise SourceError(f"{file}: Action {unknown[0]!r} is none of {', '.join(class_names)}")
    labels = table["Action"].map(ids).to_numpy(np.int64)
    recording, number = (clip.recording, clip.trial) if clip else names_of(file)
    fps = clip.fps if clip else _rate(table["Time_s"].to_numpy(float))
    stim_frame = clip.stim_frame if clip else None
    return Trial(recording, number, labels, labels >= 0, fps, int(frames[0]), stim_frame, file=file)


def names_of(file: Path) -> tuple[str, int]:
    """Recording and trial, of prediction_<video file name>_<trial>.csv."""
    named = _named(file)
    if named is None:
        raise SourceError(f"{file}: expected a name like prediction_<video>_<trial>.csv")
    return named


def _named(file: Path) -> tuple[str, int] | None:
    match = re.fullmatch(r"prediction_(.+)_(\d+)\.csv", file.name)
    return (without_suffix(match[1]), int(match[2])) if match else None


def _rate(times_s: np.ndarray) -> float | None:
    known = np.flatnonzero(np.isfinite(times_s))
    if len(known) < 2 or times_s[known[-1]] <= times_s[known[0]]:
        return None
    return float((known[-1] - known[0]) / (times_s[known[-1]] - times_s[known[0]]))
