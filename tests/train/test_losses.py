from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pipeline.model.network import Output
from pipeline.train import boundaries
from pipeline.train.augment import Augmented
from pipeline.train.balance import Balance
from pipeline.train.losses import (
    HEAT_SPREAD,
    HEAT_WEIGHT,
    KEYPOINT_BETA,
    TMSE_LARGEST,
    action_loss,
    boundary_loss,
    heat_loss,
    keypoint_loss,
    smoothness,
    total,
    truncated_mse,
)
from pipeline.train_settings import TrainSettings

ONES = torch.ones(5)
EVEN = Balance(ONES, torch.zeros(5))


def example(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 5, (2, 30), generator=generator)
    return torch.randn(2, 30, 5, generator=generator, requires_grad=True), labels


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_focus_it_is_torchs_weighted_cross_entropy(smoothing: float) -> None:
    logits, labels = example()
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])
    known = labels >= 0
    each = F.cross_entropy(logits[known], labels[known], reduction="none", label_smoothing=smoothing)
    expected = (each * weights[labels[known]]).sum() / weights[labels[known]].sum()
    torch.testing.assert_close(action_loss(logits, labels, weights, 0.0, smoothing), expected)


def test_focal_loss_of_one_frame_by_hand() -> None:
    logits = torch.tensor([[[0.0, math.log(3.0)]]])  # probabilities 1/4 and 3/4
    expected = 0.25**2.5 * (0.9 * -math.log(0.75) + 0.1 * -(math.log(0.75) + math.log(0.25)) / 2)
    found = action_loss(logits, torch.tensor([[1]]), torch.ones(2), 2.5, 0.1)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_unlabelled_frames_count_nowhere() -> None:
    logits, labels = example()
    without = action_loss(logits, labels, ONES, 2.5, 0.1)
    changed = torch.where(labels[..., None] < 0, logits + 100 * torch.randn(2, 30, 5), logits)
    torch.testing.assert_close(action_loss(changed, labels, ONES, 2.5, 0.1), without)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.5])
@pytest.mark.parametrize(
    "case", ["nothing labelled", "only classes of weight 0", "certain and right", "certain and wrong"]
)
def test_losses_and_their_slopes_are_finite(case: str, gamma: float) -> None:
    logits = torch.zeros(1, 4, 2, requires_grad=True)
    labels = torch.full((1, 4), -1 if case == "nothing labelled" else 1)
    shift = {"certain and right": 200.0, "certain and wrong": -200.0}.get(case, 0.0)
    weights = torch.tensor([1.0, 0.0 if "weight 0" in case else 1.0])
    loss = action_loss(logits + torch.tensor([0.0, shift]), labels, weights, gamma, 0.0)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()
    if case in ("nothing labelled", "only classes of weight 0"):
        assert loss == 0


def test_smoothness_is_the_mean_change_between_valid_neighbours() -> None:
    logits = torch.tensor([[[0.0, 0.0], [1.0, -3.0], [1.0, -3.0], [50.0, 50.0]]])
    valid = torch.tensor([[True, True, True, False]])
    assert smoothness(logits, valid) == pytest.approx((2 + 0) / 2)
    assert smoothness(logits[:, :1], valid[:, :1]) == 0
    assert smoothness(logits, torch.zeros_like(valid)) == 0


@pytest.mark.parametrize("spread", [1.0, 6.0], ids=["small changes", "capped ones"])
def test_truncated_mse_is_what_numpy_makes_of_it(spread: float) -> None:
    generator = torch.Generator().manual_seed(4)
    logits = spread * torch.randn(3, 20, 5, generator=generator)
    valid = torch.arange(20) < torch.tensor([[20], [13], [1]])
    log_p = logits.double().numpy()
    log_p = log_p - np.log(np.exp(log_p).sum(-1, keepdims=True))
    expected = []
    for b, length in enumerate((20, 13, 1)):
        change = np.minimum(np.abs(np.diff(log_p[b, :length], axis=0)), TMSE_LARGEST)
        expected.extend(np.square(change).ravel())
    assert truncated_mse(logits, valid).item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_truncated_mse_is_capped_and_holds_the_frame_before_fixed() -> None:
    sure = torch.tensor([[[30.0, -30.0], [-30.0, 30.0]]], requires_grad=True)
    both = torch.ones(1, 2, dtype=torch.bool)
    loss = truncated_mse(sure, both)
    assert loss == TMSE_LARGEST**2
    loss.backward()
    assert (sure.grad == 0).all()  # a change of behaviour costs no more however sure it is
    unsure = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], requires_grad=True)
    truncated_mse(unsure, both).backward()
    assert (unsure.grad[0, 0] == 0).all()
    assert (unsure.grad[0, 1] != 0).all()
    for none in (torch.zeros(1, 2, dtype=torch.bool), torch.tensor([[True, False]])):
        assert truncated_mse(unsure, none) == 0
    assert truncated_mse(unsure[:, :1], both[:, :1]) == 0


