"""What the model of a fold says of a clip that it was tested on: a file per clip.

Shapes: T frames, N classes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.train.run_folder import write_bytes

FOLDER = "out_of_fold"


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """One whole clip: logits (T,N) float32; labels (T,) int64 of the merged classes, -1 unlabelled.

    majority: the commonest class of the frames that the fold's model trained on, which the baseline always says.
    """

    recording: str
    trial: int
    fold: int
    logits: np.ndarray
    labels: np.ndarray
    majority: int
    class_names: tuple[str, ...]

    @property
    def pred(self) -> np.ndarray:
        """The arg-max classes (T,)."""
        return self.logits.argmax(-1)

    @property
    def baseline(self) -> np.ndarray:
        """The majority class for every frame (T,)."""
        return np.full_like(self.labels, self.majority)


def path_of(out: Path, recording: str, trial: int) -> Path:
    """Where a clip's logits lie in the folder of a cross-validation."""
    return out / FOLDER / f"{recording}_{trial}.npz"


def save(clip: OutOfFold, out: Path) -> None:
    """Writes logits, labels, class_names, recording, trial, fold and majority, whole or not at all."""
    content = io.BytesIO()
    fields = vars(clip) | {"class_names": np.array(clip.class_names)}
    np.savez(content, **fields)
    write_bytes(path_of(out, clip.recording, clip.trial), content.getvalue())


def load(out: Path, clips: Sequence[tuple[str, int]]) -> list[OutOfFold]:
    """What was saved of these (recording, trial)."""
    return [_load(path_of(out, *clip)) for clip in clips]


def _load(path: Path) -> OutOfFold:
    with np.load(path, allow_pickle=False) as fields:
        return OutOfFold(
            recording=str(fields["recording"]),
            trial=int(fields["trial"]),
            fold=int(fields["fold"]),
            logits=fields["logits"],
            labels=fields["labels"],
            majority=int(fields["majority"]),
            class_names=tuple(fields["class_names"].tolist()),
        )
