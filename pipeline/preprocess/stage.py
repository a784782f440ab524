"""The preprocess stage: folders in, an up-to-date cache and a report out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import cache as clip_cache
from pipeline.preprocess.crop import parse_crops
from pipeline.preprocess.decode import VideoError
from pipeline.preprocess.discovery import Skip, discover
from pipeline.preprocess.keypoints import KeypointError
from pipeline.preprocess.recording import (
    Progress,
    RecordingReport,
    UnusableError,
    parse_frame_size,
    report_of,
    update,
)
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
    others go on. Recordings whose files are gone stay. Raises SettingsError, DiscoveryError or CacheError.
    """
    _check_settings(settings)
    found = discover(videos, annotations, dlc, settings)
    reports: list[RecordingReport] = []
    skipped = list(found.skipped)
    with clip_cache.create(cache, store=settings.store) as writer:
        for skip in found.skipped:
            writer.skip(skip.recording, skip.trial, skip.reason)
        committed = time.monotonic()
        for files in found.recordings:
            try:
                report, skips = update(writer, files, settings, progress)
            except (VideoError, KeypointError, UnusableError) as error:
                report, skips = None, (Skip(files.name, None, str(error)),)
            if report:
                reports.append(report)
            for skip in skips:
                writer.skip(skip.recording, skip.trial, skip.reason)
            skipped += skips
            if time.monotonic() - committed > COMMIT_AFTER_S:
                writer.commit()
                committed = time.monotonic()
        reports += _leftovers(writer, {report.recording for report in reports}, {skip.recording for skip in skipped})
    reports.sort(key=lambda report: report.recording)
    skipped.sort(key=lambda skip: (skip.recording, skip.trial or 0, skip.reason))
    return Report(tuple(reports), tuple(skipped))


def _check_settings(settings: PreprocessSettings) -> None:
    parse_list(settings.classes, "classes")
    parse_crops(settings.crops, settings.trial_frames)
    parse_frame_size(settings.frame_size)


def _leftovers(writer: clip_cache.CacheWriter, used: set[str], skipped: set[str]) -> list[RecordingReport]:
    """Earlier recordings that this run did not use: taken out if it skipped them, kept if their files are gone."""
    reports = []
    for name in sorted(set(writer.recordings) - used):
        if name in skipped:
            writer.remove(name)
        else:
            reports.append(report_of(writer.recordings[name], "removed"))
    return reports
