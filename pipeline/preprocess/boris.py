"""BORIS event exports: aggregated events (a row a bout) and tabular events (a row a START, STOP or POINT)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from pipeline.file_names import composed
from pipeline.preprocess.annotations import AnnotationError, whole_number
from pipeline.preprocess.clock import Clock
from pipeline.preprocess.spans import Span

_MEDIA = ("media file name", "media file path", "media file", "media file(s)", "player #1")
_NOTHING = ("", "na", "nan", "none")
_SAME_RATE = 5e-4  # of the frame rate: 29.97 and 30000/1001 are the same, 29.97 and 30 are not
_INDEX_SLACK = 1.5  # frames between an image index and its time
_MEDIA_SLACK_S = 1.0  # sound may end after the last picture

Row = tuple[int, list[str]]


@dataclass(frozen=True)
class Moment:
    """When an event began or ended: seconds of the observation, and the media's frame from 0; None: not given."""

    time_s: float | None
    image: int | None

    def __str__(self) -> str:
        return f"{self.time_s:.3f} s" if self.time_s is not None else f"image {self.image}"


@dataclass(frozen=True)
class Event:
    """A row of the file; kind: STATE (with its end), or START, STOP, POINT. media: its file's name without extension.

    Of the observation, where the file says so: fps, duration_s of the media, offset_s that its times may hold.
    """

    row: int
    kind: str
    behaviour: str
    subject: str
    observation: str
    media: str
    start: Moment
    stop: Moment
    fps: float | None
    duration_s: float | None
    offset_s: float
    live: bool

    def __str__(self) -> str:
        return f"row {self.row}: {self.behaviour} at {self.start}"


def is_header(titles: Sequence[str]) -> bool:
    """Whether these are the columns of aggregated or of tabular events."""
    known = {title.lower() for title in titles}
    return {"behavior", "start (s)", "stop (s)"} <= known or (
        {"behavior", "time"} <= known and bool({"status", "behavior type"} & known)
    )


def events_of(path: Path, titles: Sequence[str], rows: Iterable[Row], preamble: Mapping[str, str]) -> list[Event]:
    """All events of a file. preamble: what older versions say above the header, by names in lower case.

    Raises AnnotationError.
    """
    events = [_event(each) for each in _cells_of(path, titles, rows, preamble)]
    if not events:
        raise AnnotationError(f"{path}: no events below the header")
    return events


def media_of(path: Path, titles: Sequence[str], rows: Iterable[Row], preamble: Mapping[str, str]) -> set[str]:
    """The media's file names without extension, also of rows that are wrong otherwise."""
    return {each.media for each in _cells_of(path, titles, rows, preamble)} - {""}


def _cells_of(path: Path, titles: Sequence[str], rows: Iterable[Row], preamble: Mapping[str, str]) -> Iterator[_Cells]:
    places: dict[str, int] = {}
    for i, title in enumerate(titles):
        places.setdefault(title.lower(), i)
    return (_Cells(path, row, cells, places, preamble) for row, cells in rows)


def chosen(path: Path, events: Sequence[Event], recording: str, subject: str) -> list[Event]:
    """The events of a recording (by its media's name, where the file has any) and of a subject (empty: the only one).

    Raises AnnotationError where that does not leave one observation of one media file, and one subject.
    """
    recording = composed(recording)
    media = sorted({event.media for event in events if event.media})
    mine = [event for event in events if event.media == recording] if media else list(events)
    if not mine:
        raise AnnotationError(f"{path}: its events are of the media {_few(media)}; expected {recording}")
    observations = sorted({event.observation for event in mine})
    if len(observations) > 1:
        raise AnnotationError(f"{path}: several observations of {recording}: {_few(observations)}; export one of them")
    if observations[0]:
        also = sorted({e.media for e in events if e.observation == observations[0]} - {recording, ""})
        if media and also:
            raise AnnotationError(
                f"{path}: the observation {observations[0]} plays several media files, {recording} and {_few(also)}: "
                "its times do not count from the recording's start; make an observation for each"
            )
    nowhere = [event for event in events if not event.media and event.observation == observations[0]]
    if media and nowhere:
        raise AnnotationError(
            f"{path} {nowhere[0]}: it names no media file, others of its observation name {recording} "
            f"({len(nowhere)} such events); complete them, or delete them"
        )
    subjects = sorted({event.subject for event in mine})
    if subject and subject not in subjects:
        raise AnnotationError(f"{path}: no event of {subject} (--annotation-subject), found {_few(subjects)}")
    if not subject and len(subjects) > 1:
        raise AnnotationError(f"{path}: several subjects, {_few(subjects)}: choose one, --annotation-subject")
    return [event for event in mine if event.subject == (subject or subjects[0])]


