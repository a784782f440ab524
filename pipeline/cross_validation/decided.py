"""Out-of-fold labels by a decision layer."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.cross_validation.out_of_fold import OutOfFold
from pipeline.train.decide import cross_fitted
from pipeline.train.run_folder import write_bytes

DECIDED = "decided.npz"


def decided_by_other_folds(clips: Sequence[OutOfFold]) -> list[OutOfFold]:
    """The clips with the labels of a decision layer fitted on the other folds; of a single fold, the arg-max."""
    folds = [str(clip.fold) for clip in clips]
    trials, labels = [clip.evidence for clip in clips], [clip.labels for clip in clips]
    said = cross_fitted(trials, labels, folds, parts=len(set(folds)))
    return [dataclasses.replace(clip, decided=ids) for clip, ids in zip(clips, said, strict=True)]


def save_decided(clips: Sequence[OutOfFold], out: Path) -> None:
    """Writes the decided labels of all clips: recording, trial and n_frames (R,), labels, one clip after the other."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        recording=[clip.recording for clip in clips],
        trial=[clip.trial for clip in clips],
        n_frames=[len(clip.pred) for clip in clips],
        labels=np.concatenate([clip.pred for clip in clips]).astype(np.int16),
    )
    write_bytes(out / DECIDED, content.getvalue())


def load_decided(clips: Sequence[OutOfFold], out: Path) -> list[OutOfFold]:
    """The clips with the labels that were saved; fitted again where there are none of these clips."""
    if (out / DECIDED).is_file():
        with np.load(out / DECIDED, allow_pickle=False) as fields:
            names = zip(fields["recording"].tolist(), fields["trial"].tolist(), strict=True)
            parts = np.split(fields["labels"].astype(np.int64), np.cumsum(fields["n_frames"])[:-1])
        saved = dict(zip(names, parts, strict=True))
        if all(len(saved.get((clip.recording, clip.trial), ())) == len(clip.labels) for clip in clips):
            return [dataclasses.replace(clip, decided=saved[clip.recording, clip.trial]) for clip in clips]
    return decided_by_other_folds(clips)
