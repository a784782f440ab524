"""What a report holds: sections of paragraphs, tables, plots and ethograms. How it looks is the page's concern."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

DASH = "–"


@dataclass(frozen=True)
class Cell:
    """A cell of a table. sort: what it is sorted by, None: last. href: a relative link."""

    text: str
    sort: float | str | None
    href: str = ""

    @property
    def is_number(self) -> bool:
        return not isinstance(self.sort, str)


@dataclass(frozen=True)
class Table:
    """Sortable by each column. numbers: the columns that are aligned to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    kind: str = "table"

    @property
    def numbers(self) -> set[int]:
        return {i for i in range(len(self.columns)) if self.rows and all(row[i].is_number for row in self.rows)}


@dataclass(frozen=True)
class Plot:
    """A figure of plotly, as plain values. All names in it are escaped by `pipeline.report.figures`."""

    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    caption: str = ""
    kind: str = "plot"


@dataclass(frozen=True)
class Ethogram:
    """See `pipeline.report.ethogram`, which makes `data` for page.js."""

    data: dict[str, Any]
    caption: str = ""
    kind: str = "ethogram"


@dataclass(frozen=True)
class Note:
    """A paragraph."""

    text: str
    kind: str = "note"


@dataclass(frozen=True)
class Section:
    """folded: shown when it is asked for; always printed."""

    title: str
    parts: Sequence[Table | Plot | Ethogram | Note]
    folded: bool = False


@dataclass(frozen=True)
class Report:
    """title: of the page; subtitle: what was reported on. facts: the first lines, name -> text."""

    title: str
    subtitle: str
    facts: dict[str, str]
    sections: list[Section] = field(default_factory=list)


def number(value: float | None, digits: int = 3, unit: str = "") -> Cell:
    """A figure; a dash where it is NaN or None, which is sorted last."""
    if value is None or math.isnan(value):
        return Cell(DASH, None)
    return Cell(f"{value:.{digits}f}{unit}", value)


def count(value: int) -> Cell:
    return Cell(f"{value:,}", value)


def share(value: float | None) -> Cell:
    if value is None or math.isnan(value):
        return Cell(DASH, None)
    return Cell(f"{value:.1%}".replace("%", " %"), value)


def text(value: object, href: str = "") -> Cell:
    return Cell(str(value), str(value), href)
