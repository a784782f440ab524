"""The table of all clips and of what was skipped: index.parquet, read at once, swapped at once.

Columns: recording, trial, n_frames, reason, file, meta. A row with a reason is what was skipped (trial empty: the
whole recording); every other row is a clip. The first clip of a recording carries the name of its file in `recordings`
and its metadata as JSON, which counts where that in the file differs (its paths are those of the day it was written).
Beside it: cache.json (schema version, store) and skipped.csv.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cache.clip import SCHEMA_VERSION, CacheError, RecordingMeta, first_line, meta_from_dict, meta_to_dict
from cache.remote import Place, Remote, StoreError

if TYPE_CHECKING:
    import pandas as pd

FORMAT_FILE = "cache.json"
INDEX_FILE = "index.parquet"
SKIPPED_FILE = "skipped.csv"
RECORDINGS = "recordings"
TEMPORARY = ".tmp-"

_SCHEMA = pa.schema(
    [
        ("recording", pa.string()),
        ("trial", pa.int32()),
        ("n_frames", pa.int32()),
        ("reason", pa.string()),
        ("file", pa.string()),
        ("meta", pa.string()),
    ]
)

# Of a recording's metadata: what most of a cache have in common.
_ALIKE = ("settings", "class_names", "keypoint_names")


@dataclass(frozen=True)
class Skip:
    """A trial, or with trial None a whole recording, that is not in the cache."""

    recording: str
    trial: int | None
    reason: str


@dataclass(frozen=True)
class Index:
    """What a cache holds. files: recording -> name in `recordings`, for the same recordings in the same order.

    retired: names there that this index replaced. They are deleted after it is written; should that be interrupted,
    they must not be taken for versions that are newer than it.
    """

    recordings: dict[str, RecordingMeta]
    files: dict[str, str]
    skipped: tuple[Skip, ...]
    retired: tuple[str, ...] = ()


def write_format(folder: Place, store: str) -> None:
    """Mark the folder as a cache."""
    content = json.dumps({"schema_version": SCHEMA_VERSION, "store": store})
    replace(folder / FORMAT_FILE, content.encode() + b"\n")


def left_behind(folder: Path) -> list[Path]:
    """Halves of small files, of processes that were killed."""
    return [path for path in folder.glob(f"{TEMPORARY}*") if path.suffix in (".json", ".parquet", ".csv")]


def is_said(folder: Place, skipped: tuple[Skip, ...]) -> bool:
    """Whether skipped.csv says this."""
    try:
        return (folder / SKIPPED_FILE).read_bytes() == _skipped_csv(skipped)
    except StoreError:
        raise
    except OSError:
        return False


def read_format(folder: Place) -> str:
    """The cache's store. Raises CacheError where there is no cache, or one of another schema version."""
    path = folder / FORMAT_FILE
    try:
        content = json.loads(path.read_bytes())
        found, store = content["schema_version"], content["store"]
    except StoreError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise CacheError(f"{folder}: no cache there ({FORMAT_FILE} is missing); preprocess makes one") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(f"{path}: not a cache's description ({error!r}); preprocess into a new folder") from None
    if found != SCHEMA_VERSION:
        age = "newer" if isinstance(found, int) and found > SCHEMA_VERSION else "older"
        remedy = "update this program" if age == "newer" else "preprocess into a new folder"
        raise CacheError(
            f"{folder}: the cache has the {age} schema version {found}, this program reads {SCHEMA_VERSION}; {remedy}"
        )
    return str(store)


def write_index(folder: Place, index: Index, swap: Callable[[bytes], None] | None = None, mark: str = "") -> None:
    """Swap index.parquet for this one, which is the moment a change counts, and skipped.csv with it.

    swap: what does it, with the content, if not `replace`. mark: what makes that another one although it says the same.
    """
    rows = [row for name, meta in index.recordings.items() for row in _clip_rows(meta, index.files[name])]
    rows += [{"recording": skip.recording, "trial": skip.trial, "reason": skip.reason} for skip in index.skipped]
    schema = _SCHEMA.with_metadata({"retired": json.dumps(index.retired)} | ({"mark": mark} if mark else {}))
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer, compression="zstd")
    content = buffer.getvalue().to_pybytes()
    if swap is None:
        replace(folder / INDEX_FILE, content)
    else:
        swap(content)
    replace(folder / SKIPPED_FILE, _skipped_csv(index.skipped))


