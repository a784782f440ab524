"""A clip in a mirror: which keypoints change places, and that a model with flips is asked of both."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.model import pose_graph
from pipeline.model.ensemble import Ensemble, mean_output
from pipeline.model.infer import infer
from pipeline.model.mirror import (
    Mirror,
    flip_pairs,
    mirror_of,
    mirror_warnings,
    mirrored_back,
    mirrored_points,
    without_partner,
)
from pipeline.model.network import Network, NetworkConfig, Output
from pipeline.model.room import Room
from pipeline.train.windows import tiles
from tests_support import KEYPOINTS, SIDE

NAMES = pose_graph.PARTS
PAIRS = ((2, 3), (4, 5))
T = 40
MIRROR = Mirror((0, 1, 3, 2, 5, 4), (0, 1, 2, 3))


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (NAMES, PAIRS),
        (("Nose", "Forehand-Left", "Forehand-Right", "Hindhand-Left", "Hindhand-Right"), ((1, 2), (3, 4))),
        (("leftear", "rightear", "tail"), ((0, 1),)),
        (("paw_L", "paw_R", "pawL", "pawR"), ((0, 1), (2, 3))),
        (("m1_l_ear", "m1_r_ear", "m2_l_ear", "m2_r_ear"), ((0, 1), (2, 3))),
        (("Rear_L", "Rear_R", "tail", "rail"), ((0, 1),)),
        (("L_paw", "nose"), ()),
        (("left_to_right", "right_to_left", "rest"), ((0, 1),)),
        (("LL", "LR", "RL", "RR"), ((0, 3), (1, 2))),
        (("go_left_cue_left", "go_left_cue_right", "go_right_cue_left", "go_right_cue_right"), ((0, 3), (1, 2))),
        (("Light", "Left", "Right"), ((1, 2),)),
        (("L_left", "L_right", "R_left"), ((1, 2),)),
    ],
    ids=[
        "reference",
        "words at the end",
        "words in front",
        "letters",
        "two animals",
        "R that is no side",
        "no partner",
        "both sides",
        "both letters",
        "two sides of each kind",
        "L that is no side",
        "two that would have the same partner",
    ],
)
def test_left_and_right_are_found_by_name(names: tuple[str, ...], pairs: tuple[tuple[int, int], ...]) -> None:
    assert flip_pairs(names) == pairs


@pytest.mark.parametrize(
    ("names", "alone"),
    [
        (NAMES, ()),
        (("pawL", "pawR", "Rump", "Lip", "tail_base"), ()),
        (("L_ear", "R_ear", "L_paw", "HindR", "left_eye", "LPaw"), ("L_paw", "HindR", "left_eye", "LPaw")),
        (("nose", "paw1", "paw2"), ("nose", "paw1", "paw2")),
    ],
    ids=["reference", "midline", "a side without its other", "no side is named"],
)
def test_keypoints_that_a_mirror_leaves_on_the_wrong_side(names: tuple[str, ...], alone: tuple[str, ...]) -> None:
    assert without_partner(names) == alone


def test_the_warning_names_what_stays_on_the_wrong_side() -> None:
    assert mirror_warnings("--flips", KEYPOINTS, ("rest", "turn_left", "turn_right", "Rear", "upright", "bright")) == []
    said, of_classes = mirror_warnings("--flips", ("L_ear", "R_ear", "L_paw"), ("rest", "turn_left", "lick_R"))
    assert of_classes.startswith(
        "[warning] --flips: no class to change places with in the mirror has turn_left, lick_R,"
    )
    assert said.startswith("[warning] --flips: no partner to change places with in the mirror has L_paw; name left")


def clip() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames, keypoints and which are visible. Their places are of few digits, so that a mirror's are exact."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (T, SIDE, SIDE, 1), dtype=np.uint8)
    visible = rng.random((T, 6)) > 0.1
    walk = 512 + np.cumsum(rng.integers(-8, 9, (T, 1, 2)), 0) + rng.integers(-150, 150, (1, 6, 2))
    xy = ((walk + rng.integers(-4, 5, (T, 6, 2))) / 1024).astype(np.float32)
    return frames, np.where(visible[..., None], xy, 0), visible


def network(seed: int = 0, **changes: Any) -> Network:
    torch.manual_seed(seed)
    sizes = {"img_size": SIDE, "encoder_width": 16, "pose_width": 8, "tcn_channels": 16, "tcn_layers": 3}
    made = Network(NetworkConfig(n_classes=4, keypoint_names=KEYPOINTS, boundary=True, **sizes | changes)).eval()
    made.fit([clip()[1:]])
    for head in (made.action, made.boundary):
        torch.nn.init.normal_(head.weight)
    if made.keypoints is not None:
        torch.nn.init.normal_(made.keypoints.weight, std=0.3)
    return made


def said(
    model: Network | Ensemble, seen: tuple[np.ndarray, np.ndarray, np.ndarray], val_T: int = 0, **how: Any
) -> Output:
    frames, xy, visible = seen
    return infer(model, SimpleNamespace(frames=frames), xy, visible, tiles(T, val_T), **how)


def in_a_mirror() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    frames, xy, visible = clip()
    order = [0, 1, 3, 2, 5, 4]
    xy = np.where(visible[..., None], np.stack([1 - xy[..., 0], xy[..., 1]], -1), 0)[:, order]
    return frames[:, :, ::-1].copy(), xy, visible[:, order]


def test_points_in_a_mirror() -> None:
    _, xy, visible = clip()
    _, expected_xy, expected_visible = in_a_mirror()
    found_xy, found_visible = mirrored_points(xy, visible, MIRROR)
    np.testing.assert_array_equal(found_xy, expected_xy)
    np.testing.assert_array_equal(found_visible, expected_visible)
    for found, expected in zip(mirrored_points(found_xy, found_visible, MIRROR), (xy, visible), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": "none", "pose_features": "both"},
        {"encoder": "cnn"},
        {"encoder": "cnn", "view": "animal"},
        {"encoder": "cnn", "patch_size": 8, "patch_keypoints": KEYPOINTS[2:]},
    ],
    ids=str,
)
@pytest.mark.parametrize(("val_T", "room"), [(0, 128), (0, 9), (15, 128)], ids=["whole", "in chunks", "tiles"])
def test_a_clip_and_its_mirror_image_are_told_alike(changes: dict[str, Any], val_T: int, room: int) -> None:
    made = network(**changes)
    passed: list[int] = []
    how = {"val_T": val_T, "room": Room(room)}
    plain = [said(made, seen, **how) for seen in (clip(), in_a_mirror())]
    assert (plain[0].logits_BTN - plain[1].logits_BTN).abs().max() > 0.01
    model = Ensemble([made], mirror=MIRROR)
    ours, theirs = said(model, clip(), **how, passed=passed.append), said(model, in_a_mirror(), **how)
    assert torch.equal(ours.logits_BTN, theirs.logits_BTN)
    assert torch.equal(ours.boundary_BT, theirs.boundary_BT)
    mean = (plain[0].logits_BTN.softmax(-1) + plain[1].logits_BTN.softmax(-1)) / 2
    torch.testing.assert_close(ours.logits_BTN.softmax(-1), mean)
    assert sum(passed) == 2 * T
    if changes["encoder"] == "none":
        assert ours.xy_BTK2 is None
    else:
        torch.testing.assert_close(ours.xy_BTK2, mirrored_back(theirs, MIRROR).xy_BTK2, atol=1e-6, rtol=0)
        order = [0, 1, 3, 2, 5, 4]
        back = torch.stack([1 - plain[1].xy_BTK2[..., 0], plain[1].xy_BTK2[..., 1]], -1)[:, order]
        torch.testing.assert_close(ours.xy_BTK2, (plain[0].xy_BTK2 + back) / 2, atol=1e-6, rtol=0)


def test_what_turns_left_turns_right_in_a_mirror() -> None:
    made = network(encoder="none", pose_features="both")
    mirror = mirror_of(KEYPOINTS, ("rest", "turn_left", "lick", "turn_right"))
    plain = [said(made, seen).logits_BTN.softmax(-1) for seen in (clip(), in_a_mirror())]
    ours = said(Ensemble([made], mirror=mirror), clip()).logits_BTN.softmax(-1)
    torch.testing.assert_close(ours, (plain[0] + plain[1][:, [0, 3, 2, 1]]) / 2)
    torch.testing.assert_close(
        ours[:, [0, 3, 2, 1]], said(Ensemble([made], mirror=mirror), in_a_mirror()).logits_BTN.softmax(-1)
    )


def test_every_member_is_asked_of_both() -> None:
    members = [network(seed, encoder="none", pose_features="both") for seed in (0, 1)]
    each = [said(Ensemble([member], mirror=MIRROR), clip()).logits_BTN.softmax(-1) for member in members]
    both = said(Ensemble(members, mirror=MIRROR), clip()).logits_BTN.softmax(-1)
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)


def test_the_mean_of_boundaries_is_that_of_the_members_that_say_them() -> None:
    logits = torch.zeros(3, 2)
    said_of = [Output(logits, None, boundary_BT=torch.tensor([-2.0, 0.0, 90.0])), Output(logits, None)]
    sure = Output(logits, None, boundary_BT=torch.tensor([2.0, 0.0, 90.0]))
    mean = mean_output([*said_of, sure]).boundary_BT
    torch.testing.assert_close(mean[:2], torch.zeros(2), atol=1e-6, rtol=0)
    assert torch.isfinite(mean).all()
    torch.testing.assert_close(mean_output(said_of).boundary_BT[:2], said_of[0].boundary_BT[:2])
    assert mean_output([Output(logits, None)] * 2).boundary_BT is None
