"""The command line: parse, call one function, print one table, return an exit code.

Exit codes: 0 done; 1 failed; 2 wrong command line or settings; 3 done, but recordings or trials were left out for a
fault (each is listed with its reason); 4 (status, --dry-run) something is not up to date; 130 interrupted.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pipeline import torchrun
from pipeline.export.command import export
from pipeline.flags import with_settings
from pipeline.inspect_command import inspect_clip
from pipeline.options import (
    AnnotationsOption,
    CacheCopyOption,
    CacheOption,
    ConfigOption,
    DlcOption,
    DryRunOption,
    FlipsOption,
    Folder,
    FoldsAtOnceOption,
    ForceOption,
    KeepOption,
    ModelOption,
    OutOption,
    ProfileOption,
    PruneOption,
    ResumeOption,
    SchedulerOption,
    SlurmOption,
    StallOption,
    TensorboardOption,
    VideosOption,
    WandbOption,
    WorkersOption,
    cluster_of,
    out_option,
    with_copy,
)
from pipeline.predict.command import predict
from pipeline.preprocess_settings import STALL_S, PreprocessSettings
from pipeline.report.command import report
from pipeline.setting_texts import SettingsError
from pipeline.settings_file import read_toml
from pipeline.settings_given import resolve
from pipeline.tables.command import tables
from pipeline.train_settings import Keep, TrainSettings

# Old command lines write --kp_jitter_std: - and _ are the same in a flag.
_CONTEXT = {"token_normalize_func": lambda name: name.replace("_", "-"), "help_option_names": ["-h", "--help"]}

app = typer.Typer(
    context_settings=_CONTEXT,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Mouse paw behaviour in every frame, from video and DeepLabCut keypoints.",
)


@app.callback()
def _before(context: typer.Context) -> None:
    if context.invoked_subcommand != "train":
        torchrun.refuse(str(context.invoked_subcommand))


def _settings(stage: type, config: Folder, flags: dict[str, Any]) -> Any:
    return resolve(stage, read_toml(config) if config else {}, flags)


@app.command()
@with_settings(PreprocessSettings)
def preprocess(
    *,
    cache: CacheOption,
    videos: VideosOption = None,
    annotations: AnnotationsOption = None,
    dlc: DlcOption = None,
    config: ConfigOption = None,
    prune: PruneOption = False,
    dry_run: DryRunOption = False,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    slurm: SlurmOption = False,
    stall_timeout: StallOption = STALL_S,
    flags: dict[str, Any],
) -> int:
    """Videos, DLC tables and annotations -> a cache of clips. Only what changed is done again."""
    from pipeline import jobs

    settings = _settings(PreprocessSettings, config, flags)
    folders = jobs.Folders(videos, annotations, dlc)
    if dry_run:
        return jobs.status(settings, cache=cache, folders=folders, run=None)
    how = jobs.How(cluster_of(workers, scheduler, slurm, config), stall_timeout, prune)
    return jobs.preprocess(settings, cache=cache, folders=folders, how=how)


@app.command()
@with_settings(PreprocessSettings)
def status(
    *,
    cache: CacheOption,
    videos: VideosOption = None,
    annotations: AnnotationsOption = None,
    dlc: DlcOption = None,
    config: ConfigOption = None,
    out: Annotated[Folder, out_option("folder of a run, to say whether it is up to date too")] = None,
    flags: dict[str, Any],
) -> int:
    """What is fresh, stale and why, missing, skipped. Without folders and settings: those of the last preprocess."""
    from pipeline import jobs

    folders, remembered = jobs.last_run(cache, jobs.Folders(videos, annotations, dlc))
    settings = resolve(PreprocessSettings, read_toml(config) if config else remembered, flags)
    return jobs.status(settings, cache=cache, folders=folders, run=out)


@app.command()
@with_settings(PreprocessSettings)
def check(
    *,
    videos: VideosOption = None,
    annotations: AnnotationsOption = None,
    dlc: DlcOption = None,
    config: ConfigOption = None,
    csv: Annotated[Folder, typer.Option("--csv", help="also write the table to this file")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="decode nothing: no count of frames, no lag")] = False,
    flags: dict[str, Any],
) -> int:
    """All that is wrong with a lab's folders, and what preprocess would make of them; writes no cache."""
    from pipeline import jobs

    settings = _settings(PreprocessSettings, config, flags)
    return jobs.check(settings, folders=jobs.Folders(videos, annotations, dlc), quick=quick, csv=csv)


