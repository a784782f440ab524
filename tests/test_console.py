"""Progress as a person sees it in a terminal, and as a log file does: not at all."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.console import Bar, _Pace
from tests_support import write_small_cache

ROOT = Path(__file__).parents[1]
MAIN = "from pipeline.cli import main; main()"
QUICK = ["--encoder", "none", "--train-T", "24", "--epochs", "2", "--batch-size", "4", "--tcn-channels", "16"]
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_cache(tmp_path_factory.mktemp("poses") / "cache", frames=False, recordings=4)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", MAIN, *map(str, arguments)]


def test_a_log_file_has_plain_lines_alone(poses: Path, tmp_path: Path) -> None:
    """Even where colours are forced, as they are in many a batch queue; and where TensorFlow is installed, whose
    warnings would fill it."""
    tensorflow = tmp_path / "installed" / "tensorflow"
    tensorflow.mkdir(parents=True)
    (tensorflow / "__init__.py").write_text("import sys\nprint('WARNING of TensorFlow', file=sys.stderr)\n")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tensorflow.parent}", "FORCE_COLOR": "1"}
    with (tmp_path / "out.txt").open("w") as out, (tmp_path / "err.txt").open("w") as err:
        arguments = command("train", "--cache", poses, "--out", tmp_path / "run", *QUICK)
        assert subprocess.run(arguments, stdout=out, stderr=err, env=environment, check=False).returncode == 0
    said = (tmp_path / "out.txt").read_text()
    assert not CONTROL.search(said)
    assert said.count("Epoch 2/2\n") == 1
    assert "epochs" not in said
    assert (tmp_path / "err.txt").read_text() == ""
    assert any((tmp_path / "run" / "tensorboard").iterdir())


def test_a_terminal_shows_bars_with_the_time_left(poses: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
    called = command(
        "cross-validate", "--folds", 2, "--cache", poses, "--out", tmp_path / "run", "--no-tensorboard", *QUICK
    )
    with (tmp_path / "out.txt").open("w") as out:
        process = subprocess.Popen(called, stdout=out, stderr=theirs, env=environment)
        os.close(theirs)
        seen = b"".join(iter(lambda: _read(ours), b"")).decode()
    assert process.wait() == 0
    os.close(ours)
    for name in ("folds", "epochs", "epoch 2"):
        assert re.search(rf"{name} .*/2", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)), seen
    assert re.search(r"\d:\d\d:\d\d left", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen))
    assert not CONTROL.search((tmp_path / "out.txt").read_text())
    assert "Epoch 2/2" in (tmp_path / "out.txt").read_text()


def _read(descriptor: int) -> bytes:
    """What was written to the terminal; nothing once all that could write have closed it, which Linux says by EIO."""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


def test_steps_move_the_bar_above_them() -> None:
    shares: list[float] = []
    trials = Bar(tell=shares.append)
    trials("trials", 1, 4)
    trials.below("folds", 1, 2)
    trials.below.below("epochs", 1, 2)
    trials.below("folds", 2, 2)
    trials("trials", 2, 4)
    assert shares == pytest.approx([1 / 4, 1.5 / 4, 1.75 / 4, 2 / 4, 2 / 4], abs=1e-3)
    assert shares[3] < 2 / 4  # not done until it is said


def test_the_time_left_counts_from_where_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run of 10 epochs that has done 6 before: two more took 20 s, so two are left for 20 s."""
    now = iter([100.0, 120.0, 120.0, 125.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    pace = _Pace(6)
    assert pace.left_s(10) is None
    pace.advance(8)
    assert pace.left_s(10) == 20
    assert pace.left_s(10) == 15
