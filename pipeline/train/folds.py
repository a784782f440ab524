"""Cross-validation's folds: each recording is tested once, by a model that neither it nor its animal has trained."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.train.run_folder import write_text
from pipeline.train.split import (
    Split,
    SplitError,
    cut,
    group_of,
    make_split,
    read_rows,
    refuse,
    refuse_others,
    some,
    twice,
)

FOLDS = "folds.csv"
COLUMNS = ("recording", "fold")
OPTIONAL = ("group",)


@dataclass(frozen=True)
class Folds:
    """fold_of: recording -> number of the fold that tests it. groups: recording -> its group (as in a Split)."""

    fold_of: dict[str, int]
    groups: dict[str, str]

    def __post_init__(self) -> None:
        fold_of_group: dict[str, set[int]] = {}
        for name, fold in self.fold_of.items():
            fold_of_group.setdefault(self.groups[name], set()).add(fold)
        for group, folds in sorted(fold_of_group.items()):
            if len(folds) > 1:
                raise SplitError(f"{group} is in the folds {', '.join(map(str, sorted(folds)))}; a group has one fold")
        if len(self.numbers) < 2:
            raise SplitError(f"{len(self.numbers)} fold; expected at least 2")

    @property
    def numbers(self) -> list[int]:
        return sorted(set(self.fold_of.values()))

    def members(self, fold: int) -> list[str]:
        return sorted(name for name, number in self.fold_of.items() if number == fold)


def make_folds(names: Sequence[str], groups: Sequence[str], label_counts: np.ndarray, n_folds: int, seed: int) -> Folds:
    """Folds 1 to n_folds of whole groups, each with about as many recordings and as many frames of each class.

    Each is cut off what the former left, as a validation part is (`make_split`): a class that several groups have is
    so put into several folds. Raises SplitError for fewer groups than folds.
    """
    unique = sorted(set(groups))
    if len(unique) < n_folds:
        raise SplitError(
            f"--folds {n_folds}: needs as many groups (recordings, or animals with --group-by), found {len(unique)}: "
            f"{some(unique)}; lower --folds"
        )
    group_of_all, fold_of_group = np.array(groups), dict.fromkeys(unique, n_folds)
    for fold in range(1, n_folds):
        left = np.array([fold_of_group[group] == n_folds for group in groups])
        n_left = n_folds - fold + 1
        most = len(set(group_of_all[left])) - (n_left - 1)
        for group in cut(list(group_of_all[left]), label_counts[left], 1 / n_left, seed, most=most):
            fold_of_group[group] = fold
    of_name = dict(zip(names, groups, strict=True))
    return Folds({name: fold_of_group[group] for name, group in of_name.items()}, of_name)


def fold_split(
    folds: Folds, fold: int, names: Sequence[str], label_counts: np.ndarray, val_share: float, seed: int
) -> Split:
    """The fold's recordings are tested on; the others train and validate, as `make_split` parts them.

    names, label_counts: of all recordings, as in make_split.
    """
    others = [i for i, name in enumerate(names) if folds.fold_of[name] != fold]
    groups = [folds.groups[names[i]] for i in others]
    try:
        split = make_split([names[i] for i in others], groups, label_counts[others], val_share, seed)
    except SplitError as error:
        raise SplitError(f"fold {fold}, what is not tested: {error}") from None
    return dataclasses.replace(split, groups=folds.groups, test=tuple(folds.members(fold)))


def save_folds(folds: Folds, path: Path) -> None:
    """Writes the folds as a table, whole or not at all: recording, group, fold."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((COLUMNS[0], *OPTIONAL, COLUMNS[1]))
    writer.writerows((name, folds.groups[name], folds.fold_of[name]) for name in sorted(folds.fold_of))
    write_text(path, text.getvalue())


def fold_numbers(path: Path) -> list[int]:
    """The numbers of the folds of a saved table. Raises SplitError."""
    return sorted({int(row["fold"]) for row in read_rows(path, COLUMNS, "folds", also=OPTIONAL)})


def load_folds(path: Path, names: Sequence[str], group_by: str) -> Folds:
    """The folds of a table, which must name exactly these recordings.

    The groups are those of group_by or, if that is empty, of the table's column group; without it each recording is
    its own. Raises SplitError.
    """
    rows = read_rows(path, COLUMNS, "folds", also=OPTIONAL)
    refuse(
        path,
        {
            "stand twice": twice(rows),
            "have no whole number as their fold": {r["recording"] for r in rows if not r["fold"].strip().isdecimal()},
        },
    )
    refuse_others(path, [row["recording"] for row in rows], names, "the folds")
    groups = {
        name: group_of(name, group_by) if group_by else row.get("group") or name
        for name, row in ((row["recording"], row) for row in rows)
    }
    try:
        return Folds({row["recording"]: int(row["fold"]) for row in rows}, groups)
    except SplitError as error:
        raise SplitError(f"{path}: {error}") from None
