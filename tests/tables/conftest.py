"""What a lab writes beside its recordings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def groups_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a table of groups."""

    def write(text: str, name: str = "groups.csv") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write
