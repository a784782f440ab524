"""Labels in, tables and pictures for a paper out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cache import Place
from pipeline.stimuli import read_stimuli
from pipeline.tables import plots
from pipeline.tables.errors import agreement_table, error_table
from pipeline.tables.files import discard_former, tidied, write_picture, write_table
from pipeline.tables.followers import transition_table
from pipeline.tables.groups import GROUP, KEYS, Groups, Placed, place, read_groups
from pipeline.tables.opened import open_source
from pipeline.tables.peri_stimulus import peri_stimulus_table
from pipeline.tables.sources import Source, SourceError
from pipeline.tables.stimuli import with_stimuli
from pipeline.tables.summaries import COUNTS, OF_BEHAVIOUR, OF_TRIAL, per_animal, per_group, per_trial
from pipeline.train.run_folder import PICTURES, write_text

RECORD = "tables.json"


@dataclass(frozen=True)
class Asked:
    """What the tables are made of, and how; docs/tables.md describes it.

    source: a folder of predictions or of a cross-validation; None: the labels in `cache`. cache: people's labels, frame
    rates and stimuli. fps: for recordings without a video. decide: of a cross-validation, with its decision layer.
    """

    source: Path | None = None
    cache: Place | None = None
    groups: Path | None = None
    group_by: str = ""
    stimuli: Path | None = None
    merge: str = "auto"
    fps: float | None = None
    decide: bool = True
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Tables:
    """tables: by name, not rounded. notes: what should be known. left_out: recording, trial (0: all), reason."""

    tables: dict[str, pd.DataFrame]
    class_names: tuple[str, ...]
    what: str
    notes: tuple[str, ...]
    left_out: tuple[tuple[str, int, str], ...]
    ungrouped: tuple[str, ...]


def make(asked: Asked) -> Tables:
    """All tables. Raises CacheError, SourceError, TableError, SettingsError, SplitError."""
    groups = read_groups(asked.groups, taken=_TAKEN) if asked.groups else None
    source = open_source(asked.source, asked.cache, asked.merge, decide=asked.decide)
    source = _stimulated(source, asked, groups).with_rates(asked.fps)
    if not source.trials:
        why = f"{source.left_out[0][0]} {source.left_out[0][2]}" if source.left_out else "it is empty"
        raise SourceError(f"{asked.source or asked.cache}: no trial to make tables of ({why})")
    placed = place(source.trials, groups, asked.group_by)
    return Tables(
        _tables(source, placed, asked.seed),
        source.class_names,
        source.what,
        (*source.notes, *placed.notes),
        source.left_out,
        placed.ungrouped,
    )


def save(made: Tables, asked: Asked, out: Path) -> list[Path]:
    """CSV and Parquet of each table, SVG and PNG of each picture, and the record of how; returns their paths.

    Those of a former call go when all is made, and before any is written: none of them may pass for this one's.
    """
    tables = {name: tidied(table) for name, table in made.tables.items()}
    pictures = plots.pictures(made.tables, made.class_names)
    (out / PICTURES).mkdir(parents=True, exist_ok=True)
    discard_former(out, RECORD, TABLE_NAMES, plots.NAMES)
    paths = []
    for name, table in tables.items():
        paths += write_table(table, out / name)
    for name, figure in pictures.items():
        paths += write_picture(figure, out / PICTURES / name)
    record: dict[str, Any] = {name: str(v) if isinstance(v, Place) else v for name, v in vars(asked).items()}
    record |= {"labels": made.what, "notes": made.notes, "left_out": made.left_out, "without_group": made.ungrouped}
    write_text(out / RECORD, json.dumps(record, indent=1))
    return [*paths, out / RECORD]


TABLE_NAMES = ("per_trial", "per_animal", "per_group", "transitions", "peri_stimulus", "errors", "agreement")
_TAKEN = frozenset({*KEYS, *GROUP, "behaviour", *OF_TRIAL, *OF_BEHAVIOUR, *COUNTS})


def _stimulated(source: Source, asked: Asked, groups: Groups | None) -> Source:
    """With the stimuli of --stimulus, then of the table of groups; otherwise those of annotations stay."""
    if groups:
        source = with_stimuli(source, groups.stimuli(source.trials))
    return with_stimuli(source, read_stimuli(asked.stimuli)) if asked.stimuli else source


def _tables(source: Source, placed: Placed, seed: int) -> dict[str, pd.DataFrame]:
    places, order = placed.places, placed.order
    trials = per_trial(source, places, placed.more)
    animals = per_animal(trials, placed.more)
    tables: dict[str, pd.DataFrame] = {
        "per_trial": trials,
        "per_animal": animals,
        "per_group": per_group(animals, order, seed),
        "transitions": transition_table(source, places, order, seed),
        "peri_stimulus": peri_stimulus_table(source, places, order, seed),
        "errors": error_table(source, places),
    }
    tables["agreement"] = agreement_table(tables["errors"], order, seed)
    return {name: table for name, table in tables.items() if len(table)}


def exit_code(made: Tables) -> int:
    """3 where something was left out, 0 otherwise."""
    return 3 if made.left_out or made.ungrouped else 0