def spans_of(
    path: Path, events: Sequence[Event], class_names: Sequence[str], clock: Clock, fps: float
) -> tuple[list[Span], tuple[str, ...]]:
    """The states of one observation in frames of the recording, and what to say of them. Raises AnnotationError.

    fps: frames/s where neither a video nor the file tells; 0 where nobody does. A moment with an image index is that
    frame, if BORIS counted frames at the recording's rate; another one the frame that is shown next to its time.
    """
    first = events[0]
    told = clock.fps
    clock = clock.with_rate(first.fps).with_rate(fps)
    seconds = clock.n_frames / clock.fps if clock.fps else None
    if told and seconds and first.duration_s and abs(first.duration_s - seconds) > _MEDIA_SLACK_S:
        raise AnnotationError(
            f"{path} {first}: its media lasts {first.duration_s:.1f} s, the recording {seconds:.1f} s: is it of "
            "another version of it?"
        )
    notes: tuple[str, ...] = ()
    indexed = not (first.fps and clock.fps) or abs(first.fps / clock.fps - 1) <= _SAME_RATE
    if not indexed:
        notes += (f"{path.name}: its media has {first.fps:g} frames/s, the recording {clock.fps:g}: by the times",)
    states, points = _states(path, events)
    if wrong := next((point for point in points if point.behaviour in class_names), None):
        raise AnnotationError(f"{path} {wrong} is a point event, which lasts for no frame; code it as a state event")
    if points:
        names = _few(sorted({point.behaviour for point in points}))
        notes += (f"{path.name}: {len(points)} point events ({names}) last for no frame, not used",)

    def frame(event: Event, moment: Moment) -> int:
        return _frame(path, event, moment if indexed else replace(moment, image=None), clock)

    spans = [
        Span(e.row, e.behaviour, frame(e, e.start), frame(e, e.stop), f"from {e.start} to {e.stop}") for e in states
    ]
    return spans, notes


class _Cells:
    """The cells of a row by the names of their columns, or of the lines above the header."""

    def __init__(
        self, path: Path, row: int, cells: list[str], places: Mapping[str, int], preamble: Mapping[str, str]
    ) -> None:
        self.path, self.row, self.cells, self.places, self.preamble = path, row, cells, places, preamble

    def text(self, *names: str) -> str:
        """The first column of these names that there is; nothing where there is none, or where it says so."""
        place = next((self.places[name] for name in names if name in self.places), None)
        above = next(filter(None, (self.preamble.get(name) for name in names)), "")
        text = self.cells[place] if place is not None else above
        return "" if text.lower() in _NOTHING else text

    def number(self, *names: str) -> float | None:
        """Raises AnnotationError for what is no finite number."""
        text = self.text(*names)
        if not text:
            return None
        try:
            value = float(text) if "_" not in text else math.nan
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise AnnotationError(f"{self.path} row {self.row}, column {names[0]}: {text[:40]!r} is not a number")
        return value

    def loose(self, *names: str) -> float | None:
        """A number above 0, or None for anything else: of what only helps to check."""
        try:
            value = self.number(*names)
        except AnnotationError:
            return None
        return value if value and value > 0 else None

    @property
    def media(self) -> str:
        """The file's name without folder and extension, composed."""
        return composed(PurePath(re.split(r"[/\\]", self.text(*_MEDIA))[-1]).stem)

    def moment(self, time: str, image: str) -> Moment:
        index = self.text(image)
        number = whole_number(index) if index else None
        if index and number is None:
            raise AnnotationError(f"{self.path} row {self.row}, column {image}: {index[:40]!r} is no frame number")
        return Moment(self.number(time), number)


