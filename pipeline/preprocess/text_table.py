"""Reading a comma-separated file as text, row by row, with errors that a biologist can act on."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

MAX_LINE = 2**24  # characters; a file of one endless line must not fill the memory


class UnreadableError(ValueError):
    """A file cannot be read now, or is empty: that may pass (a drive that is away, a copy under way)."""


def require_content(path: Path) -> None:
    """Raise UnreadableError, with the reason and without the file's name, unless there is something to read."""
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise UnreadableError("is empty (0 bytes)")
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from None


def read_rows(path: Path, delimiters: str = ",", limit: int | None = None) -> list[list[str]]:
    """The file's rows as stripped text; rows keep their place, so that row i is line i + 1 where no cell spans lines.

    delimiters: the one that occurs most often in the first line is used. limit: read so many rows only.
    Raises ValueError with the reason (without the file's name) if it cannot be read as text, as UnreadableError where
    the reason may pass.
    """
    require_content(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = delimiters
            if len(delimiters) > 1:
                first = next(_lines(file), "")
                file.seek(0)
                delimiter = max(delimiters, key=first.count)
            return list(islice(parse_rows(file, delimiter), limit))
    except UnicodeDecodeError:
        raise ValueError(_NOT_UTF8) from None
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from None


def read_lines(path: Path, limit: int | None = None) -> list[str]:
    """The first lines of a text file, with their ends. Raises as `read_rows` does."""
    require_content(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(islice(_lines(file), limit))
    except UnicodeDecodeError:
        raise ValueError(_NOT_UTF8) from None
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from None


def rows_below(
    path: Path, n_lines: int, delimiter: str, n_cells: int, *, keep_empty: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Number (from 1, as in the file) and stripped cells of the rows below n_lines; blank lines are left out.

    keep_empty: rows of n_cells empty cells are not.

    Raises as `read_rows` does, and ValueError for a row of another number of cells.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for _ in islice(_lines(file), n_lines):
                pass
            for row, cells in enumerate(parse_rows(file, delimiter), start=n_lines + 1):
                if not any(cells) and not (keep_empty and len(cells) == n_cells):
                    continue
                if len(cells) != n_cells:
                    raise ValueError(f"row {row}: {len(cells)} cells, expected {n_cells} as in the header")
                yield row, cells
    except UnicodeDecodeError:
        raise ValueError(_NOT_UTF8) from None
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from None


def parse_rows(file: TextIO, delimiter: str = ",") -> Iterator[list[str]]:
    """Rows of stripped text of a file that was opened with newline="". Raises as `read_rows` does."""
    try:
        for row in csv.reader(_lines(file), delimiter=delimiter, strict=True):
            yield [cell.strip() for cell in row]
    except UnicodeDecodeError:
        raise ValueError(_NOT_UTF8) from None
    except csv.Error as error:
        raise ValueError(f"is not a table of comma-separated values: {error}") from None
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from None


_NOT_UTF8 = "is not UTF-8 text; save it as CSV UTF-8"


def _lines(file: TextIO) -> Iterator[str]:
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise ValueError(f"has a line of more than {MAX_LINE:,} characters: is it a table?")
        yield line
