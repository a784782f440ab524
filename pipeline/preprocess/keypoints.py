"""DeepLabCut tables: keypoints of every frame, read by the names in their header."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.preprocess.h5_table import LEVELS, read_h5
from pipeline.preprocess.number_table import Block, read_numbers
from pipeline.preprocess.nwb_pose import SCORER as NWB
from pipeline.preprocess.sleap_files import SCORER as SLEAP
from pipeline.preprocess.text_table import UnreadableError, read_rows, require_content

COORDS = ("x", "y", "likelihood")
_MOST_LEVELS = max(map(len, LEVELS))

# (scorer, [individual,] bodypart, coord) of each column after the first
Columns = Sequence[tuple[str, ...]]


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


def check_header(path: Path) -> None:
    """Read the header alone; of HDF5 (.h5, .slp, .nwb) a table of no rows, so that a file damaged later passes.

    Raises UnreadableError where that may pass, else another ValueError (KeypointError for .h5); both say the reason.
    """
    if path.suffix.lower() == ".csv":
        _csv_header(read_rows(path, limit=_MOST_LEVELS))
    else:
        require_content(path)
        _open_h5(path, rows=0)


def read_dlc(path: Path) -> DlcTable:
    """A .csv, .h5, .slp or .nwb table. Raises KeypointError, also for one that does not fit the memory."""
    try:
        columns, blocks = _open_csv(path) if path.suffix.lower() == ".csv" else _open_h5(path)
        names, places = _keypoint_columns(path, columns)
        parts = [(frames, *_points(cells, places)) for frames, cells in blocks]
        if not any(len(part[0]) for part in parts):
            raise KeypointError(f"{path}: no rows below the header")
        frames = np.concatenate([part[0] for part in parts])
        values = np.concatenate([part[1] for part in parts])
        n_zero = sum(part[2] for part in parts)
        del parts
        frames, values = _in_order(path, frames, values)
    except MemoryError:
        size = path.stat().st_size / 1e9
        raise KeypointError(f"{path}: does not fit into this machine's memory ({size:.1f} GB)") from None
    return DlcTable(names, frames, values, columns[0][0], _notes(columns, places, n_zero, values))


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


def _csv_header(rows: list[list[str]]) -> tuple[int, list[tuple[str, ...]]]:
    """Number of header rows, and (scorer, [individual,] bodypart, coord) of each column after the first."""
    titles = [row[0] if row else "" for row in rows[:_MOST_LEVELS]]
    for levels in LEVELS:
        if tuple(titles[: len(levels)]) == levels:
            header = rows[: len(levels)]
            if len({len(row) for row in header}) > 1:
                raise ValueError("has header rows of different lengths")
            if len(header[0]) < 2:
                raise ValueError("has a DLC header without any keypoint: only its first column is there")
            return len(levels), list(zip(*(row[1:] for row in header), strict=True))
    raise ValueError(f"has no DLC header (rows scorer, bodyparts, coords), its first cells are {titles}")


def _open_csv(path: Path) -> tuple[Columns, Iterator[Block]]:
    """Columns and blocks; pandas' own header reading loses the first row where that is empty."""
    try:
        n_header, columns = _csv_header(read_rows(path, limit=_MOST_LEVELS))
    except UnreadableError as error:
        raise UnreadableError(f"{path} {error}") from None
    except ValueError as error:
        raise KeypointError(f"{path} {error}") from None
    return columns, _csv_blocks(path, n_header, columns)


def _csv_blocks(path: Path, n_header: int, columns: Columns) -> Iterator[Block]:
    try:
        yield from read_numbers(path, n_header, [" ".join(column[1:]) for column in columns])
    except UnreadableError as error:
        raise UnreadableError(f"{path} {error}") from None
    except ValueError as error:
        raise KeypointError(f"{path} {error}") from None


