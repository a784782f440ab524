"""What is stale of a recording, and why; found out before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cache import Place, RecordingMeta, fingerprint
from cache.store import is_packed_as
from pipeline.preprocess import seen
from pipeline.preprocess.decode import DECODE_VERSION, decoder_of
from pipeline.preprocess.discovery import RecordingFiles, Skip
from pipeline.preprocess.keypoints import KeypointError
from pipeline.preprocess.probe import VideoError, VideoFacts
from pipeline.preprocess.seen import TABLE_VERSION, SeenRecording, Stamp
from pipeline.preprocess.source import Source, UnusableError, clock_of, require_files, source_of
from pipeline.preprocess.text_table import UnreadableError
from pipeline.preprocess.trials import Plan, leave_out_damaged, plan_trials
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import parse_list

# progress(frames done, frames to do); (0, 0) while something else than decoding goes on
Progress = Callable[[int, int], None]


# What is raised where a recording cannot be used, or cannot be read now.
UNUSABLE = (VideoError, KeypointError, UnusableError, UnreadableError)


def skip_for(recording: str, error: Exception) -> Skip:
    """How it is listed that one of UNUSABLE was raised; what may pass takes nothing out of the cache."""
    return Skip(recording, None, str(error), passing=isinstance(error, UnreadableError))


@dataclass(frozen=True)
class Task:
    """A recording to look at. old, old_path: its version in the cache, if any; seen: what is remembered of that."""

    files: RecordingFiles
    settings: PreprocessSettings
    old: RecordingMeta | None = None
    old_path: Place | None = None
    seen: SeenRecording | None = None


@dataclass(frozen=True)
class Examined:
    """What is to be done for a recording, before anything is.

    state: `new`, `fresh` (nothing), what must be made again (`frames`, `keypoints`, `labels`, `compression`, joined by
    `+`), or None where none of its trials can be used. why: what differs from the version in the cache. n_decode:
    frames to decode. meta: the description of a fresh recording, with today's paths. job: what `make` needs.
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
    """What is known of a recording before its frames are read.

    plan: the trials to be written; whole: with those that an earlier run found too damaged.
    """

    task: Task
    source: Source
    plan: Plan
    whole: Plan
    keys: dict[str, str]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.task.files.name


def examine(task: Task, progress: Progress) -> Examined:
    """What is stale of a recording, and why; decodes nothing, and reads no file that is known.

    Raises VideoError, KeypointError or UnusableError if the recording cannot be used at all, UnreadableError if that
    may pass.
    """
    files, settings, old, known = task.files, task.settings, task.old, task.seen
    require_files(files, old)
    stamps = seen.stamp_all(files, known, lambda: progress(0, 0))
    key = seen.key_of(files, seen.shaping_of(settings), stamps.values())
    same = old and known and key == known.key and old.fingerprints == known.fingerprints
    if old and known and same and packed_as_wanted(old, settings):
        now = replace(known, stamps=stamps)
        return Examined(files.name, "fresh", (), 0, known.skipped, now, describe(old, files, settings))
    source = source_of(files, settings, _known_video(files, stamps, known))
    progress(0, 0)
    plan = whole = plan_trials(files, source.n_frames, settings, lambda: clock_of(files, source))
    summary = source.summary.summary() if isinstance(source.summary, VideoFacts) else source.summary
    notes = (*files.notes, *source.notes, *plan.notes)
    keys = _fingerprints(files, source, plan, settings, stamps)
    now = SeenRecording(key, keys, stamps, plan.skipped, summary)
    if not plan.trials:
        skipped = (*plan.skipped, *(Skip(files.name, None, note, fault=False) for note in notes))
        return Examined(files.name, None, (), 0, skipped, now)
    stale = fingerprint.differences(old.fingerprints, keys) if old else list(fingerprint.PARTS)
    if old and "frames" not in stale:
        plan = leave_out_damaged(whole, files.name, old.damage, settings.max_damaged)
        now = replace(now, skipped=plan.skipped)
        if plan.ranges != [clip.video_range for clip in old.clips]:  # of another --max-damaged
            plan, stale = whole, ["frames", *stale]
    if old and "frames" not in stale and not packed_as_wanted(old, settings):
        stale = [*stale, "compression"]
    if old and not stale:
        meta = replace(describe(old, files, settings), clips=plan.clip_rows())
        return Examined(files.name, "fresh", (), 0, plan.skipped, now, meta)
    job = Job(task, source, plan, whole, keys, notes)
    n_decode = plan.stop if "frames" in stale and files.video else 0
    state = "+".join(stale) if old else "new"
    return Examined(files.name, state, _why(task, stamps), n_decode, plan.skipped, now, job=job)


def packed_as_wanted(old: RecordingMeta, settings: PreprocessSettings) -> bool:
    """Whether the frames in the cache are compressed as --compression says.

    A run that was killed may have packed them otherwise than the settings that are remembered.
    """
    return is_packed_as(old, settings.store, settings.compression)


def describe(old: RecordingMeta, files: RecordingFiles, settings: PreprocessSettings) -> RecordingMeta:
    """What is said of a recording that stays as it is: where its files are today, and under which settings."""
    annotations = {path.name: str(path) for _, path in files.annotations}
    clips = tuple(
        replace(clip, annotation=annotations.get(Path(clip.annotation).name, clip.annotation))
        if clip.annotation
        else clip
        for clip in old.clips
    )
    return replace(old, **paths_in_meta(files), clips=clips, settings=asdict(settings))


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


def _fingerprints(
    files: RecordingFiles, source: Source, plan: Plan, settings: PreprocessSettings, stamps: dict[str, Stamp]
) -> dict[str, str]:
    """Of everything that frames, keypoints and labels are made from."""
    geometry = source.geometry
    frames = {
        "video": seen.content_of(stamps, files.video) if files.video else None,
        "version": DECODE_VERSION,
        "ranges": plan.ranges,
        "pixels": [settings.img_size, settings.channels, decoder_of(settings.decoder)] if files.video else None,
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
    } | _labels_by_settings(plan)
    parts: dict[str, dict[str, Any]] = {"frames": frames, "keypoints": keypoints, "labels": labels}
    return {name: fingerprint.of_values(**values) for name, values in parts.items()}


def _labels_by_settings(plan: Plan) -> dict[str, Any]:
    """The labels themselves, where more than the file and the class list decides them: settings, the frame rate.

    Of files with an action for each frame nothing: caches from before there were other formats stay fresh.
    """
    read = [[trial.format, trial.labels.tolist()] for trial in plan.trials if trial.format not in ("", "frames")]
    return {"read": read} if read else {}


def paths_in_meta(files: RecordingFiles) -> dict[str, Any]:
    return {"video": str(files.video) if files.video else None, "dlc": str(files.dlc)}
