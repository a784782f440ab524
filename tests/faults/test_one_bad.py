"""One bad recording of 100 costs itself alone."""

from __future__ import annotations

from pathlib import Path

import cache as clip_cache


def test_99_are_done_and_the_bad_one_is_listed(lab, pipeline, tmp_path: Path) -> None:
    for i in range(100):
        lab.recording(f"m{i:02d}.mp4", 12)
    (lab.folder / "m42.mp4").write_text("not a video")
    command = ["preprocess", "--videos", lab.folder, "--cache", tmp_path / "cache", "--img-size", 64]
    done = pipeline(*command, "--trial-frames", 12, "--min-frames", 12, "--workers", 2)
    assert done.returncode == 3, done.stderr
    assert "99 recordings, 99 trials used, 1 skipped" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    cache = clip_cache.open(tmp_path / "cache")
    assert [clip.recording for clip in cache] == [f"m{i:02d}" for i in range(100) if i != 42]
    assert cache.skipped["recording"].tolist() == ["m42"]
    assert "cannot be read as a video" in cache.skipped["reason"][0]
