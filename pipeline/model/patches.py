"""Small patches around keypoints: where a paw is a few pixels of the picture, it is looked at by itself.

A patch follows its keypoint as it is given, turned and sized as the animal is, and so is no way to find keypoints by.
Axes: B batch, T frames, P patches of a frame, C channels, H, W, S side of a patch, K keypoints, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipeline.model import pose_graph, pose_motion
from pipeline.model.cnn import channels_seen, standardised
from pipeline.model.view import AnimalView, View, at_nearest, check_keypoints, pictures, smoothed
from pipeline.setting_texts import SettingsError, parse_list

AUTO = "auto"
PAWS = pose_graph.PARTS[2:]
# Length D of the feature vector of a frame's patches, and of each one by itself.
WIDTH, OF_ONE = 64, 32
# Channels and stride of the convolutions; where in a patch something is, the linear layer after them still sees.
CONVOLUTIONS = ((16, 2), (32, 1), (32, 2))


@dataclass(frozen=True)
class PatchViews:
    """The view of each patch, alike in turn and side. known (B,T,P): the keypoint is visible in the frame, or a gap in
    its track is bridged there. shown (B,P): whether the sample shows it at all.
    """

    views: tuple[View, ...]
    known: torch.Tensor
    shown: torch.Tensor

    def __getitem__(self, frames: slice) -> PatchViews:
        return PatchViews(tuple(view[frames] for view in self.views), self.known[:, frames], self.shown)


class Patches(nn.Module):
    """Keypoints -> where the patches are; frames -> patches of `size` pixels; patches -> features (B,T,WIDTH).

    indices: the keypoints that are looked at. span: side of a patch in body sizes, see `AnimalView`.
    """

    def __init__(
        self, indices: Sequence[int], n_keypoints: int, channels: int, size: int, span: float, change: bool = True
    ) -> None:
        super().__init__()
        self.indices, self.size = list(indices), size
        self.animal = AnimalView(n_keypoints, size, span)
        self.encoder = PatchEncoder(len(indices), channels, size, change)

    def fit(self, tracks: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """As `AnimalView.fit`."""
        self.animal.fit(tracks)

    @torch.no_grad()
    def views(self, xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor) -> PatchViews:
        """A patch that has no keypoint in a frame, after short gaps are bridged, is where it was or will be next."""
        view, sized_B = self.animal.found(xy_BTK2, visible_BTK)
        parts = pose_motion.bridged_parts(xy_BTK2[:, :, self.indices], visible_BTK[:, :, self.indices])
        xy_BTP2, known_BTP = (torch.cat(tensors, 1) for tensors in zip(*parts, strict=True))
        tracks = zip(xy_BTP2.unbind(2), known_BTP.unbind(2), strict=True)
        middles = (smoothed(at_nearest(xy_BT2, known_BT)) for xy_BT2, known_BT in tracks)
        views = tuple(View(middle, view.turn, view.side) for middle in middles)
        return PatchViews(views, known_BTP, known_BTP.any(1) & sized_B[:, None])

    def pictures(self, frames_BTCHW: torch.Tensor, views: PatchViews) -> torch.Tensor:
        """The patches (B,T,P,C,S,S); black where the sample does not show the keypoint, and beyond the picture."""
        seen = pictures(frames_BTCHW, views.views, self.size)
        return seen.masked_fill(~views.shown[:, None, :, None, None, None], 0.0)

    def forward(
        self, patches_BTPCSS: torch.Tensor, known_BTP: torch.Tensor, previous_BPCSS: torch.Tensor | None = None
    ) -> torch.Tensor:
        """previous: the patches of the frame before the first, if there is one."""
        return self.encoder(patches_BTPCSS, known_BTP, previous_BPCSS)


class PatchEncoder(nn.Module):
    """A small convolutional network, the same for every patch, that sees it and, with `change`, its change from the
    frame before.

    Normalised within each patch, so that neither the batch nor padding matters.
    """

    def __init__(self, n_patches: int, channels: int, size: int, change: bool) -> None:
        super().__init__()
        self.change = change
        layers: list[nn.Module] = []
        n, side = channels_seen(channels, change), size
        for n_out, stride in CONVOLUTIONS:
            layers += [nn.Conv2d(n, n_out, 3, stride, 1, bias=False), nn.GroupNorm(8, n_out), nn.SiLU()]
            n, side = n_out, -(-side // stride)
        self.each = nn.Sequential(*layers, nn.Flatten(), nn.Linear(n * side * side, OF_ONE), nn.SiLU())
        self.together = nn.Linear(n_patches * (OF_ONE + 1), WIDTH)

    def forward(
        self, patches_BTPCSS: torch.Tensor, known_BTP: torch.Tensor, previous_BPCSS: torch.Tensor | None = None
    ) -> torch.Tensor:
        B, T, P = known_BTP.shape
        each_ND = self.each(standardised(patches_BTPCSS, previous_BPCSS, self.change).flatten(0, 2))
        each_BTPD = torch.cat([each_ND.unflatten(0, (B, T, P)), known_BTP[..., None].to(each_ND.dtype)], -1)
        return self.together(each_BTPD.flatten(2))


def looked_at(text: str, keypoint_names: Sequence[str], pose_names: Mapping[str, str]) -> tuple[str, ...]:
    """The keypoints that --patch-keypoints names; auto: the paws of the pose graph. Raises SettingsError, PoseError."""
    check_keypoints(keypoint_names, "--patch-size", "--patch-size 0")
    if text == AUTO:
        missing = [part for part in pose_graph.layout(keypoint_names, pose_names).missing if part in PAWS]
        if missing:
            raise SettingsError(
                f"--patch-keypoints auto: the pose graph lacks {', '.join(missing)}; the keypoints are "
                f"{', '.join(keypoint_names)}; name those to look at, or the paws with --pose-names"
            )
        return tuple(pose_names.get(part, part) for part in PAWS)
    names = parse_list(text, "patch_keypoints")
    if unknown := [name for name in names if name not in keypoint_names]:
        raise SettingsError(
            f"--patch-keypoints {text}: the data has no keypoint {', '.join(unknown)}, but {', '.join(keypoint_names)}"
        )
    return names
