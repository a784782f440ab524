"""A clip in a mirror: left and right change places, in the picture and in the keypoints' names.

Axes: T frames, K keypoints.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.model.network import Output

# left and right as words, L and R where a word begins or ends, l and r where they stand alone.
_SIDE = re.compile(r"left|right|Left|Right|LEFT|RIGHT|(?<![A-Za-z])[LR]|[LR](?![A-Za-z])|(?<![A-Za-z])[lr](?![A-Za-z])")
# What is surely a side, also without its partner beside it: the R of R_ear, RPaw and earR, but not that of Rump.
_SURELY_SIDE = re.compile(
    r"(?i:left|right)|(?<![A-Za-z])[LR](?=[A-Z][a-z])|(?<![A-Z])[LR](?![A-Za-z])|(?<![A-Za-z])[lr](?![A-Za-z])"
)
_OTHER = {"left": "right", "Left": "Right", "LEFT": "RIGHT", "L": "R", "l": "r"}
_OTHER |= {right: left for left, right in _OTHER.items()}


def flip_pairs(keypoint_names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of indices whose names differ in left and right alone: L_paw and R_paw, Hand-Left and Hand-Right."""
    index = {name: i for i, name in enumerate(keypoint_names)}
    pairs = set()
    for name, i in index.items():
        for side in _SIDE.finditer(name):
            j = index.get(name[: side.start()] + _OTHER[side.group()] + name[side.end() :])
            if j is not None:
                pairs.add((min(i, j), max(i, j)))
    return tuple(sorted(pairs))


def without_partner(keypoint_names: Sequence[str]) -> tuple[str, ...]:
    """The keypoints that a mirror would leave on the wrong side: those named after a side that are in no pair.

    All of them where no two are a pair, as where names do not tell the sides; none where all that are left lie midline.
    """
    pairs = flip_pairs(keypoint_names)
    if not pairs:
        return tuple(keypoint_names)
    paired = {keypoint_names[i] for pair in pairs for i in pair}
    return tuple(name for name in keypoint_names if name not in paired and _SURELY_SIDE.search(name))


def mirror_warning(flag: str, keypoint_names: Sequence[str]) -> str:
    """Of keypoints that keep their name in a mirrored picture although they change sides there; empty if none do."""
    if not (alone := without_partner(keypoint_names)):
        return ""
    return (
        f"[warning] {flag}: no partner to change places with in the mirror has {', '.join(alone)}; name left and right "
        "alike (L_paw, R_paw) unless these lie midline"
    )


def mirrored_order(n_keypoints: int, pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The keypoint that stands in the place of each."""
    index = list(range(n_keypoints))
    for i, j in pairs:
        index[i], index[j] = j, i
    return index


def mirrored_points(
    xy_TK2: np.ndarray, visible_TK: np.ndarray, keypoint_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints as a mirror shows them; those that are not visible stay at 0."""
    order = mirrored_order(len(keypoint_names), flip_pairs(keypoint_names))
    xy_TK2, visible_TK = xy_TK2[:, order].copy(), visible_TK[:, order]
    xy_TK2[..., 0] = np.where(visible_TK, 1 - xy_TK2[..., 0], 0)
    return xy_TK2, visible_TK


def mirrored_back(output: Output, keypoint_names: Sequence[str]) -> Output:
    """What was said of a mirrored clip (T,...), said of the clip."""
    if output.xy_BTK2 is None:
        return output
    order = mirrored_order(len(keypoint_names), flip_pairs(keypoint_names))
    xy_TK2 = output.xy_BTK2[:, order].clone()
    xy_TK2[..., 0] = 1 - xy_TK2[..., 0]
    return replace(output, xy_BTK2=xy_TK2)
