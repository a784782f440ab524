from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.tcn import TCN, pooled, receptive_field, stretched


def make(layers: int = 3, kernel: int = 3) -> TCN:
    torch.manual_seed(0)
    return TCN(5, 8, layers, kernel, dropout=0.3).eval()


@torch.no_grad()
def test_padding_never_leaks() -> None:
    tcn = make(layers=5)
    x = torch.randn(1, 30, 5)
    padded = torch.cat([x, 100 * torch.randn(1, 17, 5)], 1)
    valid = torch.arange(47)[None] < 30
    torch.testing.assert_close(tcn(padded, valid)[:, :30], tcn(x, valid[:, :30]))


@pytest.mark.parametrize(("layers", "kernel"), [(1, 3), (3, 3), (2, 5)])
@torch.no_grad()
def test_a_frame_depends_on_its_receptive_field_and_on_no_frame_beyond(layers: int, kernel: int) -> None:
    tcn = make(layers, kernel)
    half = receptive_field(layers, kernel) // 2
    x = torch.randn(1, 61, 5)
    changed = x.clone()
    changed[0, 30] += 1
    valid = torch.ones(1, 61, dtype=torch.bool)
    differs = ((tcn(x, valid) - tcn(changed, valid)).abs() > 1e-6).any(-1)[0]
    assert differs.nonzero().flatten().min() == 30 - half
    assert differs.nonzero().flatten().max() == 30 + half
    assert tcn.receptive_field == 2 * half + 1


def test_even_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="--tcn-kernel 4: expected an odd number"):
        TCN(5, 8, 2, 4, 0.0)


def test_dropout_acts_in_training_only() -> None:
    tcn, x, valid = make(), torch.randn(1, 9, 5), torch.ones(1, 9, dtype=torch.bool)
    assert torch.equal(tcn(x, valid), tcn(x, valid))
    tcn.train()
    assert not torch.equal(tcn(x, valid), tcn(x, valid))


@given(T=st.integers(1, 40), stride=st.integers(1, 12), hidden=st.integers(0, 12), seed=st.integers(0, 99))
def test_pooled_steps_are_the_means_of_their_valid_frames(T: int, stride: int, hidden: int, seed: int) -> None:
    x = torch.randn(1, T, 3, generator=torch.Generator().manual_seed(seed))
    n = max(0, T - hidden)
    valid = torch.arange(T)[None] < n
    x[:, n:] = torch.nan  # what stands in the padding means nothing
    found, steps = pooled(x, valid, stride)
    assert steps[0].tolist() == [start < n for start in range(0, T, stride)]
    for step, start in enumerate(range(0, n, stride)):
        torch.testing.assert_close(found[0, step], x[0, start : min(start + stride, n)].mean(0))
    if stride > 1:
        assert (found[~steps] == 0).all()


@given(T=st.integers(1, 40), stride=st.integers(1, 12))
def test_what_was_pooled_is_stretched_to_its_own_frames(T: int, stride: int) -> None:
    steps = torch.arange(T) // stride
    constant = steps[None, :, None].expand(2, T, 3).float()  # the same in all frames of a step
    pooled_BSD, valid_BS = pooled(constant, torch.ones(2, T, dtype=torch.bool), stride)
    assert pooled_BSD.shape[1] == -(-T // stride)
    assert valid_BS.all()
    assert torch.equal(stretched(pooled_BSD, T, stride), constant)
    assert torch.equal(stretched(torch.arange(pooled_BSD.shape[1])[None, :, None], T, stride)[0, :, 0], steps)
