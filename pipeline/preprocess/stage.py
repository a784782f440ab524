"""The preprocess stage: folders in, an up-to-date cache and a report out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cache as clip_cache
from cache import Place, RecordingMeta, StoreError
from cache.store import compression_of
from pipeline.cluster import IN_PROCESS, Cluster
from pipeline.preprocess import seen
from pipeline.preprocess.annotation_formats import gaps_of
from pipeline.preprocess.crop import parse_crops
from pipeline.preprocess.discovery import Discovery, Skip, discover
from pipeline.preprocess.recording import Result
from pipeline.preprocess.source import parse_frame_size
from pipeline.preprocess.staleness import Task, describe, packed_as_wanted
from pipeline.preprocess.workers import work_all
from pipeline.preprocess_settings import STALL_S, PreprocessSettings
from pipeline.setting_texts import SettingsError

# Between two commits. What is finished and not committed when the stage is killed is found again by the next run, which
# reads its files once more and decodes nothing.
COMMIT_AFTER_S = 1.0
# At a million clips, or over a slow line to an object store, a commit takes half a minute: so many times as long is
# worked before the next one.
WORK_PER_COMMIT = 20
RATE_FRAMES = 300  # fewer say nothing of the speed of decoding
BAD_EXIT_CODE = 3

# progress(what, done, total): recordings, and the part of one that is being worked on
Progress = Callable[[str, float, int], None]


@dataclass(frozen=True)
class RecordingReport:
    """What was done for one recording.

    state: `new`, `fresh` (nothing to do), what was made again (`frames`, `keypoints`, `labels`, joined by `+`),
    `removed` (its files are gone, it stays in the cache), `pruned` (and was therefore taken out of it), or `kept` (they
    cannot be read now, it stays too). frames: of all its clips.
    """

    recording: str
    state: str
    trials: int
    frames: int
    decoder: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What the stage did, by recording, all that it left out, with reasons, and what is to be said of all together."""

    recordings: tuple[RecordingReport, ...]
    skipped: tuple[Skip, ...]
    warnings: tuple[str, ...] = ()

    @property
    def n_bad(self) -> int:
        """Recordings and trials that were left out for a fault of theirs."""
        return sum(skip.fault for skip in self.skipped)

    @property
    def exit_code(self) -> int:
        return BAD_EXIT_CODE if self.n_bad else 0


def preprocess(
    settings: PreprocessSettings,
    *,
    cache: Place,
    videos: Path | None = None,
    annotations: Path | None = None,
    dlc: Path | None = None,
    prune: bool = False,
    cluster: Cluster = IN_PROCESS,
    stall_s: float = STALL_S,
    progress: Progress | None = None,
) -> Report:
    """Make or update the cache; only what changed is made again.

    A recording that cannot be used is left out, with the reason in the report and in the cache's table of skips; the
    others go on. Recordings whose files are gone stay, unless `prune`; those that cannot be read now stay. cluster:
    where recordings are decoded; but in this process each is watched: what says nothing for stall_s seconds is given
    up. Raises SettingsError, DiscoveryError or CacheError (also if the disk is full: what was
    finished until then is in the cache).
    """
    check_settings(settings)
    remembered = seen.load(cache)
    found = discover(videos, annotations, dlc, settings, remembered.header_fault)
    with clip_cache.create(cache, store=settings.store, compression=settings.compression) as writer:
        run = _Run(writer, settings, found, remembered, progress)
        run.keep_absent(prune)
        tasks = run.fresh_or_tasks()
        try:
            for result in work_all(
                tasks,
                writer.recordings_folder,
                cluster=cluster,
                stall_s=stall_s,
                progress=run.progress,
            ):
                run.take(result)
        except StoreError:  # what was finished is there, and the next run finds it
            raise
        except OSError as error:  # of the cache: what reads a recording's files raises others
            with suppress(OSError):
                run.commit()
            raise clip_cache.CacheError(
                f"{cache}: cannot be written ({error}); what was finished is kept: make room and run preprocess again"
            ) from error
        run.drop_unused()
        writer.discard_unfinished()
    folders = {"videos": videos, "annotations": annotations, "dlc": dlc}
    run.remember({name: str(path.resolve()) if path else None for name, path in folders.items()})
    return run.report()


def check_settings(settings: PreprocessSettings) -> None:
    """Raises SettingsError for what can be found wrong before any file is looked at."""
    gaps_of(settings)
    parse_crops(settings.crops, settings.trial_frames)
    parse_frame_size(settings.frame_size)
    try:
        compression_of(settings.store, settings.compression)
    except clip_cache.CacheError as error:
        raise SettingsError(str(error)) from None


def work_until_commit_s(commit_s: float) -> float:
    """Seconds until the next commit, after one that took commit_s: together they take a twentieth of the time."""
    return max(COMMIT_AFTER_S, WORK_PER_COMMIT * commit_s)


def report_of(meta: RecordingMeta, state: str) -> RecordingReport:
    return RecordingReport(meta.recording, state, len(meta.clips), meta.n_frames, meta.decoder, meta.notes)


