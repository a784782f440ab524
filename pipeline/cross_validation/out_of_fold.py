"""What the model of a fold says of a clip that it was tested on: a file per clip.

Shapes: T frames, N classes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.model.decision import Evidence, evidence
from pipeline.train.run_folder import write_bytes

FOLDER = "out_of_fold"


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """One whole clip: logits (T,N) float32; labels (T,) int64 of the merged classes, -1 unlabelled.

    intact (T,): False of damaged frames. majority: the commonest class of the frames that the fold's model trained on,
    which the baseline always says. boundary (T,) float32: logits that a bout begins, None without a boundary head.
    decided (T,): the decision layer's labels, None for the arg-max.
    """

    recording: str
    trial: int
    fold: int
    logits: np.ndarray
    labels: np.ndarray
    intact: np.ndarray
    majority: int
    class_names: tuple[str, ...]
    boundary: np.ndarray | None = None
    decided: np.ndarray | None = None

    @property
    def pred(self) -> np.ndarray:
        """The classes (T,) that are scored."""
        return self.logits.argmax(-1) if self.decided is None else self.decided

    @property
    def evidence(self) -> Evidence:
        """For the decision layer."""
        return evidence(self.logits, self.intact, self.boundary)

    @property
    def baseline(self) -> np.ndarray:
        """The majority class for every frame (T,)."""
        return np.full_like(self.labels, self.majority)


def path_of(out: Path, recording: str, trial: int) -> Path:
    """Where a clip's logits lie in the folder of a cross-validation."""
    return out / FOLDER / f"{recording}_{trial}.npz"


def save(clip: OutOfFold, out: Path) -> None:
    """Writes all but what is decided, whole or not at all."""
    content = io.BytesIO()
    fields = {name: value for name, value in vars(clip).items() if name != "decided" and value is not None}
    fields["class_names"] = np.array(clip.class_names)
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
            intact=fields["intact"],
            majority=int(fields["majority"]),
            class_names=tuple(fields["class_names"].tolist()),
            boundary=fields.get("boundary"),
        )
