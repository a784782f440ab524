"""The share of trials in each behaviour around the stimulus.

Shapes: P moments, N classes, U animals.
"""

from __future__ import annotations

import numpy as np

STEP_S = 0.1
BEFORE_S, AFTER_S = -5.0, 15.0


def moments() -> np.ndarray:
    """Seconds from the stimulus (P,), 0 among them."""
    return np.arange(round(BEFORE_S / STEP_S), round(AFTER_S / STEP_S) + 1) * STEP_S


def states(labels: np.ndarray, fps: float, first: int, stim_frame: int) -> np.ndarray:
    """The label (P,) of the frame that is shown at each moment; -1 where there is none or it is not scored.

    At 0 s that is the stimulus frame, which counts from the trial's start; labels begin at trial frame `first`.
    """
    frames = stim_frame - first + np.floor(moments() * fps + 1e-6).astype(int)
    inside = (frames >= 0) & (frames < len(labels))
    return np.where(inside, labels[np.clip(frames, 0, len(labels) - 1)], -1)


def shares(trials: np.ndarray, n_classes: int) -> np.ndarray:
    """Of the states (n,P) of one animal's trials: the share (P,N) of those scored at a moment; NaN where none is."""
    n_in = (trials[:, :, None] == np.arange(n_classes)).sum(axis=0)
    n_scored = (trials >= 0).sum(axis=0)[:, None]
    return np.where(n_scored > 0, n_in / np.maximum(n_scored, 1), np.nan)
