"""Motion features of drawn animals: a shape that is turned, moved, sized, and partly hidden."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes

from pipeline.model.animals import exchanged
from pipeline.model.pose_motion import (
    FAR,
    GAP,
    LAGS,
    ROUNDS,
    bridged,
    features,
    fit,
    mean_shape,
    n_features,
)

# Middle 0 and root mean square distance 1, as mean shapes have; no mirror image of itself.
DRAWN = np.array([1.5 + 0.1j, -1.2 + 0.3j, 0.6 + 0.9j, 0.7 - 0.8j, -0.9 + 0.7j])
DRAWN -= DRAWN.mean()
DRAWN /= np.sqrt(np.mean(np.abs(DRAWN) ** 2))
n = len(DRAWN)
ONE, TWO = (tuple(range(n)),), (tuple(range(n)), tuple(range(n, 2 * n)))
SHAPE = torch.from_numpy(np.stack([DRAWN.real, DRAWN.imag], -1)).float()


def points(z: np.ndarray) -> torch.Tensor:
    """Complex (...) -> (...,2)."""
    return torch.from_numpy(np.stack([z.real, z.imag], -1)).float()


def complex_of(xy: torch.Tensor) -> np.ndarray:
    return xy[..., 0].double().numpy() + 1j * xy[..., 1].double().numpy()


def walk(seed: int, T: int = 40, size: float = 0.08, noise: float = 0.1) -> torch.Tensor:
    """(T,n,2): an animal that walks and turns slowly, of a size in units of the picture, its parts a little moving."""
    rng = np.random.default_rng(seed)
    heading = np.exp(1j * (rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.05, T))))
    middle = 0.5 + 0.5j + np.cumsum(rng.normal(0, 0.005, (T, 2)) @ [1, 1j])
    moving = DRAWN + noise * (rng.normal(size=(T, n, 2)) @ [1, 1j])
    return points(middle[:, None] + size * heading[:, None] * moving)


def scene(seed: int, n_animals: int = 1, T: int = 40, hidden: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    """xy (1,T,K,2) of several animals, and which are visible; a hidden keypoint lies at 0."""
    xy = torch.cat([walk(10 * seed + animal, T) for animal in range(n_animals)], 1)[None]
    visible = torch.rand(xy.shape[:-1], generator=torch.Generator().manual_seed(seed)) >= hidden
    return xy * visible[..., None], visible


def all_visible(xy: torch.Tensor) -> torch.Tensor:
    return torch.ones(xy.shape[:-1], dtype=torch.bool)


def named(n: int = n) -> dict[str, slice]:
    """Where the features of a single animal lie."""
    at, found = 0, {}
    per_lag = {"moved": 2, "speed": 1, "turn": 1, "part speeds": n, "parts moved": 2 * n}
    pairs = {"apart": n * (n - 1) // 2}
    for name, width in (
        {"shape": 2 * n} | {f"{name} {lag}": width for lag in LAGS for name, width in per_lag.items()} | pairs
    ).items():
        found[name] = slice(at, at + width)
        at += width
    return found


# The mean shape


@pytest.mark.parametrize("hidden", [0.0, 0.4])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(2, 9))
def test_the_mean_shape_of_turned_shifted_and_scaled_copies_is_their_shape(hidden: float, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    drawn, T = rng.normal(size=(n, 2)) @ [1, 1j], 400
    turned = np.exp(2j * math.pi * rng.random(T)) * rng.uniform(0.01, 0.3, T)
    xy = points(turned[:, None] * drawn + (rng.random((T, 2)) @ [1, 1j])[:, None])
    visible = torch.from_numpy(rng.random((T, n)) >= hidden)
    found = mean_shape([(xy[:100], visible[:100]), (xy[100:] * visible[100:, :, None], visible[100:])])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert found.square().sum(-1).mean().item() == pytest.approx(1, abs=1e-4)
    assert procrustes(points(drawn).double().numpy(), found.double().numpy())[2] < 1e-6
    # scipy's mirrors where that fits better; as complex numbers, a turn is all there is.
    about, z = drawn - drawn.mean(), complex_of(found)
    assert abs(np.vdot(z, about)) == pytest.approx(np.linalg.norm(z) * np.linalg.norm(about), rel=1e-3)


def test_the_mean_shape_of_noisy_poses_is_that_of_scipys_fits() -> None:
    xy = torch.cat([walk(seed, 60) for seed in range(5)])
    found = mean_shape([(xy, all_visible(xy))]).double().numpy()
    standard = found
    for _ in range(ROUNDS):  # each pose on the mean, as scipy fits it, and the mean of these
        standard = np.mean([procrustes(standard, pose)[1] for pose in xy.double().numpy()], 0)
    assert procrustes(standard, found)[2] < 1e-4
    assert procrustes(SHAPE.double().numpy(), found)[2] < 1e-3


def test_wrong_points_move_the_mean_shape_little() -> None:
    rng, xy = np.random.default_rng(0), torch.cat([walk(seed, 400, noise=0.02) for seed in range(5)])
    wrong = torch.from_numpy(rng.random(len(xy)) < 0.1)
    xy[wrong] = torch.from_numpy(rng.random((int(wrong.sum()), n, 2))).float()
    assert procrustes(SHAPE.double().numpy(), mean_shape([(xy, all_visible(xy))]).double().numpy())[2] < 0.01


@pytest.mark.parametrize("case", ["nothing", "one keypoint", "no frame", "all in a corner"])
def test_without_a_shape_it_is_zero(case: str) -> None:
    xy = torch.zeros(7, 3, 2) if case == "all in a corner" else torch.rand(7, 3, 2)
    visible = torch.zeros(7, 3, dtype=torch.bool)
    visible[:, : {"one keypoint": 1, "all in a corner": 3}.get(case, 0)] = True
    tracks = [(xy[:0], visible[:0])] if case == "no frame" else [(xy, visible)]
    assert torch.equal(mean_shape(tracks), torch.zeros(3, 2))


def test_poses_whose_points_coincide_tell_no_shape() -> None:
    copies = walk(3, 30, noise=0.0)
    corner = torch.full((20, n, 2), 0.3)
    found = mean_shape([(corner, all_visible(corner)), (copies, all_visible(copies))])
    assert procrustes(SHAPE.double().numpy(), found.double().numpy())[2] < 1e-6


def test_a_keypoint_that_is_never_seen_lies_in_the_middle() -> None:
    xy = walk(1)
    visible = all_visible(xy)
    visible[:, 2] = False
    found = mean_shape([(xy, visible)])
    assert torch.equal(found[2], torch.zeros(2))
    assert found.isfinite().all()


# The fit


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999), hidden=st.floats(0, 0.6))
def test_fit_is_the_least_squares_turn_shift_and_scale(seed: int, hidden: float) -> None:
    xy, rng = walk(seed, 12), np.random.default_rng(seed)
    known = torch.from_numpy(rng.random((12, n)) >= hidden)
    found = fit(xy[None], known[None], SHAPE)
    for t in range(12):
        here = known[t].numpy()
        assert found.placed[0, t] == here.any()
        assert found.turned[0, t] == (here.sum() > 1)
        if here.sum() > 1:
            # xy = turn * shape + middle, in complex numbers
            design = np.stack([DRAWN[here], np.ones(here.sum())], 1)
            turn, middle = np.linalg.lstsq(design, complex_of(xy[t])[here], rcond=None)[0]
            assert complex_of(found.heading[0, t]) == pytest.approx(turn / abs(turn), abs=2e-3)
            assert complex_of(found.middle[0, t]) == pytest.approx(middle, abs=2e-4)
            assert found.size[0, t].item() == pytest.approx(abs(turn), rel=2e-3)


@pytest.mark.parametrize("seen", [[0, 1, 2, 3, 4], [0, 1], [2, 4, 3]], ids=str)
def test_heading_and_middle_of_a_known_pose(seen: list[int]) -> None:
    turn, middle, size = np.exp(0.7j), 0.4 + 0.6j, 0.05
    known = torch.zeros(1, 1, n, dtype=torch.bool)
    known[..., seen] = True
    found = fit(points(middle + size * turn * DRAWN)[None, None] * known[..., None], known, SHAPE)
    torch.testing.assert_close(found.heading[0, 0], torch.tensor([math.cos(0.7), math.sin(0.7)]), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.middle[0, 0], torch.tensor([0.4, 0.6]), atol=1e-5, rtol=0)
    assert found.size.item() == pytest.approx(size, rel=1e-4)


@pytest.mark.parametrize("place", [0.0, 0.3, 0.5, 1.0])
def test_points_that_coincide_have_a_place_and_no_heading(place: float) -> None:
    found = fit(torch.full((1, 1, n, 2), place), torch.ones(1, 1, n, dtype=torch.bool), SHAPE)
    assert found.placed.all()
    assert not found.turned.any()
    assert (found.heading == 0).all()
    assert found.size == 0
    torch.testing.assert_close(found.middle, torch.full((1, 1, 2), place))


def test_points_that_differ_by_rounding_have_no_heading() -> None:
    xy = 0.3 + 1e-7 * torch.rand(1, 50, n, 2, generator=torch.Generator().manual_seed(0))
    assert not fit(xy, all_visible(xy), SHAPE).turned.any()


def test_a_small_animal_has_a_heading() -> None:
    turn = np.exp(-2.0j)
    found = fit(points(0.5 + 0.5j + 0.002 * turn * DRAWN)[None, None], torch.ones(1, 1, n, dtype=torch.bool), SHAPE)
    assert found.turned.all()
    assert complex_of(found.heading[0, 0]) == pytest.approx(turn, abs=1e-3)


# Bridged gaps


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), T=st.integers(1, 90), hidden=st.floats(0, 1), run=st.integers(1, 25))
def test_short_gaps_are_straight_lines_and_long_ones_stay(seed: int, T: int, hidden: float, run: int) -> None:
    rng = np.random.default_rng(seed)
    xy = rng.random((T, 3, 2)).astype(np.float32)
    visible = np.repeat(rng.random((T // run + 1, 3)) >= hidden, run, 0)[:T]
    found, known = (x[0].numpy() for x in bridged(torch.from_numpy(xy)[None], torch.from_numpy(visible)[None]))
    for k in range(3):
        seen, expected = np.flatnonzero(visible[:, k]), visible[:, k].copy()
        for before, after in pairwise(seen):
            expected[before:after] |= after - before - 1 <= GAP
        assert known[:, k].tolist() == expected.tolist()
        for axis in range(2):
            line = np.interp(np.arange(T), seen, xy[seen, k, axis]) if len(seen) else np.zeros(T)
            np.testing.assert_allclose(found[:, k, axis], np.where(expected, line, 0), atol=1e-5)


@pytest.mark.parametrize(("gap", "is_bridged"), [(1, True), (GAP, True), (GAP + 1, False)])
def test_the_longest_gap_that_is_bridged(gap: int, is_bridged: bool) -> None:
    T = gap + 2
    visible = torch.zeros(1, T, 1, dtype=torch.bool)
    visible[0, [0, -1]] = True
    xy = torch.zeros(1, T, 1, 2)
    xy[0, -1] = 1.0
    found, known = bridged(xy, visible)
    assert known[0, 1:-1].all() == known[0, 1:-1].any() == is_bridged
    assert found[0, 1, 0, 0] == pytest.approx(1 / (gap + 1) if is_bridged else 0)


def test_what_is_seen_is_left_as_it_is() -> None:
    xy, visible = scene(4, hidden=0.5)
    found, _ = bridged(xy, visible)
    assert torch.equal(found[visible], xy[visible])


# The features


@pytest.mark.parametrize("groups", [ONE, TWO], ids=["one animal", "two animals"])
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 9999), scale=st.floats(0.3, 3), turn=st.floats(0, 2 * math.pi),
    x=st.floats(-0.5, 0.5), y=st.floats(-0.5, 0.5),
)  # fmt: skip
def test_place_direction_and_size_of_the_scene_do_not_matter(
    groups: tuple[tuple[int, ...], ...], seed: int, scale: float, turn: float, x: float, y: float
) -> None:
    xy, visible = scene(seed, len(groups))
    c, s = scale * math.cos(turn), scale * math.sin(turn)
    moved = (xy @ torch.tensor([[c, s], [-s, c]]) + torch.tensor([x, y])) * visible[..., None]
    values, present = features(xy, visible, groups, SHAPE)
    again, present_again = features(moved, visible, groups, SHAPE)
    assert torch.equal(present, present_again)
    torch.testing.assert_close(again, values, atol=5e-3, rtol=5e-3)


def test_left_is_not_right() -> None:
    xy, _ = scene(2, hidden=0)
    mirrored = xy * torch.tensor([-1, 1]) + torch.tensor([1, 0])
    values, _ = features(xy, all_visible(xy), ONE, SHAPE)
    other, _ = features(mirrored, all_visible(xy), ONE, SHAPE)
    at = named()
    assert (values - other)[..., at["shape"]].abs().max() > 0.3
    assert (values - other)[..., at["moved 1"]].abs().max() > 0.1
    # On its own mirrored shape the mirrored animal does the same, with the sides changed.
    other, _ = features(mirrored, all_visible(xy), ONE, SHAPE * torch.tensor([1, -1]))
    torch.testing.assert_close(other.abs(), values.abs(), atol=2e-3, rtol=2e-3)
    torch.testing.assert_close(other[..., at["turn 4"]], -values[..., at["turn 4"]], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("groups", [ONE, TWO], ids=["one animal", "two animals"])
def test_where_an_invisible_keypoint_would_lie_does_not_matter(groups: tuple[tuple[int, ...], ...]) -> None:
    xy, visible = scene(5, len(groups), hidden=0.4)
    elsewhere = torch.where(visible[..., None], xy, torch.rand(xy.shape))
    torch.testing.assert_close(
        features(xy, visible, groups, SHAPE), features(elsewhere, visible, groups, SHAPE), rtol=0, atol=0
    )


@pytest.mark.parametrize("hidden", range(n))
def test_a_missing_keypoint_is_missing_where_it_is_used_and_nowhere_else(hidden: int) -> None:
    T, t = 3 * GAP + 20, 33
    xy = walk(8, T)[None]
    visible = all_visible(xy)
    visible[0, t - GAP // 2 - 1 : t + GAP, hidden] = False
    values, present = features(xy * visible[..., None], visible, ONE, SHAPE)
    at = named()
    own = torch.arange(n) == hidden
    uses = {"shape": own.repeat_interleave(2), "apart": torch.tensor([hidden in p for p in combinations(range(n), 2)])}
    for lag in LAGS:
        uses |= {f"part speeds {lag}": own, f"parts moved {lag}": own.repeat_interleave(2)}
    for name, where in at.items():
        used = uses.get(name, torch.zeros(where.stop - where.start, dtype=torch.bool))
        assert torch.equal(present[0, t, where], ~used), name
        assert (values[0, t, where][used] == 0).all()


@pytest.mark.parametrize("groups", [ONE, TWO], ids=["one animal", "two animals"])
def test_nothing_visible_gives_no_nan(groups: tuple[tuple[int, ...], ...]) -> None:
    xy, _ = scene(1, len(groups))
    for shape in (SHAPE, torch.zeros(n, 2)):
        values, present = features(xy, torch.zeros(xy.shape[:-1], dtype=torch.bool), groups, shape)
        assert (values == 0).all()
        assert not present.any()


def test_of_an_animal_that_is_gone_the_other_keeps_its_features() -> None:
    xy, visible = scene(3, 2, hidden=0)
    visible[..., n:] = False
    values, present = features(xy * visible[..., None], visible, TWO, SHAPE)
    alone, present_alone = features(xy[..., :n, :], visible[..., :n], ONE, SHAPE)
    own = slice(0, named()["apart"].start)
    torch.testing.assert_close(values[..., own], alone[..., own])
    assert torch.equal(present[..., own], present_alone[..., own])
    n_apart = n * (n - 1) // 2
    assert present.sum() == present_alone[..., own].sum() + n_apart * xy.shape[1]
    assert values.isfinite().all()


def test_coinciding_points_have_distances_and_no_shape() -> None:
    xy = torch.full((1, 20, n, 2), 0.3)
    values, present = features(xy, all_visible(xy), ONE, SHAPE)
    at = named()
    assert values.isfinite().all()
    assert present[..., at["apart"]].all()
    for name in ("shape", "moved 1", "turn 1", "parts moved 1"):
        assert not present[..., at[name]].any()


@pytest.mark.parametrize("T", [1, 2, 3, 4, 5, 16, 17])
def test_clips_shorter_than_the_lags(T: int) -> None:
    xy = walk(1, T)[None]
    values, present = features(xy, all_visible(xy), ONE, SHAPE)
    assert values.isfinite().all()
    for lag in LAGS:
        assert present[0, :, named()[f"speed {lag}"]].sum() == max(0, T - lag)
    assert present[..., named()["shape"]].all()


def test_no_frames_no_features() -> None:
    values, present = features(torch.zeros(2, 0, n, 2), torch.zeros(2, 0, n, dtype=torch.bool), ONE, SHAPE)
    assert values.shape == present.shape == (2, 0, n_features(ONE, n))


@pytest.mark.parametrize("K", [1, 2, 3, 10])
def test_any_number_of_keypoints(K: int) -> None:
    generator = torch.Generator().manual_seed(1)
    xy = 0.4 + 0.2 * torch.rand(1, 40, K, 2, generator=generator)
    shape = mean_shape([(xy[0], all_visible(xy)[0])])
    values, present = features(xy, all_visible(xy), (tuple(range(K)),), shape)
    assert values.shape == (1, 40, n_features((tuple(range(K)),), K))
    assert values.isfinite().all()
    at = named(K)
    assert at["apart"].stop == values.shape[-1]
    # One point alone has a place, and nothing that a heading needs.
    assert present[..., at["part speeds 1"]].any()
    assert present[..., at["shape"]].all() == (K > 1)
    if K == 1:  # its unit is the side of the picture
        step = (xy[0, 1:, 0] - xy[0, :-1, 0]).norm(dim=-1)
        torch.testing.assert_close(values[0, :-1, at["part speeds 1"]][:, 0], (FAR * step).log1p())


@pytest.mark.parametrize("n_animals", [1, 2, 3])
def test_the_number_of_features(n_animals: int) -> None:
    groups, K = tuple(tuple(range(a * n, a * n + n)) for a in range(n_animals)), n_animals * n
    own, other, pair = 2 * n + len(LAGS) * (4 + 3 * n), 2 * n + 2, 3 + len(LAGS)
    pairs = n_animals * (n_animals - 1) // 2
    assert n_features(groups, K) == n_animals * own + 2 * pairs * other + pairs * pair + K * (K - 1) // 2


def test_speeds_and_turns_have_the_right_size_for_every_lag() -> None:
    T, t, size, speed, turn = 60, 30, 0.05, 0.03, 0.02  # body sizes and radians per frame
    heading = np.exp(1j * turn * np.arange(T))
    middle = 0.3 + 0.3j + size * speed * np.arange(T)
    xy = points(middle[:, None] + size * heading[:, None] * DRAWN)[None]
    values, present = features(xy, all_visible(xy), ONE, SHAPE)
    at = named()
    for lag in LAGS:
        start, stop = t - lag // 2, t - lag // 2 + lag
        moved = speed * lag * np.conj(heading[t]) * FAR / math.sqrt(lag)
        expected = moved / (1 + abs(moved) / FAR)
        assert present[0, t].all()
        found = complex_of(values[0, t, at[f"moved {lag}"]])
        assert found == pytest.approx(expected, abs=2e-3)
        assert values[0, t, at[f"speed {lag}"]].item() == pytest.approx(math.log1p(FAR * speed * lag), rel=1e-3)
        assert values[0, t, at[f"turn {lag}"]].item() == pytest.approx(turn * lag, rel=1e-2)
        steps = np.abs(complex_of(xy[0, stop] - xy[0, start])) / size
        assert values[0, t, at[f"part speeds {lag}"]].tolist() == pytest.approx(np.log1p(FAR * steps), rel=1e-3)
        torch.testing.assert_close(values[0, t, at[f"parts moved {lag}"]], torch.zeros(2 * n), atol=5e-3, rtol=0)
        assert present[0, :, at[f"speed {lag}"]][:, 0].nonzero().flatten().tolist() == list(
            range(lag // 2, T - lag + lag // 2)
        )
    torch.testing.assert_close(values[0, t, at["shape"]].view(n, 2), SHAPE, atol=1e-3, rtol=0)


def test_a_part_that_moves_within_the_body_is_told_in_the_bodys_frame() -> None:
    turn, lag = np.exp(1.1j), 4
    body = np.tile(DRAWN, (30, 1))
    body[15:, 2] += 0.001 + 0.002j  # so little that it does not turn the fit
    xy = points(0.5 + 0.5j + 0.1 * turn * body).double()[None]
    values, _ = features(xy, all_visible(xy), ONE, SHAPE)
    moved = complex_of(values[0, :, named()[f"parts moved {lag}"]].unflatten(-1, (n, 2)))[:, 2] * math.sqrt(lag) / FAR
    assert moved[14] == pytest.approx(0.001 + 0.002j, abs=1e-3)
    assert moved[14].imag > 1e-3
    assert abs(moved[5]) < 1e-4


def test_two_animals_as_they_stand_to_each_other() -> None:
    T, size = 40, 0.04
    one, two = 0.3 + 0.5j + np.zeros(T), 0.3 + size * (6 - 0.05 * np.arange(T)) + 0.5j  # two comes closer
    turns = np.exp(0.3j), np.exp(1.0j)
    xy = points(np.concatenate([m[:, None] + size * t * DRAWN for m, t in zip((one, two), turns, strict=True)], 1))
    values, present = features(xy[None], all_visible(xy[None]), TWO, SHAPE)
    own, other = named()["apart"].start, 2 * n + 2
    between = values[0, 20, 2 * (own + other) : 2 * (own + other) + 3 + len(LAGS)]
    assert present[0, 20].all()
    assert complex_of(between[:2]) == pytest.approx(turns[1] / turns[0], abs=1e-3)
    assert between[2].item() == pytest.approx(math.log(5 + 0.1), abs=1e-3)
    for value, lag in zip(between[3:].tolist(), LAGS, strict=True):
        change = -0.05 * lag * FAR / math.sqrt(lag)
        assert value == pytest.approx(change / (1 + abs(change) / FAR), abs=2e-3)
    seen = 5 * np.conj(turns[0])  # where the first sees the second
    assert complex_of(values[0, 20, own + other - 2 : own + other]) == pytest.approx(seen / (1 + 5 / FAR), abs=5e-3)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 9999))
def test_animals_that_change_places_change_places_in_the_features(seed: int) -> None:
    xy, visible = scene(seed, 2)
    index = exchanged(TWO, 2 * n, (1, 0))
    values, present = features(xy, visible, TWO, SHAPE)
    other, present_other = features(xy[:, :, index], visible[:, :, index], TWO, SHAPE)
    block = named()["apart"].start + 2 * n + 2
    pairs = list(combinations(range(2 * n), 2))
    of_pair = [2 * block + 3 + len(LAGS) + pairs.index(tuple(sorted((index[a], index[b])))) for a, b in pairs]
    between = list(range(2 * block, 2 * block + 3 + len(LAGS)))
    order = [*range(block, 2 * block), *range(block), *between, *of_pair]
    expected = values[..., order]
    expected[..., 2 * block + 1] *= -1  # the second's heading seen from the first: left is now right
    assert torch.equal(present_other, present[..., order])
    torch.testing.assert_close(other, expected, atol=1e-5, rtol=1e-5)
    # Keypoints in another order, the same animals: nothing but the distances' order changes.
    shuffled = np.random.default_rng(seed).permutation(2 * n)
    groups = tuple(tuple(int(np.flatnonzero(shuffled == k)[0]) for k in group) for group in TWO)
    again, _ = features(xy[:, :, shuffled], visible[:, :, shuffled], groups, SHAPE)
    torch.testing.assert_close(again[..., : between[-1] + 1], values[..., : between[-1] + 1], atol=1e-5, rtol=1e-5)


def test_a_sample_of_a_padded_batch_is_as_it_is_alone() -> None:
    (xy, visible), (short, short_visible), T = scene(1, 2, T=50), scene(2, 2, T=23), 50
    batch, batch_visible = torch.zeros(2, T, 2 * n, 2), torch.zeros(2, T, 2 * n, dtype=torch.bool)
    batch[0], batch[1, :23], batch_visible[0], batch_visible[1, :23] = xy[0], short[0], visible[0], short_visible[0]
    values, present = features(batch, batch_visible, TWO, SHAPE)
    for b, alone in ((0, features(xy, visible, TWO, SHAPE)), (1, features(short, short_visible, TWO, SHAPE))):
        length = alone[0].shape[1]
        torch.testing.assert_close(values[b, :length], alone[0][0], atol=1e-6, rtol=1e-6)
        assert torch.equal(present[b, :length], alone[1][0])
    assert not present[1, 23:].any()


def test_features_differ_from_frame_to_frame() -> None:
    xy, _ = scene(2, hidden=0)
    values, _ = features(xy, all_visible(xy), ONE, SHAPE)
    assert (values[0].std(0) > 0).all()


def test_features_of_half_precision_contexts_are_in_full_precision() -> None:
    xy, visible = scene(2, 2)
    full, _ = features(xy, visible, TWO, SHAPE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed, _ = features(xy, visible, TWO, SHAPE)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, full, rtol=0, atol=0)
