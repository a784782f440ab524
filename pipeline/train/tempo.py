"""A batch whose samples are played faster or slower, all of their frames, and so become shorter or longer.

Axes: B batch, T frames, K keypoints. A place is where a frame of the new sample lies in the old one, in its frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cache.clip import UNLABELLED
from pipeline.train.batch import Batch


def played(batch: Batch, tempos: Sequence[float]) -> Batch:
    """The batch with its sample b played tempos[b] times as fast, from its first valid frame to its last.

    A sample of n frames has round((n - 1) / tempo) + 1; the batch is as long as the longest, padded as ever. Labels and
    pixels are those of the nearest frame, and with pixels the keypoints too, which are then where the pixels show them.
    Without, a keypoint lies on the line between the frames before and after where both show it; it is there, and
    otherwise lies, as in the nearest frame. So do the times, which go by as fast as the frames.
    """
    lengths = batch.valid.sum(1).tolist()
    between = _between(lengths, tempos, batch.valid.device)
    nearest, valid = between.nearest_BT, between.valid_BT
    rows = torch.arange(len(batch), device=nearest.device)[:, None]
    frames = when = None
    if batch.frames is None:
        xy = between.of(batch.xy, batch.visible[..., None])
    else:
        xy = batch.xy[rows, nearest]
        frames = batch.frames[rows, nearest].masked_fill_(~valid[..., None, None, None], 0)
    if batch.when is not None:
        when = between.of(batch.when, batch.when.isfinite()).masked_fill(~valid[..., None], math.nan)
    return Batch(
        frames,
        xy.masked_fill(~valid[..., None, None], 0.0),
        batch.visible[rows, nearest] & valid[..., None],
        batch.labels[rows, nearest].masked_fill(~valid, UNLABELLED),
        valid,
        when,
    )


@dataclass(frozen=True)
class _Between:
    """For each frame (B,T) of the new samples the old frames before, after and nearest to its place; share: how far it
    is from the one before towards the one after. valid: False where a new sample has ended.
    """

    before_BT: torch.Tensor
    after_BT: torch.Tensor
    nearest_BT: torch.Tensor
    share_BT: torch.Tensor
    valid_BT: torch.Tensor

    def of(self, values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Values (B,T,...) at the places: on the line where both frames' are known (B,T,...), else the nearest's."""
        rows = torch.arange(len(values), device=values.device)[:, None]
        share = self.share_BT.view(*self.share_BT.shape, *[1] * (values.ndim - 2))
        on_line = torch.lerp(values[rows, self.before_BT], values[rows, self.after_BT], share)
        both = known[rows, self.before_BT] & known[rows, self.after_BT]
        return torch.where(both, on_line, values[rows, self.nearest_BT])


def _between(lengths: Sequence[int], tempos: Sequence[float], device: torch.device) -> _Between:
    places = [_places(n, tempo) for n, tempo in zip(lengths, tempos, strict=True)]
    at_BT = np.zeros((len(places), max(map(len, places), default=0)))
    valid_BT = np.zeros(at_BT.shape, bool)
    for b, at in enumerate(places):
        at_BT[b, : len(at)], valid_BT[b, : len(at)] = at, True
    before_BT = np.floor(at_BT).astype(np.int64)
    last_B1 = np.maximum(np.array(lengths, np.int64) - 1, 0)[:, None]
    after_BT = np.minimum(before_BT + 1, last_B1)
    nearest_BT = np.floor(at_BT + 0.5).astype(np.int64)
    share_BT = (at_BT - before_BT).astype(np.float32)
    indices = (torch.from_numpy(values).to(device) for values in (before_BT, after_BT, nearest_BT, share_BT, valid_BT))
    return _Between(*indices)


def _places(n: int, tempo: float) -> np.ndarray:
    """From frame 0 to n - 1, `tempo` apart, but for what makes a whole number of them."""
    return np.linspace(0, n - 1, round((n - 1) / tempo) + 1) if n else np.zeros(0)
