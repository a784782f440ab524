"""Temporal convolutional network over a clip: dilated, residual, looking both back and ahead in time.

The layer is the dilated residual layer of MS-TCN (Farha and Gall 2019, https://arxiv.org/abs/1903.01945), with a layer
norm over the channels of each frame before it. Nothing is normalised over time, so a clip's length changes no output.
Axes: B batch, T frames, S steps of some frames each, D features in, C channels.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class TCN(nn.Module):
    """Layer l has dilation 2^l, so the receptive field doubles from layer to layer."""

    def __init__(self, in_features: int, channels: int, layers: int, kernel: int, dropout: float) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"--tcn-kernel {kernel}: expected an odd number of frames, so that a frame has a middle")
        self.enter = nn.Linear(in_features, channels)
        self.layers = nn.ModuleList(_Layer(channels, kernel, 2**level, dropout) for level in range(layers))
        self.leave = nn.LayerNorm(channels)
        self.receptive_field = receptive_field(layers, kernel)

    def forward(self, x_BTD: torch.Tensor, valid_BT: torch.Tensor) -> torch.Tensor:
        """(B,T,D) -> (B,T,C). Frames that are not valid reach no other frame; what stands in theirs means nothing."""
        x_BTC = self.enter(x_BTD)
        for layer in self.layers:
            x_BTC = layer(x_BTC, valid_BT)
        return self.leave(x_BTC)


class _Layer(nn.Module):
    def __init__(self, channels: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.over_time = nn.Conv1d(channels, channels, kernel, padding=dilation * (kernel // 2), dilation=dilation)
        self.mix = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTC: torch.Tensor, valid_BT: torch.Tensor) -> torch.Tensor:
        # Zero in padded frames is what the convolution itself puts beyond a clip's ends.
        h_BTC = self.norm(x_BTC).masked_fill(~valid_BT[..., None], 0.0)
        h_BTC = self.over_time(h_BTC.transpose(1, 2)).transpose(1, 2)
        return x_BTC + self.dropout(self.mix(torch.relu(h_BTC)))


def pooled(x_BTD: torch.Tensor, valid_BT: torch.Tensor, stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means (B,S,D) over `stride` valid frames each, S = ceil(T / stride), and which of them have any."""
    if stride == 1:
        return x_BTD, valid_BT
    missing = -x_BTD.shape[1] % stride
    weight_BTD = F.pad(valid_BT, (0, missing))[..., None].to(x_BTD.dtype)
    x_BTD = F.pad(x_BTD, (0, 0, 0, missing)).masked_fill(weight_BTD == 0, 0.0)
    total_BSD, n_BSD = (x.unflatten(1, (-1, stride)).sum(2) for x in (x_BTD, weight_BTD))
    return total_BSD / n_BSD.clamp(min=1), n_BSD[..., 0] > 0


def stretched(x_BSD: torch.Tensor, T: int, stride: int) -> torch.Tensor:
    """Each step's values for the `stride` frames that `pooled` made it of: (B,T,D)."""
    return x_BSD if stride == 1 else x_BSD.repeat_interleave(stride, 1)[:, :T]


def receptive_field(layers: int, kernel: int) -> int:
    """Frames that one output frame depends on; 6 layers of kernel 3 see 127."""
    return 1 + (kernel - 1) * (2**layers - 1)