class Table:
    """index.parquet as it was read; what it says of a recording is understood only when it is asked for.

    So that opening a cache of 100,000 clips takes as long as reading its index. Recordings are numbered by name.
    names: of the recordings. starts: the number of each one's first clip, and of all clips at the end.
    """

    def __init__(self, path: Place, content: bytes | None = None) -> None:
        self.path = path
        with _explained(path):
            if content is None and isinstance(path, Remote):
                content = path.read_bytes()
            source = path if content is None else pa.BufferReader(content)
            table = pq.ParquetFile(source).read()
            self.retired: tuple[str, ...] = tuple(json.loads(table.schema.metadata[b"retired"]))
            if not table.schema.equals(_SCHEMA):
                raise ValueError(f"its columns are {', '.join(table.column_names)}")
            # No function of pyarrow.compute, whose import takes longer than all of this.
            files, recordings = table["file"].to_pylist(), table["recording"].to_pylist()
            reasons = table["reason"].to_pylist()
            rows = np.array([row for row, file in enumerate(files) if file is not None], np.int64)
            names = [recordings[row] for row in rows]
            order = sorted(range(len(names)), key=names.__getitem__)
            n_rows = reasons.count(None)
            counts = np.diff([*rows, n_rows])
            if len(set(names)) < len(names):
                raise ValueError("a recording occurs twice in it")
            if (n_rows and not len(rows)) or (len(rows) and (rows[0] != 0 or counts.min() < 1)):
                raise ValueError("its rows are in disorder")
        self.names: list[str] = [names[i] for i in order]
        self.starts = np.cumsum([0, *counts[order]]) if len(rows) else np.zeros(1, np.int64)
        self._rows = rows[order].tolist()
        self._files = [files[row] for row in self._rows]
        self._table = table
        self._texts = table["meta"]
        self._metas: dict[int, RecordingMeta] = {}
        self._shared: dict[str, Any] = {}

    def meta(self, number: int) -> RecordingMeta:
        """Of a recording, by its number. Raises CacheError where it is damaged."""
        if number not in self._metas:
            with _explained(self.path):
                meta = meta_from_dict(self._values(number))
                if meta.recording != self.names[number]:
                    raise ValueError(f"{meta.recording} stands where {self.names[number]} should")
                self._metas[number] = meta
        return self._metas[number]

    def file(self, number: int) -> str:
        """The name of a recording's file or folder."""
        return self._files[number]

    def skipped(self) -> tuple[Skip, ...]:
        """What was left out."""
        columns = (self._table[name].to_pylist() for name in ("recording", "trial", "reason"))
        return tuple(Skip(*triple) for triple in zip(*columns, strict=True) if triple[2] is not None)

    def _values(self, number: int) -> dict[str, Any]:
        """What is said of a recording; what the one before has too is in memory once: 1 GB of a million clips."""
        values = json.loads(self._texts[self._rows[number]].as_py())
        if not isinstance(values, dict):
            raise TypeError("its metadata is not a description")
        values |= {name: kept for name, kept in self._shared.items() if values.get(name) == kept}
        self._shared = {name: values.get(name) for name in _ALIKE}
        return values


def read_index(folder: Place, content: bytes | None = None) -> Index:
    """All of it at once. Raises CacheError where there is none yet, or where it is damaged.

    content: of its file, if that has been read.
    """
    table = read_table(folder, content)
    numbers = range(len(table.names))
    recordings = {name: table.meta(number) for number, name in zip(numbers, table.names, strict=True)}
    files = {name: table.file(number) for number, name in zip(numbers, table.names, strict=True)}
    return Index(recordings, files, table.skipped(), table.retired)


def read_table(folder: Place, content: bytes | None = None) -> Table:
    """Raises CacheError where there is none yet, or where it is damaged."""
    try:
        return Table(folder / INDEX_FILE, content)
    except FileNotFoundError:
        raise CacheError(
            f"{folder}: the cache is not complete ({INDEX_FILE} is missing); run preprocess again"
        ) from None


@contextmanager
def _explained(path: Place) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, StoreError):
        raise
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        reason = first_line(error)
        raise CacheError(f"{path}: cannot be read ({reason}); delete it and run preprocess again") from None


def skipped_table(skipped: tuple[Skip, ...]) -> pd.DataFrame:
    """Columns recording, trial (empty: the whole recording), reason."""
    import pandas as pd  # takes longer than opening a cache, which needs none of it

    return pd.DataFrame(
        {
            "recording": pd.Series([skip.recording for skip in skipped], dtype="str"),
            "trial": pd.array([skip.trial for skip in skipped], dtype="Int64"),
            "reason": pd.Series([skip.reason for skip in skipped], dtype="str"),
        }
    )


def _skipped_csv(skipped: tuple[Skip, ...]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(field.name for field in fields(Skip))
    writer.writerows(("" if value is None else value for value in vars(skip).values()) for skip in skipped)
    return file.getvalue().encode()


def replace(path: Place, content: bytes) -> None:
    """Write a small file so that it is there whole, or as it was before, whenever the machine stops."""
    if isinstance(path, Remote):
        path.write_bytes(content)
        return
    temporary = path.with_name(TEMPORARY + path.name)
    temporary.write_bytes(content)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, lie on the disk."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clip_rows(meta: RecordingMeta, file: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"recording": meta.recording, "trial": clip.trial, "n_frames": clip.stop - clip.start} for clip in meta.clips
    ]
    rows[0] |= {"file": file, "meta": json.dumps(meta_to_dict(meta), sort_keys=True)}
    return rows