def _event(cells: _Cells) -> Event:
    path, row = cells.path, cells.row
    aggregated = "start (s)" in cells.places
    start = cells.moment("start (s)", "image index start") if aggregated else cells.moment("time", "image index")
    stop = cells.moment("stop (s)", "image index stop") if aggregated else start
    kind = (cells.text("status") or cells.text("behavior type")).upper()
    if aggregated:
        kind = kind or ("POINT" if start == stop else "STATE")
    behaviour = cells.text("behavior")
    if not behaviour:
        raise AnnotationError(f"{path} row {row}: an event without a behaviour")
    if kind not in (("STATE", "POINT") if aggregated else ("START", "STOP", "POINT")):
        expected = "STATE or POINT" if aggregated else "START, STOP or POINT"
        raise AnnotationError(f"{path} row {row}: {behaviour} is {kind[:40]!r}, expected {expected}")
    if start == Moment(None, None):
        raise AnnotationError(f"{path} row {row}: {behaviour} has neither a time nor an image index")
    event = Event(
        row=row,
        kind=kind,
        behaviour=behaviour,
        subject=cells.text("subject"),
        observation=cells.text("observation id"),
        media=cells.media,
        start=start,
        stop=stop,
        fps=cells.loose("fps (frame/s)", "fps"),
        duration_s=cells.loose("media duration (s)", "total length"),
        offset_s=cells.number("time offset (s)", "time offset") or 0.0,
        live=cells.text("observation type").lower().startswith("live"),
    )
    if kind == "STATE" and stop == Moment(None, None):
        raise AnnotationError(f"{path} {event} is never stopped; stop it in BORIS and export again")
    return event


def _states(path: Path, events: Sequence[Event]) -> tuple[list[Event], list[Event]]:
    """States with their ends, and points. Raises AnnotationError for what begins twice or does not end."""
    states: list[Event] = []
    points: list[Event] = []
    going: dict[str, Event] = {}
    for event in events:
        if event.kind in ("STATE", "POINT"):
            (states if event.kind == "STATE" else points).append(event)
        elif event.kind == "START":
            if before := going.get(event.behaviour):
                raise AnnotationError(f"{path} {event} starts, but that of row {before.row} has not been stopped")
            going[event.behaviour] = event
        elif begun := going.pop(event.behaviour, None):
            states.append(replace(begun, kind="STATE", stop=event.start))
        else:
            raise AnnotationError(f"{path} {event} stops, but has not been started")
    for event in going.values():
        raise AnnotationError(f"{path} {event} is never stopped; stop it in BORIS and export again")
    return states, points


def _frame(path: Path, event: Event, moment: Moment, clock: Clock) -> int:
    if moment.image is not None:
        if moment.time_s is not None and clock.fps and not event.offset_s:
            by_time = clock.frame_at(moment.time_s)
            if abs(by_time - moment.image) > _INDEX_SLACK:
                raise AnnotationError(
                    f"{path} {event}: image index {moment.image}, but at {moment} frame {by_time} is shown"
                )
        return moment.image
    if event.live:
        raise AnnotationError(f"{path} {event}: a live observation; its times are not those of a video")
    if moment.time_s is None:
        raise AnnotationError(f"{path} {event}: its end or its begin has no time")
    if event.offset_s:
        raise AnnotationError(
            f"{path} {event}: its observation has a time offset of {event.offset_s:g} s, and nothing tells whether the "
            "times hold it: set it to 0 in BORIS and export again"
        )
    if not clock.fps:
        raise AnnotationError(
            f"{path} {event}: no frame rate to count its time by, since there is no video: --annotation-fps"
        )
    return clock.frame_at(moment.time_s)


def _few(names: Sequence[str]) -> str:
    return ", ".join(name or "(none)" for name in names[:5]) + (" ..." if len(names) > 5 else "")
