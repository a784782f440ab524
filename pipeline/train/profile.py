"""A trace of some training steps: which operations the time goes into, on the processor and on the GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import profile, schedule

TRACE = "profile.json"
STEPS = 8  # that are traced, after one that warms up


@contextmanager
def traced(path: Path | None, device: torch.device) -> Iterator[Callable[[], None]]:
    """Within it call what it gives after each step; the trace is then in `path`, for chrome://tracing or Perfetto.

    None: nothing is traced.
    """
    if path is None:
        yield lambda: None
        return
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if device.type == "cuda" else []

    def write(profiler: profile) -> None:
        temporary = path.with_suffix(".tmp")
        profiler.export_chrome_trace(str(temporary))
        temporary.replace(path)

    with profile(
        activities=kinds, schedule=schedule(wait=0, warmup=1, active=STEPS, repeat=1), on_trace_ready=write
    ) as profiler:
        yield profiler.step