def heat_at(x: int, y: int, H: int = 4, W: int = 8) -> torch.Tensor:
    """Heat maps (1,1,1,H,W) with nearly all attention on one cell."""
    scores = torch.zeros(1, 1, 1, H, W)
    scores[..., y, x] = 6.0
    return scores.flatten(-2).log_softmax(-1).unflatten(-1, (H, W))


def test_heat_loss_is_least_where_the_keypoint_is() -> None:
    xy, visible = torch.tensor([[[[3 / 16, 7 / 8]]]]), torch.ones(1, 1, 1, dtype=torch.bool)
    found = {(x, y): heat_loss(heat_at(x, y), xy, visible).item() for x in range(8) for y in range(4)}
    assert min(found, key=found.__getitem__) == (1, 3)


def test_heat_loss_is_the_cross_entropy_against_a_gaussian() -> None:
    log_heat = torch.randn(2, 3, 6, 4, 8, generator=torch.Generator().manual_seed(0)).flatten(-2).log_softmax(-1)
    xy = torch.rand(2, 3, 6, 2, generator=torch.Generator().manual_seed(1))
    visible = torch.rand(2, 3, 6, generator=torch.Generator().manual_seed(2)) > 0.4
    cells = torch.stack(torch.meshgrid(torch.arange(4) + 0.5, torch.arange(8) + 0.5, indexing="ij"), -1).flatten(0, 1)
    at = torch.stack([xy[..., 1] * 4, xy[..., 0] * 8], -1)
    target = (-(cells - at[..., None, :]).square().sum(-1) / (2 * HEAT_SPREAD**2)).softmax(-1)
    expected = F.cross_entropy(log_heat[visible], target[visible])
    torch.testing.assert_close(heat_loss(log_heat.unflatten(-1, (4, 8)), xy, visible), expected)
    assert heat_loss(log_heat.unflatten(-1, (4, 8)), xy, torch.zeros_like(visible)) == 0


def test_heat_is_part_of_what_training_minimises() -> None:
    logits, labels = example()
    xy, visible = torch.full((2, 30, 1, 2), 0.5), torch.ones(2, 30, 1, dtype=torch.bool)
    target = Augmented(None, xy, xy, visible, visible, labels, labels == labels)
    log_heat = heat_at(0, 0).expand(2, 30, 1, 4, 8)
    settings = TrainSettings(lambda_kp=2.0)
    without = total(Output(logits, xy), target, EVEN, settings)
    found = total(Output(logits, xy, log_heat), target, EVEN, settings)
    assert without.heat == 0
    torch.testing.assert_close(found.total, without.total + 2 * HEAT_WEIGHT * heat_loss(log_heat, xy, visible))


def test_keypoint_loss_counts_visible_keypoints_alone() -> None:
    xy, visible = torch.full((1, 1, 3, 2), 0.5), torch.tensor([[[True, True, False]]])
    found = xy + torch.tensor([0.01, 0.2, 0.4])[:, None]
    squared, linear = 0.5 * 0.01**2 / KEYPOINT_BETA, 0.2 - KEYPOINT_BETA / 2
    assert keypoint_loss(found, xy, visible).item() == pytest.approx((squared + linear) / 2, rel=1e-4)
    assert keypoint_loss(found, xy, torch.zeros_like(visible)) == 0


def sample(labels: torch.Tensor) -> tuple[Output, Augmented]:
    generator = torch.Generator().manual_seed(3)
    B, T = labels.shape
    xy = torch.rand(B, T, 6, 2, generator=generator)
    places = torch.ones(B, T, 6, dtype=torch.bool)
    target = Augmented(None, xy, xy, places, places, labels, torch.ones(B, T, dtype=torch.bool))
    logits = torch.randn(B, T, 5, generator=generator)
    return Output(logits, torch.rand(B, T, 6, 2, generator=generator)), target


