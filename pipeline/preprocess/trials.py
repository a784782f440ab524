"""Which frames of a recording become clips, and what their labels are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cache.clip import UNLABELLED, ClipRows, Damage
from pipeline.preprocess.annotation_formats import EVENTS, format_of, read_labels
from pipeline.preprocess.annotations import Annotation, AnnotationError
from pipeline.preprocess.clock import Clock
from pipeline.preprocess.crop import CropError, check_frame_column, parse_crops, trial_crop, whole_crop
from pipeline.preprocess.discovery import RecordingFiles, Skip
from pipeline.preprocess_settings import PreprocessSettings

_NAMED_STRETCHES = 5  # of damaged frames in a note


@dataclass(frozen=True)
class Trial:
    """A clip to be: frames [first_frame, first_frame + len(labels)) of the video.

    first_frame counts from the recording's start, crop_start and stim_frame from the trial's
    (never from the crop's). labels: (T,) int16. format: that the annotation was read as.
    """

    number: int
    first_frame: int
    crop_start: int
    labels: np.ndarray
    annotation: Path | None = None
    stim_frame: int | None = None
    format: str = ""

    @property
    def stop_frame(self) -> int:
        return self.first_frame + len(self.labels)


@dataclass(frozen=True)
class Plan:
    """The trials of one recording in their order, those left out, and what else should be said."""

    trials: tuple[Trial, ...]
    skipped: tuple[Skip, ...]
    notes: tuple[str, ...]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """Half-open ranges of the video's frames, one a trial."""
        return [(trial.first_frame, trial.stop_frame) for trial in self.trials]

    @property
    def n_frames(self) -> int:
        """Of all trials."""
        return sum(len(trial.labels) for trial in self.trials)

    @property
    def frame_index(self) -> np.ndarray:
        """(n_frames,) int32: the video's frames of all trials, as they lie in the cache."""
        return np.concatenate([np.arange(start, stop) for start, stop in self.ranges]).astype(np.int32)

    @property
    def stop(self) -> int:
        """One past the last frame that is needed."""
        return max((trial.stop_frame for trial in self.trials), default=0)

    def clip_rows(self) -> tuple[ClipRows, ...]:
        """The trials one after the other, as they lie in the cache."""
        stops = np.cumsum([len(trial.labels) for trial in self.trials]).tolist()
        return tuple(
            ClipRows(
                trial=trial.number,
                start=stop - len(trial.labels),
                stop=stop,
                first_frame=trial.first_frame,
                crop_start=trial.crop_start,
                annotation=str(trial.annotation) if trial.annotation else None,
                stim_frame=trial.stim_frame,
            )
            for trial, stop in zip(self.trials, stops, strict=True)
        )


def plan_trials(
    files: RecordingFiles, n_frames: int, settings: PreprocessSettings, clock: Callable[[], Clock] | None = None
) -> Plan:
    """The trials of a recording of n_frames frames: the annotated ones, or all of them if none is annotated.

    clock: asked where an annotation is in seconds; None: nothing is known of it.
    """
    length = settings.trial_frames or n_frames
    cut = _all_trials(files.name, n_frames, length, settings.min_frames)
    if not files.annotations:
        return cut
    clock = clock or (lambda: Clock(n_frames))
    has_one_trial = _has_one_trial(n_frames, length, settings)
    try:
        if whole := _of_whole_recording(files, has_one_trial, n_frames, settings, clock):
            return _labelled(cut, *whole)
    except (AnnotationError, CropError) as error:
        return Plan((), (Skip(files.name, None, str(error)),), ())
    by_number, skipped = _numbered(files, has_one_trial)
    trials = []
    notes: list[str] = []
    for number, paths in sorted(by_number.items()):
        try:
            trial, said = _annotated_trial(number, paths, n_frames, length, settings, clock)
        except (AnnotationError, CropError) as error:
            skipped.append(Skip(files.name, number, str(error)))
        else:
            trials.append(trial)
            notes += said
    notes += _left_out(by_number, n_frames, length)
    for i, trial in enumerate(trials):
        if trial.stim_frame is not None and not 0 <= trial.stim_frame < length:
            notes.append(f"trial {trial.number}: StimFrame {trial.stim_frame} lies outside the trial, not used")
            trials[i] = replace(trial, stim_frame=None)
    return Plan(tuple(trials), tuple(skipped), tuple(notes))


def _of_whole_recording(
    files: RecordingFiles, has_one_trial: bool, n_frames: int, settings: PreprocessSettings, clock: Callable[[], Clock]
) -> tuple[Path, Annotation] | None:
    """The annotation that tells of the whole recording, if there is one; then it must be the only one.

    That is one of events, and a one-hot file without a trial's number that has a row for each frame of the recording.
    Raises AnnotationError or CropError.
    """
    for number, path in files.annotations:
        name = format_of(path, settings)
        if not ((name in EVENTS and number in (None, *[1] * has_one_trial)) or (name == "onehot" and number is None)):
            continue
        if len(files.annotations) > 1:
            names = ", ".join(each.name for _, each in files.annotations)
            raise CropError(f"annotated more than once: {names}; keep one, or number those of trials")
        annotation = read_labels(path, settings, files.name, clock)
        n_rows = len(annotation.labels)
        as_trial = name not in EVENTS and has_one_trial and _is_of_trial(n_rows, settings)
        if n_rows == n_frames and not as_trial:
            if annotation.frame_column is not None:
                check_frame_column(annotation.frame_column, 0)
            return path, annotation
        if not has_one_trial:
            raise CropError(
                f"ambiguous: {path.name} names no trial and has {n_rows} rows, the recording has {n_frames} frames; "
                "add _<trial> to its name, or make a row for each frame"
            )
    return None


def _is_of_trial(n_rows: int, settings: PreprocessSettings) -> bool:
    length = settings.trial_frames
    return length > 0 and n_rows in {length, *parse_crops(settings.crops, length)}


def _labelled(cut: Plan, path: Path, annotation: Annotation) -> Plan:
    """All trials of a recording, with the labels of all its frames."""
    trials = (
        replace(
            trial,
            labels=annotation.labels[trial.first_frame : trial.stop_frame],
            annotation=path,
            format=annotation.format,
        )
        for trial in cut.trials
    )
    return Plan(tuple(trials), cut.skipped, annotation.notes)


def damage_of(plan: Plan, intact: np.ndarray) -> tuple[Damage, ...]:
    """Of the trials that have damaged frames; intact (n,) bool is of the recording's frames, from its first on."""
    counts = {trial.number: intact[trial.first_frame : trial.stop_frame] for trial in plan.trials}
    return tuple(Damage(number, int((~kept).sum()), len(kept)) for number, kept in counts.items() if not kept.all())


def leave_out_damaged(plan: Plan, recording: str, damage: Sequence[Damage], max_damaged: float) -> Plan:
    """The plan with trials of which more than a share of max_damaged is damaged among the skipped ones."""
    planned = {trial.number for trial in plan.trials}
    bad = [each for each in damage if each.trial in planned and each.n_damaged > max_damaged * each.n_frames]
    skips = tuple(
        Skip(
            recording,
            each.trial,
            f"{each.n_damaged} of its {each.n_frames} frames are damaged, more than a share of {max_damaged:g} "
            "(--max-damaged)",
        )
        for each in bad
    )
    left_out = {each.trial for each in bad}
    trials = tuple(trial for trial in plan.trials if trial.number not in left_out)
    return replace(plan, trials=trials, skipped=plan.skipped + skips)


def damage_note(frame_index: np.ndarray, intact: np.ndarray) -> tuple[str, ...]:
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


def _left_out(annotated: Iterable[int], n_frames: int, length: int) -> list[str]:
    """What to say of the frames that have no annotation in a recording that has some."""
    n_whole, rest = divmod(n_frames, length)
    without = sorted(set(range(1, n_whole + 1)) - set(annotated))
    notes = [f"without an annotation, so left out: trial {', '.join(map(str, without))}"] if without else []
    if rest and n_whole + 1 not in annotated:
        first = n_whole * length
        notes.append(f"after the last whole trial, so left out: frames {first} to {n_frames - 1}")
    return notes


def _all_trials(name: str, n_frames: int, length: int, min_frames: int) -> Plan:
    """All trials; the last one may break off, from min_frames frames on."""
    n_whole, rest = divmod(n_frames, length)
    lengths = [length] * n_whole + [rest] * (min_frames <= rest)
    trials = tuple(
        Trial(n + 1, n * length, 0, np.full(rows, UNLABELLED, dtype=np.int16)) for n, rows in enumerate(lengths)
    )
    if rest == 0 or rest >= min_frames:
        return Plan(trials, (), ())
    reason = (
        f"too short: {rest} frames from frame {n_whole * length} on, a trial has {length} (--trial-frames), "
        f"at least {min_frames} (--min-frames)"
    )
    return Plan(trials, (Skip(name, n_whole + 1, reason, fault=not trials),), ())


def _has_one_trial(n_frames: int, length: int, settings: PreprocessSettings) -> bool:
    return n_frames < length + min(settings.min_frames, length) or settings.trial_frames == 0


def _numbered(files: RecordingFiles, has_one_trial: bool) -> tuple[dict[int, list[Path]], list[Skip]]:
    """The annotations of each trial; those without a number belong to trial 1 if it is the only one."""
    by_number: dict[int, list[Path]] = defaultdict(list)
    skipped = []
    for number, path in files.annotations:
        if number is None and not has_one_trial:
            reason = f"ambiguous: {path.name} names no trial and the recording has several; add _<trial> to its name"
            skipped.append(Skip(files.name, None, reason))
        else:
            by_number[1 if number is None else number].append(path)
    return by_number, skipped


def _annotated_trial(
    number: int,
    paths: list[Path],
    n_frames: int,
    length: int,
    settings: PreprocessSettings,
    clock: Callable[[], Clock],
) -> tuple[Trial, tuple[str, ...]]:
    """The trial, and what to say of its annotation. Raises AnnotationError or CropError."""
    if len(paths) > 1:
        raise CropError(f"annotated more than once: {', '.join(path.name for path in paths)}; keep one")
    path = paths[0]
    if number < 1:
        raise CropError(f"{path.name}: trial {number}, trials count from 1")
    trial_start = (number - 1) * length
    if trial_start >= n_frames:
        raise CropError(f"{path.name}: trial {number} begins at frame {trial_start}, the recording has {n_frames}")
    if (name := format_of(path, settings)) in EVENTS:
        raise CropError(f"{path.name}: a {name} file tells of the whole recording; take _{number} off its name")
    annotation = read_labels(path, settings, "", clock)
    try:
        crop_start = _crop(len(annotation.labels), length, settings)
        if annotation.frame_column is not None:
            check_frame_column(annotation.frame_column, crop_start)
    except CropError as error:
        raise CropError(f"{path.name}: {error}") from None
    first, labels = trial_start + crop_start, annotation.labels
    trial = Trial(number, first, crop_start, labels, path, annotation.stim_frame, annotation.format)
    if trial.stop_frame > n_frames:
        raise CropError(
            f"{path.name}: its frames {trial.first_frame} to {trial.stop_frame - 1} run past the recording's end, "
            f"it has {n_frames}"
        )
    return trial, annotation.notes


def _crop(n_rows: int, length: int, settings: PreprocessSettings) -> int:
    if settings.trial_frames == 0:
        return whole_crop(n_rows, length)
    return trial_crop(n_rows, length, settings.min_frames, parse_crops(settings.crops, length))
