"""`pipeline report`: its options."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.options import Folder, out_option, place_option


def report(
    *,
    folder: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="folder of a run, a cross-validation, a prediction or an evaluation"),
    ],
    out: Annotated[Folder, out_option("file to write; default: report.html in the folder")] = None,
    cache: Annotated[
        Any, place_option("--cache", help="for contact sheets of the worst trials, where the cache was moved")
    ] = None,
) -> None:
    """One HTML file with scores, curves, confusion, calibration and ethograms, to open in any browser, offline."""
    from pipeline.console import say
    from pipeline.report import stage

    say(f"Report: {stage.make(folder, out=out, cache=cache)}")