def test_total_is_the_weighted_sum() -> None:
    output, target = sample(example()[1])
    found = total(output, target, EVEN, TrainSettings(lambda_kp=2.0, lambda_smooth=0.3, lambda_tmse=0.7))
    torch.testing.assert_close(found.total, found.action + 2.0 * found.kp + 0.3 * found.smooth + 0.7 * found.tmse)
    assert min(found.action, found.kp, found.smooth, found.tmse) > 0
    assert total(replace(output, xy_BTK2=None), target, EVEN, TrainSettings()).kp == 0


@pytest.mark.parametrize(
    "change",
    [{"focal_gamma": 1.0}, {"label_smoothing": 0.0}, {"lambda_kp": 0.5}, {"lambda_smooth": 0.1}, {"lambda_tmse": 0.1}],
    ids=str,
)
def test_each_setting_changes_the_total(change: dict[str, float]) -> None:
    output, target = sample(example()[1])
    settings = TrainSettings()
    assert total(output, target, EVEN, settings).total != total(output, target, EVEN, replace(settings, **change)).total


def test_the_boundary_loss_frame_by_frame() -> None:
    logits = torch.randn(2, 12, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[0] * 6 + [1] * 6, [2] * 3 + [-1] + [2] * 8])
    begins, known = boundaries.targets(labels)
    expected, n = 0.0, 0
    for b, t in known.nonzero().tolist():
        p = 1 / (1 + math.exp(-logits[b, t]))
        expected += -7.5 * math.log(p) if begins[b, t] else -math.log(1 - p)
        n += 1
    assert 0 < begins.sum() < n < labels.numel()
    assert boundary_loss(logits, begins, known, 7.5).item() == pytest.approx(expected / n, rel=1e-5)
    assert boundary_loss(logits, begins, torch.zeros_like(known), 7.5) == 0


def test_boundaries_are_learned_where_the_network_says_them() -> None:
    labels = torch.tensor([[0] * 15 + [1] * 15] * 2)
    output, target = sample(labels)
    said = replace(output, boundary_BT=torch.randn(2, 30, generator=torch.Generator().manual_seed(1)))
    settings = TrainSettings(lambda_boundary=0.4)
    without, found = (total(seen, target, EVEN, settings, begin_weight=3.0) for seen in (output, said))
    assert without.boundary == 0
    assert found.boundary == boundary_loss(said.boundary_BT, *boundaries.targets(labels), 3.0)
    torch.testing.assert_close(found.total, without.total + 0.4 * found.boundary)
    assert found.boundary != total(said, target, EVEN, settings).boundary  # the weight of begins counts


def test_losses_are_means_over_the_stages_and_reach_each_of_them() -> None:
    output, target = sample(example()[1])
    settings = TrainSettings(lambda_smooth=0.3, lambda_tmse=0.7)
    stages = [torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(i), requires_grad=True) for i in range(3)]
    found = total(replace(output, unrefined=tuple(stages[:2]), logits_BTN=stages[2]), target, EVEN, settings)
    each = [total(replace(output, logits_BTN=stage), target, EVEN, settings) for stage in stages]
    for name in ("action", "smooth", "tmse", "total"):
        torch.testing.assert_close(getattr(found, name), sum(getattr(loss, name) for loss in each) / 3)
    assert found.kp == each[0].kp
    found.total.backward()
    labelled = target.labels >= 0
    assert all((stage.grad[labelled] != 0).any(-1).all() for stage in stages)


def test_a_mixed_frame_has_the_loss_of_both_labels_by_their_shares() -> None:
    output, target = sample(example()[1])
    share = torch.full((2, 30), 0.8)
    share[:, 20:] = 1.0  # there the partner has ended
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])
    settings = TrainSettings(lambda_smooth=0.3, lambda_tmse=0.7)
    found = total(output, replace(target, own_share=share), Balance(weights, torch.zeros(5)), settings)
    summed = divisor = 0.0
    for b in range(2):
        for t in range(30):
            for label, part in ((target.labels[b, t], share[b, t]), (target.labels[1 - b, t], 1 - share[b, t])):
                if label >= 0:
                    one = action_loss(output.logits_BTN[b, t][None, None], label[None, None], ONES, 2.5, 0.1)
                    summed += (part * weights[label] * one).item()
                    divisor += (part * weights[label]).item()
    assert found.action.item() == pytest.approx(summed / divisor, rel=1e-5)
    unmixed = total(output, target, Balance(weights, torch.zeros(5)), settings)
    assert found.action != unmixed.action
    for name in ("kp", "heat", "smooth", "tmse"):
        assert getattr(found, name) == getattr(unmixed, name)


