"""Random windows from the cache into a batch: against copies from a .npy memmap, and against decoding the mp4."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import measure
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

import cache as clip_cache
from cache import Clip
from pipeline.train import keep
from pipeline.train.labels import make_merge
from pipeline.train.stream import Stream, load_clips
from pipeline.train.windows import Window
from pipeline.train_settings import Keep

BATCH, DEPTH = 4, 4


def run(caches: dict[str, Path], npy: Path, lengths: Sequence[int], n_frames: int, rounds: int) -> None:
    """caches: what it is called -> a cache of the same recordings; npy: their frames one after the other."""
    rows, decoded = [], []
    whole = clip_cache.open(next(iter(caches.values())))
    first = dict(zip(((clip.recording, clip.trial) for clip in whole), np.cumsum([0, *map(len, whole)]), strict=False))
    for T in lengths:
        clips = {name: [clip for clip in clip_cache.open(path) if len(clip) >= T] for name, path in caches.items()}
        some = next(iter(clips.values()))
        windows = _random_windows(some, T, max(2 * BATCH, n_frames // T))
        starts = [first[some[w.clip].recording, some[w.clip].trial] + w.start for w in windows]
        cases: dict[str, Callable[[], object]] = {"memmap": lambda starts=starts, T=T: _memmap(npy, starts, T)}
        cases |= {name: _stream(chosen, windows) for name, chosen in clips.items()}
        in_memory = [keep.kept(clip, Keep.MEMORY, torch.device("cpu")) for clip in some]
        for clip in in_memory:
            clip.frames[0:1]
        cases["kept in memory"] = _stream(in_memory, windows)
        found = measure.interleave(cases, rounds)
        for name in list(cases)[1:]:
            rows.append([T, name, measure.spread(measure.ratios(found, name, "memmap"))])
        rates = [len(windows) * T / np.median(found[name]) for name in clips]
        decoded += [[T, how, *(f"{rate / theirs:.0f}" for rate in rates)] for how, theirs in _decoding(some, windows)]
    header = ["window", "cache", "frames/s over those of copies from a memmap (batches of 4, 2 threads)"]
    measure.table("Random windows from the cache", header, rows)
    header = ["window", "DataLoader, 2 worker processes", *(f"{name}: times as fast" for name in caches)]
    measure.table("The same, against decoding the mp4 for each window", header, decoded)


def _random_windows(clips: Sequence[Clip], T: int, n: int) -> list[Window]:
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(clips), size=n)
    starts = [int(rng.integers(len(clips[i]) - T + 1)) for i in chosen]
    return [Window(int(i), start, start + T) for i, start in zip(chosen, starts, strict=True)]


def _stream(clips: Sequence[Clip], windows: list[Window]) -> Callable[[], object]:
    data = load_clips(clips, make_merge(clips[0].class_names, "auto"), 0.9)

    def case() -> None:
        with Stream(clips, data, windows, BATCH, "cpu", depth=DEPTH) as stream:
            for _ in stream:
                pass

    return case


def _memmap(npy: Path, starts: list[int], T: int) -> None:
    frames = np.load(npy, mmap_mode="r")
    ring = [np.empty((BATCH, T, *frames.shape[1:]), np.uint8) for _ in range(DEPTH)]
    for i, start in enumerate(starts):
        np.copyto(ring[i // BATCH % DEPTH][i % BATCH], frames[start : start + T])


def _decoding(clips: Sequence[Clip], windows: list[Window]) -> list[tuple[str, float]]:
    """Frames/s of the usual way, after the first batch, by what it decodes with; what is not installed is left out."""
    size = clips[0].meta.geometry
    files = [
        (str(clips[w.clip].meta.video), clips[w.clip].source["first_frame"] + w.start, w.n_frames) for w in windows
    ]
    found = []
    for name, reader in (("OpenCV", _with_opencv), ("decord", _with_decord)):
        try:
            reader(files[0][0], 0, 2, (size.content_width, size.content_height))
        except ImportError:
            continue
        windows_of = _Videos(files[: 6 * BATCH], reader, (size.content_width, size.content_height))
        loader = DataLoader(windows_of, BATCH, num_workers=2, multiprocessing_context="spawn")
        batches = iter(loader)
        next(batches)
        started = time.perf_counter()
        n = sum(batch.shape[0] * batch.shape[1] for batch in batches)
        found.append((name, n / (time.perf_counter() - started)))
    return found


class _Videos(Dataset):
    def __init__(self, files: list[tuple[str, int, int]], reader: Callable, size: tuple[int, int]) -> None:
        self.files, self.reader, self.size = files, reader, size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.from_numpy(self.reader(*self.files[i], self.size))


def _with_opencv(path: str, start: int, n: int, size: tuple[int, int]) -> np.ndarray:
    import cv2

    video = cv2.VideoCapture(path)
    video.set(cv2.CAP_PROP_POS_FRAMES, start)
    frames = []
    for _ in range(n):
        frames.append(cv2.cvtColor(cv2.resize(video.read()[1], size), cv2.COLOR_BGR2GRAY))
    video.release()
    return np.stack(frames)


def _with_decord(path: str, start: int, n: int, size: tuple[int, int]) -> np.ndarray:
    import decord

    video = decord.VideoReader(path, width=size[0], height=size[1])
    return video.get_batch(range(start, start + n)).asnumpy()
