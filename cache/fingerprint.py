"""What an array was made from, as a short text: equal texts mean that nothing has to be made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

BLOCK_BYTES = 2**20
PARTS = ("frames", "keypoints", "labels")


def of_file(path: Path | str, alive: Callable[[], None] = lambda: None) -> str:
    """128 bits (hex) of the file's content; its name and dates don't count. alive: called after every BLOCK_BYTES."""
    digest = hashlib.blake2b(digest_size=16)
    with Path(path).open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            alive()
    return digest.hexdigest()


def of_values(**values: Any) -> str:
    """128 bits (hex) of plain values: what JSON can hold, with tuples equal to lists and dicts in any order."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Which of frames, keypoints and labels are stale: their fingerprints differ, or only one side has one."""
    return [part for part in PARTS if old.get(part) != new.get(part)]
