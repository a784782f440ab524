"""Checkpoints: tensors and plain values only, written beside and moved into place, read without unpickling code."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

CHECKPOINT_SCHEMA = 3


class CheckpointError(ValueError):
    """A file is no checkpoint of ours, damaged, or of another schema; the message says which and what to do."""


def save(path: Path, content: dict[str, Any]) -> None:
    """Writes `content` (tensors, str, numbers, bool, None, and lists, tuples and dicts of these) and the schema.

    A kill at any moment leaves the former file or the new one, whole.
    """
    beside = path.with_name(f".tmp-{path.name}")
    with beside.open("wb") as file:
        torch.save(content | {"schema": CHECKPOINT_SCHEMA}, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _check_sums(path: Path) -> None:
    """Raise ValueError where a checksum of the file is wrong: torch itself takes damaged weights as they are."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if wrong := archive.testzip():
                raise ValueError(f"the checksum of {wrong} is wrong")


def load(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """What `save` wrote. Nothing in the file is executed. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; expected a file that `pipeline train` wrote")
    try:
        _check_sums(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is not as torch writes it: the file is refused then
            content = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: holds something else than tensors and plain values, and was not opened; "
            "expected a checkpoint that `pipeline train` wrote"
        ) from None
    except Exception as error:  # a damaged file makes torch raise whatever it meets first
        first_line = (str(error).splitlines() or ["unreadable"])[0]
        raise CheckpointError(
            f"{path}: damaged or no checkpoint ({first_line[:120]}); train again or use last.pt"
        ) from None
    if not isinstance(content, dict) or "schema" not in content:
        raise CheckpointError(f"{path}: no checkpoint of this pipeline")
    if content["schema"] != CHECKPOINT_SCHEMA:
        raise CheckpointError(
            f"{path}: has schema {content['schema']}, this version reads {CHECKPOINT_SCHEMA}; "
            "use the version that wrote it, or train again"
        )
    return content
