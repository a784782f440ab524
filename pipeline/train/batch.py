"""What travels from the cache to the device: windows of several clips, stacked.

Axes: B batch, T frames, H, W, C channels, K keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pipeline.model.pose_branch import TIMES


@dataclass(frozen=True)
class Batch:
    """Windows of clips, padded at the end to the longest.

    frames: uint8 (B,T,H,W,C), or None for pose alone. xy: float32 (B,T,K,2) in [0, 1] of the padded square, 0 where
    invisible. visible: bool (B,T,K). labels: int64 (B,T), -1 unlabelled or padding. valid: bool (B,T), False: padding.
    when: float32 (B,T,TIMES), times of the frames (see `pose_branch`), NaN where not known; None where none is.
    """

    frames: torch.Tensor | None
    xy: torch.Tensor
    visible: torch.Tensor
    labels: torch.Tensor
    valid: torch.Tensor
    when: torch.Tensor | None = None

    def __post_init__(self) -> None:
        B, T, K, _ = self.xy.shape
        _check("xy", self.xy, (B, T, K, 2), torch.float32)
        _check("visible", self.visible, (B, T, K), torch.bool)
        _check("labels", self.labels, (B, T), torch.int64)
        _check("valid", self.valid, (B, T), torch.bool)
        if self.when is not None:
            _check("when", self.when, (B, T, TIMES), torch.float32)
        if self.frames is not None:
            _check("frames", self.frames, (B, T, *self.frames.shape[2:]), torch.uint8)

    def __len__(self) -> int:
        return len(self.xy)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device; from pinned memory the copy does not wait."""
        frames = None if self.frames is None else self.frames.to(device, non_blocking=True)
        xy, visible, labels, valid = (
            tensor.to(device, non_blocking=True) for tensor in (self.xy, self.visible, self.labels, self.valid)
        )
        when = None if self.when is None else self.when.to(device, non_blocking=True)
        return Batch(frames, xy, visible, labels, valid, when)


def _check(name: str, tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
        expected, found = f"{shape} {dtype}", f"{tuple(tensor.shape)} {tensor.dtype}"
        raise ValueError(f"batch: {name}: expected {expected}, found {found}")
