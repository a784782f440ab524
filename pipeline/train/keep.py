"""Where the frames of a cache stay between epochs: on the device, in memory, or where the cache lies.

Nothing that is learned depends on it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from cache import Clip
from cache.reader import FrameSource
from pipeline.machine import free_memory
from pipeline.train_settings import Keep

# Of what is free: the network, its activations and other programs need room too.
DEVICE_SHARE, MEMORY_SHARE = 0.4, 0.4
AHEAD = 8  # clips of an object store that are fetched before they are needed
AHEAD_BYTES = 256 * 2**20  # of frames; longer clips are read in parts


class KeptFrames:
    """The frames of a clip, (T,H,W,C) uint8 on a device: read when they are first asked for, and then kept there."""

    dtype = np.dtype(np.uint8)

    def __init__(self, frames: FrameSource, device: torch.device) -> None:
        self.shape = frames.shape
        self.device = device
        self._source = frames
        self._lock = threading.Lock()
        self._whole: torch.Tensor | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def whole(self) -> torch.Tensor:
        """All of them; safe to call from several threads."""
        with self._lock:
            if self._whole is None:
                self._whole = torch.as_tensor(self._source[:]).to(self.device)
            return self._whole

    def __getitem__(self, key: int | slice) -> torch.Tensor:
        return self.whole()[key]

    def read_into(self, start: int, stop: int, out: np.ndarray) -> None:
        """Frames [start, stop) into out (stop - start,H,W,C) uint8."""
        torch.from_numpy(out).copy_(self.whole()[start:stop])


def choose(wanted: Keep, clips: Sequence[Clip], device: torch.device) -> tuple[Keep, str]:
    """Where the frames of these clips are to be kept, and the line that says so.

    auto: the device where that is not the processor and its memory has room, else memory where that has, else the disk.
    """
    n_bytes = sum(int(np.prod(clip.frames.shape)) for clip in clips if clip.has_frames)
    chosen = wanted
    if wanted is Keep.AUTO:
        chosen = Keep.DISK
        if n_bytes <= MEMORY_SHARE * free_memory():
            chosen = Keep.MEMORY
        if device.type == "cuda" and n_bytes <= DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
            chosen = Keep.DEVICE
    if chosen is Keep.DEVICE and device.type == "cpu":
        chosen = Keep.MEMORY
    where = {
        Keep.DEVICE: f"kept on {device}",
        Keep.MEMORY: "kept in memory",
        Keep.DISK: f"read from {_source(clips)} in every epoch",
    }
    size = f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"
    return chosen, f"[info] frames ({size} unpacked) are {where[chosen]} (--keep)"


def _source(clips: Sequence[Clip]) -> str:
    """What frames that are kept nowhere are read from."""
    remote = next((clip.remote for clip in clips if clip.remote), None)
    if remote is None:
        return "the disk"
    return "the object store" if remote.copy is None else f"their copies in {remote.copy}, once they are there,"


def kept(clip: Clip, chosen: Keep, device: torch.device) -> Clip:
    """The clip with its frames kept as `choose` says."""
    if chosen is Keep.DISK or not clip.has_frames:
        return clip
    return clip.with_frames(KeptFrames(clip.frames, device if chosen is Keep.DEVICE else torch.device("cpu")))


def fetched(clips: Sequence[Clip]) -> Iterator[Clip]:
    """The clips in their order; of those in an object store the frames of the next few are fetched meanwhile."""
    if not any(clip.remote for clip in clips):
        yield from clips
        return
    todo, waiting = iter(clips), deque[Future[Clip]]()
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="fetched") as pool:
        while True:
            while len(waiting) < AHEAD and (clip := next(todo, None)) is not None:
                waiting.append(pool.submit(_with_its_frames, clip))
            if not waiting:
                return
            yield waiting.popleft().result()


def _with_its_frames(clip: Clip) -> Clip:
    if not clip.remote or not clip.has_frames or np.prod(clip.frames.shape) > AHEAD_BYTES:
        return clip
    frames = clip.frames if isinstance(clip.frames, KeptFrames) else KeptFrames(clip.frames, torch.device("cpu"))
    frames.whole()
    return clip.with_frames(frames)
