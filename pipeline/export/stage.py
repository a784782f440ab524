"""Labels of any source in, files for other programs out, a folder for each format."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import cache as clip_cache
from cache import Clip, Place, fingerprint
from pipeline.cross_validation.out_of_fold import FOLDER as OUT_OF_FOLD
from pipeline.export import boris, nwb, onehot, video
from pipeline.export.file_names import safe_names
from pipeline.export.formats import MOST_VIDEOS, Format
from pipeline.export.recordings import ExportError, Origin, Recording, read_recording
from pipeline.export.started import read_starts, started
from pipeline.export.subjects import UNKNOWN, read_subjects
from pipeline.file_names import composed
from pipeline.overlay import trials_named
from pipeline.preprocess import seen as seen_files
from pipeline.preprocess.probe import VideoSummary
from pipeline.tables.opened import open_source
from pipeline.tables.sources import Source, Trial, some
from pipeline.train.run_folder import write_text
from pipeline.train.split import group_of

RECORD = "export.json"
_PROJECT = "project_fingerprint"  # in it: of the project as it was exported

Progress = Callable[[str, float, int], None]


@dataclass(frozen=True)
class Asked:
    """What is exported, and how; docs/export.md describes it.

    source: a folder of predictions or of a cross-validation; None: the labels in `cache`. clips: RECORDING/TRIAL or
    RECORDING; none: all. most_videos: of trials, where no clips are named. likelihood_thr: of the keypoints in a video.
    """

    to: Format
    source: Path | None = None
    cache: Place | None = None
    clips: tuple[str, ...] = ()
    most_videos: int = MOST_VIDEOS
    videos: Path | None = None
    merge: str = "auto"
    fps: float | None = None
    decide: bool = True
    group_by: str = ""
    session_start: str = ""
    subjects: Path | None = None
    background: str = ""
    likelihood_thr: float = 0.9

    @property
    def formats(self) -> tuple[Format, ...]:
        """Those that are written."""
        return tuple(each for each in Format if each is not Format.ALL) if self.to is Format.ALL else (self.to,)


@dataclass
class Exported:
    """files: what was written. left_out: recording, format (or empty) and why. notes: what should be known."""

    what: str
    files: list[Path] = field(default_factory=list)
    left_out: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """3 where something was left out, 0 otherwise."""
        return 3 if self.left_out else 0


def export(asked: Asked, out: Path, progress: Progress | None = None) -> Exported:
    """Writes OUT/<format>/. Raises SettingsError, SourceError, CacheError, ClipError, TableError, SplitError and
    ExportError. What cannot be exported is in the result; a former file of its name is taken away.
    """
    starts = read_starts(asked.session_start)
    animals = read_subjects(asked.subjects) if asked.subjects else {}
    source = open_source(asked.source, asked.cache, asked.merge, decide=asked.decide, leave_out_bad=True)
    onehot.check_background(asked.background, source.class_names)
    source = _selected(source, asked).with_rates(asked.fps) if asked.fps else _selected(source, asked)
    if not source.trials:
        raise ExportError(f"{asked.source or asked.cache}: no trial to export")
    subjects = {t.recording: group_of(t.recording, asked.group_by) if asked.group_by else "" for t in source.trials}
    made = Exported(source.what, notes=list(source.notes))
    made.left_out += [(f"{name} trial {number}" if number else name, "", why) for name, number, why in source.left_out]
    formats = [each for each in asked.formats if _is_there(each, asked, made)]
    stems = safe_names(subjects)
    run = _Run(asked, out, source, starts, animals, stems, _shown(source, asked, made), made, progress)
    for each in formats:
        (out / each.value).mkdir(parents=True, exist_ok=True)
    origin = _origin(asked)
    for done, (name, trials) in enumerate(groupby(source.trials, key=lambda trial: trial.recording), 1):
        run.write_all(name, subjects[name], tuple(trials), formats, origin)
        if progress:
            progress("export", done, len(subjects))
    run.finish(formats)
    return made


@dataclass
class _Run:
    """One call. stems: names of files by recording. shown: trials of which there is a video."""

    asked: Asked
    out: Path
    source: Source
    starts: Mapping[str, datetime]
    animals: Mapping[str, Mapping[str, str]]
    stems: Mapping[str, str]
    shown: frozenset[tuple[str, int]]
    made: Exported
    progress: Progress | None
    observations: dict[str, dict[str, Any]] = field(default_factory=dict)
    subjects: set[str] = field(default_factory=set)
    guessed: set[str] = field(default_factory=set)

    def write_all(
        self, name: str, subject: str, trials: Sequence[Trial], formats: Sequence[Format], origin: Origin
    ) -> None:
        """A recording in each format; what goes wrong is noted."""
        paths = {each: self._paths(each, name, trials) for each in formats}
        try:
            recording = read_recording(name, subject, self.source.class_names, self.source.what, trials, origin)
        except (ValueError, OSError) as error:
            self._leave_out(name, "", error, [path for each in paths.values() for path in each])
            return
        self.made.notes += recording.notes
        for each in formats:
            try:
                self._write(each, recording, paths[each])
                self.made.files += paths[each]
            except (ValueError, OSError) as error:
                self._leave_out(name, each.value, error, paths[each])

    def finish(self, formats: Sequence[Format]) -> None:
        """What is of all recordings: the project, and in each folder the record of how."""
        written: dict[str, str] = {}
        if Format.BORIS in formats:
            path = self._project()
            subjects, what = sorted(self.subjects), self.source.what
            boris.write_project(boris.project(self.source.class_names, subjects, self.observations, what), path)
            self.made.files.append(path)
            written = {_PROJECT: fingerprint.of_file(path)}
        if self.guessed:
            self.made.notes.append(
                f"[warning] {len(self.guessed)} recordings began when their video's file says, which may be the date "
                f"of a copy ({some(sorted(self.guessed))}); --session-start tells it"
            )
        record = {n: str(v) if isinstance(v, Place) else v for n, v in vars(self.asked).items()}
        record |= {"labels": self.made.what, "notes": self.made.notes, "left_out": self.made.left_out} | written
        for each in formats:
            write_text(self.out / each.value / RECORD, json.dumps(record, indent=1))

    def _project(self) -> Path:
        """Where the project goes: never over one that people have changed in BORIS since it was exported."""
        folder = self.out / Format.BORIS.value
        path = folder / boris.PROJECT
        try:
            kept = json.loads((folder / RECORD).read_text(encoding="utf-8")).get(_PROJECT)
        except (OSError, ValueError, AttributeError):
            kept = None
        if not path.exists() or fingerprint.of_file(path) == kept:
            return path
        number = 2
        while (free := path.with_stem(f"{path.stem}-{number}")).exists():
            number += 1
        self.made.notes.append(
            f"[warning] {path} was changed since it was exported, and is kept; the new one is {free}"
        )
        return free

    def _paths(self, to: Format, name: str, trials: Sequence[Trial]) -> list[Path]:
        folder, stem = self.out / to.value, self.stems[name]
        if to is Format.VIDEO:
            return [folder / f"{stem}_{t.trial}.mp4" for t in trials if (name, t.trial) in self.shown]
        return [folder / f"{stem}.{'nwb' if to is Format.NWB else 'csv'}"]

    def _write(self, to: Format, recording: Recording, paths: Sequence[Path]) -> None:
        if to is Format.VIDEO:
            by_trial = {int(path.stem.rpartition("_")[2]): path for path in paths}
            video.write_videos(recording, by_trial, self.asked.likelihood_thr, self.progress)
            return
        (path,) = paths
        if to is Format.ONEHOT:
            onehot.write_one_hot(recording, path, self.asked.background)
            return
        began = started(recording, self.starts)
        if began and began.note:
            self.guessed.add(recording.name)
        if to is Format.NWB:
            subject, name = composed(recording.subject), composed(recording.name)
            known = self.animals.get(subject, self.animals.get(name, UNKNOWN))
            nwb.write_nwb(recording, began, path, known)
            return
        boris.write_events(recording, began, path)
        self.observations[recording.name] = boris.observation(recording, began, path.parent)
        self.subjects.add(recording.subject)

    def _leave_out(self, name: str, to: str, error: Exception, paths: Sequence[Path]) -> None:
        self.made.left_out.append((name, to, str(error)))
        for path in paths:
            with suppress(OSError):  # open in another program: that is why it was left out
                path.unlink(missing_ok=True)


def _is_there(to: Format, asked: Asked, made: Exported) -> bool:
    """Whether what writes the format is installed; raises ExportError where it alone is asked for."""
    try:
        if to is Format.NWB:
            nwb.library()
    except ExportError as error:
        if asked.to is to:
            raise
        made.left_out.append(("all", to.value, str(error)))
        return False
    return True


def _selected(source: Source, asked: Asked) -> Source:
    """The trials that --clip names."""
    if not asked.clips:
        return source
    keys = [(trial.recording, trial.trial) for trial in source.trials]
    where = asked.source or asked.cache or Path()
    chosen = {key for name in asked.clips for key in trials_named(name, keys, where)}
    trials = tuple(trial for trial in source.trials if (trial.recording, trial.trial) in chosen)
    return dataclasses.replace(source, trials=trials, left_out=())


def _shown(source: Source, asked: Asked, made: Exported) -> frozenset[tuple[str, int]]:
    """The trials of which a video is made: those that --clip names, otherwise the first ones."""
    keys = [(trial.recording, trial.trial) for trial in source.trials]
    if asked.clips or len(keys) <= asked.most_videos:
        return frozenset(keys)
    if Format.VIDEO in asked.formats:
        made.notes.append(
            f"videos of the first {asked.most_videos} of {len(keys)} trials; --clip RECORDING/TRIAL (repeatable) "
            "chooses others, --max-videos more"
        )
    return frozenset(keys[: asked.most_videos])


def _origin(asked: Asked) -> Origin:
    """The caches that tell of the source's trials: that of the prediction, then --cache."""
    clips: dict[tuple[str, int], Clip] = {}
    seen: dict[str, VideoSummary | None] = {}
    own = asked.source / "cache" if asked.source and (asked.source / "cache").is_dir() else None
    for folder in (asked.cache, own):
        if folder is not None:
            clips |= {(clip.recording, clip.trial): clip for clip in clip_cache.open(folder)}
            seen |= {name: each.video for name, each in seen_files.load(folder).recordings.items()}
    folds = asked.source if asked.source and (asked.source / OUT_OF_FOLD).is_dir() else None
    return Origin(clips, seen, folds, asked.videos)
