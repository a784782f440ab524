"""The view that follows the animal: the same animal looks the same wherever it is, and places go there and back."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.model.frame_encoder import Encoded, to_unit
from pipeline.model.network import Network, NetworkConfig
from pipeline.model.parts import clip_output
from pipeline.model.pose_graph import PARTS
from pipeline.model.view import AnimalView, View, check_keypoints, pictures, whole
from pipeline.setting_texts import SettingsError
from pipeline.train.augment import augment, draw
from pipeline.train.balance import Balance
from pipeline.train.batch import Batch
from pipeline.train.check_settings import check_settings
from pipeline.train.losses import heat_loss, keypoint_loss, total
from pipeline.train_settings import TrainSettings

# Unlike its mirror image and itself turned; RMS distance from the middle 1.
EVEN = Balance(torch.ones(4), torch.zeros(4))
BODY = np.array([[0.0, -1.4], [0.0, 1.0], [0.5, -0.7], [-0.5, -0.5], [0.8, 0.6], [-0.6, 0.8]])
BODY = (BODY - BODY.mean(0)) / np.sqrt(((BODY - BODY.mean(0)) ** 2).sum(1).mean())
K, SIDE, SIZE, SPAN = len(BODY), 160, 32, 4.0


def placed(middle: tuple[float, float], angle: float, size: float) -> np.ndarray:
    """The body's keypoints (K,2) in [0, 1]."""
    turned = (BODY[:, 0] + 1j * BODY[:, 1]) * np.exp(1j * angle) * size
    return np.stack([turned.real, turned.imag], 1) + middle


def drawn(xy_K2: np.ndarray, size: float) -> torch.Tensor:
    """A picture (1,SIDE,SIDE) of soft dots, one more bright than the other, as wide as the body is large."""
    x = (np.arange(SIDE) + 0.5) / SIDE
    picture = np.zeros((SIDE, SIDE))
    for k, (x_k, y_k) in enumerate(xy_K2):
        distance = (x[None] - x_k) ** 2 + (x[:, None] - y_k) ** 2
        picture += (0.4 + 0.1 * k) * np.exp(-distance / (2 * (0.25 * size) ** 2))
    return torch.from_numpy(picture).float()[None]


def views(size: int = SIZE, span: float = SPAN) -> AnimalView:
    module = AnimalView(K, size, span)
    module.fit([(placed((0.5, 0.5), 0.0, 0.1)[None].astype(np.float32), np.ones((1, K), bool))])
    return module


def shown(frames_BTCHW: torch.Tensor, view: View, size: int = SIZE) -> torch.Tensor:
    return pictures(frames_BTCHW, [view], size)[:, :, 0]


