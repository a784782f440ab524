"""A clip of the cache with its keypoints in place, ready to be drawn, and which of its frames tell most.

Axes: T frames, K keypoints, S side of a cached frame. Places are x, y in [0, 1] of the padded square.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.sparse.csgraph import minimum_spanning_tree

from cache import Cache, Clip, Place
from pipeline.drawing import name_of, place_of, point_colours

# The square around the animal: it holds this share of the frames' keypoints, with a margin, and is not smaller.
_MOST, _MARGIN, _NEAREST = 0.95, 1.6, 0.2
_SMOOTH = 15  # frames over which it moves


class ClipError(ValueError):
    """The cache has no such clip, or more than one; the message lists what it has."""


@dataclass(frozen=True)
class Overlay:
    """A clip with its keypoints in place.

    xy: (T, K, 2), NaN where there is none. visible: (T, K), from the threshold on. bones: pairs of keypoints to join.
    centre (T, 2), reach: the square that holds the animal goes from centre - reach to centre + reach. grays: what is
    shown there as black and as white.
    """

    clip: Clip
    xy: np.ndarray
    visible: np.ndarray
    labels: np.ndarray
    bones: list[tuple[int, int]]
    centre: np.ndarray
    reach: float
    grays: tuple[float, float]

    @classmethod
    def of(cls, clip: Clip, likelihood_thr: float) -> Overlay:
        keypoints = clip.keypoints
        xy = clip.geometry.to_square(keypoints[..., :2])
        bones = [] if clip.has_frames else _bones(xy)
        centre, reach = _animal(xy)
        grays = _grays(clip, centre, reach) if clip.has_frames else (0.0, 255.0)
        visible = keypoints[..., 2] >= likelihood_thr
        return cls(clip, xy, visible, clip.labels, bones, centre, reach, grays)

    @property
    def colours(self) -> list[str]:
        """Of the keypoints."""
        return point_colours(self.xy.shape[1])

    def picture(self, t: int) -> np.ndarray:
        """Frame t (S, S, 3), white where there is no video."""
        if not self.clip.has_frames:
            return np.full((2, 2, 3), 255, np.uint8)
        return np.broadcast_to(self.clip.frames[t], (*self.clip.frames.shape[1:3], 3))

    def stretched(self, t: int) -> np.ndarray:
        """The same with the contrast of the square around the animal."""
        black, white = self.grays
        return ((self.picture(t) - black) * (255 / (white - black))).clip(0, 255).astype(np.uint8)

    def label(self, t: int) -> str:
        return name_of(self.labels[t], self.clip.class_names)[0]

    def label_colour(self, t: int) -> str:
        return name_of(self.labels[t], self.clip.class_names)[1]

    def title(self, t: int) -> str:
        """Where frame t is found in the video and in its trial."""
        clip = self.clip
        return place_of(clip.frame_index[t], clip.time_s[t], clip.source["crop_start"] + t)


def find_clip(cache: Cache, name: str) -> Clip:
    """The clip `recording/trial`, `recording_trial`, or `recording` where that has one only. Raises ClipError."""
    clips = {(clip.recording, clip.trial): clip for clip in cache}
    found = trials_named(name, list(clips), cache.path)
    if len(found) > 1:
        names = ", ".join(f"{recording}/{trial}" for recording, trial in found)
        raise ClipError(f"{name}: {len(found)} clips of that name in {cache.path}; give one of {names}")
    return clips[found[0]]


def trials_named(name: str, trials: Sequence[tuple[str, int]], where: Place) -> list[tuple[str, int]]:
    """The trial `recording/trial` or `recording_trial`, or all those of `recording`. Raises ClipError where none is."""
    names = {f"{recording}/{trial}": (recording, trial) for recording, trial in trials}
    found = [key for n, key in names.items() if name in (n, f"{key[0]}_{key[1]}")]
    found = found or [key for key in trials if name == key[0]]
    if found:
        return found
    part = [n for n in names if name.lower() in n.lower()]
    near = (part or difflib.get_close_matches(name, list(names), n=5, cutoff=0.3) or list(names))[:5]
    raise ClipError(f"{name}: no such clip in {where}; expected RECORDING/TRIAL, for example {', '.join(near)}")


def parse_part(text: str, n_frames: int) -> slice:
    """`0:600` as frames [0, 600) of a clip of n_frames; `600:` and an empty text go to its end. Raises ClipError."""
    given = re.fullmatch(r"([0-9]*):([0-9]*)", text or ":")
    start, stop = (int(given[1] or 0), min(int(given[2] or n_frames), n_frames)) if given else (0, 0)
    if not start < stop:
        raise ClipError(f"--frames {text}: expected START:STOP within the clip's {n_frames} frames, for example 0:600")
    return slice(start, stop)


def chosen_frames(labels: np.ndarray, n: int) -> list[int]:
    """At most n frames of labels (T,): the last before and the first after a change of label, the rest evenly spaced.

    Where there are more changes than half of n can show, changes that are evenly spread among them.
    """
    changes = np.flatnonzero(np.diff(labels)) + 1
    if 2 * len(changes) > n // 2:
        changes = changes[np.linspace(0, len(changes) - 1, n // 4).round().astype(int)]
    chosen = {int(t) for change in changes for t in (change - 1, change)}
    for n_even in range(min(n, len(labels)), 0, -1):
        even = np.linspace(0, len(labels) - 1, n_even).round().astype(int).tolist()
        if len(chosen | set(even)) <= n:
            return sorted(chosen | set(even))
    return sorted(chosen)


def _animal(xy: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (T, 2) and reach of the squares that hold nearly all keypoints (T, K, 2), moving smoothly."""
    known = ~np.isnan(xy).any(axis=2).all(axis=1)
    if not known.any():
        return np.full((len(xy), 2), 0.5), 0.5
    low, high = np.nanmin(xy[known], axis=1), np.nanmax(xy[known], axis=1)
    reach = float(np.clip(np.quantile(high - low, _MOST) * _MARGIN / 2, _NEAREST / 2, 0.5))
    times = np.arange(len(xy))
    centre = np.stack([np.interp(times, times[known], axis) for axis in ((low + high) / 2).T], axis=1)
    centre = uniform_filter1d(centre, _SMOOTH, axis=0, mode="nearest")
    return centre.clip(reach, 1 - reach), reach


