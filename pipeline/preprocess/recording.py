"""One recording: a new version of it for the cache, in which what is not stale is kept."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from cache import CacheError, Damage, Finished, RecordingMeta, Writer, open_reader
from cache.remote import Place, StoreError
from cache.store import explained
from pipeline.preprocess import seen
from pipeline.preprocess.decode import decode, trusted_decoder
from pipeline.preprocess.discovery import RecordingFiles, Skip
from pipeline.preprocess.keypoints import DlcTable, align, read_dlc
from pipeline.preprocess.probe import VideoFacts, probe
from pipeline.preprocess.seen import SeenRecording, Stamp
from pipeline.preprocess.source import check_table
from pipeline.preprocess.staleness import UNUSABLE, Examined, Job, Progress, Task, examine, paths_in_meta, skip_for
from pipeline.preprocess.text_table import UnreadableError
from pipeline.preprocess.trials import Plan, damage_note, damage_of, leave_out_damaged
from pipeline.setting_texts import parse_list


@dataclass(frozen=True)
class Result:
    """What became of a recording; travels back from the process that made it.

    state and skipped: as in Examined. finished: the new version, to be taken into the cache. meta: of a fresh one.
    n_decoded: frames, whether used or not.
    """

    recording: str
    state: str | None
    skipped: tuple[Skip, ...]
    meta: RecordingMeta | None = None
    finished: Finished | None = None
    seen: SeenRecording | None = None
    n_decoded: int = 0


def work(task: Task, recordings: Place, progress: Progress) -> Result:
    """Examine a recording and write what is stale of it into the folder `recordings` of the cache.

    Whatever is wrong with its files becomes a Skip. Raises OSError where the cache cannot be written.
    """
    name = task.files.name
    try:
        examined = examine(task, progress)
        if examined.job is None:
            return Result(name, examined.state, examined.skipped, examined.meta, seen=examined.seen)
        made = make(examined, recordings, progress)
        remembered = replace(examined.seen, skipped=made.skipped)
        result = Result(name, made.state, made.skipped, None, made.finished, remembered, made.n_decoded)
        if changed := _changed(task.files, examined.seen.stamps):
            if made.finished:
                made.finished.discard()
            raise UnreadableError(f"{changed} changed while it was read; run preprocess again")
    except UNUSABLE as error:
        return Result(name, None, (skip_for(name, error),))
    return result


@dataclass(frozen=True)
class Made:
    """A new version of a recording; none where all of its trials turned out to be too damaged. state as in Examined."""

    state: str | None
    finished: Finished | None
    skipped: tuple[Skip, ...]
    n_decoded: int


def make(examined: Examined, recordings: Place, progress: Progress) -> Made:
    """The new version of a recording that is not fresh. Raises as `examine` does."""
    job = examined.job
    assert job is not None
    assert examined.state is not None
    table = job.source.table or read_dlc(job.task.files.dlc)
    job = replace(job, notes=(*job.notes, *check_table(table, job.source, job.task.settings.dlc_slack)))
    state, old = examined.state, job.task.old
    stale = state.split("+")
    if old and "frames" not in stale and (finished := _rewrite(job, table, old, recordings, progress)):
        return Made(state, finished, job.plan.skipped, 0)
    if old and "frames" not in stale:  # the version in the cache is damaged
        state = "+".join(["frames", *stale])
    plan, finished = _decode(replace(job, plan=job.whole), table, recordings, progress)
    return Made(state if finished else None, finished, plan.skipped, job.whole.stop if job.task.files.video else 0)


def _changed(files: RecordingFiles, stamps: dict[str, Stamp]) -> Path | None:
    """A file that has changed since its content was read: nobody knows what was made of it."""
    pairs = zip(seen.paths_of(files), stamps.values(), strict=True)
    return next((path for path, each in pairs if not each.looks_like(path)), None)


def _rewrite(job: Job, table: DlcTable, old: RecordingMeta, recordings: Place, progress: Progress) -> Finished | None:
    """A new version of a recording with the frames of the old one; None where that is damaged."""
    assert job.task.old_path is not None
    try:
        with _writing(job, recordings, progress) as writer:
            reader = open_reader(job.task.old_path)
            if old.has_frames:
                writer.copy_frames_from(reader)
            with explained(reader.path):
                rows = {name: reader.read(name, 0, old.n_frames) for name in ("time_s", "intact")}
            return _finish(writer, job, table, old.decoder, rows, old.damage)
    except StoreError:
        raise
    except CacheError:
        return None


def _decode(job: Job, table: DlcTable, recordings: Place, progress: Progress) -> tuple[Plan, Finished | None]:
    """A new version of a recording from its video, if it has one.

    Returns the plan without the trials that are too damaged to be used; nothing is written if none is left.
    """
    video, summary = job.task.files.video, job.source.summary
    if video is None or summary is None:
        n = job.plan.n_frames
        rows = {"time_s": np.full(n, np.nan), "intact": np.ones(n, dtype=bool)}
        with _writing(job, recordings, progress) as writer:
            return job.plan, _finish(writer, job, table, None, rows, ())
    facts = summary if isinstance(summary, VideoFacts) else probe(video)
    decoder = trusted_decoder(job.task.settings.decoder, video, facts)
    left_out: tuple[Damage, ...] = ()
    while True:
        plan = job.plan
        with _writing(job, recordings, progress) as writer:
            intact = _write_frames(writer, job, video, facts, decoder, progress)
            damage = (*left_out, *damage_of(plan, intact))
            usable = leave_out_damaged(plan, job.name, damage, job.task.settings.max_damaged)
            if len(usable.trials) == len(plan.trials):
                rows = {"time_s": facts.time_s[plan.frame_index], "intact": intact[plan.frame_index]}
                return plan, _finish(writer, job, table, decoder, rows, damage)
            writer.discard()
        if not usable.trials:
            return usable, None
        # Frames of the trials that turn out to be left out have been written: once more, without them.
        left_out = tuple(each for each in damage if each.trial not in {trial.number for trial in usable.trials})
        job = replace(job, plan=usable)


def _write_frames(
    writer: Writer, job: Job, video: Path, facts: VideoFacts, decoder: str, progress: Progress
) -> np.ndarray:
    """The frames of the plan's trials; returns which frames of the video, up to the last of these, are intact."""
    plan, n_done = job.plan, 0
    intact = np.zeros(plan.stop, dtype=bool)
    blocks = decode(
        video, facts, stop=plan.stop, geometry=job.source.geometry, channels=job.task.settings.channels, decoder=decoder
    )
    for block, block_intact in blocks:
        for start, stop in plan.ranges:
            wanted = block[max(0, start - n_done) : max(0, stop - n_done)]
            if len(wanted):
                writer.append_frames(wanted)
        intact[n_done : n_done + len(block)] = block_intact
        n_done += len(block)
        progress(n_done, plan.stop)
    return intact


