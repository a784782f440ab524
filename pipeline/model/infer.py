"""A network over whole clips, each frame once, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch

from cache import Clip
from pipeline.model.ensemble import Ensemble, mean_output
from pipeline.model.network import Network, Output
from pipeline.model.threads import threads_for
from pipeline.setting_texts import SettingsError

# Frames that are encoded together: 128 float frames of 224 x 224 take 26 MB, their first feature maps about 40 MB more.
CHUNK_FRAMES = 128


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
    when_T3: np.ndarray | None = None,
) -> Output:
    """Logits (T,N) and keypoints (T,K,2) or None, float32 on the CPU, of a clip; the mean of an ensemble's.

    tiles: half-open ranges that hold each frame once; the network sees one at a time. Call `network.eval()` before.
    waited: told the seconds spent waiting for each chunk of frames. when_T3: times of the frames, see `pose_branch`.
    """
    if isinstance(network, Ensemble):
        each = [infer(member, clip, xy_TK2, visible_TK, tiles, waited, when_T3) for member in network.networks]
        return mean_output(each)
    with threads_for(network):
        outputs = [_infer_tile(network, clip, xy_TK2, visible_TK, when_T3, *tile, waited) for tile in tiles]
    logits_TN = torch.cat([out.logits_BTN[0].float().cpu() for out in outputs])
    places = [out.xy_BTK2[0].float().cpu() for out in outputs if out.xy_BTK2 is not None]
    return Output(logits_TN, torch.cat(places) if places else None)


def _infer_tile(
    network: Network,
    clip: Clip,
    xy_TK2: np.ndarray,
    visible_TK: np.ndarray,
    when_T3: np.ndarray | None,
    start: int,
    stop: int,
    waited: Callable[[float], object],
) -> Output:
    chunks = _read_ahead(clip, start, stop, waited) if network.encoder is not None else None
    xy, visible = torch.from_numpy(xy_TK2[start:stop]), torch.from_numpy(visible_TK[start:stop])
    when = None if when_T3 is None else torch.from_numpy(when_T3[start:stop])
    return network.predict_clip(chunks, xy, visible, when)


def _read_ahead(clip: Clip, start: int, stop: int, waited: Callable[[float], object]) -> Iterator[np.ndarray]:
    """Frames [start, stop) in chunks; the next one is read while the network looks at this one."""
    edges = [*range(start, stop, CHUNK_FRAMES), stop]
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