def _grays(clip: Clip, centre: np.ndarray, reach: float) -> tuple[float, float]:
    """The gray levels that the squares around the animal reach from and to, but for a few pixels."""
    side = clip.geometry.img_size
    pixels = []
    for t in np.linspace(0, len(clip) - 1, 12).round().astype(int):
        (left, top), (right, bottom) = ((centre[t] + shift) * side for shift in (-reach, reach))
        pixels.append(clip.frames[t][int(top) : int(bottom), int(left) : int(right)].ravel())
    black, white = np.percentile(np.concatenate(pixels), (1, 99.9))
    return float(black), float(max(white, black + 1))


def _bones(xy: np.ndarray) -> list[tuple[int, int]]:
    """The tree that joins keypoints (T, K, 2) that stay near each other, but not those of one animal to another's."""
    distances = np.linalg.norm(xy[:, :, None] - xy[:, None], axis=-1)
    together = ~np.isnan(distances).all(axis=0)
    length = np.zeros(together.shape)
    length[together] = np.nanquantile(distances[:, together], 0.9, axis=0)
    tree = minimum_spanning_tree(length).tocoo()
    longest = 2 * np.median(tree.data) if tree.nnz else 0.0  # of two rats' ten points, the one between them had 2.2
    pairs = zip(tree.row.tolist(), tree.col.tolist(), tree.data.tolist(), strict=True)
    return [(a, b) for a, b, bone in pairs if bone <= longest]
