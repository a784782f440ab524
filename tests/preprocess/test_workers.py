"""A recording that hangs or kills its process costs itself alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

import cache as clip_cache
from pipeline.cluster import Cluster
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings
from tests_support import files_of

SETTINGS = PreprocessSettings(img_size=64, trial_frames=30, min_frames=30)


@pytest.fixture
def three(lab):
    for name in ("a", "b", "c"):
        lab.recording(f"{name}.mp4", 60)
    return lab


def states(cache: Path, folder: Path, workers: int = 0) -> dict[str, str]:
    with Cluster(workers) as cluster:
        report = preprocess(SETTINGS, cache=cache, videos=folder, cluster=cluster)
    return {row.recording: row.state for row in report.recordings} | {
        skip.recording: skip.reason for skip in report.skipped
    }


@pytest.mark.parametrize("store", ["zarr", "hdf5"])
def test_workers_make_the_same_cache_as_one_process(three, tmp_path: Path, store: str) -> None:
    settings = PreprocessSettings(img_size=64, trial_frames=30, min_frames=30, store=store)
    for name, n in (("one", 0), ("two", 2)):
        with Cluster(n) as cluster:
            preprocess(settings, cache=tmp_path / name, videos=three.folder, cluster=cluster)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_worker_goes_on_while_its_result_is_taken(three, tmp_path: Path, monkeypatch) -> None:
    """Taking a result may write the index; the only worker finishes the next recording meanwhile."""
    seen: list[set[str]] = []
    real = clip_cache.CacheWriter.take

    def take(writer: clip_cache.CacheWriter, finished: clip_cache.Finished) -> None:
        if not seen:
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and len(_whole(tmp_path / "cache")) < 2:
                time.sleep(0.05)
        seen.append(_whole(tmp_path / "cache"))
        real(writer, finished)

    monkeypatch.setattr(clip_cache.CacheWriter, "take", take)
    found = states(tmp_path / "cache", three.folder, workers=1)
    assert found == {"a": "new", "b": "new", "c": "new"}
    assert seen[0] == {"a", "b"}


def _whole(cache: Path) -> set[str]:
    """Recordings that lie finished under a temporary name: their metadata is written last."""
    found = set()
    for path in cache.glob("recordings/.tmp-*/zarr.json"):
        with suppress(ValueError):  # it is being written
            meta = json.loads(path.read_text()).get("attributes", {}).get("meta")
            found |= {meta["recording"]} if meta else set()
    return found


# Each worker process runs this first: b's gets a signal as soon as it begins.
STOPPING = """
import json, os, pathlib, sys, time
from pipeline.cluster import Cluster
from pipeline.preprocess import workers
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings
real = workers.work
def work(task, *rest):
    if task.files.name == "b":
        time.sleep(1)  # what it tells has left it
        os.kill(os.getpid(), int(sys.argv[3]))
    return real(task, *rest)
workers.work = work
if __name__ == "__main__":
    settings = PreprocessSettings(img_size=64, trial_frames=30, min_frames=30)
    cache, videos = map(pathlib.Path, sys.argv[1:3])
    with Cluster(2) as cluster:
        report = preprocess(settings, cache=cache, videos=videos, cluster=cluster, stall_s=float(sys.argv[4]))
    states = {row.recording: row.state for row in report.recordings}
    print(json.dumps([states, {skip.recording: skip.reason for skip in report.skipped}, report.exit_code]))
"""


@pytest.mark.parametrize(
    ("sign", "reason"),
    [
        (signal.SIGKILL, "the process that did it died, and so did the next"),
        (signal.SIGSEGV, "the process that did it died, and so did the next"),
        (signal.SIGSTOP, "nothing was heard of it for 10 s (--stall-timeout)"),
    ],
)
def test_one_that_hangs_or_crashes_is_listed_and_the_others_are_done(
    three, tmp_path: Path, sign: signal.Signals, reason: str
) -> None:
    script = tmp_path / "script" / "run.py"  # beside it, the folder `cache` could be taken for the package
    script.parent.mkdir()
    script.write_text(STOPPING)
    stall_s = "10" if sign == signal.SIGSTOP else "600"
    command = [sys.executable, str(script), str(tmp_path / "cache"), str(three.folder), str(int(sign)), stall_s]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    states_found, reasons, exit_code = json.loads(done.stdout.splitlines()[-1])
    assert states_found == {"a": "new", "c": "new"}
    assert reasons["b"].startswith(reason)
    assert exit_code == 3
    assert [clip.recording for clip in clip_cache.open(tmp_path / "cache")] == ["a", "a", "c", "c"]
    assert not list((tmp_path / "cache").rglob(".tmp-*"))
    assert states(tmp_path / "cache", three.folder) == {"a": "fresh", "b": "new", "c": "fresh"}


def test_workers_end_with_the_process_that_started_them(three, tmp_path: Path) -> None:
    code = (
        "import sys, os, pathlib, psutil, signal\n"
        "from pipeline.cluster import Cluster\n"
        "from pipeline.preprocess import stage\n"
        "from pipeline.preprocess_settings import PreprocessSettings\n"
        "def progress(name, done, total):\n"
        "    print(*(child.pid for child in psutil.Process().children()), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "if __name__ == '__main__':\n"
        "    settings = PreprocessSettings(img_size=64, trial_frames=30, min_frames=30)\n"
        "    folders = dict(cache=pathlib.Path(sys.argv[1]), videos=pathlib.Path(sys.argv[2]))\n"
        "    stage.preprocess(settings, **folders, cluster=Cluster(2), progress=progress)\n"
    )
    script = tmp_path / "script" / "run.py"  # beside it, the folder `cache` could be taken for the package
    script.parent.mkdir()
    script.write_text(code)
    command = [sys.executable, str(script), str(tmp_path / "cache"), str(three.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pids = [int(word) for word in done.stdout.splitlines()[-1].split()]
    assert len(pids) >= 2
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and Path("/proc").exists():
        assert time.monotonic() < deadline, "a worker goes on without the process that started it"
        time.sleep(0.1)
    assert states(tmp_path / "cache", three.folder, workers=2).keys() == {"a", "b", "c"}
    assert not list((tmp_path / "cache").rglob(".tmp-*"))
