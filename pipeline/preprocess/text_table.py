"""Reading a comma-separated file as text, row by row, with errors that a biologist can act on."""

from __future__ import annotations

import csv
from pathlib import Path


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
            first = file.readline()
            file.seek(0)
            delimiter = max(delimiters, key=first.count)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            rows: list[list[str]] = []
            for row in reader:
                if limit is not None and len(rows) == limit:
                    break
                rows.append([cell.strip() for cell in row])
            return rows
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text; save it as CSV UTF-8") from None
    except csv.Error as error:
        raise ValueError(f"is not a table of comma-separated values: {error}") from None
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or error}") from None
