"""Pose in NWB files (ndx-pose), as SLEAP, DLC and others export it, as a pose table.

A series has times and no frame numbers. Its samples are taken for the frames of the video in their order from frame 0
where the first has time 0 and none is missing; a gap in the times is as many frames as usual steps fit into it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.preprocess.sleap_files import PoseError, Table, columns_of, dense_table, extra_missing

SCORER = "NWB"
_REGULAR = 0.2  # of a step that a time may lie off its place
_SAME_STEP, _ENOUGH = 1e-3, 50  # by so much the mean steps of series may differ, of those with so many


def nwb_table(path: Path, rows: int | None) -> Table:
    """The table of the one video whose pose a file holds. rows: 0 reads the names alone.

    Raises PoseError with the reason, without the file's name, also where the times do not tell the frames.
    """
    try:
        import ndx_pose  # type: ignore[import-untyped]
        from pynwb import NWBHDF5IO
    except ImportError:
        raise extra_missing() from None
    with NWBHDF5IO(str(path), mode="r", load_namespaces=True) as opened:
        modules = opened.read().processing.values()
        containers = [
            each
            for module in modules
            for each in module.data_interfaces.values()
            if isinstance(each, ndx_pose.PoseEstimation)
        ]
        if not containers:
            raise PoseError("holds no pose (no PoseEstimation of ndx-pose in a processing module)")
        videos = {_video_of(each) for each in containers}
        if len(videos) > 1:
            raise PoseError(f"holds the pose of {len(videos)} videos; export each of them alone")
        tracks = [each.name.removeprefix("track=") for each in containers] if len(containers) > 1 else []
        series = [dict(each.pose_estimation_series) for each in containers]
        nodes = _nodes(containers, [_node(name) for each in series for name in each])
        if rows == 0:
            return columns_of(tracks, nodes, SCORER), np.zeros(0, np.int64), np.zeros((0, 0))
        places = [(t, nodes.index(_node(name)), one) for t, each in enumerate(series) for name, one in each.items()]
        frames = _frames([one for _, _, one in places])
        n_frames = 1 + max(int(each.max(initial=-1)) for each in frames)
        points_FTN3 = np.full((n_frames, len(containers), len(nodes), 3), np.nan)
        for (t, n, one), frame in zip(places, frames, strict=True):
            if one.data.ndim != 2 or one.data.shape[1] != 2:
                raise PoseError(f"{one.name} has data of shape {one.data.shape}, expected x and y of each frame")
            points_FTN3[frame, t, n, :2] = one.data[:]
            if one.confidence is not None:
                points_FTN3[frame, t, n, 2] = one.confidence[:]
    return dense_table(np.arange(n_frames), points_FTN3, tracks, nodes, SCORER)


def _nodes(containers: Sequence[Any], names: Sequence[str]) -> list[str]:
    """The keypoints in the order of the skeleton, if it has them all; else in that of the series, which is by name."""
    skeleton = containers[0].skeleton
    order = [str(node) for node in skeleton.nodes[:]] if skeleton is not None and skeleton.nodes is not None else []
    return order if set(names) <= set(order) else list(dict.fromkeys(names))


def _node(name: str) -> str:
    return re.sub(r"^PoseEstimationSeries", "", name) or name


def _video_of(container: Any) -> str:
    named = getattr(container, "original_videos", None)
    return ";".join(map(str, named[:])) if named is not None else ""


def _frames(series: Sequence[Any]) -> list[np.ndarray]:
    """The frame numbers of each series' samples, all counted from one time 0. Raises PoseError."""
    times = [_times(one) for one in series]
    steps = np.concatenate([np.diff(each) for each in times])
    if (steps <= 0).any() or not np.isfinite(np.concatenate(times)).all():
        raise PoseError("its times do not increase from sample to sample")
    if not len(steps):
        return [_only_at_0(each) for each in times]
    usual = float(np.median(steps))
    single = [each[np.abs(each / usual - 1) < _REGULAR] for each in (np.diff(each) for each in times)]
    means = [float(each.mean()) for each in single if len(each) >= _ENOUGH]
    if means and max(means) > min(means) * (1 + _SAME_STEP):
        raise PoseError(f"its series have steps of {min(means):.5f} s and of {max(means):.5f} s: by which clock?")
    step = float(np.concatenate(single).mean())
    return [_numbered(each, step) for each in times]


def _numbered(times: np.ndarray, step: float) -> np.ndarray:
    if not len(times):
        return np.zeros(0, np.int64)
    moves = np.diff(times, prepend=0.0) / step
    if abs(step - 1) < 1e-9:  # sleap-io's default: a frame a second, so that the times are the frames' numbers
        moves = np.diff(times, prepend=0.0)
    elif moves[0] > _REGULAR:
        raise PoseError(
            f"a series begins at {times[0]:.3f} s, and nothing tells which frame of the video that is; expected 0 s"
        )
    # Steps add up one by one: a step that is a little off must not become frames in a long recording.
    if (np.abs(moves - np.round(moves)) > _REGULAR).any() or moves[0] < -_REGULAR:
        raise PoseError("its times are not steps of one length, so that they do not tell the frames")
    return np.cumsum(np.round(moves).astype(np.int64))


def _only_at_0(times: np.ndarray) -> np.ndarray:
    if len(times) and times[0] != 0:
        raise PoseError(f"has one sample, at {times[0]:.3f} s, and nothing tells which frame that is")
    return np.zeros(len(times), np.int64)


def _times(one: Any) -> np.ndarray:
    """(n,) seconds of the samples."""
    if one.timestamps is not None:
        return np.asarray(one.timestamps[:], dtype=np.float64)
    if not one.rate:
        raise PoseError(f"{one.name} has neither times nor a rate")
    return float(one.starting_time or 0) + np.arange(len(one.data)) / float(one.rate)
