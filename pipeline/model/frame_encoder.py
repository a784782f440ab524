"""What every frame encoder is, and the pooling that keeps places.

Axes: B batch, T frames, N = B*T, C channels, H, W, S summary, M attention maps, P = H*W places, V values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class EncoderError(ValueError):
    """The encoder does not exist, or what it needs is not installed or not found; the message says what to do."""


class FrameEncoder(nn.Module):
    """Frames (B,T,C,H,W) float in [0, 1] -> (B,T,width).

    `previous` (B,C,H,W) is the frame before the first, if there is one: chunks encoded one after the other, each with
    the last frame of the one before it, give what the whole clip gives. `spec` holds plain values that, with the
    weights, build the same encoder again where its pretrained source is not at hand.
    """

    width: int
    spec: dict[str, Any]

    def forward(self, frames_BTCHW: torch.Tensor, previous_BCHW: torch.Tensor | None = None) -> torch.Tensor:
        raise NotImplementedError

    @property
    def trunk(self) -> nn.Module:
        """The part that `freeze` keeps fixed: of a pretrained encoder only what has been trained."""
        return self


def to_unit(frames_uint8: torch.Tensor) -> torch.Tensor:
    """uint8 frames (...,H,W,C) -> float32 (...,C,H,W) in [0, 1]."""
    return frames_uint8.movedim(-1, -3).contiguous().float().div_(255.0)


class PlacePooling(nn.Module):
    """What is in the picture and where: a feature map (N,C,H,W) and a summary (N,S) -> (N,width).

    Each of `maps` softmax attention maps gives its expected coordinates (the spatial soft-arg-max of Finn et al. 2016,
    https://arxiv.org/abs/1509.06113) and what stands there, so that places survive that a mean over the picture loses:
    the keypoint head depends on it, and small moving parts are seen beside a large still body.
    """

    def __init__(self, in_channels: int, summary: int, width: int, maps: int = 24, values: int = 8) -> None:
        super().__init__()
        self.scores = nn.Conv2d(in_channels, maps, 1)
        # A softmax of unit scores over hundreds of places is nearly flat and would say "the middle" for every frame.
        self.sharpness = nn.Parameter(torch.full((maps, 1, 1), 4.0))
        self.values = nn.Conv2d(in_channels, values, 1)
        self.out = nn.Linear(maps * (values + 2) + summary, width)

    def forward(self, x_NCHW: torch.Tensor, summary_NS: torch.Tensor) -> torch.Tensor:
        # Half precision would round a coordinate to 1/250 of the picture.
        with torch.autocast(x_NCHW.device.type, enabled=False):
            x_NCHW, summary_NS = x_NCHW.float(), summary_NS.float()
            attention_NMP = (self.scores(x_NCHW) * self.sharpness).flatten(2).softmax(-1)
            values_NPV = self.values(x_NCHW).flatten(2).transpose(1, 2)
            places_NMV = attention_NMP @ torch.cat([_centres(x_NCHW), values_NPV], -1)
            return self.out(torch.cat([places_NMV.flatten(1), summary_NS], -1))


def _centres(x_NCHW: torch.Tensor) -> torch.Tensor:
    """x and y of the cells' centres (N,P,2), in [-1, 1] over the picture."""
    N, _, H, W = x_NCHW.shape
    y = (torch.arange(H, device=x_NCHW.device) * 2 + 1) / H - 1
    x = (torch.arange(W, device=x_NCHW.device) * 2 + 1) / W - 1
    grid_HW2 = torch.stack([x.expand(H, W), y[:, None].expand(H, W)], -1)
    return grid_HW2.flatten(0, 1).expand(N, -1, -1)
