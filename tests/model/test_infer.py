"""A network over whole clips in tiles: each tile sees its own frames and its own keypoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import cache as clip_cache
from cache import Clip
from pipeline.model.infer import infer
from pipeline.model.network import Network, NetworkConfig, Output
from pipeline.model.parts import clip_output
from pipeline.model.room import Room
from pipeline.train.labels import make_merge
from pipeline.train.stream import ClipData, load_clip
from pipeline.train.windows import tiles
from tests_support import KEYPOINTS, N_FRAMES, SIDE


def make(encoder: str = "cnn", **changes: object) -> Network:
    torch.manual_seed(0)
    sizes = {"img_size": SIDE, "encoder_width": 16, "pose_width": 8, "tcn_channels": 16, "tcn_layers": 3}
    network = Network(NetworkConfig(n_classes=4, keypoint_names=KEYPOINTS, encoder=encoder, **sizes | changes)).eval()
    torch.nn.init.normal_(network.action.weight)  # far from undecided, so that other frames give other logits
    return network


@pytest.fixture
def second_trial(small_cache: Path) -> tuple[Clip, ClipData]:
    """A clip that does not begin with its recording."""
    clips = clip_cache.open(small_cache)
    clip = list(clips)[1]
    assert clip.trial == 2
    return clip, load_clip(clip, make_merge(clips.class_names, "auto"), 0.9)


@pytest.mark.parametrize("encoder", ["cnn", "none"])
@pytest.mark.parametrize("val_T", [0, 48, 20, 7])
@pytest.mark.parametrize("room", [6, 128], ids=["one by one", "together"])
def test_each_tile_sees_its_own_frames_and_keypoints(
    second_trial: tuple[Clip, ClipData], encoder: str, val_T: int, room: int
) -> None:
    (clip, data), network = second_trial, make(encoder)
    ranges = tiles(len(clip), val_T)
    passed: list[int] = []
    found = infer(network, clip, data.xy, data.visible, ranges, room=Room(room), passed=passed.append)
    assert sum(passed) == N_FRAMES

    frames, xy, visible = clip.frames[0:N_FRAMES], torch.from_numpy(data.xy), torch.from_numpy(data.visible)
    alone: list[Output] = []
    for start, stop in ranges:
        shown = None if encoder == "none" else [frames[start:stop]]
        alone.append(clip_output(network, shown, xy[start:stop], visible[start:stop]))
    torch.testing.assert_close(found.logits_BTN, torch.cat([out.logits_BTN[0] for out in alone]))
    assert len(found.logits_BTN) == N_FRAMES
    if encoder == "none":
        assert found.xy_BTK2 is None
    else:
        torch.testing.assert_close(found.xy_BTK2, torch.cat([out.xy_BTK2[0] for out in alone]))


def test_tiles_see_nothing_of_each_other(second_trial: tuple[Clip, ClipData]) -> None:
    """With tiles of one frame the neighbours' motion is gone: what the whole clip says must differ."""
    (clip, data), network = second_trial, make()
    whole = infer(network, clip, data.xy, data.visible, tiles(len(clip), 0))
    single = infer(network, clip, data.xy, data.visible, tiles(len(clip), 1))
    assert not np.allclose(whole.logits_BTN, single.logits_BTN, atol=1e-3)


@pytest.mark.parametrize("val_T", [0, 20])
def test_each_tile_sees_the_times_of_the_clip(second_trial: tuple[Clip, ClipData], val_T: int) -> None:
    (clip, data), network = second_trial, make("none", time_input="clip", pose_features="motion")
    ranges = tiles(len(clip), val_T)
    found = infer(network, clip, data.xy, data.visible, ranges, when_TW=data.when)
    xy, visible, when = (torch.from_numpy(x) for x in (data.xy, data.visible, data.when))
    alone = [clip_output(network, None, xy[a:b], visible[a:b], when[a:b]).logits_BTN[0] for a, b in ranges]
    torch.testing.assert_close(found.logits_BTN, torch.cat(alone))
    assert not torch.allclose(found.logits_BTN, infer(network, clip, data.xy, data.visible, ranges).logits_BTN)
