"""What an animal does in one trial, of the labels (T,) of its frames; -1: not scored (damaged, or not labelled).

Times are frames over frames per second. Frames of a trial count from its start, 0; labels begin at frame `first`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
    """When a behaviour first begins at or after a moment (the stimulus, the trial's start).

    latency_s: from the moment's frame to the bout's first; NaN where there is none. began: 1 where there is one, 0
    where there is none to the end of the labels (censored), NaN where no frame after the moment is scored. running: 1
    where a bout that began before goes on at the moment: it is no answer to it. unscored_s: time from the moment to
    that first bout, or to the end of the labels, in which a bout may have been missed.
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
    labels: np.ndarray, found: Sequence[Bout], class_id: int, fps: float, first: int, moment: int | None
) -> Response:
    """The first bout of a class that begins at trial frame `moment` or later; None: nobody knows when that was."""
    if moment is None:
        return UNKNOWN
    at = moment - first  # in the labels; below 0 where the crop begins after the moment
    if not (labels[max(at, 0) :] >= 0).any():
        return UNKNOWN
    own = [bout for bout in found if bout.class_id == class_id]
    onset = next((bout.start for bout in own if bout.start >= at), None)
    until = len(labels) if onset is None else onset
    unscored = max(-at, 0) + int((labels[max(at, 0) : until] < 0).sum())
    return Response(
        latency_s=NAN if onset is None else (onset - at) / fps,
        began=float(onset is not None),
        running=float(any(bout.start < at < bout.stop for bout in own)),
        unscored_s=unscored / fps,
    )
