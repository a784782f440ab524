"""The pipeline's command line, called from a benchmark as a user would call it."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Collection, Mapping

PIPELINE = (sys.executable, "-c", "from pipeline.cli import main; main()")


def pipeline(*arguments: object, threads: int | None = None) -> None:
    """Runs a command; what it reports goes to stderr, and of one that fails the end of the rest too.

    threads: of torch, None as the environment says.
    """
    words = [*map(str, arguments)]
    print("$ pipeline", shlex.join(words), file=sys.stderr, flush=True)
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    done = subprocess.run([*PIPELINE, *words], env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pipeline {words[0]} failed with exit code {done.returncode}:\n{done.stdout[-2000:]}")


def named(rows: str, known: Collection[str], parser: argparse.ArgumentParser) -> list[str]:
    """The rows of a table that --rows names: all, or some with commas between. Ends with a message for others."""
    asked = list(known) if rows == "all" else rows.split(",")
    if unknown := [row for row in asked if row not in known]:
        parser.error(f"--rows: no such row: {', '.join(unknown)}; expected some of {', '.join(known)}")
    return asked


def words_of(flags: Mapping[str, object]) -> list[object]:
    """Settings as the command line's words; True and False become --name and --no-name."""
    words: list[object] = []
    for name, value in flags.items():
        words += [f"--{'' if value else 'no-'}{name}"] if isinstance(value, bool) else [f"--{name}", value]
    return words
