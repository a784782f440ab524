"""Bouts as BORIS has them, and back: frame by frame, at whatever frame rate."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.export import boris
from pipeline.export.boris import COLUMNS, PROJECT, events_table, observation
from pipeline.export.formats import Format
from pipeline.export.recordings import ExportError, Recording, Said
from pipeline.export.stage import Asked, export
from pipeline.export.started import Started
from pipeline.pictures import class_colours
from pipeline.tables.sources import Trial
from tables_lab import CLASSES, lived, random_lab, write_cache, write_predictions

AT = Started(datetime(2026, 5, 4, 10, 30, tzinfo=UTC))


def recording(trials: list[tuple[int, np.ndarray]], fps: float | None, subject: str = "") -> Recording:
    """Of trials (start, labels), without a video."""
    said = []
    for number, (start, labels) in enumerate(trials, 1):
        trial = Trial("m", number, labels, labels >= 0, fps, 0)
        said.append(Said(trial, start, np.full(len(labels), np.nan), None, None, None))
    n_frames = max(start + len(labels) for start, labels in trials)
    return Recording("m", subject, CLASSES, "people's labels", fps, n_frames, None, tuple(said))


def read_table(table: pd.DataFrame, n_frames: int, fps: float) -> np.ndarray:
    """Labels (n_frames,) of the times alone."""
    labels = np.full(n_frames, -1)
    for row in table.to_dict("records"):
        start, stop = (round(float(row[name]) * fps) for name in ("Start (s)", "Stop (s)"))
        assert (labels[start:stop] == -1).all()
        labels[start:stop] = CLASSES.index(row["Behavior"])
    return labels


def read_project(observation: dict[str, Any], n_frames: int, fps: float) -> np.ndarray:
    """As BORIS reads state events: of each behaviour every other event stops it, in the order of the file."""
    labels, running = np.full(n_frames, -1), {}
    for time_s, _, behaviour, _, _ in observation["events"]:
        frame = round(time_s * fps)
        if behaviour in running:
            labels[running.pop(behaviour) : frame] = CLASSES.index(behaviour)
        else:
            assert not running, "a bout begins before the last one has stopped"
            running[behaviour] = frame
    assert not running
    return labels


@st.composite
def trials(draw: st.DrawFn) -> list[tuple[int, np.ndarray]]:
    """Up to three, maybe with gaps between them and late in a long video."""
    found, start = [], draw(st.sampled_from([0, 1, 15, 324_000]))
    for _ in range(draw(st.integers(1, 3))):
        runs = draw(st.lists(st.tuples(st.integers(-1, 2), st.integers(1, 7)), min_size=1, max_size=12))
        labels = np.concatenate([np.full(n, label) for label, n in runs])
        start += draw(st.sampled_from([0, 0, 5]))
        found.append((start, labels))
        start += len(labels)
    return found


@settings(deadline=None, max_examples=60)
@given(trials(), st.sampled_from([29.97, 30000 / 1001, 59.94, 25.0, 500.0]))
def test_labels_come_back_from_times_alone(trials: list[tuple[int, np.ndarray]], fps: float) -> None:
    made = recording(trials, fps)
    expected = np.full(made.n_frames, -1)
    for start, labels in trials:
        expected[start : start + len(labels)] = labels
    table = events_table(made, AT, Path())
    np.testing.assert_array_equal(read_table(table, made.n_frames, fps), expected)
    np.testing.assert_array_equal(read_project(observation(made, AT, Path()), made.n_frames, fps), expected)
    by_frame = np.full(made.n_frames, -1)
    for name, start, stop in table[["Behavior", "Image index start", "Image index stop"]].to_numpy():
        by_frame[int(start) : int(stop)] = CLASSES.index(name)
    np.testing.assert_array_equal(by_frame, expected)


def test_a_row_in_full() -> None:
    made = recording([(30, np.array([1, 1, 1, 0]))], 29.97, subject="1M")
    row = events_table(made, AT, Path()).iloc[0]
    assert tuple(row.index) == COLUMNS
    assert row[["Start (s)", "Stop (s)", "Duration (s)"]].tolist() == ["1.001", "1.101", "0.100"]
    assert row[["Image index start", "Image index stop", "Comment start"]].tolist() == ["30", "33", "trial 1"]
    assert row[["Subject", "Observation date", "Behavior type"]].tolist() == ["1M", "2026-05-04 10:30:00", "STATE"]


def test_without_a_rate_there_are_no_times() -> None:
    with pytest.raises(ExportError, match="--fps gives one"):
        events_table(recording([(0, np.array([0]))], None), AT, Path())


def test_people_s_labels_of_a_cache_come_back(tmp_path: Path) -> None:
    lab = random_lab(3, animals=2)
    made = export(Asked(Format.BORIS, cache=write_cache(tmp_path / "c", lab, fps=29.97)), tmp_path / "out")
    assert made.exit_code == 0
    for name, lived_trials in lab.items():
        table = pd.read_csv(tmp_path / "out" / "boris" / f"{name}.csv", dtype=str)
        expected = np.full(60 * len(lived_trials), -1)
        for number, trial in enumerate(lived_trials):
            kept = np.setdiff1d(np.arange(trial.crop, 60), trial.damaged)
            expected[60 * number + kept] = trial.labels[kept]
        np.testing.assert_array_equal(read_table(table, len(expected), 29.97), expected)


def test_the_project_holds_what_the_tables_hold(tmp_path: Path, filmed) -> None:
    asked = Asked(Format.BORIS, filmed.predicted, group_by=r"_(\d+M)", session_start="2026-05-04T10:30:00+02:00")
    export(asked, tmp_path)
    raw = (tmp_path / "boris" / PROJECT).read_bytes()
    assert raw.isascii()
    project = json.loads(raw)
    ethogram = project["behaviors_conf"]
    assert [(e["code"], e["type"]) for e in ethogram.values()] == [(name, "State event") for name in CLASSES]
    assert [e["color"] for e in ethogram.values()] == class_colours(3)
    assert [s["name"] for s in project["subjects_conf"].values()] == ["1M"]
    (seen,) = project["observations"].values()
    (media,) = seen["file"]["1"]
    assert (tmp_path / "boris" / media).samefile(filmed.videos / "m_1M.mp4")
    info = seen["media_info"]
    assert (info["fps"][media], info["length"][media]) == (30.0, round(130 / 30, 3))
    assert {event[1] for event in seen["events"]} == {"1M"}
    starts: dict[str, list[int]] = defaultdict(list)
    for _, _, behaviour, _, _, frame in seen["events"]:
        starts[behaviour].append(frame)
    labels = np.full(130, -1)
    for behaviour, frames in starts.items():
        for start, stop in zip(frames[::2], frames[1::2], strict=True):
            labels[start:stop] = CLASSES.index(behaviour)
    np.testing.assert_array_equal(labels, filmed.said)


def test_a_recording_without_a_video_is_a_live_observation(tmp_path: Path) -> None:
    made = recording([(0, np.array([1, 1, 0]))], 30.0)
    seen = observation(made, None, tmp_path)
    assert (seen["type"], seen["file"], seen["date"]) == ("LIVE", [], "")
    assert seen["events"][0] == [0.0, "", "lick", "", "trial 1"]


def test_keys_are_told_apart() -> None:
    names = [f"behaviour {i}" for i in range(40)]
    keys = [e["key"] for e in boris.project(names, [], {}, "")["behaviors_conf"].values()]
    assert len(set(keys[:35])) == 35
    assert keys[35:] == [""] * 5


def test_a_video_that_is_gone_keeps_its_path(tmp_path: Path) -> None:
    folder = write_predictions(tmp_path / "p", {"m": [lived((1, 5, 9))]})
    export(Asked(Format.BORIS, folder), tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "boris" / "m.csv", keep_default_na=False)
    assert set(table["Media file name"]) == {"m.mp4"}
    assert set(table["Observation date"]) == {""}
