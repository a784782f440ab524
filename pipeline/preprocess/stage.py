"""The preprocess stage: folders in, an up-to-date cache and a report out."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import cache as clip_cache
from pipeline.preprocess.crop import parse_crops
from pipeline.preprocess.discovery import Skip, discover
from pipeline.preprocess.keypoints import KeypointError
from pipeline.preprocess.probe import VideoError
from pipeline.preprocess.recording import Progress, RecordingReport, report_of, update
from pipeline.preprocess.source import UnusableError, parse_frame_size
from pipeline.preprocess.text_table import UnreadableError
from pipeline.settings import PreprocessSettings, parse_list

COMMIT_AFTER_S = 1.0  # of work: so much is lost at most if the stage is killed
BAD_EXIT_CODE = 3


@dataclass(frozen=True)
class Report:
    """What the stage did, by recording, and all that it left out, with reasons."""

    recordings: tuple[RecordingReport, ...]
    skipped: tuple[Skip, ...]

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
    cache: Path,
    videos: Path | None = None,
    annotations: Path | None = None,
    dlc: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Make or update the cache; only what changed is made again.

    A recording that cannot be used is left out, with the reason in the report and in the cache's table of skips; the
    others go on. Recordings whose files are gone, or cannot be read now, stay. Raises SettingsError, DiscoveryError or
    CacheError (also if the disk is full: what was finished until then is in the cache).
    """
    _check_settings(settings)
    found = discover(videos, annotations, dlc, settings)
    reports: list[RecordingReport] = []
    skipped: list[Skip] = []
    with clip_cache.create(cache, store=settings.store) as writer:
        named = {files.name for files in found.recordings} | {skip.recording for skip in found.skipped}
        reports += _keep(writer, set(writer.recordings) - named, "removed")
        kept = {skip.recording for skip in found.skipped if skip.passing} & set(writer.recordings)
        reports += _keep(writer, kept, "kept")
        skipped += _skip(writer, found.skipped, kept)
        committed = time.monotonic()
        for files in found.recordings:
            if files.name in kept:
                continue
            try:
                report, skips = update(writer, files, settings, progress)
            except UnreadableError as error:
                report, skips = None, (Skip(files.name, None, str(error), passing=True),)
            except (VideoError, KeypointError, UnusableError) as error:
                report, skips = None, (Skip(files.name, None, str(error)),)
            except OSError as error:  # of the cache: what reads a recording's files raises the others
                with suppress(OSError):
                    writer.commit()
                raise clip_cache.CacheError(
                    f"{cache}: cannot be written ({error}); what was finished before {files.name} is kept: "
                    "make room and run preprocess again"
                ) from error
            may_pass = any(skip.passing for skip in skips) and files.name in writer.recordings
            reports += [report] if report else _keep(writer, {files.name}, "kept") if may_pass else []
            skipped += _skip(writer, skips, {files.name} if may_pass else set())
            if time.monotonic() - committed > COMMIT_AFTER_S:
                writer.commit()
                committed = time.monotonic()
        for name in set(writer.recordings) - {report.recording for report in reports}:
            writer.remove(name)
    reports.sort(key=lambda report: report.recording)
    skipped.sort(key=lambda skip: (skip.recording, skip.trial or 0, skip.reason))
    return Report(tuple(reports), tuple(skipped))


def _check_settings(settings: PreprocessSettings) -> None:
    parse_list(settings.classes, "classes")
    parse_crops(settings.crops, settings.trial_frames)
    parse_frame_size(settings.frame_size)


def _keep(writer: clip_cache.CacheWriter, names: Iterable[str], state: str) -> list[RecordingReport]:
    """Leave recordings of earlier runs as they are, with what was said of their trials."""
    names = sorted(names)
    for name in names:
        writer.keep_skips(name)
    return [report_of(writer.recordings[name], state) for name in names]


def _skip(writer: clip_cache.CacheWriter, skips: Iterable[Skip], kept: set[str]) -> list[Skip]:
    """List the skips in the cache; of a kept recording it is said that it is still there."""
    said = [
        replace(skip, reason=f"kept as it was: {skip.reason}") if skip.recording in kept and skip.passing else skip
        for skip in skips
    ]
    for skip in said:
        writer.skip(skip.recording, skip.trial, skip.reason)
    return said
