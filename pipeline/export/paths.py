"""How a file names another one, so that both can be moved together."""

from __future__ import annotations

import os
from pathlib import Path


def beside(path: Path, folder: Path) -> str:
    """The path from a folder, with /; the whole path where they lie on different drives of Windows."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        return path.resolve().as_posix()
