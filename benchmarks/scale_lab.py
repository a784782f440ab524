"""A lab of any number of recordings, of which a few are real: what `scale.py` measures on.

Every recording has a name, paths and fingerprints of its own, so that nothing packs better than it would; its folder in
the cache is a link to a real recording, so that every clip can be read. Videos and annotations are empty files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import cache as clip_cache
from cache import RecordingMeta, index
from pipeline.demo.dataset import make_dataset
from pipeline.preprocess import seen
from pipeline.preprocess.discovery import RecordingFiles
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings

NETWORK = "DLC_resnet50_demoMar5shuffle1_100000"


class Lab:
    """WORK/real: the real recordings and their cache. WORK/cache, Videos, Annotations: those of n_recordings."""

    def __init__(self, work: Path, n_recordings: int, n_trials: int) -> None:
        self.work, self.n_recordings, self.n_trials = work, n_recordings, n_trials
        self.videos, self.annotations, self.cache = work / "Videos", work / "Annotations", work / "cache"
        self.settings = PreprocessSettings(img_size=32)
        self._real = work / "real"

    def render(self) -> None:
        """The real recordings, of which those with n_trials trials stand for all."""
        make_dataset(self._real, recordings=2 * self.n_trials, trials=self.n_trials, size=(64, 48))
        folders = {"videos": self._real / "Videos", "annotations": self._real / "Annotations"}
        preprocess(self.settings, cache=self._real / "cache", **folders)

    def real(self) -> list[tuple[RecordingMeta, str]]:
        """Metadata of the real recordings, and their folders."""
        known = index.read_index(self._real / "cache")
        chosen = [meta for meta in known.recordings.values() if len(meta.clips) == self.n_trials]
        return [(meta, known.files[meta.recording]) for meta in chosen]

    def names(self) -> Iterator[str]:
        """As labs name recordings: a date, a group, a number, an animal."""
        return (
            f"{2015 + i % 10}-{1 + i % 12:02d}-{1 + i % 28:02d}_CFA_{i:06d}_{i % 5000:04d}M_tracking"
            for i in range(self.n_recordings)
        )

    def files_of(self, name: str) -> RecordingFiles:
        """Its files, whether they are there or not."""
        annotations = ((n, self.annotations / f"prediction_{name}.mp4_{n}.csv") for n in range(1, self.n_trials + 1))
        return RecordingFiles(name, self.videos / f"{name}.mp4", self._table(name), tuple(annotations))

    def metas(self) -> Iterator[tuple[RecordingMeta, str]]:
        """Metadata of each recording, and the real folder behind it."""
        for name, (meta, folder) in zip(self.names(), itertools.cycle(self.real()), strict=False):
            files = self.files_of(name)
            clips = tuple(
                dataclasses.replace(rows, trial=trial, annotation=str(path))
                for rows, (trial, path) in zip(meta.clips, files.annotations, strict=True)
            )
            yield (
                dataclasses.replace(
                    meta,
                    recording=name,
                    video=str(files.video),
                    dlc=str(files.dlc),
                    clips=clips,
                    notes=(),
                    fingerprints={part: digest(part, name) for part in meta.fingerprints},
                    settings=dataclasses.asdict(self.settings),
                ),
                folder,
            )

    def index(self) -> index.Index:
        recordings = {meta.recording: meta for meta, _ in self.metas()}
        return index.Index(recordings, {name: self.folder_of(name) for name in recordings}, ())

    def folder_of(self, name: str) -> str:
        return f"{name}.{digest('folder', name)[:8]}.zarr"

    def make_recordings(self) -> None:
        """A cache without an index, in whose folder all recordings lie."""
        folder = self.cache / index.RECORDINGS
        folder.mkdir(parents=True)
        index.write_format(self.cache, self.settings.store)
        for meta, real in self.metas():
            (folder / self.folder_of(meta.recording)).symlink_to(f"../../real/cache/{index.RECORDINGS}/{real}")

    def make_inputs(self) -> None:
        """Empty videos and annotations, and tables that have a header and no row."""
        for folder in (self.videos, self.annotations):
            folder.mkdir(parents=True)
        lines = next((self._real / "Videos").glob("*.csv")).read_text().splitlines()[:3]
        header = "\n".join(lines) + "\n"
        for name in self.names():
            files = self.files_of(name)
            for path in (files.video, *(path for _, path in files.annotations)):
                path.touch()
            files.dlc.write_text(header)

    def seen(self) -> seen.Seen:
        """What a run remembers that made all of the cache from these inputs."""
        shaping = seen.shaping_of(self.settings)
        found = seen.Seen(frames_per_s=1000.0)
        for name, meta in clip_cache.index.read_index(self.cache).recordings.items():
            files = self.files_of(name)
            stamps = {}
            for path in seen.paths_of(files):
                stat = path.stat()
                stamps[str(path)] = seen.Stamp(stat.st_size, stat.st_mtime_ns, digest("content", path.name))
            key = seen.key_of(files, shaping, stamps.values())
            found.recordings[name] = seen.SeenRecording(key, meta.fingerprints, stamps, (), None)
            table = files.dlc.stat()
            found.headers[str(files.dlc)] = (table.st_size, table.st_mtime_ns, None)
        return found

    def _table(self, name: str) -> Path:
        return self.videos / f"{name}{NETWORK}.csv"


def digest(*words: str) -> str:
    """32 hexadecimal digits that look random."""
    return hashlib.blake2b("/".join(words).encode(), digest_size=16).hexdigest()
