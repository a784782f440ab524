"""Means and deviations over windows, against loops over frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model.pose_windows import features, n_features


def by_loops(values: np.ndarray, present: np.ndarray, lengths: list[int]) -> np.ndarray:
    """The windows (T,2FL) of one clip (T,F), frame by frame."""
    T, F = values.shape
    made = np.zeros((T, len(lengths), 2, F))
    for t in range(T):
        for i, length in enumerate(lengths):
            start = t - length // 2
            window = slice(max(0, start), start + length)
            for f in range(F):
                known = values[window, f][present[window, f]]
                if len(known):
                    made[t, i, :, f] = known.mean(), known.std()
    return made.reshape(T, 2 * F * len(lengths))


def drawn(seed: int, T: int, hidden: float, B: int = 2, F: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Values (B,T,F) with 0 where they are not present, as features have them."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(B, T, F, generator=generator) >= hidden
    return 2 * torch.randn(B, T, F, generator=generator) * present, present


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 9999), T=st.integers(0, 70), hidden=st.floats(0, 1),
    lengths=st.lists(st.integers(2, 160), min_size=1, max_size=4, unique=True),
)  # fmt: skip
def test_it_is_what_loops_over_the_frames_give(seed: int, T: int, hidden: float, lengths: list[int]) -> None:
    values, present = drawn(seed, T, hidden)
    found = features(values, present, lengths)
    assert found.shape == (2, T, n_features(3, lengths))
    for b in range(2):
        expected = by_loops(values[b].double().numpy(), present[b].numpy(), lengths)
        np.testing.assert_allclose(found[b].numpy(), expected, atol=5e-3)


@pytest.mark.parametrize(("T", "step"), [(60, 3), (61, 3), (59, 5), (2, 3), (0, 3)])
def test_windows_of_steps_are_those_of_the_frames_in_the_middle(T: int, step: int) -> None:
    values, present = drawn(6, T, 0.4)
    lengths = (step, 3 * step, 9 * step)
    found = features(values, present, lengths, step)
    assert found.shape == (2, -(-T // step), n_features(3, lengths))
    padded = [torch.nn.functional.pad(x, (0, 0, 0, -T % step)) for x in (values, present)]
    torch.testing.assert_close(found, features(*padded, lengths)[:, step // 2 :: step], atol=5e-3, rtol=0)


@pytest.mark.parametrize("hidden", [0.0, 0.6])
def test_what_never_changes_is_its_mean_and_does_not_deviate(hidden: float) -> None:
    present = drawn(1, 400, hidden)[1]
    found = features(1.7 * present, present, (15, 61)).unflatten(-1, (2, 2, 3))
    torch.testing.assert_close(found[:, :, :, 0], torch.full((2, 400, 2, 3), 1.7), atol=1e-5, rtol=0)
    assert found[:, :, :, 1].max() < 2e-3


def test_a_clip_that_is_shorter_than_the_window_is_seen_whole() -> None:
    values, present = drawn(2, 20, 0.3)
    found = features(values, present, (41, 100_001))
    # From every frame a window of 41 reaches both ends of 20.
    assert torch.equal(found[..., :6], found[..., 6:])
    torch.testing.assert_close(found, found[:, :1].expand_as(found))


def test_where_a_value_that_is_not_present_lies_does_not_matter() -> None:
    values, present = drawn(3, 50, 0.5)
    elsewhere = torch.where(present, values, 9.0)
    assert torch.equal(features(elsewhere, present, (5, 21)), features(values, present, (5, 21)))


def test_nothing_present_gives_zeros() -> None:
    assert (features(torch.ones(1, 30, 2), torch.zeros(1, 30, 2, dtype=torch.bool), (7, 90)) == 0).all()


def test_padding_at_the_end_changes_nothing() -> None:
    values, present = drawn(4, 60, 0.2)
    alone = features(values, present, (9, 61))
    padded = features(*(torch.cat([x, torch.zeros(2, 33, 3, dtype=x.dtype)], 1) for x in (values, present)), (9, 61))
    torch.testing.assert_close(padded[:, :60], alone)


@pytest.mark.parametrize("length", [2, 3, 15, 16])
def test_how_far_a_window_reaches(length: int) -> None:
    values = torch.zeros(1, 60, 1)
    values[0, 30] = 1.0
    seen = features(values, torch.ones(1, 60, 1, dtype=torch.bool), [length])[0, :, 0].nonzero()[:, 0]
    # The window of frame t begins at t - length // 2 and ends before t - length // 2 + length.
    assert seen.tolist() == list(range(30 + length // 2 - length + 1, 30 + length // 2 + 1))


def test_a_long_recording_is_as_exact_as_a_short_one() -> None:
    values, present = drawn(5, 300, 0.2, B=1, F=1)
    long = [x.repeat(1, 400, 1) for x in (values + 3 * present, present)]
    short = [x[:, :900] for x in long]
    late, early = features(*long, (61,))[0, 119_100:119_200], features(*short, (61,))[0, 300:400]
    torch.testing.assert_close(late, early, atol=1e-5, rtol=0)
