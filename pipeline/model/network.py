"""The whole model: frames and pose of a clip -> the behaviour and the keypoints of every frame.

Axes: B batch, T frames, C channels, H, W, K keypoints, N classes, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from pipeline.model.encoder import make_encoder
from pipeline.model.frame_encoder import Encoded, EncoderError
from pipeline.model.mixing import mixed
from pipeline.model.patches import WIDTH as PATCHES_WIDTH
from pipeline.model.patches import Patches, PatchViews
from pipeline.model.pose_branch import PoseBranch, pose_set
from pipeline.model.tcn import TCN, pooled, stretched
from pipeline.model.view import AnimalView, View, whole
from pipeline.model.view import pictures as pictures_of

if TYPE_CHECKING:
    from pipeline.model.mirror import Mirror

# Few, since a handful of probabilities is all that a refinement sees.
REFINE_CHANNELS = 64


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """All that shapes a network, in plain values, for the checkpoint.

    pose_names: part of the pose graph -> keypoint name. encoder_spec: what a built encoder adds so that the checkpoint
    alone builds it again; None before.
    """

    n_classes: int
    keypoint_names: tuple[str, ...]
    pose_names: dict[str, str] = field(default_factory=dict)
    channels: int = 1
    img_size: int = 224
    encoder: str = "cnn"
    encoder_width: int = 128
    frame_change: bool = True
    view: str = "full"
    view_size: int = 64
    view_span: float = 4.0
    patch_size: int = 0
    patch_span: float = 1.5
    patch_keypoints: tuple[str, ...] = ()
    pose_features: str = "auto"
    pose_windows: tuple[int, ...] = ()
    time_input: str = "none"
    pose_width: int = 64
    tcn_channels: int = 128
    tcn_layers: int = 6
    tcn_kernel: int = 3
    tcn_stride: int = 1
    refine_stages: int = 0
    dropout: float = 0.3
    head_dropout: float = 0.2
    multitask: bool = True
    boundary: bool = False
    encoder_spec: dict[str, Any] | None = None


@dataclass(frozen=True)
class Output:
    """logits_BTN of the classes; xy_BTK2 in [0, 1] of the padded square, None without a keypoint head.

    view: what the encoder saw of each frame, None if all of it as it is. With one xy_BTK2 may lie outside of the
    square, where it reaches beyond it, and log_heat_BTKHW is over the view.
    log_heat_BTKHW: the encoder's attention to each keypoint (see Encoded), to learn from; None of a clip in chunks.
    unrefined: logits_BTN before each refinement, to learn from.
    boundary_BT: logit that a bout begins at the frame, None without a boundary head.
    """

    logits_BTN: torch.Tensor
    xy_BTK2: torch.Tensor | None
    log_heat_BTKHW: torch.Tensor | None = None
    unrefined: tuple[torch.Tensor, ...] = ()
    view: View | None = None
    boundary_BT: torch.Tensor | None = None


@dataclass(frozen=True)
class Seen:
    """What of frames the network looks at: the encoder pictures (B,T,C,H,W), patches (B,T,P,C,S,S) or None without.

    known (B,T,P): see `PatchViews`.
    """

    pictures: torch.Tensor
    patches: torch.Tensor | None = None
    known: torch.Tensor | None = None

    def last(self) -> Seen:
        """The last frame alone, without holding the others."""
        return Seen(self.pictures[:, -1:].clone(), None if self.patches is None else self.patches[:, -1:].clone())


def in_a_row(outputs: Sequence[Output], dim: int) -> Output:
    """What is said of stretches of time that follow each other, as of one. dim: that of time."""
    places = [output.xy_BTK2 for output in outputs if output.xy_BTK2 is not None]
    boundaries = [output.boundary_BT for output in outputs if output.boundary_BT is not None]
    return Output(
        torch.cat([output.logits_BTN for output in outputs], dim),
        torch.cat(places, dim) if places else None,
        boundary_BT=torch.cat(boundaries, dim) if boundaries else None,
    )


class Network(nn.Module):
    """Frame encoder and pose features, joined -> TCN -> action head (and its refinements), keypoint and boundary heads.

    The keypoint head moves the places where the encoder sees the keypoints. Without an encoder there is none: the pose
    features hold no places to learn it from. With a view that follows the animal the encoder sees that alone: the
    keypoints that are given say where the view is, so those found in it are not found from pixels alone.
    """

    mirror: Mirror | None = None  # a single network sees a clip as it is, an Ensemble maybe in a mirror too

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        K = len(config.keypoint_names)
        n_places = K if config.multitask else 0
        side = config.img_size if config.view == "full" else config.view_size
        self.encoder = make_encoder(
            config.encoder,
            config.channels,
            config.encoder_width,
            n_places,
            side,
            config.encoder_spec,
            change=config.frame_change,
        )
        self.side = side
        self.animal_view = None if config.view == "full" else AnimalView(K, config.view_size, config.view_span)
        made = pose_set(config.keypoint_names, config.pose_names, config.pose_features, config.time_input)
        self.pose = PoseBranch(made, K, config.pose_width, config.pose_windows, config.tcn_stride)
        self.seen_width = self.encoder.width if self.encoder else 0
        if config.patch_size:
            self.seen_width += PATCHES_WIDTH
        width = self.pose.width + self.seen_width
        self.tcn = TCN(width, config.tcn_channels, config.tcn_layers, config.tcn_kernel, config.dropout)
        self.head_dropout = nn.Dropout(config.head_dropout)
        self.action = _head(config.tcn_channels, config.n_classes)
        self.refinements = nn.ModuleList(Refinement(config) for _ in range(config.refine_stages))
        self.keypoints = _head(config.tcn_channels, 2 * n_places) if self.encoder and n_places else None
        self.boundary = _head(config.tcn_channels, 1) if config.boundary else None
        self.patches = None
        if config.patch_size:
            looked_at = [config.keypoint_names.index(name) for name in config.patch_keypoints]
            self.patches = Patches(
                looked_at, K, config.channels, config.patch_size, config.patch_span, config.frame_change
            )
        self.config = replace(config, encoder_spec=self.encoder.spec) if self.encoder else config

    def fit(self, tracks: Sequence[tuple[np.ndarray, np.ndarray]], whens: Sequence[np.ndarray] = ()) -> None:
        """What is found once, of training clips' (xy (T,K,2), visible (T,K)) and times (T,TIMES), and not learned."""
        self.pose.fit(tracks)
        self.pose.fit_times(whens)
        if self.animal_view is not None:
            self.animal_view.fit(tracks)
        if self.patches is not None:
            self.patches.fit(tracks)

    def view_of(
        self, xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor, moved_B4: torch.Tensor | None = None
    ) -> View | None:
        """Where the encoder looks, moved as `View.moved` has it; None where it sees all of each frame as it is."""
        if self.animal_view is not None:
            view = self.animal_view(xy_BTK2, visible_BTK)
        elif moved_B4 is not None:
            B, T = xy_BTK2.shape[:2]
            view = whole(B, T, xy_BTK2.device)
        else:
            return None
        return view if moved_B4 is None else view.moved(moved_B4)

    def patch_views(self, xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor) -> PatchViews | None:
        """Where the patches are; None without."""
        return None if self.patches is None else self.patches.views(xy_BTK2, visible_BTK)

    def forward(
        self,
        frames_BTCHW: torch.Tensor | None,
        xy_BTK2: torch.Tensor,
        visible_BTK: torch.Tensor,
        valid_BT: torch.Tensor,
        when_BTW: torch.Tensor | None = None,
        view: View | None = None,
        motion_BTK2: torch.Tensor | None = None,
        own_share_BT: torch.Tensor | None = None,
    ) -> Output:
        """frames: float in [0, 1], not looked at without an encoder. Padding is where valid is False. when: TIMES.

        view: of `view_of`; None: that of these keypoints. motion: see `PoseBranch`; the patches follow it too, since
        jitter in every frame would make them tremble. own_share: see `decode`.
        """
        view = view or self.view_of(xy_BTK2, visible_BTK)
        encoded = None
        if self.encoder is not None:
            if frames_BTCHW is None:
                raise EncoderError(f"the model's encoder is {self.config.encoder}, but the clip has no frames")
            patch_views = self.patch_views(xy_BTK2 if motion_BTK2 is None else motion_BTK2, visible_BTK)
            encoded = self.encoded(self.seen(frames_BTCHW, view, patch_views))
        posed_BTD = self.pose(xy_BTK2, visible_BTK, when_BTW, motion_BTK2)
        return self.decode(encoded, view, posed_BTD, valid_BT, own_share_BT)

    def seen(self, frames_BTCHW: torch.Tensor, view: View | None, patch_views: PatchViews | None) -> Seen:
        """What is looked at of frames, through the view and the patches' views on each."""
        pictures = frames_BTCHW if view is None else pictures_of(frames_BTCHW, [view], self.side)[:, :, 0]
        if self.patches is None or patch_views is None:
            return Seen(pictures)
        return Seen(pictures, self.patches.pictures(frames_BTCHW, patch_views), patch_views.known)

    def encoded(self, seen: Seen, previous: Seen | None = None) -> Encoded:
        """The encoder's places, and its features with those of the patches. previous: the frame before, if any."""
        assert self.encoder is not None
        encoded = self.encoder(seen.pictures, None if previous is None else previous.pictures[:, 0])
        if self.patches is None or seen.patches is None or seen.known is None:
            return encoded
        before_BPCSS = None if previous is None or previous.patches is None else previous.patches[:, 0]
        patches_BTD = self.patches(seen.patches, seen.known, before_BPCSS)
        return replace(encoded, features=torch.cat([encoded.features, patches_BTD], -1))

    def decode(
        self,
        encoded: Encoded | None,
        view: View | None,
        posed_BTD: torch.Tensor,
        valid_BT: torch.Tensor,
        own_share_BT: torch.Tensor | None = None,
    ) -> Output:
        """From the encoded frames, seen through the view, and the pose branch's features to the outputs.

        own_share: how much of each frame's features is the sample's own, the rest is its partner's (see `mixing`);
        None: all. The keypoint head sees the sample's own alone: it moves places that its own frames show, and what
        their partner's say of other places would only mislead it.
        """
        joined_BTD = posed_BTD if encoded is None else torch.cat([encoded.features, posed_BTD], -1)
        stride, T = self.config.tcn_stride, valid_BT.shape[1]
        if own_share_BT is None:
            h_BSC, valid_BS = self._over_time(joined_BTD, valid_BT)
            own_BSC = h_BSC
        else:
            h_BSC, valid_BS = self._over_time(mixed(joined_BTD, own_share_BT), valid_BT)
            own_BSC = h_BSC if self.keypoints is None else self._over_time(joined_BTD, valid_BT)[0]
        with torch.autocast(h_BSC.device.type, enabled=False):  # in full precision, see `_over_time`
            stages = [self.action(h_BSC)]
            for refinement in self.refinements:
                stages.append(refinement(stages[-1], valid_BS))
            *unrefined, logits_BTN = (stretched(logits_BSN, T, stride) for logits_BSN in stages)
            boundary_BT = None if self.boundary is None else stretched(self.boundary(h_BSC), T, stride)[..., 0]
            if self.keypoints is None or encoded is None or encoded.places is None:
                return Output(logits_BTN, None, None, tuple(unrefined), boundary_BT=boundary_BT)
            # Where the encoder sees them, moved by what the pose and the frames before and after say. A mean of cells'
            # centres lies half a cell or more from 0 and 1, where the logit is infinite.
            moved_BTK2 = stretched(self.keypoints(own_BSC), T, stride).unflatten(-1, (-1, 2))
            places_BTK2 = (encoded.places.logit() + moved_BTK2).sigmoid()
            xy_BTK2 = places_BTK2 if view is None else view.back(places_BTK2)
            return Output(logits_BTN, xy_BTK2, encoded.log_heat, tuple(unrefined), view, boundary_BT)

    def _over_time(self, joined_BTD: torch.Tensor, valid_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the heads see (B,S,C) of each step, and which steps are valid (B,S)."""
        joined_BSD, valid_BS = pooled(joined_BTD, valid_BT, self.config.tcn_stride)
        # In full precision: a keypoint's place and the losses are worth more than the time that small layers take.
        return self.head_dropout(self.tcn(joined_BSD, valid_BS)).float(), valid_BS


class Refinement(nn.Module):
    """One more TCN, which sees nothing but the probabilities of the stage before it and mends what cannot follow.

    A later stage of MS-TCN (Farha and Gall 2019, https://arxiv.org/abs/1903.01945).
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        channels = min(REFINE_CHANNELS, config.tcn_channels)
        self.tcn = TCN(config.n_classes, channels, config.tcn_layers, config.tcn_kernel, config.dropout)
        self.action = _head(channels, config.n_classes)

    def forward(self, logits_BSN: torch.Tensor, valid_BS: torch.Tensor) -> torch.Tensor:
        """It adds to the logits, so that it begins by leaving them as they are."""
        return logits_BSN + self.action(self.tcn(logits_BSN.softmax(-1), valid_BS))


def _head(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer that begins near 0: equal probabilities, and keypoints where the encoder sees them."""
    head = nn.Linear(in_features, out_features)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return head
