from __future__ import annotations

import pytest
import torch

from pipeline.model.tcn import TCN, receptive_field


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
