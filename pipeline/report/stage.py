"""A folder in, its report out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cache import Place
from pipeline.predict.evaluation import SCORES
from pipeline.predict.exports import TABLES
from pipeline.report import folders, made, predicted
from pipeline.report.content import Report
from pipeline.report.folders import ReportError
from pipeline.report.page import render
from pipeline.train.folds import FOLDS
from pipeline.train.run_folder import RECORD, write_text

REPORT = "report.html"


def make(
    folder: Path, *, out: Path | None = None, cache: Place | None = None, refused: Mapping[str, str] | None = None
) -> Path:
    """Writes the report of a folder, whole or not at all, and returns where: `out`, or FOLDER/report.html.

    cache: for contact sheets of the worst trials, where the one that the folder was made from is elsewhere now.
    refused: of a prediction, recording -> why nothing was predicted. Raises ReportError and what reading raises.
    """
    page = out or folder / REPORT
    html = render(describe(folder, page, cache, refused))
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, html)
    return page


def describe(folder: Path, page: Path, cache: Place | None, refused: Mapping[str, str] | None = None) -> Report:
    """What there is to say of a folder, whatever kind it is of."""
    if not folder.is_dir():
        raise ReportError(f"{folder}: no such folder; expected that of a run, a cross-validation or a prediction")
    kinds: dict[str, Callable[[Path, Path, Place | None], Report]] = {
        FOLDS: folders.of_cross_validation,
        RECORD: folders.of_run,
        SCORES: folders.of_evaluation,
    }
    for name, kind in kinds.items():
        if (folder / name).is_file():
            return kind(folder, page, cache)
    if (folder / TABLES).is_dir():
        return predicted.of_prediction(folder, refused)
    raise ReportError(
        f"{folder}: holds none of {', '.join(kinds)} and {TABLES}/; expected the folder of `pipeline train`, "
        "`cross-validate`, `predict` or `evaluate --out`"
    )


def make_or_warn(folder: Path, say: Callable[[str], None], **how_made: Any) -> None:
    """After a command that has done its work: a report that cannot be made is said, and fails nothing.

    how_made: see `made.write`; nothing where the folder says already how it was made.
    """
    try:
        if how_made:
            made.write(folder, **how_made)
        page = make(folder)
    except Exception as error:  # whatever it is, the work it would describe is done
        reason = (str(error).splitlines() or [""])[0]
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        say(f"[warning] no report was made: {kind}{reason}; `pipeline report {folder}` tries again")
        return
    say(f"Report: {page}")
