"""A clip in parts is the whole clip: whatever the network looks at, and however little memory there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from pipeline.machine import MemoryShortError, memory_advice
from pipeline.model import pose_motion
from pipeline.model.frame_encoder import to_unit
from pipeline.model.network import Network, NetworkConfig, Output
from pipeline.model.parts import clip_output, margins
from pipeline.model.room import Room, bytes_per_frame, room_for
from tests_support import KEYPOINTS, SIDE

T = 333
WHOLE = Room(T)
PAIR = tuple(f"{animal}_{part}" for animal in ("a", "b") for part in ("nose", "middle", "tail"))


@dataclass(frozen=True)
class Seen:
    """A clip of T frames: a walking, turning animal of which points are missing, some of them for long."""

    frames: torch.Tensor
    xy: torch.Tensor
    visible: torch.Tensor
    when: torch.Tensor


@pytest.fixture(scope="module")
def seen() -> Seen:
    rng = torch.Generator().manual_seed(1)
    t = torch.arange(T)
    angle = 0.05 * t + 0.5 * torch.randn(T, generator=rng).cumsum(0) / 10
    turn = torch.stack([angle.cos(), angle.sin()], -1)
    shape = torch.tensor([[0.12, 0.0], [-0.12, 0.0], [0.06, 0.05], [0.06, -0.05], [-0.06, 0.06], [-0.05, -0.06]])
    middle = 0.5 + 0.2 * torch.stack([(t / 40).sin(), (t / 23).cos()], -1)
    size = 1 + 0.2 * (t / 60).sin()  # its median is not that of a part
    xy = middle[:, None] + pose_motion.turned_by(shape.expand(T, 6, 2), turn[:, None]) * size[:, None, None]
    xy += 0.004 * torch.randn(xy.shape, generator=rng)
    visible = torch.rand(T, 6, generator=rng) > 0.15
    visible[100:150] = False  # longer than parts: the view stays where the animal was last
    visible[200:213, 2] = False  # shorter than what is bridged
    frames = torch.randint(0, 255, (T, SIDE, SIDE, 1), generator=rng, dtype=torch.uint8)
    when = torch.stack([t, T - 1 - t, t - 77], -1).float()
    return Seen(frames, torch.where(visible[..., None], xy, 0.0), visible, when)


def make(seen: Seen, encoder: str = "none", **changes: Any) -> Network:
    """A network of which all inputs reach its outputs."""
    torch.manual_seed(0)
    sizes = {"img_size": SIDE, "encoder_width": 16, "pose_width": 16, "tcn_channels": 16, "tcn_layers": 3}
    names = {"keypoint_names": KEYPOINTS} | changes
    network = Network(NetworkConfig(n_classes=4, encoder=encoder, **sizes | names)).eval()
    network.fit([(seen.xy.numpy(), seen.visible.numpy())], [seen.when.numpy()])
    for head in (network.action, *(refinement.action for refinement in network.refinements)):
        torch.nn.init.normal_(head.weight, std=0.5)
    return network


def output(network: Network, seen: Seen, room: Room) -> Output:
    chunks = None if network.encoder is None else (part.numpy() for part in seen.frames.split(29))
    return clip_output(network, chunks, seen.xy, seen.visible, seen.when, room)


def assert_same(found: Output, expected: Output) -> None:
    torch.testing.assert_close(found.logits_BTN, expected.logits_BTN, atol=2e-5, rtol=1e-5)
    assert found.logits_BTN.std() > 0.1
    if expected.xy_BTK2 is not None:
        torch.testing.assert_close(found.xy_BTK2, expected.xy_BTK2, atol=2e-5, rtol=1e-5)
    if expected.boundary_BT is not None:
        torch.testing.assert_close(found.boundary_BT, expected.boundary_BT, atol=2e-5, rtol=1e-5)
        assert found.boundary_BT.std() > 0.01


PATCHES = {"patch_size": 8, "patch_keypoints": KEYPOINTS[2:4]}
CASES = [
    {"pose_features": "graph"},
    {"pose_features": "motion"},
    {"pose_features": "both"},
    {"pose_features": "motion", "keypoint_names": PAIR},
    {"pose_features": "both", "pose_windows": (5, 31, 64)},
    {"pose_features": "graph", "pose_windows": (400,)},
    {"pose_features": "motion", "time_input": "clip"},
    {"pose_features": "graph", "time_input": "stimulus"},
    {"pose_features": "both", "tcn_stride": 3, "boundary": True},
    {"pose_features": "both", "tcn_stride": 4, "pose_windows": (7, 30), "refine_stages": 2},
    {"pose_features": "motion", "refine_stages": 3, "tcn_kernel": 5},
    {"encoder": "cnn", "boundary": True},
    {"encoder": "cnn", "tcn_stride": 4, "refine_stages": 1, "pose_windows": (9,), "time_input": "clip"},
    {"encoder": "cnn", "view": "animal", "view_size": 24},
    {"encoder": "cnn", "view": "animal", "view_size": 24, "tcn_stride": 2, "pose_features": "motion"},
    {"encoder": "cnn", "multitask": False},
    {"encoder": "cnn"} | PATCHES,
    {"encoder": "cnn", "view": "animal", "view_size": 24, "tcn_stride": 2, "multitask": False} | PATCHES,
]


@pytest.mark.parametrize("changes", CASES, ids=lambda c: " ".join(f"{k}={v}" for k, v in c.items() if k[:4] != "keyp"))
@torch.no_grad()
def test_parts_equal_the_whole(seen: Seen, changes: dict[str, Any]) -> None:
    network = make(seen, **changes)
    valid = torch.ones(1, T, dtype=torch.bool)
    frames = None if network.encoder is None else to_unit(seen.frames[None])
    whole = network(frames, seen.xy[None], seen.visible[None], valid, seen.when[None])
    parts = Room(1)
    assert parts.part(network.config.tcn_stride) < T / 8
    assert_same(output(network, seen, parts), whole)
    assert_same(output(network, seen, WHOLE), whole)


@pytest.mark.parametrize(
    "changes", [{"pose_features": "motion", "refine_stages": 1}, {"encoder": "cnn", "view": "animal", "tcn_stride": 4}]
)
def test_without_what_lies_around_it_a_part_says_something_else(seen: Seen, changes: dict[str, Any]) -> None:
    """The clip of the test above is one on which margins, and what is found of the whole of it, matter."""
    network = make(seen, **changes)
    whole, part = output(network, seen, WHOLE), slice(128, 160)
    frames = None if network.encoder is None else [seen.frames[part].numpy()]
    alone = clip_output(network, frames, seen.xy[part], seen.visible[part], seen.when[part])
    assert (alone.logits_BTN - whole.logits_BTN[:, part]).abs().max() > 0.05


def test_how_far_a_network_looks(seen: Seen) -> None:
    """6 layers of kernel 3 see 63 frames to each side; pose features bridge 15 and move over 8."""
    network = make(seen, pose_features="motion", tcn_layers=6)
    assert (margins(network).time, margins(network).pose) == (63, 15 + 8)
    network = make(seen, pose_features="motion", tcn_layers=6, tcn_stride=4, refine_stages=2, pose_windows=(30, 120))
    assert (margins(network).time, margins(network).pose) == (3 * 63 * 4, 84)  # 23 + 60 up to whole steps


def test_animals_are_placed_in_a_long_recording_as_in_one_piece() -> None:
    n = 2 * pose_motion.FITTED_TOGETHER + 1000
    xy = torch.rand(1, n, 4, 2, generator=torch.Generator().manual_seed(0))
    visible = torch.rand(1, n, 4, generator=torch.Generator().manual_seed(1)) > 0.7
    shape = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.2, -1.0]])
    (found,) = pose_motion.fit_bridged(xy, visible, [range(4)], shape)
    whole = pose_motion.fit(*pose_motion.bridged(xy, visible), shape)
    for name, values in vars(whole).items():
        torch.testing.assert_close(getattr(found, name), values, msg=name)


def out_of_memory_beyond(limit: int):
    """A hook that raises what CUDA raises where a module is given more frames than that."""

    def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[0] * inputs[0].shape[1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return hook


@pytest.mark.parametrize(("encoder", "limit"), [("cnn", 7), ("cnn", 1), ("none", 100)])
def test_where_memory_runs_out_less_goes_through_at_once(seen: Seen, encoder: str, limit: int) -> None:
    network = make(seen, encoder)
    expected = output(network, seen, Room(64))
    (network.encoder or network.tcn).register_forward_pre_hook(out_of_memory_beyond(limit))
    room = Room(64)
    assert_same(output(network, seen, room), expected)
    assert room.frames == {7: 4, 1: 1, 100: 2}[limit]  # it stays so for the clips that follow


def test_where_not_even_one_frame_fits_it_ends_with_advice(seen: Seen) -> None:
    network = make(seen, "cnn")
    network.encoder.register_forward_pre_hook(out_of_memory_beyond(0))
    with pytest.raises(MemoryShortError, match="out of memory: close something"), memory_advice("close something"):
        output(network, seen, Room(64))


def test_other_errors_are_not_tried_again(seen: Seen) -> None:
    network, room = make(seen, "cnn"), Room(64)
    network.encoder.register_forward_pre_hook(lambda module, inputs: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        output(network, seen, room)
    assert room.frames == 64


def test_the_room_fits_the_memory() -> None:
    small = Network(NetworkConfig(n_classes=4, keypoint_names=KEYPOINTS))
    assert bytes_per_frame(small) < 50 * 2**20
    assert 1 < room_for([small], torch.device("cpu")).frames <= 128
    huge = Network(NetworkConfig(n_classes=4, keypoint_names=KEYPOINTS, img_size=200_000))
    assert room_for([small, huge], torch.device("cpu")).frames == 1
