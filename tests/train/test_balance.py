from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.model.network import Output
from pipeline.train.augment import Augmented
from pipeline.train.balance import balance, class_weights, log_shares
from pipeline.train.losses import total
from pipeline.train_settings import TrainSettings


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_class_weights(power: float) -> None:
    counts = torch.tensor([700, 250, 0, 50])
    weights = class_weights(counts, power)
    assert weights[2] == 0
    assert ((counts / counts.sum()) * weights).sum().item() == pytest.approx(1)
    assert (weights[3] / weights[0]).item() == pytest.approx((700 / 50) ** power, rel=1e-5)


def test_class_weights_of_no_frames_at_all_are_zero() -> None:
    assert class_weights(torch.zeros(3, dtype=torch.int64), 0.5).tolist() == [0, 0, 0]


@pytest.mark.parametrize("times", [0.0, 0.5, 1.0])
def test_what_the_adjusted_loss_learns_leaves_that_much_of_the_shares_out(times: float) -> None:
    """Of frames that look alike the plain loss learns the logarithms of the shares; at 1 all classes are level."""
    counts = np.array([70, 25, 5])
    labels = torch.from_numpy(np.repeat([0, 1, 2], counts))[None]
    logits = torch.zeros(3, requires_grad=True)
    settings = TrainSettings(
        class_weight_power=0, focal_gamma=0, label_smoothing=0, lambda_smooth=0, logit_adjust=times
    )
    valid, places = torch.ones(1, 100, dtype=torch.bool), torch.zeros(1, 100, 1, dtype=torch.bool)
    target = Augmented(None, torch.zeros(1, 100, 1, 2), torch.zeros(1, 100, 1, 2), places, places, labels, valid)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = total(Output(logits.expand(1, 100, 3), None), target, balance(counts, settings), settings).total
        loss.backward()
        return loss

    optimizer.step(closure)
    expected = (1 - times) * np.log(counts / counts.sum())
    np.testing.assert_allclose((logits - logits.mean()).detach(), expected - expected.mean(), atol=1e-2)


def test_a_class_without_frames_is_not_adjusted() -> None:
    """The logarithm of its share has no bound: its logit would be free to win in every frame."""
    counts = torch.tensor([900, 0, 100])
    found = log_shares(counts, 1.0)
    assert found[1] == 0
    torch.testing.assert_close(found[[0, 2]], torch.tensor([0.9, 0.1]).log())
    assert log_shares(torch.zeros(3, dtype=torch.int64), 1.0).tolist() == [0, 0, 0]
