"""The folder of a run: its files' names, what it was made from, and whether that is still so."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEST = "best_model_multitask.pt"
LAST = "last.pt"
HISTORY = "history.csv"
SPLIT = "split.csv"
RECORD = "run.json"
PICTURES = "pictures"

# Settings that change how long a run goes on, not what its epochs compute: --resume may change them.
LENGTH_SETTINGS = frozenset({"epochs", "early_stopping_patience"})
# Settings that change where a run computes, not what.
PLACE_SETTINGS = frozenset({"device"})


class RunError(ValueError):
    """A run cannot be resumed or started; the message says why and what to do."""


@dataclass(frozen=True)
class RunRecord:
    """What a run is made from. recordings: name -> fingerprints of frames, keypoints and labels."""

    settings: dict[str, Any]
    recordings: dict[str, dict[str, str]]
    code: int
    finished: bool = False

    def differences(self, other: RunRecord) -> list[str]:
        """What `other` was made from that this was not, one line each; empty: the same result would come out."""
        lines = [
            f"{name}: {self.settings.get(name)} -> {other.settings.get(name)}"
            for name in sorted(self.settings.keys() | other.settings.keys())
            if name not in PLACE_SETTINGS and self.settings.get(name) != other.settings.get(name)
        ]
        lines += _recording_differences(self.recordings, other.recordings)
        if self.code != other.code:
            lines.append(f"version of the training code: {self.code} -> {other.code}")
        return lines


def read_record(out: Path) -> RunRecord | None:
    """The record of the run in `out`, None where there is none. Raises RunError for a damaged one."""
    path = out / RECORD
    if not path.exists():
        return None
    try:
        return RunRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise RunError(f"{path}: damaged; use another --out, or --force to train again") from None


def write_record(out: Path, record: RunRecord) -> None:
    """Writes run.json beside and moves it into place."""
    write_text(out / RECORD, json.dumps(vars(record), indent=1, sort_keys=True))


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all (UTF-8, written beside and moved into place)."""
    beside = path.with_name(f".tmp-{path.name}")
    with beside.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def set_aside(out: Path) -> Path:
    """Moves a former run to OUT.old-1 (or the next free number), so that nothing is lost; returns where it went."""
    out, number = out.resolve(), 1
    while (aside := out.with_name(f"{out.name}.old-{number}")).exists():
        number += 1
    out.rename(aside)
    return aside


def _recording_differences(old: dict[str, dict[str, str]], new: dict[str, dict[str, str]]) -> list[str]:
    lines = []
    for what, names in (("added", new.keys() - old.keys()), ("removed", old.keys() - new.keys())):
        if names:
            lines.append(f"recordings {what}: {_some(names)}")
    for array in ("frames", "keypoints", "labels"):
        changed = {name for name in old.keys() & new.keys() if old[name].get(array) != new[name].get(array)}
        if changed:
            lines.append(f"{array} changed: {_some(changed)}")
    return lines


def _some(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
