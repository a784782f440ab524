"""What is to be said of folders as a whole: it may be as it should be, and no recording alone shows it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.file_names import ANNOTATION_PREFIX, NETWORK, VIDEO_SUFFIXES, is_filtered, network_in

_SHOWN = 5
_VIDEO = re.compile(rf"({'|'.join(map(re.escape, VIDEO_SUFFIXES))})$", re.IGNORECASE)
_ANNOTATION = re.compile(f"^{ANNOTATION_PREFIX}")


def mixtures(tables: Mapping[str, Path]) -> tuple[str, ...]:
    """Where the tables that are read (of each recording) are of several networks, or filtered in part.

    Tables whose names tell no network say nothing.
    """
    networks = {stem: network for stem, path in tables.items() if (network := network_in(path, stem))}
    filtered = {stem: is_filtered(tables[stem]) for stem in networks}
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


def unread_subfolders(videos: Path | None, annotations: Path | None, dlc: Path | None) -> tuple[str, ...]:
    """Of each folder that is given the subfolders with more of what is looked for in it; nobody looks into them."""
    looked_for: dict[Path, list[re.Pattern[str]]] = {}
    for folder, name in ((videos, _VIDEO), (videos, NETWORK), (dlc, NETWORK), (annotations, _ANNOTATION)):
        if folder:
            looked_for.setdefault(folder.resolve(), []).append(name)
    said = []
    for folder, names in looked_for.items():
        counts = {path.name: _n_named(path, names) for path in _folders_in(folder) if path not in looked_for}
        if n := sum(counts.values()):
            named = _some(name for name, count in counts.items() if count)
            files = "1 file in its subfolders is" if n == 1 else f"{n} files in its subfolders are"
            said.append(
                f"{folder}: {files} not read ({named}); give each subfolder a call of its own, or put the files "
                "together"
            )
    return tuple(said)


def _folders_in(folder: Path) -> list[Path]:
    """Those that can be looked into: a link that leads nowhere, or to what is not ours, is no reason to stop."""
    found = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError, RuntimeError):
                if not entry.name.startswith(".") and entry.is_dir():
                    found.append(Path(entry.path).resolve())
    return sorted(found)


def _n_named(folder: Path, names: Sequence[re.Pattern[str]]) -> int:
    """How many files have one of these names, by which alone they are known: what lies there may be anything."""
    n = 0
    with suppress(OSError), os.scandir(folder) as entries:
        n = sum(not entry.name.startswith(".") and any(name.search(entry.name) for name in names) for entry in entries)
    return n


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
