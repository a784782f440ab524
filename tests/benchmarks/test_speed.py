"""The benchmarks run, at toy size: what they print is a table of figures, whatever these are here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program")


@pytest.mark.parametrize(
    ("parts", "titles"),
    [
        pytest.param(["preprocess"], ["Preprocess"], marks=needs_ffmpeg),
        (["windows"], ["Random windows from the cache"]),
        (["training", "clips"], ["Training epochs", "Augmentation, all on", "Growth with the number of clips"]),
        (["frames"], ["Growth with the number of frames"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_the_speed_benchmark_runs(tmp_path: Path, parts: list[str], titles: list[str]) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "speed.py", tmp_path, *parts, "--toy", "--rounds", "1"]
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for title in titles:
        table = done.stdout.split(f"### {title}\n", 1)[1].split("###")[0]
        assert len(re.findall(r"^\|.*\d.*\|$", table, re.MULTILINE)) >= 1
        assert "nan" not in table


def test_the_benchmark_of_predicting_runs(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "speed_predict.py", tmp_path, "--toy"]
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    tables = done.stdout.split("###")[1:]
    assert len(tables) == 3
    assert re.search(r"\| second call \| 0 \|", tables[1])
    assert re.search(r"\| one table changed \| 1 \|", tables[1])
