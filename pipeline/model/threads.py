"""How many processor threads a network is worth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.model.network import Network

# What users set to choose the number of threads themselves.
CHOSEN_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# With two threads, which spin while they wait, a training step of a pose-only network took 8 times as long as with one
# at 64 and at 128 TCN channels, and 13 times at 256, on two cores with other work. On idle ones it was not measured.
SMALL_TCN_CHANNELS = 256


@contextmanager
def threads_for(network: Network) -> Iterator[None]:
    """Within it torch computes on one thread where the network is small, and on as many as before where it is not.

    Never more than torch had, so a smaller number that was set stays; nothing changes where an environment variable
    names the number.
    """
    before = torch.get_num_threads()
    small = network.encoder is None and network.config.tcn_channels <= SMALL_TCN_CHANNELS
    if not small or any(name in os.environ for name in CHOSEN_BY):
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
