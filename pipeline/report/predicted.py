"""What a report says of a folder of `pipeline predict`: from its tables alone, a chunk of bouts at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.predict.exports import TABLES
from pipeline.predict.records import ABOUT, BOUTS, PredictFolder
from pipeline.report import about, made
from pipeline.report.content import DASH, Cell, Note, Report, Section, Table, count, number, share, text
from pipeline.report.ethogram import Row, ethogram
from pipeline.report.folders import ReportError
from pipeline.tables.predicted import names_of, read_class_names, told_class_names

_COLUMNS = ("recording", "trial", "action", "start_frame", "stop_frame", "duration_s", "mean_probability")
PREDICTED = "predicted"


def of_prediction(folder: Path, refused: Mapping[str, str] | None = None) -> Report:
    """Ethograms, bouts and times of all trials. refused: recording -> why nothing was predicted of it.

    Reads bouts.csv, the names of the trials' tables and the first line of one. Raises ReportError.
    """
    every = sorted((folder / TABLES).glob("prediction_*.csv"))
    asked = PredictFolder(folder).tables_asked()
    files = every if asked is None else [file for file in every if file.name in asked]
    known = made.read(folder)
    class_names = read_class_names(files[0], told_class_names(folder)) if files else ()
    bouts = _read(folder / BOUTS, class_names)
    trials = dict.fromkeys(map(names_of, files))
    rows: dict[Any, pd.DataFrame] = dict(iter(bouts.groupby(["recording", "trial"], sort=False)))
    by_trial: dict[tuple[str, int], pd.DataFrame | None] = {n: rows.get(n) for n in sorted({*trials, *rows})}
    facts = about.facts(known)
    facts |= {"Models": ", ".join(known.models)} if known.models else {}
    facts |= {"Labels by": known.labels_by} if known.labels_by else {}
    facts["Trials"] = f"{len(by_trial):,} of {len({recording for recording, _ in by_trial}):,} recordings"
    if len(every) > len(files):
        others = len(every) - len(files)
        facts["Not in this report"] = f"{others:,} trials of recordings that only earlier calls were asked for"
    report = Report("Prediction report", folder.resolve().name, facts)
    left_out = [(name, "", why) for name, why in (refused or {}).items()] + [tuple(row) for row in known.left_out]
    report.sections.extend([_left_out(list(dict.fromkeys(left_out)))] if left_out else [])
    if by_trial:
        report.sections.extend(_predicted(by_trial, bouts, class_names))
    else:
        report.sections.append(Section("Predictions", [Note("There is no trial in this folder.")]))
    if settings := _record(folder / ABOUT):
        table = Table(("setting", "value"), [[text(name), text(value)] for name, value in settings.items()])
        report.sections.append(Section("Settings of the prediction", [table], folded=True))
    report.sections.append(about.versions_section(known))
    return report


def _predicted(
    by_trial: Mapping[tuple[str, int], pd.DataFrame | None], bouts: pd.DataFrame, names: tuple[str, ...]
) -> list[Section]:
    note = Note(
        "No people's labels are here, so nothing says how good these are: see the report of the model's own run or "
        "cross-validation. Certainty is the probability that the model gives to the behaviour it names, over its "
        "bouts' frames; it is no chance of being right unless the model is calibrated."
    )
    return [
        Section("Behaviours", [note, _per_class(bouts, names)]),
        Section("Ethograms", [_ethogram(by_trial, names)]),
        Section("Trials", [_per_trial(by_trial, names)]),
    ]


def _per_class(bouts: pd.DataFrame, names: tuple[str, ...]) -> Table:
    total = int(bouts["frames"].sum())
    rows = []
    for i, name in enumerate(names):
        own = bouts[bouts["class"] == i]
        seconds = own["duration_s"]
        n_trials = len(own[["recording", "trial"]].drop_duplicates())
        known = bool(len(own)) and bool(seconds.notna().all())
        rows.append(
            [
                text(name), count(len(own)), count(n_trials), count(int(own["frames"].sum())),
                share(own["frames"].sum() / total if total else None), number(seconds.sum() if known else None, 1),
                number(seconds.median() if known else None, 2), number(_certainty(own)),
            ]
        )  # fmt: skip
    columns = ("class", "bouts", "trials with it", "frames", "share of the frames", "time (s)", "median bout (s)")
    return Table([*columns, "mean certainty"], rows, f"{DASH}: no bout, or no frame rate to tell the time by.")


def _per_trial(by_trial: Mapping[tuple[str, int], pd.DataFrame | None], names: tuple[str, ...]) -> Table:
    in_seconds = all(own is None or own["duration_s"].notna().all() for own in by_trial.values())
    unit = "s" if in_seconds else "frames"
    rows = []
    for (recording, trial), own in by_trial.items():
        row = [text(recording), count(trial)]
        if own is None:
            rows.append([*row, *[Cell(DASH, None)] * (len(names) + 2)])
            continue
        values = own["duration_s"] if in_seconds else own["frames"]
        times = np.bincount(own["class"], values, minlength=len(names))
        row += [count(len(own)), number(_certainty(own)), *(number(t, 2 if in_seconds else 0) for t in times)]
        rows.append(row)
    columns = ["recording", "trial", "bouts", "mean certainty", *(f"{name} ({unit})" for name in names)]
    return Table(columns, rows, f"Time in each behaviour. {DASH}: nothing could be said of any frame.")


def _ethogram(by_trial: Mapping[tuple[str, int], pd.DataFrame | None], names: tuple[str, ...]) -> Any:
    rows = (
        Row(recording, trial, _rate(own), {PREDICTED: _lane(own)})
        for (recording, trial), own in by_trial.items()
        if own is not None
    )
    caption = "What is predicted. White: damaged frames. On paper: the trials that are chosen."
    return ethogram(rows, names, [PREDICTED], caption)


def _lane(own: pd.DataFrame) -> np.ndarray:
    return own[["class", "start_frame", "stop_frame"]].to_numpy(np.int64)


def _rate(own: pd.DataFrame) -> float | None:
    """Frames per second, from the longest bout, whose rounded duration tells it best."""
    longest = int(own["frames"].to_numpy().argmax())
    frames, seconds = float(own["frames"].iloc[longest]), float(own["duration_s"].iloc[longest])
    return frames / seconds if seconds > 0 else None


def _certainty(own: pd.DataFrame) -> float | None:
    """Mean over the frames of the bouts."""
    known = own[own["mean_probability"].notna()]
    frames = known["frames"].sum()
    return float((known["mean_probability"] * known["frames"]).sum() / frames) if frames else None


def _left_out(rows: list[tuple[str, ...]]) -> Section:
    cells = [[text(recording), text(trial or "all"), text(why)] for recording, trial, why in rows]
    return Section("Left out", [Table(("recording", "trial", "reason"), cells)])


def _read(path: Path, names: tuple[str, ...]) -> pd.DataFrame:
    """The bouts, with `class` (an index of names) in place of the action, and frames; some bytes a bout in memory."""
    if not path.is_file():
        raise ReportError(f"{path}: not there; `pipeline predict` writes it, and goes on where it was interrupted")
    ids = {name: i for i, name in enumerate(names)}
    options: dict[str, Any] = {"dtype": {"recording": str, "action": str}, "keep_default_na": False}
    options |= {"na_values": {"duration_s": [""], "mean_probability": [""]}, "chunksize": 100_000}
    parts = []
    try:
        for part in pd.read_csv(path, usecols=list(_COLUMNS), **options):
            part["class"] = part.pop("action").map(ids)
            part["frames"] = part["stop_frame"] - part["start_frame"]
            part["recording"] = part["recording"].astype("category")
            parts.append(part)
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: expected the columns {', '.join(_COLUMNS)} ({error})") from None
    bouts = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*_COLUMNS, "class", "frames"])
    if bouts["class"].isna().any():
        raise ReportError(f"{path}: names behaviours that {TABLES}/ does not; expected one of {', '.join(names)}")
    return bouts.assign(recording=bouts["recording"].astype(str), **{"class": bouts["class"].astype(np.int64)})


def _record(path: Path) -> dict[str, Any]:
    """What `predict` says of itself, nested keys joined by dots; empty where it says nothing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return dict(_flat(content)) if isinstance(content, dict) else {}


def _flat(content: Mapping[str, Any], before: str = "") -> Any:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", ", ".join(map(str, value)) if isinstance(value, list) else value
