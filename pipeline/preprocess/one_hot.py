"""One-hot annotations: a row a frame, a column of 0 and 1 a behaviour, as DeepEthogram and SimBA write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from cache.clip import UNLABELLED
from pipeline.preprocess.annotations import (
    Annotation,
    AnnotationError,
    Gaps,
    is_frames_header,
    note_of_empty_end,
    whole_number,
)

BACKGROUND = "background"  # DeepEthogram's column of frames without a behaviour
MAX_BYTES = 2**30  # SimBA's files have hundreds of columns
_INDEX = ("", "unnamed: 0", "frame", "frames", "index")
_POSE = re.compile(r".+_(x|y|p|likelihood)$")


def is_header(titles: Sequence[str], class_names: Sequence[str]) -> bool:
    """Whether there are columns of behaviours; a column Action is another format's."""
    known = {*class_names, BACKGROUND}
    of_frames = is_frames_header(titles) and not any(title in known for title in titles if title.lower() == "action")
    return len(titles) > 1 and not of_frames and any(title in known for title in titles)


def read(
    path: Path, titles: Sequence[str], rows: Iterable[tuple[int, list[str]]], class_names: Sequence[str], gaps: Gaps
) -> Annotation:
    """Labels of each row; rows: their number in the file, and their cells.

    A row of empty cells is a frame that is not labelled, or no frame where a column numbers the frames.
    Raises AnnotationError for a cell that is not 0 or 1 (-1 in all of a row: not labelled), for two behaviours in one
    frame, and for columns that are neither behaviours nor, in front of them, SimBA's pose and features.
    """
    columns = _columns(path, titles, class_names)
    has_index = titles[0].lower() in _INDEX and 0 not in columns
    labels: list[int | None] = []
    frames = []
    n_empty = 0  # at the end
    for row, cells in rows:
        if has_index and not any(cells):
            continue
        n_empty = 0 if any(cells) else n_empty + 1
        labels.append(_label(path, row, [(columns[i], cells[i]) for i in columns], class_names))
        if has_index:
            frame = whole_number(cells[0])
            if frame is None:
                raise AnnotationError(f"{path} row {row}: frame number {cells[0]!r} is not a whole number below 2^31")
            frames.append(frame)
    if len(labels) == n_empty:
        raise AnnotationError(f"{path}: no rows below a header")
    given = np.array([UNLABELLED if label is None else label for label in labels], dtype=np.int16)
    given, notes = gaps.fill(path, given, np.array([label is None for label in labels]))
    if n_empty:
        notes = (*notes, note_of_empty_end(path, n_empty))
    if n_others := min(columns) - has_index:
        names = ", ".join(columns.values())
        notes = (f"{path.name}: behaviours {names}; the {n_others} columns before them are not read", *notes)
    return Annotation(given, np.array(frames, dtype=np.int64) if has_index else None, format="onehot", notes=notes)


def _columns(path: Path, titles: Sequence[str], class_names: Sequence[str]) -> dict[int, str]:
    """Place -> behaviour of the columns to read; they are the last ones, before them only SimBA has others."""
    known = {*class_names, BACKGROUND}
    columns = {i: title for i, title in enumerate(titles) if title in known}
    if len(set(columns.values())) < len(columns):
        raise AnnotationError(f"{path}: a behaviour has several columns, expected one: {', '.join(columns.values())}")
    first = min(columns, default=len(titles))
    has_pose = any(_POSE.fullmatch(title) for title in titles[:first])
    start = first if has_pose else int(titles[0].lower() in _INDEX and 0 not in columns)
    unknown = [title for i, title in enumerate(titles) if i >= start and i not in columns]
    if unknown or not columns:
        shown = ", ".join(map(repr, unknown[:5])) + (" ..." if len(unknown) > 5 else "")
        raise AnnotationError(
            f"{path}: columns {shown} are not in the class list (--classes): {', '.join(class_names)}"
        )
    return columns


def _label(path: Path, row: int, cells: Sequence[tuple[str, str]], class_names: Sequence[str]) -> int | None:
    """The class of a row, UNLABELLED where all its cells say -1 or nothing, None where there is no behaviour."""
    values = [whole_number(text) for _, text in cells]
    if values.count(-1) == len(values) or not any(text for _, text in cells):
        return UNLABELLED
    for (name, text), value in zip(cells, values, strict=True):
        if value not in (0, 1):
            raise AnnotationError(f"{path} row {row}: {name} is {text[:40]!r}, expected 0 or 1 (or -1 in all columns)")
    shown = [name for (name, _), value in zip(cells, values, strict=True) if value]
    if len(shown) > 1:
        raise AnnotationError(f"{path} row {row}: {' and '.join(shown)} at once; one behaviour a frame is expected")
    if not shown or shown[0] not in class_names:
        return None
    return class_names.index(shown[0])
