"""One recording into the cache: what is stale is made again, the rest is kept."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cache import CacheWriter, Geometry, RecordingMeta, Writer, fingerprint
from pipeline.preprocess.decode import DECODE_VERSION, DecordError, VideoError, VideoFacts, decode, probe
from pipeline.preprocess.discovery import RecordingFiles, Skip
from pipeline.preprocess.keypoints import DlcTable, KeypointError, align, read_dlc
from pipeline.preprocess.trials import Plan, plan_trials
from pipeline.settings import PreprocessSettings, SettingsError, parse_list

TABLE_VERSION = 1  # of what is made from DLC tables and annotations; frames have DECODE_VERSION
_OUTSIDE_SHARE = 0.05  # of the keypoints may lie outside the picture before that is said
_BY_PYAV = "decoded with PyAV, not decord: "

# progress(recording, frames done, frames to do)
Progress = Callable[[str, int, int], None]


class UnusableError(ValueError):
    """The files of a recording do not fit each other; the message is the reason."""


@dataclass(frozen=True)
class RecordingReport:
    """What was done for one recording.

    state: `new`, `fresh` (nothing to do), what was made again (`frames`, `keypoints`, `labels`, joined by `+`), or
    `removed` (its files are gone, it stays in the cache). frames: of all its clips.
    """

    recording: str
    state: str
    trials: int
    frames: int
    decoder: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """Length and picture of a recording: of its video or, without one, of its DLC table; the other is None."""

    n_frames: int
    geometry: Geometry
    facts: VideoFacts | None
    table: DlcTable | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    """What is known of a recording before its frames are read."""

    files: RecordingFiles
    settings: PreprocessSettings
    source: _Source
    plan: Plan
    table: DlcTable
    keys: dict[str, str]
    notes: tuple[str, ...]


def update(
    cache: CacheWriter, files: RecordingFiles, settings: PreprocessSettings, progress: Progress | None
) -> tuple[RecordingReport | None, tuple[Skip, ...]]:
    """Bring one recording of the cache up to date; no report where none of its trials can be used.

    Raises VideoError, KeypointError or UnusableError if the recording cannot be used at all.
    """
    source = _source(files, settings)
    plan = plan_trials(files, source.n_frames, settings)
    if not plan.trials:
        return None, (*plan.skipped, *(Skip(files.name, None, note, fault=False) for note in source.notes))
    keys = _fingerprints(files, source, plan, settings)
    old = cache.recordings.get(files.name)
    stale = fingerprint.differences(old.fingerprints, keys) if old else []
    if old and not stale:
        return report_of(old, "fresh"), plan.skipped
    table = source.table or read_dlc(files.dlc)
    notes = (*source.notes, *plan.notes, *_check_table(table, source, settings.dlc_slack))
    job = _Job(files, settings, source, plan, table, keys, notes)
    if old and "frames" not in stale:
        _rewrite(cache, job, old)
    else:
        _decode(cache, job, progress)
    return report_of(cache.recordings[files.name], "+".join(stale) if old else "new"), plan.skipped


def report_of(meta: RecordingMeta, state: str) -> RecordingReport:
    return RecordingReport(meta.recording, state, len(meta.clips), meta.n_frames, meta.decoder, meta.notes)


def parse_frame_size(text: str) -> tuple[int, int] | None:
    """`1280x720` -> (1280, 720), nothing -> None. Raises SettingsError."""
    if not text:
        return None
    size = re.fullmatch(r"([1-9][0-9]*)[xX]([1-9][0-9]*)", text)
    if size is None:
        raise SettingsError(f"--frame-size {text}: expected WIDTHxHEIGHT in pixels, for example 1280x720")
    return int(size[1]), int(size[2])


def _source(files: RecordingFiles, settings: PreprocessSettings) -> _Source:
    if files.video is not None:
        facts = probe(files.video)
        geometry = Geometry.fit(facts.width, facts.height, settings.img_size)
        return _Source(facts.n_frames, geometry, facts, None, (facts.note,) if facts.note else ())
    table = read_dlc(files.dlc)
    n_frames = int(table.frames[-1]) + 1
    if size := parse_frame_size(settings.frame_size):
        return _Source(n_frames, Geometry.pose_only(*size), None, table, ())
    if np.isnan(table.values[..., :2]).all():
        raise KeypointError(f"{files.dlc}: not one row has a keypoint")
    side = math.floor(np.nanmax(table.values[..., :2])) + 1
    note = f"size of the picture not known, {side}x{side} taken from the largest coordinate (--frame-size)"
    return _Source(n_frames, Geometry.pose_only(side, side), None, table, (note,))


def _check_table(table: DlcTable, source: _Source, slack: int) -> list[str]:
    """What to say of a table that fits the recording; raises UnusableError for one that does not."""
    n_frames = source.n_frames
    n_inside = int((table.frames < n_frames).sum())
    rows = f"the DLC table has {len(table.frames)} rows (frames {table.frames[0]} to {table.frames[-1]})"
    of = f"the {'video' if source.facts else 'recording'} {n_frames} frames"
    if max(n_frames - n_inside, len(table.frames) - n_inside) > slack:
        more = "".join(f"; {note}" for note in source.notes)
        raise UnusableError(f"{rows}, {of}: is it of another version of it? (--dlc-slack {slack}){more}")
    notes = [] if n_inside == n_frames == len(table.frames) else [f"{rows}, {of}"]
    notes += table.notes
    xy = table.values[:n_inside, :, :2]
    visible = ~np.isnan(xy[..., 0])
    outside = (xy < 0) | (xy >= (source.geometry.width, source.geometry.height))
    share = outside.any(axis=-1).sum() / max(1, visible.sum())
    if share > _OUTSIDE_SHARE:
        notes.append(f"{share:.0%} of the keypoints lie outside the picture: is the DLC table of this very video?")
    return notes


def _fingerprints(files: RecordingFiles, source: _Source, plan: Plan, settings: PreprocessSettings) -> dict[str, str]:
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
        "annotations": [
            [trial.number, trial.annotation.name, _content(trial.annotation)] if trial.annotation else [trial.number]
            for trial in plan.trials
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
        raise UnusableError(f"{path} cannot be read: {error.strerror or error}") from None


def _rewrite(cache: CacheWriter, job: _Job, old: RecordingMeta) -> None:
    """A new version of a recording with the frames of the old one."""
    fallback = tuple(note for note in old.notes if note.startswith(_BY_PYAV))
    with _writing(cache, job.files.name) as writer:
        if old.has_frames:
            writer.copy_frames_from(cache.reader(job.files.name))
        _finish(writer, job, old.decoder, fallback)


def _decode(cache: CacheWriter, job: _Job, progress: Progress | None) -> None:
    """A new version of a recording from its video (if it has one), by the decoder that can be trusted with it."""
    video, facts, wanted = job.files.video, job.source.facts, job.settings.decoder
    if video is None or facts is None:
        with _writing(cache, job.files.name) as writer:
            _finish(writer, job, None, ())
        return
    if wanted == "decord" and facts.distrust:
        raise VideoError(f"{video}: decord gives wrong frames here, in silence: {facts.distrust}; use --decoder auto")
    reason = facts.distrust if wanted == "auto" else None
    if wanted != "pyav" and reason is None:
        try:
            _decode_with(cache, job, video, facts, "decord", (), progress)
        except DecordError as error:
            if wanted == "decord":
                raise
            reason = str(error).removeprefix(f"{video}: ")
        else:
            return
    _decode_with(cache, job, video, facts, "pyav", (_BY_PYAV + reason,) if reason else (), progress)


def _decode_with(
    cache: CacheWriter,
    job: _Job,
    video: Path,
    facts: VideoFacts,
    decoder: str,
    notes: tuple[str, ...],
    progress: Progress | None,
) -> None:
    plan, settings = job.plan, job.settings
    with _writing(cache, job.files.name) as writer:
        blocks = decode(
            video,
            facts,
            stop=plan.stop,
            geometry=job.source.geometry,
            channels=settings.channels,
            decoder=decoder,
        )
        n_done = 0
        for block in blocks:
            for start, stop in plan.ranges:
                wanted = block[max(0, start - n_done) : max(0, stop - n_done)]
                if len(wanted):
                    writer.append_frames(wanted)
            n_done += len(block)
            if progress:
                progress(job.files.name, n_done, plan.stop)
        _finish(writer, job, decoder, notes)


@contextmanager
def _writing(cache: CacheWriter, recording: str) -> Iterator[Writer]:
    """A writer whose half-made recording is discarded if anything goes wrong."""
    writer = cache.writer(recording)
    try:
        yield writer
    except BaseException:
        writer.discard()
        raise


def _finish(writer: Writer, job: _Job, decoder: str | None, notes: tuple[str, ...]) -> None:
    """The arrays that stand beside the frames, from the same ranges of the recording."""
    facts, geometry = job.source.facts, job.source.geometry
    frame_index = np.concatenate([np.arange(start, stop) for start, stop in job.plan.ranges]).astype(np.int32)
    meta = RecordingMeta(
        recording=job.files.name,
        video=str(job.files.video) if job.files.video else None,
        dlc=str(job.files.dlc),
        geometry=geometry,
        channels=job.settings.channels,
        fps=facts.fps if facts and math.isfinite(facts.fps) else None,
        decoder=decoder,
        keypoint_names=job.table.names,
        class_names=parse_list(job.settings.classes, "classes"),
        clips=job.plan.clip_rows(),
        fingerprints=job.keys,
        notes=job.notes + notes,
        settings=asdict(job.settings),
    )
    writer.finish(
        meta,
        keypoints=align(job.table, frame_index, geometry.width, geometry.height),
        labels=np.concatenate([trial.labels for trial in job.plan.trials]),
        frame_index=frame_index,
        time_s=facts.time_s[frame_index] if facts else np.full(len(frame_index), np.nan),
    )
