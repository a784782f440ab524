"""A small cache that a network can learn in seconds: a bright square whose place and motion tell the behaviour."""

from __future__ import annotations

import io
import os
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

import numpy as np

import cache as clip_cache
from cache.clip import ClipRows, Geometry, RecordingMeta
from pipeline.cli import main

CLASSES = ("rest", "paw_withdraw", "paw_lick", "paw_guard", "walk")
KEYPOINTS = ("mouth", "tail_base", "L_frontpaw", "R_frontpaw", "L_hindpaw", "R_hindpaw")
N_FRAMES = 48
SIDE = 32


def small_clip(seed: int, channels: int = 1) -> dict[str, np.ndarray]:
    """A trial: frames, keypoints (normalised by 64 x 48 px), labels; walk while the square moves, rest while it stands,
    a short withdraw and guard where it is brighter."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(N_FRAMES, np.int16)
    labels[8:24] = 4
    labels[30:36] = 1
    labels[36:39] = 3
    labels = np.roll(labels, rng.integers(-6, 6))
    x = 0.3 + 0.3 * np.cumsum(labels == 4) / 16
    centre = np.stack([x, np.full(N_FRAMES, 0.5)], 1)
    offsets = np.array([[0.15, 0], [-0.15, 0], [0.1, 0.1], [0.1, -0.1], [-0.1, 0.1], [-0.1, -0.1]])
    xy = centre[:, None] + offsets + rng.normal(0, 0.002, (N_FRAMES, 6, 2))
    xy[np.isin(labels, (1, 3)), 5] += 0.08
    keypoints = np.concatenate([xy, rng.uniform(0.9, 1, (N_FRAMES, 6, 1))], -1).astype(np.float32)
    keypoints[rng.random((N_FRAMES, 6)) < 0.05] = np.nan
    frames = rng.integers(30, 50, (N_FRAMES, SIDE, SIDE, channels)).astype(np.uint8)
    for t in range(N_FRAMES):
        column, row = int(centre[t, 0] * SIDE), SIDE // 2
        frames[t, row - 4 : row + 4, column - 4 : column + 4] = 220 if labels[t] in (1, 3) else 140
    return {"frames": frames, "keypoints": keypoints, "labels": labels}


def write_recording(
    cache: clip_cache.CacheWriter,
    name: str,
    clips: list[dict[str, np.ndarray]],
    *,
    frames: bool = True,
    keypoint_names: tuple[str, ...] = KEYPOINTS,
    class_names: tuple[str, ...] = CLASSES,
    version: str = "1",
    crop_start: int = 0,
    intact: np.ndarray | None = None,
    dlc: str | None = None,
) -> None:
    """One recording of the given clips, as the preprocess stage would write it."""
    edges = np.cumsum([0, *(len(clip["labels"]) for clip in clips)]).tolist()
    n, channels = edges[-1], clips[0]["frames"].shape[-1]
    writer = cache.writer(name)
    if frames:
        writer.append_frames(np.concatenate([clip["frames"] for clip in clips]))
    meta = RecordingMeta(
        recording=name,
        video=f"{name}.mp4" if frames else None,
        dlc=dlc or f"{name}.csv",
        geometry=Geometry.fit(64, 48, SIDE) if frames else Geometry.pose_only(64, 48),
        channels=channels,
        fps=30.0 if frames else None,
        decoder="pyav" if frames else None,
        keypoint_names=keypoint_names,
        class_names=class_names,
        clips=tuple(ClipRows(i + 1, start, stop, start, crop_start) for i, (start, stop) in enumerate(pairwise(edges))),
        fingerprints={array: f"{name}-{array}-{version}" for array in ("frames", "keypoints", "labels")},
        settings={"img_size": SIDE, "trial_frames": N_FRAMES, "min_frames": N_FRAMES, "crops": ""},
    )
    keypoints = np.concatenate([clip["keypoints"][:, : len(keypoint_names)] for clip in clips])
    labels = np.concatenate([clip["labels"] for clip in clips])
    arrays = {"frame_index": np.arange(n, dtype=np.int32), "time_s": np.arange(n) / 30}
    writer.finish(meta, keypoints=keypoints, labels=labels, intact=intact, **arrays)


def write_small_cache(path: Path, *, store: str = "zarr", recordings: int = 6, **options) -> Path:
    """Recordings of two trials each: mouse_00M_a, ..., the second half named _b."""
    with clip_cache.create(path, store=store) as cache:
        for i in range(recordings):
            clips = [small_clip(10 * i + trial, options.get("channels", 1)) for trial in range(2)]
            names = {k: v for k, v in options.items() if k != "channels"}
            write_recording(cache, f"mouse_{i:02d}M_{'ab'[2 * i // recordings]}", clips, **names)
    return path


def files_of(cache: Path) -> dict[Path, bytes]:
    """Every file but what says how fast it went, and the lock."""
    files = [path for path in cache.rglob("*") if path.is_file() and path.name not in ("seen.json", ".lock")]
    return {path.relative_to(cache): path.read_bytes() for path in files}


def called(*arguments: object, cwd: Path | None = None) -> CompletedProcess[str]:
    """A command of the command line in this process: to start one of its own takes longer than most commands."""
    words = ["pipeline", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    wide = patch.dict(os.environ, COLUMNS="200")
    with wide, patch.object(sys, "argv", words), chdir(cwd or os.curdir), redirect_stdout(out), redirect_stderr(err):
        try:
            code = main()
        except SystemExit as done:
            code = done.code
    return CompletedProcess(words, code or 0, out.getvalue(), err.getvalue())
