"""SIGKILL at random moments: what is left is whole, and the next run ends as if nothing had happened."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
@pytest.mark.parametrize(("what", "kills"), [("preprocess", 25), ("train", 8), ("predict", 6)])
def test_killed_at_random_moments(tmp_path: Path, what: str, kills: int) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path), what, "--kills", str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = re.fullmatch(r"(\d+) kills, (\d+) of them before the work was done; all as it must be\n", done.stdout)
    assert found, done.stdout
    assert int(found[1]) == kills
    assert int(found[2]) > 0
