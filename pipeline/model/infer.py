"""A network over whole clips, each frame once, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from cache import Clip
from pipeline.model.ensemble import Ensemble, mean_output
from pipeline.model.frame_encoder import to_unit
from pipeline.model.mirror import mirrored_back, mirrored_points
from pipeline.model.network import Network, Output, in_a_row
from pipeline.model.parts import clip_output
from pipeline.model.room import Room
from pipeline.model.threads import threads_for
from pipeline.setting_texts import SettingsError


def pick_device(name: str) -> torch.device:
    """The device that --device names; auto: CUDA, else MPS, else the CPU. Raises SettingsError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise SettingsError(f"--device {name}: not available here; expected auto, cpu, cuda, cuda:1 or mps") from None
    return device


def infer(
    network: Network | Ensemble,
    clip: Clip,
    xy_TK2: np.ndarray,
    visible_TK: np.ndarray,
    tiles: list[tuple[int, int]],
    waited: Callable[[float], object] = lambda seconds: None,
    when_TW: np.ndarray | None = None,
    room: Room | None = None,
    passed: Callable[[int], object] = lambda n_frames: None,
    mirrored: bool = False,
) -> Output:
    """Logits (T,N), keypoints (T,K,2) or None and boundary logits (T,) or None, float32 on the CPU, of a clip.

    Of an ensemble: the mean of its members'. Call `network.eval()` before.
    tiles: half-open ranges that hold each frame once, each seen by itself. waited: told the seconds spent waiting for
    each chunk of frames. when_TW: times of the frames, see `pose_branch`. room: how much goes through the network at
    once, which changes the output by no more than rounding; None: a fixed number of frames. passed: told how many more
    frames were looked at; each member of an ensemble looks at all of them, with flips twice. mirrored: the frames are
    shown in a mirror, as the keypoints are given already.
    """
    room = room or Room()
    if isinstance(network, Ensemble):
        asked = (tiles, waited, when_TW, room, passed)
        said = [infer(member, clip, xy_TK2, visible_TK, *asked) for member in network.networks]
        if mirror := network.mirror:
            xy_TK2, visible_TK = mirrored_points(xy_TK2, visible_TK, mirror)
            flipped = (infer(member, clip, xy_TK2, visible_TK, *asked, True) for member in network.networks)
            said += [mirrored_back(output, mirror) for output in flipped]
        return mean_output(said)
    seen = _Seen(network, clip, xy_TK2, visible_TK, when_TW, room, waited, passed, mirrored)
    outputs: list[Output] = []
    with threads_for(network):
        while rest := tiles[len(outputs) :]:
            outputs += room.fitting(partial(seen.next_tiles, rest))
    return in_a_row(outputs, 0)


@dataclass(frozen=True, eq=False)
class _Seen:
    """A network and the clip that it looks at."""

    network: Network
    clip: Clip
    xy_TK2: np.ndarray
    visible_TK: np.ndarray
    when_TW: np.ndarray | None
    room: Room
    waited: Callable[[float], object]
    passed: Callable[[int], object]
    mirrored: bool

    def next_tiles(self, tiles: list[tuple[int, int]]) -> list[Output]:
        """Outputs (T,...) on the CPU of the first tiles: as many as there is room for together, and one at least."""
        longest = max(stop - start for start, stop in tiles)
        n_together = self.room.together(self.network) // max(1, longest)
        if n_together > 1 and len(tiles) > 1:
            return self._together(tiles[:n_together])
        return [self._alone(*tiles[0])]

    def _alone(self, start: int, stop: int) -> Output:
        """A tile of any length, part by part."""
        chunks = None
        if self.network.encoder is not None:
            chunks = map(self._shown, _read_ahead(self.clip, start, stop, self.room.frames, self.waited))
        xy, visible = torch.from_numpy(self.xy_TK2[start:stop]), torch.from_numpy(self.visible_TK[start:stop])
        when = None if self.when_TW is None else torch.from_numpy(self.when_TW[start:stop])
        output = clip_output(self.network, chunks, xy, visible, when, self.room, self.passed)
        return _of_sample(output, 0, stop - start)

    def _shown(self, frames_THWC: np.ndarray | torch.Tensor) -> torch.Tensor:
        read = torch.as_tensor(frames_THWC)
        return read.flip(2) if self.mirrored else read

    @torch.inference_mode()
    def _together(self, tiles: list[tuple[int, int]]) -> list[Output]:
        """Several tiles as one batch, the shorter ones padded."""
        device = self.network.action.weight.device
        frames = None
        if self.network.encoder is not None:
            first = tiles[0][0]
            started = time.perf_counter()
            read = self._shown(self.clip.frames[first : tiles[-1][1]])
            self.waited(time.perf_counter() - started)
            frames = to_unit(pad_sequence([read[a - first : b - first] for a, b in tiles], True).to(device))
        padded = [
            None if array is None else pad_sequence([torch.from_numpy(array[a:b]) for a, b in tiles], True).to(device)
            for array in (self.xy_TK2, self.visible_TK, self.when_TW)
        ]
        valid = pad_sequence([torch.ones(b - a, dtype=torch.bool) for a, b in tiles], True).to(device)
        output = self.network(frames, padded[0], padded[1], valid, padded[2])
        self.passed(tiles[-1][1] - tiles[0][0])
        return [_of_sample(output, i, stop - start) for i, (start, stop) in enumerate(tiles)]


def _of_sample(output: Output, sample: int, n_frames: int) -> Output:
    """What a batch's output says of a sample's own frames, float32 on the CPU."""
    heads = (output.logits_BTN, output.xy_BTK2, output.boundary_BT)
    logits, places, boundary = (None if head is None else head[sample, :n_frames].float().cpu() for head in heads)
    assert logits is not None
    return Output(logits, places, boundary_BT=boundary)


def _read_ahead(
    clip: Clip, start: int, stop: int, chunk: int, waited: Callable[[float], object]
) -> Iterator[np.ndarray]:
    """Frames [start, stop) in chunks; the next one is read while the network looks at this one."""
    edges = [*range(start, stop, chunk), stop]
    with ThreadPoolExecutor(1) as reader:
        ahead = None
        for first, last in pairwise(edges):
            following = reader.submit(clip.frames.__getitem__, slice(first, last))
            if ahead is not None:
                yield _result(ahead, waited)
            ahead = following
        if ahead is not None:
            yield _result(ahead, waited)


def _result(ahead: Future[np.ndarray], waited: Callable[[float], object]) -> np.ndarray:
    started = time.perf_counter()
    chunk = ahead.result()
    waited(time.perf_counter() - started)
    return chunk
