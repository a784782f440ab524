"""The benchmarks run, at toy size: what they print is a table of figures, whatever these are here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TITLES = {
    "preprocess": ["Preprocess"],
    "windows": ["Random windows from the cache"],
    "training": ["Training epochs", "Augmentation, all on"],
    "clips": ["Growth with the number of clips"],
    "frames": ["Growth with the number of frames"],
}


def test_the_speed_benchmark_runs(tmp_path: Path) -> None:
    parts = [part for part in TITLES if part != "preprocess" or shutil.which("ffmpeg")]  # ffmpeg is compared with
    command = [sys.executable, ROOT / "benchmarks" / "speed.py", tmp_path, *parts, "--toy", "--rounds", "1"]
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    for title in (title for part in parts for title in TITLES[part]):
        table = done.stdout.split(f"### {title}\n", 1)[1].split("###")[0]
        assert len(re.findall(r"^\|.*\d.*\|$", table, re.MULTILINE)) >= 1, title
        assert "nan" not in table, title


def test_the_benchmark_of_predicting_runs(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "speed_predict.py", tmp_path, "--toy"]
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    tables = done.stdout.split("###")[1:]
    assert len(tables) == 3
    assert re.search(r"\| second call \| 0 \|", tables[1])
    assert re.search(r"\| one table changed \| 1 \|", tables[1])
