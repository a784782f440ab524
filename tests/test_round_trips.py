"""People's labels that are exported for another program and read back are the same, frame by frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import cache as clip_cache
from lab import Lab
from pipeline.cli import app

LENGTH, CROP = 20, 5
SETTINGS = (
    f"--trial-frames {LENGTH} --min-frames {LENGTH - CROP} --crops {LENGTH - CROP}={CROP} --classes rest,walk,lick "
    "--img-size 32 --workers 0"
).split()


def pipeline(*arguments: object) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as ended:
        app([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def labels(cache: Path) -> dict[tuple[str, int], int]:
    """The labels of a cache by recording and frame of the video, without the frames that have none."""
    frames = [(clip.recording, clip.frame_index, clip.labels) for clip in clip_cache.open(cache)]
    return {
        (name, int(f)): int(label)
        for name, index, given in frames
        for f, label in zip(index, given, strict=True)
        if label >= 0
    }


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, Path]:
    """Recordings of several trials, of exactly one, and of a variable frame rate; and the cache of people's labels."""
    folder = tmp_path_factory.mktemp("labelled")
    videos, annotations = Lab(folder / "Videos"), Lab(folder / "Annotations")
    rng = np.random.default_rng(0)
    videos.recording("several.mp4", 3 * LENGTH + 5)
    videos.recording("one.mp4", LENGTH)
    times_ms = np.cumsum(np.r_[0, rng.integers(20, 80, 2 * LENGTH - 1)]) + 600 * (np.arange(2 * LENGTH) > 25)
    videos.recording("variable.mp4", 2 * LENGTH, times_ms=times_ms.tolist())
    crops = {
        "several.mp4_1": CROP,
        "several.mp4_2": 0,
        "several.mp4_3": CROP,
        "one.mp4_1": CROP,
        "variable.mp4_2": CROP,
    }
    for name, crop in crops.items():
        given: list[object] = rng.integers(0, 3, LENGTH - crop).tolist()
        given[7] = ""
        annotations.annotation(name, given, first=crop)
    cache = folder / "people"
    pipeline("preprocess", "--videos", videos.folder, "--annotations", annotations.folder, "--cache", cache, *SETTINGS)
    return videos, cache


@pytest.mark.parametrize("to", ["boris", "onehot"])
def test_exported_labels_are_read_back_frame_by_frame(labelled: tuple[Lab, Path], to: str, tmp_path: Path) -> None:
    videos, people = labelled
    assert pipeline("export", "--cache", people, "--to", to, "--merge", "none", "--out", tmp_path) == 0
    read = tmp_path / "read"
    pipeline("preprocess", "--videos", videos.folder, "--annotations", tmp_path / to, "--cache", read, *SETTINGS)
    assert len(labels(people)) == 5 * LENGTH - 4 * CROP - 5
    assert labels(read) == labels(people)
