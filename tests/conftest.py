"""Fixtures that several areas share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from pipeline.train_settings import TrainSettings
from tests_support import write_small_cache

if TYPE_CHECKING:
    from s3_lab import S3Server


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    """Small tensors are faster on one thread, and test processes share the cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zarr cache of 6 recordings, 12 trials; not to be changed."""
    return write_small_cache(tmp_path_factory.mktemp("small") / "cache")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    from s3_lab import S3Server  # takes a second to import

    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """An object store on loopback, which the environment names; its bucket is `mice`."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3_server.behave()
    return s3_server


@pytest.fixture(scope="session")
def quick() -> Callable[..., TrainSettings]:
    """Settings with which the small cache trains in a second an epoch."""

    def make(**changes) -> TrainSettings:
        values = {
            "epochs": 2, "batch_size": 4, "train_T": 24, "lr": 2e-3, "warmup_epochs": 1, "encoder_width": 16,
            "pose_width": 16, "tcn_channels": 16, "tcn_layers": 3, "val_share": 0.34,
        }  # fmt: skip
        return TrainSettings(**(values | changes))

    return make
