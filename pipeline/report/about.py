"""The sections that say what a report's figures were made of: data, settings, versions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.content import Note, Section, Table, count, number, share, text
from pipeline.report.made import Made
from pipeline.train.split import PARTS, Split
from pipeline.train_settings import TrainSettings


def facts(made: Made, **more: str) -> dict[str, str]:
    """The lines at the top of a page."""
    unknown = "not kept (made by an earlier version)"
    return {"Made": made.date or unknown, "Command": made.command or unknown} | more


def parts_table(parts: Mapping[str, Sequence[str]], made: Made) -> Table:
    """How many recordings, trials and frames each part has."""
    rows = []
    for part, names in parts.items():
        sizes = [made.recordings[name] for name in names if name in made.recordings]
        whole = len(sizes) == len(names)
        n_trials, n_frames = (sum(size[i] for size in sizes) for i in (0, 1))
        sums = [count(n_trials), count(n_frames)] if whole else [number(None), number(None)]
        rows.append([text(part), count(len(names)), *sums])
    return Table(("part", "recordings", "trials", "frames"), rows)


def split_parts(split: Split) -> dict[str, Sequence[str]]:
    """Name of each part -> its recordings."""
    return {name: split.members(part) for part, name in PARTS.items() if split.members(part)}


def classes_table(counts: Mapping[str, Mapping[str, int]]) -> Table:
    """counts: of a part -> class -> labelled frames."""
    names = list(next(iter(counts.values())))
    columns = ["class"]
    totals = {part: sum(of_part.values()) for part, of_part in counts.items()}
    for part in counts:
        columns += [f"{part} frames", f"share of {part}"]
    rows = []
    for name in names:
        row = [text(name)]
        for part, of_part in counts.items():
            n = of_part.get(name, 0)
            row += [count(n), share(n / totals[part] if totals[part] else None)]
        rows.append(row)
    return Table(columns, rows, "Labelled frames of each class, after merging.")


def recordings_table(parts: Mapping[str, Sequence[str]], groups: Mapping[str, str], made: Made) -> Table:
    """A row per recording."""
    rows = []
    for part, names in parts.items():
        for name in names:
            size = made.recordings.get(name)
            sizes = [count(size[0]), count(size[1])] if size else [number(None), number(None)]
            rows.append([text(name), text(groups.get(name, name)), text(part), *sizes])
    return Table(("recording", "animal or group", "part", "trials", "frames"), rows)


def settings_sections(settings: Mapping[str, Any]) -> list[Section]:
    """Those that differ from the defaults, and all of them."""
    defaults = {f.name: f.default for f in dataclasses.fields(TrainSettings)}
    changed = [
        [text(name), text(value), text(defaults.get(name, ""))]
        for name, value in settings.items()
        if name not in defaults or value != defaults[name]
    ]
    columns = ("setting", "value", "default")
    own = Table(columns, changed) if changed else Note("All settings are the defaults.")
    every = [[text(name), text(value), text(defaults.get(name, ""))] for name, value in settings.items()]
    return [Section("Settings that differ from the defaults", [own]),
            Section("All settings", [Table(columns, every)], folded=True)]  # fmt: skip


def versions_section(made: Made) -> Section:
    if not made.versions:
        return Section("Versions", [Note("Not kept: made by an earlier version.")])
    rows = [[text(name), text(version)] for name, version in made.versions.items()]
    return Section("Versions", [Table(("what", "version"), rows, "Of what made the results, not of this page.")])
