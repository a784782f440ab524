"""How training makes up for classes that have few frames. Axes: N classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.train_settings import TrainSettings


@dataclass(frozen=True)
class Balance:
    """weights_N: what a labelled frame of each class counts in the loss. added_N: what the loss adds to the logits."""

    weights_N: torch.Tensor
    added_N: torch.Tensor

    def to(self, device: torch.device | str) -> Balance:
        return Balance(self.weights_N.to(device), self.added_N.to(device))


def balance(counts_N: np.ndarray, settings: TrainSettings) -> Balance:
    """Of the training frames of each class, (N,) int."""
    counts = torch.from_numpy(counts_N)
    return Balance(class_weights(counts, settings.class_weight_power), log_shares(counts, settings.logit_adjust))


def class_weights(counts_N: torch.Tensor, power: float) -> torch.Tensor:
    """(1 / share)^power of each class, float32 (N,), scaled so that the mean weight of the training frames is 1.

    A class that has no frames has weight 0: there is nothing to learn it from.
    """
    share_N = _shares(counts_N)
    weight_N = torch.where(share_N > 0, share_N.clamp(min=1e-12) ** -power, 0.0)
    mean_weight = (share_N * weight_N).sum()
    return (weight_N / mean_weight.clamp(min=1e-12)).float()


def log_shares(counts_N: torch.Tensor, times: float) -> torch.Tensor:
    """times * log(share) of each class, float32 (N,); added to the logits in the loss alone.

    The logit adjustment of Menon et al. 2021, https://arxiv.org/abs/2007.07314: with times 1 what is learned are the
    logits of classes that are equally frequent. A class that has no frames gets 0: it is learned to be nowhere.
    """
    share_N = _shares(counts_N)
    return torch.where(share_N > 0, times * share_N.clamp(min=1e-12).log(), 0.0).float()


def _shares(counts_N: torch.Tensor) -> torch.Tensor:
    """Of all frames, float64 (N,); all 0 where there is none."""
    return counts_N.double() / counts_N.sum().clamp(min=1)
