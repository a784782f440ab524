"""Reading a cache: a sequence of clips, whose arrays come from the disk when they are asked for."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np

from cache import fingerprint, index
from cache.clip import CacheError, ClipRows, Geometry, RecordingMeta
from cache.remote import Place, Remote, place
from cache.store import Recording

if TYPE_CHECKING:
    import pandas as pd


class Frames:
    """The frames of a clip, (T, H, W, C) uint8, read from the disk whenever they are asked for."""

    def __init__(self, recording: Recording, rows: ClipRows) -> None:
        self._recording = recording
        self._start = rows.start
        self.shape = (rows.stop - rows.start, *recording.meta.frame_shape)
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice) -> np.ndarray:
        """frames[a:b] is (b - a, H, W, C), half open; frames[i] is (H, W, C)."""
        if not isinstance(key, slice):
            number = range(len(self))[operator.index(key)]
            return self[number : number + 1][0]
        start, stop, step = key.indices(len(self))
        if step != 1:
            raise ValueError(f"frames[{start}:{stop}:{step}]: frames are read in order, without a step")
        out = np.empty((max(0, stop - start), *self.shape[1:]), np.uint8)
        self.read_into(start, start + len(out), out)
        return out

    def read_into(self, start: int, stop: int, out: np.ndarray) -> None:
        """Frames [start, stop) into out (stop - start, H, W, C) uint8, C-contiguous: a buffer that is used again."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"frames [{start}, {stop}) of a clip of {len(self)} frames")
        expected = (stop - start, *self.shape[1:])
        if out.shape != expected or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise ValueError(f"a buffer of {out.shape} {out.dtype}: expected {expected} uint8, C-contiguous")
        if start < stop:
            self._recording.read_frames_into(self._start + start, self._start + stop, out)


class FrameSource(Protocol):
    """What gives frames, (T, H, W, C) uint8: the cache (`Frames`), or who keeps them elsewhere."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, key: int | slice) -> Any:
        """frames[a:b] is (b - a, H, W, C), half open; frames[i] is (H, W, C)."""

    def read_into(self, start: int, stop: int, out: np.ndarray) -> None:
        """Frames [start, stop) into out (stop - start, H, W, C) uint8, C-contiguous."""


class Clip:
    """One trial of a recording, cropped; every array has T = n_frames rows. `cache.clip` describes the arrays."""

    def __init__(self, recording: Recording, rows: ClipRows, frames: FrameSource | None = None) -> None:
        self._recording = recording
        self._rows = rows
        self._frames = frames
        self.meta = recording.meta

    def with_frames(self, frames: FrameSource) -> Clip:
        """The same clip, whose frames come from elsewhere: from memory, for example."""
        return Clip(self._recording, self._rows, frames)

    def with_stimulus(self, stim_frame: int | None) -> Clip:
        """The same clip, whose stimulus was in this frame of the trial, whatever its annotation says."""
        return Clip(self._recording, replace(self._rows, stim_frame=stim_frame), self._frames)

    def __len__(self) -> int:
        return self.n_frames

    def __repr__(self) -> str:
        frames = "x".join(map(str, self.meta.frame_shape)) if self.has_frames else "no frames"
        return f"Clip({self.recording!r}, trial {self.trial}, {self.n_frames} frames, {frames})"

    @property
    def recording(self) -> str:
        """The video's name without its extension."""
        return self.meta.recording

    @property
    def trial(self) -> int:
        """Number of the trial in the recording, from 1."""
        return self._rows.trial

    @property
    def n_frames(self) -> int:
        return self._rows.stop - self._rows.start

    @property
    def has_frames(self) -> bool:
        """False where there is no video: keypoints and labels only."""
        return self.meta.has_frames

    @property
    def frames(self) -> FrameSource:
        """(T, H, W, C) uint8, read when sliced. Raises CacheError where there is no video."""
        if not self.has_frames:
            raise CacheError(f"recording {self.recording}: has no frames, it was made from keypoints alone")
        return self._frames or Frames(self._recording, self._rows)

    @property
    def keypoints(self) -> np.ndarray:
        """(T, K, 3) float32: x, y normalised by the original width and height, likelihood; NaN where there is none."""
        return self._array("keypoints")

    @property
    def labels(self) -> np.ndarray:
        """(T,) int16 ids of class_names; -1: not labelled."""
        return self._array("labels")

    @property
    def frame_index(self) -> np.ndarray:
        """(T,) int32: the number of the frame in the video as decoded, from 0."""
        return self._array("frame_index")

    @property
    def time_s(self) -> np.ndarray:
        """(T,) float64: when the frame is shown; NaN without a video."""
        return self._array("time_s")

    @property
    def intact(self) -> np.ndarray:
        """(T,) bool: False for a frame that could not be decoded; it is black, and its label and keypoints stand."""
        return self._array("intact")

    @property
    def keypoint_names(self) -> tuple[str, ...]:
        return self.meta.keypoint_names

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.meta.class_names

    @property
    def geometry(self) -> Geometry:
        return self.meta.geometry

    @property
    def fps(self) -> float | None:
        return self.meta.fps

    @property
    def stim_frame(self) -> int | None:
        """Frame of the stimulus counted from the trial's start, where the annotation has it."""
        return self._rows.stim_frame

    @property
    def source(self) -> dict[str, Any]:
        """Where the clip came from: files, decoder, and where it begins in the trial and in the video."""
        meta, rows = self.meta, self._rows
        return {
            "video": meta.video,
            "dlc": meta.dlc,
            "annotation": rows.annotation,
            "decoder": meta.decoder,
            "crop_start": rows.crop_start,
            "first_frame": rows.first_frame,
        }

    @property
    def remote(self) -> Remote | None:
        """The recording's place where it lies in an object store: each read is then a request, or several."""
        path = self._recording.path
        return path if isinstance(path, Remote) else None

    def forget(self) -> None:
        """Let go of the arrays of the clip's recording that were read into memory; they are read again when needed."""
        self._recording.forget()

    def _array(self, name: str) -> np.ndarray:
        return self._recording.array(name)[self._rows.start : self._rows.stop]


