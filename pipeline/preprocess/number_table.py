"""Large comma-separated tables of numbers, read in blocks: the memory that is needed does not depend on their length.

Each block goes through pyarrow. From the first block on that is not plain numbers, the rest goes row by row through
Python's csv, which knows quotes and old line ends, and says of a wrong cell where it stands.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from pipeline.preprocess.annotations import MAX_FRAME, whole_number
from pipeline.preprocess.text_table import MAX_LINE, UnreadableError, parse_rows

BLOCK_BYTES = 2**23
BLOCK_ROWS = 4096  # of those that are read row by row
_MISSING = ("", "nan", "na")
_MISSING_AS_WRITTEN = ["", "nan", "NaN", "NAN", "na", "NA"]

# Frame numbers (n,) int64 and cells (n, C) float64, NaN where a cell is missing.
Block = tuple[np.ndarray, np.ndarray]


def read_numbers(path: Path, n_header: int, titles: Sequence[str]) -> Iterator[Block]:
    """What stands below n_header rows: a first column of frame numbers, and C = len(titles) columns of numbers.

    Raises ValueError with the row, the column's title and the reason (without the file's name), as UnreadableError
    where the reason may pass. Rows are counted as in the file, from 1.
    """
    try:
        with path.open("rb") as file:
            header = b"".join(file.readline(MAX_LINE) for _ in range(n_header))
            start, row = (0, 1) if _needs_csv(header) else (len(header), n_header + 1)
            while row > 1 and (text := _whole_lines(file)):
                block = _plain_numbers(text, len(titles))
                if block is None:
                    break
                yield block
                start += len(text)
                row += text.count(b"\n")
            else:
                if row > 1:
                    return
            file.seek(start)
            encoding = "utf-8" if start else "utf-8-sig"
            with io.TextIOWrapper(file, encoding=encoding, newline="") as rest:
                yield from _row_by_row(rest, row, n_header, titles)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from None


def _whole_lines(file: BinaryIO) -> bytes:
    """The next lines, about BLOCK_BYTES; nothing at the file's end."""
    text = file.read(BLOCK_BYTES)
    return text + file.readline(MAX_LINE) if text and not text.endswith(b"\n") else text


def _needs_csv(text: bytes) -> bool:
    """Whether there are quotes, carriage returns that end lines alone, or a line that is too long to be one."""
    return b'"' in text or text.count(b"\r") != text.count(b"\r\n") or len(text) >= BLOCK_BYTES + MAX_LINE


def _plain_numbers(text: bytes, n_columns: int) -> Block | None:
    """The numbers in whole lines of text, or None where there is anything else in them."""
    if _needs_csv(text):
        return None
    names = [str(i) for i in range(n_columns + 1)]
    try:
        table = pa_csv.read_csv(
            pa.py_buffer(text),
            pa_csv.ReadOptions(use_threads=False, column_names=names, block_size=len(text) + 1),
            pa_csv.ParseOptions(quote_char=False),
            pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.float64()), null_values=_MISSING_AS_WRITTEN, check_utf8=True
            ),
        )
    except pa.ArrowInvalid:
        return None
    frames, *cells = (column.to_numpy() for column in table.columns)
    whole = (frames == np.floor(frames)) & (np.abs(frames) <= MAX_FRAME)
    return (frames.astype(np.int64), np.column_stack(cells)) if whole.all() else None


def _row_by_row(file: TextIO, row: int, n_header: int, titles: Sequence[str]) -> Iterator[Block]:
    """The rows from the file's position on, which is row number `row`."""
    frames: list[int] = []
    cells: list[list[float]] = []
    empty: tuple[int, list[str]] | None = None
    for i, texts in enumerate(parse_rows(file), start=row):
        if i <= n_header or not texts:
            continue
        if not any(texts):  # spreadsheets leave rows of commas at the end; elsewhere they are an error
            empty = empty or (i, texts)
            continue
        for number, each in (empty, (i, texts)) if empty else ((i, texts),):
            frame, values = _numbers(number, each, titles)
            frames.append(frame)
            cells.append(values)
        if len(frames) == BLOCK_ROWS:
            yield np.array(frames, dtype=np.int64), np.array(cells, dtype=np.float64)
            frames, cells = [], []
    if frames:
        yield np.array(frames, dtype=np.int64), np.array(cells, dtype=np.float64)


def _numbers(row: int, texts: list[str], titles: Sequence[str]) -> tuple[int, list[float]]:
    if len(texts) != len(titles) + 1:
        raise ValueError(f"row {row}: {len(texts)} cells, expected {len(titles) + 1}; is the file cut short?")
    frame = whole_number(texts[0])
    if frame is None:
        raise ValueError(f"row {row}: frame number {texts[0]!r} is not a whole number below 2^31")
    return frame, [_number(row, text, title) for text, title in zip(texts[1:], titles, strict=True)]


def _number(row: int, text: str, title: str) -> float:
    if text.lower() in _MISSING:
        return math.nan
    try:
        if "_" in text:  # Python reads 1_0 as 10
            raise ValueError
        return float(text)
    except ValueError:
        raise ValueError(f"row {row}, column {title}: {text[:40]!r} is not a number") from None
