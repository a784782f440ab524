"""`pipeline inspect`: its options."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.options import CacheOption, out_option


def inspect_clip(
    *,
    clip: Annotated[str, typer.Argument(help="RECORDING/TRIAL, or RECORDING where it has one clip only")],
    cache: CacheOption,
    out: Annotated[Path, out_option("folder for the picture and the video")],
    frames: Annotated[str, typer.Option("--frames", help="START:STOP, of the clip, in the video; default all")] = "",
    likelihood: Annotated[float, typer.Option("--kp-likelihood-thr", help="below it a point is hollow")] = 0.9,
) -> None:
    """A clip of the cache as a picture and a video: frames, keypoints and labels as the trainer gets them."""
    from pipeline import jobs

    raise typer.Exit(jobs.inspect(clip, cache=cache, out=out, frames=frames, likelihood_thr=likelihood))
