"""How many frames a network is given at once: what fits the memory, found by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from pipeline.machine import free_memory, out_of_memory
from pipeline.model.network import Network

Found = TypeVar("Found")

# Frames that are encoded together: 128 float frames of 224 x 224 take 26 MB, their first feature maps about 40 MB more.
CHUNK_FRAMES = 128
# A GPU is kept busy by more of them; beyond this many nothing is gained.
MOST_ON_GPU = 1024
# The temporal network sees so many times as many frames at once, of which it holds features and no pictures.
PART = 32
# Float numbers that an encoder holds of each pixel of a frame at its fullest moment, taken generously.
PER_PIXEL = 40
# Copies that are held of each pose feature and of each channel of the temporal network.
COPIES = 8


class Room:
    """frames: how many are encoded together. It is halved whenever memory runs out, and stays so."""

    def __init__(self, frames: int = CHUNK_FRAMES) -> None:
        self.frames = frames

    def part(self, stride: int) -> int:
        """Frames that go through the temporal network at once: whole steps."""
        return max(1, self.frames * PART // stride) * stride

    def together(self, network: Network) -> int:
        """Frames of several short stretches that go through all of the network at once."""
        return self.frames if network.encoder is not None else self.frames * PART

    def fitting(self, attempt: Callable[[], Found]) -> Found:
        """What `attempt` returns, tried again with half the room each time that memory runs out.

        It must ask for the room anew each time. Raises what it raises, out of memory only with room for one frame.
        """
        while True:
            try:
                return attempt()
            except (RuntimeError, MemoryError) as error:
                short = isinstance(error, torch.OutOfMemoryError) or out_of_memory(error)
                if not short or self.frames == 1:
                    raise
            # Not within `except`, where the error would still hold what had been made until then.
            self.frames = max(1, self.frames // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def room_for(networks: list[Network], device: torch.device) -> Room:
    """As much as a quarter of the free memory holds, or half of that of a GPU, of the network that needs most."""
    if device.type == "cuda":
        most, free = MOST_ON_GPU, torch.cuda.mem_get_info(device)[0] // 2
    else:
        most, free = CHUNK_FRAMES, free_memory() // 4
    needed = max(map(bytes_per_frame, networks))
    while most > 1 and most * needed > free:
        most //= 2
    return Room(most)


def bytes_per_frame(network: Network) -> int:
    """What a frame of `Room.frames` takes at most, with the PART frames of features that come with it."""
    config, pose = network.config, network.pose
    n_features = (pose.linear.in_features if pose.linear else 0) + (pose.of_windows.in_features if pose.windows else 0)
    floats = PART * COPIES * (n_features + config.tcn_channels)
    if network.encoder is not None:
        pixels = max(config.img_size, config.view_size) ** 2 + len(config.patch_keypoints) * config.patch_size**2
        floats += PER_PIXEL * config.channels * pixels
    return 4 * floats
