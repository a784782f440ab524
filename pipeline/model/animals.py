"""Which keypoints belong to which animal, by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

# What stands before the _ in names of one animal's two sides, which are no two animals.
SIDES = frozenset({"l", "r", "left", "right", "front", "back", "fore", "hind", "upper", "lower", "inner", "outer"})
# Places on a part: paw_L, paw_R, ear_L and ear_R are no paw and ear with the parts L and R.
PLACES = SIDES | {"base", "tip", "mid", "middle", "center", "centre", "end", "root"}

# Share of the frames in which animals that are all there are seen together at least.
TOGETHER = 0.25


def animals(keypoint_names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Indices of each animal's keypoints, part by part in one order; one animal with all of them where names tell none.

    Several animals are named as tables of several individuals are read: <individual>_<bodypart>, each individual with
    the same two or more body parts. Either may have a _ of its own.
    """
    for n_words in range(1, max((name.count("_") for name in keypoint_names), default=0) + 1):
        parts_of: dict[str, dict[str, int]] = {}
        for index, name in enumerate(keypoint_names):
            words = name.split("_")
            parts_of.setdefault("_".join(words[:n_words]), {})["_".join(words[n_words:])] = index
        if _several(parts_of):
            first = next(iter(parts_of.values()))
            return tuple(tuple(parts[part] for part in first) for parts in parts_of.values())
    return (tuple(range(len(keypoint_names))),)


def entry(visible_TK: np.ndarray, groups: Sequence[Sequence[int]]) -> int | None:
    """The frame in which the last of several animals came in; None of one animal, or if they are never seen together.

    Trackers lose an animal that is there and see one that is not, so it is the frame before which all are seen together
    in fewer and after which they are seen in more than a quarter of the frames: where the cumulative sum of (seen
    together - 1/4) is smallest (Page 1954, https://doi.org/10.1093/biomet/41.1-2.100).
    """
    if len(groups) < 2 or not len(visible_TK):
        return None
    together_T = np.all([visible_TK[:, list(group)].any(1) for group in groups], 0)
    above_T = np.cumsum((together_T - TOGETHER)[::-1])[::-1]  # of this frame and all after it
    frame = int(above_T.argmax())
    return frame if above_T[frame] > 0 else None


def _several(parts_of: Mapping[str, Mapping[str, int]]) -> bool:
    """Whether these are individuals and their body parts."""
    first = next(iter(parts_of.values()), {})
    alike = all(parts.keys() == first.keys() for parts in parts_of.values())
    individuals = all(individual and not _any_of(SIDES, individual) for individual in parts_of)
    body_parts = "" not in first and not all(_all_of(PLACES, part) for part in first)
    return len(parts_of) > 1 and len(first) > 1 and alike and individuals and body_parts


def _any_of(known: frozenset[str], name: str) -> bool:
    return any(word.lower() in known for word in name.split("_"))


def _all_of(known: frozenset[str], name: str) -> bool:
    return all(word.lower() in known or word.isdigit() for word in name.split("_"))


def exchanged(groups: Sequence[Sequence[int]], n_keypoints: int, order: Sequence[int]) -> list[int]:
    """The index of keypoints that puts animal order[a] in the place of animal a."""
    index = list(range(n_keypoints))
    for group, other in zip(groups, order, strict=True):
        for here, there in zip(group, groups[other], strict=True):
            index[here] = there
    return index
