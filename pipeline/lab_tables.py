"""Small tables that people write: text, whose columns and rows errors name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.file_names import composed
from pipeline.preprocess.text_table import read_rows


class TableError(ValueError):
    """A table cannot be used; the message names the file and the rows, what was expected and what was found."""


@dataclass(frozen=True)
class Row:
    """number: in the file, whose header is row 1."""

    number: int
    cells: dict[str, str]


def read(path: Path, expected: str) -> tuple[tuple[str, ...], list[Row]]:
    """Column names in lower case, and the rows that are not empty; cells are composed (see `composed`).

    expected: what columns there should be, in words.
    """
    try:
        table = read_rows(path, delimiters=",;\t")
    except ValueError as error:
        raise TableError(f"{path} {error}; expected {expected}") from None
    header = tuple(name.lower() for name in (table[0] if table else []))
    if not any(header):
        raise TableError(f"{path}: row 1 is empty; expected {expected}")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise TableError(f"{path}: the column {twice[0] or '(without a name)'} stands twice; expected {expected}")
    rows = []
    for number, cells in enumerate(table[1:], 2):
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise TableError(f"{path} row {number}: {len(cells)} cells, expected {len(header)} as in the header")
        rows.append(Row(number, dict(zip(header, map(composed, cells), strict=True))))
    if not rows:
        raise TableError(f"{path}: no rows below the header; expected {expected}")
    return header, rows


def require(path: Path, header: Sequence[str], needed: Sequence[str], expected: str) -> None:
    """Raises TableError where one of these columns is not there."""
    if missing := [name for name in needed if name not in header]:
        found = ", ".join(header)
        raise TableError(f"{path}: no column {', '.join(missing)}; expected {expected}, found {found}")


def filled(path: Path, row: Row, column: str) -> str:
    """A cell that may not be empty."""
    if not row.cells[column]:
        raise TableError(f"{path} row {row.number}: {column} is empty")
    return row.cells[column]


def require_agreement(
    path: Path, former: Row, row: Row, whose: str, columns: Sequence[str], otherwise: str = ""
) -> None:
    """Raises TableError where two rows on the same thing differ in a column. otherwise: what else than to drop one."""
    if differ := [name for name in columns if former.cells[name] != row.cells[name]]:
        raise TableError(
            f"{path} rows {former.number} and {row.number}: {whose} has {differ[0]} {former.cells[differ[0]]!r} in one "
            f"and {row.cells[differ[0]]!r} in the other; keep one of the rows{otherwise}"
        )


def whole(path: Path, row: Row, column: str) -> int:
    """A cell that is a whole number from 0 on; `3.0` is one."""
    text = filled(path, row, column)
    try:
        value = float(text) if "_" not in text else -1.0
    except ValueError:
        value = -1.0
    if not (value >= 0 and value.is_integer()):
        raise TableError(f"{path} row {row.number}: {column} {text!r} is not a whole number from 0 on")
    return int(value)
