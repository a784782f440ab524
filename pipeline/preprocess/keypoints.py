"""DeepLabCut tables: keypoints of every frame, read by the names in their header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from pipeline.preprocess.annotations import MAX_FRAME, whole_number
from pipeline.preprocess.text_table import UnreadableError, read_rows, require_content

COORDS = ("x", "y", "likelihood")
_LEVELS = ("scorer", "individuals", "bodyparts", "coords")
_MISSING = ("", "nan", "na")


class KeypointError(ValueError):
    """A DLC table cannot be used; the message names the file, and the row and column where there are such."""


@dataclass(frozen=True)
class DlcTable:
    """One DLC table as it is on disk, rows sorted by frame.

    names: (K,) bodyparts in the table's order, `individual_bodypart` if it has several animals. frames: (n,) int64
    frame numbers of the video. values: (n, K, 3) float32 x, y in pixels of the original video and likelihood; all
    three NaN where x or y is missing. notes: what was taken for granted.
    """

    names: tuple[str, ...]
    frames: np.ndarray
    values: np.ndarray
    scorer: str
    notes: tuple[str, ...] = ()


def is_dlc_table(path: Path) -> bool:
    """Whether `check_header` finds nothing wrong."""
    try:
        check_header(path)
    except ValueError:
        return False
    return True


def check_header(path: Path) -> None:
    """Read the header alone; of an .h5 file that is a table of no rows, so that a file damaged later passes.

    Raises UnreadableError where that may pass, else another ValueError (KeypointError for .h5); both say the reason.
    """
    if path.suffix.lower() == ".csv":
        _csv_header(read_rows(path, limit=len(_LEVELS)))
    else:
        require_content(path)
        _check_levels(path, _read_hdf(path, rows=0))


def read_dlc(path: Path) -> DlcTable:
    """A .csv or .h5 table. Raises KeypointError."""
    columns, frames, cells = _read_csv(path) if path.suffix.lower() == ".csv" else _read_h5(path)
    if len(frames) == 0:
        raise KeypointError(f"{path}: no rows below the header")
    if frames.min() < 0:
        raise KeypointError(f"{path}: frame number {frames.min()}, expected 0 or more")
    order = np.argsort(frames, kind="stable")
    frames, cells = frames[order], cells[order]
    doubles = frames[1:][np.diff(frames) == 0]
    if len(doubles):
        raise KeypointError(f"{path}: frame {doubles[0]} has more than one row")
    names, places = _keypoint_columns(path, columns)
    values, notes = _gather(path, names, places, cells)
    return DlcTable(names, frames, values, columns[0][0], notes)


def align(table: DlcTable, frame_index: np.ndarray, width: int, height: int, lag: int = 0) -> np.ndarray:
    """Keypoints (T, K, 3) float32 of the video's frames frame_index (T,): x / width, y / height, likelihood.

    By frame number, not by row: frame n gets the row of number n + lag, NaN where the table has none.
    """
    number = frame_index + lag
    place = np.minimum(np.searchsorted(table.frames, number), len(table.frames) - 1)
    found = table.frames[place] == number
    values = table.values[place] / np.array([width, height, 1], dtype=np.float32)
    values[~found] = np.nan
    return values.astype(np.float32)


def _level_names() -> list[list[str]]:
    return [[level for level in _LEVELS if level != "individuals"], list(_LEVELS)]


def _csv_header(rows: list[list[str]]) -> tuple[int, list[tuple[str, ...]]]:
    """Number of header rows, and (scorer, [individual,] bodypart, coord) of each column after the first."""
    titles = [row[0] if row else "" for row in rows[: len(_LEVELS)]]
    for levels in _level_names():
        if titles[: len(levels)] == levels:
            header = rows[: len(levels)]
            if len({len(row) for row in header}) > 1:
                raise ValueError("has header rows of different lengths")
            if len(header[0]) < 2:
                raise ValueError("has a DLC header without any keypoint: only its first column is there")
            return len(levels), list(zip(*(row[1:] for row in header), strict=True))
    raise ValueError(f"has no DLC header (rows scorer, bodyparts, coords), its first cells are {titles}")


def _read_csv(path: Path) -> tuple[list[tuple[str, ...]], np.ndarray, np.ndarray]:
    """Columns, frame numbers and cells; pandas' own header reading loses the first row where that is empty."""
    try:
        rows = read_rows(path)
        n_header, columns = _csv_header(rows)
    except UnreadableError as error:
        raise UnreadableError(f"{path} {error}") from None
    except ValueError as error:
        raise KeypointError(f"{path} {error}") from None
    while not any(rows[-1]):  # spreadsheets leave rows of commas at the end
        rows.pop()
    frames, cells = [], []
    for i, row in enumerate(rows[n_header:], start=n_header + 1):
        if not row:
            continue
        if len(row) != len(columns) + 1:
            raise KeypointError(
                f"{path} row {i}: {len(row)} cells, expected {len(columns) + 1}; is the file cut short?"
            )
        frame = whole_number(row[0])
        if frame is None:
            raise KeypointError(f"{path} row {i}: frame number {row[0]!r} is not a whole number below 2^31")
        frames.append(frame)
        cells.append(_numbers(path, i, row[1:], columns))
    return columns, np.array(frames, dtype=np.int64), np.array(cells, dtype=np.float64).reshape(-1, len(columns))


