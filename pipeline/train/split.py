"""Which recordings train, which validate and which test: whole recordings, or whole animals, never parts of one."""

from __future__ import annotations

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

COLUMNS = ("recording", "group", "part")
PARTS = {"train": "training", "val": "validation", "test": "test"}  # as the file says it, as messages do
SWAPS = 500
TOLERANCE = 1e-9  # of sums of shares


class SplitError(ValueError):
    """A split cannot be made or read; the message names the recordings and what to do."""


@dataclass(frozen=True)
class Split:
    """Names of recordings, sorted. groups: recording -> its group (the animal, or the recording itself).

    val chooses the epoch whose model is kept; where it is empty the last epoch's is. test neither trains nor chooses.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    groups: dict[str, str]
    test: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for first, second in itertools.combinations(PARTS, 2):
            one, other = set(self.members(first)), set(self.members(second))
            shared = {self.groups[name] for name in one} & {self.groups[name] for name in other}
            if shared or one & other:
                raise SplitError(
                    f"the split has {some(shared)} in {PARTS[first]} and in {PARTS[second]}; each may be in one only"
                )
        if not self.train:
            raise SplitError("the split has no recording in train; at least one is needed")

    def members(self, part: str) -> tuple[str, ...]:
        """The recordings of a part: train, val or test."""
        return {"train": self.train, "val": self.val, "test": self.test}[part]


def group_of(name: str, pattern: str) -> str:
    """The group of a recording: what the regular expression's first group (or all of it) matches in its name.

    An empty pattern makes each recording its own group. Raises SplitError where nothing matches.
    """
    if not pattern:
        return name
    match = check_pattern(pattern).search(name)
    group = match and (match[1] if match.re.groups else match[0])
    if not group:
        raise SplitError(f"--group-by {pattern}: no match in the recording {name}; it must name each one's animal")
    return group


def check_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression of --group-by. Raises SplitError where it is none."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise SplitError(f"--group-by {pattern}: not a regular expression: {error}") from None


def make_split(
    names: Sequence[str], groups: Sequence[str], label_counts: np.ndarray, val_share: float, seed: int
) -> Split:
    """A split of whole groups in which validation has about val_share of the recordings and of each class's frames.

    names, groups: of each recording. label_counts (recordings, classes): labelled frames. Each class that two groups
    have is put on both sides if that can be; one that a single group has goes to training. Depends on the seed, and not
    on the order of the recordings. Raises SplitError for fewer than two groups,
    but a single recording trains, with nothing to validate on, as do all with a val_share of 0.
    """
    unique = sorted(set(groups))
    if len(names) == 1 or not val_share:
        return _split(dict(zip(names, groups, strict=True)), set())
    if len(unique) < 2:
        raise SplitError(
            f"a split needs at least 2 groups (recordings, or animals with --group-by), found {len(unique)}: "
            f"{some(unique)}; add recordings of another animal, leave --group-by out to split by recording, or train "
            "on all of them with --val-share 0"
        )
    return _split(dict(zip(names, groups, strict=True)), cut(groups, label_counts, val_share, seed))


def cut(
    groups: Sequence[str], label_counts: np.ndarray, share: float, seed: int, *, most: int | None = None
) -> set[str]:
    """Groups with about `share` of the recordings and of each class's frames; the others have the rest.

    groups: of each recording, at least two different ones. most: of so many groups at most. As in make_split.
    """
    unique = sorted(set(groups))
    amounts = np.zeros((len(unique), 1 + label_counts.shape[1]))
    number = {group: i for i, group in enumerate(unique)}
    np.add.at(amounts, [number[group] for group in groups], np.column_stack([np.ones(len(groups)), label_counts]))
    amounts = amounts[:, amounts.sum(0) > 0]
    chosen = _search(amounts / amounts.sum(0), share, np.random.default_rng(seed), most or len(unique) - 1)
    return {group for group, is_chosen in zip(unique, chosen, strict=True) if is_chosen}


def save_split(split: Split, path: Path) -> None:
    """Writes the split as a table: recording, group, part (train, val or test)."""
    part = {name: part for part in PARTS for name in split.members(part)}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((name, split.groups[name], part[name]) for name in sorted(part))


def load_split(path: Path, names: Sequence[str], *, val_needed: bool = True) -> Split:
    """The split of a saved table, which must name exactly these recordings. Raises SplitError.

    val_needed: refuse one that holds nothing out, neither to choose the epoch by nor to test on.
    """
    split = read_split(path)
    refuse_others(path, split.groups, names, "the split")
    if val_needed and not split.val and not split.test and len(names) > 1:
        raise SplitError(
            f"{path}: the split has no recording in val; at least one is needed (or --val-share 0, to train on all)"
        )
    return split


def refuse_others(path: Path, listed: Iterable[str], names: Iterable[str], what: str) -> None:
    """Raises SplitError unless the recordings that a file lists are those of the cache."""
    problems = {
        "are not in the cache": set(listed) - set(names),
        f"are in the cache but not in {what}": set(names) - set(listed),
    }
    refuse(path, problems)


def read_split(path: Path) -> Split:
    """The split of a saved table, whatever recordings it names. Raises SplitError."""
    rows = read_rows(path, COLUMNS, "a split")
    problems = {
        "stand twice": twice(rows),
        "have a part other than train, val or test": {row["recording"] for row in rows if row["part"] not in PARTS},
    }
    refuse(path, problems)
    members = {part: tuple(sorted(row["recording"] for row in rows if row["part"] == part)) for part in PARTS}
    try:
        return Split(**members, groups={row["recording"]: row["group"] for row in rows})
    except SplitError as error:
        raise SplitError(f"{path}: {error}") from None


def twice(rows: Sequence[dict[str, str]]) -> set[str]:
    """The recordings that stand in more than one row."""
    return {name for name, times in Counter(row["recording"] for row in rows).items() if times > 1}


def refuse(path: Path, problems: dict[str, set[str]]) -> None:
    """Raises SplitError for the first problem that recordings have; `problems`: what they do or are -> their names."""
    for problem, found in problems.items():
        if found:
            raise SplitError(f"{path}: recordings that {problem}: {some(found)}; correct the file or make a new split")


def missing_classes(
    split: Split, names: Sequence[str], label_counts: np.ndarray, class_names: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The classes without a single frame in each part: {"train": (...), "val": (...)}. Arguments as in make_split."""
    row = dict(zip(names, label_counts, strict=True))
    missing = {}
    for part, members in (("train", split.train), ("val", split.val)):
        total = sum((row[name] for name in members), np.zeros(len(class_names)))
        missing[part] = tuple(name for name, frames in zip(class_names, total, strict=True) if not frames)
    return missing


