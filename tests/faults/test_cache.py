"""What happens to a cache: moved, read-only, on a full disk, of another version, with parts gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import cache as clip_cache
from pipeline.preprocess.stage import Report, preprocess
from pipeline.preprocess_settings import PreprocessSettings

SETTINGS = {"img_size": 32, "trial_frames": 40, "min_frames": 30, "crops": "35=5", "classes": "rest,walk,lick"}
STORES = ["zarr", "hdf5"]


def run(folder: Path, cache: Path, **changes: object) -> Report:
    return preprocess(PreprocessSettings(**(SETTINGS | changes)), cache=cache, videos=folder, annotations=folder)  # type: ignore[arg-type]


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A file system in memory at a folder; skips the test where mounting is not allowed."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a file system can be mounted by root alone, and not in every container")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(params=STORES)
def made(request, pair_lab, tmp_path: Path):
    """A lab with the recordings a (trial 2 annotated) and b, their cache, and its store."""
    pair_lab.recording("b.mp4", 80)
    assert len(run(pair_lab.folder, tmp_path / "cache", store=request.param).recordings) == 2
    return pair_lab, tmp_path / "cache", request.param


def labels_and_numbers(lab, cache: Path) -> list[tuple[str, int, list[int]]]:
    return [
        (clip.recording, clip.trial, lab.numbers(clip.frames[:]).tolist(), clip.labels.tolist())
        for clip in clip_cache.open(cache)
    ]


def test_a_moved_cache_is_the_same(made, tmp_path: Path) -> None:
    lab, cache, store = made
    before = labels_and_numbers(lab, cache)
    moved = cache.rename(tmp_path / "elsewhere")
    assert labels_and_numbers(lab, moved) == before
    assert {row.state for row in run(lab.folder, moved, store=store).recordings} == {"fresh"}


def test_a_read_only_cache_is_read_and_not_written(made, tmp_path: Path, pipeline) -> None:
    lab, cache, store = made
    before = labels_and_numbers(lab, cache)
    with mounted(tmp_path / "mount", "size=50m") as folder:
        shutil.copytree(cache, folder / "cache")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert labels_and_numbers(lab, folder / "cache") == before
        config = tmp_path / "lab.toml"
        config.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in SETTINGS.items()))
        arguments = ["--videos", lab.folder, "--annotations", lab.folder, "--config", config, "--store", store]
        done = pipeline("preprocess", "--cache", folder / "cache", *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.strip().splitlines()) == 1
        assert str(folder / "cache") in done.stderr
        assert "Read-only" in done.stderr


@pytest.mark.parametrize("store", STORES)
def test_a_full_disk_keeps_what_was_finished(pair_lab, tmp_path: Path, store: str) -> None:
    """A real one, for two or three of six recordings: one takes 0.08 MB in a zarr cache, 0.8 MB in HDF5."""
    for name in "bcdef":
        pair_lab.recording(f"{name}.mp4", 80)
    size, room = (96, "2000k") if store == "hdf5" else (512, "250k")
    with mounted(tmp_path / "mount", f"size={room}") as folder:
        with pytest.raises(clip_cache.CacheError, match=r"No space left.*make room and run preprocess again"):
            run(pair_lab.folder, folder / "cache", store=store, img_size=size)
        clips = list(clip_cache.open(folder / "cache"))
        assert clips
        assert not list((folder / "cache").rglob(".tmp-*"))
        first = clips[0]
        np.testing.assert_array_equal(pair_lab.numbers(first.frames[:]), first.frame_index)
        shutil.copytree(folder / "cache", tmp_path / "cache")
    report = run(pair_lab.folder, tmp_path / "cache", store=store, img_size=size)
    states = {row.recording: row.state for row in report.recordings}
    assert states[first.recording] == "fresh"
    assert "new" in states.values()


FILE_LIMIT = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))
import cache as clip_cache
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings
folder, cache, settings = Path(sys.argv[1]), Path(sys.argv[2]), eval(sys.argv[3])
try:
    preprocess(PreprocessSettings(**settings), cache=cache, videos=folder, annotations=folder)
except clip_cache.CacheError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as POSIX does")
@pytest.mark.parametrize("store", STORES)
def test_files_that_cannot_grow_end_in_one_line(pair_lab, tmp_path: Path, store: str) -> None:
    """As on a disk quota; where nothing can be mounted this stands in for the full disk."""
    arguments = [pair_lab.folder, tmp_path / "cache", repr(SETTINGS | {"store": store, "img_size": 512})]
    command = [sys.executable, "-c", FILE_LIMIT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "make room and run preprocess again" in done.stdout, done.stderr
    assert not list((tmp_path / "cache").rglob(".tmp-*"))
    assert len(list(clip_cache.open(tmp_path / "cache"))) == 0
    assert len(run(pair_lab.folder, tmp_path / "cache", store=store, img_size=512).recordings) == 1


@pytest.mark.parametrize("version", [clip_cache.SCHEMA_VERSION - 1, clip_cache.SCHEMA_VERSION + 1])
def test_a_cache_of_another_version_says_what_to_do(made, tmp_path: Path, version: int) -> None:
    lab, cache, store = made
    (cache / "cache.json").write_text(json.dumps({"schema_version": version, "store": store}))
    for use in (lambda: clip_cache.open(cache), lambda: run(lab.folder, cache, store=store)):
        with pytest.raises(clip_cache.CacheError, match=r"preprocess into a new folder|update this program"):
            use()
    assert {row.state for row in run(lab.folder, tmp_path / "new", store=store).recordings} == {"new"}


@pytest.mark.parametrize("how", ["gone", "cut", "of another file"])
def test_an_index_that_is_lost_is_made_again_from_the_recordings(made, how: str) -> None:
    lab, cache, store = made
    before = labels_and_numbers(lab, cache)
    stamps = {path: path.stat().st_mtime_ns for path in (cache / "recordings").rglob("*")}
    index = cache / "index.parquet"
    if how == "gone":
        index.unlink()
        message = "index.parquet is missing"
    else:
        index.write_bytes(index.read_bytes()[:200] if how == "cut" else b"PAR1" + bytes(500) + b"PAR1")
        message = r"index\.parquet: cannot be read .*; delete it and run preprocess again"
    with pytest.raises(clip_cache.CacheError, match=message) as error:
        clip_cache.open(cache)
    assert "\n" not in str(error.value)
    index.unlink(missing_ok=True)
    assert {row.state for row in run(lab.folder, cache, store=store).recordings} == {"fresh"}
    assert labels_and_numbers(lab, cache) == before
    assert {path: path.stat().st_mtime_ns for path in (cache / "recordings").rglob("*")} == stamps


@pytest.mark.parametrize("how", ["deleted", "cut"])
def test_a_recording_that_is_lost_is_said_and_made_again(made, how: str) -> None:
    lab, cache, store = made
    before = labels_and_numbers(lab, cache)
    (path,) = (cache / "recordings").glob("a.*")
    if how == "cut":
        file = path if store == "hdf5" else next(path.glob("frames/c/0/*/*/*"))
        os.truncate(file, file.stat().st_size // 2)
    elif store == "hdf5":
        path.unlink()
    else:
        shutil.rmtree(path)
    with pytest.raises(clip_cache.CacheError, match=r"a\..*cannot be read .*delete it and run preprocess") as error:
        clip_cache.open(cache)[0].frames[:]
    assert "\n" not in str(error.value)
    if how == "cut":  # what the message says
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert {row.recording: row.state for row in run(lab.folder, cache, store=store).recordings} == {
        "a": "new",
        "b": "fresh",
    }
    assert labels_and_numbers(lab, cache) == before