class Cache(Sequence[Clip]):
    """The clips of a cache, by recording and trial."""

    def __init__(self, path: Place, table: index.Table) -> None:
        self.path = path
        self._table = table
        self._clips: dict[int, list[Clip]] = {}

    def __len__(self) -> int:
        return int(self._table.starts[-1])

    def __iter__(self) -> Iterator[Clip]:
        for number in range(len(self._table.names)):
            yield from self._clips_of(number)

    @overload
    def __getitem__(self, key: int) -> Clip: ...
    @overload
    def __getitem__(self, key: slice) -> list[Clip]: ...
    def __getitem__(self, key: int | slice) -> Clip | list[Clip]:
        if isinstance(key, slice):
            return [self[i] for i in range(len(self))[key]]
        i = range(len(self))[operator.index(key)]
        number = int(np.searchsorted(self._table.starts, i, side="right")) - 1
        return self._clips_of(number)[i - int(self._table.starts[number])]

    def __repr__(self) -> str:
        return f"Cache({str(self.path)!r}, {len(self._table.names)} recordings, {len(self)} clips)"

    @property
    def recordings(self) -> tuple[RecordingMeta, ...]:
        """What is said of each recording, by name."""
        return tuple(self._table.meta(number) for number in range(len(self._table.names)))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the original classes. Raises CacheError where recordings differ, or where there is none."""
        return self._common("class_names")

    @property
    def keypoint_names(self) -> tuple[str, ...]:
        """Raises CacheError where recordings differ, or where there is none."""
        return self._common("keypoint_names")

    @property
    def skipped(self) -> pd.DataFrame:
        """What is not in the cache: recording, trial (empty: the whole recording), reason."""
        return index.skipped_table(self._table.skipped())

    @property
    def fingerprint(self) -> str:
        """Of all content: the same for the same recordings, in whatever order and format they were written."""
        return fingerprint.of_values(**{meta.recording: meta.fingerprints for meta in self.recordings})

    def _clips_of(self, number: int) -> list[Clip]:
        """The clips of a recording, by trial."""
        if number not in self._clips:
            meta = self._table.meta(number)
            recording = Recording(self.path.joinpath(index.RECORDINGS, self._table.file(number)), meta)
            ordered = sorted(meta.clips, key=lambda rows: rows.trial)
            if len(ordered) != self._table.starts[number + 1] - self._table.starts[number]:
                raise CacheError(
                    f"{self._table.path}: clips of {meta.recording} are missing; delete it and run preprocess"
                )
            self._clips[number] = [Clip(recording, rows) for rows in ordered]
        return self._clips[number]

    def _common(self, name: str) -> tuple[str, ...]:
        recordings = self.recordings
        if not recordings:
            raise CacheError(f"{self.path}: the cache holds no recording; {index.SKIPPED_FILE} there says why")
        first, *others = recordings
        expected: tuple[str, ...] = getattr(first, name)
        for other in others:
            if (found := getattr(other, name)) != expected:
                raise CacheError(
                    f"{self.path}: {name} differ: {first.recording} has {', '.join(expected)}; {other.recording} has "
                    f"{', '.join(found)}; preprocess them into caches of their own"
                )
        return expected


def open(path: Place | str) -> Cache:
    """Open a cache for reading: a folder, or s3://bucket/cache in an object store. Raises CacheError.

    Reads its index alone, however much it holds.
    """
    folder = place(path)
    index.read_format(folder)
    return Cache(folder, index.read_table(folder))
