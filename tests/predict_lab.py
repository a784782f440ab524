"""A model and videos to predict with and on, made in no time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab import PARTS, Lab
from pipeline.model import checkpoint
from pipeline.model.decision import Decision
from pipeline.model.network import Network, NetworkConfig
from pipeline.model.trained import Trained
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.train_settings import TrainSettings

NAMES = ("rest", "lick", "walk")
TRIAL = 30


def write_model(
    path: Path, seed: int = 0, encoder: str = "none", decision: Decision | None = None, **changes: Any
) -> Path:
    """An untrained model, which says something else of every frame."""
    torch.manual_seed(seed)
    config = NetworkConfig(
        n_classes=3, keypoint_names=PARTS, encoder=encoder, encoder_width=8, img_size=32, pose_features="motion",
        pose_width=8, tcn_channels=8, tcn_layers=2, **changes,
    )  # fmt: skip
    network = Network(config).eval()
    torch.nn.init.normal_(network.action.weight, std=1.0)
    cached = PreprocessSettings(img_size=32, trial_frames=TRIAL, min_frames=TRIAL, crops="", classes=",".join(NAMES))
    settings = vars(TrainSettings(encoder=encoder))
    trained = Trained(
        network, NAMES, NAMES, np.arange(3), np.ones(3, np.int64), dataclasses.asdict(cached), settings, decision
    )
    checkpoint.save(path, trained.as_dict())
    return path


def write_videos(folder: Path) -> Path:
    """Three recordings of two trials each: a, b and c."""
    lab = Lab(folder)
    for name in "abc":
        lab.recording(f"{name}.mp4", 2 * TRIAL)
    return folder


def results(out: Path) -> dict[str, bytes]:
    """What of a prediction a user takes home."""
    files = [*(out / "trials").iterdir(), out / "bouts.csv", out / "summary.csv"]
    return {path.name: path.read_bytes() for path in files}