def _open_h5(path: Path, rows: int | None = None) -> tuple[Columns, list[Block]]:
    try:
        columns, frames, cells = read_h5(path, rows)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnreadableError as error:
        raise UnreadableError(f"{path} {error}") from None
    except ValueError as error:
        raise KeypointError(f"{path}: {error}") from None
    return columns, [(frames, cells)] if len(frames) else []


def _keypoint_columns(path: Path, columns: Columns) -> tuple[tuple[str, ...], list[dict[str, int]]]:
    """Keypoint names in order of appearance, and of each the column of x, y and, if there is one, likelihood."""
    places: dict[str, dict[str, int]] = {}
    for i, (_scorer, *individual_and_part, coord) in enumerate(columns):
        of_keypoint = places.setdefault("_".join(individual_and_part), {})
        if coord in of_keypoint:
            raise KeypointError(f"{path}: {' '.join(individual_and_part)} has two columns {coord}; one network a table")
        of_keypoint[coord] = i
    expected = COORDS if any("likelihood" in of_keypoint for of_keypoint in places.values()) else COORDS[:2]
    for name, of_keypoint in places.items():
        for coord in expected:
            if coord not in of_keypoint:
                raise KeypointError(f"{path}: {name} has no column {coord}, found {', '.join(of_keypoint)}")
    return tuple(places), list(places.values())


def _points(cells: np.ndarray, places: list[dict[str, int]]) -> tuple[np.ndarray, int]:
    """Values (n, K, 3) float32 from cells (n, columns), and how many points of them are exactly (0, 0).

    Those are no place that a network finds but what some programs write for a missing point: they become NaN.
    """
    values = np.ones((len(cells), len(places), 3), dtype=np.float32)
    for k, columns in enumerate(places):
        for i, coord in enumerate(COORDS):
            if coord in columns:
                with np.errstate(over="ignore"):  # a number beyond float32 is infinite, so missing
                    values[:, k, i] = cells[:, columns[coord]]
    values[~np.isfinite(values)] = np.nan
    zero = (values[..., :2] == 0).all(axis=-1)
    values[zero | np.isnan(values[..., :2]).any(axis=-1)] = np.nan
    return values, int(zero.sum())


def _in_order(path: Path, frames: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sorted by frame. Raises KeypointError for a negative frame number and for one that stands twice."""
    if frames.min() < 0:
        raise KeypointError(f"{path}: frame number {frames.min()}, expected 0 or more")
    if (np.diff(frames) < 0).any():
        order = np.argsort(frames, kind="stable")
        frames, values = frames[order], values[order]
    doubles = frames[1:][np.diff(frames) == 0]
    if len(doubles):
        raise KeypointError(f"{path}: frame {doubles[0]} has more than one row")
    return frames, values


def _notes(columns: Columns, places: list[dict[str, int]], n_zero: int, values: np.ndarray) -> tuple[str, ...]:
    notes: tuple[str, ...] = _pieces_of_tracks(columns, places, values)
    if "likelihood" not in places[0]:
        notes += ("the DLC table has no likelihood: every point in it counts as certain",)
    if n_zero:
        n_points = values.shape[0] * values.shape[1]
        notes += (f"{n_zero:,} of {n_points:,} points in the DLC table are exactly (0, 0): they count as missing",)
    return notes


def _pieces_of_tracks(columns: Columns, places: list[dict[str, int]], values: np.ndarray) -> tuple[str, ...]:
    """A note where a file has more tracks than animals in any frame: they may be pieces of one animal's track."""
    if columns[0][0] not in (SLEAP, NWB) or len(columns[0]) < _MOST_LEVELS:
        return ()
    of_track: dict[str, list[int]] = {}
    for k, of_keypoint in enumerate(places):
        of_track.setdefault(columns[of_keypoint["x"]][1], []).append(k)
    seen = np.stack([(~np.isnan(values[:, each, 0])).any(axis=1) for each in of_track.values()])
    at_once = int(seen.sum(axis=0).max())
    if at_once == len(of_track):
        return ()
    return (f"{len(of_track)} tracks, at most {at_once} in one frame: join those of one animal in SLEAP",)
