"""What tables are made of: labels of trials, predicted or people's; here those of a cache.

Frames of a trial count from its start, 0, as in the Frame column of `pipeline predict` and as StimFrame does. T frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import cache as clip_cache
from cache import UNLABELLED, Clip, Place
from pipeline.setting_texts import SettingsError
from pipeline.train.labels import Merge, make_merge

UNKNOWN_RATE = "no video tells its frame rate; --fps gives one to all such recordings"


class SourceError(ValueError):
    """A folder cannot be read as what it should be; the message says what was expected, found, and what to do."""


@dataclass(frozen=True, eq=False)
class Trial:
    """labels (T,): class per frame, -1 not scored. intact (T,): False of damaged frames. fps None: not known.

    first: the trial's frame that labels begin at (15 for the crop [15:360]). stim_frame: counted from the trial's
    start, None where it is not known. true (T,): people's labels, -1 where there are none or the frame is damaged.
    file: the table of a prediction that it is from.
    """

    recording: str
    trial: int
    labels: np.ndarray
    intact: np.ndarray
    fps: float | None
    first: int
    stim_frame: int | None = None
    true: np.ndarray | None = None
    file: Path | None = None

    @property
    def stop(self) -> int:
        """The trial's frame after the last."""
        return self.first + len(self.labels)


@dataclass(frozen=True, eq=False)
class Source:
    """Trials by recording and number. what: what the labels are, for a caption. notes: what else should be known."""

    class_names: tuple[str, ...]
    trials: tuple[Trial, ...]
    what: str
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, int, str], ...] = ()

    def with_rates(self, fps: float | None) -> Source:
        """Those without a frame rate get this one; where that is None, they are left out."""
        if fps is not None:
            given = tuple(dataclasses.replace(t, fps=t.fps or fps) for t in self.trials)
            return dataclasses.replace(self, trials=given)
        without = tuple((t.recording, t.trial, UNKNOWN_RATE) for t in self.trials if not t.fps)
        usable = tuple(t for t in self.trials if t.fps)
        return dataclasses.replace(self, trials=usable, left_out=self.left_out + without)


def from_cache(folder: Place, merge: str) -> Source:
    """People's labels in a cache, merged as train does (`merge`: its --merge); trials without any are left out."""
    clips = clip_cache.open(folder)
    merged = make_merge(clips.class_names, merge)
    trials, left_out = [], []
    for clip in clips:
        labels = _true(clip, merged)
        if (labels >= 0).any():
            trials.append(trial_of(clip, labels))
        else:
            left_out.append((clip.recording, clip.trial, "has no labelled frame"))
        clip.forget()
    return Source(merged.names, tuple(trials), "people's labels", (), tuple(left_out))


def with_truth(source: Source, folder: Place, merge: str, trained: str | None = None) -> Source:
    """People's labels of the same trials, from a cache, where it has any; stimuli too where the source knows none.

    trained: the --merge of the model's training, where it is known; it is used where `merge` is auto. Raises
    SourceError where classes differ, or are merged otherwise than the model's were.
    """
    clips = clip_cache.open(folder)
    merged = _merged_for(clips.class_names, merge, trained, folder)
    if merged.names != source.class_names:
        used = trained if merge == "auto" and trained else merge
        raise SourceError(
            f"{folder}: its classes, merged by --merge {used}, are {', '.join(merged.names)}; the predictions' are "
            f"{', '.join(source.class_names)}: give --merge as in train"
        )
    by_name = {(clip.recording, clip.trial): clip for clip in clips}
    trials = tuple(_beside(t, by_name.get((t.recording, t.trial)), merged) for t in source.trials)
    n_with = sum(t.true is not None for t in trials)
    note = f"{n_with} of {len(trials)} trials are labelled by people in {folder}"
    warning = "; if the model was trained on them, its errors here are too small: cross-validate" if n_with else ""
    return dataclasses.replace(source, trials=trials, notes=(*source.notes, note + warning))


def _merged_for(class_names: Sequence[str], merge: str, trained: str | None, folder: Place) -> Merge:
    """People's classes as the model that made the predictions learned them.

    Equal names are not enough: of rest, paw_withdraw and flinch two are left whichever of the two takes the flinches.
    """
    asked = make_merge(class_names, merge)
    try:
        as_trained = make_merge(class_names, trained or merge)
    except SettingsError:  # names classes that are not among these: people may have labelled the merged ones
        return asked
    if merge == "auto":
        return as_trained
    if not asked.is_like(as_trained):
        raise SourceError(
            f"--merge {merge}: the model of these predictions was trained with --merge {trained}, so that the classes "
            f"of {folder} would not be what it learned; leave --merge out"
        )
    return asked


def _beside(trial: Trial, clip: Clip | None, merged: Merge) -> Trial:
    """The trial with the labels of a clip of the same trial, frame by frame, whatever the crop of each."""
    if clip is None:
        return trial
    true = np.full(len(trial.labels), UNLABELLED, np.int64)
    first = clip.source["crop_start"]
    start, stop = max(first, trial.first), min(first + len(clip), trial.stop)
    if start < stop:
        true[start - trial.first : stop - trial.first] = _true(clip, merged)[start - first : stop - first]
    clip.forget()
    stim_frame = clip.stim_frame if trial.stim_frame is None else trial.stim_frame
    has_any = bool((true >= 0).any())
    return dataclasses.replace(trial, true=true if has_any else None, stim_frame=stim_frame)


def _true(clip: Clip, merged: Merge) -> np.ndarray:
    """People's labels (T,) of the merged classes, -1 on damaged frames too."""
    return np.where(clip.intact, merged.apply(clip.labels), UNLABELLED)


def trial_of(clip: Clip, labels: np.ndarray) -> Trial:
    """A trial of the cache, with these labels (T,)."""
    intact = np.array(clip.intact)
    return Trial(clip.recording, clip.trial, labels, intact, clip.fps, clip.source["crop_start"], clip.stim_frame)


def some(names: Sequence[str], most: int = 8) -> str:
    """The first names, and how many more there are."""
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")