def test_boundaries_of_a_mixture_are_those_of_both_by_their_shares() -> None:
    labels = torch.zeros(2, 30, dtype=torch.long)
    labels[1, 12:] = 1
    output, target = sample(labels)
    output = replace(output, boundary_BT=torch.randn(2, 30, generator=torch.Generator().manual_seed(1)))
    share = torch.tensor([0.7, 0.9])[:, None].expand(2, 30)
    found = total(output, replace(target, own_share=share), EVEN, TrainSettings(lambda_boundary=1.0), lambda n: n, 3.0)
    begins, known = boundaries.targets(labels)
    summed = divisor = 0.0
    for b in range(2):
        for t in range(30):
            p = output.boundary_BT[b, t].sigmoid().item()
            for other, part in ((b, share[b, t].item()), (1 - b, 1 - share[b, t].item())):
                if known[other, t]:
                    summed -= part * (3 * math.log(p) if begins[other, t] else math.log(1 - p))
                    divisor += part
    assert found.boundary.item() == pytest.approx(summed / divisor, rel=1e-4)


@pytest.mark.parametrize("share", [None, 0.7])
def test_where_a_window_is_rolled_no_begin_is_learned(share: float | None) -> None:
    """The first sample's seam lies between two classes; a partner's boundaries know it too."""
    labels = torch.zeros(2, 30, dtype=torch.long)
    labels[0, 12:] = 1
    output, target = sample(labels)
    target = replace(target, own_share=None if share is None else torch.full((2, 30), share))
    settings, slopes = TrainSettings(lambda_boundary=1.0, lambda_smooth=0.0, lambda_kp=0.0), []
    seam = torch.zeros(2, 30, dtype=torch.bool)
    seam[0, 12] = True
    for at in (None, seam):
        boundary = torch.zeros(2, 30, requires_grad=True)
        total(replace(output, boundary_BT=boundary), replace(target, seam=at), EVEN, settings).total.backward()
        slopes.append(boundary.grad)
    assert (slopes[0][0, 10:15] < 0).all()  # as the begin of a bout
    assert (slopes[1] >= 0).all()
    assert ((slopes[1] == 0)[0, 10:15] == (share is None)).all()  # the partner's labels are all known there
    assert ((slopes[1] != 0)[:, 3:10]).all()


def test_shares_of_one_are_as_no_mixing() -> None:
    output, target = sample(example()[1])
    found = total(output, replace(target, own_share=torch.ones(2, 30)), EVEN, TrainSettings())
    torch.testing.assert_close(found.total, total(output, target, EVEN, TrainSettings()).total)


def test_frames_that_only_the_partner_has_a_label_of_are_learned_by_its_share_alone() -> None:
    labels = torch.full((2, 30), -1)
    labels[1] = 2
    output, target = sample(labels)
    logits = output.logits_BTN.clone().requires_grad_()
    mixed = replace(target, own_share=torch.tensor([0.9, 0.6])[:, None].expand(2, 30))
    total(
        replace(output, logits_BTN=logits), mixed, EVEN, TrainSettings(lambda_smooth=0, focal_gamma=0)
    ).total.backward()
    slopes = logits.grad.abs().sum(-1)
    p = output.logits_BTN.softmax(-1)
    wanted = 0.9 * torch.nn.functional.one_hot(torch.tensor(2), 5) + 0.02
    expected = (p - wanted).abs().sum(-1) * torch.tensor([[0.1], [0.6]]) / (30 * 0.7)
    torch.testing.assert_close(slopes, expected)
    alone = total(output, replace(mixed, labels=torch.full((2, 30), -1)), EVEN, TrainSettings())
    assert alone.action == 0


def test_jitter_of_the_input_never_reaches_the_keypoint_loss() -> None:
    output, target = sample(example()[1])
    jittered = replace(target, xy_input=torch.rand_like(target.xy_input))
    assert total(output, target, EVEN, TrainSettings()).kp == total(output, jittered, EVEN, TrainSettings()).kp
