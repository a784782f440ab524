"""A lab whose frames, keypoints and labels carry their number, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "Videos")


@pytest.fixture
def pair_lab(lab):
    """A recording of two trials of 40 frames, of which the second is annotated."""
    lab.recording("a.mp4", 80)
    lab.annotation("a.mp4_2", [1] * 40)
    return lab


@pytest.fixture(scope="session")
def pipeline() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line as a process of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from pipeline.cli import main; main()", *map(str, arguments)]
        environment = os.environ | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)

    return run
