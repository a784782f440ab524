"""Options that several commands share, as typer reads them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from pipeline.cluster import Cluster
from pipeline.machine import cores
from pipeline.setting_texts import SettingsError
from pipeline.settings_file import read_slurm
from pipeline.train_settings import Keep

if TYPE_CHECKING:
    from cache import Place

Folder = Optional[Path]  # noqa: UP045
VideosOption = Annotated[Folder, typer.Option("--videos", help="folder of the videos (DLC tables may lie beside them)")]
AnnotationsOption = Annotated[Folder, typer.Option("--annotations", help="folder of the annotation tables")]
DlcOption = Annotated[Folder, typer.Option("--dlc", help="folder of the DLC tables, where they lie elsewhere")]
SourceArgument = Annotated[
    Folder,
    typer.Argument(help="folder of `pipeline predict` or of a cross-validation; none: people's labels in --cache"),
]
StimulusOption = Annotated[
    Folder, typer.Option("--stimulus", help="table recording,trial,stim_frame (from the trial's start, 0)")
]
MergeOption = Annotated[str, typer.Option("--merge", help="how people's classes are merged, as in train")]
DecideFoldsOption = Annotated[
    bool, typer.Option("--decision/--no-decision", help="of a cross-validation: by decision layer or arg-max")
]


def _checked_rate(fps: float | None) -> float | None:
    if fps is not None and not 0 < fps < 1e5:
        raise SettingsError(f"--fps {fps:g}: expected a number of frames per second above 0")
    return fps


FpsOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--fps", help="frame rate of recordings without a video", callback=_checked_rate),
]
PruneOption = Annotated[bool, typer.Option("--prune", help="take recordings whose files are gone out of the cache")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="say what would be done, and do nothing")]
WorkersOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--workers", min=0, help="recordings decoded at a time; default: one a core; 0: one, in this process"),
]
SchedulerOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--scheduler", help="address of a Dask scheduler whose workers do it, tcp://host:8786"),
]
SlurmOption = Annotated[
    bool,
    typer.Option("--slurm", help="as jobs of Slurm, so many at a time; [slurm] in the settings file says how they are"),
]
FoldsAtOnceOption = Annotated[
    int, typer.Option("--jobs", min=1, help="folds at a time, each in a process or job of its own")
]
StallOption = Annotated[
    float,
    typer.Option("--stall-timeout", min=0, help="seconds without a sign of life after which a recording is given up"),
]


# `cache` is imported where a command runs: it brings zarr, which help needs not wait for.
def _place(text: Any) -> "Place":
    from cache import CacheError, place

    try:
        return place(text)
    except CacheError as error:
        raise typer.BadParameter(str(error)) from None


def place_option(*names: str, help: str) -> Any:
    """An option whose value is a Place; as that is one of two types, and typer takes one, it is annotated as Any."""
    return typer.Option(*names, parser=_place, metavar="PLACE", help=help)


def _on_this_machine(out: Path | None) -> Path | None:
    # A path makes one stroke of two; a scheme is longer than the letter of a drive.
    if out is not None and re.match(r"[A-Za-z][A-Za-z0-9+.-]+:(/|$)", out.as_posix()):
        raise typer.BadParameter(f"{out.as_posix()}: is an address, which only a cache may be; expected a local path")
    return out


def out_option(help: str) -> Any:
    """Where a command writes results: a folder or a file of this machine."""
    return local_option("--out", help)


def local_option(name: str, help: str) -> Any:
    """A path that is written to, and not in an object store."""
    return typer.Option(name, help=help, callback=_on_this_machine)


CacheOption = Annotated[
    Any, place_option("--cache", help="folder of the cache, or s3://bucket/cache in an object store")
]
CacheCopyOption = Annotated[
    Folder, local_option("--cache-copy", "folder for a copy of what is read of a cache in an object store")
]
OutOption = Annotated[Path, out_option("folder of the run")]
ModelOption = Annotated[
    list[Path],
    typer.Option(
        "--model",
        help="best_model_multitask.pt of a run, or the folder of a run or of a cross-validation; several (--model A "
        "--model B): the mean of what they say",
    ),
]
FlipsOption = Annotated[
    bool,
    typer.Option(
        "--flips",
        help="each clip is seen in a mirror too, left and right exchanged, and the mean of both is decided; "
        "takes twice as long. For models that were trained with aug_hflip",
    ),
]
ConfigOption = Annotated[Folder, typer.Option("--config", help="TOML file of settings; flags win over it")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="go on with a run; it must be there")]
KeepOption = Annotated[
    Keep,
    typer.Option("--keep", help="where frames stay between epochs; auto: the device or memory, where there is room"),
]
ProfileOption = Annotated[bool, typer.Option("--profile", help="trace some steps into OUT/profile.json")]
TensorboardOption = Annotated[
    bool, typer.Option("--tensorboard/--no-tensorboard", help="write a log of every epoch into OUT/tensorboard")
]
WandbOption = Annotated[bool, typer.Option("--wandb", help="also send it to Weights & Biases (the extra wandb)")]
ForceOption = Annotated[bool, typer.Option("--force", help="train anew even if the run is up to date")]


def with_copy(cache: "Place", copy: Path | None) -> "Place":
    """A cache's place, of which copies are kept in `copy`. Raises SettingsError for a cache in a folder."""
    from cache import CacheError, place

    try:
        return cache if copy is None else place(cache, copy.resolve())
    except CacheError as error:
        raise SettingsError(str(error)) from None


def cluster_of(workers: int | None, scheduler: str | None, slurm: bool, config: Path | None) -> Cluster:
    """Where tasks run. workers None: a process a core, or as many jobs as Slurm is asked for by default.

    Raises SettingsError where two places are named, or no [slurm] says how jobs are.
    """
    if scheduler and slurm:
        raise SettingsError("--scheduler and --slurm are two places: give one of them")
    if slurm:
        return Cluster(workers or 0, slurm=read_slurm(config))
    return Cluster(cores() if workers is None else workers, scheduler)
