"""What grows with the number of clips, and with the number of frames."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import measure
from recordings import first_linked

import cache as clip_cache
from cache import index
from pipeline.console import Bar
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.train.data import prepare
from pipeline.train.loop import Loop
from pipeline.train_settings import Keep, TrainSettings

# What a trainer does until it holds a batch, in a process of its own. A: of windows anywhere in the cache; B: after all
# keypoints and labels were read and the split was made, as `pipeline train` does.
FIRST_BATCH = """
import json, sys, time
started = time.perf_counter()
import numpy as np, psutil
import cache
from pipeline.train_settings import TrainSettings
from pipeline.train.data import prepare
from pipeline.train.labels import make_merge
from pipeline.train.stream import Stream, load_clips
from pipeline.train.windows import Window, plan_epoch
imported, memory = time.perf_counter(), psutil.Process().memory_info().rss
clips = cache.open(sys.argv[1])
if sys.argv[2] == "A":
    some = [clips[int(i)] for i in np.random.default_rng(0).integers(len(clips), size=4)]
    data = load_clips(some, make_merge(some[0].class_names, "auto"), 0.9)
    windows = [Window(i, 0, min(60, len(clip))) for i, clip in enumerate(some)]
else:
    training = prepare(clips, TrainSettings(), lambda line: None)
    some, data = training.train.clips, training.train.data
    windows = plan_epoch(training.train.labels, 60, training.boost, 0, 0)[:4]
next(iter(Stream(some, data, windows, 4, "cpu")))
print(json.dumps([imported - started, time.perf_counter() - imported,
                  (psutil.Process().memory_info().rss - memory) / 2**20]))
"""


def clips(source: Path, work: Path, numbers: Sequence[int], whole_up_to: int) -> None:
    """Caches whose index holds so many clips; their recordings are those of `source`, under many names."""
    rows = []
    for n in numbers:
        cache = _many(source, work, n)
        cells = [f"{len(clip_cache.open(cache)):,}", f"{(cache / index.INDEX_FILE).stat().st_size / 2**20:.1f}"]
        for how in ("A", "B") if n <= whole_up_to else ("A",):
            command = [sys.executable, "-c", FIRST_BATCH, str(cache), how]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            imported, seconds, mib = json.loads(done.stdout)
            cells += [f"{seconds:.2f} (and {imported:.1f} of imports)", f"{mib:.0f}"]
        rows.append(cells + ["", ""] * (n > whole_up_to))
        shutil.rmtree(cache)
    header = ["clips", "index, MiB", "cache open and first batch, s", "memory, MiB"]
    header += ["all keypoints and labels read, split, first batch, s", "memory, MiB"]
    measure.table("Growth with the number of clips", header, rows)


def _many(source: Path, work: Path, n: int) -> Path:
    known = index.read_index(source)
    cache = work / f"clips_{n}"
    shutil.rmtree(cache, ignore_errors=True)  # of a run that was interrupted; the link alone goes, not what it names
    cache.mkdir()
    (cache / index.RECORDINGS).symlink_to((source / index.RECORDINGS).resolve())
    index.write_format(cache, index.read_format(source))
    recordings, files, metas = {}, {}, list(known.recordings.values())
    while n > 0:
        meta = metas[len(recordings) % len(metas)]
        name = f"r{len(recordings):07d}"
        recordings[name] = dataclasses.replace(meta, recording=name, fingerprints=meta.fingerprints | {"name": name})
        files[name] = known.files[meta.recording]
        n -= len(meta.clips)
    index.write_index(cache, index.Index(recordings, files, ()))
    return cache


def frames(folder: Path, work: Path, img_size: int, parts: Sequence[int]) -> None:
    """Time of preprocess and of an epoch of the first so many recordings of a rendered set."""
    sizes, preprocess_s, epoch_s = [], [], []
    for n in parts:
        some = first_linked(folder, work / f"frames_{n}", n)
        cache = some / "cache"
        given = {"cache": cache, "videos": some / "Videos", "annotations": some / "Annotations"}
        started = time.perf_counter()
        preprocess(PreprocessSettings(img_size=img_size), **given)
        preprocess_s.append(time.perf_counter() - started)
        settings = TrainSettings(warmup_epochs=0, train_T=60)
        loop = Loop(
            settings,
            prepare(clip_cache.open(cache), settings, print_nothing),
            some,
            print_nothing,
            Bar(),
            Keep.DISK,
            None,
        )
        started = time.perf_counter()
        loop._train(0)
        epoch_s.append(time.perf_counter() - started)
        sizes.append((sum(map(len, clip_cache.open(cache))), loop.data.train.n_frames))
        shutil.rmtree(some)
    rows = [
        [f"{a:,}", f"{s:.2f}", f"{b:,}", f"{e:.2f}"] for (a, b), s, e in zip(sizes, preprocess_s, epoch_s, strict=True)
    ]
    power = [measure.exponent([a for a, _ in sizes], preprocess_s), measure.exponent([b for _, b in sizes], epoch_s)]
    rows.append(["exponent", f"{power[0]:.2f}", "exponent", f"{power[1]:.2f}"])
    header = ["frames", "preprocess, s", "training frames", "epoch, s"]
    measure.table("Growth with the number of frames", header, rows)


def print_nothing(line: str) -> None:
    """What training says is not of interest here."""
