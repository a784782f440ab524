"""What an animal does in one trial, of the labels (T,) of its frames; -1: not scored (damaged, or not labelled).

Times are frames over frames per second. Frames of a trial count from its start, 0; labels begin at frame `first`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cache import UNLABELLED
from pipeline.bouts import Bout

NAN = math.nan


@dataclass(frozen=True)
class Amount:
    """How much of one behaviour there is. All are NaN of a trial without a scored frame, means of one without a bout.

    share: of the scored time. n_cut_bouts: of the bouts, those that touch an end of the labels or an unscored frame, so
    that they may be longer, and two of them one.
    """

    time_s: float
    share: float
    n_bouts: float
    n_cut_bouts: float
    mean_bout_s: float
    median_bout_s: float
    bouts_per_min: float


@dataclass(frozen=True)
class Response:
    """When a behaviour first begins at or after the stimulus.

    A bout that follows unscored frames, or the crop, may have begun in them: where that may have been before the
    stimulus, or it may be the rest of a bout before them, it is not known whether it is an answer.

    latency_s: from the stimulus' frame to the answer's first; NaN where there is none, or where one of which that is
    not known comes before it. began: 1 where there is an answer, 0 where there is no bout to the end of the labels
    (censored), NaN where there are only such of which that is not known, or no frame after the stimulus is scored.
    running: 1 where a bout that began before goes on at the stimulus: it is no answer to it; NaN where that cannot be
    seen. unscored_s: time from the stimulus to the answer, or to the end of the labels, in which a bout may have been
    missed.
    """

    latency_s: float
    began: float
    running: float
    unscored_s: float


UNKNOWN = Response(NAN, NAN, NAN, NAN)


def amount(labels: np.ndarray, found: Sequence[Bout], class_id: int, fps: float) -> Amount:
    """found: all bouts of the labels, as `bouts.find` gives them."""
    n_scored = int((labels >= 0).sum())
    if not n_scored:
        return Amount(*[NAN] * 7)
    own = [bout for bout in found if bout.class_id == class_id]
    lengths = np.array([bout.n_frames for bout in own])
    return Amount(
        time_s=float(lengths.sum() / fps),
        share=float(lengths.sum() / n_scored),
        n_bouts=float(len(own)),
        n_cut_bouts=float(sum(is_cut(bout, labels) for bout in own)),
        mean_bout_s=float(lengths.mean() / fps) if own else NAN,
        median_bout_s=float(np.median(lengths) / fps) if own else NAN,
        bouts_per_min=len(own) / (n_scored / fps / 60),
    )


def is_cut(bout: Bout, labels: np.ndarray) -> bool:
    """Whether a bout touches an end of the labels or a frame that is not scored."""
    at_start = bout.start == 0 or labels[bout.start - 1] < 0
    return bool(at_start or bout.stop == len(labels) or labels[bout.stop] < 0)


def response(
    labels: np.ndarray, found: Sequence[Bout], class_id: int, fps: float, first: int, stim_frame: int | None
) -> Response:
    """The first bout of a class that begins at a stimulus; stim_frame: of the trial, None where nobody knows it."""
    if stim_frame is None:
        return UNKNOWN
    at = stim_frame - first  # in the labels; below 0 where the crop begins after the stimulus
    if not (labels[max(at, 0) :] >= 0).any():
        return UNKNOWN
    after = [bout.start for bout in found if bout.class_id == class_id and bout.start >= at]
    answer = next((start for start in after if _began_since(labels, start, at)), None)
    is_first = bool(after) and after[0] == answer
    return Response(
        latency_s=(after[0] - at) / fps if is_first else NAN,
        began=1.0 if answer is not None else NAN if after else 0.0,
        running=_is_running(labels, class_id, at),
        unscored_s=_unscored(labels, at, len(labels) if answer is None else answer) / fps,
    )


def first_seen(labels: np.ndarray, found: Sequence[Bout], class_id: int, fps: float, first: int) -> tuple[float, float]:
    """Seconds from the trial's start to the first frame of a class, and how many of them are not scored.

    The former is NaN where there is none, and the latter then up to the end of the labels; both where nothing is
    scored.
    """
    if not (labels >= 0).any():
        return NAN, NAN
    start = next((bout.start for bout in found if bout.class_id == class_id), None)
    unscored = _unscored(labels, -first, len(labels) if start is None else start)
    return NAN if start is None else (first + start) / fps, unscored / fps


def _began_since(labels: np.ndarray, start: int, at: int) -> bool:
    """Whether a bout from `start` on surely began at `at` or later: the last scored frame before it tells."""
    before = start - 1
    while before >= 0 and labels[before] < 0:
        before -= 1
    return bool(before >= max(at - 1, 0) and labels[before] != labels[start])


def _is_running(labels: np.ndarray, class_id: int, at: int) -> float:
    both = [int(labels[i]) if i >= 0 else UNLABELLED for i in (at - 1, at)]
    if any(label not in (class_id, UNLABELLED) for label in both):
        return 0.0
    return NAN if UNLABELLED in both else 1.0


def _unscored(labels: np.ndarray, start: int, stop: int) -> int:
    """Frames [start, stop) that are not scored; those before the labels are not."""
    return max(-start, 0) + int((labels[max(start, 0) : stop] < 0).sum())
