"""One recording: what is stale of it, and a new version of it for the cache, in which the rest is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cache import CacheError, Finished, RecordingMeta, Writer, fingerprint, open_reader
from pipeline.preprocess import seen
from pipeline.preprocess.decode import DECODE_VERSION, DecordError, VideoError, VideoFacts, decode, probe
from pipeline.preprocess.discovery import RecordingFiles, Skip
from pipeline.preprocess.keypoints import DlcTable, KeypointError, align, read_dlc
from pipeline.preprocess.seen import TABLE_VERSION, SeenRecording, Stamp
from pipeline.preprocess.source import Source, UnusableError, check_table, require_files, source_of
from pipeline.preprocess.text_table import UnreadableError
from pipeline.preprocess.trials import Plan, plan_trials
from pipeline.settings import PreprocessSettings, parse_list

_BY_PYAV = "decoded with PyAV, not decord: "

# progress(frames done, frames to do); (0, 0) while something else than decoding goes on
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Task:
    """A recording to look at. old, old_path: its version in the cache, if any; seen: what is remembered of that."""

    files: RecordingFiles
    settings: PreprocessSettings
    old: RecordingMeta | None = None
    old_path: Path | None = None
    seen: SeenRecording | None = None


@dataclass(frozen=True)
class Examined:
    """What is to be done for a recording, before anything is.

    state: `new`, `fresh` (nothing), what must be made again (`frames`, `keypoints`, `labels`, joined by `+`), or None
    where none of its trials can be used. why: what differs from the version in the cache. n_decode: frames to decode.
    meta: the description of a fresh recording, with today's paths. job: what `make` needs.
    """

    recording: str
    state: str | None
    why: tuple[str, ...]
    n_decode: int
    skipped: tuple[Skip, ...]
    seen: SeenRecording
    meta: RecordingMeta | None = None
    job: Job | None = None


@dataclass(frozen=True)
class Job:
    """What is known of a recording before its frames are read."""

    task: Task
    source: Source
    plan: Plan
    keys: dict[str, str]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.task.files.name


@dataclass(frozen=True)
class Result:
    """What became of a recording; travels back from the process that made it.

    state and skipped: as in Examined. finished: the new version, to be taken into the cache. meta: of a fresh one.
    n_decoded frames took seconds.
    """

    recording: str
    state: str | None
    skipped: tuple[Skip, ...]
    meta: RecordingMeta | None = None
    finished: Finished | None = None
    seen: SeenRecording | None = None
    n_decoded: int = 0
    seconds: float = 0.0


def work(task: Task, recordings: Path, store: str, progress: Progress) -> Result:
    """Examine a recording and write what is stale of it into the folder `recordings` of the cache.

    Whatever is wrong with its files becomes a Skip. Raises OSError where the cache cannot be written.
    """
    name = task.files.name
    try:
        examined = examine(task, progress)
        if examined.job is None:
            return Result(name, examined.state, examined.skipped, examined.meta, seen=examined.seen)
        started = time.perf_counter()
        state, finished = make(examined, recordings, store, progress)
        n_decoded = examined.n_decode if "frames" in state or state == "new" else 0
        result = Result(
            name, state, examined.skipped, None, finished, examined.seen, n_decoded, time.perf_counter() - started
        )
        if changed := _changed(task.files, examined.seen.stamps):
            finished.discard()
            raise UnreadableError(f"{changed} changed while it was read; run preprocess again")
    except UnreadableError as error:
        return Result(name, None, (Skip(name, None, str(error), passing=True),))
    except (VideoError, KeypointError, UnusableError) as error:
        return Result(name, None, (Skip(name, None, str(error)),))
    return result


def examine(task: Task, progress: Progress) -> Examined:
    """What is stale of a recording, and why; decodes nothing, and reads no file that is known.

    Raises VideoError, KeypointError or UnusableError if the recording cannot be used at all, UnreadableError if that
    may pass.
    """
    files, settings, old, known = task.files, task.settings, task.old, task.seen
    require_files(files, old)
    stamps = seen.stamp_all(files, known, lambda: progress(0, 0))
    key = seen.key_of(files, seen.shaping_of(settings), stamps.values())
    if old and known and key == known.key and old.fingerprints == known.fingerprints:
        now = replace(known, stamps=stamps)
        return Examined(files.name, "fresh", (), 0, known.skipped, now, describe(old, files, settings))
    source = source_of(files, settings, _known_video(files, stamps, known))
    progress(0, 0)
    plan = plan_trials(files, source.n_frames, settings)
    summary = source.summary.summary() if isinstance(source.summary, VideoFacts) else source.summary
    notes = (*files.notes, *source.notes, *plan.notes)
    keys = _fingerprints(files, source, plan, settings, stamps)
    now = SeenRecording(key, keys, stamps, plan.skipped, summary)
    if not plan.trials:
        skipped = (*plan.skipped, *(Skip(files.name, None, note, fault=False) for note in notes))
        return Examined(files.name, None, (), 0, skipped, now)
    stale = fingerprint.differences(old.fingerprints, keys) if old else list(fingerprint.PARTS)
    if old and not stale:
        meta = replace(describe(old, files, settings), clips=plan.clip_rows())
        return Examined(files.name, "fresh", (), 0, plan.skipped, now, meta)
    job = Job(task, source, plan, keys, notes)
    n_decode = plan.stop if "frames" in stale and files.video else 0
    state = "+".join(stale) if old else "new"
    return Examined(files.name, state, _why(task, stamps), n_decode, plan.skipped, now, job=job)


def make(examined: Examined, recordings: Path, store: str, progress: Progress) -> tuple[str, Finished]:
    """The new version of a recording that is not fresh, and what was made again. Raises as `examine` does."""
    job = examined.job
    assert job is not None
    assert examined.state is not None
    table = job.source.table or read_dlc(job.task.files.dlc)
    job = replace(job, notes=(*job.notes, *check_table(table, job.source, job.task.settings.dlc_slack)))
    state, old = examined.state, job.task.old
    stale = state.split("+")
    if old and "frames" not in stale and (finished := _rewrite(job, table, old, recordings, store)):
        return state, finished
    if old and "frames" not in stale:  # the version in the cache is damaged
        state = "+".join(["frames", *stale])
    return state, _decode(job, table, recordings, store, progress)


def describe(old: RecordingMeta, files: RecordingFiles, settings: PreprocessSettings) -> RecordingMeta:
    """What is said of a recording that stays as it is: where its files are today, and under which settings."""
    annotations = {path.name: str(path) for _, path in files.annotations}
    clips = tuple(
        replace(clip, annotation=annotations.get(Path(clip.annotation).name, clip.annotation))
        if clip.annotation
        else clip
        for clip in old.clips
    )
    return replace(old, **_paths(files), clips=clips, settings=asdict(settings))


def _known_video(files: RecordingFiles, stamps: dict[str, Stamp], known: SeenRecording | None) -> Any:
    """What was found out of this very video before, or None."""
    if files.video is None or known is None:
        return None
    content = seen.content_of(stamps, files.video)
    return known.video if content in {each.content for each in known.stamps.values()} else None


def _why(task: Task, stamps: dict[str, Stamp]) -> tuple[str, ...]:
    """Which settings and files differ from those that the version in the cache was made from."""
    if task.old is None:
        return ()
    former, now = task.old.settings, asdict(task.settings)
    lines = [f"{name}: {former.get(name)} -> {value}" for name, value in now.items() if former.get(name) != value]
    if task.seen is None:
        return tuple(lines)
    before = {Path(path).name: each.content for path, each in task.seen.stamps.items()}
    after = {Path(path).name: each.content for path, each in stamps.items()}
    lines += [f"{name} is new" for name in after if name not in before]
    lines += [f"{name} changed" for name in after if name in before and before[name] != after[name]]
    lines += [f"{name} is gone" for name in before if name not in after]
    return tuple(lines or ["another version of the program made it"])


def _changed(files: RecordingFiles, stamps: dict[str, Stamp]) -> Path | None:
    """A file that has changed since its content was read: nobody knows what was made of it."""
    pairs = zip(seen.paths_of(files), stamps.values(), strict=True)
    return next((path for path, each in pairs if not each.looks_like(path)), None)


def _fingerprints(
    files: RecordingFiles, source: Source, plan: Plan, settings: PreprocessSettings, stamps: dict[str, Stamp]
) -> dict[str, str]:
    """Of everything that frames, keypoints and labels are made from."""
    geometry = source.geometry
    frames = {
        "video": seen.content_of(stamps, files.video) if files.video else None,
        "version": DECODE_VERSION,
        "ranges": plan.ranges,
        "pixels": [settings.img_size, settings.channels, settings.decoder] if files.video else None,
    }
    keypoints = {
        "dlc": seen.content_of(stamps, files.dlc),
        "version": TABLE_VERSION,
        "ranges": plan.ranges,
        "picture": [source.n_frames, geometry.width, geometry.height],
        "slack": settings.dlc_slack,
    } | ({"lag": settings.dlc_lag} if settings.dlc_lag else {})  # caches from before there was a lag stay fresh
    labels = {
        "annotations": [
            seen.content_of(stamps, trial.annotation) if trial.annotation else None for trial in plan.trials
        ],
        "clips": [
            vars(rows) | {"annotation": trial.annotation.name if trial.annotation else None}
            for rows, trial in zip(plan.clip_rows(), plan.trials, strict=True)
        ],
        "version": TABLE_VERSION,
        "ranges": plan.ranges,
        "classes": parse_list(settings.classes, "classes"),
        "notes": plan.notes,
    }
    parts: dict[str, dict[str, Any]] = {"frames": frames, "keypoints": keypoints, "labels": labels}
    return {name: fingerprint.of_values(**values) for name, values in parts.items()}


def _paths(files: RecordingFiles) -> dict[str, Any]:
    return {"video": str(files.video) if files.video else None, "dlc": str(files.dlc)}


def _rewrite(job: Job, table: DlcTable, old: RecordingMeta, recordings: Path, store: str) -> Finished | None:
    """A new version of a recording with the frames of the old one; None where that is damaged."""
    fallback = tuple(note for note in old.notes if note.startswith(_BY_PYAV))
    assert job.task.old_path is not None
    try:
        with _writing(job, recordings, store) as writer:
            reader = open_reader(job.task.old_path)
            if old.has_frames:
                writer.copy_frames_from(reader)
            time_s = reader.read("time_s", 0, old.n_frames)
            return _finish(writer, job, table, old.decoder, fallback, time_s)
    except CacheError:
        return None


def _decode(job: Job, table: DlcTable, recordings: Path, store: str, progress: Progress) -> Finished:
    """A new version of a recording from its video (if it has one), by the decoder that can be trusted with it."""
    video, summary, wanted = job.task.files.video, job.source.summary, job.task.settings.decoder
    if video is None or summary is None:
        with _writing(job, recordings, store) as writer:
            return _finish(writer, job, table, None, (), np.full(len(job.plan.frame_index), np.nan))
    facts = summary if isinstance(summary, VideoFacts) else probe(video)
    if wanted == "decord" and facts.distrust:
        raise VideoError(f"{video}: decord gives wrong frames here, in silence: {facts.distrust}; use --decoder auto")
    reason = facts.distrust if wanted == "auto" else None

    def decode_with(decoder: str, notes: tuple[str, ...]) -> Finished:
        with _writing(job, recordings, store) as writer:
            for block in _wanted_frames(job, video, facts, decoder, progress):
                writer.append_frames(block)
            return _finish(writer, job, table, decoder, notes, facts.time_s[job.plan.frame_index])

    if wanted != "pyav" and reason is None:
        try:
            return decode_with("decord", ())
        except DecordError as error:
            if wanted == "decord":
                raise
            reason = str(error).removeprefix(f"{video}: ")
    return decode_with("pyav", (_BY_PYAV + reason,) if reason else ())


def _wanted_frames(job: Job, video: Path, facts: VideoFacts, decoder: str, progress: Progress) -> Iterator[np.ndarray]:
    """The frames of all trials one after the other, in blocks."""
    plan, n_done = job.plan, 0
    blocks = decode(
        video, facts, stop=plan.stop, geometry=job.source.geometry, channels=job.task.settings.channels, decoder=decoder
    )
    for block in blocks:
        for start, stop in plan.ranges:
            wanted = block[max(0, start - n_done) : max(0, stop - n_done)]
            if len(wanted):
                yield wanted
        n_done += len(block)
        progress(n_done, plan.stop)


@contextmanager
def _writing(job: Job, recordings: Path, store: str) -> Iterator[Writer]:
    """A writer whose half-made recording is discarded if anything goes wrong."""
    writer = Writer(recordings, store, job.name)
    try:
        yield writer
    except BaseException:
        writer.discard()
        raise


def _finish(
    writer: Writer,
    job: Job,
    table: DlcTable,
    decoder: str | None,
    notes: tuple[str, ...],
    time_s: np.ndarray,
) -> Finished:
    """The arrays that stand beside the frames, from the same ranges of the recording."""
    summary, geometry, settings = job.source.summary, job.source.geometry, job.task.settings
    frame_index = job.plan.frame_index
    meta = RecordingMeta(
        recording=job.name,
        **_paths(job.task.files),
        geometry=geometry,
        channels=settings.channels,
        fps=summary.fps if summary and math.isfinite(summary.fps) else None,
        decoder=decoder,
        keypoint_names=table.names,
        class_names=parse_list(settings.classes, "classes"),
        clips=job.plan.clip_rows(),
        fingerprints=job.keys,
        notes=job.notes + notes,
        settings=asdict(settings),
    )
    return writer.finish(
        meta,
        keypoints=align(table, frame_index, geometry.width, geometry.height, settings.dlc_lag),
        labels=np.concatenate([trial.labels for trial in job.plan.trials]),
        frame_index=frame_index,
        time_s=time_s,
    )
