"""SLEAP's files as a pose table: .slp (through sleap-io, an extra) and the dense .h5 of its analysis export.

Axes: F frames from 0, T tracks, N nodes (keypoints), 3 = x, y, point score.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SCORER = "SLEAP"
MAX_TRACKS = 32  # more are pieces of tracks, and would be as many animals
NEEDS_EXTRA = "needs the sleap extra"
_DIMS = ("frame", "track", "node", "xy")

# (scorer, [individual,] bodypart, coord) of each column; frame numbers (n,) int64; cells (n, columns) float64.
Table = tuple[list[tuple[str, ...]], np.ndarray, np.ndarray]


class PoseError(ValueError):
    """A file holds no pose that could be used; the message is the reason, without the file's name."""


def extra_missing() -> PoseError:
    """What to raise where sleap-io, or what comes with it, is not installed."""
    return PoseError(f"{NEEDS_EXTRA}: pip install 'paw-pipeline[sleap]'")


def slp_table(path: Path, rows: int | None) -> Table:
    """The table of a .slp file of one video; frames without an animal stay empty. rows: read so many frames only.

    Raises PoseError with the reason, without the file's name, for several videos and for animals without tracks.
    """
    try:
        import sleap_io
    except ImportError:
        raise extra_missing() from None
    import h5py

    with h5py.File(path) as file:
        frames, instances = file["frames"][:], file["instances"][:]
    if not len(frames):
        raise PoseError("holds not one frame with an animal")
    if len(np.unique(frames["video"])) > 1:
        raise PoseError(f"holds the frames of {len(np.unique(frames['video']))} videos; export each of them alone")
    _check_once(frames, instances)
    labels: Any = sleap_io.load_slp(str(path), open_videos=False, lazy=True)
    nodes = labels.skeletons[-1].node_names
    several = _most_at_once(frames, instances) > 1
    tracks = [track.name for track in labels.tracks] if several else []
    if several and (instances["track"] < 0).any():
        raise PoseError("has frames with several animals, and animals without a track: track them in SLEAP first")
    _check_tracks(tracks)
    if rows == 0:
        return columns_of(tracks, nodes, SCORER), np.zeros(0, np.int64), np.zeros((0, 0))
    video = labels.videos[int(frames["video"][0])]
    points_FTN3 = labels.numpy(video=video, untracked=not several, return_confidence=True)
    # sleap-io counts from the first frame that has an animal, to the video's last one if the file says how long it is.
    first = int(frames["frame_idx"].min())
    points_FTN3 = np.pad(points_FTN3, [(first, 0), (0, 0), (0, 0), (0, 0)], constant_values=np.nan)
    return dense_table(np.arange(len(points_FTN3)), points_FTN3, tracks, nodes, SCORER)


def is_analysis(file: Any) -> bool:
    """Whether an open HDF5 file is SLEAP's analysis export, and no DLC table."""
    return "track_occupancy" in file and "node_names" in file and "tracks" in file


def analysis_table(file: Any, rows: int | None) -> Table:
    """The table of an analysis export; its row F is frame F of the video. Raises PoseError as `slp_table` does."""
    tracks = file["tracks"]
    named = tracks.attrs.get("dims")
    order = json.loads(named) if named else ["track", "xy", "node", "frame"]
    if sorted(order) != sorted(_DIMS) or tracks.ndim != len(_DIMS) or not file.attrs.get("transpose", True):
        raise PoseError(f"its tracks have the axes {order}, shape {tracks.shape}; export them from SLEAP again")
    nodes = [_text(name) for name in file["node_names"][:]]
    names = [_text(name) for name in file["track_names"][:]]
    length = dict(zip(order, tracks.shape, strict=True))
    names = names if length["track"] > 1 else []
    if length["node"] != len(nodes) or length["xy"] != 2 or (names and len(names) != length["track"]):
        raise PoseError(f"its tracks have shape {tracks.shape}, its names are of {len(nodes)} nodes and {names}")
    if length["track"] > 1 and not names:
        raise PoseError("has several animals without tracks: track them in SLEAP first")
    _check_tracks(names)
    if rows == 0:
        return columns_of(names, nodes, SCORER), np.zeros(0, np.int64), np.zeros((0, 0))
    xy_FTN2 = np.transpose(tracks[:], [order.index(name) for name in _DIMS])
    scores = file["point_scores"]
    of_scores = [name for name in order if name != "xy"]
    score_FTN = np.transpose(scores[:], [of_scores.index(name) for name in _DIMS[:3]])
    points_FTN3 = np.concatenate([xy_FTN2, score_FTN[..., None]], axis=-1)
    return dense_table(np.arange(length["frame"]), points_FTN3, names, nodes, SCORER)


