"""The frames at which bouts begin, as the boundary head learns them. Axes: B batch, T frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from cache.clip import UNLABELLED

# A bout begins at its first frame and so many before and after it: annotators differ by about as much.
REACH = 2


def targets(labels_BT: torch.Tensor, seam_BT: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Where bouts begin, and where that is known, (B,T) bool each.

    A bout begins where two labelled frames in a row have different classes. Within REACH of one it is known that it
    does; that none does is known where there are labels on both sides of all of these frames, so not beside unlabelled
    frames, nor at the ends of a window. Unlabelled frames have no target.
    seam (B,T) bool: frames that do not follow the one before them; what is begun on one side says nothing of the other.
    """
    labelled_BT = labels_BT != UNLABELLED
    # Of each frame and the one before it; of the first there is none.
    both_BT = F.pad(labelled_BT[:, 1:] & labelled_BT[:, :-1], (1, 0), value=False)
    seam_BT = torch.zeros_like(both_BT) if seam_BT is None else seam_BT
    both_BT = both_BT & ~seam_BT
    begins_BT = F.pad(labels_BT[:, 1:] != labels_BT[:, :-1], (1, 0), value=False) & both_BT
    near_BT = _spread(begins_BT, seam_BT) & labelled_BT
    return near_BT, (near_BT | ~_any_near(~both_BT)) & labelled_BT


def _spread(x_BT: torch.Tensor, seam_BT: torch.Tensor) -> torch.Tensor:
    """Whether any of the frames within REACH is true, of those that no seam lies before."""
    for _ in range(REACH):
        from_before_BT = F.pad(x_BT[:, :-1], (1, 0), value=False) & ~seam_BT
        from_after_BT = F.pad((x_BT & ~seam_BT)[:, 1:], (0, 1), value=False)
        x_BT = x_BT | from_before_BT | from_after_BT
    return x_BT


def _any_near(x_BT: torch.Tensor) -> torch.Tensor:
    """Whether any of the frames within REACH is true, as those before the first and after the last are."""
    padded_B1T = F.pad(x_BT, (REACH, REACH), value=True).float()[:, None]
    return F.max_pool1d(padded_B1T, 2 * REACH + 1, 1)[:, 0] > 0


def positive_weight(labels: Sequence[np.ndarray]) -> float:
    """The inverse of the share of frames near a begin, of clips' labels (T,), as in ASRF; 1 where no bout begins."""
    found = [targets(torch.from_numpy(labels_T)[None]) for labels_T in labels if len(labels_T)]
    n_near, n_known = (sum(int(of_clip[i].sum()) for of_clip in found) for i in (0, 1))
    return n_known / n_near if n_near else 1.0