@app.command()
@with_settings(TrainSettings)
def train(
    *,
    cache: CacheOption,
    out: OutOption,
    config: ConfigOption = None,
    resume: ResumeOption = False,
    force: ForceOption = False,
    keep: KeepOption = Keep.AUTO,
    cache_copy: CacheCopyOption = None,
    profile: ProfileOption = False,
    tensorboard: TensorboardOption = True,
    wandb: WandbOption = False,
    flags: dict[str, Any],
) -> int:
    """A cache -> a model, its scores and pictures. Up to date: nothing is done; interrupted: it goes on."""
    from pipeline import jobs

    settings = _settings(TrainSettings, config, flags)
    how = jobs.HowToTrain(resume, force, keep, profile, jobs.Follow(tensorboard, wandb))
    return jobs.train(settings, cache=with_copy(cache, cache_copy), out=out, how=how)


@app.command()
@with_settings(PreprocessSettings, TrainSettings)
def run(
    *,
    videos: VideosOption = None,
    annotations: AnnotationsOption = None,
    dlc: DlcOption = None,
    cache: CacheOption = Path("paw_cache"),
    out: OutOption = Path("paw_run"),
    config: ConfigOption = None,
    resume: ResumeOption = False,
    force: ForceOption = False,
    keep: KeepOption = Keep.AUTO,
    cache_copy: CacheCopyOption = None,
    profile: ProfileOption = False,
    tensorboard: TensorboardOption = True,
    wandb: WandbOption = False,
    prune: PruneOption = False,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    slurm: SlurmOption = False,
    stall_timeout: StallOption = STALL_S,
    flags: dict[str, Any],
) -> int:
    """Both stages: preprocess what changed, then train if anything changed."""
    from pipeline import jobs

    first, second = _settings(PreprocessSettings, config, flags), _settings(TrainSettings, config, flags)
    return jobs.run(
        first,
        second,
        cache=with_copy(cache, cache_copy),
        out=out,
        folders=jobs.Folders(videos, annotations, dlc),
        how=jobs.How(cluster_of(workers, scheduler, slurm, config), stall_timeout, prune),
        training=jobs.HowToTrain(resume, force, keep, profile, jobs.Follow(tensorboard, wandb)),
    )


@app.command("cross-validate")
@with_settings(TrainSettings)
def cross_validate(
    *,
    cache: CacheOption,
    out: Annotated[Path, out_option("folder of all folds")],
    folds: Annotated[int, typer.Option("--folds", min=2, help="number of folds, where no file gives them")] = 5,
    fold_file: Annotated[
        Folder, typer.Option("--fold-file", help="table of folds: recording,fold and maybe group")
    ] = None,
    jobs: FoldsAtOnceOption = 1,
    scheduler: SchedulerOption = None,
    slurm: SlurmOption = False,
    config: ConfigOption = None,
    keep: KeepOption = Keep.AUTO,
    cache_copy: CacheCopyOption = None,
    tensorboard: TensorboardOption = True,
    wandb: WandbOption = False,
    flags: dict[str, Any],
) -> int:
    """A model per fold, scored on recordings that it never saw. Interrupted: the same command goes on."""
    from pipeline import jobs as commands

    settings = _settings(TrainSettings, config, flags)
    how: dict[str, Any] = {"folds": folds, "fold_file": fold_file, "keep": keep}
    how["cluster"] = cluster_of(jobs if jobs > 1 else 0, scheduler, slurm, config)
    how["follow"] = commands.Follow(tensorboard, wandb)
    return commands.cross_validate(settings, cache=with_copy(cache, cache_copy), out=out, **how)


