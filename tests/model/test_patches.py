"""Patches around paws: what is at a paw is in the middle of its patch, however the animal lies."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.model.frame_encoder import to_unit
from pipeline.model.mirror import mirror_of, mirrored_points
from pipeline.model.network import Network, NetworkConfig
from pipeline.model.patches import Patches, looked_at
from pipeline.model.pose_graph import PARTS
from pipeline.setting_texts import SettingsError
from pipeline.train.augment import augment
from pipeline.train.batch import Batch
from pipeline.train.check_settings import check_settings
from pipeline.train_settings import TrainSettings

# Its mirror image is itself with left and right exchanged; RMS distance from the middle 1.
BODY = np.array([[0.0, -1.5], [0.0, 1.1], [-0.5, -0.6], [0.5, -0.6], [-0.8, 0.7], [0.8, 0.7]])
BODY = (BODY - BODY.mean(0)) / np.sqrt(((BODY - BODY.mean(0)) ** 2).sum(1).mean())
PAWS, K, SIDE, SIZE, SPAN, T = (2, 3, 4, 5), len(PARTS), 128, 16, 1.5, 40
LEFT_HINDPAW = 2  # among PAWS
MIDDLE = (SIZE - 1) / 2


def placed(middle: tuple[float, float], angle: float, size: float, points: np.ndarray = BODY) -> np.ndarray:
    """Points of the body (n,2) in [0, 1]."""
    turned = (points[:, 0] + 1j * points[:, 1]) * np.exp(1j * angle) * size
    return np.stack([turned.real, turned.imag], 1) + middle


def track(xy_TK2: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    xy_BTK2 = torch.from_numpy(xy_TK2).float()[None]
    return xy_BTK2, torch.ones(xy_BTK2.shape[:3], dtype=torch.bool)


def walk(n: int = T) -> tuple[torch.Tensor, torch.Tensor]:
    """An animal that walks a curve and turns."""
    t = np.arange(n)
    where = zip(0.3 + 0.01 * t, 0.5 + 0.1 * np.sin(t / 12), t / 20, strict=True)
    return track(np.stack([placed((x, y), angle, 0.1) for x, y, angle in where]))


def dots(xy_T2: torch.Tensor | np.ndarray, width: float = 0.012) -> torch.Tensor:
    """Frames (1,T,1,SIDE,SIDE) with a soft dot each."""
    x_S = (torch.arange(SIDE) + 0.5) / SIDE
    xy = torch.as_tensor(xy_T2).float()[..., None]
    near_x, near_y = (torch.exp(-((x_S - xy[:, axis]) ** 2) / (2 * width**2)) for axis in (0, 1))
    return (near_y[:, :, None] * near_x[:, None])[None, :, None]


def centre(patch_SS: torch.Tensor) -> tuple[float, float]:
    """x and y in pixels of what is bright in a patch."""
    s = torch.arange(SIZE)
    return float((patch_SS.sum(0) * s).sum() / patch_SS.sum()), float((patch_SS.sum(1) * s).sum() / patch_SS.sum())


def made(span: float = SPAN) -> Patches:
    patches = Patches(PAWS, K, 1, SIZE, span)
    patches.fit([(placed((0.5, 0.5), 0.0, 0.1)[None].astype(np.float32), np.ones((1, K), bool))])
    return patches


def seen(frames_BTCHW: torch.Tensor, xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor) -> torch.Tensor:
    """Patches (T,P,S,S) of the first sample."""
    patches = made()
    return patches.pictures(frames_BTCHW, patches.views(xy_BTK2, visible_BTK))[0, :, :, 0]


@pytest.mark.parametrize("size", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("angle", [0.0, 0.9, 3.0, -2.0])
def test_what_is_at_a_paw_is_in_the_middle_of_its_patch(angle: float, size: float) -> None:
    xy_K2 = placed((0.52, 0.47), angle, size)
    for p, k in enumerate(PAWS):
        patch_PSS = seen(dots(xy_K2[None, k], 0.1 * size), *track(xy_K2[None]))[0]
        assert centre(patch_PSS[p]) == pytest.approx((MIDDLE, MIDDLE), abs=0.1)
        assert patch_PSS[p].max() > 0.4
        others = patch_PSS[[other for other in range(4) if other != p]]
        assert others[:, SIZE // 2 - 2 : SIZE // 2 + 2, SIZE // 2 - 2 : SIZE // 2 + 2].max() < 0.1


@pytest.mark.parametrize(("angle", "size"), [(0.0, 0.1), (1.3, 0.1), (4.0, 0.07), (-0.7, 0.2)])
def test_a_patch_turns_and_grows_with_the_animal(angle: float, size: float) -> None:
    """What lies half a body size before a paw is in the same place of the patch: a third of its side above."""
    before = BODY[PAWS[LEFT_HINDPAW]] + [0.0, -0.5]
    where = (0.5, 0.52), angle, size
    patch_PSS = seen(dots(placed(*where, before[None]), 0.1 * size), *track(placed(*where)[None]))[0]
    assert centre(patch_PSS[LEFT_HINDPAW]) == pytest.approx((MIDDLE, MIDDLE - 0.5 / SPAN * SIZE), abs=0.1)


def test_it_follows_a_paw_also_where_the_track_is_lost() -> None:
    xy, visible = walk()
    frames = dots(xy[0, :, 4])
    visible[:, 10:16] = False
    visible[:, 25:] = False
    xy[~visible] = 0
    patch_TPSS = seen(frames, xy, visible)
    for t in (*range(8, 22), 24):  # near the ends it is smoothed as if the animal stood still
        assert centre(patch_TPSS[t, LEFT_HINDPAW]) == pytest.approx((MIDDLE, MIDDLE), abs=1.5)
    still = made().views(xy, visible)
    torch.testing.assert_close(still.views[0].middle[:, 32:], still.views[0].middle[:, -1:].expand(-1, T - 32, -1))
    assert still.known[0, :, 0].tolist() == [t < 25 for t in range(T)]


def test_a_trembling_track_is_no_trembling_patch() -> None:
    xy, visible = walk()
    trembling = xy + 0.01 * torch.randn(xy.shape, generator=torch.Generator().manual_seed(0))
    middles = [torch.stack([view.middle for view in made().views(x, visible).views]) for x in (xy, trembling)]
    assert (middles[1] - middles[0]).diff(dim=2).std() < 0.2 * 0.01 * 2**0.5


def test_a_paw_that_is_never_visible_has_a_black_patch_and_is_told_so() -> None:
    xy, visible = walk()
    visible[:, :, 4] = False
    xy[~visible] = 0
    patches, frames = made(), torch.ones(1, T, 1, SIDE, SIDE)
    views = patches.views(xy, visible)
    patch_TPSS = patches.pictures(frames, views)[0, :, :, 0]
    assert not patch_TPSS[:, LEFT_HINDPAW].any()
    assert patch_TPSS[:, [0, 1, 3]].min() > 0.999
    assert views.known.all(1).tolist() == [[True, True, False, True]]
    told = [patches(torch.zeros(1, T, 4, 1, SIZE, SIZE), known) for known in (views.known, torch.ones(1, T, 4) > 0)]
    assert not torch.allclose(*told)


@pytest.mark.parametrize("n_known", [0, 1])
def test_without_an_animal_patches_are_black(n_known: int) -> None:
    xy, visible = walk()
    visible[:, :, 2 + n_known :] = visible[:, :, :2] = False
    assert not seen(torch.ones(1, T, 1, SIDE, SIDE), torch.where(visible[..., None], xy, 0.0), visible).any()


def test_in_a_mirror_left_and_right_patches_change_places() -> None:
    xy, visible = walk()
    visible[0, 12:20, 3] = False
    frames = torch.rand(1, T, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    plain = seen(frames, xy, visible)
    mirrored = mirrored_points(xy[0].numpy(), visible[0].numpy(), mirror_of(PARTS, ()))
    found = seen(frames.flip(-1), *(torch.from_numpy(x)[None] for x in mirrored))
    torch.testing.assert_close(found, plain[:, [1, 0, 3, 2]].flip(-1), atol=1e-3, rtol=0)


def make(**changes: Any) -> Network:
    torch.manual_seed(0)
    small = {
        "img_size": SIDE,
        "encoder_width": 16,
        "pose_width": 8,
        "tcn_channels": 16,
        "tcn_layers": 2,
        "patch_size": SIZE,
    }
    paws = {"keypoint_names": PARTS, "patch_keypoints": PARTS[2:]}
    network = Network(NetworkConfig(n_classes=2, **paws | small | changes)).eval()
    network.fit([(walk()[0][0].numpy(), walk()[1][0].numpy())])
    return network


def still(xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first frame's keypoints in every frame."""
    return xy_BTK2[:, :1].expand_as(xy_BTK2), visible_BTK[:, :1].expand_as(visible_BTK)


