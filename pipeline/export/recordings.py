"""What is exported of a recording: its video and, of each of its trials, labels, probabilities and keypoints.

Axes: T frames of a trial, N classes, K keypoints. Frames of the video count from 0; ranges are half open.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from cache import Clip
from pipeline import bouts
from pipeline.bouts import Bout
from pipeline.cross_validation import out_of_fold
from pipeline.preprocess.probe import VideoFacts, VideoSummary, probe
from pipeline.tables.sources import UNKNOWN_RATE, Trial

_IRREGULAR = 0.5  # frames by which a frame may be shown earlier or later than its number over the rate


class ExportError(ValueError):
    """A recording cannot be exported; the message is the reason."""


@dataclass(frozen=True, eq=False)
class Keypoints:
    """xy_px (T,K,2): in pixels of the original video, NaN where there is none. likelihood (T,K), None where not known.

    what: whose they are.
    """

    names: tuple[str, ...]
    xy_px: np.ndarray
    likelihood: np.ndarray | None
    what: str


@dataclass(frozen=True, eq=False)
class Said:
    """All that is known of a trial. start: the video's frame of its first label. probabilities (T,N), NaN of damaged
    frames, or None. time_s (T,): when each frame is shown, NaN where that is not known. clip: the trial in a cache
    (which may be cropped otherwise), or None.
    """

    trial: Trial
    start: int
    time_s: np.ndarray
    probabilities: np.ndarray | None
    keypoints: Keypoints | None
    clip: Clip | None

    @property
    def stop(self) -> int:
        """The video's frame after its last."""
        return self.start + len(self.trial.labels)

    @property
    def bouts(self) -> list[Bout]:
        """In frames of the trial's labels, 0 the first of them; + start: in frames of the video."""
        return bouts.find(self.trial.labels)

    def certainty(self, bout: Bout) -> float:
        """Mean probability of the bout's class over its frames; NaN where there are no probabilities."""
        if self.probabilities is None:
            return float("nan")
        return float(np.nanmean(self.probabilities[bout.start : bout.stop, bout.class_id]))


