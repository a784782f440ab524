from __future__ import annotations

from pathlib import Path

from pipeline import machine


def test_the_limits_of_a_batch_system_count(tmp_path: Path) -> None:
    membership, root = tmp_path / "cgroup", tmp_path / "fs"
    membership.write_text("0::/slurm/job_7\n")
    (root / "slurm" / "job_7").mkdir(parents=True)
    for folder, limit, used in (("slurm/job_7", "4000", "1000"), ("slurm", "max", "1"), (".", "9000", "1500")):
        (root / folder / "memory.max").write_text(limit + "\n")
        (root / folder / "memory.current").write_text(used + "\n")
    # What lies in the system's cache of files is given back when it is needed.
    (root / "slurm" / "job_7" / "memory.stat").write_text("anon 300\ninactive_file 700\n")
    assert list(machine._left(membership, root)) == [3700, 7500]


def test_those_of_an_older_one_too(tmp_path: Path) -> None:
    membership, root = tmp_path / "cgroup", tmp_path / "fs"
    membership.write_text("12:cpu:/other\n4:memory:/job_8\n0::/elsewhere\n")
    group = root / "memory" / "job_8"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text("5000\n")
    (group / "memory.usage_in_bytes").write_text("2000\n")
    (group / "memory.stat").write_text("total_inactive_file 500\n")
    assert list(machine._left(membership, root)) == [3500]


def test_where_there_are_none(tmp_path: Path) -> None:
    assert list(machine._left(tmp_path / "missing", tmp_path)) == []
    assert 0 < machine.free_memory() < 2**50
    assert machine.cores() >= 1
