"""A clip of any length through a network, part by part: what comes out is that of the whole clip at once.

Each part is seen with as many frames before and after it as any of its frames' outputs depend on. What depends on all
of a clip, the animal's size and where the view is, is found of all of its keypoints before; of a recording of hours
these take a few megabytes, and its frames and features are never all in memory.
Axes: B batch (1), T frames, K keypoints, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.model.frame_encoder import Encoded, EncoderError, to_unit
from pipeline.model.network import Network, Output, Seen, in_a_row
from pipeline.model.patches import PatchViews
from pipeline.model.room import Room
from pipeline.model.tcn import TCN
from pipeline.model.view import View


@dataclass(frozen=True)
class Margins:
    """Frames before and after a frame that reach its outputs, rounded up to whole steps of the temporal network.

    time: through the temporal network and its refinements, one after the other. pose: through the pose features.
    """

    time: int
    pose: int


def margins(network: Network) -> Margins:
    """How far a network looks. What the frame encoder needs, one frame before, goes from chunk to chunk."""
    stride = network.config.tcn_stride
    steps = sum(module.receptive_field // 2 for module in network.modules() if isinstance(module, TCN))
    return Margins(time=steps * stride, pose=-(-network.pose.reach // stride) * stride)


@torch.inference_mode()
def clip_output(
    network: Network,
    chunks: Iterable[torch.Tensor | np.ndarray] | None,
    xy_TK2: torch.Tensor,
    visible_TK: torch.Tensor,
    when_TW: torch.Tensor | None = None,
    room: Room | None = None,
    passed: Callable[[int], object] = lambda n_frames: None,
) -> Output:
    """One clip, B = 1, on the network's device; frames are encoded chunk by chunk. Call `network.eval()` before.

    chunks: uint8 (n,H,W,C) each, in order, T frames together; None without an encoder. passed: told how many more
    frames were looked at. Raises EncoderError.
    """
    clip = _Clip(network, chunks, xy_TK2, visible_TK, when_TW, room or Room(), passed)
    found = [clip.next_part()]
    while clip.done < clip.n_frames:
        found.append(clip.next_part())
    clip.check_frames()
    return in_a_row(found, 1)


class _Clip:
    """A clip on its way through a network; `done` frames are through."""

    def __init__(
        self,
        network: Network,
        chunks: Iterable[torch.Tensor | np.ndarray] | None,
        xy_TK2: torch.Tensor,
        visible_TK: torch.Tensor,
        when_TW: torch.Tensor | None,
        room: Room,
        passed: Callable[[int], object],
    ) -> None:
        device = network.action.weight.device
        self.network, self.room, self.passed, self.margins = network, room, passed, margins(network)
        self.n_frames, self.done = len(xy_TK2), 0
        self.xy_BTK2, self.visible_BTK = xy_TK2[None].to(device), visible_TK[None].to(device)
        self.when_BTW = None if when_TW is None else when_TW[None].to(device)
        self.view = network.view_of(self.xy_BTK2, self.visible_BTK)
        self.sizes = network.pose.body_sizes(self.xy_BTK2, self.visible_BTK)
        self.frames = None
        if network.encoder is not None:
            patch_views = network.patch_views(self.xy_BTK2, self.visible_BTK)
            self.frames = _EncodedFrames(network, chunks or (), self.view, patch_views, self.n_frames, room, passed)

    def next_part(self) -> Output:
        found = self.room.fitting(self._part)
        self.done += found.logits_BTN.shape[1]
        if self.frames is None:  # else they are told of as they are encoded, which takes nearly all of the time
            self.passed(found.logits_BTN.shape[1])
        return found

    def check_frames(self) -> None:
        if self.frames is not None:
            self.frames.check_count()

    def _part(self) -> Output:
        start, stop = self.done, min(self.n_frames, self.done + self.room.part(self.network.config.tcn_stride))
        first, last = max(0, start - self.margins.time), min(self.n_frames, stop + self.margins.time)
        encoded = self.frames.between(first, last) if self.frames is not None else None
        view = None if self.view is None else self.view[first:last]
        valid_BT = torch.ones(1, last - first, dtype=torch.bool, device=self.xy_BTK2.device)
        output = self.network.decode(encoded, view, self._posed(first, last), valid_BT)
        own = slice(start - first, stop - first)
        xy_BTK2 = None if output.xy_BTK2 is None else output.xy_BTK2[:, own]
        boundary_BT = None if output.boundary_BT is None else output.boundary_BT[:, own]
        return Output(output.logits_BTN[:, own].float(), xy_BTK2, boundary_BT=boundary_BT)

    def _posed(self, first: int, last: int) -> torch.Tensor:
        start, stop = max(0, first - self.margins.pose), min(self.n_frames, last + self.margins.pose)
        seen = slice(start, stop)
        when_BTW = None if self.when_BTW is None else self.when_BTW[:, seen]
        posed_BTD = self.network.pose(self.xy_BTK2[:, seen], self.visible_BTK[:, seen], when_BTW, sizes=self.sizes)
        return posed_BTD[:, first - start : last - start]


class _EncodedFrames:
    """The frames of a clip as the encoder sees them: each is read and encoded once, in order, and kept while needed."""

    def __init__(
        self,
        network: Network,
        chunks: Iterable[torch.Tensor | np.ndarray],
        view: View | None,
        patch_views: PatchViews | None,
        n_frames: int,
        room: Room,
        passed: Callable[[int], object],
    ) -> None:
        self.passed = passed
        self.network, self.chunks, self.view, self.patch_views = network, iter(chunks), view, patch_views
        self.n_frames, self.room, self.device = n_frames, room, network.action.weight.device
        self.waiting: torch.Tensor | np.ndarray = np.zeros((0, 0, 0, 0), np.uint8)
        self.previous: Seen | None = None
        self.first = self.stop = 0  # the frames [first, stop) are kept
        self.features = torch.zeros(1, 0, network.seen_width, device=self.device)
        self.places: torch.Tensor | None = None

    def between(self, first: int, last: int) -> Encoded:
        """Frames [first, last); those before are forgotten. Raises EncoderError where there are not as many."""
        while self.stop < last:
            if not len(self.waiting):
                self.waiting = next(self.chunks, self.waiting)
            if not len(self.waiting):
                raise self._wrong_count(self.stop)
            self._keep(self.room.fitting(self._encode))
        forgotten, self.first = first - self.first, first
        self.features = self.features[:, forgotten:].clone()
        self.places = None if self.places is None else self.places[:, forgotten:].clone()
        places = None if self.places is None else self.places[:, : last - first]
        return Encoded(self.features[:, : last - first], places)

    def _encode(self) -> tuple[Encoded, Seen]:
        """Some of the frames that wait; the frame before them is seen in its own view, as within a chunk."""
        chunk = torch.as_tensor(self.waiting[: self.room.frames])
        here = slice(self.stop, self.stop + len(chunk))
        view = None if self.view is None else self.view[here]
        patch_views = None if self.patch_views is None else self.patch_views[here]
        seen = self.network.seen(to_unit(chunk.to(self.device))[None], view, patch_views)
        return self.network.encoded(seen, self.previous), seen.last()

    def _keep(self, made: tuple[Encoded, Seen]) -> None:
        encoded, self.previous = made
        n = encoded.features.shape[1]
        self.waiting, self.stop = self.waiting[n:], self.stop + n
        self.features = torch.cat([self.features, encoded.features], 1)
        if encoded.places is not None:
            kept = [] if self.places is None else [self.places]
            self.places = torch.cat([*kept, encoded.places], 1)
        self.passed(n)

    def check_count(self) -> None:
        """Raises EncoderError where there are more frames than the clip has."""
        found = self.stop + len(self.waiting) + sum(len(chunk) for chunk in self.chunks)
        if found != self.n_frames:
            raise self._wrong_count(found)

    def _wrong_count(self, found: int) -> EncoderError:
        return EncoderError(f"the clip has {self.n_frames} rows of keypoints but {found} frames")