@contextmanager
def _writing(job: Job, recordings: Place, progress: Progress) -> Iterator[Writer]:
    """A writer whose half-made recording is discarded if anything goes wrong."""
    settings, alive = job.task.settings, partial(progress, 0, 0)
    writer = Writer(recordings, settings.store, job.name, compression=settings.compression, alive=alive)
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
    rows: dict[str, np.ndarray],
    damage: tuple[Damage, ...],
) -> Finished:
    """The arrays that stand beside the frames, from the same ranges of the recording; rows: time_s, intact of these."""
    summary, geometry, settings = job.source.summary, job.source.geometry, job.task.settings
    frame_index = job.plan.frame_index
    meta = RecordingMeta(
        recording=job.name,
        **paths_in_meta(job.task.files),
        geometry=geometry,
        channels=settings.channels,
        fps=summary.fps if summary and math.isfinite(summary.fps) else None,
        decoder=decoder,
        keypoint_names=table.names,
        class_names=parse_list(settings.classes, "classes"),
        clips=job.plan.clip_rows(),
        fingerprints=job.keys,
        notes=job.notes + damage_note(frame_index, rows["intact"]),
        settings=asdict(settings),
        damage=damage,
    )
    return writer.finish(
        meta,
        keypoints=align(table, frame_index, geometry.width, geometry.height, settings.dlc_lag),
        labels=np.concatenate([trial.labels for trial in job.plan.trials]),
        frame_index=frame_index,
        **rows,
    )