def track(xy_TK2: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    xy_BTK2 = torch.from_numpy(xy_TK2).float()[None]
    return xy_BTK2, torch.ones(xy_BTK2.shape[:3], dtype=torch.bool)


def walk(T: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """An animal that walks a curve."""
    t = np.arange(T)
    where = zip(0.3 + 0.006 * t, 0.5 + 0.1 * np.sin(t / 12), t / 20, strict=True)
    return track(np.stack([placed((x, y), angle, 0.12) for x, y, angle in where]))


@pytest.mark.parametrize(
    ("middle", "angle", "size"),
    [
        ((0.5, 0.5), 0.0, 0.1),
        ((0.62, 0.41), 0.0, 0.1),
        ((0.5, 0.5), 2.0, 0.1),
        ((0.47, 0.55), -1.1, 0.13),
        ((0.5, 0.5), 4.0, 0.2),
    ],
    ids=["as it was", "shifted", "turned", "all three", "so large that it is shrunk"],
)
def test_the_animal_looks_the_same(middle: tuple[float, float], angle: float, size: float) -> None:
    module, expected = views(), None
    for where in (((0.5, 0.5), 0.0, 0.1), (middle, angle, size)):
        xy_K2 = placed(*where)
        view = module(*track(xy_K2[None]))
        picture = shown(drawn(xy_K2, where[2])[None, None], view)
        assert picture.shape == (1, 1, 1, SIZE, SIZE)
        if expected is None:
            expected = picture
        assert (picture - expected).abs().max() < 0.04
        np.testing.assert_allclose(view.into(track(xy_K2[None])[0])[0, 0], BODY_SEEN / SPAN + 0.5, atol=1e-5)


def _seen() -> np.ndarray:
    """BODY as the view shows it: long axis upright, the first keypoint above."""
    axis = np.linalg.eigh(BODY.T @ BODY)[1][:, 1]
    up = complex(*axis) * np.sign(axis @ BODY[0])
    turned = (BODY[:, 0] + 1j * BODY[:, 1]) * -1j / up
    return np.stack([turned.real, turned.imag], 1)


BODY_SEEN = _seen()


def test_a_picture_finer_than_the_view_is_not_skipped() -> None:
    """A fine grid of lines shows as gray, not as a few of them."""
    frames = torch.zeros(1, 1, 1, SIDE, SIDE)
    frames[..., ::2] = 1
    module = views(size=16)
    seen = shown(frames, module(*track(placed((0.5, 0.5), 0.0, 0.15)[None])), 16)
    assert (seen - 0.5).abs().max() < 0.1


def test_beyond_the_picture_it_is_black() -> None:
    seen = shown(torch.ones(1, 1, 1, SIDE, SIDE), views()(*track(placed((0.0, 0.5), 0.0, 0.1)[None])))
    assert seen.min() == 0
    assert seen.max() == 1
    assert 0.4 < seen.mean() < 0.6


def test_places_go_there_and_back() -> None:
    xy, visible = walk()
    view = views()(xy, visible).moved(torch.tensor([[0.1, -0.2, 0.5, 0.3]]))
    torch.testing.assert_close(view.back(view.into(xy)), xy)
    torch.testing.assert_close(view[10:20].into(xy[:, 10:20]), view.into(xy)[:, 10:20])


def test_a_dot_is_seen_where_the_view_says() -> None:
    """The pixels of a moved view and its arithmetic agree."""
    view = views()(*track(placed((0.52, 0.47), 0.7, 0.1)[None])).moved(torch.tensor([[0.05, -0.1, 0.4, 0.2]]))
    dot = np.array([[0.55, 0.42]])
    seen_SS = shown(drawn(dot, 0.1)[None, None], view)[0, 0, 0]
    x_S = (torch.arange(SIZE) + 0.5) / SIZE
    found = torch.stack([(seen_SS.sum(0) * x_S).sum(), (seen_SS.sum(1) * x_S).sum()]) / seen_SS.sum()
    torch.testing.assert_close(found, view.into(torch.from_numpy(dot).float()[None, None])[0, 0, 0], atol=0.003, rtol=0)


def test_missing_keypoints_are_bridged_for_some_frames_and_then_wait() -> None:
    xy, visible = walk(100)
    unbroken = views()(xy, visible)
    visible[:, 20:30] = False
    visible[:, 50:90] = False
    xy[~visible] = 0
    view = views()(xy, visible)
    assert (view.middle[:, 20:30] - unbroken.middle[:, 20:30]).abs().max() < 0.01
    torch.testing.assert_close(view.middle[:, 56:64], unbroken.middle[:, 49:50].expand(-1, 8, -1), atol=0.01, rtol=0)
    torch.testing.assert_close(view.middle[:, 76:84], unbroken.middle[:, 90:91].expand(-1, 8, -1), atol=0.01, rtol=0)
    assert (view.turn.norm(dim=-1) - 1).abs().max() < 1e-5
    torch.testing.assert_close(view.side, unbroken.side)


@pytest.mark.parametrize("n_known", [0, 1])
def test_where_the_animal_looks_nowhere_all_of_the_picture_is_seen(n_known: int) -> None:
    xy, visible = walk()
    visible[:, :, n_known:] = False
    frames = torch.rand(1, 60, 1, SIZE, SIZE)
    seen = shown(frames, views()(xy, visible))
    torch.testing.assert_close(seen, frames)


def test_a_trembling_track_is_smoothed_and_a_walk_is_followed() -> None:
    xy, visible = walk()
    still = views()(xy, visible)
    trembling = views()(xy + 0.01 * torch.randn(xy.shape, generator=torch.Generator().manual_seed(0)), visible)
    assert (still.into(xy)[:, 10:50].mean(2) - 0.5).abs().max() < 0.01
    change = (trembling.middle - still.middle).diff(dim=1).std()
    assert change < 0.3 * 0.01 * math.sqrt(2 / K)


def test_a_padded_sample_is_seen_as_alone() -> None:
    xy, visible = walk(40)
    visible[:, 35:] = False
    alone = views()(xy, visible)
    together = views()(
        torch.cat([torch.nn.functional.pad(xy, (0, 0, 0, 0, 0, 20)), walk(60)[0]]),
        torch.cat([torch.nn.functional.pad(visible, (0, 0, 0, 20)), walk(60)[1]]),
    )
    for name in ("middle", "turn"):
        torch.testing.assert_close(getattr(together, name)[:1, :40], getattr(alone, name))
    torch.testing.assert_close(together.side[:1], alone.side)


def make(**changes: Any) -> Network:
    torch.manual_seed(0)
    small = {"encoder_width": 16, "pose_width": 8, "tcn_channels": 16, "tcn_layers": 4, "view_size": SIZE}
    seen = {"keypoint_names": PARTS, "img_size": 48, "view": "animal"}
    config = NetworkConfig(n_classes=4, **small | seen | changes)
    network = Network(config).eval()
    if config.keypoint_names == PARTS:
        network.fit([(walk()[0][0].numpy(), walk()[1][0].numpy())])
    return network


def frames_of(T: int, side: int = 48) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (1, T, side, side, 1), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def test_chunks_give_what_the_whole_clip_gives() -> None:
    network, (xy, visible) = make(), walk()
    frames = frames_of(60)
    whole = network(to_unit(frames), xy, visible, torch.ones(1, 60, dtype=torch.bool))
    found = clip_output(network, [frames[0, :1], frames[0, 1:25], frames[0, 25:]], xy[0], visible[0])
    torch.testing.assert_close(found.logits_BTN, whole.logits_BTN, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.xy_BTK2, whole.xy_BTK2, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_padded_sample_gives_what_it_gives_alone() -> None:
    network, (xy, visible) = make(), walk(40)
    valid = torch.ones(1, 40, dtype=torch.bool)
    alone = network(to_unit(frames_of(40)), xy, visible, valid)

    def padded(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, torch.zeros_like(x[:, :15])], 1)

    found = network(padded(to_unit(frames_of(40))), padded(xy), padded(visible), padded(valid))
    torch.testing.assert_close(found.logits_BTN[:, :40], alone.logits_BTN, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.xy_BTK2[:, :40], alone.xy_BTK2, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_keypoints_are_given_in_the_whole_picture() -> None:
    """What the encoder sees in the middle of its view is in the middle of the view."""
    network, (xy, visible) = make(), walk()
    middle = Encoded(torch.zeros(1, 60, 16), torch.full((1, 60, K, 2), 0.5), torch.zeros(1, 60, K, 4, 4))
    network.encoder.forward = lambda *_: middle
    torch.nn.init.zeros_(network.keypoints.weight)
    output = network(to_unit(frames_of(60)), xy, visible, visible[..., 0])
    torch.testing.assert_close(output.xy_BTK2, output.view.middle[:, :, None].expand(-1, -1, K, -1))


@torch.no_grad()
def test_a_checkpoint_makes_the_same_views() -> None:
    network, (xy, visible) = make(view_span=3.0), walk()
    again = Network(NetworkConfig(**dataclasses.asdict(network.config))).eval()
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(vars(again.view_of(xy, visible)), vars(network.view_of(xy, visible)))
    frames, valid = to_unit(frames_of(60)), torch.ones(1, 60, dtype=torch.bool)
    expected = network(frames, xy, visible, valid).logits_BTN
    torch.testing.assert_close(again(frames, xy, visible, valid).logits_BTN, expected)
    assert not torch.equal(make(view_span=5.0)(frames, xy, visible, valid).logits_BTN, expected)


def batch(n: int = 30) -> Batch:
    xy, visible = walk(n)
    return Batch(
        frames_of(n).expand(2, -1, -1, -1, -1), xy.expand(2, -1, -1, -1).clone(), visible.expand(2, -1, -1).clone(),
        torch.zeros(2, n, dtype=torch.int64), torch.ones(2, n, dtype=torch.bool),
    )  # fmt: skip


def test_all_of_a_frame_upright_is_the_frame() -> None:
    frames = to_unit(frames_of(5))
    torch.testing.assert_close(shown(frames, whole(1, 5, frames.device), frames.shape[-1]), frames)


def test_whole_frames_are_turned_and_their_keypoints_found_where_they_were() -> None:
    """What the encoder sees of a dot lies where its keypoint is turned to, and its place comes back unturned."""
    settings = TrainSettings(aug_turn=180.0, aug_noise_std=0.0, aug_brightness=0.0, aug_contrast=0.0)
    dot = np.array([[0.58, 0.37]])
    frames = (drawn(dot, 0.1)[None, :, :, :, None] * 255).to(torch.uint8)
    xy = torch.from_numpy(dot).float().expand(1, 1, 1, 2).clone()
    given = Batch(frames, xy, torch.ones(1, 1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.int64),
                  torch.ones(1, 1, dtype=torch.bool))  # fmt: skip
    seed = next(seed for seed in range(99) if abs(draw(settings, 1, 1, seed).view[2]) > 1)
    seen = augment(given, settings, [seed], ())
    torch.testing.assert_close(seen.xy_target, xy)
    network = make(view="full", img_size=SIDE, keypoint_names=("paw",), pose_features="none")
    view = network.view_of(seen.xy_target, seen.visible, seen.view_moved)
    assert view is not None
    picture_SS = network.seen(seen.frames, view, None).pictures[0, 0, 0]
    at_S = (torch.arange(SIDE) + 0.5) / SIDE
    found = torch.stack([(picture_SS.sum(0) * at_S).sum(), (picture_SS.sum(1) * at_S).sum()]) / picture_SS.sum()
    torch.testing.assert_close(found, view.into(xy)[0, 0, 0], atol=0.005, rtol=0)
    assert (found - xy[0, 0, 0]).norm() > 0.1
    torch.testing.assert_close(view.back(view.into(xy)), xy)
    output = network(seen.frames, xy, seen.visible, seen.valid, None, view)
    # Its maps are flat at first: it sees the keypoint in the middle of the turned picture.
    torch.testing.assert_close(output.xy_BTK2[0, 0, 0], view.middle[0, 0], atol=0.02, rtol=0)


def test_half_of_the_whole_frames_are_turned() -> None:
    turned = [any(draw(TrainSettings(aug_turn=180.0), 2, K, seed).view) for seed in range(400)]
    assert 0.4 < np.mean(turned) < 0.6


def test_what_a_turn_cuts_off_is_not_looked_for() -> None:
    """A keypoint in a corner, which a turn by 45 degrees moves out of the picture: no loss and no gradient."""
    settings = TrainSettings(aug_turn=180.0)
    network, seen = make(view="full"), augment(batch(), settings, [1, 2], ())
    seen.xy_target[:, :, 0] = 0.01
    view = whole(2, 30, seen.xy_target.device).moved(torch.tensor([[0, 0, math.pi / 4, 0.0]]).expand(2, 4))
    output = network(seen.frames, seen.xy_input, seen.visible, seen.valid, seen.when, view)
    inside = seen.visible & ((view.into(seen.xy_target) >= 0) & (view.into(seen.xy_target) <= 1)).all(-1)
    assert not inside[:, :, 0].any()
    assert inside.any()
    found = total(output, seen, EVEN, settings).kp
    torch.testing.assert_close(found, keypoint_loss(output.xy_BTK2, seen.xy_target, inside))


def test_frames_that_nobody_turns_are_seen_as_they_are() -> None:
    seen = augment(batch(), TrainSettings(), [1, 2], ())
    assert seen.view_moved is None
    assert make(view="full").view_of(seen.xy_target, seen.visible, None) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"view": "animal"}, "turned by --aug-view-turn"), ({"encoder": "none"}, "--encoder none looks at no frames")],
)
def test_a_turn_of_what_is_not_seen_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=f"--aug-turn 90: .*{message}"):
        check_settings(TrainSettings(**changes, aug_turn=90.0), ("rest", "walk"))