@dataclass(frozen=True, eq=False)
class Video:
    """path: where it lies, or lay when it was preprocessed. facts: None where it is not there any more.

    size: width and height in pixels.
    """

    path: Path
    facts: VideoFacts | None
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Recording:
    """n_frames: of the whole recording. video None: it has none, or nothing tells of it. subject: empty if not named.

    trials: in their order, each in frames after those of the one before. what: what the labels are.
    """

    name: str
    subject: str
    class_names: tuple[str, ...]
    what: str
    fps: float | None
    n_frames: int
    video: Video | None
    trials: tuple[Said, ...]
    notes: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Frames per second. Raises ExportError where it is not known."""
        if not self.fps:
            raise ExportError(UNKNOWN_RATE)
        return self.fps

    @property
    def labels(self) -> np.ndarray:
        """(n_frames,) int64; -1 where a frame has none: outside of the trials, not labelled, or damaged."""
        labels = np.full(self.n_frames, -1, np.int64)
        for said in self.trials:
            labels[said.start : said.stop] = said.trial.labels
        return labels

    @cached_property
    def times_s(self) -> np.ndarray:
        """(n_frames + 1,) when each frame is shown, and when the last one ends.

        The frame's number over the rate; the video's own times where its frames do not come at a constant rate.
        """
        regular = np.arange(self.n_frames + 1) / self.rate
        if not self.irregular:
            return regular
        if self.video and self.video.facts:
            known = np.arange(self.n_frames)
            times = self.video.facts.time_s
        else:
            known = np.concatenate([np.arange(said.start, said.stop) for said in self.trials])
            times = np.concatenate([said.time_s for said in self.trials])
        steps = regular - np.interp(regular, known / self.rate, known / self.rate)
        return np.interp(regular, known / self.rate, times) + steps

    @cached_property
    def irregular(self) -> bool:
        """Whether frames are shown at other times than their numbers over the rate say."""
        off = [said.time_s - np.arange(said.start, said.stop) / self.rate for said in self.trials]
        return bool((np.abs(np.concatenate(off)) > _IRREGULAR / self.rate).any())


@dataclass(frozen=True, eq=False)
class Origin:
    """Where to look for what a trial's labels do not tell.

    clips: by recording and trial. seen: what is known of videos, by recording. folds: folder of a cross-validation.
    videos: a folder to look for videos in that are not where they were.
    """

    clips: Mapping[tuple[str, int], Clip]
    seen: Mapping[str, VideoSummary | None]
    folds: Path | None = None
    videos: Path | None = None


def read_recording(
    name: str, subject: str, class_names: tuple[str, ...], what: str, trials: Sequence[Trial], origin: Origin
) -> Recording:
    """A recording of these trials. Raises ExportError, VideoError, CacheError or OSError."""
    said = sorted((_said(trial, class_names, origin) for trial in trials), key=lambda each: each.start)
    for before, after in pairwise(said):
        if after.start < before.stop:
            raise ExportError(f"trials {before.trial.trial} and {after.trial.trial} have frames in common")
    video = _video(said[0].clip, origin)
    seen, stop = origin.seen.get(name), said[-1].stop
    notes: tuple[str, ...] = ()
    if video and video.facts:
        _same_video(video, video.facts, seen)
        n_frames = video.facts.n_frames
    elif seen:
        n_frames = seen.n_frames
    else:
        n_frames = stop
        notes = (f"{name}: no video tells its length; it is taken to end with its last trial, after {stop} frames",)
    if stop > n_frames:
        raise ExportError(f"trial {said[-1].trial.trial} ends at frame {stop}, the video at {n_frames}")
    recording = Recording(name, subject, class_names, what, trials[0].fps, n_frames, video, tuple(said), notes)
    if recording.fps and recording.irregular:
        more = (
            f"{name}: the video's frames are not shown at their number over {recording.fps:g} per second; BORIS and "
            "NWB have the times at which they are shown"
        )
        recording = dataclasses.replace(recording, notes=(*notes, more))
    return recording


def _same_video(video: Video, facts: VideoFacts, seen: VideoSummary | None) -> None:
    expected = (*video.size, seen.n_frames if seen else facts.n_frames)
    found = (facts.width, facts.height, facts.n_frames)
    if found != expected:
        raise ExportError(
            f"{video.path} has {found[2]} frames of {found[0]}x{found[1]}, the video that was preprocessed had "
            f"{expected[2]} of {expected[0]}x{expected[1]}: preprocess again"
        )


def _video(clip: Clip | None, origin: Origin) -> Video | None:
    recorded = clip.source["video"] if clip else None
    if not clip or not recorded:
        return None
    size = (clip.geometry.width, clip.geometry.height)
    moved = origin.videos / re.split(r"[/\\]", recorded)[-1] if origin.videos else None
    for path in (Path(recorded), moved):
        if path and path.is_file():
            return Video(path, probe(path), size)
    return Video(Path(recorded), None, size)


def _said(trial: Trial, class_names: tuple[str, ...], origin: Origin) -> Said:
    clip = origin.clips.get((trial.recording, trial.trial))
    if trial.file is not None:
        return _predicted(trial, trial.file, class_names, clip)
    if clip is None or len(clip) != len(trial.labels):
        raise ExportError(f"trial {trial.trial} is not in the cache as it was; read it again")
    probabilities = _out_of_fold(trial, origin.folds) if origin.folds else None
    start = int(clip.frame_index[0])
    return Said(trial, start, np.array(clip.time_s), probabilities, keypoints_of(clip), clip)


def _predicted(trial: Trial, file: Path, class_names: tuple[str, ...], clip: Clip | None) -> Said:
    try:
        table = pd.read_csv(file, usecols=lambda name: name != "Action")
        frames = table["VideoFrame"].to_numpy(np.int64)
        probabilities = table[[f"p_{name}" for name in class_names]].to_numpy(float)
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(f"{file}: {error}; run `pipeline predict` again") from None
    if (np.diff(frames) != 1).any():
        raise ExportError(f"{file}: VideoFrame has gaps; run `pipeline predict` again")
    keypoints = _keypoint_columns(table.iloc[:, 3 + len(class_names) :])
    if keypoints is None and clip is not None and np.array_equal(clip.frame_index, frames):
        keypoints = keypoints_of(clip)
    return Said(trial, int(frames[0]), table["Time_s"].to_numpy(float), probabilities, keypoints, clip)


def _keypoint_columns(table: pd.DataFrame) -> Keypoints | None:
    """The model's, of the columns <keypoint>_x and <keypoint>_y; None without any."""
    names = tuple(name.removesuffix("_x") for name in table.columns if name.endswith("_x"))
    if not names:
        return None
    columns = [f"{name}_{axis}" for name in names for axis in "xy"]
    return Keypoints(names, table[columns].to_numpy(float).reshape(len(table), -1, 2), None, "placed by the model")


def keypoints_of(clip: Clip) -> Keypoints:
    """DLC's, as the cache has them."""
    size = np.array([clip.geometry.width, clip.geometry.height])
    values = clip.keypoints
    return Keypoints(clip.keypoint_names, values[..., :2] * size, values[..., 2], "tracked by DeepLabCut")


def _out_of_fold(trial: Trial, folds: Path) -> np.ndarray:
    (said,) = out_of_fold.load(folds, [(trial.recording, trial.trial)])
    powers = np.exp(said.logits - said.logits.max(-1, keepdims=True))
    return np.where(said.intact[:, None], powers / powers.sum(-1, keepdims=True), np.nan)
