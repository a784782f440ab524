"""Classes as the model learns them: the annotators' classes, some of them merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cache.clip import UNLABELLED
from pipeline.setting_texts import SettingsError, parse_map
from pipeline.train_settings import REFERENCE_MERGE


@dataclass(frozen=True, eq=False)
class Merge:
    """The classes that are left, in the original order, and lookup (n_original,) int64: original id -> id in names."""

    names: tuple[str, ...]
    lookup: np.ndarray

    def is_like(self, other: Merge) -> bool:
        """Whether the same classes are left, each of the same original ones."""
        return self.names == other.names and bool(np.array_equal(self.lookup, other.lookup))

    def apply(self, labels: np.ndarray) -> np.ndarray:
        """Original ids (T,) -> ids in names, int64; -1 (unlabelled) stays -1."""
        labels = np.asarray(labels)
        outside = (labels < UNLABELLED) | (labels >= len(self.lookup))
        if outside.any():
            raise ValueError(
                f"label {labels[outside][0]}: expected -1 (unlabelled) or a class from 0 to {len(self.lookup) - 1}"
            )
        return np.append(self.lookup, UNLABELLED)[labels]


def make_merge(class_names: Sequence[str], setting: str) -> Merge:
    """The merge that --merge asks for: `from=into,...`, `none`, or `auto`.

    `auto` is the reference set-up's merge, as far as its names occur in class_names. Raises SettingsError for a name
    that is no class, and for a class that is merged away and into at once.
    """
    into = _targets(tuple(class_names), setting)
    names = tuple(name for name in class_names if name not in into)
    lookup = np.array([names.index(into.get(name, name)) for name in class_names], np.int64)
    return Merge(names, lookup)


def _targets(class_names: tuple[str, ...], setting: str) -> dict[str, str]:
    if setting == "none":
        return {}
    if setting == "auto":
        reference = parse_map(REFERENCE_MERGE, "merge")
        return {name: into for name, into in reference.items() if {name, into} <= set(class_names)}
    targets = parse_map(setting, "merge")
    for name in [*targets, *targets.values()]:
        if name not in class_names:
            raise SettingsError(f"--merge {setting}: {name!r} is no class; the classes are: {', '.join(class_names)}")
    for name, into in targets.items():
        if into in targets:
            raise SettingsError(
                f"--merge {setting}: {name!r} goes into {into!r}, which is merged away itself; name the last one"
            )
    return targets
