"""Several processes at one cache: one writes, others read what was there when they opened it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cache as clip_cache
from pipeline.cli import app
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings

SETTINGS = PreprocessSettings(img_size=64, trial_frames=30, min_frames=30)


def test_a_second_preprocess_is_refused_and_changes_nothing(lab, tmp_path: Path) -> None:
    lab.recording("a.mp4", 60)
    preprocess(SETTINGS, cache=tmp_path / "cache", videos=lab.folder)
    before = {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    lab.recording("b.mp4", 60)
    words = ["preprocess", "--videos", lab.folder, "--cache", tmp_path / "cache", "--trial-frames", 30]
    with (
        clip_cache.create(tmp_path / "cache"),
        pytest.raises(clip_cache.CacheBusyError, match="another process is writing"),
    ):
        app([str(word) for word in words], standalone_mode=False)
    assert {path: path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()} == before


def test_who_reads_while_recordings_are_added_sees_what_was_there(lab, tmp_path: Path) -> None:
    for name in ("b", "d"):
        lab.recording(f"{name}.mp4", 60)
    preprocess(SETTINGS, cache=tmp_path / "cache", videos=lab.folder)
    reading = clip_cache.open(tmp_path / "cache")
    first = reading[0].frames[:]
    for name in ("a", "c", "e"):
        lab.recording(f"{name}.mp4", 60)
    seen: list[list[str]] = []

    def look(name: str, done: float, total: int) -> None:
        """While it is written: whole recordings only, and for the reader the same ones as ever."""
        seen.append([clip.recording for clip in clip_cache.open(tmp_path / "cache")])
        for clip in reading:
            np.testing.assert_array_equal(lab.numbers(clip.frames[:]), clip.frame_index)

    preprocess(SETTINGS, cache=tmp_path / "cache", videos=lab.folder, progress=look)
    assert seen
    assert all({"b", "d"} <= set(names) <= set("abcde") and len(names) % 2 == 0 for names in seen)
    assert [clip.recording for clip in reading] == ["b", "b", "d", "d"]
    np.testing.assert_array_equal(reading[0].frames[:], first)
    assert [clip.recording for clip in clip_cache.open(tmp_path / "cache")][::2] == list("abcde")
