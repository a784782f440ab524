"""What names of files tell: the recording, and the network that tracked it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
ANNOTATION_PREFIX = "prediction_"
NETWORK = re.compile(r"(?<=.)(DLC|DeepCut)_")  # where DeepLabCut's part of a table's name begins
FILTERED = re.compile(r"_filtered$")


def composed(name: str) -> str:
    """The name with each umlaut or accent as one character: macOS writes `u` and two dots where others write `ü`.

    For comparing alone: a recording is called as its video is, in caches, splits and records too.
    """
    return unicodedata.normalize("NFC", name)


def without_suffix(name: str) -> str:
    """The recording's name in what people write of one: its video's name, with the extension or without."""
    return Path(name).stem if Path(name).suffix.lower() in VIDEO_SUFFIXES else name


def is_filtered(path: Path) -> bool:
    """Whether DLC's filter has smoothed it, as its name tells."""
    return bool(FILTERED.search(path.stem))


def networks_of(tables: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Recording -> network, of each (recording, its table) whose name tells one."""
    found = {recording: network_in(Path(table), recording) for recording, table in tables}
    return {recording: network for recording, network in found.items() if network}


def network_in(path: Path, stem: str) -> str:
    """The network that a table's name tells after its recording's (DLC_resnet50_pawMay7shuffle1_500000), or nothing."""
    beyond = FILTERED.sub("", composed(path.stem).removeprefix(composed(stem)))
    return beyond if beyond.startswith(("DLC_", "DeepCut_")) else ""
