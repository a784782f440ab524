"""The pose graph: features of the six parts in every frame, invariant to where the animal is and how large it is.

Axes: B batch, T frames, K keypoints, F features. Coordinates are in the padded square, so both axes have one scale.
A feature that an invisible keypoint leaves undefined is False in `present`, and 0 in the features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import pi

import torch

PARTS = ("mouth", "tail_base", "L_frontpaw", "R_frontpaw", "L_hindpaw", "R_hindpaw")
_MOUTH, _TAIL, _LF, _RF, _LH, _RH = range(6)
DISTANCES = (
    (_MOUTH, _TAIL), (_MOUTH, _LF), (_MOUTH, _RF), (_TAIL, _LH), (_TAIL, _RH), (_LF, _LH), (_RF, _RH), (_LF, _RF),
)  # fmt: skip
# The angle is at the middle one of the three.
ANGLES = (
    (_TAIL, _MOUTH, _LF), (_TAIL, _MOUTH, _RF), (_MOUTH, _TAIL, _LH), (_MOUTH, _TAIL, _RH), (_MOUTH, _LF, _LH),
    (_MOUTH, _RF, _RH), (_TAIL, _LH, _LF), (_TAIL, _RH, _RF), (_LF, _MOUTH, _RF), (_LH, _TAIL, _RH),
)  # fmt: skip
# A distance below this (0.002 px of a 224 px frame) is no length to divide by, nor a side of an angle.
SHORTEST = 1e-5


class PoseError(ValueError):
    """The map of keypoint names to the parts of the pose graph names something that does not exist, or twice."""


@dataclass(frozen=True)
class PoseLayout:
    """Which keypoints are the six parts, in the order of PARTS, or None with the names of those that are `missing`."""

    indices: tuple[int, ...] | None
    missing: tuple[str, ...] = ()


def layout(keypoint_names: Sequence[str], pose_names: Mapping[str, str]) -> PoseLayout:
    """Find the six parts among a set-up's keypoints; `pose_names` maps a part to the set-up's own name for it.

    Raises PoseError for a part or a keypoint that does not exist, and for a keypoint that stands for two parts.
    """
    for part, name in pose_names.items():
        if part not in PARTS:
            raise PoseError(f"--pose-names {part}={name}: expected one of {', '.join(PARTS)} before the =")
        if name not in keypoint_names:
            raise PoseError(
                f"--pose-names {part}={name}: the data has no such keypoint, but {', '.join(keypoint_names)}"
            )
    names = {part: pose_names.get(part, part) for part in PARTS}
    found = {part: list(keypoint_names).index(name) for part, name in names.items() if name in keypoint_names}
    if len(set(found.values())) < len(found):
        raise PoseError(
            f"--pose-names: one keypoint stands for two parts: {', '.join(f'{p}={names[p]}' for p in found)}"
        )
    missing = tuple(part for part in PARTS if part not in found)
    return PoseLayout(None if missing else tuple(found[part] for part in PARTS), missing)


def n_features() -> int:
    """F of `features`."""
    return len(DISTANCES) + len(ANGLES)


def features(
    xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor, indices: Sequence[int], size_B: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(features (B,T,F) float32, present (B,T,F) bool) of the six parts, which are the keypoints at `indices`.

    size_B: the body size, see `body_size`; None: that of these frames.
    """
    size_B = body_size(xy_BTK2, visible_BTK, indices) if size_B is None else size_B
    index = list(indices)
    values_BTF, present_BTF = _of_parts(xy_BTK2[:, :, index].float(), visible_BTK[:, :, index], size_B)
    return values_BTF.masked_fill(~present_BTF, 0.0), present_BTF


def body_size(xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor, indices: Sequence[int]) -> torch.Tensor:
    """Mouth to tail base (B,), the median of all frames that show both; 0 where none does."""
    index = list(indices)
    lengths, seen = _distances(xy_BTK2[:, :, index].float(), visible_BTK[:, :, index], DISTANCES[:1])
    return _median(lengths[..., 0], seen[..., 0])


def _of_parts(xy: torch.Tensor, visible: torch.Tensor, size_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """8 distances over the body size, 10 angles over pi."""
    distances, seen = _over(*_distances(xy, visible, DISTANCES), size_B)
    angles, defined = _angles(xy, visible)
    return torch.cat([distances, angles], -1), torch.cat([seen, defined], -1)


def _distances(
    xy: torch.Tensor, visible: torch.Tensor, pairs: Sequence[tuple[int, int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    return (xy[:, :, first] - xy[:, :, second]).norm(dim=-1), visible[:, :, first] & visible[:, :, second]


def _angles(xy: torch.Tensor, visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Angles over pi, in [0, 1]; undefined too where a side has no length."""
    a, m, c = ([angle[i] for angle in ANGLES] for i in range(3))
    u, v = xy[:, :, a] - xy[:, :, m], xy[:, :, c] - xy[:, :, m]
    cross = u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
    angle = torch.atan2(cross.abs(), (u * v).sum(-1)) / pi
    long_enough = (u.norm(dim=-1) > SHORTEST) & (v.norm(dim=-1) > SHORTEST)
    return angle, visible[:, :, a] & visible[:, :, m] & visible[:, :, c] & long_enough


def _median(values_BT: torch.Tensor, seen_BT: torch.Tensor) -> torch.Tensor:
    """Median (B,) over the frames where it is seen; 0 where there is none."""
    median = values_BT.masked_fill(~seen_BT, torch.nan).nanmedian(1).values
    return median.nan_to_num(0.0)


def _over(
    values_BTF: torch.Tensor, present_BTF: torch.Tensor, scale_B: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values over each sample's own scale; without a scale none of them is present."""
    known = scale_B > SHORTEST
    divisor = torch.where(known, scale_B, 1.0)
    return values_BTF / divisor[:, None, None], present_BTF & known[:, None, None]