def test_the_heat_maps_learn_what_is_in_the_view() -> None:
    settings = TrainSettings(view="animal", lambda_kp=1.0)
    network, seen = make(), augment(batch(), settings, [1, 2], ())
    view = network.view_of(seen.xy_target, seen.visible, seen.view_moved)
    output = network(seen.frames, seen.xy_input, seen.visible, seen.valid, seen.when, view)
    expected = heat_loss(output.log_heat_BTKHW, view.into(seen.xy_target), seen.visible)
    torch.testing.assert_close(total(output, seen, EVEN, settings).heat, expected)
    assert not torch.isclose(expected, heat_loss(output.log_heat_BTKHW, seen.xy_target, seen.visible))

    far = dataclasses.replace(seen, xy_target=seen.xy_target.clone())
    far.xy_target[:, :, 2] += 5
    others = seen.visible.clone()
    others[:, :, 2] = False
    expected = heat_loss(output.log_heat_BTKHW, view.into(seen.xy_target), others)
    torch.testing.assert_close(total(output, far, EVEN, settings).heat, expected)


def test_a_sample_draws_its_view_by_its_seed_and_disturbs_nothing_else() -> None:
    settings = TrainSettings(view="animal")
    first, again, other = (draw(settings, 30, K, seed) for seed in (7, 7, 8))
    assert first.view == again.view != other.view
    off = draw(dataclasses.replace(settings, aug_view_shift=0.0, aug_view_turn=0.0, aug_view_zoom=0.0), 30, K, 7)
    assert off.view == (0, 0, 0, 0)
    for field in dataclasses.fields(first):
        if field.name != "view":
            np.testing.assert_array_equal(getattr(first, field.name), getattr(off, field.name))


