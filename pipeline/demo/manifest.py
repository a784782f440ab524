"""What an earlier call rendered into a folder: not to be rendered again, or to be removed, but nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

NAME = "rendered.json"
FOLDERS = ("Videos", "Annotations")


def is_whole(out: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder holds all that a finished call with these settings wrote."""
    written = _read(out)
    return written.get("settings") == _plain(settings) and all(
        (out / name).is_file() and (out / name).stat().st_size == size for name, size in written["files"].items()
    )


def begin(out: Path, files: Iterable[str]) -> None:
    """Remove what the former call wrote, and note what this one is going to write."""
    for name in _read(out).get("files", {}):
        if Path(name).parent.name in FOLDERS and len(Path(name).parts) == 2:
            (out / name).unlink(missing_ok=True)
    _write(out, None, dict.fromkeys(files, -1))


def finish(out: Path, settings: dict[str, Any]) -> None:
    """Note that all is there."""
    _write(out, settings, {name: (out / name).stat().st_size for name in _read(out)["files"]})


def _read(out: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((out / NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _write(out: Path, settings: dict[str, Any] | None, files: dict[str, int]) -> None:
    text = json.dumps({"settings": settings, "files": files}, indent=1)
    (out / NAME).write_text(text + "\n", encoding="utf-8")


def _plain(settings: dict[str, Any]) -> Any:
    return json.loads(json.dumps(settings))
