"""`pipeline tables`: its options, and what it shows."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.options import (
    DecideFoldsOption,
    Folder,
    FpsOption,
    MergeOption,
    SourceArgument,
    StimulusOption,
    out_option,
    place_option,
)

SHOWN = {"time_s": "time (s)", "n_bouts": "bouts", "latency_from_stimulus_s": "latency (s)", "responded": "responded"}


def tables(
    *,
    source: SourceArgument = None,
    out: Annotated[Path, out_option("folder for tables and pictures")],
    cache: Annotated[
        Any, place_option("--cache", "--truth", help="people's labels: to make tables of, or to compare SOURCE with")
    ] = None,
    groups: Annotated[
        Folder, typer.Option("--groups", help="table of recordings or animals, with treatment, session, ...")
    ] = None,
    group_by: Annotated[
        str, typer.Option("--group-by", help=r"names the animal in a recording's name, as in train: _(\d+M)_")
    ] = "",
    stimulus: StimulusOption = None,
    merge: MergeOption = "auto",
    fps: FpsOption = None,
    decision: DecideFoldsOption = True,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of the bootstrap")] = 0,
) -> None:
    """Time, bouts, latencies and transitions per trial, animal and group, as tables and pictures for a paper."""
    from pipeline.tables import stage

    asked = stage.Asked(source, cache, groups, group_by, stimulus, merge, fps, decision, seed)
    made = stage.make(asked)
    paths = stage.save(made, asked, out)
    _show(made, paths)
    raise typer.Exit(stage.exit_code(made))


def _show(made: Any, paths: list[Path]) -> None:
    from pipeline.console import say, table

    if "per_group" in made.tables:
        rows = list(_group_rows(made.tables["per_group"]))
        shown = [f"{name} [95 %]" for name in SHOWN.values()]
        columns = ["treatment", "session", "behaviour", "animals", "trials", *shown]
        table(f"Means of animals, of {made.what}", columns, rows, right=["animals", "trials", *shown])
        for note in sorted(set(made.tables["per_group"]["note"]) - {""}):
            say(f"[warning] {note}; the column note of per_group tells where")
    for note in made.notes:
        say(note if note.startswith("[") else f"[info] {note}")
    if made.left_out:
        table("Left out", ("recording", "trial", "reason"), made.left_out, right=("trial",))
    if made.ungrouped:
        table("Without a group, so in no group's figures", ("trial",), [(name,) for name in made.ungrouped])
    for path in paths:
        if path.suffix in {".csv", ".svg"}:
            say(f"{'Table' if path.suffix == '.csv' else 'Picture'}: {path}")


def _group_rows(groups: Any) -> Any:
    for (treatment, session, behaviour), own in groups.groupby(["treatment", "session", "behaviour"], sort=False):
        by_name = own.set_index("measure")
        first = by_name.iloc[0]
        cells = [_cell(by_name.loc[name]) for name in SHOWN]
        yield (treatment or "-", session or "-", behaviour, first["n_animals_in_group"], first["n_trials"], *cells)


def _cell(row: Any) -> str:
    if row["mean"] != row["mean"]:
        return "-"
    interval = "" if row["low"] != row["low"] else f" [{row['low']:.2f}, {row['high']:.2f}]"
    return f"{row['mean']:.2f}{interval}"
