"""How many processor threads a network is worth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.model.network import Network

# What users set to choose the number of threads themselves.
CHOSEN_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# A pose-only network of so many TCN channels gains nothing from a second thread that is worth its waiting: two spinning
# threads on two busy cores took 8 times as long as one at 64 and at 128 channels, and 13 times at 256.
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
