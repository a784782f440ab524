"""The folder of a prediction: what was made of each recording, and from what; what of it still holds.

A recording's record is written after its tables, so what has a record is whole. Nothing of another model, or of other
data of a recording, stays where it could be taken for this one's.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import RecordingMeta, fingerprint
from cache.recording_writer import file_name
from pipeline.predict.exports import TABLES
from pipeline.train.run_folder import PICTURES, write_text

if TYPE_CHECKING:
    from pipeline.model.trained import Trained

PREDICT_VERSION = 1  # of what the same model says of the same data
RECORDS = "records"  # the folder of the records
ABOUT = "predict.json"  # what the folder's results are of
BOUTS = "bouts.csv"
SUMMARY = "summary.csv"
# Made of several recordings' results: there only when the last call came to its end.
OF_ALL = (BOUTS, SUMMARY, "report.html", "made.json")
# All that is moved aside when another model comes; what says whose it is goes last, so that a kill between is noticed.
MADE = (*OF_ALL, PICTURES, TABLES, RECORDS, ABOUT)


@dataclass(frozen=True)
class TrialRecord:
    """What was said of a trial. table: its file in `trials`, of so many bytes. crop_start: see Clip.

    frames: how many of each class. certainty: mean probability of what is said; None where every frame is damaged.
    """

    trial: int
    table: str
    n_bytes: int
    n_frames: int
    n_damaged: int
    crop_start: int
    frames: tuple[int, ...]
    certainty: float | None


@dataclass(frozen=True)
class Record:
    """What was said of a recording. made_of: see `sources`. bouts: rows of the bout table, NaN as None."""

    recording: str
    made_of: dict[str, Any]
    fps: float | None
    trials: tuple[TrialRecord, ...]
    bouts: tuple[dict[str, Any], ...]

    @property
    def frames(self) -> tuple[int, ...]:
        """How many are of each class."""
        return tuple(map(sum, zip(*(trial.frames for trial in self.trials), strict=True)))


def model_sources(trained: Trained, files: Sequence[Path]) -> dict[str, Any]:
    """What the same data give the same results with: models' content, --flips, the decision in use, and our version."""
    decision = None if trained.decision is None else trained.decision.as_dict()
    made_of: dict[str, Any] = {
        "models": [fingerprint.of_file(file) for file in files],
        "decision": decision,
        "version": PREDICT_VERSION,
    }
    if mirror := trained.network.mirror:
        made_of["flips"] = mirror.classes if mirror.exchanges_classes else True
    return _as_read(made_of)


def sources(model: Mapping[str, Any], meta: RecordingMeta) -> dict[str, Any]:
    """What a recording's results are made of: the model's part, and its own data as they are in the cache."""
    rows = [vars(clip) for clip in meta.clips]
    placed = fingerprint.of_values(clips=rows, video=meta.video and Path(meta.video).name, fps=meta.fps)
    return _as_read({**model, "data": meta.fingerprints | {"placed": placed}})


def _as_read(values: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: lists for tuples."""
    return json.loads(json.dumps(values))


class PredictFolder:
    """Where the results of a call go, and those of former ones lie."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def make_room(self, model: Mapping[str, Any]) -> Path | None:
        """Moves aside all that another model has said, and returns where to. Deletes what a kill left half written."""
        there = [self.out / name for name in MADE if (self.out / name).exists()]
        aside = None
        if there and self.about().get("made_of") != model:
            aside = self._free_folder()
            for path in there:
                path.rename(aside / path.name)
        for folder in (TABLES, RECORDS):
            (self.out / folder).mkdir(parents=True, exist_ok=True)
            for path in (self.out / folder).glob(".tmp-*"):
                path.unlink()
        return aside

    def _free_folder(self) -> Path:
        number = 1
        while (folder := self.out / f"former-{number}").exists():
            number += 1
        folder.mkdir()
        return folder

    def about(self) -> dict[str, Any]:
        """What predict.json says; empty where it is missing or damaged."""
        found = _read_json(self.out / ABOUT)
        return found if isinstance(found, dict) else {}

    def read(self, recording: str) -> Record | None:
        """The record of a recording; None where there is none, it is damaged, or a table that it names is not whole."""
        values = _read_json(self._path(recording))
        try:
            trials = tuple(TrialRecord(**row | {"frames": tuple(row["frames"])}) for row in values["trials"])
            record = Record(**values | {"trials": trials, "bouts": tuple(values["bouts"])})
        except (TypeError, KeyError):
            return None
        whole = record.recording == recording and all(map(self._is_whole, trials))
        return record if whole else None

    def _is_whole(self, trial: TrialRecord) -> bool:
        table = self.table(trial.table)
        return table.is_file() and table.stat().st_size == trial.n_bytes

    def tables_of(self, recording: str) -> list[str]:
        """The names of its trials' tables; none without a record."""
        record = self.read(recording)
        return [trial.table for trial in record.trials] if record else []

    def tables_asked(self) -> set[str] | None:
        """The tables of the recordings that the last call was asked for; None where no call came to its end."""
        about = self.about()
        return (
            {table for name in about["recordings"] for table in self.tables_of(name)} if about.get("finished") else None
        )

    def write(self, record: Record) -> None:
        """After the tables: from then on a next call need not make them again."""
        write_text(self._path(record.recording), json.dumps(dataclasses.asdict(record), allow_nan=False))

    def drop(self, recordings: Iterable[str]) -> None:
        """Takes out these recordings' results, all that was made of several, and tables that no record stands for."""
        for path in (*map(self._path, recordings), *(self.out / name for name in OF_ALL)):
            path.unlink(missing_ok=True)
        known = {trial.table for record in self._records() for trial in record.trials}
        for path in (self.out / TABLES).glob("prediction_*.csv"):
            if path.name not in known:
                path.unlink()

    def _records(self) -> Iterator[Record]:
        for path in (self.out / RECORDS).glob("*.json"):
            values = _read_json(path)
            if isinstance(values, dict) and (record := self.read(str(values.get("recording")))):
                yield record

    def table(self, name: str) -> Path:
        """The path of a trial's table."""
        return self.out / TABLES / name

    def _path(self, recording: str) -> Path:
        # Names that are cut to what a file system takes stay apart by a part of their fingerprint.
        cut = file_name(recording, "")
        mark = "" if cut == recording else f"-{fingerprint.of_values(name=recording)[:12]}"
        return self.out / RECORDS / f"{cut}{mark}.json"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
