"""Which keypoints belong to which animal, by their names."""

from __future__ import annotations

from collections.abc import Sequence

# What stands before the _ in names of one animal's two sides, which are no two animals.
SIDES = frozenset({"l", "r", "left", "right", "front", "back", "fore", "hind", "upper", "lower", "inner", "outer"})


def animals(keypoint_names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Indices of each animal's keypoints, part by part in one order; one animal with all of them where names tell none.

    Several animals are named as tables of several individuals are read: <individual>_<bodypart>, each individual with
    the same two or more body parts.
    """
    parts_of: dict[str, dict[str, int]] = {}
    for index, name in enumerate(keypoint_names):
        individual, _, part = name.partition("_")
        parts_of.setdefault(individual, {})[part] = index
    first = next(iter(parts_of.values()), {})
    alike = all(parts.keys() == first.keys() for parts in parts_of.values())
    named = all(individual and individual.lower() not in SIDES for individual in parts_of)
    if len(parts_of) > 1 and len(first) > 1 and "" not in first and alike and named:
        return tuple(tuple(parts[part] for part in first) for parts in parts_of.values())
    return (tuple(range(len(keypoint_names))),)


def exchanged(groups: Sequence[Sequence[int]], n_keypoints: int, order: Sequence[int]) -> list[int]:
    """The index of keypoints that puts animal order[a] in the place of animal a."""
    index = list(range(n_keypoints))
    for group, other in zip(groups, order, strict=True):
        for here, there in zip(group, groups[other], strict=True):
            index[here] = there
    return index
