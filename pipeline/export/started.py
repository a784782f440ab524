"""When a recording began: as it is given, or as its video tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pipeline import lab_tables
from pipeline.export.recordings import Recording
from pipeline.file_names import composed, without_suffix
from pipeline.lab_tables import Row
from pipeline.preprocess.probe import opened
from pipeline.setting_texts import SettingsError

_EXAMPLE = "2026-05-04T10:30:00+02:00"


@dataclass(frozen=True)
class Started:
    """time: with its zone. note: what it was taken from, where it was not given."""

    time: datetime
    note: str = ""


def read_starts(given: str) -> Mapping[str, datetime]:
    """What --session-start gives: a time for all recordings (under the name ""), or a table recording,session_start.

    Raises SettingsError and TableError.
    """
    if not given:
        return {}
    path = Path(given)
    if not path.is_file():
        return {"": _time(given, f"--session-start {given}")}
    expected = "columns recording,session_start"
    header, rows = lab_tables.read(path, expected)
    lab_tables.require(path, header, ("recording", "session_start"), expected)
    starts: dict[str, datetime] = {}
    first: dict[str, Row] = {}
    for row in rows:
        name = without_suffix(lab_tables.filled(path, row, "recording"))
        lab_tables.require_agreement(path, first.setdefault(name, row), row, name, ("session_start",))
        starts[name] = _time(lab_tables.filled(path, row, "session_start"), f"{path} row {row.number}")
    return starts


def started(recording: Recording, given: Mapping[str, datetime]) -> Started | None:
    """None where nothing tells it. Raises VideoError where the video cannot be read."""
    if time := given.get(composed(recording.name), given.get("")):
        return Started(time)
    video = recording.video
    if not video or not video.facts:
        return None
    with opened(video.path) as container:
        tag = str(container.metadata.get("creation_time", ""))
    try:
        time = _time(tag, "")
        if time.year > 1970:  # what encoders write who do not know
            return Started(time, f"the start is the creation time in {video.path.name}: not given, maybe of a copy")
    except SettingsError:
        pass
    time = datetime.fromtimestamp(int(video.path.stat().st_mtime)).astimezone()
    return Started(time, f"the start is the date of the file {video.path.name}: not given, and maybe that of a copy")


def _time(given: str, where: str) -> datetime:
    try:
        time = datetime.fromisoformat(given)
    except ValueError:
        raise SettingsError(f"{where}: {given!r}: expected a time like {_EXAMPLE}, or a table") from None
    if time.tzinfo is None:
        raise SettingsError(f"{where}: {given!r}: has no time zone; expected a time like {_EXAMPLE}")
    return time
