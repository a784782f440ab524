"""What is known of the animals: a table with a row for each, by its name or by the name of its recording."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pipeline import lab_tables
from pipeline.file_names import without_suffix
from pipeline.lab_tables import Row, TableError

FIELDS = ("age", "sex", "species", "strain", "genotype", "weight")
EXPECTED = f"a column animal (as --group-by finds it) or recording, and any of {', '.join(FIELDS)}"
# What NWB lets a file say where nothing is known: of any age, of unknown sex.
UNKNOWN: Mapping[str, str] = {"age": "P0D/", "sex": "U"}
_AGE = re.compile(r"P(?=[\dT])(\d+(\.\d+)?[YMWD])*(T(\d+(\.\d+)?[HMS])+)?(/.*)?")


def read_subjects(path: Path) -> dict[str, dict[str, str]]:
    """By the name of the animal, or of the recording: FIELDS as far as they are filled in. Raises TableError."""
    header, rows = lab_tables.read(path, EXPECTED)
    key = "animal" if "animal" in header else "recording"
    lab_tables.require(path, header, (key,), EXPECTED)
    subjects: dict[str, dict[str, str]] = {}
    first: dict[str, Row] = {}
    for row in rows:
        known = {name: row.cells[name] for name in FIELDS if row.cells.get(name)}
        where = f"{path} row {row.number}"
        if (sex := known.get("sex", "U")) not in ("M", "F", "U", "O"):
            raise TableError(f"{where}: sex {sex!r}, expected M, F, U (unknown) or O (other)")
        if not _AGE.fullmatch(age := known.get("age", "P0D")):
            raise TableError(f"{where}: age {age!r}, expected an ISO 8601 duration: P90D (90 days), P12W (12 weeks)")
        name = lab_tables.filled(path, row, key)
        name = name if key == "animal" else without_suffix(name)
        lab_tables.require_agreement(path, first.setdefault(name, row), row, name, sorted(set(FIELDS) & set(header)))
        subjects[name] = known
    return subjects
