"""A clip in a mirror: left and right change places, in the picture and in the names of keypoints and of classes.

Axes: T frames, K keypoints, N classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from pipeline.model.network import Output

# left and right as words, L and R where a word begins or ends, l and r where they stand alone.
_SIDE = re.compile(r"left|right|Left|Right|LEFT|RIGHT|(?<![A-Za-z])[LR]|[LR](?![A-Za-z])|(?<![A-Za-z])[lr](?![A-Za-z])")
# What is surely a side, also without its partner beside it: the R of R_ear, RPaw and earR, but not that of Rump, nor
# the right of upright or bright.
_SURELY_SIDE = re.compile(
    r"(?i:(?<!c)left|(?<!up)(?<!b)(?<!f)right)"
    r"|(?<![A-Za-z])[LR](?=[A-Z][a-z])|(?<![A-Z])[LR](?![A-Za-z])|(?<![A-Za-z])[lr](?![A-Za-z])"
)
_OTHER = {"left": "right", "Left": "Right", "LEFT": "RIGHT", "L": "R", "l": "r"}
_OTHER |= {right: left for left, right in _OTHER.items()}


@dataclass(frozen=True)
class Mirror:
    """What a mirror shows in the place of each keypoint and of each class, as indices, (K,) and (N,)."""

    keypoints: tuple[int, ...]
    classes: tuple[int, ...]

    @property
    def exchanges_classes(self) -> bool:
        return self.classes != tuple(range(len(self.classes)))


def mirror_of(keypoint_names: Sequence[str], class_names: Sequence[str]) -> Mirror:
    return Mirror(_exchanged(keypoint_names), _exchanged(class_names))


def _exchanged(names: Sequence[str]) -> tuple[int, ...]:
    order = list(range(len(names)))
    for i, j in flip_pairs(names):
        order[i], order[j] = j, i
    return tuple(order)


def flip_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of indices whose names differ in left and right alone: L_paw and R_paw, Hand-Left and Hand-Right.

    Of names with several sides those are a pair in which all of them are exchanged (left_to_right, right_to_left), and
    where there is no such name, the only one in which one is. Each is in one pair at most.
    """
    index = {name: i for i, name in enumerate(names)}
    partners = [_partner(name, index) for name in names]
    return tuple((i, j) for i, j in enumerate(partners) if j is not None and i < j and partners[j] == i)


def _partner(name: str, index: Mapping[str, int]) -> int | None:
    whole = _SIDE.sub(lambda side: _OTHER[side.group()], name)
    if whole != name and whole in index:
        return index[whole]
    single = {name[: side.start()] + _OTHER[side.group()] + name[side.end() :] for side in _SIDE.finditer(name)}
    there = [index[other] for other in single if other in index]
    return there[0] if len(there) == 1 else None


def without_partner(keypoint_names: Sequence[str]) -> tuple[str, ...]:
    """The keypoints that a mirror would leave on the wrong side: those named after a side that are in no pair.

    All of them where no two are a pair, as where names do not tell the sides; none where all that are left lie midline.
    """
    return _alone(keypoint_names) if flip_pairs(keypoint_names) else tuple(keypoint_names)


def _alone(names: Sequence[str]) -> tuple[str, ...]:
    """Those named after a side that are in no pair."""
    paired = {names[i] for pair in flip_pairs(names) for i in pair}
    return tuple(name for name in names if name not in paired and _SURELY_SIDE.search(name))


def mirror_warnings(flag: str, keypoint_names: Sequence[str], class_names: Sequence[str]) -> list[str]:
    """Of keypoints and classes that keep their name in a mirrored picture although they change sides there."""
    said = []
    if alone := without_partner(keypoint_names):
        said.append(
            f"[warning] {flag}: no partner to change places with in the mirror has {', '.join(alone)}; name left and "
            "right alike (L_paw, R_paw) unless these lie midline"
        )
    if alone := _alone(class_names):
        said.append(
            f"[warning] {flag}: no class to change places with in the mirror has {', '.join(alone)}, which would stand "
            "for the other side too; name both sides alike (turn_left, turn_right)"
        )
    return said


def mirrored_points(xy_TK2: np.ndarray, visible_TK: np.ndarray, mirror: Mirror) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints as a mirror shows them; those that are not visible stay at 0."""
    order = list(mirror.keypoints)
    xy_TK2, visible_TK = xy_TK2[:, order].copy(), visible_TK[:, order]
    xy_TK2[..., 0] = np.where(visible_TK, 1 - xy_TK2[..., 0], 0)
    return xy_TK2, visible_TK


def mirrored_labels(labels_T: torch.Tensor, mirror: Mirror) -> torch.Tensor:
    """Classes, int64, as they are called in a mirror; what has none (below 0) stays so."""
    if not mirror.exchanges_classes:
        return labels_T
    order = torch.tensor(mirror.classes, device=labels_T.device)
    return torch.where(labels_T < 0, labels_T, order[labels_T.clamp(min=0)])


def mirrored_back(output: Output, mirror: Mirror) -> Output:
    """What was said of a mirrored clip (T,...), said of the clip."""
    output = replace(output, logits_BTN=output.logits_BTN[..., list(mirror.classes)])
    if output.xy_BTK2 is None:
        return output
    xy_TK2 = output.xy_BTK2[:, list(mirror.keypoints)].clone()
    xy_TK2[..., 0] = 1 - xy_TK2[..., 0]
    return replace(output, xy_BTK2=xy_TK2)
