"""One recording into the cache: what is stale is made again, the rest is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cache import CacheError, CacheWriter, Damage, RecordingMeta, Writer, fingerprint
from cache.store import explained
from pipeline.preprocess.decode import DECODE_VERSION, DecordError, decode
from pipeline.preprocess.discovery import RecordingFiles, Skip
from pipeline.preprocess.keypoints import DlcTable, align, read_dlc
from pipeline.preprocess.probe import VideoError, VideoFacts
from pipeline.preprocess.source import Source, check_table, require_files, source_of
from pipeline.preprocess.text_table import UnreadableError
from pipeline.preprocess.trials import Plan, damage_of, leave_out_damaged, plan_trials
from pipeline.settings import PreprocessSettings, parse_list

TABLE_VERSION = 2  # of what is made from DLC tables and annotations; frames have DECODE_VERSION
_BY_PYAV = "decoded with PyAV, not decord: "
_NAMED_STRETCHES = 5  # of damaged frames in a note

# progress(recording, frames done, frames to do)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RecordingReport:
    """What was done for one recording.

    state: `new`, `fresh` (nothing to do), what was made again (`frames`, `keypoints`, `labels`, joined by `+`),
    `removed` (its files are gone, it stays in the cache), or `kept` (they cannot be read now, it stays too).
    frames: of all its clips.
    """

    recording: str
    state: str
    trials: int
    frames: int
    decoder: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    """What is known of a recording before its frames are read."""

    files: RecordingFiles
    settings: PreprocessSettings
    source: Source
    plan: Plan
    table: DlcTable
    keys: dict[str, str]
    notes: tuple[str, ...]


def update(
    cache: CacheWriter, files: RecordingFiles, settings: PreprocessSettings, progress: Progress | None
) -> tuple[RecordingReport | None, tuple[Skip, ...]]:
    """Bring one recording of the cache up to date; no report where none of its trials can be used.

    Raises VideoError, KeypointError or UnusableError if the recording cannot be used at all, UnreadableError if that
    may pass.
    """
    old = cache.recordings.get(files.name)
    require_files(files, old)
    source = source_of(files, settings)
    plan = whole = plan_trials(files, source.n_frames, settings)
    known = (*files.notes, *source.notes, *plan.notes)
    if not plan.trials:
        return None, (*plan.skipped, *(Skip(files.name, None, note, fault=False) for note in known))
    keys = _fingerprints(files, source, plan, settings)
    stale = fingerprint.differences(old.fingerprints, keys) if old else []
    usable = leave_out_damaged(plan, files.name, old.damage, settings.max_damaged) if old else plan
    if old and "frames" not in stale and usable.ranges == [clip.video_range for clip in old.clips]:
        plan = usable
    elif old and "frames" not in stale:
        stale = ["frames", *stale]  # of another --max-damaged
    if old and not stale:
        _describe_anew(cache, old, files, plan, settings)
        return report_of(cache.recordings[files.name], "fresh"), plan.skipped
    table = source.table or read_dlc(files.dlc)
    notes = (*known, *check_table(table, source, settings.dlc_slack))
    job = _Job(files, settings, source, plan, table, keys, notes)
    if not (old and "frames" not in stale and _rewrite(cache, job, old)):
        plan = _decode(cache, replace(job, plan=whole), progress)
        stale = ["frames", *(part for part in stale if part != "frames")]
    if not plan.trials:
        return None, plan.skipped
    return report_of(cache.recordings[files.name], "+".join(stale) if old else "new"), plan.skipped


def report_of(meta: RecordingMeta, state: str) -> RecordingReport:
    return RecordingReport(meta.recording, state, len(meta.clips), meta.n_frames, meta.decoder, meta.notes)


def _fingerprints(files: RecordingFiles, source: Source, plan: Plan, settings: PreprocessSettings) -> dict[str, str]:
    """Of everything that frames, keypoints and labels are made from."""
    geometry = source.geometry
    frames = {
        "video": _content(files.video) if files.video else None,
        "version": DECODE_VERSION,
        "ranges": plan.ranges,
        "pixels": [settings.img_size, settings.channels, settings.decoder] if files.video else None,
    }
    keypoints = {
        "dlc": _content(files.dlc),
        "version": TABLE_VERSION,
        "ranges": plan.ranges,
        "picture": [source.n_frames, geometry.width, geometry.height],
        "slack": settings.dlc_slack,
    }
    labels = {
        "annotations": [_content(trial.annotation) if trial.annotation else None for trial in plan.trials],
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


def _content(path: Path) -> str:
    try:
        return fingerprint.of_file(path)
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror or error}") from None


def _describe_anew(
    cache: CacheWriter, old: RecordingMeta, files: RecordingFiles, plan: Plan, settings: PreprocessSettings
) -> None:
    """Say where the files are today, and under which settings nothing had to be made again."""
    meta = replace(old, **_paths(files), clips=plan.clip_rows(), settings=asdict(settings))
    if meta != old:
        cache.describe(meta)


def _paths(files: RecordingFiles) -> dict[str, Any]:
    return {"video": str(files.video) if files.video else None, "dlc": str(files.dlc)}


def _rewrite(cache: CacheWriter, job: _Job, old: RecordingMeta) -> bool:
    """A new version of a recording with the frames of the old one; False where that is damaged."""
    fallback = tuple(note for note in old.notes if note.startswith(_BY_PYAV))
    try:
        with _writing(cache, job.files.name) as writer:
            former = cache.reader(job.files.name)
            if old.has_frames:
                writer.copy_frames_from(former)
            with explained(former.path):
                intact = former.read("intact", 0, old.n_frames)
            _finish(writer, job, old.decoder, fallback, intact, old.damage)
    except CacheError:
        return False
    return True


def _decode(cache: CacheWriter, job: _Job, progress: Progress | None) -> Plan:
    """A new version of a recording from its video (if it has one), by the decoder that can be trusted with it.

    Returns the plan without the trials that are too damaged to be used; nothing is written if none is left.
    """
    video, facts, wanted = job.files.video, job.source.facts, job.settings.decoder
    if video is None or facts is None:
        with _writing(cache, job.files.name) as writer:
            _finish(writer, job, None, (), np.ones(job.plan.n_frames, dtype=bool), ())
        return job.plan
    if wanted == "decord" and facts.distrust:
        raise VideoError(f"{video}: decord gives wrong frames here, in silence: {facts.distrust}; use --decoder auto")
    reason = facts.distrust if wanted == "auto" else None
    if wanted != "pyav" and reason is None:
        try:
            return _decode_with(cache, job, video, facts, "decord", (), progress)
        except DecordError as error:
            if wanted == "decord":
                raise
            reason = str(error).removeprefix(f"{video}: ").removesuffix("; use --decoder auto")
    return _decode_with(cache, job, video, facts, "pyav", (_BY_PYAV + reason,) if reason else (), progress)


def _decode_with(
    cache: CacheWriter,
    job: _Job,
    video: Path,
    facts: VideoFacts,
    decoder: str,
    notes: tuple[str, ...],
    progress: Progress | None,
    known_damage: tuple[Damage, ...] = (),
) -> Plan:
    plan, name = job.plan, job.files.name
    with _writing(cache, name) as writer:
        intact = _write_frames(writer, job, video, facts, decoder, progress)
        damage = (*known_damage, *damage_of(plan, intact))
        usable = leave_out_damaged(plan, name, damage, job.settings.max_damaged)
        if len(usable.trials) == len(plan.trials):
            _finish(writer, job, decoder, notes, intact[plan.frame_index], damage)
            return plan
        writer.discard()
    if not usable.trials:
        return usable
    # Frames of the trials that turn out to be left out have been written: once more, without them.
    damage = tuple(each for each in damage if each.trial not in {trial.number for trial in usable.trials})
    return _decode_with(cache, replace(job, plan=usable), video, facts, decoder, notes, progress, damage)


def _write_frames(
    writer: Writer, job: _Job, video: Path, facts: VideoFacts, decoder: str, progress: Progress | None
) -> np.ndarray:
    """The frames of the plan's trials; returns which frames of the video, up to the last of these, are intact."""
    plan, settings = job.plan, job.settings
    intact = np.zeros(plan.stop, dtype=bool)
    blocks = decode(
        video,
        facts,
        stop=plan.stop,
        geometry=job.source.geometry,
        channels=settings.channels,
        decoder=decoder,
    )
    n_done = 0
    for block, block_intact in blocks:
        for start, stop in plan.ranges:
            wanted = block[max(0, start - n_done) : max(0, stop - n_done)]
            if len(wanted):
                writer.append_frames(wanted)
        intact[n_done : n_done + len(block)] = block_intact
        n_done += len(block)
        if progress:
            progress(job.files.name, n_done, plan.stop)
    return intact


