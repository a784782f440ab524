"""Preprocess on a Dask scheduler with processes of its own, and on a Slurm of which sbatch and scancel are scripts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cluster import Cluster, ClusterError
from pipeline.options import cluster_of
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import SettingsError
from tests_support import files_of

SETTINGS = PreprocessSettings(img_size=64, trial_frames=30, min_frames=30)

# A worker that begins a recording, says so in a file, and never ends it.
ENDLESS = """
import pathlib, time
from pipeline.preprocess import workers
def work(task, recordings, progress):
    pathlib.Path({began!r}).touch()
    time.sleep(3600)
workers.work = work
"""


@pytest.fixture
def three(lab):
    for name in ("a", "b", "c"):
        lab.recording(f"{name}.mp4", 60)
    return lab


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen]]:
    started: list[subprocess.Popen] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def dask(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "dask", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def write_script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.1)


def test_the_recordings_of_a_killed_worker_are_done_by_another(three, tmp_path: Path, processes) -> None:
    began, preload, address = tmp_path / "began", tmp_path / "endless.py", tmp_path / "scheduler.json"
    preload.write_text(ENDLESS.format(began=str(began)))
    processes.append(dask("scheduler", "--port", 0, "--no-dashboard", "--scheduler-file", address))
    wait_for(address)
    worker = ["worker", "--scheduler-file", address, "--nthreads", 1, "--no-nanny", "--no-dashboard"]
    processes.append(victim := dask(*worker, "--preload", preload))

    def kill_it_in_the_middle() -> None:
        wait_for(began)
        processes.append(dask(*worker))
        victim.send_signal(signal.SIGKILL)

    thread = threading.Thread(target=kill_it_in_the_middle)
    thread.start()
    with Cluster(scheduler=json.loads(address.read_text())["address"]) as cluster:
        report = preprocess(SETTINGS, cache=tmp_path / "cluster", videos=three.folder, cluster=cluster)
    thread.join()
    assert {row.recording: row.state for row in report.recordings} == {"a": "new", "b": "new", "c": "new"}
    assert not report.skipped
    preprocess(SETTINGS, cache=tmp_path / "serial", videos=three.folder)
    assert files_of(tmp_path / "cluster") == files_of(tmp_path / "serial")


def test_jobs_of_slurm(three, tmp_path: Path, monkeypatch) -> None:
    scripts = tmp_path / "bin"
    scripts.mkdir()
    log = tmp_path / "job.txt"
    sbatch = f'cp "$1" {log}; setsid bash {log} > /dev/null 2>&1 < /dev/null & echo "Submitted batch job $!"'
    scancel = 'kill -- -"$1"'
    write_script(scripts / "sbatch", sbatch)
    write_script(scripts / "scancel", scancel)
    monkeypatch.setenv("PATH", f"{scripts}{os.pathsep}{os.environ['PATH']}")
    config = tmp_path / "lab.toml"
    config.write_text('[slurm]\ncores = 4\nmemory = "2GB"\nqueue = "short"\naccount = "pain"\ninterface = "lo"\n')
    with cluster_of(1, None, True, config) as cluster:  # cores are for one recording, however many it asks for
        report = preprocess(SETTINGS, cache=tmp_path / "cache", videos=three.folder, cluster=cluster)
    assert {row.recording: row.state for row in report.recordings} == {"a": "new", "b": "new", "c": "new"}
    assert "#SBATCH -p short" in log.read_text()
    assert "#SBATCH -A pain" in log.read_text()


def test_what_cannot_be_used_is_refused(three, tmp_path: Path, monkeypatch) -> None:
    config, folders = tmp_path / "lab.toml", {"cache": tmp_path / "cache", "videos": three.folder}

    def refused(error: type[Exception], match: str) -> None:
        with cluster_of(1, None, True, config) as cluster, pytest.raises(error, match=match):
            preprocess(SETTINGS, cluster=cluster, **folders)

    with pytest.raises(SettingsError, match="two places"):
        cluster_of(2, "tcp://127.0.0.1:1", True, None)
    with pytest.raises(SettingsError, match=r"write \[slurm\]"):
        cluster_of(2, None, True, None)
    monkeypatch.setenv("PATH", "")
    config.write_text("[slurm]\n")
    refused(SettingsError, "no sbatch")
    write_script(tmp_path / "sbatch", 'echo "sbatch: error: invalid partition specified: short" >&2; exit 1')
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin")
    for entry in ("nonsense = 1", 'cores = 1\nmemory = "1GB"\ninterface = "nope0"', 'worker_extra_args = "--x"'):
        config.write_text(f"[slurm]\n{entry}\n")
        refused(SettingsError, r"\[slurm\] in the settings file")
    config.write_text('[slurm]\ncores = 1\nmemory = "1GB"\ninterface = "lo"\n')
    refused(ClusterError, "invalid partition")
    monkeypatch.setattr("pipeline.cluster.RESTART_S", 1.0)
    with (
        Cluster(scheduler="tcp://127.0.0.1:1") as cluster,
        pytest.raises(ClusterError, match=r"--scheduler tcp://127.0.0.1:1: cannot be reached"),
    ):
        preprocess(SETTINGS, cluster=cluster, **folders)
