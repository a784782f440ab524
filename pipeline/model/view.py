"""A view that follows the animal: a square about it on every frame, turned and sized as it is, and what is seen there.

It follows the keypoints that it is given. Whatever is then found in the view, the keypoints' own places among it, is
therefore not found from pixels alone.
Axes: B batch, T frames, C channels, H, W, K keypoints, S side of a view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.model import pose_motion
from pipeline.model.animals import animals
from pipeline.model.pose_motion import SHORTEST, turned_back, turned_by
from pipeline.setting_texts import SettingsError

# Spread in frames of the Gaussian that the middle and the heading are smoothed by: a trembling view would look like a
# trembling paw. It is symmetric, so that a steady walk or turn is followed without a lag.
SMOOTH = 2.0
REACH = 6


@dataclass(frozen=True)
class View:
    """A square on every frame.

    middle: (B,T,2), in [0, 1] of the picture. turn: (B,T,2), of length 1, the direction in the picture of what goes
    right in the view. side: (B,), over that of the picture, one for a whole sample.
    """

    middle: torch.Tensor
    turn: torch.Tensor
    side: torch.Tensor

    def __getitem__(self, frames: slice) -> View:
        return View(self.middle[:, frames], self.turn[:, frames], self.side)

    def into(self, xy_BTK2: torch.Tensor) -> torch.Tensor:
        """Places in the picture as places in the view, in [0, 1] where they lie in it."""
        about = turned_back(xy_BTK2 - self.middle[:, :, None], self.turn[:, :, None])
        return about / self.side[:, None, None, None] + 0.5

    def back(self, places_BTK2: torch.Tensor) -> torch.Tensor:
        """Places in the view as places in the picture, which may lie outside of it."""
        about = (places_BTK2 - 0.5) * self.side[:, None, None, None]
        return turned_by(about, self.turn[:, :, None]) + self.middle[:, :, None]

    def moved(self, by_B4: torch.Tensor) -> View:
        """Each sample's view shifted by x and y in its sides, turned by an angle and zoomed by the exp of a number."""
        shift_B2, angle_B, zoom_B = by_B4[:, :2], by_B4[:, 2], by_B4[:, 3]
        by_B12 = torch.stack([angle_B.cos(), angle_B.sin()], -1)[:, None]
        shifted = turned_by((shift_B2 * self.side[:, None])[:, None].expand_as(self.turn), self.turn)
        return View(self.middle + shifted, turned_by(self.turn, by_B12), self.side * zoom_B.exp())


def whole(B: int, T: int, device: torch.device) -> View:
    """All of each frame, upright."""
    return View(
        torch.full((B, T, 2), 0.5, device=device),
        torch.tensor([1.0, 0.0], device=device).expand(B, T, 2),
        torch.ones(B, device=device),
    )


