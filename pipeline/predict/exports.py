"""Tables that a prediction leaves: one CSV a trial, one bout table a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cache import Clip
from pipeline import bouts
from pipeline.train.run_folder import write_blocks, write_text

TABLES = "trials"  # the folder of the trials' tables in that of a prediction
BOUT_COLUMNS = (
    "recording", "trial", "action", "start_frame", "stop_frame", "start_video_frame", "duration_frames", "duration_s",
    "mean_probability",
)  # fmt: skip
# Rows of a table that are text at the same time.
ROWS_TOGETHER = 20_000


@dataclass(frozen=True)
class Prediction:
    """What a model says of one clip.

    labels: (T,) class per frame. probabilities: (T,N). xy_px: (T,K,2) in pixels of the original video, or None.
    Of a damaged frame nothing is said: -1 and NaN.
    """

    clip: Clip
    labels: np.ndarray
    probabilities: np.ndarray
    xy_px: np.ndarray | None


def trial_name(clip: Clip) -> str:
    """Name of a trial's table, as annotations are named: prediction_<video file name>_<trial>.csv."""
    video = clip.source["video"]
    return f"prediction_{Path(video).name if video else clip.recording}_{clip.trial}.csv"


def trial_table(prediction: Prediction, class_names: Sequence[str], rows: slice = slice(None)) -> pd.DataFrame:
    """One row a frame: Frame (of the trial), Action (name), VideoFrame, Time_s, p_<class>, <keypoint>_x and _y (px).

    Of a damaged frame all but Frame, VideoFrame and Time_s are empty. rows: of which frames; all by default.
    """
    clip = prediction.clip
    names = np.array([*class_names, ""], dtype=object)  # the last one is what -1 indexes
    columns: dict[str, np.ndarray] = {
        "Frame": clip.source["crop_start"] + np.arange(len(clip))[rows],
        "Action": names[prediction.labels[rows]],
        "VideoFrame": clip.frame_index[rows],
        "Time_s": np.round(clip.time_s[rows], 4),
    }
    for index, name in enumerate(class_names):
        columns[f"p_{name}"] = np.round(prediction.probabilities[rows, index].astype(np.float64), 4)
    if prediction.xy_px is not None:
        for index, name in enumerate(clip.keypoint_names):
            for axis, suffix in enumerate("xy"):
                columns[f"{name}_{suffix}"] = np.round(prediction.xy_px[rows, index, axis].astype(np.float64), 2)
    return pd.DataFrame(columns)


def bout_table(predictions: Sequence[Prediction], class_names: Sequence[str]) -> pd.DataFrame:
    """One row a bout of every trial: where it starts and stops (half open, frames of the trial), seconds, certainty."""
    rows = []
    for prediction in predictions:
        clip = prediction.clip
        for bout in bouts.find(prediction.labels):
            certainty = prediction.probabilities[bout.start : bout.stop, bout.class_id].mean()
            rows.append(
                {
                    "recording": clip.recording,
                    "trial": clip.trial,
                    "action": class_names[bout.class_id],
                    "start_frame": clip.source["crop_start"] + bout.start,
                    "stop_frame": clip.source["crop_start"] + bout.stop,
                    "start_video_frame": int(clip.frame_index[bout.start]),
                    "duration_frames": bout.stop - bout.start,
                    "duration_s": round((bout.stop - bout.start) / clip.fps, 4) if clip.fps else np.nan,
                    "mean_probability": round(float(certainty), 4),
                }
            )
    return pd.DataFrame(rows, columns=list(BOUT_COLUMNS))


def write_trial(prediction: Prediction, class_names: Sequence[str], path: Path) -> Path:
    """The `trial_table` as a CSV, made a part at a time: whole or not at all."""
    starts = range(0, len(prediction.clip), ROWS_TOGETHER)
    tables = (trial_table(prediction, class_names, slice(start, start + ROWS_TOGETHER)) for start in starts)
    write_blocks(path, (csv_rows(table, header=not i) for i, table in enumerate(tables)))
    return path


def csv_rows(table: pd.DataFrame, *, header: bool) -> bytes:
    """A part of a CSV, the first with the names of the columns."""
    return table.to_csv(index=False, header=header, lineterminator="\n").encode()


def write_table(table: pd.DataFrame, path: Path) -> Path:
    """A CSV, whole or not at all."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
    return path
