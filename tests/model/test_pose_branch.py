from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from pipeline.model import pose_motion, pose_windows
from pipeline.model.pose_branch import KNOTS, LARGEST, PoseBranch, PoseFeaturesError, PoseSet, pose_set
from pipeline.model.pose_graph import PARTS, PoseError, features

MICE = ("m1_nose", "m1_ear", "m1_tail", "m2_nose", "m2_ear", "m2_tail")
GROUPS = ((0, 1, 2), (3, 4, 5))


def tracks(count: int = 4, T: int = 60, hidden: float = 0.2, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Walks of two animals of three points each."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(count):
        body = np.array([[0.05, 0], [0.02, 0.02], [-0.07, 0]])
        middles = 0.5 + np.cumsum(rng.normal(0, 0.004, (T, 2, 1, 2)), 0)
        xy = (middles + body + rng.normal(0, 0.004, (T, 2, 3, 2))).reshape(T, 6, 2).astype(np.float32)
        visible = rng.random((T, 6)) >= hidden
        made.append((xy * visible[..., None], visible))
    return made


def branch(time_input: str = "none", kind: str = "motion", windows: tuple[int, ...] = ()) -> PoseBranch:
    torch.manual_seed(0)
    return PoseBranch(pose_set(MICE, {}, kind, time_input), 6, 8, windows).eval()


def test_what_each_setting_makes() -> None:
    six, one = tuple(range(6)), (tuple(range(6)),)
    assert pose_set(PARTS, {}, "auto") == PoseSet(six, one)
    assert pose_set(PARTS, {}, "graph") == PoseSet(six, None)
    assert pose_set(PARTS, {}, "motion") == PoseSet(None, one)
    assert pose_set(PARTS, {}, "both", "clip") == PoseSet(six, one, (0, 1))
    assert pose_set(MICE, {}, "auto", "stimulus") == PoseSet(None, GROUPS, (2,))


@pytest.mark.parametrize("kind", ["graph", "both"])
def test_the_graph_without_its_parts_is_refused(kind: str) -> None:
    with pytest.raises(PoseFeaturesError) as caught:
        pose_set(("mouth", "tail"), {}, kind)
    assert str(caught.value) == (
        f"--pose-features {kind}: the pose graph lacks tail_base, L_frontpaw, R_frontpaw, L_hindpaw, R_hindpaw; "
        "the keypoints are mouth, tail; name them with --pose-names, or use --pose-features motion"
    )
    with pytest.raises(PoseError, match="no such keypoint"):
        pose_set(("mouth", "tail"), {"mouth": "snout"}, kind)


def test_fit_finds_the_mean_shape_of_all_animals() -> None:
    made, seen = branch(), tracks()
    made.fit(seen)
    of_animals = [
        (torch.from_numpy(xy[:, list(group)]), torch.from_numpy(visible[:, list(group)]))
        for xy, visible in seen
        for group in GROUPS
    ]
    torch.testing.assert_close(made.shape_n2, pose_motion.mean_shape(of_animals))
    body = np.array([[0.05, 0], [0.02, 0.02], [-0.07, 0]])
    body = (body - body.mean(0)) / np.sqrt(np.square(body - body.mean(0)).sum(1).mean())
    sides = [np.linalg.norm(body[a] - body[b]) for a, b in pairwise((0, 1, 2, 0))]
    found = [(made.shape_n2[a] - made.shape_n2[b]).norm().item() for a, b in pairwise((0, 1, 2, 0))]
    assert found == pytest.approx(sides, abs=0.05)


def test_fit_standardises_the_features_that_are_present() -> None:
    made, seen = branch(), tracks()
    made.fit(seen)
    values, present = [], []
    for xy, visible in seen:
        found = pose_motion.features(torch.from_numpy(xy)[None], torch.from_numpy(visible)[None], GROUPS, made.shape_n2)
        values.append(found[0][0])
        present.append(found[1][0])
    standard = (torch.cat(values) - made.mean_F) / made.spread_F
    present_NF = torch.cat(present)
    assert 0.5 < present_NF.float().mean() < 1
    for f in range(standard.shape[1]):
        column = standard[present_NF[:, f], f]
        assert column.mean().item() == pytest.approx(0, abs=1e-3)
        assert column.std(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_one_clip_or_its_pieces_or_copies_standardise_alike() -> None:
    one, again = branch(), branch()
    one.fit(tracks(3))
    again.fit(tracks(3) * 2)
    for name in ("mean_F", "spread_F"):
        torch.testing.assert_close(getattr(one, name), getattr(again, name), atol=1e-4, rtol=1e-4)


def test_a_feature_that_was_never_there_and_one_that_never_changes_are_not_blown_up() -> None:
    made = branch()
    never = [(xy, visible & (np.arange(6) != 5)) for xy, visible in tracks()]
    made.fit(never)
    never_NF = ~torch.cat(
        [
            pose_motion.features(torch.from_numpy(xy)[None], torch.from_numpy(v)[None], GROUPS, made.shape_n2)[1][0]
            for xy, v in never
        ]
    ).any(0)
    assert never_NF.any()
    assert (made.mean_F[never_NF] == 0).all()
    assert (made.spread_F[never_NF] == 1).all()
    still = np.tile(tracks(1)[0][0][:1], (60, 1, 1))
    made.fit([(still, np.ones((60, 6), bool))])
    assert (made.spread_F >= 1e-3 * 0.999).all()
    assert made(torch.from_numpy(still)[None], torch.ones(1, 60, 6, dtype=torch.bool)).isfinite().all()


@pytest.mark.parametrize("seen", [[], [(np.zeros((0, 6, 2), np.float32), np.zeros((0, 6), bool))], tracks(2, hidden=1)])
def test_fit_on_nothing_leaves_finite_features(seen: list[tuple[np.ndarray, np.ndarray]]) -> None:
    made = branch()
    made.fit(seen)
    (xy, visible), *_ = tracks(1)
    assert made(torch.from_numpy(xy)[None], torch.from_numpy(visible)[None]).isfinite().all()


def test_the_graph_alone_has_nothing_to_fit() -> None:
    made = PoseBranch(pose_set(PARTS, {}, "graph"), 6, 8)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made.fit(tracks())
    assert before.keys() == {"linear.weight", "linear.bias"}
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    xy, visible = (torch.from_numpy(x)[None] for x in tracks(1)[0])
    values, present = features(xy, visible, range(6))
    torch.testing.assert_close(made(xy, visible), made.linear(torch.cat([values, present.float()], -1)))


@torch.no_grad()
def seen_by_linear(made: PoseBranch, xy: np.ndarray, visible: np.ndarray) -> torch.Tensor:
    """What the linear layer is given for each frame, (T,...)."""
    made.linear, linear = torch.nn.Identity(), made.linear
    found = made(torch.from_numpy(xy)[None], torch.from_numpy(visible)[None])[0]
    made.linear = linear
    return found


def test_a_wild_point_is_held_back() -> None:
    made, (xy, visible) = branch(), tracks(1, hidden=0)[0]
    made.fit(tracks())
    xy[30, 2] = (1, 0)
    assert seen_by_linear(made, xy, visible).abs().max() == LARGEST


def test_a_missing_feature_is_shown_as_the_mean() -> None:
    made, (xy, visible) = branch(), tracks(1, hidden=0)[0]
    made.fit(tracks())
    visible[10:40, 1] = False
    xy[~visible] = 0
    inputs = seen_by_linear(made, xy, visible)
    _, present = pose_motion.features(
        torch.from_numpy(xy)[None], torch.from_numpy(visible)[None], GROUPS, made.shape_n2
    )
    missing = ~present[0, 25]
    assert 0 < missing.sum() < len(missing)
    assert (made.mean_F[missing] != 0).any()
    assert (inputs[25, : len(missing)][missing] == 0).all()
    assert (inputs[25, : len(missing)][~missing] != 0).all()
    marks = torch.tensor([1.0, 0, 1, 1, 1, 1])
    assert torch.equal(inputs[25, len(missing) :], torch.cat([marks, marks]))


@pytest.mark.parametrize("step", [1, 4])
@torch.no_grad()
def test_windows_are_of_the_features_as_they_are_shown(step: int) -> None:
    (xy, visible), lengths = tracks(1, hidden=0.6)[0], (7, 25, 999)
    made, plain = PoseBranch(pose_set(MICE, {}, "motion"), 6, 8, lengths, step), branch()
    made.fit(tracks())
    plain.fit(tracks())
    plain.linear = made.linear
    shown = seen_by_linear(plain, xy, visible)[None, :, : len(made.mean_F)]
    seen = torch.from_numpy(xy)[None], torch.from_numpy(visible)[None]
    _, present = pose_motion.features(*seen, GROUPS, made.shape_n2)
    assert 0.2 < present.float().mean() < 0.9
    of_steps = made.of_windows(pose_windows.features(shown, present, lengths, step))
    added = of_steps.repeat_interleave(step, 1)
    torch.testing.assert_close(made(*seen) - plain(*seen), added, atol=1e-4, rtol=1e-4)


def test_windows_are_of_both_kinds_of_features() -> None:
    made = PoseBranch(pose_set(PARTS, {}, "both"), 6, 8, (9,))
    assert made.of_windows.in_features == pose_windows.n_features(18 + len(made.mean_F), (9,))


@torch.no_grad()
def test_bridged_keypoints_are_told_from_seen_ones() -> None:
    made = branch()
    made.fit(tracks())
    (xy, visible), *_ = tracks(1, hidden=0)
    xy[20:23, 1] = np.linspace(xy[19, 1], xy[23, 1], 5)[1:-1]  # where the bridge will lie
    hidden = visible.copy()
    hidden[20:23, 1] = False
    shown, bridged = (
        made(torch.from_numpy(xy * seen[..., None])[None], torch.from_numpy(seen)[None]) for seen in (visible, hidden)
    )
    change = shown - bridged
    torch.testing.assert_close(change[0, 25:], torch.zeros_like(change[0, 25:]), atol=1e-4, rtol=0)
    assert (change[0, 20:23].abs() > 1e-3).any()
    # Nothing but the mark of being seen differs.
    n_motion = len(made.mean_F)
    torch.testing.assert_close(change[0, 21], made.linear.weight[:, n_motion + 1], atol=1e-3, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(("time_input", "column"), [("stimulus", 2), ("entry", 3)])
def test_times_are_shown_by_the_knots_that_have_passed(time_input: str, column: int) -> None:
    made = branch(time_input)
    when = np.full((2, 401, 4), np.nan, np.float32)
    when[0, :, column] = np.arange(401) - 60
    made.fit_times(list(when))
    shown = made._times(torch.from_numpy(when), torch.zeros(2, 401, 1, 2))
    knots = np.linspace(-60, 340, KNOTS)
    expected = np.tanh((when[0, :, column, None] - knots) / (400 / (KNOTS - 1)) * 2)
    assert shown[0, :, 0].tolist() == [1.0] * 401
    assert shown[0, :, 1:].numpy() == pytest.approx(expected, abs=1e-4)
    assert not shown[1].any()


@torch.no_grad()
def test_times_that_are_nowhere_known_leave_finite_knots() -> None:
    made = branch("stimulus")
    when = np.full((9, 4), np.nan, np.float32)
    made.fit_times([when])
    when[:, 2] = 5
    made.fit_times([when[:0], when])
    assert made._times(torch.from_numpy(when)[None], torch.zeros(1, 9, 1, 2)).isfinite().all()


@torch.no_grad()
def test_both_times_of_a_clip_reach_the_output_with_their_marks_of_being_known() -> None:
    made = branch("clip")
    n_shown = 2 * (1 + KNOTS)
    made.linear.weight[:, :-n_shown] = 0
    made.linear.bias.zero_()
    xy, visible = torch.zeros(1, 3, 6, 2), torch.zeros(1, 3, 6, dtype=torch.bool)
    when = torch.tensor([[0.0, 500, 7, 7], [30, 470, torch.nan, 7], [torch.nan, 1, 0, 0]])[None]
    made.fit_times([np.array([[0, 500, 0, 0], [500, 0, 0, 0]], np.float32)])
    knots = torch.linspace(0, 500, KNOTS)
    passed = [((when[0, :, i, None] - knots) / (500 / (KNOTS - 1)) * 2).tanh().nan_to_num(0.0) for i in (0, 1)]
    shown = torch.cat([torch.tensor([[1.0, 1], [1, 1], [0, 1]]), *passed], -1)
    torch.testing.assert_close(
        made(xy, visible, when)[0], shown @ made.linear.weight[:, -n_shown:].T, atol=1e-4, rtol=1e-3
    )


@torch.no_grad()
def test_an_unknown_time_is_no_time_at_zero_and_no_nan() -> None:
    made = branch("stimulus")
    xy, visible = torch.zeros(1, 5, 6, 2), torch.zeros(1, 5, 6, dtype=torch.bool)
    unknown = made(xy, visible, torch.full((1, 5, 3), torch.nan))
    assert unknown.isfinite().all()
    torch.testing.assert_close(made(xy, visible), unknown)
    assert not torch.allclose(made(xy, visible, torch.zeros(1, 5, 3)), unknown)
