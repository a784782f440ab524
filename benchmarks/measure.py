"""Timing that a noisy machine cannot mislead much: the cases take turns, and one round's ratios are compared."""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

Case = Callable[[], object]


def interleave(cases: Mapping[str, Case], rounds: int) -> dict[str, list[float]]:
    """Seconds of each case in each round; the cases take turns, and the order is turned round from round to round."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds):
        for name in list(cases) if number % 2 == 0 else reversed(list(cases)):
            started = time.perf_counter()
            cases[name]()
            found[name].append(time.perf_counter() - started)
    return found


def ratios(found: Mapping[str, list[float]], name: str, against: str) -> list[float]:
    """How many times as fast as `against` the case was, in each round."""
    return [theirs / ours for ours, theirs in zip(found[name], found[against], strict=True)]


def spread(values: list[float], digits: int = 2) -> str:
    """Median, and the smallest and largest in brackets."""
    return (
        f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"
        if len(values) > 1
        else f"{values[0]:.{digits}f}"
    )


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """b where seconds grow as sizes to the power of b: the slope of the least squares line on logarithms."""
    x, y = ([math.log(value) for value in values] for values in (sizes, seconds))
    return statistics.linear_regression(x, y).slope


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints Markdown."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("|---" * len(header) + "|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def machine(device: str = "cpu") -> str:
    """What it ran on, in a line."""
    import torch

    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "av", "zarr", "numcodecs", "h5py"))
    gpu = f", {torch.cuda.get_device_name()}" if device.startswith("cuda") else ""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (
        f"{os.cpu_count()} cores ({platform.machine()}){gpu}, Python {platform.python_version()}, {packages}; "
        f"load before the start {load:.1f}"
    )
