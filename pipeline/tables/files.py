"""Tables as CSV and Parquet, pictures as SVG and PNG; each written beside and moved into place."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from pipeline.train.run_folder import PICTURES, write_bytes, write_text

DECIMALS = 6
DPI = 200
WHOLE = frozenset({"trial", "count", "stim_frame", "first_frame", "n_cut_bouts"})  # and what begins with n_


def write_table(tidy: pd.DataFrame, stem: Path) -> list[Path]:
    """STEM.csv and STEM.parquet, of the same values; tidy: see `tidied`."""
    csv, parquet = stem.with_name(f"{stem.name}.csv"), stem.with_name(f"{stem.name}.parquet")
    write_text(csv, tidy.to_csv(index=False, lineterminator="\n"))
    content = io.BytesIO()
    tidy.to_parquet(content, index=False)
    write_bytes(parquet, content.getvalue())
    return [csv, parquet]


def tidied(table: pd.DataFrame) -> pd.DataFrame:
    """Figures rounded to 6 decimals; whole numbers as such, also where some are missing. Text, of people, stays so."""
    columns = {}
    for name, column in table.items():
        if not pd.api.types.is_numeric_dtype(column):
            columns[name] = column
        elif str(name) in WHOLE or (str(name).startswith("n_") and _is_whole(column)):
            columns[name] = column.astype("Int64")
        elif pd.api.types.is_float_dtype(column):
            columns[name] = column.round(DECIMALS) + 0.0  # no -0.0
        else:
            columns[name] = column
    return pd.DataFrame(columns)


def write_picture(figure: Figure, stem: Path) -> list[Path]:
    """STEM.svg, whose text is text, and STEM.png; the same bytes from the same figures."""
    paths = []
    for suffix, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        content = io.BytesIO()
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "paw"}):
            figure.savefig(content, format=suffix, dpi=DPI, metadata=metadata)
        paths.append(stem.with_name(f"{stem.name}.{suffix}"))
        write_bytes(paths[-1], content.getvalue())
    return paths


def discard_former(out: Path, record: str, tables: Sequence[str], pictures: Sequence[str]) -> None:
    """Takes away what a former call has written, first the record of how."""
    (out / record).unlink(missing_ok=True)
    for folder, names, suffixes in ((out, tables, ("csv", "parquet")), (out / PICTURES, pictures, ("svg", "png"))):
        for name in names:
            for suffix in suffixes:
                (folder / f"{name}.{suffix}").unlink(missing_ok=True)


def _is_whole(column: pd.Series) -> bool:
    return bool((column.dropna() % 1 == 0).all())