def _numbers(path: Path, row: int, texts: list[str], columns: Sequence[tuple[str, ...]]) -> list[float]:
    try:
        return [float(text) if text else np.nan for text in texts]
    except ValueError:
        pass
    numbers = []
    for text, column in zip(texts, columns, strict=True):
        try:
            numbers.append(np.nan if text.lower() in _MISSING else float(text))
        except ValueError:
            title = " ".join(column[1:])
            raise KeypointError(f"{path} row {row}, column {title}: {text!r} is not a number") from None
    return numbers


def _read_hdf(path: Path, rows: int | None = None) -> pd.DataFrame:
    """The one table of an .h5 file (its first `rows` rows). Raises KeypointError for any other file."""
    if not path.is_file() or not h5py.is_hdf5(path):
        raise KeypointError(f"{path}: not an HDF5 file")
    try:
        table = pd.read_hdf(path, stop=rows)
    except Exception as error:  # a damaged file makes HDF5, PyTables and pandas raise whatever they meet first
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise KeypointError(f"{path}: cannot be read as a DLC table: {reason}") from None
    if not isinstance(table, pd.DataFrame):
        raise KeypointError(f"{path}: holds a {type(table).__name__}, expected a DLC table")
    return table


def _read_h5(path: Path) -> tuple[list[tuple[str, ...]], np.ndarray, np.ndarray]:
    table = _read_hdf(path)
    _check_levels(path, table)
    frames = pd.to_numeric(pd.Series(table.index), errors="coerce").to_numpy(dtype=np.float64)
    whole = (frames == np.floor(frames)) & (np.abs(frames) <= MAX_FRAME)
    if not whole.all():
        wrong = table.index[int(np.flatnonzero(~whole)[0])]
        raise KeypointError(f"{path}: frame number {str(wrong)!r} is not a whole number below 2^31")
    try:
        cells = table.to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise KeypointError(f"{path}: a cell is not a number: {error}") from None
    columns = [tuple(str(part) for part in column) for column in table.columns]
    return columns, frames.astype(np.int64), cells


def _check_levels(path: Path, table: pd.DataFrame) -> None:
    if list(table.columns.names) not in _level_names() or table.shape[1] == 0:
        found = ", ".join(str(name) for name in table.columns.names)
        raise KeypointError(f"{path}: header levels {found}, expected scorer, bodyparts, coords and keypoints in them")


def _keypoint_columns(path: Path, columns: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], list[dict[str, int]]]:
    """Keypoint names in order of appearance, and of each the column of x, y and likelihood."""
    places: dict[str, dict[str, int]] = {}
    for i, (_scorer, *individual_and_part, coord) in enumerate(columns):
        of_keypoint = places.setdefault("_".join(individual_and_part), {})
        if coord in of_keypoint:
            raise KeypointError(f"{path}: {' '.join(individual_and_part)} has two columns {coord}; one network a table")
        of_keypoint[coord] = i
    return tuple(places), list(places.values())


def _gather(
    path: Path, names: tuple[str, ...], places: list[dict[str, int]], cells: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Values (n, K, 3) float32 from cells (n, columns), and what to say of them."""
    has_likelihood = any("likelihood" in columns for columns in places)
    expected = COORDS if has_likelihood else COORDS[:2]
    values = np.ones((len(cells), len(names), 3), dtype=np.float32)
    for k, (name, columns) in enumerate(zip(names, places, strict=True)):
        for i, coord in enumerate(expected):
            if coord not in columns:
                raise KeypointError(f"{path}: {name} has no column {coord}, found {', '.join(columns)}")
            values[:, k, i] = cells[:, columns[coord]]
    values[~np.isfinite(values)] = np.nan
    notes: tuple[str, ...] = (
        () if has_likelihood else ("the DLC table has no likelihood: every point in it counts as certain",)
    )
    # (0, 0) to the last digit is no place that a network finds but what some programs write for a missing point.
    zero = (values[..., :2] == 0).all(axis=-1)
    if zero.any():
        notes += (f"{zero.sum():,} of {zero.size:,} points in the DLC table are exactly (0, 0): they count as missing",)
    values[zero | np.isnan(values[..., :2]).any(axis=-1)] = np.nan
    return values, notes
