"""`pipeline export`: its options, and what it shows."""

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from pipeline.export.formats import MOST_VIDEOS, Format
from pipeline.options import DecideFoldsOption, Folder, FpsOption, MergeOption, SourceArgument, out_option, place_option

SHOWN_FILES = 20


def export(
    *,
    source: SourceArgument = None,
    to: Annotated[Format, typer.Option("--to", help="format; all: every one")],
    out: Annotated[Path, out_option("folder; each format has one of its own in it")],
    cache: Annotated[
        Any, place_option("--cache", help="people's labels: to export, or to show beside those of SOURCE")
    ] = None,
    clip: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--clip", "--trial", help="RECORDING/TRIAL, or RECORDING for all of its; repeatable; default all"),
    ] = None,
    max_videos: Annotated[
        int, typer.Option("--max-videos", min=1, help="trials of which a video is made, where no --clip chooses")
    ] = MOST_VIDEOS,
    videos: Annotated[
        Folder, typer.Option("--videos", help="folder of videos that are not where preprocess found them")
    ] = None,
    merge: MergeOption = "auto",
    fps: FpsOption = None,
    decision: DecideFoldsOption = True,
    group_by: Annotated[
        str, typer.Option("--group-by", help=r"names the animal in a recording's name, the subject: _(\d+M)_")
    ] = "",
    session_start: Annotated[
        str,
        typer.Option("--session-start", help="when recordings began: time with zone, or table recording,session_start"),
    ] = "",
    subjects: Annotated[
        Folder, typer.Option("--subjects", help="nwb: table animal (or recording), age, sex, species, strain, ...")
    ] = None,
    background: Annotated[
        str, typer.Option("--background", help="onehot: the class that DeepEthogram calls background, such as rest")
    ] = "",
    likelihood: Annotated[float, typer.Option("--kp-likelihood-thr", help="video: below it a point is hollow")] = 0.9,
) -> None:
    """Labels for other programs: BORIS, one-hot tables (DeepEthogram, SimBA), NWB, and annotated videos."""
    from pipeline.console import progress_bar
    from pipeline.export import stage

    asked = stage.Asked(
        to, source, cache, tuple(clip or ()), max_videos, videos, merge, fps, decision, group_by, session_start,
        subjects, background, likelihood,
    )  # fmt: skip
    with progress_bar() as progress:
        made = stage.export(asked, out, progress)
    _show(made)
    raise typer.Exit(made.exit_code)


def _show(made: Any) -> None:
    from pipeline.console import say, table

    for path in made.files[:SHOWN_FILES]:
        say(f"Written: {path}")
    if (more := len(made.files) - SHOWN_FILES) > 0:
        say(f"and {more} more")
    for note in dict.fromkeys(made.notes):
        say(note if note.startswith("[") else f"[info] {note}")
    if made.left_out:
        table("Left out", ("recording", "format", "reason"), [(n, f or "all", why) for n, f, why in made.left_out])
