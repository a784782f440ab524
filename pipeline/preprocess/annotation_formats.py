"""Which program's file an annotation is, by its header, and its labels whatever the format."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.clip import UNLABELLED
from pipeline.preprocess import boris, bout_list, one_hot
from pipeline.preprocess.annotations import (
    MAX_BYTES,
    Annotation,
    AnnotationError,
    Gaps,
    is_frames_header,
    read_annotation,
    require_size,
)
from pipeline.preprocess.clock import Clock
from pipeline.preprocess.spans import lay
from pipeline.preprocess.text_table import read_lines, rows_below
from pipeline.preprocess_settings import ANNOTATION_FORMATS, PreprocessSettings
from pipeline.setting_texts import SettingsError, parse_list

EVENTS = ("boris", "bouts")  # formats that tell of a whole recording
_DELIMITERS = ",;\t"
_MOST_PREAMBLE = 100  # lines before a header


@dataclass(frozen=True)
class Header:
    """format: one of ANNOTATION_FORMATS. line: where its titles stand, from 0; delimiter: what parts them.

    preamble: first -> second cell of the lines above, in lower case.
    """

    format: str
    line: int
    titles: tuple[str, ...]
    delimiter: str
    preamble: Mapping[str, str]


def header_of(path: Path, settings: PreprocessSettings) -> Header | None:
    """The first line that is the header of a known format, or of the one that the settings name; None without any.

    Raises ValueError with the reason (without the file's name), also for a header of several formats.
    """
    wanted = settings.annotation_format
    formats = ANNOTATION_FORMATS[1:] if wanted == "auto" else (wanted,)
    class_names = parse_list(settings.classes, "classes")
    preamble: dict[str, str] = {}
    for i, line in enumerate(read_lines(path, _MOST_PREAMBLE)):
        if not line.strip():
            continue
        delimiter = max(_DELIMITERS, key=line.count)
        titles = _titles(line, delimiter)
        fits = [name for name in formats if _fits(name, titles, class_names, not preamble)]
        if len(fits) > 1:
            raise ValueError(f"line {i + 1}: the header of several formats, {' and '.join(fits)}: --annotation-format")
        if fits:
            return Header(fits[0], i, titles, delimiter, preamble)
        preamble[titles[0].lower().rstrip(":") if titles else ""] = titles[1] if len(titles) > 1 else ""
    return None


def format_of(path: Path, settings: PreprocessSettings) -> str | None:
    """What `read_labels` would read the file as; None where it cannot tell, and would raise."""
    try:
        header = header_of(path, settings)
    except ValueError:
        return None
    return header.format if header else None


def gaps_of(settings: PreprocessSettings) -> Gaps:
    """Raises SettingsError for a background that is no class."""
    class_names, background = parse_list(settings.classes, "classes"), settings.annotation_background
    if not background:
        return Gaps(None, UNLABELLED)
    if background not in class_names:
        raise SettingsError(f"--annotation-background {background}: expected one of {', '.join(class_names)}")
    return Gaps(background, class_names.index(background))


def read_labels(path: Path, settings: PreprocessSettings, recording: str, clock: Callable[[], Clock]) -> Annotation:
    """An annotation in whatever format it is, of the recording of that name. Raises AnnotationError.

    EVENTS give a label for each frame of the recording, by the clock; the other formats one a row.
    """
    try:
        header = header_of(path, settings)
        if header and header.format == "onehot":
            require_size(path, one_hot.MAX_BYTES)
            rows = rows_below(path, header.line + 1, header.delimiter, len(header.titles), keep_empty=True)
            return one_hot.read(path, header.titles, rows, parse_list(settings.classes, "classes"), gaps_of(settings))
        if header and header.format in EVENTS:
            require_size(path, MAX_BYTES)
            return _laid(path, header, settings, recording, clock())
    except AnnotationError:
        raise
    except ValueError as error:
        raise AnnotationError(f"{path} {error}") from None
    if header is None and settings.annotation_format not in ("auto", "frames"):
        raise AnnotationError(f"{path}: it has no header of --annotation-format {settings.annotation_format}")
    return read_annotation(path, parse_list(settings.classes, "classes"))


def _laid(path: Path, header: Header, settings: PreprocessSettings, recording: str, clock: Clock) -> Annotation:
    """Events of a recording as labels of its frames."""
    class_names = parse_list(settings.classes, "classes")
    notes: tuple[str, ...] = ()
    if header.format == "bouts":
        spans = bout_list.read(path, settings.annotation_subject)
    else:
        events = boris.chosen(path, _events(path, header), recording, settings.annotation_subject)
        spans, notes = boris.spans_of(path, events, class_names, clock, settings.annotation_fps)
    labels, said = lay(path, spans, clock.n_frames, class_names, gaps_of(settings), settings.annotation_slack)
    return Annotation(labels, format=header.format, notes=(*notes, *said))


def recordings_named_in(path: Path, header: Header) -> set[str]:
    """The stems of the videos that a BORIS file says its events are of. Raises ValueError."""
    rows = rows_below(path, header.line + 1, header.delimiter, len(header.titles))
    return boris.media_of(path, header.titles, rows, header.preamble)


def _events(path: Path, header: Header) -> list[boris.Event]:
    rows = rows_below(path, header.line + 1, header.delimiter, len(header.titles))
    return boris.events_of(path, header.titles, rows, header.preamble)


def _titles(line: str, delimiter: str) -> tuple[str, ...]:
    try:
        return tuple(cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), []))
    except csv.Error:
        return ()


def _fits(name: str, titles: tuple[str, ...], class_names: Sequence[str], is_first: bool) -> bool:
    """Whether these are the titles of that format; of most only the first line can be that."""
    if name == "boris":
        return boris.is_header(titles)
    if not is_first:
        return False
    if name == "frames":
        return is_frames_header(titles)
    return bout_list.is_header(titles) if name == "bouts" else one_hot.is_header(titles, class_names)
