"""An epoch with the loader, against one in which the batch lies on the device already; and what augmentation costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import measure
import torch

import cache as clip_cache
from pipeline.console import Bar
from pipeline.model.infer import pick_device
from pipeline.model.threads import threads_for
from pipeline.train import loop as training
from pipeline.train import losses
from pipeline.train.augment import augment
from pipeline.train.data import prepare
from pipeline.train.stream import Stream
from pipeline.train_settings import Keep, TrainSettings

ALL_ON = {"aug_hflip": 0.5}  # everything else is on by default


def run(
    cache: Path, work: Path, device: str, rounds: int, *, encoders: list[str], train_T: int, compiled: bool
) -> None:
    rows = []
    for encoder in encoders:
        for kept in (Keep.DISK, Keep.MEMORY):
            if kept is Keep.MEMORY and encoder == "none":
                continue
            settings = TrainSettings(encoder=encoder, train_T=train_T, device=device, warmup_epochs=0, **ALL_ON)
            rows.append([encoder, kept.value, *_epochs(settings, cache, work, kept, rounds)])
    header = [
        "encoder",
        "--keep",
        "epoch with the loader / with one batch that lies there",
        "waited for data",
        "frames/s",
    ]
    measure.table("Training epochs", header, rows)
    settings = TrainSettings(encoder=encoders[0], train_T=train_T, device=device, **ALL_ON)
    measure.table(
        "Augmentation, all on", ["encoder", "of forward and backward pass"], [_augmentation(settings, cache, rounds)]
    )
    if compiled:
        header = ["encoder", "step as it is / compiled", "seconds to compile"]
        measure.table("torch.compile of the encoder", header, [_compiled(settings, cache, rounds)])


class _Resident:
    """As many batches as a Stream would give, all of them its first one."""

    batch = None

    def __init__(self, *arguments: object, **options: object) -> None:
        self.stream = Stream(*arguments, **options)
        self.waited_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def __iter__(self) -> Iterator:
        for _ in range(len(self.stream)):
            yield _Resident.batch


def _epochs(settings: TrainSettings, cache: Path, work: Path, kept: Keep, rounds: int) -> list[str]:
    loop = _loop(settings, cache, work, kept)
    data = loop.data.train
    n_frames = data.n_frames
    waits = []

    def with_loader() -> None:
        training.Stream = Stream
        waits.append(loop._train(0)[1])
        _synchronize(loop.device)

    def resident() -> None:
        training.Stream = _Resident
        loop._train(0)
        _synchronize(loop.device)

    windows = training.plan_epoch(data.labels, settings.train_T, loop.data.boost, settings.seed, 0)
    with Stream(
        data.clips, data.data, windows, settings.batch_size, loop.device, with_frames=loop.network.encoder is not None
    ) as stream:
        _Resident.batch = next(iter(stream))
        with threads_for(loop.network):
            resident()
            with_loader()  # also fills what is kept
            waits.clear()
            found = measure.interleave({"resident": resident, "loader": with_loader}, rounds)
    training.Stream = Stream
    shares = [wait / seconds * 100 for wait, seconds in zip(waits, found["loader"], strict=True)]
    rates = [n_frames / seconds for seconds in found["loader"]]
    return [
        measure.spread(measure.ratios(found, "resident", "loader"), 3),
        f"{measure.spread(shares)} %",
        measure.spread(rates, 0),
    ]


def _loop(settings: TrainSettings, cache: Path, work: Path, kept: Keep) -> training.Loop:
    data = prepare(clip_cache.open(cache), settings, lambda line: None)
    return training.Loop(settings, data, work, lambda line: None, Bar(), kept, None)


def _augmentation(settings: TrainSettings, cache: Path, rounds: int) -> list[str]:
    step, augmented = _steps(settings, cache)
    found = measure.interleave({"augment": augmented, "both": step}, 3 * rounds)
    shares = [100 * one / (both - one) for one, both in zip(found["augment"], found["both"], strict=True)]
    return [settings.encoder, f"{measure.spread(shares, 1)} %"]


def _compiled(settings: TrainSettings, cache: Path, rounds: int) -> list[str]:
    plain, _ = _steps(settings, cache)
    compiled, _ = _steps(settings, cache, compiled=True)
    started = time.perf_counter()
    compiled()
    seconds = time.perf_counter() - started
    found = measure.interleave({"plain": plain, "compiled": compiled}, 3 * rounds)
    return [settings.encoder, measure.spread(measure.ratios(found, "compiled", "plain")), f"{seconds:.0f}"]


def _steps(settings: TrainSettings, cache: Path, *, compiled: bool = False):
    """A whole step (augmentation, forward, backward) and augmentation alone, of an epoch's first batch."""
    loop = _loop(settings, cache, Path(), Keep.DISK)
    data = loop.data.train
    if compiled:
        loop.network.encoder.compile()
    windows = training.plan_epoch(data.labels, settings.train_T, loop.data.boost, settings.seed, 0)
    with Stream(data.clips, data.data, windows[: settings.batch_size], settings.batch_size, loop.device) as stream:
        batch = next(iter(stream))
    seeds = iter(range(10**9))

    def augmented():
        seen = augment(batch, settings, [next(seeds) for _ in range(len(batch))], loop.mirror)
        _synchronize(loop.device)
        return seen

    def step() -> None:
        seen = augmented()
        output = loop.network(seen.frames, seen.xy_input, seen.visible, seen.valid)
        losses.total(output, seen, loop.balance, settings).total.backward()
        loop.network.zero_grad(set_to_none=True)
        _synchronize(loop.device)

    step()
    return step, augmented


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def resolve(device: str) -> str:
    return str(pick_device(device))