@pytest.mark.parametrize(
    ("name", "value", "columns", "largest"),
    [
        ("aug_view_shift", 0.2, [0, 1], 0.2),
        ("aug_view_turn", 90.0, [2], math.pi / 2),
        ("aug_view_zoom", 1.0, [3], math.log(2)),
        ("aug_turn", 180.0, [2], math.pi),
    ],
)
def test_each_setting_of_the_drawn_view(name: str, value: float, columns: list[int], largest: float) -> None:
    still = {"aug_view_shift": 0.0, "aug_view_turn": 0.0, "aug_view_zoom": 0.0}
    view = "full" if name == "aug_turn" else "animal"
    settings = TrainSettings(**still | {name: value}, view=view)
    moves = np.abs([draw(settings, 2, K, seed).view for seed in range(200)])
    assert (moves.max(0)[columns] > 0.9 * largest).all()
    assert (moves.max(0)[columns] <= largest).all()
    assert not np.delete(moves, columns, 1).any()


def test_a_moved_view() -> None:
    """Shifted to the right of the view by half its side, then turned by a quarter, and of twice the size."""
    still = View(torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.0, 1.0]]]), torch.tensor([0.4]))
    moved = still.moved(torch.tensor([[0.5, 0.0, math.pi / 2, math.log(2)]]))
    torch.testing.assert_close(moved.middle, torch.tensor([[[0.5, 0.7]]]))
    torch.testing.assert_close(moved.turn, torch.tensor([[[-1.0, 0.0]]]))
    torch.testing.assert_close(moved.side, torch.tensor([0.8]))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("mouth",), "needs two keypoints or more"),
        (("a_nose", "a_tail", "b_nose", "b_tail"), "the keypoints are of 2"),
    ],
)
def test_keypoints_that_no_view_can_follow(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_keypoints(names)


def test_a_view_needs_an_encoder() -> None:
    with pytest.raises(SettingsError, match="--view animal: --encoder none looks at no frames"):
        check_settings(TrainSettings(view="animal", encoder="none"), ("rest", "walk"))
