"""From mp4 to finished cache, against ffmpeg that decodes, scales and drops the same files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import measure
from recordings import linked

import cache as clip_cache
from cache import Geometry
from pipeline.cluster import Cluster
from pipeline.preprocess.probe import probe
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings


def run(work: Path, folders: dict[str, Path], img_size: int, rounds: int) -> None:
    """folders: what it is called -> a folder with Videos and Annotations. Prints a table and the size of the caches."""
    rows = []
    for name, folder in folders.items():
        videos = sorted(path for path in (folder / "Videos").iterdir() if path.suffix in (".mp4", ".avi"))
        cases = {
            "ffmpeg": lambda videos=videos: [_ffmpeg(video, img_size) for video in videos],
            "ours": lambda folder=folder: _preprocess(work, folder, img_size, workers=0),
        }
        if len(videos) > 1:
            many = _three_times(work, folder)
            cases["two ffmpeg"] = lambda many=many: _two_ffmpeg(sorted((many / "Videos").glob("*.mp4")), img_size)
            cases["ours, 2 workers"] = lambda many=many: _preprocess(work, many, img_size, workers=2)
        _preprocess(work, folder, img_size, workers=0)  # what is imported and compiled once
        found = measure.interleave(cases, rounds)
        n_frames = sum(probe(video).n_frames for video in videos)
        one = measure.spread(measure.ratios(found, "ours", "ffmpeg"))
        two = measure.spread(measure.ratios(found, "ours, 2 workers", "two ffmpeg")) if len(videos) > 1 else "one file"
        rows.append([name, f"{n_frames:,}", one, two, *_sizes(work, folder, img_size)])
    header = ["videos", "frames", "one after the other: ffmpeg's time / ours", "three times as many, two at a time"]
    measure.table("Preprocess", [*header, "zstd cache, of raw uint8", "uncompressed zarr", "hdf5"], rows)


def _three_times(work: Path, folder: Path) -> Path:
    """Every recording under three names, so that the start of the workers does not count for more than it would."""
    return linked(folder, work / "three_times", lambda name: [name.replace("demo_", f"demo{copy}_") for copy in "abc"])


def _preprocess(work: Path, folder: Path, img_size: int, workers: int, **settings: str) -> Path:
    cache = work / "cache_of_preprocess"
    shutil.rmtree(cache, ignore_errors=True)
    with Cluster(workers) as cluster:
        report = preprocess(
            PreprocessSettings(img_size=img_size, **settings),
            cache=cache,
            videos=folder / "Videos",
            annotations=folder / "Annotations",
            cluster=cluster,
        )
    if report.n_bad:
        sys.exit(f"preprocess left something out: {report.skipped}")
    return cache


def _ffmpeg(video: Path, img_size: int) -> None:
    facts = probe(video)
    fit = Geometry.fit(facts.width, facts.height, img_size)
    # Bilinear, as here; ffmpeg's own default, bicubic, takes longer.
    scale = f"scale={fit.content_width}:{fit.content_height}:flags=bilinear,format=gray"
    command = ["ffmpeg", "-v", "error", "-i", str(video), "-vf", scale, "-f", "rawvideo", "pipe:1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _two_ffmpeg(videos: list[Path], img_size: int) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda video: _ffmpeg(video, img_size), videos))


def _sizes(work: Path, folder: Path, img_size: int) -> Iterator[str]:
    for settings in ({}, {"compression": "none"}, {"store": "hdf5"}):
        cache = _preprocess(work, folder, img_size, 0, **settings)
        raw = sum(clip.n_frames * img_size * img_size for clip in clip_cache.open(cache))
        size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        yield f"{size / raw:.3f}"
