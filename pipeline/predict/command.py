"""`pipeline predict`: its options."""

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from pipeline.options import (
    DlcOption,
    FlipsOption,
    ModelOption,
    SchedulerOption,
    StallOption,
    StimulusOption,
    VideosOption,
    WorkersOption,
    cluster_of,
    out_option,
)
from pipeline.preprocess_settings import STALL_S


def predict(
    *,
    model: ModelOption,
    out: Annotated[Path, out_option("folder for the tables and pictures")],
    videos: VideosOption = None,
    dlc: DlcOption = None,
    dlc_scorer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--dlc-scorer", help="use only DLC tables whose name contains this; default as for the model"),
    ] = None,
    prefer_filtered: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option(help="use DLC's _filtered table where there are both; default as for the model"),
    ] = None,
    decision: Annotated[
        bool, typer.Option("--decision/--no-decision", help="labels by the model's decision layer, or by arg-max")
    ] = True,
    flips: FlipsOption = False,
    stimulus: StimulusOption = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    stall_timeout: StallOption = STALL_S,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="predict anew what is up to date too")] = False,
) -> None:
    """New recordings -> behaviour per frame, bouts and ethograms, by a trained model. Interrupted: it goes on."""
    from pipeline import jobs

    options: dict[str, Any] = {"dlc_scorer": dlc_scorer, "prefer_filtered": prefer_filtered, "force": force}
    options |= {"decide": decision, "flips": flips, "stimulus": stimulus}
    how = jobs.How(cluster_of(workers, scheduler, False, None), stall_timeout)
    raise typer.Exit(jobs.predict(models=model, videos=videos, dlc=dlc, out=out, device=device, how=how, **options))