@contextmanager
def _writing(cache: CacheWriter, recording: str) -> Iterator[Writer]:
    """A writer whose half-made recording is discarded if anything goes wrong."""
    writer = cache.writer(recording)
    try:
        yield writer
    except BaseException:
        writer.discard()
        raise


def _finish(
    writer: Writer,
    job: _Job,
    decoder: str | None,
    notes: tuple[str, ...],
    intact: np.ndarray,
    damage: tuple[Damage, ...],
) -> None:
    """The arrays that stand beside the frames, from the same ranges of the recording; intact: of these frames."""
    facts, geometry, frame_index = job.source.facts, job.source.geometry, job.plan.frame_index
    meta = RecordingMeta(
        recording=job.files.name,
        **_paths(job.files),
        geometry=geometry,
        channels=job.settings.channels,
        fps=facts.fps if facts and math.isfinite(facts.fps) else None,
        decoder=decoder,
        keypoint_names=job.table.names,
        class_names=parse_list(job.settings.classes, "classes"),
        clips=job.plan.clip_rows(),
        fingerprints=job.keys,
        notes=job.notes + notes + _damage_note(frame_index, intact),
        settings=asdict(job.settings),
        damage=damage,
    )
    writer.finish(
        meta,
        keypoints=align(job.table, frame_index, geometry.width, geometry.height),
        labels=np.concatenate([trial.labels for trial in job.plan.trials]),
        frame_index=frame_index,
        time_s=facts.time_s[frame_index] if facts else np.full(len(frame_index), np.nan),
        intact=intact,
    )


def _damage_note(frame_index: np.ndarray, intact: np.ndarray) -> tuple[str, ...]:
    """Which of the clips' frames are damaged, by their numbers in the video."""
    damaged = frame_index[~intact]
    if not len(damaged):
        return ()
    stretches = np.split(damaged, np.flatnonzero(np.diff(damaged) != 1) + 1)
    named = [f"{each[0]} to {each[-1]}" if len(each) > 1 else f"{each[0]}" for each in stretches[:_NAMED_STRETCHES]]
    if more := len(stretches) - len(named):
        named.append(f"and {more} more stretches")
    return (
        f"{len(damaged)} of {len(intact)} frames are damaged (frames {', '.join(named)}): "
        "left out of training and scores",
    )
