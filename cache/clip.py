"""What a clip is: one trial of a recording, cropped, with its keypoints and labels aligned frame by frame.

The arrays of a recording hold all its clips, one after the other; n frames, K keypoints:

    frames       (n, img_size, img_size, channels) uint8; absent where there is no video
    keypoints    (n, K, 3) float32: x, y normalised by the original width and height, likelihood; NaN where DLC has none
    labels       (n,) int16: ids of class_names; -1: not labelled
    frame_index  (n,) int32: the frame's number in the video as decoded, from 0
    time_s       (n,) float64: when it is shown; NaN without a video
    intact       (n,) bool: False for a frame that could not be decoded: it is black, and nothing must be learned or
                 scored on it; True without a video
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

UNLABELLED = -1
SCHEMA_VERSION = 2
ARRAY_DTYPES: dict[str, type[np.generic]] = {
    "keypoints": np.float32,
    "labels": np.int16,
    "frame_index": np.int32,
    "time_s": np.float64,
    "intact": np.bool_,
}


class CacheError(ValueError):
    """A cache, or a recording in it, cannot be used; the message says which, why, and what to do."""


def first_line(error: Exception) -> str:
    """What an error says, for a message of one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True)
class Geometry:
    """How the original picture lies in the cached square: scaled to fit, centred, the rest padded with black.

    width, height: original size in pixels, as shown. img_size: side of the square. left, top, content_width,
    content_height: where the picture lies in it, in cached pixels. A recording without a video has img_size 0.
    """

    width: int
    height: int
    img_size: int
    left: int
    top: int
    content_width: int
    content_height: int

    @classmethod
    def fit(cls, width: int, height: int, img_size: int) -> Geometry:
        """The largest picture of the same aspect ratio in a square of img_size; 1064x1070 at 224 is 223x224."""
        longer = max(width, height)
        w = max(1, round(width * img_size / longer))
        h = max(1, round(height * img_size / longer))
        return cls(width, height, img_size, (img_size - w) // 2, (img_size - h) // 2, w, h)

    @classmethod
    def pose_only(cls, width: int, height: int) -> Geometry:
        """For a recording that has keypoints but no video: the square is the longer side itself."""
        longer = max(width, height)
        return cls(width, height, 0, (longer - width) // 2, (longer - height) // 2, width, height)

    def to_square(self, xy: np.ndarray) -> np.ndarray:
        """Coordinates (..., 2) normalised by the original width and height -> [0, 1] of the padded square.

        Both axes then have one scale, so that distances and angles are true.
        """
        scale, shift = self._affine()
        return (xy * scale + shift).astype(np.float32)

    def from_square(self, xy: np.ndarray) -> np.ndarray:
        """The inverse of to_square."""
        scale, shift = self._affine()
        return ((xy - shift) / scale).astype(np.float32)

    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        side = self.img_size or max(self.width, self.height)
        scale = np.array([self.content_width, self.content_height]) / side
        shift = np.array([self.left, self.top]) / side
        return scale, shift


@dataclass(frozen=True)
class ClipRows:
    """Where a clip lies in its recording's arrays, and in the video.

    Rows [start, stop) of the arrays are frames [first_frame, first_frame + stop - start) of the video, which is frame
    crop_start of the trial on. stim_frame: frame of the stimulus counted from the trial's start, or None.
    """

    trial: int
    start: int
    stop: int
    first_frame: int
    crop_start: int
    annotation: str | None = None
    stim_frame: int | None = None

    @property
    def video_range(self) -> tuple[int, int]:
        """Its frames in the video, half open."""
        return self.first_frame, self.first_frame + self.stop - self.start


@dataclass(frozen=True)
class Damage:
    """Of the n_frames frames of a trial n_damaged are not intact; the trial may have been left out for that."""

    trial: int
    n_damaged: int
    n_frames: int


@dataclass(frozen=True)
class RecordingMeta:
    """Everything about a recording in the cache but its arrays; kept as JSON in the store's attributes.

    damage: of the trials with damaged frames, also of those that are not among the clips. compression: of the frames,
    zstd or none; empty in caches from before there was a choice, which have their store's default.
    """

    recording: str
    video: str | None
    dlc: str
    geometry: Geometry
    channels: int
    fps: float | None
    decoder: str | None
    keypoint_names: tuple[str, ...]
    class_names: tuple[str, ...]
    clips: tuple[ClipRows, ...]
    fingerprints: dict[str, str]
    notes: tuple[str, ...] = ()
    schema_version: int = SCHEMA_VERSION
    settings: dict[str, Any] = field(default_factory=dict)
    damage: tuple[Damage, ...] = ()
    compression: str = ""

    @property
    def has_frames(self) -> bool:
        """False for a recording that has keypoints but no video."""
        return self.geometry.img_size > 0

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of a cached frame."""
        return self.geometry.img_size, self.geometry.img_size, self.channels

    @property
    def n_frames(self) -> int:
        """Rows of each array: the frames of all clips."""
        return self.clips[-1].stop if self.clips else 0


def meta_to_dict(meta: RecordingMeta) -> dict[str, Any]:
    """Plain values that JSON can hold; `meta_from_dict` reads them."""
    lists = {"clips": [vars(clip) for clip in meta.clips], "damage": [vars(damage) for damage in meta.damage]}
    return vars(meta) | {"geometry": vars(meta.geometry)} | lists


def meta_from_dict(values: dict[str, Any]) -> RecordingMeta:
    """The inverse of `meta_to_dict`. Raises CacheError for another schema version, and where something is missing."""
    try:
        found, name = values["schema_version"], values["recording"]
        if found != SCHEMA_VERSION:
            raise CacheError(f"recording {name}: schema version {found}, expected {SCHEMA_VERSION}")
        tuples = {name: tuple(values[name]) for name in ("keypoint_names", "class_names", "notes")}
        tuples["clips"] = tuple(ClipRows(**rows) for rows in values["clips"])
        tuples["damage"] = tuple(Damage(**damage) for damage in values["damage"])
        return RecordingMeta(**values | tuples | {"geometry": Geometry(**values["geometry"])})
    except (KeyError, TypeError) as error:
        raise CacheError(f"damaged metadata of a recording ({first_line(error)})") from None
