"""A network learns from rendered frames where the keypoints are."""

from __future__ import annotations

from pathlib import Path

import torch

import cache as clip_cache
from pipeline.demo.dataset import make_dataset
from pipeline.model.frame_encoder import to_unit
from pipeline.model.network import Network, NetworkConfig
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.train import losses
from pipeline.train.augment import Augmented
from pipeline.train.balance import Balance
from pipeline.train.labels import make_merge
from pipeline.train.stream import load_clip
from pipeline.train_settings import TrainSettings

SIZE, STEPS, T = 48, 60, 8


def test_keypoints_are_found_in_frames_that_were_not_trained_on(tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", recordings=1, trials=1, size=(96, 72))
    folders = {"videos": tmp_path / "data" / "Videos", "annotations": tmp_path / "data" / "Annotations"}
    preprocess(PreprocessSettings(img_size=SIZE), cache=tmp_path / "cache", dlc=None, **folders)
    clips = clip_cache.open(tmp_path / "cache")
    clip = next(iter(clips))
    data = load_clip(clip, make_merge(clips.class_names, "auto"), 0.9)
    frames, xy, visible = (
        to_unit(torch.from_numpy(clip.frames[0 : len(clip)])),
        *map(torch.from_numpy, (data.xy, data.visible)),
    )

    torch.manual_seed(0)
    sizes = {"img_size": SIZE, "encoder_width": 16, "pose_width": 8, "tcn_channels": 16, "tcn_layers": 2}
    network = Network(NetworkConfig(n_classes=2, keypoint_names=clips.keypoint_names, **sizes))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    held_out = slice(300, 340)
    for _ in range(STEPS):
        start = int(torch.randint(300 - T, ()))
        window = slice(start, start + T)
        nothing = torch.full((1, T), -1)
        seen = Augmented(
            frames[None, window], *[xy[None, window]] * 2, *[visible[None, window]] * 2, nothing, nothing < 0
        )
        output = network(seen.frames, seen.xy_input, seen.visible, seen.valid)
        loss = losses.total(output, seen, Balance(torch.ones(2), torch.zeros(2)), TrainSettings()).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def error(places: torch.Tensor) -> float:
        return (places - xy[held_out]).abs()[visible[held_out]].mean().item()

    output = network.eval()(frames[None, held_out], xy[None, held_out], visible[None, held_out], torch.ones(1, 40) > 0)
    usual = torch.stack([xy[:300, k][visible[:300, k]].mean(0) for k in range(6)])
    # The middle of the picture, and even the best places that are the same in every frame, are farther off.
    assert error(output.xy_BTK2[0]) < 0.8 * error(usual) < 0.8 * error(torch.tensor([0.5, 0.5]))
