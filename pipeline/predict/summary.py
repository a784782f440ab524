"""What is said of all recordings together, of their records: bouts.csv, summary.csv, predict.json and ethograms."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from cache import fingerprint
from pipeline.bouts import Bout, labels_of
from pipeline.model.trained import Trained
from pipeline.pictures import Strip, ethograms
from pipeline.predict.exports import BOUT_COLUMNS, csv_rows, write_table
from pipeline.predict.records import ABOUT, BOUTS, SUMMARY, PredictFolder, Record
from pipeline.train.run_folder import PICTURES, write_blocks, write_text

# What became of a recording; of the first two there are results.
PREDICTED, UP_TO_DATE, REFUSED, FAILED, SKIPPED = "predicted", "up to date", "refused", "failed", "skipped"
WITH_RESULTS = (PREDICTED, UP_TO_DATE)
STATES = (*WITH_RESULTS, REFUSED, FAILED, SKIPPED)
FPS = 30.0  # of the time axis where no recording has a video


@dataclass(frozen=True)
class Outcome:
    """What became of a recording: one of the states above. reason: why there are no results, or not of all trials."""

    recording: str
    state: str
    reason: str = ""


def records_of(folder: PredictFolder, outcomes: Sequence[Outcome]) -> Iterator[Record]:
    """The records of the recordings with results, in their order, one at a time."""
    for outcome in outcomes:
        if outcome.state in WITH_RESULTS and (record := folder.read(outcome.recording)):
            yield record


def write_bouts(folder: PredictFolder, outcomes: Sequence[Outcome]) -> int:
    """bouts.csv; returns how many there are."""
    n_bouts = 0

    def blocks() -> Iterator[bytes]:
        nonlocal n_bouts
        yield csv_rows(pd.DataFrame(columns=list(BOUT_COLUMNS)), header=True)
        for record in records_of(folder, outcomes):
            n_bouts += len(record.bouts)
            yield csv_rows(pd.DataFrame(list(record.bouts), columns=list(BOUT_COLUMNS)), header=False)

    write_blocks(folder.out / BOUTS, blocks())
    return n_bouts


def write_summary(folder: PredictFolder, outcomes: Sequence[Outcome], class_names: Sequence[str]) -> pd.DataFrame:
    """summary.csv, and what is in it: a row per recording. Cells of recordings without results are empty."""
    columns = ["recording", "state", "trials", "frames", "damaged_frames", "seconds", "mean_certainty"]
    columns += [f"{what}_{name}" for what in ("share", "s") for name in class_names]
    rows: list[dict[str, Any]] = []
    for outcome in outcomes:
        row: dict[str, Any] = {"recording": outcome.recording, "state": outcome.state, "reason": outcome.reason}
        if outcome.state in WITH_RESULTS and (record := folder.read(outcome.recording)):
            row |= _figures(record, class_names)
        rows.append(row)
    table = pd.DataFrame(rows, columns=[*columns, "reason"])
    whole = ["trials", "frames", "damaged_frames"]
    table[whole] = table[whole].astype("Int64")
    write_table(table, folder.out / SUMMARY)
    return table


def _figures(record: Record, class_names: Sequence[str]) -> dict[str, Any]:
    n_frames = sum(trial.n_frames for trial in record.trials)
    said = sum(record.frames)
    weighted = [(t.certainty or 0.0) * sum(t.frames) for t in record.trials]
    row = {
        "trials": len(record.trials),
        "frames": n_frames,
        "damaged_frames": sum(trial.n_damaged for trial in record.trials),
        "seconds": round(n_frames / record.fps, 3) if record.fps else math.nan,
        "mean_certainty": round(sum(weighted) / said, 4) if said else math.nan,
    }
    for name, n in zip(class_names, record.frames, strict=True):
        row[f"share_{name}"] = round(n / said, 4) if said else math.nan
        row[f"s_{name}"] = round(n / record.fps, 3) if record.fps else math.nan
    return row


def draw(folder: PredictFolder, outcomes: Sequence[Outcome], class_names: Sequence[str]) -> list[Path]:
    """Ethograms of all trials; those of a former call are left where they show the same."""
    shown = fingerprint.of_values(
        recordings={record.recording: record.made_of for record in records_of(folder, outcomes)}
    )
    former = folder.about().get("pictures", {})
    pictures = [folder.out / PICTURES / name for name in former.get("files", [])]
    if former.get("of") != shown or not all(path.is_file() for path in pictures):
        fps = next((record.fps for record in records_of(folder, outcomes) if record.fps), FPS)
        pictures = ethograms(_strips(folder, outcomes, class_names), class_names, folder.out / PICTURES, fps)
        for path in set((folder.out / PICTURES).glob("ethogram_*.png")) - set(pictures):
            path.unlink()
    write_about(folder, pictures={"of": shown, "files": [path.name for path in pictures]})
    return pictures


def _strips(folder: PredictFolder, outcomes: Sequence[Outcome], class_names: Sequence[str]) -> Iterator[Strip]:
    ids = {name: i for i, name in enumerate(class_names)}
    for record in records_of(folder, outcomes):
        for trial in record.trials:
            bouts = [
                Bout(ids[row["action"]], row["start_frame"] - trial.crop_start, row["stop_frame"] - trial.crop_start)
                for row in record.bouts
                if row["trial"] == trial.trial
            ]
            yield Strip(f"{record.recording} {trial.trial}", labels_of(bouts, trial.n_frames), start=trial.crop_start)


def write_about(folder: PredictFolder, **values: Any) -> None:
    """predict.json with these values beside, or instead of, those that it has."""
    write_text(folder.out / ABOUT, json.dumps(folder.about() | values, indent=1))


def describe(
    trained: Trained,
    files: Sequence[Path],
    made_of: dict[str, Any],
    settings: dict[str, Any],
    stimulus: Path | None,
) -> dict[str, Any]:
    """What predict.json says from the start of a call on. settings: those of its preprocess. stimulus: the table."""
    return {
        "finished": False,
        "made_of": made_of,
        "models": [
            {"path": str(file), "fingerprint": content} for file, content in zip(files, made_of["models"], strict=True)
        ],
        "class_names": list(trained.class_names),
        "keypoint_names": list(trained.keypoint_names),
        "decision": made_of["decision"],
        "stimulus": stimulus and {"path": str(stimulus), "fingerprint": fingerprint.of_file(stimulus)},
        "settings": {"preprocess": settings, "train": trained.train},
        "versions": {name: version(name) for name in ("paw-pipeline", "torch")},
    }


def finish(folder: PredictFolder, outcomes: Sequence[Outcome], class_names: Sequence[str]) -> tuple[int, int]:
    """All that is made of several recordings but pictures; returns the number of trials and of bouts."""
    n_bouts = write_bouts(folder, outcomes)
    table = write_summary(folder, outcomes, class_names)
    write_about(
        folder,
        finished=True,
        recordings=[outcome.recording for outcome in outcomes if outcome.state in WITH_RESULTS],
        left_out={o.recording: o.reason for o in outcomes if o.state not in WITH_RESULTS},
    )
    return int(table["trials"].sum()), n_bouts
