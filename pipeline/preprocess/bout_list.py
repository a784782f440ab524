"""Bout lists of the Caltech Behavior Annotator: streams of `start end type`, in frames from 1, ends included.

S1:     start   end     type
-----------------------------
        1       634     base
        635     1034    social
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.preprocess.annotations import MAX_FRAME, AnnotationError
from pipeline.preprocess.spans import Span
from pipeline.preprocess.text_table import read_lines

_TITLE = "Caltech Behavior Annotator"
_COLUMNS = ["start", "end", "type"]


def is_header(titles: Sequence[str]) -> bool:
    """Whether the first line is that of such a file."""
    return titles[:1] != () and titles[0].startswith(_TITLE)


def read(path: Path, stream: str) -> list[Span]:
    """The bouts of a stream; of an empty name those of the only one. Raises AnnotationError.

    Raises ValueError with the reason (without the file's name) for what is no text.
    """
    streams: dict[str, list[Span]] = {}
    bouts: list[Span] | None = None
    for row, line in enumerate(read_lines(path), start=1):
        cells = line.split()
        if cells[1:] == _COLUMNS and cells[0].endswith(":"):
            name = cells[0][:-1]
            if name in streams:
                raise AnnotationError(f"{path} row {row}: a second stream {name}")
            bouts = streams[name] = []
        elif bouts is not None and cells and set(line.strip()) != {"-"}:
            bouts.append(_bout(path, row, cells))
    named = ", ".join(streams)
    if not any(streams.values()):
        raise AnnotationError(f"{path}: no bouts below a line `S1: start end type`")
    if stream and stream not in streams:
        raise AnnotationError(f"{path}: no stream {stream} (--annotation-subject), found {named}")
    if not stream and len(streams) > 1:
        raise AnnotationError(f"{path}: several streams, {named}: choose one, --annotation-subject")
    return streams[stream or named]


def _bout(path: Path, row: int, cells: list[str]) -> Span:
    if len(cells) != 3 or not all(cell.isascii() and cell.isdecimal() and len(cell) < 11 for cell in cells[:2]):
        raise AnnotationError(f"{path} row {row}: {' '.join(cells)[:60]!r}, expected start, end and type of a bout")
    first, last = int(cells[0]), int(cells[1])
    if not 1 <= first <= last <= MAX_FRAME:
        raise AnnotationError(f"{path} row {row}: a bout from {first} to {last}; frames count from 1, the end included")
    return Span(row, cells[2], first - 1, last, f"from {first} to {last}")
