"""Bouts as BORIS 8 has them: the table of its export of aggregated events, and a project that it opens.

A bout is a state event from the time of its first frame to that of the frame after its last, both the frame's number in
the video over the frame rate, in seconds with 3 decimals. The numbers themselves stand beside them.
"""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.export.paths import beside
from pipeline.export.recordings import Recording
from pipeline.export.started import Started
from pipeline.pictures import class_colours
from pipeline.train.run_folder import write_text

PROJECT = "project.boris"
NOT_KNOWN = "NA"
NO_SUBJECT = "No focal subject"
# The header of BORIS 8.27's aggregated events, without variables and modifiers.
COLUMNS = (
    "Observation id", "Observation date", "Description", "Observation type", "Source", "Time offset (s)",
    "Coding duration", "Media duration (s)", "FPS (frame/s)", "Subject",
    "Observation duration by subject by observation", "Behavior", "Behavioral category", "Behavior type", "Start (s)",
    "Stop (s)", "Duration (s)", "Media file name", "Image index start", "Image index stop", "Image file path start",
    "Image file path stop", "Comment start", "Comment stop",
)  # fmt: skip
_PROJECT_VERSION = "7.0"  # of the format: that of BORIS 7 to 9
_PLAYERS = 8
_KEYS = string.digits[1:] + string.ascii_lowercase


@dataclass(frozen=True)
class Event:
    """A bout in frames [start, stop) of the video."""

    behaviour: str
    start: int
    stop: int
    trial: int


def events_of(recording: Recording) -> list[Event]:
    """In order of time; a bout that reaches over a trial's end is two."""
    return [
        Event(recording.class_names[bout.class_id], said.start + bout.start, said.start + bout.stop, said.trial.trial)
        for said in recording.trials
        for bout in said.bouts
    ]


def shown_s(recording: Recording, frame: int) -> float:
    """When a frame is shown, to the millisecond: at a variable frame rate too."""
    return round(float(recording.times_s[frame]), 3)


def seconds(frame: int, fps: float) -> float:
    """The time of a frame, to the millisecond."""
    return round(frame / fps, 3)


def events_table(recording: Recording, started: Started | None, folder: Path) -> pd.DataFrame:
    """A row per bout, with COLUMNS. folder: where the table will lie, from which the video is named."""
    fps, events = recording.rate, events_of(recording)
    media = _media(recording, folder)
    duration = f"{seconds(recording.n_frames, fps):.3f}"
    observed = sum(shown_s(recording, e.stop) - shown_s(recording, e.start) for e in events)
    same = {
        "Observation id": recording.name,
        "Observation date": _date(started).replace("T", " "),
        "Description": recording.what,
        "Observation type": "Media file" if media else "Live observation",
        "Source": f"player #1:{media}" if media else NOT_KNOWN,
        "Time offset (s)": "0.0",
        "Coding duration": duration,
        "Media duration (s)": duration if media else NOT_KNOWN,
        "FPS (frame/s)": f"{fps:.3f}" if media else NOT_KNOWN,
        "Subject": recording.subject or NO_SUBJECT,
        "Observation duration by subject by observation": str(round(observed, 3)),
        "Behavioral category": "Not defined",
        "Behavior type": "STATE",
        "Media file name": media or NOT_KNOWN,
    }
    rows = [same | _cells(event, recording) for event in events]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object).fillna("")


def write_events(recording: Recording, started: Started | None, path: Path) -> None:
    """The table as CSV, whole or not at all. Raises ExportError where no frame rate is known."""
    table = events_table(recording, started, path.parent)
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def observation(recording: Recording, started: Started | None, folder: Path) -> dict[str, Any]:
    """The recording in a project. One without a video is a live observation, which has no frames."""
    fps, media = recording.rate, _media(recording, folder)
    common: dict[str, Any] = {
        "date": _date(started),
        "description": " ".join([recording.what, *recording.notes]),
        "time offset": 0.0,
        "independent_variables": {},
        "events": _project_events(recording, with_frames=bool(media)),
        "visualize_spectrogram": False,
        "close_behaviors_between_videos": False,
    }
    if not media:
        return common | {"type": "LIVE", "file": [], "scan_sampling_time": 0, "media_info": {"offset": {}}}
    duration = seconds(recording.n_frames, fps)
    players = [str(number + 1) for number in range(_PLAYERS)]
    info: dict[str, Any] = {"length": duration, "fps": fps, "hasVideo": True, "hasAudio": False}
    return common | {
        "type": "MEDIA",
        "file": {player: [media] if player == "1" else [] for player in players},
        "media_info": {name: {media: value} for name, value in info.items()} | {"offset": dict.fromkeys(players, 0.0)},
    }


def project(
    class_names: Sequence[str], subjects: Sequence[str], observations: dict[str, dict[str, Any]], what: str
) -> dict[str, Any]:
    """A whole project: its ethogram, subjects (without the empty one) and observations by their names."""
    keys = dict(enumerate(_KEYS))
    ethogram = {
        str(i): {
            "type": "State event", "key": keys.get(i, ""), "code": name, "description": "", "color": colour,
            "category": "", "modifiers": {}, "excluded": "", "coding map": "",
        }
        for i, (name, colour) in enumerate(zip(class_names, class_colours(len(class_names)), strict=True))
    }  # fmt: skip
    named = sorted({subject for subject in subjects if subject})
    return {
        "time_format": "s",
        "project_name": "paw-pipeline",
        "project_date": max((each["date"] for each in observations.values()), default=""),
        "project_description": what,
        "project_format_version": _PROJECT_VERSION,
        "subjects_conf": {str(i): {"key": "", "name": name, "description": ""} for i, name in enumerate(named)},
        "behaviors_conf": ethogram,
        "observations": observations,
        "behavioral_categories": [],
        "behavioral_categories_config": {},
        "independent_variables": {},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
    }


def write_project(content: dict[str, Any], path: Path) -> None:
    """In ASCII, since BORIS reads the file in the machine's own encoding."""
    write_text(path, json.dumps(content, indent=1))


def _cells(event: Event, recording: Recording) -> dict[str, str]:
    start, stop = shown_s(recording, event.start), shown_s(recording, event.stop)
    return {
        "Behavior": event.behaviour,
        "Start (s)": f"{start:.3f}",
        "Stop (s)": f"{stop:.3f}",
        "Duration (s)": f"{stop - start:.3f}",
        "Image index start": str(event.start),
        "Image index stop": str(event.stop),
        "Comment start": f"trial {event.trial}",
        "Comment stop": f"trial {event.trial}",
    }


def _project_events(recording: Recording, *, with_frames: bool) -> list[list[Any]]:
    """[time, subject, behaviour, modifier, comment, frame]; of two at one frame, what stops comes first."""
    marks = []
    for event in events_of(recording):
        comment = f"trial {event.trial}"
        marks += [(event.start, 1, event.behaviour, comment), (event.stop, 0, event.behaviour, comment)]
    marks.sort(key=lambda mark: mark[:2])
    return [
        [shown_s(recording, frame), recording.subject, behaviour, "", comment, *([frame] if with_frames else [])]
        for frame, _, behaviour, comment in marks
    ]


def _media(recording: Recording, folder: Path) -> str:
    """The video as seen from a folder, or where it was; empty where there is none."""
    video = recording.video
    return (beside(video.path, folder) if video.facts else str(video.path)) if video else ""


def _date(started: Started | None) -> str:
    """As BORIS writes it; it knows no time zones. Empty: not known."""
    return started.time.strftime("%Y-%m-%dT%H:%M:%S") if started else ""
