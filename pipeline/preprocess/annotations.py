"""Annotation tables: one behaviour for every frame of a trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.clip import UNLABELLED
from pipeline.preprocess.text_table import read_rows, require_content

_EMPTY = ("", "nan", "na")  # pandas' and R's words for nothing
MAX_FRAME = 2**31 - 1  # a larger number is a time stamp, or damage
MAX_BYTES = 2**25  # of an annotation: about a day at 30 frames/s, which takes a gigabyte of memory to read


class AnnotationError(ValueError):
    """An annotation file cannot be used; the message names the file, and the row where there is one."""


@dataclass(frozen=True)
class Annotation:
    """One annotation file.

    labels: (rows,) int16 ids of the class list, -1 not labelled. frame_column: (rows,) int64 or None.
    stim_frame: frame of the stimulus, counted from the trial's start whatever the crop (in its frame 15, 15), or None.
    format: how the file was read. notes: what was taken for granted.
    """

    labels: np.ndarray
    frame_column: np.ndarray | None = None
    stim_frame: int | None = None
    format: str = "frames"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gaps:
    """What frames become in which a file of behaviours names none: a class, or not labelled (None)."""

    background: str | None
    label: int

    def fill(self, path: Path, labels: np.ndarray, empty: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """labels (n,) with the frames filled in which empty (n,) is True, and a note of how many those are."""
        if not empty.any():
            return labels, ()
        becomes = f"they count as {self.background}" if self.background else "they are not labelled"
        note = f"{path.name}: {empty.sum():,} of {len(labels):,} frames have no behaviour: {becomes}"
        return np.where(empty, self.label, labels).astype(np.int16), (f"{note} (--annotation-background)",)


def read_annotation(path: Path, class_names: Sequence[str]) -> Annotation:
    """Columns Action (integer or name of the class list; empty: not labelled), and where they exist Frame, StimFrame.

    Raises AnnotationError; rows are counted as in the file, the header is row 1.
    """
    try:
        require_size(path, MAX_BYTES)
        table = read_rows(path, delimiters=",;\t")
    except ValueError as error:
        raise AnnotationError(f"{path} {error}") from None
    header, rows = (table[0], _without_end(table[0], table[1:])) if table else ([], [])
    if not any(any(row) for row in rows):
        raise AnnotationError(f"{path}: no rows below a header, expected columns Frame,Action")
    for i, row in enumerate(rows):
        if len(row) != len(header):
            raise AnnotationError(f"{path} row {i + 2}: {len(row)} cells, expected {len(header)} as in the header")
    actions = _column(path, header, rows, "Action")
    if actions is None:
        raise AnnotationError(f"{path}: no column Action, found {' '.join(', '.join(header).split())}")
    codes = ClassCodes(class_names)
    labels = [codes.id_of(path, i + 2, text) for i, text in enumerate(actions)]
    frames = _column(path, header, rows, "Frame")
    stim = _column(path, header, rows, "StimFrame")
    n_empty = next(i for i, row in enumerate(reversed(rows)) if any(row))
    return Annotation(
        np.array(labels, dtype=np.int16),
        None if frames is None else _frame_numbers(path, frames),
        None if stim is None else _stim_frame(path, stim),
        notes=(note_of_empty_end(path, n_empty),) if n_empty else (),
    )


def _without_end(header: list[str], rows: list[list[str]]) -> list[list[str]]:
    """Without what is below the last frame: blank lines, and rows of empty cells where a frame would have its number.

    Where no column numbers them an empty row is a frame that is not labelled, as pandas writes it; left out, the rows
    would be too few, and might be as many as of another crop.
    """
    numbered = any(title.lower() == "frame" for title in header)
    n = len(rows)
    while n and not any(rows[n - 1]) and (numbered or len(rows[n - 1]) != len(header)):
        n -= 1
    return rows[:n]


def note_of_empty_end(path: Path, n: int) -> str:
    """What to say of n rows of empty cells at the end, which may be a spreadsheet's and no frames."""
    return f"{path.name}: its last {n} rows are empty: they count as frames that are not labelled"


def is_frames_header(titles: Sequence[str]) -> bool:
    """Whether it is the header of a file with an action for each frame."""
    return "action" in (title.lower() for title in titles)


def require_size(path: Path, most: int) -> None:
    """Raise ValueError, with the reason and without the file's name, if it is empty, unreadable or too large."""
    require_content(path)
    if (size := path.stat().st_size) > most:
        raise ValueError(f"has {size:,} bytes, an annotation has at most {most:,}: is it one?")


def _column(path: Path, header: list[str], rows: list[list[str]], name: str) -> list[str] | None:
    places = [i for i, title in enumerate(header) if title.lower() == name.lower()]
    if len(places) > 1:
        raise AnnotationError(f"{path}: {len(places)} columns {name}, expected one")
    return [row[places[0]] for row in rows] if places else None


class ClassCodes:
    """What stands for each class of a list in an annotation: its name, or its place from 0.

    Where names are numbers themselves a number is a name, however it is written (1, 1.0), and never a place.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.by_name = {name: i for i, name in enumerate(class_names)}
        numbers = {number: i for i, name in enumerate(class_names) if (number := whole_number(name)) is not None}
        self.by_number = numbers or {i: i for i in range(len(class_names))}

    def id_of(self, path: Path, row: int, text: str) -> int:
        """The class of a text, -1 of an empty one. Raises AnnotationError for what is in no class list."""
        if text in self.by_name:
            return self.by_name[text]
        if text.lower() in _EMPTY:
            return UNLABELLED
        number = whole_number(text)
        if number not in self.by_number:
            known = ", ".join(f"{i} {name}" for name, i in self.by_name.items())
            raise AnnotationError(f"{path} row {row}: class {text!r} is not in the class list (--classes): {known}")
        return self.by_number[number]


def _frame_numbers(path: Path, texts: list[str]) -> np.ndarray:
    numbers = [whole_number(text) for text in texts]
    for i, number in enumerate(numbers):
        if number is None:
            raise AnnotationError(f"{path} row {i + 2}: Frame {texts[i]!r} is not a whole number below 2^31")
    return np.array(numbers, dtype=np.int64)


def _stim_frame(path: Path, texts: list[str]) -> int | None:
    """The one frame that the column names; it may stand in every row or in some."""
    given = sorted({text for text in texts if text.lower() not in _EMPTY})
    numbers = {whole_number(text) for text in given}
    if None in numbers or len(numbers) > 1:
        raise AnnotationError(f"{path}: StimFrame {', '.join(given)}, expected one whole number")
    return numbers.pop() if numbers else None


def whole_number(text: str) -> int | None:
    """`3` and `3.0` -> 3; None if the text is no whole number, or one beyond +-MAX_FRAME."""
    try:
        value = float(text) if "_" not in text else math.nan  # Python reads 1_0 as 10
    except ValueError:
        return None
    return int(value) if value.is_integer() and abs(value) <= MAX_FRAME else None