def columns_of(tracks: Sequence[str], nodes: Sequence[str], scorer: str) -> list[tuple[str, ...]]:
    """Columns as DLC names them: (scorer, node, coord), or with several tracks (scorer, track, node, coord)."""
    coords = ("x", "y", "likelihood")
    if tracks:
        return [(scorer, track, node, coord) for track in tracks for node in nodes for coord in coords]
    return [(scorer, node, coord) for node in nodes for coord in coords]


def dense_table(
    frames: np.ndarray, points_FTN3: np.ndarray, tracks: Sequence[str], nodes: Sequence[str], scorer: str
) -> Table:
    """A table of points of the frames (F,).

    Tracks that are empty throughout are left out; a point without a score is certain.
    """
    points = points_FTN3.astype(np.float64)
    seen = np.isfinite(points[..., 0] + points[..., 1])
    points[..., 2][seen & np.isnan(points[..., 2])] = 1
    used = [t for t in range(points.shape[1]) if not tracks or seen[:, t].any()]
    names = [tracks[t] for t in used] if tracks else []
    points = points[:, used]
    names = names if len(names) > 1 else []
    return columns_of(names, nodes, scorer), frames.astype(np.int64), points.reshape(len(points), -1)


def _check_tracks(tracks: Sequence[str]) -> None:
    if len(tracks) > MAX_TRACKS:
        raise PoseError(f"has {len(tracks)} tracks, at most {MAX_TRACKS} can be animals: join them in SLEAP")
    if len(set(tracks)) < len(tracks):
        raise PoseError(f"has two tracks of one name: {', '.join(sorted(tracks))}")


def _check_once(frames: np.ndarray, instances: np.ndarray) -> None:
    """Raises PoseError where only one of two could be read: of two entries of a frame, or animals of one track in it.

    An animal that SLEAP predicted and a person placed is one.
    """
    numbers, times = np.unique(frames["frame_idx"], return_counts=True)
    if (times > 1).any():
        raise PoseError(f"holds frame {numbers[times > 1][0]} more than once: save it again with SLEAP")
    lengths = (frames["instance_id_end"] - frames["instance_id_start"]).astype(np.int64)
    first = np.repeat(frames["instance_id_start"].astype(np.int64) - np.cumsum(lengths) + lengths, lengths)
    found = instances[first + np.arange(len(first))]
    of_frame = np.repeat(frames["frame_idx"].astype(np.int64), lengths)
    tracked = found["track"] >= 0
    placed = np.stack([of_frame, found["track"], found["instance_type"]], axis=1)[tracked]
    placed, times = np.unique(placed, axis=0, return_counts=True)
    if (times > 1).any():
        raise PoseError(f"has two animals of one track in frame {placed[times > 1][0][0]}: mend its tracks in SLEAP")


def _most_at_once(frames: np.ndarray, instances: np.ndarray) -> int:
    """Animals in one frame; one that SLEAP predicted and a person placed counts once."""
    by_person = np.asarray(instances["instance_type"] == 0)
    return max(
        max(int(by_person[start:stop].sum()), int((~by_person[start:stop]).sum()))
        for start, stop in zip(frames["instance_id_start"], frames["instance_id_end"], strict=True)
    )


def _text(name: Any) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)
