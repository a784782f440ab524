"""What the command line shows: tables on stdout, a progress bar on stderr where a person is watching."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

ProgressCall = Callable[[str, float, int], None]


def say(line: str) -> None:
    """One line on stdout, at once: a log file shows it while the run goes on."""
    print(line, flush=True)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table on stdout; `right` names the columns to align to the right. Nothing is cut: long cells fold."""
    shown = Table(title=title, title_justify="left", header_style="bold", show_edge=False)
    for column in columns:
        shown.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(escape(str(cell)) for cell in row))
    # In a log file there is no width to fit into, and folded names could not be searched for.
    Console(width=None if sys.stdout.isatty() else 160, soft_wrap=False).print(shown)


@contextmanager
def progress_bar() -> Iterator[ProgressCall]:
    """Yields progress(what, done, total), drawn as a bar with the time left; silent where stderr is no terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # A bar that takes stdout over would send it to stderr: away from the log file that stdout may go to.
    redirect = sys.stdout.isatty()
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden, redirect_stdout=redirect) as bar:
        task = bar.add_task("", total=None)

        def progress(what: str, done: float, total: int) -> None:
            bar.update(task, description=escape(what), completed=done, total=total)

        yield progress
