"""How many threads a network gets, and that threads that wait leave the cores to others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import cache as clip_cache
from pipeline.model.infer import infer
from pipeline.model.network import Network, NetworkConfig
from pipeline.model.threads import CHOSEN_BY, SMALL_TCN_CHANNELS, threads_for
from pipeline.train import stage
from tests_support import KEYPOINTS, SIDE, write_small_cache


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in CHOSEN_BY:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def make(encoder: str = "none", tcn_channels: int = 16) -> Network:
    sizes = {"img_size": SIDE, "encoder_width": 16, "pose_width": 8, "tcn_channels": tcn_channels, "tcn_layers": 2}
    return Network(NetworkConfig(n_classes=4, keypoint_names=KEYPOINTS, encoder=encoder, **sizes)).eval()


@pytest.mark.parametrize(
    ("network", "threads"),
    [
        ({"encoder": "none"}, 1),
        ({"encoder": "none", "tcn_channels": SMALL_TCN_CHANNELS}, 1),
        ({"encoder": "none", "tcn_channels": 2 * SMALL_TCN_CHANNELS}, 2),
        ({"encoder": "cnn"}, 2),
    ],
    ids=["pose alone", "pose alone, of many channels", "pose alone, of too many", "with frames"],
)
def test_small_networks_get_one_thread(network: dict, threads: int) -> None:
    with threads_for(make(**network)):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("name", CHOSEN_BY)
def test_a_users_number_of_threads_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "2")
    with threads_for(make()):
        assert torch.get_num_threads() == 2


def test_an_error_leaves_the_number_as_it_was() -> None:
    with pytest.raises(KeyError), threads_for(make()):
        raise KeyError
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("encoder", "threads"), [("none", 1), ("cnn", 2)])
def test_training_and_prediction_use_them(quick, tmp_path: Path, encoder: str, threads: int) -> None:
    path = write_small_cache(tmp_path / "cache", recordings=2)
    seen: list[int] = []

    def say(line: str) -> None:
        if line.startswith(("Epoch", "Val macro F1")):
            seen.append(torch.get_num_threads())

    stage.train(quick(epochs=1, encoder=encoder), cache=path, out=tmp_path / "run", say=say)
    network, clip = make(encoder), next(iter(clip_cache.open(path)))
    network.tcn.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    xy, visible = clip.keypoints[..., :2].copy(), clip.keypoints[..., 2] > 2
    infer(network, clip, xy, visible, [(0, len(clip))])
    assert seen == [threads] * 3


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_wants_otherwise(given: str | None, expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    # Set before torch is loaded, which reads it once.
    code = "import os, sys, pipeline; assert 'torch' not in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
