"""What the command line shows: tables on stdout, progress bars on stderr where a person is watching."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

# The part of a step that is not yet said to be done counts less than the step, so that 3/20 means three are done.
_ALL_BUT_DONE = 0.999


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
    watched = sys.stdout.isatty()  # FORCE_COLOR and the like would put control characters into a log file
    # In a log file there is no width to fit into, and folded names could not be searched for.
    Console(width=None if watched else 160, force_terminal=watched, soft_wrap=False).print(shown)


class Bar:
    """A line of the progress display: called with what is being done, how much of it is done, and of how much.

    `below` is the line of the steps that one unit of this one is made of; how far they are moves this one too. Without
    a display nothing is shown. tell: called with the share that is done, 0 to 1.
    """

    def __init__(self, display: Progress | None = None, tell: Callable[[float], None] | None = None) -> None:
        self._display, self._tell = display, tell
        self._line = None if display is None else display.add_task("", total=None, visible=False, pace=None)
        self._below: Bar | None = None
        self._now = ("", 0.0, 0)
        self._pace: _Pace | None = None

    def __call__(self, what: str, done: float, total: int) -> None:
        self._now = (what, done, total)
        self._show(0.0)

    def found_done(self, what: str, done: float, total: int) -> None:
        """As a call, for what an earlier run has done: it took no time, and says nothing of the time left."""
        self._pace = None
        self(what, done, total)

    @property
    def below(self) -> Bar:
        if self._below is None:
            self._below = Bar(self._display, self._show)
        return self._below

    def _show(self, part: float) -> None:
        what, done, total = self._now
        done += min(part, _ALL_BUT_DONE) if part else 0
        if self._pace is None or done < self._pace.done:  # it begins, or begins again
            self._pace = _Pace(done)
        self._pace.advance(done)
        if self._display is not None and self._line is not None:
            self._display.update(
                self._line, visible=True, description=escape(what), completed=done, total=total or None, pace=self._pace
            )
        if self._tell and total:
            self._tell(done / total)


class _Pace:
    """How fast something goes on since it began: the mean, so that long steps do not make the time left jump."""

    def __init__(self, done: float) -> None:
        self.first = self.done = done
        self.began_s = self.seen_s = time.monotonic()

    def advance(self, done: float) -> None:
        if done > self.done:
            self.done, self.seen_s = done, time.monotonic()

    def left_s(self, total: float) -> float | None:
        """Seconds until `total` is done; None while nothing tells."""
        if self.done <= self.first:
            return None
        per_unit_s = (self.seen_s - self.began_s) / (self.done - self.first)
        return max(0.0, per_unit_s * (total - self.done) - (time.monotonic() - self.seen_s))


class _TimeLeft(ProgressColumn):
    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        pace: _Pace | None = task.fields["pace"]
        left_s = pace.left_s(task.total) if pace and task.total else None
        if left_s is None:
            return Text("-:--:-- left", style="progress.remaining")
        minutes, seconds = divmod(round(left_s), 60)
        return Text(f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left", style="progress.remaining")


@contextmanager
def progress_bar() -> Iterator[Bar]:
    """Yields a bar with the time left; nothing at all is written where stderr is no terminal."""
    console = Console(stderr=True)
    # Asked of the stream itself: with FORCE_COLOR rich would take a log file for a terminal.
    if not sys.stderr.isatty() or console.is_dumb_terminal:
        yield Bar()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _TimeLeft())
    # A bar that takes stdout over would send it to stderr: away from the log file that stdout may go to.
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as display:
        yield Bar(display)