def _search(shares: np.ndarray, val_share: float, rng: np.random.Generator, most: int) -> np.ndarray:
    """Which groups validate, (groups,) bool: from a random start, the best single move or swap until none helps.

    They are `most` at most. Among very many groups the best of SWAPS random ones of each side: all pairs of 30,000
    would fill the memory.

    shares (groups, 1 + classes): each group's share of all recordings and of each class's frames.
    """
    n = len(shares)
    in_val = np.zeros(n, bool)
    in_val[rng.permutation(n)[: min(most, max(1, round(n * val_share)))]] = True
    cost = _cost(shares[in_val].sum(0), val_share)
    while True:
        inside, outside = _at_most(np.flatnonzero(in_val), rng), _at_most(np.flatnonzero(~in_val), rng)
        nothing = np.zeros((1, shares.shape[1]))
        leaves, enters = np.concatenate([nothing, shares[inside]]), np.concatenate([nothing, shares[outside]])
        costs = _cost(shares[in_val].sum(0) - leaves[:, None] + enters[None], val_share)
        if in_val.sum() >= most:
            costs[0, 1:] = np.inf  # one enters and nobody leaves
        leaver, enterer = np.unravel_index(costs.argmin(), costs.shape)
        if costs[leaver, enterer] >= cost - TOLERANCE:
            return in_val
        cost = costs[leaver, enterer]
        in_val[inside[leaver - 1 : leaver]] = False  # the first of each is nobody
        in_val[outside[enterer - 1 : enterer]] = True


def _at_most(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return groups if len(groups) <= SWAPS else rng.choice(groups, SWAPS, replace=False)


def _cost(val: np.ndarray, val_share: float) -> np.ndarray:
    """How far validation's shares (..., 1 + classes) are from val_share; lower is better.

    The mean distance, and 1 for each class that validation lacks, 2 for each that training lacks: a class that is never
    learned is worse than one that is not measured. No part may be without recordings.
    """
    none, all_of_it = val < TOLERANCE, val > 1 - TOLERANCE
    empty = none[..., 0] | all_of_it[..., 0]
    return np.where(empty, np.inf, np.abs(val - val_share).mean(-1) + none.sum(-1) + 2 * all_of_it.sum(-1))


def _split(groups: dict[str, str], val_groups: set[str]) -> Split:
    val = tuple(sorted(name for name, group in groups.items() if group in val_groups))
    return Split(train=tuple(sorted(set(groups) - set(val))), val=val, groups=groups)


def read_rows(path: Path, columns: tuple[str, ...], what: str, also: tuple[str, ...] = ()) -> list[dict[str, str]]:
    """The rows of a table of text with these columns; those of `also` may follow. Raises SplitError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            there, rows = tuple(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SplitError(f"{path}: cannot be read as {what}: {reason}") from None
    if not set(columns) <= set(there) <= {*columns, *also}:
        found = " ".join(",".join(there).split())  # a quoted name may hold line breaks
        raise SplitError(f"{path}: expected the columns {','.join(columns)}, found {found or 'none'}")
    return rows


def some(names: set[str] | Sequence[str], most: int = 5) -> str:
    """The first names, sorted, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(" ".join(name.split()) for name in sorted(names)[:most]) + more
