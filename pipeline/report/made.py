"""How a folder came to be: the command, its date, the versions, what it was made of; written once, read by reports."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import cache as clip_cache
from cache import Place
from pipeline.train.run_folder import write_text

MADE = "made.json"
_PACKAGES = ("paw-pipeline", "torch", "numpy", "plotly")


@dataclass(frozen=True)
class Made:
    """command: as it was typed. date: when it was done, local time. recordings: name -> trials, frames, of the cache.

    left_out: recording, trial (or empty: all) and why nothing was made of it. All are empty where nothing was kept.
    """

    command: str = ""
    date: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    cache: str = ""
    recordings: dict[str, tuple[int, int]] = field(default_factory=dict)
    models: Sequence[str] = ()
    labels_by: str = ""
    left_out: Sequence[Sequence[str]] = ()


def write(
    out: Path,
    *,
    cache: Place,
    models: Sequence[Path] = (),
    labels_by: str = "",
    left_out: Sequence[Sequence[str]] = (),
) -> None:
    """Writes OUT/made.json for what the running command has just made."""
    sizes = {meta.recording: (len(meta.clips), meta.n_frames) for meta in clip_cache.open(cache).recordings}
    made = Made(
        command=_command(),
        date=datetime.now().astimezone().isoformat(" ", "seconds"),
        versions=versions(),
        cache=str(cache.resolve() if isinstance(cache, Path) else cache),
        recordings=sizes,
        models=[str(path) for path in models],
        labels_by=labels_by,
        left_out=[[str(cell) for cell in row] for row in left_out],
    )
    write_text(out / MADE, json.dumps(asdict(made), indent=1))


def read(out: Path) -> Made:
    """What was written; empty where there is none, as of earlier versions, or a damaged one.."""
    path = out / MADE
    if not path.exists():
        return Made()
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Made(**values)
    except (OSError, ValueError, TypeError):
        return Made()


def versions() -> dict[str, str]:
    """Of Python, of the packages that figures depend on, and of the system."""
    found = {"Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found | {"system": platform.platform()}


def _command() -> str:
    program = Path(sys.argv[0]).name if sys.argv else ""
    if program not in {"pipeline", "pipeline.exe", "-c"}:
        return "called from Python"
    return shlex.join(["pipeline", *sys.argv[1:]])
