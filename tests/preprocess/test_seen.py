"""What was seen of files is a shortcut past reading them, and never believed against their content."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import cache as clip_cache
from cache import fingerprint
from pipeline.preprocess import seen, table_names
from pipeline.preprocess.seen import SEEN_FILE
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings

OLD_NS = time.time_ns() - 3600 * 10**9


def run(cache: Path, folder: Path, **options) -> dict[str, str]:
    """Recording -> state of one run."""
    settings = PreprocessSettings(img_size=64, trial_frames=30, min_frames=20, crops="25=5")
    report = preprocess(settings, cache=cache, videos=folder, annotations=folder, **options)
    assert report.exit_code in (0, 3)
    return {row.recording: row.state for row in report.recordings}


def age(folder: Path) -> None:
    """As if the files had been there for an hour."""
    for path in folder.iterdir():
        os.utime(path, ns=(OLD_NS, OLD_NS))


@pytest.fixture
def aged(lab):
    """Two recordings of two trials, an hour old; one trial of b is skipped for a fault."""
    for name in ("a", "b"):
        lab.recording(f"{name}.mp4", 60)
        lab.annotation(f"{name}.mp4_1", [0] * 25)
    lab.annotation("b.mp4_2", [0] * 3)
    age(lab.folder)
    return lab


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch):
    """After it is called, reading any content or header of a file is an error."""

    def refuse(*args: object) -> None:
        raise AssertionError(f"read again: {args}")

    def forbid() -> None:
        monkeypatch.setattr(fingerprint, "of_file", refuse)
        monkeypatch.setattr(table_names, "check_header", refuse)

    return forbid


def test_what_has_its_size_and_date_is_not_read_again(aged, tmp_path: Path, unreadable) -> None:
    assert run(tmp_path / "cache", aged.folder) == {"a": "new", "b": "new"}
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    unreadable()
    assert run(tmp_path / "cache", aged.folder) == {"a": "fresh", "b": "fresh"}
    del files[tmp_path / "cache" / ".lock"]
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_faults_of_a_fresh_recording_are_said_again(aged, tmp_path: Path) -> None:
    settings = PreprocessSettings(img_size=64, trial_frames=30, min_frames=20, crops="25=5")
    reports = [
        preprocess(settings, cache=tmp_path / "cache", videos=aged.folder, annotations=aged.folder) for _ in range(3)
    ]
    assert [report.exit_code for report in reports] == [3, 3, 3]
    assert reports[0].skipped == reports[1].skipped == reports[2].skipped
    assert "too short: 3 rows" in reports[2].skipped[0].reason
    assert clip_cache.open(tmp_path / "cache").skipped["trial"].tolist() == [2]


def test_a_touched_file_is_not_a_changed_one(aged, tmp_path: Path, unreadable) -> None:
    run(tmp_path / "cache", aged.folder)
    for path in aged.folder.glob("a*"):
        os.utime(path, ns=(OLD_NS + 10**9, OLD_NS + 10**9))
    assert run(tmp_path / "cache", aged.folder) == {"a": "fresh", "b": "fresh"}
    unreadable()
    assert run(tmp_path / "cache", aged.folder) == {"a": "fresh", "b": "fresh"}


def test_a_file_that_changed_within_its_date_is_noticed(aged, tmp_path: Path) -> None:
    """Same size, and the same date as when it was read a moment after it was written."""
    path = aged.folder / "prediction_a.mp4_1.csv"
    path.touch()
    run(tmp_path / "cache", aged.folder)
    stat = path.stat()
    path.write_text(path.read_text().replace("\n5,0\n", "\n5,7\n"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert run(tmp_path / "cache", aged.folder) == {"a": "labels", "b": "fresh"}


def test_a_copied_folder_is_read_once_and_is_fresh(aged, tmp_path: Path, unreadable) -> None:
    run(tmp_path / "cache", aged.folder)
    moved = aged.folder.rename(tmp_path / "moved")
    assert run(tmp_path / "cache", moved) == {"a": "fresh", "b": "fresh"}
    unreadable()
    assert run(tmp_path / "cache", moved) == {"a": "fresh", "b": "fresh"}


def test_other_files_of_the_same_name_size_and_date_elsewhere_are_read(aged, tmp_path: Path) -> None:
    run(tmp_path / "cache", aged.folder)
    path = aged.folder / "prediction_a.mp4_1.csv"
    path.write_text(path.read_text().replace("\n5,0\n", "\n5,7\n"))
    age(aged.folder)
    other = aged.folder.rename(tmp_path / "other")
    assert run(tmp_path / "cache", other) == {"a": "labels", "b": "fresh"}


@pytest.mark.parametrize("damage", ["delete", "cut", "other version", "another recording's"])
def test_what_is_remembered_is_only_a_shortcut(aged, tmp_path: Path, damage: str, monkeypatch) -> None:
    cache = tmp_path / "cache"
    run(cache, aged.folder)
    path = cache / SEEN_FILE
    if damage == "delete":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "other version":
        monkeypatch.setattr(seen, "VERSIONS", [*seen.VERSIONS, 1])
    else:  # a memory of labels that the cache does not have: the cache is what counts
        former = path.read_bytes()
        label = aged.folder / "prediction_a.mp4_1.csv"
        before = label.read_text()
        label.write_text(before.replace("\n5,0\n", "\n5,7\n"))
        assert run(cache, aged.folder)["a"] == "labels"
        path.write_bytes(former)
        label.write_text(before)
        age(aged.folder)
        assert run(cache, aged.folder)["a"] == "labels"
        return
    assert run(cache, aged.folder) == {"a": "fresh", "b": "fresh"}


def test_a_file_that_changes_while_it_is_read_is_left_for_the_next_run(aged, tmp_path: Path) -> None:
    run(tmp_path / "cache", aged.folder)
    aged.video("a.mp4", 60, options={"crf": "30"})
    table = next(aged.folder.glob("aDLC*"))

    def touch(name: str, done: float, total: int) -> None:
        if done:
            table.write_text(table.read_text().replace(",0.99", ",0.98"))

    settings = PreprocessSettings(img_size=64, trial_frames=30, min_frames=20, crops="25=5")
    report = preprocess(settings, cache=tmp_path / "cache", videos=aged.folder, annotations=aged.folder, progress=touch)
    assert {row.recording: row.state for row in report.recordings} == {"a": "kept", "b": "fresh"}
    assert any("changed while it was read; run preprocess again" in skip.reason for skip in report.skipped)
    assert not list((tmp_path / "cache").rglob(".tmp-*"))
    assert run(tmp_path / "cache", aged.folder) == {"a": "frames+keypoints", "b": "fresh"}


def test_recordings_whose_files_are_gone_are_pruned_when_asked(aged, tmp_path: Path) -> None:
    run(tmp_path / "cache", aged.folder)
    for path in list(aged.folder.glob("*b.mp4*")):
        path.rename(tmp_path / path.name)
    assert run(tmp_path / "cache", aged.folder) == {"a": "fresh", "b": "removed"}
    assert run(tmp_path / "cache", aged.folder, prune=True) == {"a": "fresh", "b": "pruned"}
    assert {clip.recording for clip in clip_cache.open(tmp_path / "cache")} == {"a"}
    assert len(list((tmp_path / "cache" / "recordings").iterdir())) == 1
    assert "b" not in seen.load(tmp_path / "cache").recordings


def test_one_label_file_touches_that_recording_alone(aged, tmp_path: Path) -> None:
    """Byte for byte: of all files of the cache, those of the other recording and all frames stay as they are."""
    cache = tmp_path / "cache"
    run(cache, aged.folder)
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in cache.rglob("*") if path.is_file()}
    path = aged.folder / "prediction_a.mp4_1.csv"
    path.write_text(path.read_text().replace("\n5,0\n", "\n5,7\n"))
    assert run(cache, aged.folder) == {"a": "labels", "b": "fresh"}
    after = {path: (path.stat().st_ino, path.read_bytes()) for path in cache.rglob("*") if path.is_file()}
    others = [{p: v for p, v in files.items() if "/b." in str(p)} for files in (before, after)]
    assert others[0]
    assert others[0] == others[1]
    frames = [{v for p, v in files.items() if "/a." in str(p) and "/frames/c/" in str(p)} for files in (before, after)]
    assert frames[0]
    assert frames[0] == frames[1]
