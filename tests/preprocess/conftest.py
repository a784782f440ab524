"""A lab of its own for each test, or for several."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "Videos")


@pytest.fixture(scope="session")
def make_lab(tmp_path_factory: pytest.TempPathFactory):
    """A lab of its own for fixtures that several tests share."""
    return lambda name: Lab(tmp_path_factory.mktemp(name) / "Videos")