class _Run:
    """One run of the stage: what is in the cache, what was said, what is remembered for the next one."""

    def __init__(
        self,
        writer: clip_cache.CacheWriter,
        settings: PreprocessSettings,
        found: Discovery,
        remembered: seen.Seen,
        progress: Progress | None,
    ) -> None:
        self.writer, self.settings, self.found, self.seen = writer, settings, found, remembered
        self.reports: dict[str, RecordingReport] = {}
        self.skipped: list[Skip] = []
        self.kept = {skip.recording for skip in found.skipped if skip.passing} & set(writer.recordings)
        self.n_tasks = self.n_done = self.n_decoded = 0
        self.part: dict[str, float] = {}
        self._show = progress
        self._n_headers = len(remembered.headers)
        self._news = False
        self._started = time.monotonic()
        self._commit_at = self._started + COMMIT_AFTER_S

    def keep_absent(self, prune: bool) -> None:
        """Recordings of which no file is there, or not to be read now; and what discovery skipped."""
        named = {files.name for files in self.found.recordings} | {skip.recording for skip in self.found.skipped}
        for name in sorted(set(self.writer.recordings) - named):
            if prune:
                self.reports[name] = report_of(self.writer.recordings[name], "pruned")
                self._forget(name)
            else:
                self._keep(name, "removed")
        for name in sorted(self.kept):
            self._keep(name, "kept")
        self._skip(self.found.skipped)

    def fresh_or_tasks(self) -> list[Task]:
        """Take note of what is as it was; the tasks for all others."""
        tasks = []
        shaping = seen.shaping_of(self.settings)
        for files in self.found.recordings:
            if files.name in self.kept:
                continue
            old, known = self.writer.recordings.get(files.name), self.seen.recordings.get(files.name)
            unchanged = seen.unchanged(files, shaping, old, known)
            if old is not None and known is not None and unchanged and packed_as_wanted(old, self.settings):
                meta = describe(old, files, self.settings)
                self.take(Result(files.name, "fresh", known.skipped, meta, seen=known))
            else:
                path = self.writer.file_of(files.name) if old else None
                tasks.append(Task(files, self.settings, old, path, known))
        self.n_tasks, self._started = len(tasks), time.monotonic()
        self.n_done = 0
        # The longest first: one that is begun last would keep one worker busy while all others have nothing to do.
        return sorted(tasks, key=lambda task: -_size(task.files.video or task.files.dlc))

    def take(self, result: Result) -> None:
        """Put what was made into the cache, and remember what was said."""
        name = result.recording
        if result.finished is not None:
            self.writer.take(result.finished)
        elif result.meta is not None and result.meta != self.writer.recordings[name]:
            self.writer.describe(result.meta)
        if result.state is not None:
            self.reports[name] = report_of(self.writer.recordings[name], result.state)
            if result.seen is not None and result.seen is not self.seen.recordings.get(name):
                self.seen.recordings[name], self._news = result.seen, True
        elif name in self.writer.recordings and any(skip.passing for skip in result.skipped):
            self.kept.add(name)
            self._keep(name, "kept")
        self._skip(result.skipped)
        self.n_done += 1
        self.n_decoded += result.n_decoded
        self.part.pop(name, None)
        if self._show and self.n_tasks:
            self._show(name, self.n_done + sum(self.part.values()), self.n_tasks)
        if time.monotonic() > self._commit_at:
            self.commit()

    def progress(self, name: str, done: int, total: int) -> None:
        """Frames of a recording that is being worked on; (0, 0) while it is something else."""
        if total:
            self.part[name] = done / total
        if self._show:
            self._show(name, self.n_done + sum(self.part.values()), self.n_tasks)

    def commit(self) -> None:
        """What was finished so far counts, and is remembered, in this order: what is remembered is in the cache."""
        began = time.monotonic()
        self.writer.commit()
        if self._news:
            seen.save(self.writer.path, self.seen)
            self._news = False
        ended = time.monotonic()
        self._commit_at = ended + work_until_commit_s(ended - began)

    def drop_unused(self) -> None:
        """Take out recordings of which no trial can be used any more."""
        for name in set(self.writer.recordings) - set(self.reports):
            self._forget(name)

    def remember(self, folders: dict[str, str | None]) -> None:
        """Write down what the next run need not read again. Call when the cache is committed."""
        settings = asdict(self.settings)
        if self.n_decoded >= RATE_FRAMES:
            self.seen.frames_per_s = self.n_decoded / (time.monotonic() - self._started)
            self._news = True
        self._news |= (folders, settings) != (self.seen.folders, self.seen.settings)
        self._news |= len(self.seen.headers) != self._n_headers
        self.seen.folders, self.seen.settings = folders, settings
        if self._news:
            seen.save(self.writer.path, self.seen)

    def report(self) -> Report:
        """By recording, then trial."""
        skipped = sorted(self.skipped, key=lambda skip: skip.place)
        reports = tuple(self.reports[name] for name in sorted(self.reports))
        return Report(reports, tuple(skipped), self.found.warnings)

    def _forget(self, name: str) -> None:
        self.writer.remove(name)
        self._news |= self.seen.recordings.pop(name, None) is not None

    def _keep(self, name: str, state: str) -> None:
        """Leave a recording of an earlier run as it is, with what was said of its trials."""
        self.writer.keep_skips(name)
        self.reports[name] = report_of(self.writer.recordings[name], state)

    def _skip(self, skips: Iterable[Skip]) -> None:
        """List skips, in the cache too; of a kept recording it is said that it is still there."""
        for skip in skips:
            if skip.recording in self.kept and skip.passing:
                skip = replace(skip, reason=f"kept as it was: {skip.reason}")
            self.writer.skip(skip.recording, skip.trial, skip.reason)
            self.skipped.append(skip)


def _size(path: Path) -> int:
    """In bytes; 0 of a file that cannot be looked at, which is said when it is read."""
    with suppress(OSError):
        return path.stat().st_size
    return 0
