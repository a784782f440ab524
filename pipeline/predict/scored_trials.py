"""What a model said of each trial that it was scored on, kept beside the scores: a file per trial.

Axes: T frames, N classes, K keypoints.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.train.run_folder import write_bytes

FOLDER = "scored_trials"


class ScoredTrialError(ValueError):
    """A file of a scored trial cannot be read; the message says which and what to do."""


@dataclass(frozen=True, eq=False)
class ScoredTrial:
    """One whole trial: logits (T,N) float32; labels (T,) int64 of the merged classes, -1 unlabelled.

    decided (T,): the decision layer's labels, None without one. intact (T,): False of damaged frames. majority: the
    commonest class of the training frames. first: the trial's frame that the arrays begin at. fps: None without a
    video. error_px (T,K,2) float32: predicted less true place, in pixels of the video; NaN where the point is not
    visible; None where the model places none.
    """

    recording: str
    trial: int
    logits: np.ndarray
    labels: np.ndarray
    intact: np.ndarray
    majority: int
    class_names: tuple[str, ...]
    first: int = 0
    fps: float | None = None
    decided: np.ndarray | None = None
    keypoint_names: tuple[str, ...] = ()
    error_px: np.ndarray | None = None


def save_all(trials: Iterable[ScoredTrial], out: Path) -> None:
    """A file per trial, each whole or not at all; those of a former call are taken away first."""
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for former in folder.glob("*.npz"):
        former.unlink()
    for trial in trials:
        fields: dict[str, Any] = {name: value for name, value in vars(trial).items() if value is not None}
        content = io.BytesIO()
        np.savez_compressed(content, **fields)
        write_bytes(folder / f"{trial.recording}_{trial.trial}.npz", content.getvalue())


def load_all(out: Path) -> list[ScoredTrial]:
    """The trials that were kept in `out`, by recording and trial; none where nothing was. Raises ScoredTrialError."""
    trials = [_load(path) for path in (out / FOLDER).glob("*.npz")]
    return sorted(trials, key=lambda trial: (trial.recording, trial.trial))


def _load(path: Path) -> ScoredTrial:
    try:
        with np.load(path, allow_pickle=False) as fields:
            return ScoredTrial(
                recording=str(fields["recording"]),
                trial=int(fields["trial"]),
                logits=fields["logits"],
                labels=fields["labels"],
                intact=fields["intact"],
                majority=int(fields["majority"]),
                class_names=tuple(fields["class_names"].tolist()),
                first=int(fields["first"]),
                fps=float(fields["fps"]) if "fps" in fields else None,
                decided=fields.get("decided"),
                keypoint_names=tuple(fields["keypoint_names"].tolist()),
                error_px=fields.get("error_px"),
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        raise ScoredTrialError(f"{path}: damaged; `pipeline evaluate --out {path.parents[1]}` makes it again") from None
