from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.pose_graph import ANGLES, DISTANCES, PARTS, PoseError, PoseLayout, features, layout, n_features

SIX = (0, 1, 2, 3, 4, 5)


def poses(seed: int, T: int = 12, K: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Moving keypoints (1,T,K,2) in the middle of the square, about one in six invisible."""
    generator = torch.Generator().manual_seed(seed)
    xy = 0.4 + 0.2 * torch.rand(1, T, K, 2, generator=generator, dtype=torch.float64)
    return xy, torch.rand(1, T, K, generator=generator) > 0.17


def test_reference_features_of_a_drawn_animal() -> None:
    # Mouth above tail base, front paws at a right angle beside the mouth, hind paws beside the tail base.
    xy = torch.tensor([[0.5, 0.3], [0.5, 0.7], [0.4, 0.3], [0.7, 0.3], [0.4, 0.7], [0.6, 0.7]])[None, None]
    values, present = features(xy, torch.ones(1, 1, 6, dtype=torch.bool), SIX)
    assert values.shape == (1, 1, 18)
    assert present.all()
    assert values[0, 0, :8].tolist() == pytest.approx([1, 0.25, 0.5, 0.25, 0.25, 1, math.hypot(0.1, 0.4) / 0.4, 0.75])
    expected = dict(zip(ANGLES, values[0, 0, 8:].tolist(), strict=True))
    assert expected[(1, 0, 2)] == pytest.approx(0.5)  # tail base, mouth, left front paw: a right angle
    assert expected[(2, 0, 3)] == pytest.approx(1.0)  # front paws on both sides of the mouth: straight
    assert expected[(0, 2, 4)] == pytest.approx(0.5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(0.2, 4), x=st.floats(-0.5, 0.5), y=st.floats(-0.5, 0.5))
def test_place_and_size_do_not_matter(seed: int, scale: float, x: float, y: float) -> None:
    xy, visible = poses(seed)
    values, present = features(xy, visible, SIX)
    moved, moved_present = features(xy * scale + torch.tensor([x, y]), visible, SIX)
    assert torch.equal(present, moved_present)
    torch.testing.assert_close(values, moved, atol=2e-3, rtol=2e-3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), turn=st.floats(0, 2 * math.pi))
def test_direction_does_not_matter(seed: int, turn: float) -> None:
    xy, visible = poses(seed)
    rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]], dtype=xy.dtype)
    torch.testing.assert_close(
        features(xy, visible, SIX)[0], features(xy @ rotation, visible, SIX)[0], atol=2e-3, rtol=2e-3
    )


@pytest.mark.parametrize("hidden", range(6), ids=PARTS)
def test_an_invisible_part_is_missing_where_it_is_used_and_nowhere_else(hidden: int) -> None:
    xy, _ = poses(3)
    visible = torch.ones(1, 12, 6, dtype=torch.bool)
    visible[0, 5, hidden] = False
    xy[0, 5, hidden] = 0
    values, present = features(xy, visible, SIX)
    uses = torch.tensor([hidden in parts for parts in (*DISTANCES, *ANGLES)])
    assert torch.equal(present[0, 5], ~uses)
    assert (values[0, 5, uses] == 0).all()
    assert present[0, 4].all()


def test_where_an_invisible_keypoint_would_lie_does_not_matter() -> None:
    xy, visible = poses(5)
    elsewhere = torch.where(visible[..., None], xy, torch.rand(xy.shape, dtype=xy.dtype))
    torch.testing.assert_close(features(xy, visible, SIX), features(elsewhere, visible, SIX))


def test_body_size_is_one_of_the_sample_and_not_of_the_frame() -> None:
    xy, visible = poses(7, T=9)[0], torch.ones(1, 9, 6, dtype=torch.bool)
    body = (xy[0, :, 0] - xy[0, :, 1]).norm(dim=-1)
    values, _ = features(xy, visible, SIX)
    torch.testing.assert_close(values[0, :, 0], (body / body.median()).float())


def test_without_a_body_size_distances_are_missing_and_angles_are_not() -> None:
    xy, visible = poses(9)[0], torch.ones(1, 12, 6, dtype=torch.bool)
    visible[..., 1] = False
    _, present = features(xy, visible, SIX)
    assert not present[..., : len(DISTANCES)].any()
    without_tail = torch.tensor([1 not in angle for angle in ANGLES])
    assert present[..., len(DISTANCES) :][..., without_tail].all()


def test_nothing_visible_and_coinciding_points_give_no_nan() -> None:
    for visible in (torch.zeros(1, 4, 6, dtype=torch.bool), torch.ones(1, 4, 6, dtype=torch.bool)):
        values, present = features(torch.full((1, 4, 6, 2), 0.5), visible, SIX)
        assert values.isfinite().all()
        assert not present.any()


def test_the_parts_are_found_among_other_keypoints() -> None:
    xy, visible = poses(6, K=8)
    index = (7, 2, 5, 0, 1, 4)
    torch.testing.assert_close(
        features(xy, visible, index), features(xy[:, :, list(index)], visible[:, :, list(index)], SIX)
    )
    assert features(xy, visible, index)[0].shape == (1, 12, n_features())


def test_features_differ_from_frame_to_frame() -> None:
    xy, visible = poses(2)
    assert (features(xy, visible, SIX)[0].std(1) > 0).all()


def test_layout_finds_parts_by_name_and_by_map() -> None:
    names = ("Nose", "tail_base", "R_hindpaw", "L_frontpaw", "R_frontpaw", "L_hindpaw")
    assert layout(names, {"mouth": "Nose"}) == PoseLayout((0, 1, 3, 4, 5, 2))
    assert layout(names, {}) == PoseLayout(None, ("mouth",))


@pytest.mark.parametrize(
    ("pose_names", "said"),
    [
        ({"muzzle": "Nose"}, "muzzle=Nose: expected one of mouth, tail_base"),
        ({"mouth": "Snout"}, "mouth=Snout: the data has no such keypoint, but Nose, tail_base"),
        ({"mouth": "tail_base"}, "one keypoint stands for two parts: mouth=tail_base, tail_base=tail_base"),
    ],
    ids=["unknown part", "unknown keypoint", "twice"],
)
def test_a_wrong_map_is_refused(pose_names: dict[str, str], said: str) -> None:
    with pytest.raises(PoseError, match=said):
        layout(("Nose", "tail_base"), pose_names)