@app.command()
@with_settings(TrainSettings)
def tune(
    *,
    cache: CacheOption,
    out: Annotated[Path, out_option("folder of all trials")],
    trials: Annotated[int, typer.Option("--trials", min=1, help="finished trials, former ones among them")] = 20,
    folds: Annotated[int, typer.Option("--folds", min=2, help="number of folds of each trial")] = 5,
    search: Annotated[Folder, typer.Option("--search", help="TOML file of ranges and choices")] = None,
    jobs: FoldsAtOnceOption = 1,
    scheduler: SchedulerOption = None,
    slurm: SlurmOption = False,
    config: ConfigOption = None,
    keep: KeepOption = Keep.AUTO,
    cache_copy: CacheCopyOption = None,
    tensorboard: TensorboardOption = True,
    wandb: WandbOption = False,
    flags: dict[str, Any],
) -> int:
    """Looks for better settings by cross-validating some. The settings that are given hold where none are searched."""
    from pipeline import jobs as commands

    how: dict[str, Any] = {"trials": trials, "folds": folds, "search": search, "keep": keep}
    how["cluster"] = cluster_of(jobs if jobs > 1 else 0, scheduler, slurm, config)
    how["follow"] = commands.Follow(tensorboard, wandb)
    return commands.tune(_settings(TrainSettings, config, flags), cache=with_copy(cache, cache_copy), out=out, **how)


@app.command()
def evaluate(
    *,
    model: ModelOption,
    cache: CacheOption,
    on: Annotated[
        str, typer.Option("--on", help="val or test: those recordings of the run's split; all: every one")
    ] = "val",
    out: Annotated[Folder, out_option("folder for scores.json and pictures")] = None,
    flips: FlipsOption = False,
    cache_copy: CacheCopyOption = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps")] = "auto",
) -> None:
    """Scores of a model against labels, with the majority baseline beside it."""
    from pipeline import jobs

    place = with_copy(cache, cache_copy)
    raise typer.Exit(jobs.evaluate(models=model, cache=place, on=on, out=out, flips=flips, device=device))


app.command()(predict)
app.command()(tables)
app.command()(export)
app.command()(report)
app.command("inspect")(inspect_clip)


@app.command()
def demo(
    *,
    out: Annotated[Path, out_option("folder for the rendered data and what is made of them")],
    recordings: Annotated[int, typer.Option("--recordings", help="recordings to render", min=4)] = 12,
    only_data: Annotated[bool, typer.Option("--only-data", help="render the data and stop")] = False,
    seed: Annotated[int, typer.Option("--seed", help="seed of the rendered data")] = 0,
    frame_code: Annotated[bool, typer.Option("--frame-code", help="each frame shows its number in a corner")] = False,
    lost: Annotated[float, typer.Option("--lost", help="share of a paw's frames not tracked", min=0, max=0.9)] = 0.0,
) -> None:
    """Renders a small data set, then runs preprocess, train and predict on it, each command as it is printed."""
    from pipeline import demo_commands, jobs

    with_new = not only_data
    demo_commands.render(out, recordings=recordings, seed=seed, frame_code=frame_code, lost=lost, with_new=with_new)
    codes = [jobs.DONE]
    for arguments in [] if only_data else demo_commands.demo_commands(out):
        print(f"\n$ pipeline {shlex.join(arguments)}", flush=True)
        codes.append(app(arguments, standalone_mode=False) or jobs.DONE)
        if codes[-1] == jobs.INTERRUPTED:
            raise typer.Exit(jobs.INTERRUPTED)
    if not only_data:
        demo_commands.show_demo(out)
    raise typer.Exit(max(codes))


def main() -> None:
    """The console script: our own errors are one line on stderr, never a traceback."""
    try:
        with torchrun.quiet():
            app()
    except SystemExit as done:  # typer turns Ctrl-C into an exit code
        if done.code == 130 and torchrun.place().rank == 0:
            without = " (without --force)" if "--force" in sys.argv else ""
            print(f"interrupted; the same command{without} goes on from here", file=sys.stderr)
        raise
    except OSError as error:
        _fail(error, 1)
    except ValueError as error:
        if type(error).__module__.split(".")[0] not in {"cache", "pipeline"}:
            raise
        _fail(error, 2 if isinstance(error, SettingsError) else 1)


def _fail(error: Exception, code: int) -> NoReturn:
    if text := torchrun.told(error):
        print(f"error: {text}", file=sys.stderr)
    raise SystemExit(code) from None
