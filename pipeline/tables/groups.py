"""Which animal a trial is of, and which group: a table of recordings or animals, treatment and session."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline import lab_tables
from pipeline.file_names import composed, without_suffix
from pipeline.lab_tables import Row, TableError
from pipeline.stimuli import Stimuli
from pipeline.tables.sources import Trial, some
from pipeline.train.split import group_of

GROUP = ("treatment", "session")
KEYS = ("recording", "trial", "animal")
STIMULUS = "stim_frame"
EXPECTED = "a column recording (and maybe trial) or animal, and treatment or session or both"
NO_GROUP = ("", "")

Group = tuple[str, str]  # treatment and session; either may be empty


@dataclass(frozen=True)
class Place:
    """Where a trial belongs. group: NO_GROUP where the table does not say it. more: the table's further columns.

    animal: empty where the table names animals, and not this trial's.
    """

    animal: str
    group: Group
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Groups:
    """A table of groups. key: the columns that name a trial. more: further columns. named: in the order of the file."""

    path: Path
    key: tuple[str, ...]
    has_animal: bool
    more: tuple[str, ...]
    rows: dict[tuple[str, ...], Row]

    def animal_of(self, recording: str) -> str:
        """The animal of all rows of a recording; empty where there is none, or they have several."""
        place = self.key.index("recording")
        found = {row.cells["animal"] for key, row in self.rows.items() if key[place] == composed(recording)}
        return found.pop() if len(found) == 1 else ""

    @property
    def order(self) -> list[Group]:
        """The groups as the file names them first."""
        return list(dict.fromkeys(_group(row) for row in self.rows.values()))

    def stimuli(self, trials: Sequence[Trial]) -> Stimuli:
        """Of the column stim_frame, for every trial that a row names."""
        found: Stimuli = {}
        for trial in trials:
            row = self.rows.get(_key(self.key, trial, ""))
            if "recording" in self.key and row and row.cells.get(STIMULUS):
                frame = lab_tables.whole(self.path, row, STIMULUS)
                found[composed(trial.recording), trial.trial] = frame, f"{self.path} row {row.number}"
        return found


@dataclass(frozen=True)
class Placed:
    """places: of each trial, in order. order: the groups. notes, and ungrouped: trials of which no row tells the group.

    more: names of the further columns.
    """

    places: list[Place]
    order: list[Group]
    more: tuple[str, ...] = ()
    ungrouped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def of_group(table: pd.DataFrame, group: Group) -> pd.Series:
    """Which rows of a table with the columns GROUP are the group's (bool)."""
    return (table[list(GROUP)] == list(group)).all(axis=1)


def read_groups(path: Path, taken: Collection[str]) -> Groups:
    """taken: names that further columns may not have, since the tables' own columns have them. Raises TableError."""
    header, rows = lab_tables.read(path, EXPECTED)
    key = _key_columns(path, header)
    if not set(GROUP) & set(header):
        raise TableError(f"{path}: no column treatment, session; expected {EXPECTED}, found {', '.join(header)}")
    more = tuple(name for name in header if name not in {*KEYS, *GROUP, STIMULUS})
    if clash := [name for name in more if name in taken or not name]:
        raise TableError(f"{path}: a column may not be called {clash[0]!r}, as a column of the tables is; rename it")
    otherwise = ", or name recordings where an animal has several sessions" if key == ("animal",) else ""
    by_key: dict[tuple[str, ...], Row] = {}
    for row in rows:
        name = tuple(_cell(path, row, column) for column in key)
        former = by_key.setdefault(name, row)
        others = [column for column in header if column not in key]
        lab_tables.require_agreement(path, former, row, " trial ".join(name), others, otherwise)
    return Groups(path, key, "animal" in header, more, by_key)


