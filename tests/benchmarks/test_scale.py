"""The benchmarks of scale run, on a handful of recordings: each step says how long it took."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
N_RECORDINGS = 8


@pytest.fixture(scope="module")
def benchmarks():
    """Imports one of benchmarks/ by its name."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def work(benchmarks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the few real recordings, which are rendered once."""
    folder = tmp_path_factory.mktemp("work")
    benchmarks("scale_lab").Lab(folder / "scale", 0, 1).render()
    return folder


def test_every_step_of_scale(benchmarks, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = benchmarks("scale_steps")
    assert {step.__name__ for step in steps.STEPS} == set(benchmarks("scale").STEPS)
    lab = benchmarks("scale_lab").Lab(work / "scale", N_RECORDINGS, 1)
    for name in benchmarks("scale").STEPS:
        next(step for step in steps.STEPS if step.__name__ == name)(lab)
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert lines, name
        assert all(seconds >= 0 and processor >= 0 for _, seconds, processor, _ in lines)
    assert steps.peak() > 10


def test_a_step_in_a_process_of_its_own(benchmarks, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    ((what, seconds, processor, _, peak),) = benchmarks("scale").measured("start", work / "scale", N_RECORDINGS, 1)
    assert what == "nothing, after the imports"
    assert float(seconds) < 1
    assert float(processor) < 1
    assert int(peak.replace(",", "")) > 10


def test_workers_share_the_recordings(benchmarks, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    workers = benchmarks("workers")
    parts = workers.shared(work / "workers", work / "scale" / "real", 3)
    assert [len(list((parts / part / "Videos").glob("*.mp4"))) for part in ("all", "0", "1", "first")] == [3, 2, 1, 2]
    (case,) = (case for case in workers.CASES if case.processes == 2)
    n_frames, *others = workers.run(case, parts, 32)
    assert 3 * 345 <= n_frames <= 3 * 360
    assert all(seconds > 0 for seconds in others[:2])


def test_listing_counts_what_a_store_holds(
    benchmarks, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("obstore")
    pytest.importorskip("moto")
    options = ["--trials", "1", "--objects", "100", "--keys", "30"]
    monkeypatch.setattr(sys, "argv", ["scale_listing.py", str(work), *options])
    benchmarks("scale_listing").main()
    said = capsys.readouterr().out
    assert "| 1 | 3" in said
    assert "| in memory | 104 |" in said
    assert "| moto's server | 39 |" in said
