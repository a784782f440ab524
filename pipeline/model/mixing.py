"""Windows of a batch mixed with each other, to learn from: mixup (Zhang et al. 2018, https://arxiv.org/abs/1710.09412).

What is mixed are the features of each frame, as in manifold mixup (Verma et al. 2019,
https://arxiv.org/abs/1806.05236): the mean of two animals' keypoints is no animal.
Axes: B batch, T frames, D features.
"""

from __future__ import annotations

import torch


def partners(of_batch: torch.Tensor) -> torch.Tensor:
    """(B,...) of the sample that each is mixed with: the next one, for the last the first.

    An epoch's windows come in random order, so this partner is as random as any.
    """
    return of_batch.roll(-1, 0)


def mixed(features_BTD: torch.Tensor, own_share_BT: torch.Tensor) -> torch.Tensor:
    """Each sample's share of its own features, and of its partner's what is left of 1."""
    share_BT1 = own_share_BT[..., None].to(features_BTD.dtype)
    return share_BT1 * features_BTD + (1 - share_BT1) * partners(features_BTD)
