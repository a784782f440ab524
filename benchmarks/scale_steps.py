"""The steps that `scale.py` measures, each in a process of its own.

    python benchmarks/scale_steps.py STEP WORK_FOLDER/scale RECORDINGS TRIALS

Prints lines of JSON: [what, seconds, seconds of the processor, remark], and last the peak memory in MiB.
"""

from __future__ import annotations

import dataclasses
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from scale_lab import Lab

import cache as clip_cache
from cache import index
from cache.clip import ARRAY_DTYPES
from pipeline.preprocess import seen
from pipeline.preprocess.discovery import discover
from pipeline.preprocess.stage import preprocess

SOME_CLIPS = 1000


@contextmanager
def timed(what: str) -> Iterator[Callable[[str], None]]:
    """Prints how long the block took; what it is called with is said beside."""
    remarks: list[str] = []
    started, worked = time.perf_counter(), time.process_time()
    yield remarks.append
    seconds, processor = time.perf_counter() - started, time.process_time() - worked
    print(json.dumps([what, seconds, processor, ", ".join(remarks)]), flush=True)


def make(lab: Lab) -> None:
    """The links in the folder `recordings`."""
    with timed("made: the links in recordings"):
        lab.make_recordings()


def write(lab: Lab) -> None:
    """index.parquet."""
    content = lab.index()
    with timed("index written") as say:
        index.write_index(lab.cache, content)
        say(mib(lab.cache / index.INDEX_FILE))


def start(lab: Lab) -> None:
    """Nothing but the imports, whose memory all steps have."""
    with timed("nothing, after the imports"):
        pass


def read(lab: Lab) -> None:
    """Opening the cache, and clips anywhere in it."""
    with timed("cache opened"):
        clips = clip_cache.open(lab.cache)
    chosen = random.Random(0).sample(range(len(clips)), min(SOME_CLIPS, len(clips)))
    with timed(f"{len(chosen):,} random clips, without their arrays"):
        some = [clips[i] for i in chosen]
    with timed("first batch: keypoints, labels and 60 frames of 4 clips"):
        for clip in some[:4]:
            clip.frames[0:60], clip.keypoints, clip.labels
    with timed(f"keypoints of {len(some):,} random clips"):
        for clip in some:
            clip.keypoints  # noqa: B018


def read_all(lab: Lab) -> None:
    """What training and `status` ask of the index: all metadata."""
    clips = clip_cache.open(lab.cache)
    with timed("metadata of all recordings"):
        clips.class_names  # noqa: B018


def commit(lab: Lab) -> None:
    """Opening the cache for writing, and one new recording."""
    with timed("opened for writing"):
        writer = clip_cache.create(lab.cache)
    name = next(iter(writer.recordings))
    with timed("commit of nothing"):
        writer.commit()
    one(writer, name, "first")
    with timed("commit of one recording more"):
        writer.commit()
    one(writer, name, "second")
    with timed("commit of another one"):
        writer.commit()
    for each in ("first", "second"):
        writer.remove(f"{name}_{each}")
    writer.close()


def one(writer: clip_cache.CacheWriter, name: str, more: str) -> None:
    """One recording more, whose frames are those of another."""
    meta, reader = writer.recordings[name], writer.reader(name)
    arrays = {array: reader.read(array, 0, meta.n_frames) for array in ARRAY_DTYPES}
    new_name = f"{name}_{more}"
    with timed("one recording written and taken"):
        new = writer.writer(new_name)
        new.copy_frames_from(reader)
        new.finish(dataclasses.replace(meta, recording=new_name), **arrays)


def inputs(lab: Lab) -> None:
    """The files that are looked for."""
    with timed("made: videos, tables and annotations") as say:
        lab.make_inputs()
        say(f"{lab.n_recordings * (2 + lab.n_trials):,} files")


def find(lab: Lab) -> None:
    """Pairing the files."""
    known = seen.Seen()
    for what in ("files paired, each table's header read", "the same, headers known"):
        with timed(what):
            found = discover(lab.videos, lab.annotations, None, lab.settings, known.header_fault)
        assert len(found.recordings) == lab.n_recordings
        assert not found.skipped, found.skipped[:3]


def remember(lab: Lab) -> None:
    """seen.json."""
    content = lab.seen()
    with timed("seen.json written") as say:
        seen.save(lab.cache, content)
        say(mib(lab.cache / seen.SEEN_FILE))


def recall(lab: Lab) -> None:
    """seen.json again."""
    with timed("seen.json read"):
        found = seen.load(lab.cache)
    assert len(found.recordings) == lab.n_recordings


def run_again(lab: Lab) -> None:
    """The stage, where nothing changed."""
    with timed("preprocess where nothing changed"):
        report = preprocess(lab.settings, cache=lab.cache, videos=lab.videos, annotations=lab.annotations)
    assert {row.state for row in report.recordings} == {"fresh"}


def split(lab: Lab) -> None:
    """The split by animal, and an epoch's windows; the labels are a few clips' again and again."""
    from pipeline.train.split import make_split
    from pipeline.train.windows import class_counts, plan_epoch, rare_boost
    from pipeline.train_settings import TrainSettings

    names = list(lab.names())
    rng = np.random.default_rng(0)
    counts = rng.poisson([780, 20, 10, 5, 120, 100], (len(names), 6))
    for what, groups in (("by recording", names), ("by animal", [name.split("_")[3] for name in names])):
        with timed(f"split {what}"):
            make_split(names, groups, counts, TrainSettings().val_share, 0)
    some = [rng.choice(6, 345, p=[0.74, 0.02, 0.01, 0.01, 0.12, 0.1]).repeat(15)[:345] for _ in range(100)]
    labels = [some[i % len(some)] for i in range(lab.n_recordings * lab.n_trials)]
    with timed("frames of each class counted"):
        boost = rare_boost(class_counts(labels, 6) / sum(map(len, labels)), 0.02, 30.0)
    with timed("windows of an epoch planned"):
        plan_epoch(labels, 180, boost, 0, 0)


def load(lab: Lab) -> None:
    """All keypoints and labels, as `pipeline train` reads them."""
    from pipeline.train.labels import make_merge
    from pipeline.train.stream import load_clips

    clips = clip_cache.open(lab.cache)
    merge = make_merge(clips.class_names, "auto")
    for share in (4, 2):  # of what was asked for: twice as many, twice as long?
        some = clips[: lab.n_recordings * lab.n_trials // share]
        before = psutil.Process().memory_info().rss
        with timed(f"keypoints and labels of {len(some):,} clips") as say:
            data = load_clips(some, merge, 0.9)
            say(f"{(psutil.Process().memory_info().rss - before) / 1024 / len(data):.1f} KiB a clip")
        del data


STEPS = (start, make, write, read, read_all, commit, inputs, find, remember, recall, run_again, split, load)


def peak() -> float:
    """MiB, of this process since it began."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the process that started this one had
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def mib(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:,.1f} MiB"


if __name__ == "__main__":
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    name, work, n, n_trials = sys.argv[1:]
    step = next(step for step in STEPS if step.__name__ == name)
    step(Lab(Path(work), int(n), int(n_trials)))
    print(json.dumps(peak()))