class AnimalView(nn.Module):
    """Keypoints of clips -> the View of every frame, whose pictures are of `size` pixels.

    span: side of the view in body sizes, the root mean square distance of the keypoints from their middle.
    """

    shape_n2: torch.Tensor

    def __init__(self, n_keypoints: int, size: int, span: float) -> None:
        super().__init__()
        self.size, self.span = size, span
        self.register_buffer("shape_n2", torch.zeros(n_keypoints, 2))

    @torch.no_grad()
    def fit(self, tracks: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """The mean shape, which views are turned by, of clips' (xy (T,K,2), visible (T,K))."""
        tensors = [(torch.from_numpy(xy), torch.from_numpy(visible)) for xy, visible in tracks if len(xy)]
        self.shape_n2.copy_(_upright(pose_motion.mean_shape(tensors)))

    @torch.no_grad()
    def forward(self, xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor) -> View:
        """Frames without a heading, after short gaps are bridged, have the place of the nearest that has one.

        The whole picture where there is none in the sample. Padding, in which nothing is visible, changes nothing.
        """
        return self.found(xy_BTK2, visible_BTK)[0]

    @torch.no_grad()
    def found(self, xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor) -> tuple[View, torch.Tensor]:
        """The views, and of which samples (B,) the keypoints tell one."""
        B, T, _, _ = xy_BTK2.shape
        (fit,) = pose_motion.fit_bridged(xy_BTK2, visible_BTK, [range(xy_BTK2.shape[2])], self.shape_n2)
        size_BT = fit.size.masked_fill(~fit.turned, torch.nan)
        size_B = size_BT.nanmedian(1).values if T else size_BT.new_full((B,), torch.nan)
        known_B = size_B > SHORTEST
        heading = at_nearest(fit.heading, fit.turned)
        middle, turn = smoothed(at_nearest(fit.middle, fit.turned)), smoothed(heading)
        length = turn.norm(dim=-1, keepdim=True)
        turn = torch.where(length > 1e-3, turn / length, heading)  # two opposite headings have no mean
        known_B11 = known_B[:, None, None]
        view = View(
            torch.where(known_B11, middle, 0.5),
            torch.where(known_B11, turn, turn.new_tensor([1.0, 0.0])),
            torch.where(known_B, size_B * self.span, 1.0),
        )
        return view, known_B


def pictures(frames_BTCHW: torch.Tensor, views: Sequence[View], size: int) -> torch.Tensor:
    """What V views show, of one side each sample: (B,T,V,C,S,S) of S = size pixels; black beyond the picture."""
    sides = views[0].side.tolist()
    return torch.stack([_of_one(frames_BTCHW[b], views, b, side, size) for b, side in enumerate(sides)])


def _of_one(frames_TCHW: torch.Tensor, views: Sequence[View], b: int, side: float, size: int) -> torch.Tensor:
    W = frames_TCHW.shape[-1]
    # Bilinear sampling sees two pixels across, so of a picture that is finer than the view it would skip some.
    # Means over whole blocks first leave it at most 1.5 pixels to one of the view.
    block = max(1, round(side * W / size))
    if block > 1:
        frames_TCHW = F.avg_pool2d(frames_TCHW, block, ceil_mode=True)
    covered = frames_TCHW.shape[-1] * block / W  # the last block may reach beyond the picture
    centres_S = (torch.arange(size, device=frames_TCHW.device) + 0.5) / size - 0.5
    y_SS, x_SS = torch.meshgrid(centres_S, centres_S, indexing="ij")
    offset_SS2 = torch.stack([x_SS, y_SS], -1) * side
    at_TSS2 = [turned_by(offset_SS2, v.turn[b, :, None, None]) + v.middle[b, :, None, None] for v in views]
    seen_TCLS = F.grid_sample(frames_TCHW, torch.cat(at_TSS2, 1) * (2 / covered) - 1, align_corners=False)
    return seen_TCLS.unflatten(2, (len(views), size)).transpose(1, 2)


def check_keypoints(keypoint_names: Sequence[str], given: str = "--view animal", instead: str = "--view full") -> None:
    """Raises SettingsError where no view can follow these. given: the setting that asks for it."""
    if len(keypoint_names) < 2:
        raise SettingsError(
            f"{given}: needs two keypoints or more to know where the animal looks, found {len(keypoint_names)}; "
            f"use {instead}"
        )
    if (n := len(animals(keypoint_names))) > 1:
        raise SettingsError(
            f"{given}: follows one animal, but the keypoints are of {n}, by their names "
            f"({', '.join(keypoint_names[:3])} ...); use {instead}"
        )


def _upright(shape_n2: torch.Tensor) -> torch.Tensor:
    """The shape turned so that its long axis is the picture's vertical, and the first keypoint is in the upper half."""
    x, y = shape_n2.double().unbind(-1)
    angle = 0.5 * torch.atan2(2 * (x * y).sum(), (x.square() - y.square()).sum())
    upright = turned_back(shape_n2.double(), torch.stack([-angle.sin(), angle.cos()]))
    return (upright if upright[0, 1] <= 0 else -upright).float()


def at_nearest(x_BT2: torch.Tensor, known_BT: torch.Tensor) -> torch.Tensor:
    """Of each frame what the known one next to it has."""
    return x_BT2.gather(1, _nearest(known_BT)[..., None].expand_as(x_BT2))


def _nearest(known_BT: torch.Tensor) -> torch.Tensor:
    """The index (B,T) of the known frame next to each, the earlier of two; any where none is known."""
    T = known_BT.shape[1]
    t = torch.arange(T, device=known_BT.device).expand_as(known_BT)
    before = _largest_yet(torch.where(known_BT, t, -2 * T))
    after = -_largest_yet(torch.where(known_BT, -t, -3 * T).flip(1)).flip(1)
    return torch.where(t - before <= after - t, before, after).clamp(0, max(T - 1, 0))


def _largest_yet(x_BT: torch.Tensor) -> torch.Tensor:
    """The largest of each frame and all before it, by doubled steps, since cummax is not on every device."""
    step = 1
    while step < x_BT.shape[1]:
        x_BT = torch.cat([x_BT[:, :step], torch.maximum(x_BT[:, step:], x_BT[:, :-step])], 1)
        step *= 2
    return x_BT


def smoothed(x_BT2: torch.Tensor) -> torch.Tensor:
    """Over time, as if the first and the last frame stood still before and after."""
    if not x_BT2.shape[1]:
        return x_BT2
    lags = torch.arange(-REACH, REACH + 1, device=x_BT2.device)
    weight = (-((lags / SMOOTH) ** 2) / 2).softmax(0)
    around = torch.cat([x_BT2[:, :1].expand(-1, REACH, -1), x_BT2, x_BT2[:, -1:].expand(-1, REACH, -1)], 1)
    return (around.unfold(1, len(lags), 1) * weight).sum(-1)