def said(network: Network, frames: torch.Tensor, xy: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    return network(frames, xy, visible, torch.ones(xy.shape[:2], dtype=torch.bool)).logits_BTN


@torch.no_grad()
def test_a_checkpoint_sees_the_same_patches_and_one_from_before_has_none() -> None:
    network, (xy, visible) = make(patch_span=2.0), walk()
    frames = torch.rand(1, T, 1, SIDE, SIDE)
    again = Network(NetworkConfig(**dataclasses.asdict(network.config))).eval()
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(said(again, frames, xy, visible), said(network, frames, xy, visible))

    off = make(patch_size=0, patch_keypoints=())
    config = {name: value for name, value in dataclasses.asdict(off.config).items() if not name.startswith("patch_")}
    before = Network(NetworkConfig(**config)).eval()
    before.load_state_dict(off.state_dict())
    assert not any("patch" in name for name in off.state_dict())
    torch.testing.assert_close(said(before, frames, xy, visible), said(off, frames, xy, visible))


@torch.no_grad()
def test_without_the_frames_change_order_does_not_matter_and_a_checkpoint_knows() -> None:
    network, (xy, visible) = make(frame_change=False), walk()
    views = network.patch_views(*still(xy, visible))
    frames = torch.rand(1, T, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    def features(network: Network, frames: torch.Tensor) -> torch.Tensor:
        return network.encoded(network.seen(frames, None, views)).features

    torch.testing.assert_close(features(network, frames.flip(1)).flip(1), features(network, frames))
    again = Network(NetworkConfig(**dataclasses.asdict(network.config))).eval()
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(features(again, frames), features(network, frames))

    on = make()
    assert not torch.allclose(features(on, frames.flip(1)).flip(1), features(on, frames), atol=1e-3)
    config = dataclasses.asdict(on.config)
    del config["frame_change"]  # as a checkpoint was before there was the setting
    before = Network(NetworkConfig(**config)).eval()
    before.load_state_dict(on.state_dict())
    torch.testing.assert_close(features(before, frames), features(on, frames))


@pytest.mark.parametrize("view", ["full", "animal"])
@torch.no_grad()
def test_a_padded_sample_gives_what_it_gives_alone(view: str) -> None:
    network, (xy, visible) = make(view=view), walk(30)
    torch.nn.init.normal_(network.action.weight)
    visible[:, 27:, 4] = False
    frames, valid = torch.rand(1, 30, 1, SIDE, SIDE), torch.ones(1, 30, dtype=torch.bool)
    alone = network(frames, xy, visible, valid)
    padded = network(*(torch.cat([x, torch.zeros_like(x[:, :10])], 1) for x in (frames, xy, visible, valid)))
    torch.testing.assert_close(padded.logits_BTN[:, :30], alone.logits_BTN, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(padded.xy_BTK2[:, :30], alone.xy_BTK2, atol=1e-5, rtol=1e-5)
    torch.nn.init.zeros_(network.patches.encoder.together.weight)
    assert not torch.allclose(network(frames, xy, visible, valid).logits_BTN, alone.logits_BTN, atol=1e-2)


def test_in_training_they_follow_keypoints_that_are_shifted_and_do_not_tremble(monkeypatch) -> None:
    network, (xy, visible) = make(), walk()
    batch = Batch(
        torch.zeros(1, T, SIDE, SIDE, 1, dtype=torch.uint8), xy, visible, torch.zeros(1, T, dtype=torch.int64),
        visible[..., 0],
    )  # fmt: skip
    shown = augment(batch, TrainSettings(kp_jitter_std=0.02, aug_roll=0, patch_size=SIZE), [3], ())
    followed: list[torch.Tensor] = []
    views = network.patches.views
    monkeypatch.setattr(network.patches, "views", lambda x, v: followed.append(x) or views(x, v))
    network(
        shown.frames, shown.xy_input, shown.visible_input, shown.valid, shown.when, None, shown.xy_motion,
        shown.own_share,
    )  # fmt: skip
    shift = followed[0] - shown.xy_target
    assert shift.abs().max() > 0.01
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift))


def behaviours(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Frames, keypoints, visible, labels (n,8) of animals that stand somewhere: a mark of two pixels beside the left
    hind paw (1), or beside the right one (0).
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (n, 2)).repeat(4, 1)
    xy = np.stack([placed(tuple(rng.uniform(0.3, 0.7, 2)), rng.uniform(0, 6), 0.06) for _ in range(n)])
    frames = rng.integers(60, 120, (n, 1, 64, 64, 1)).repeat(8, 1)
    for b, t in np.ndindex(n, 8):
        x, y = (64 * xy[b, 4 if labels[b, t] else 5]).astype(int)
        frames[b, t, y, x : x + 2] = 200
    xy_BTK2 = torch.from_numpy(xy).float()[:, None].expand(-1, 8, -1, -1)
    visible = torch.ones(n, 8, K, dtype=torch.bool)
    return to_unit(torch.from_numpy(frames.astype(np.uint8))), xy_BTK2, visible, torch.from_numpy(labels)


def test_behaviours_that_differ_in_two_pixels_of_a_paw_are_told_apart() -> None:
    """By the patches: the encoder is made blind, and places of keypoints tell nothing."""
    network = make(img_size=64, view="animal", view_size=16, multitask=False, dropout=0.0, head_dropout=0.0).train()
    torch.nn.init.zeros_(network.encoder.pooling.out.weight).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(15):
        frames, xy, visible, labels = behaviours(8, step)
        optimizer.zero_grad()
        F.cross_entropy(said(network, frames, xy, visible).flatten(0, 1), labels.flatten()).backward()
        optimizer.step()
    with torch.no_grad():
        frames, xy, visible, labels = behaviours(32, 1000)
        assert (said(network.eval(), frames, xy, visible).argmax(-1) == labels).float().mean() > 0.9


MICE = ("m1_nose", "m1_tail", "m2_nose", "m2_tail")


@pytest.mark.parametrize(
    ("text", "names", "pose_names", "expected"),
    [
        ("auto", PARTS, {}, PARTS[2:]),
        ("auto", ("tail_base", "Pfote", *PARTS[3:]), {"L_frontpaw": "Pfote"}, ("Pfote", *PARTS[3:])),
        ("mouth, L_hindpaw", PARTS, {}, ("mouth", "L_hindpaw")),
        ("nose", ("nose", "ear", "tail"), {}, ("nose",)),
    ],
    ids=["auto", "auto by pose names", "named", "no graph"],
)
def test_which_keypoints_are_looked_at(text: str, names: tuple[str, ...], pose_names: dict, expected: tuple) -> None:
    assert looked_at(text, names, pose_names) == expected


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        (
            "auto",
            ("mouth", "L_hindpaw", "R_hindpaw"),
            "--patch-keypoints auto: the pose graph lacks L_frontpaw, R_frontpaw; the keypoints are mouth, L_hindpaw, "
            "R_hindpaw; name those to look at, or the paws with --pose-names",
        ),
        (
            "mouth,paw",
            ("mouth", "tail_base"),
            "--patch-keypoints mouth,paw: the data has no keypoint paw, but mouth, tail_base",
        ),
        ("mouth,mouth", PARTS, "--patch-keypoints mouth,mouth: expected distinct names with commas between"),
        (
            "mouth",
            ("mouth",),
            "--patch-size: needs two keypoints or more to know where the animal looks, found 1; use --patch-size 0",
        ),
        (
            "m1_nose",
            MICE,
            "--patch-size: follows one animal, but the keypoints are of 2, by their names (m1_nose, m1_tail, m2_nose "
            "...); use --patch-size 0",
        ),
    ],
    ids=["no paws", "unknown", "twice", "one keypoint", "two animals"],
)
def test_keypoints_that_cannot_be_looked_at(text: str, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        looked_at(text, names, {})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"patch_size": 16, "encoder": "none"},
            "--patch-size 16: --encoder none looks at no frames; choose an encoder, or 0",
        ),
        ({"patch_size": 5}, "--patch-size 5: expected 0, or 8 pixels or more"),
    ],
    ids=["no encoder", "too small"],
)
def test_patches_that_would_see_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_settings(TrainSettings(**settings), ("rest", "walk"))
    assert str(caught.value) == message