def place(trials: Sequence[Trial], groups: Groups | None, group_by: str) -> Placed:
    """The animal of each trial, by the table or by --group-by, and its group.

    Without either each recording counts as an animal. Raises SplitError (--group-by), TableError.
    """
    if groups is None:
        places = [Place(group_of(t.recording, group_by), NO_GROUP) for t in trials]
        return Placed(places, [NO_GROUP], notes=_as_animals(group_by))
    if groups.key == ("animal",) and not group_by:
        raise TableError(f"{groups.path}: names animals, so --group-by must tell each recording's animal")
    rows = [groups.rows.get(_key(groups.key, t, group_by)) for t in trials]
    places = [_place(groups, t, row, group_by) for t, row in zip(trials, rows, strict=True)]
    notes = _unused(groups, rows) + ([] if groups.has_animal else list(_as_animals(group_by)))
    notes += _nameless(groups, trials, places)
    ungrouped = tuple(
        f"{t.recording} trial {t.trial}" for t, p in zip(trials, places, strict=True) if p.group == NO_GROUP
    )
    order = [group for group in groups.order if group != NO_GROUP and group in {p.group for p in places}]
    return Placed(places, order, groups.more, ungrouped, (*notes, *_repeated(places)))


def _key_columns(path: Path, header: Sequence[str]) -> tuple[str, ...]:
    if "recording" in header:
        return ("recording", "trial") if "trial" in header else ("recording",)
    if "animal" not in header:
        raise TableError(f"{path}: no column recording or animal; expected {EXPECTED}, found {', '.join(header)}")
    if {"trial", STIMULUS} & set(header):
        raise TableError(f"{path}: trial and {STIMULUS} are of recordings; add a column recording")
    return ("animal",)


def _cell(path: Path, row: Row, column: str) -> str:
    if column == "trial":
        return str(lab_tables.whole(path, row, column))
    name = lab_tables.filled(path, row, column)
    return without_suffix(name) if column == "recording" else name


def _key(columns: Sequence[str], trial: Trial, group_by: str) -> tuple[str, ...]:
    if columns == ("animal",):
        return (composed(group_of(trial.recording, group_by)),)
    return (composed(trial.recording), str(trial.trial))[: len(columns)]


def _place(groups: Groups, trial: Trial, row: Row | None, group_by: str) -> Place:
    by_name = composed(group_of(trial.recording, group_by))
    if row is None:
        named = groups.animal_of(trial.recording) if groups.has_animal and not group_by else by_name
        return Place(named, NO_GROUP, ("",) * len(groups.more))
    animal = lab_tables.filled(groups.path, row, "animal") if groups.has_animal else by_name
    if group_by and animal != by_name:
        raise TableError(
            f"{groups.path} row {row.number}: animal {animal!r}, but --group-by finds {by_name!r} in "
            f"{trial.recording}; leave one of them out"
        )
    return Place(animal, _group(row), tuple(row.cells[name] for name in groups.more))


def _group(row: Row) -> Group:
    return row.cells.get("treatment", ""), row.cells.get("session", "")


def _unused(groups: Groups, rows: Sequence[Row | None]) -> list[str]:
    used = {row.number for row in rows if row}
    names = [" trial ".join(name) for name, row in groups.rows.items() if row.number not in used]
    what = "animals" if groups.key == ("animal",) else "recordings"
    return [f"[warning] {groups.path}: {len(names)} {what} of it have no trial here: {some(names)}"] if names else []


def _nameless(groups: Groups, trials: Sequence[Trial], places: Sequence[Place]) -> list[str]:
    names = [f"{t.recording} trial {t.trial}" for t, p in zip(trials, places, strict=True) if not p.animal]
    if not names:
        return []
    return [
        f"[warning] {groups.path}: no row names the animal of {len(names)} trials ({some(names)}): they are in no "
        "figure of animals, only in those of trials"
    ]


def _repeated(places: Sequence[Place]) -> list[str]:
    groups_of: dict[str, set[Group]] = {}
    for one in places:
        groups_of.setdefault(one.animal, set()).add(one.group)
    names = sorted(animal for animal, found in groups_of.items() if len(found - {NO_GROUP}) > 1)
    if not names:
        return []
    return [
        f"{len(names)} animals are in more than one group ({some(names)}): each group's interval stands for itself, a "
        "difference between groups needs a paired test on per_animal"
    ]


def _as_animals(group_by: str) -> tuple[str, ...]:
    if group_by:
        return ()
    return (
        "[warning] each recording counts as an animal of its own; where animals have several, name them by --group-by "
        "or a column animal, or the intervals are too narrow",
    )
