"""What is to be said of folders as a whole: it may be as it should be, and no recording alone shows it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.file_names import ANNOTATION_PREFIX, NETWORK, VIDEO_SUFFIXES, is_filtered, network_in

_SHOWN = 5


def mixtures(tables: Mapping[str, Path]) -> tuple[str, ...]:
    """Where the tables that are read (of each recording) are of several networks, or filtered in part.

    Tables whose names tell no network say nothing.
    """
    networks = {stem: network for stem, path in tables.items() if (network := network_in(path, stem))}
    filtered = {stem: is_filtered(path) for stem, path in tables.items()}
    said = []
    if parts := _parts(networks):
        said.append(
            f"keypoints are of several networks: {parts}. Each has errors of its own, which a model may take for "
            "behaviour; choose one (--dlc-scorer), or track all recordings with one"
        )
    if parts := _parts({stem: "filtered by DLC (_filtered)" if yes else "not" for stem, yes in filtered.items()}):
        said.append(
            f"some keypoints are filtered, others not: {parts}. Filtered ones are smoother, which a model may take for "
            "behaviour; filter all of them, or read those that are not (--no-prefer-filtered, where there are both)"
        )
    return tuple(said)


def unread_subfolders(folders: Iterable[Path | None]) -> tuple[str, ...]:
    """Of each folder the subfolders with videos, DLC tables or annotations, into which nobody looks."""
    given = {folder.resolve() for folder in folders if folder}
    said = []
    for folder in sorted(given):
        with os.scandir(folder) as entries:
            below = sorted(entry.path for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        counts = {Path(path).name: _n_inputs(path) for path in below if Path(path).resolve() not in given}
        if n := sum(counts.values()):
            named = _some(name for name, count in counts.items() if count)
            said.append(
                f"{folder}: {n} file{'s' if n > 1 else ''} in its subfolders are not read ({named}); give each "
                "subfolder a call of its own, or put the files together"
            )
    return tuple(said)


def _n_inputs(folder: str) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(_is_input(entry.name) for entry in entries)
    except OSError:  # not ours to read: so nothing is known of it
        return 0


def _is_input(name: str) -> bool:
    """By its name alone: what lies deeper may be anything, a result as well."""
    marked = name.startswith(ANNOTATION_PREFIX) or NETWORK.search(name)
    return not name.startswith(".") and (name.lower().endswith(VIDEO_SUFFIXES) or bool(marked))


def _parts(kinds: Mapping[str, str]) -> str:
    """The kinds of recordings, commonest first, with how many and which have them; empty where there is but one."""
    counts = Counter(kinds.values()).most_common()
    if len(counts) < 2:
        return ""
    return "; ".join(
        f"{kind} ({n} recording{'s' if n > 1 else ''}: {_some(stem for stem in kinds if kinds[stem] == kind)})"
        for kind, n in counts
    )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:_SHOWN]) + (", ..." if len(listed) > _SHOWN else "")
