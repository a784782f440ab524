"""Annotation tables: one behaviour for every frame of a trial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.clip import UNLABELLED
from pipeline.preprocess.text_table import read_rows, require_content

_EMPTY = ("", "nan")
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
    while table and not any(table[-1]):
        table.pop()
    if len(table) < 2:
        raise AnnotationError(f"{path}: no rows below a header, expected columns Frame,Action")
    header, rows = table[0], table[1:]
    for i, row in enumerate(rows):
        if len(row) != len(header):
            raise AnnotationError(f"{path} row {i + 2}: {len(row)} cells, expected {len(header)} as in the header")
    actions = _column(path, header, rows, "Action")
    if actions is None:
        raise AnnotationError(f"{path}: no column Action, found {' '.join(', '.join(header).split())}")
    ids = {name: i for i, name in enumerate(class_names)}
    labels = [class_id(path, i + 2, text, ids) for i, text in enumerate(actions)]
    frames = _column(path, header, rows, "Frame")
    stim = _column(path, header, rows, "StimFrame")
    return Annotation(
        np.array(labels, dtype=np.int16),
        None if frames is None else _frame_numbers(path, frames),
        None if stim is None else _stim_frame(path, stim),
    )


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


def class_id(path: Path, row: int, text: str, ids: dict[str, int]) -> int:
    """The class of a name or an integer, -1 of an empty text. Raises AnnotationError for what is in no class list."""
    if text in ids:
        return ids[text]
    if text.lower() in _EMPTY:
        return UNLABELLED
    number = whole_number(text)
    if number is None or not 0 <= number < len(ids):
        known = ", ".join(f"{i} {name}" for name, i in ids.items())
        raise AnnotationError(f"{path} row {row}: class {text!r} is not in the class list (--classes): {known}")
    return number


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
