"""Batches of windows, read ahead by threads into reused buffers.

Shapes: B batch, T frames, H height, W width, C channels, K keypoints.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from cache.clip import UNLABELLED
from cache.remote import AT_ONCE
from pipeline.model.animals import animals, entry
from pipeline.model.pose_branch import TIMES
from pipeline.train.batch import Batch
from pipeline.train.keep import KeptFrames
from pipeline.train.labels import Merge
from pipeline.train.windows import Window

if TYPE_CHECKING:
    from cache import Clip

# Whole recordings as windows make large buffers; fewer of them are then kept than asked for.
RING_BYTES = 2 * 2**30
THREADS, DEPTH = 2, 4  # that read from a disk, and batches that they read ahead; from an object store: AT_ONCE


class StreamError(ValueError):
    """Clips cannot stand in one batch; the message names the recording and what differs."""


@dataclass(frozen=True, eq=False)
class ClipData:
    """A clip without its frames: labels (T,) int64 merged, xy (T,K,2) float32 in the square, visible (T,K) bool.

    xy is clipped to [0, 1], and 0 where a keypoint is not visible; labels are -1 where unlabelled. A damaged frame is
    unlabelled and shows no keypoint, which keeps it out of losses, scores, sampling and pose features.
    when (T,TIMES) float32: frames since the trial's begin, to the clip's last frame, since the stimulus, and since the
    last of several animals came in (NaN where not known).
    """

    labels: np.ndarray
    xy: np.ndarray
    visible: np.ndarray
    when: np.ndarray


def load_clip(clip: Clip, merge: Merge, likelihood_thr: float) -> ClipData:
    """What training needs of a clip beside its frames.

    A keypoint without coordinates or likelihood (NaN), or with a likelihood below the threshold, is not visible.
    """
    visible = np.isfinite(clip.keypoints).all(-1) & (clip.keypoints[..., 2] >= likelihood_thr)
    visible &= clip.intact[:, None]
    xy = clip.geometry.to_square(clip.keypoints[..., :2])
    return ClipData(
        labels=np.where(clip.intact, merge.apply(clip.labels), UNLABELLED),
        xy=np.where(visible[..., None], np.clip(xy, 0, 1), 0).astype(np.float32),
        visible=visible,
        when=_when(clip, visible),
    )


def _when(clip: Clip, visible_TK: np.ndarray) -> np.ndarray:
    frame = np.arange(len(clip), dtype=np.float32)
    # All are counted from the trial's start, of which the clip may begin later.
    since = clip.source["crop_start"] + frame
    stimulus = math.nan if clip.stim_frame is None else clip.stim_frame
    entered = entry(visible_TK, animals(clip.keypoint_names))
    since_entry = frame - np.float32(math.nan if entered is None else entered)
    return np.stack([since, len(clip) - 1 - frame, since - np.float32(stimulus), since_entry], 1)


def load_clips(clips: Iterable[Clip], merge: Merge, likelihood_thr: float) -> list[ClipData]:
    """`load_clip` of all; the cache's own copies, of which no more is needed, are let go of after each recording.

    Recordings of an object store, of which each costs several requests, are read side by side.
    """

    def load(together: Sequence[Clip]) -> list[ClipData]:
        found = [load_clip(clip, merge, likelihood_thr) for clip in together]
        together[0].forget()
        return found

    recordings = [list(group) for _, group in itertools.groupby(clips, key=lambda clip: clip.recording)]
    if not any(together[0].remote for together in recordings):
        return [data for together in recordings for data in load(together)]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="load") as pool:
        return [data for found in pool.map(load, recordings) for data in found]


class Stream:
    """Iterates over batches of the windows, in their order, on the device; `len` is the number of batches.

    Threads read up to `depth` batches ahead into a ring of buffers: pinned for CUDA, and on the device itself where the
    frames are kept there. threads, depth None: as suits a disk, or many more, to hide how long an object store takes.
    Where nothing is copied to the device a batch's frames are such a buffer itself: they hold until the next batch is
    asked for. Shorter windows of a batch are padded at the end (valid False, labels -1, nothing visible, frames 0).
    with_frames False leaves the frames unread, for a model that looks at the pose alone; clips of recordings without a
    video have none.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        data: Sequence[ClipData],
        windows: Sequence[Window],
        batch_size: int,
        device: torch.device | str,
        *,
        threads: int | None = None,
        depth: int | None = None,
        with_frames: bool = True,
    ) -> None:
        self.clips = clips
        self.data = data
        self.batches = [list(windows[i : i + batch_size]) for i in range(0, len(windows), batch_size)]
        self.device = torch.device(device)
        self.waited_s = 0.0
        used = [clips[i] for i in sorted({window.clip for window in windows})] if with_frames else []
        remote = any(clip.remote for clip in used)
        self._threads = threads or (AT_ONCE if remote else THREADS)
        self._depth = depth or (AT_ONCE if remote else DEPTH)
        self._frame_shape = _frame_shape(used)
        self._kept_there = self._frame_shape is not None and all(
            isinstance(frames := clip.frames, KeptFrames) and frames.device == self.device for clip in used
        )
        self._running: Iterator[Batch] | None = None

    def __len__(self) -> int:
        return len(self.batches)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Batch]:
        self.close()
        self._running = self._run()
        return self._running

    def close(self) -> None:
        """Stops reading ahead and waits for the threads to end. Leaving the loop early does the same."""
        if self._running is not None:
            self._running.close()  # type: ignore[attr-defined]
            self._running = None

    def _run(self) -> Iterator[Batch]:
        free = deque(self._ring())
        pending: deque[tuple[Future[Batch], torch.Tensor | None]] = deque()
        todo = iter(self.batches)
        self.waited_s = 0.0
        with ThreadPoolExecutor(self._threads, thread_name_prefix="stream") as pool:
            try:
                while True:
                    while free and (windows := next(todo, None)):
                        buffer = free.popleft()
                        pending.append((pool.submit(self._fill, windows, buffer), buffer))
                    if not pending:
                        return
                    started = time.perf_counter()
                    future, buffer = pending.popleft()
                    batch = future.result().to(self.device)
                    copied = self._event()
                    self.waited_s += time.perf_counter() - started
                    yield batch
                    if copied is not None:
                        copied.synchronize()
                    free.append(buffer)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _ring(self) -> list[torch.Tensor | None]:
        """The buffers, each large enough for the largest batch."""
        if self._frame_shape is None:
            return [None] * self._depth
        largest = max((len(ws) * max(w.n_frames for w in ws) for ws in self.batches), default=0)
        size = largest * int(np.prod(self._frame_shape))
        count = max(1, min(self._depth, len(self.batches), RING_BYTES // max(1, size)))
        if self._kept_there:
            return [torch.empty(size, dtype=torch.uint8, device=self.device) for _ in range(count)]
        if self.device.type == "cuda":
            return [torch.empty(size, dtype=torch.uint8, pin_memory=True) for _ in range(count)]
        # numpy asks for large pages, which makes the first use of a large buffer several times as fast.
        return [torch.from_numpy(np.empty(size, np.uint8)) for _ in range(count)]

    def _event(self) -> torch.cuda.Event | None:
        """Marks the end of the copy to the device: a pinned buffer may be filled anew only after it."""
        if self.device.type != "cuda":
            return None
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _fill(self, windows: Sequence[Window], buffer: torch.Tensor | None) -> Batch:
        """The batch of these windows, its frames in the buffer. Runs in a thread."""
        B, T = len(windows), max(window.n_frames for window in windows)
        parts = [self.data[window.clip] for window in windows]
        K = parts[0].visible.shape[1]
        xy = torch.zeros((B, T, K, 2), dtype=torch.float32)
        visible = torch.zeros((B, T, K), dtype=torch.bool)
        labels = torch.full((B, T), UNLABELLED, dtype=torch.int64)
        valid = torch.zeros((B, T), dtype=torch.bool)
        when = torch.full((B, T, TIMES), torch.nan)
        for b, (window, part) in enumerate(zip(windows, parts, strict=True)):
            n, rows = window.n_frames, slice(window.start, window.stop)
            xy[b, :n] = torch.from_numpy(part.xy[rows])
            visible[b, :n] = torch.from_numpy(part.visible[rows])
            labels[b, :n] = torch.from_numpy(part.labels[rows])
            valid[b, :n] = True
            when[b, :n] = torch.from_numpy(part.when[rows])
        return Batch(self._read_frames(windows, T, buffer), xy, visible, labels, valid, when)

    def _read_frames(self, windows: Sequence[Window], T: int, buffer: torch.Tensor | None) -> torch.Tensor | None:
        if buffer is None or self._frame_shape is None:
            return None
        shape = (len(windows), T, *self._frame_shape)
        batch = buffer[: int(np.prod(shape))].view(shape)
        for b, window in enumerate(windows):
            frames, out = self.clips[window.clip].frames, batch[b, : window.n_frames]
            if isinstance(frames, KeptFrames):
                out.copy_(frames.whole()[window.start : window.stop])
            else:
                frames.read_into(window.start, window.stop, out.numpy())
            batch[b, window.n_frames :] = 0
        return batch


def _frame_shape(clips: Sequence[Clip]) -> tuple[int, ...] | None:
    """(H, W, C), which all clips must share; None if none has frames. Raises StreamError."""
    shapes = {clip.recording: tuple(clip.frames.shape[1:]) if clip.has_frames else None for clip in clips}
    first = next(iter(shapes.items()), ("", None))
    for recording, shape in shapes.items():
        if shape != first[1]:
            raise StreamError(
                f"{recording} has {_described(shape)}, {first[0]} has {_described(first[1])}: a model that sees frames "
                "needs them of all recordings, in one size; take one out, or train with --encoder none"
            )
    return first[1]


def _described(shape: tuple[int, ...] | None) -> str:
    return "no frames" if shape is None else f"frames of {'x'.join(map(str, shape))}"
