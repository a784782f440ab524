"""What a run of the stage would do, and about how long it would take; nothing is written."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cache import Place, RecordingMeta, index
from pipeline.preprocess import seen
from pipeline.preprocess.decode import decode
from pipeline.preprocess.discovery import Skip, discover
from pipeline.preprocess.probe import VideoError, VideoFacts, probe
from pipeline.preprocess.stage import Progress, check_settings
from pipeline.preprocess.staleness import UNUSABLE, Examined, Job, Task, examine, packed_as_wanted, skip_for
from pipeline.preprocess_settings import PreprocessSettings

TRIED_BLOCKS = 3  # decoded to find out how fast that goes, where no run has


@dataclass(frozen=True)
class RecordingStatus:
    """What would be done for a recording.

    state: `new`, `fresh`, what is stale (`frames`, `keypoints`, `labels`, joined by `+`), or `removed` (its files are
    gone, it is in the cache). why: what differs. n_decode: frames to decode.
    """

    recording: str
    state: str
    why: tuple[str, ...] = ()
    n_decode: int = 0


@dataclass(frozen=True)
class Status:
    """seconds: what the run would take, about; None where that cannot be told."""

    recordings: tuple[RecordingStatus, ...]
    skipped: tuple[Skip, ...]
    seconds: float | None

    @property
    def n_stale(self) -> int:
        """Recordings that a run would make, or make again."""
        return sum(row.state not in ("fresh", "removed") for row in self.recordings)

    @property
    def n_removed(self) -> int:
        """Recordings in the cache whose files are gone."""
        return sum(row.state == "removed" for row in self.recordings)

    @property
    def n_decode(self) -> int:
        """Frames that it would decode."""
        return sum(row.n_decode for row in self.recordings)


def status(
    settings: PreprocessSettings,
    *,
    cache: Place,
    videos: Path | None = None,
    annotations: Path | None = None,
    dlc: Path | None = None,
    progress: Progress | None = None,
) -> Status:
    """Looks at every file that is not as it was; decodes a few frames at most, to say how long it will take.

    Raises SettingsError, DiscoveryError or CacheError.
    """
    check_settings(settings)
    remembered = seen.load(cache)
    recordings = _in_cache(cache)
    found = discover(videos, annotations, dlc, settings, remembered.header_fault)
    shaping = seen.shaping_of(settings)
    named = {files.name for files in found.recordings} | {skip.recording for skip in found.skipped}
    rows = [RecordingStatus(name, "removed") for name in recordings.keys() - named]
    skipped, jobs = list(found.skipped), []
    for done, files in enumerate(found.recordings):
        if progress:
            progress(files.name, done, len(found.recordings))
        old, known = recordings.get(files.name), remembered.recordings.get(files.name)
        unchanged = seen.unchanged(files, shaping, old, known)
        if old is not None and known is not None and unchanged and packed_as_wanted(old, settings):
            rows.append(RecordingStatus(files.name, "fresh"))
            skipped += known.skipped
            continue
        examined = _examined(Task(files, settings, old, None, known), skipped)
        if examined is not None and examined.state is not None:
            rows.append(RecordingStatus(files.name, examined.state, examined.why, examined.n_decode))
            jobs += [examined.job] if examined.job and examined.n_decode else []
    rows.sort(key=lambda row: row.recording)
    skipped.sort(key=lambda skip: skip.place)
    n_decode = sum(row.n_decode for row in rows)
    rate = remembered.frames_per_s or next(filter(None, map(_tried_rate, jobs)), None) if n_decode else 1.0
    return Status(tuple(rows), tuple(skipped), n_decode / rate if rate else None)


def _in_cache(cache: Place) -> dict[str, RecordingMeta]:
    """The recordings of a cache, none where there is no cache yet. Raises CacheError."""
    if not (cache / index.FORMAT_FILE).exists():
        return {}
    index.read_format(cache)
    return index.read_index(cache).recordings if (cache / index.INDEX_FILE).exists() else {}


def _examined(task: Task, skipped: list[Skip]) -> Examined | None:
    name = task.files.name
    try:
        examined = examine(task, lambda done, total: None)
    except UNUSABLE as error:
        skipped.append(skip_for(name, error))
    else:
        skipped += examined.skipped
        return examined
    return None


def _tried_rate(job: Job) -> float | None:
    """Frames/s of a video's first frames; None where they cannot be decoded."""
    video, summary = job.task.files.video, job.source.summary
    if video is None or summary is None:
        return None
    started, n_frames = time.perf_counter(), 0
    try:
        facts = summary if isinstance(summary, VideoFacts) else probe(video)
        blocks = decode(
            video, facts, stop=job.plan.stop, geometry=job.source.geometry, channels=job.task.settings.channels,
            decoder="pyav",
        )  # fmt: skip
        n_frames = sum(len(block) for block, _ in islice(blocks, TRIED_BLOCKS))
    except VideoError:
        return None
    return n_frames / (time.perf_counter() - started)
