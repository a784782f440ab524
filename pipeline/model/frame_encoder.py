"""What every frame encoder is, and the pooling that keeps places.

Axes: B batch, T frames, N = B*T, C channels, H, W, S summary, M attention maps, P = H*W places, V values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


class EncoderError(ValueError):
    """The encoder does not exist, or what it needs is not installed or not found; the message says what to do."""


@dataclass(frozen=True)
class Encoded:
    """What an encoder gives of every frame.

    features (B,T,D). places (B,T,K,2): x and y where it sees each keypoint, in (0, 1) over the picture. log_heat
    (B,T,K,H,W): the logarithm of the attention of which they are the mean. Both None if it was made for no keypoints.
    """

    features: torch.Tensor
    places: torch.Tensor | None = None
    log_heat: torch.Tensor | None = None


class FrameEncoder(nn.Module):
    """Frames (B,T,C,H,W) float in [0, 1] -> Encoded, of D = width and K = n_places.

    `previous` (B,C,H,W) is the frame before the first, if there is one: chunks encoded one after the other, each with
    the last frame of the one before it, give what the whole clip gives. `spec` holds plain values that, with the
    weights, build the same encoder again where its pretrained source is not at hand.
    """

    width: int
    spec: dict[str, Any]

    def forward(self, frames_BTCHW: torch.Tensor, previous_BCHW: torch.Tensor | None = None) -> Encoded:
        raise NotImplementedError

    @property
    def trunk(self) -> nn.Module:
        """The part that `freeze` keeps fixed: of a pretrained encoder only what has been trained."""
        return self


def per_clip(encoded: Encoded, BT: torch.Size) -> Encoded:
    """Frames N = B*T as the (B,T) of their batch."""
    optional = (encoded.places, encoded.log_heat)
    apart = [None if tensor is None else tensor.unflatten(0, BT) for tensor in optional]
    return Encoded(encoded.features.unflatten(0, BT), *apart)


def to_unit(frames_uint8: torch.Tensor) -> torch.Tensor:
    """uint8 frames (...,H,W,C) -> float32 (...,C,H,W) in [0, 1]."""
    return frames_uint8.movedim(-1, -3).contiguous().float().div_(255.0)


# Of the keypoint maps' gradient so much reaches the features that they are made from. The keypoints' losses would else
# decide what these show: on rendered animals the behaviour then stayed at the commonest class for 5 epochs, and is
# learned from the second on with this, at keypoints that are as good (0.11 of the picture, 0.10 after 2 epochs).
KEYPOINT_GRADIENT = 0.1


class PlacePooling(nn.Module):
    """What is in the picture and where: a feature map (N,C,H,W) and a summary (N,S) -> an Encoded of the frames N.

    Each of `maps` softmax attention maps gives its expected coordinates (the spatial soft-arg-max of Finn et al. 2016,
    https://arxiv.org/abs/1509.06113) and what stands there, so that places survive that a mean over the picture loses:
    small moving parts are seen beside a large still body. K = n_places more of them are the keypoints' own.
    """

    def __init__(
        self, in_channels: int, summary: int, width: int, n_places: int, maps: int = 24, values: int = 8
    ) -> None:
        super().__init__()
        self.n_places = n_places
        self.scores = nn.Conv2d(in_channels, maps, 1)
        self.keypoints = _keypoint_scores(in_channels, n_places) if n_places else None
        # A softmax of unit scores over hundreds of places is nearly flat and would say "the middle" for every frame.
        self.sharpness = nn.Parameter(torch.full((n_places + maps, 1, 1), 4.0))
        self.values = nn.Conv2d(in_channels, values, 1)
        self.out = nn.Linear((n_places + maps) * (values + 2) + summary, width)

    def forward(self, x_NCHW: torch.Tensor, summary_NS: torch.Tensor) -> Encoded:
        # Half precision would round a coordinate to 1/250 of the picture.
        with torch.autocast(x_NCHW.device.type, enabled=False):
            x_NCHW, summary_NS = x_NCHW.float(), summary_NS.float()
            scores_NMHW = self.scores(x_NCHW)
            if self.keypoints is not None:
                looked_at_NCHW = x_NCHW.detach() + KEYPOINT_GRADIENT * (x_NCHW - x_NCHW.detach())
                scores_NMHW = torch.cat([self.keypoints(looked_at_NCHW), scores_NMHW], 1)
            log_attention_NMP = (scores_NMHW * self.sharpness).flatten(2).log_softmax(-1)
            values_NPV = self.values(x_NCHW).flatten(2).transpose(1, 2)
            found_NMV = log_attention_NMP.exp() @ torch.cat([_centres(x_NCHW), values_NPV], -1)
            features_ND = self.out(torch.cat([found_NMV.flatten(1), summary_NS], -1))
            if not self.n_places:
                return Encoded(features_ND)
            places_NK2 = (found_NMV[:, : self.n_places, :2] + 1) / 2
            log_heat_NKP = log_attention_NMP[:, : self.n_places]
            return Encoded(features_ND, places_NK2, log_heat_NKP.unflatten(-1, x_NCHW.shape[-2:]))


def _keypoint_scores(in_channels: int, n_places: int, hidden: int = 48) -> nn.Sequential:
    """Near 0 at first, so that every keypoint begins in the middle of the picture."""
    last = nn.Conv2d(hidden, n_places, 1, bias=False)  # a softmax over places is the same with one
    nn.init.normal_(last.weight, std=0.01)
    return nn.Sequential(nn.Conv2d(in_channels, hidden, 3, padding=1), nn.SiLU(), last)


def _centres(x_NCHW: torch.Tensor) -> torch.Tensor:
    """x and y of the cells' centres (N,P,2), in [-1, 1] over the picture."""
    N, _, H, W = x_NCHW.shape
    y = (torch.arange(H, device=x_NCHW.device) * 2 + 1) / H - 1
    x = (torch.arange(W, device=x_NCHW.device) * 2 + 1) / W - 1
    grid_HW2 = torch.stack([x.expand(H, W), y[:, None].expand(H, W)], -1)
    return grid_HW2.flatten(0, 1).expand(N, -1, -1)
