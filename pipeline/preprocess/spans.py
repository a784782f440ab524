"""Behaviours that are written as stretches of frames, laid onto the frames of a recording."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.clip import UNLABELLED
from pipeline.preprocess.annotations import AnnotationError, ClassCodes, Gaps


@dataclass(frozen=True)
class Span:
    """Frames [start, stop) of the recording that show a behaviour; row: of the file; when: as the file says it."""

    row: int
    behaviour: str
    start: int
    stop: int
    when: str

    def __str__(self) -> str:
        return f"row {self.row}: {self.behaviour} {self.when}"


def lay(
    path: Path, spans: Iterable[Span], n_frames: int, class_names: Sequence[str], gaps: Gaps, slack: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels (n_frames,) int16, and what to say of them.

    What runs past the end by at most slack frames is cut there. Raises AnnotationError for a larger overhang, for two
    behaviours in one frame and for a behaviour that is not in the class list.
    """
    codes = ClassCodes(class_names)
    labels = np.full(n_frames, UNLABELLED, dtype=np.int16)
    before: Span | None = None
    n_beyond = n_short = 0
    for span in sorted(spans, key=lambda span: (span.start, span.stop)):
        label = codes.id_of(path, span.row, span.behaviour)
        if span.start < 0 or span.stop < span.start:
            raise AnnotationError(f"{path} {span} ends before it begins, or begins before the recording")
        if before is not None and span.start < before.stop and span.stop > span.start:
            raise AnnotationError(f"{path} {span} overlaps {before}; one behaviour a frame is expected")
        n_beyond = max(n_beyond, span.stop - n_frames)
        if n_beyond > slack:
            raise AnnotationError(
                f"{path} {span} runs {n_beyond} frames past the recording's end, it has {n_frames}: is it of another "
                f"version of it? (--annotation-slack {slack})"
            )
        if span.stop == span.start:
            n_short += 1
            continue
        labels[span.start : span.stop] = label
        before = span
    notes: tuple[str, ...] = ()
    if n_beyond > 0:
        notes += (f"{path.name}: runs {n_beyond} frames past the recording's end, cut there",)
    if n_short:
        notes += (f"{path.name}: {n_short} behaviours shorter than half a frame, not used",)
    labels, said = gaps.fill(path, labels, labels == UNLABELLED)
    return labels, (*notes, *said)
