"""What training makes small. Axes: B batch, T frames, N classes, K keypoints."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from cache.clip import UNLABELLED
from pipeline.model.mixing import partners
from pipeline.model.network import Output
from pipeline.model.view import View
from pipeline.train import boundaries
from pipeline.train.augment import Augmented
from pipeline.train.balance import Balance
from pipeline.train_settings import TrainSettings

# Below this distance (11 px of a 224 px frame) a keypoint's error counts squared, above it as it is: the difference
# between a paw's middle and its toes is refined, a keypoint on the wrong paw does not outweigh all others.
KEYPOINT_BETA = 0.05
# The weight of the heat maps' cross-entropy in the keypoint loss, and the spread of its target in cells of the map. On
# rendered animals that were not trained on, places were off by 0.090 of the picture without it and by 0.071 with it.
HEAT_WEIGHT, HEAT_SPREAD = 0.3, 0.7
# Largest change of a log-probability that the truncated loss counts, as in MS-TCN.
TMSE_LARGEST = 4.0


@dataclass(frozen=True)
class Losses:
    """total = action + lambda_kp * (kp + HEAT_WEIGHT * heat) + lambda_smooth * smooth + lambda_tmse * tmse
    + lambda_boundary * boundary.

    Of a model that learns keypoints alone total is the second term. Each is before its weight. action, smooth and tmse
    are means over the stages that the network gives.

    heat is 0 where the network gave no heat maps, and boundary where it gave no boundaries. Neither is part of the
    total of whole clips.
    """

    total: torch.Tensor
    action: torch.Tensor
    kp: torch.Tensor
    heat: torch.Tensor
    smooth: torch.Tensor
    tmse: torch.Tensor
    boundary: torch.Tensor


def total(
    output: Output,
    target: Augmented,
    balance: Balance,
    settings: TrainSettings,
    over_ranks: Callable[[torch.Tensor], torch.Tensor] = lambda weights: weights,
    begin_weight: float = 1.0,
) -> Losses:
    """All losses of one batch; kp is 0 without a keypoint head.

    begin_weight: see `boundary_loss`.
    over_ranks: where the batch is one rank's part of a larger one, gives the mean over the ranks of the weights (5,)
    that the losses are divided by. The mean over the ranks of each loss, and of its gradient, is then that of the
    larger batch.
    """
    stages = (*output.unrefined, output.logits_BTN)
    gamma, smoothing = settings.focal_gamma, settings.label_smoothing
    xy_seen, seen = _seen_by(output.view, target.xy_target, target.visible)
    told = _told(target)
    begun = _begun(told, target.seam) if output.boundary_BT is not None else []
    known = _sum([weight for _, weight in begun]) if begun else torch.zeros_like(target.valid)
    labelled = _sum([_frame_weights(labels, balance.weights_N, share) for labels, share in told])
    # Where a whole frame is turned, what that cuts off is nowhere to be found. A view that follows the animal is placed
    # by the keypoints, and the head may know of those beyond it.
    to_find = seen if settings.view == "full" else target.visible
    weights = (labelled, _pairs(target.valid), to_find, seen, known)
    sums = over_ranks(torch.stack([weight.sum().float() for weight in weights]))
    frames, pairs, points, seen_points, known_frames = sums.unbind()

    def action_of(logits_BTN: torch.Tensor) -> torch.Tensor:
        adjusted_BTN = logits_BTN + balance.added_N
        each = [
            action_loss(adjusted_BTN, labels, balance.weights_N, gamma, smoothing, frames, share)
            for labels, share in told
        ]
        return _sum(each)

    action = _mean([action_of(logits) for logits in stages])
    smooth = _mean([smoothness(logits, target.valid, pairs) for logits in stages])
    tmse = _mean([truncated_mse(logits, target.valid, pairs) for logits in stages])
    kp = heat = boundary = torch.zeros_like(action)
    if output.xy_BTK2 is not None:
        kp = keypoint_loss(output.xy_BTK2, target.xy_target, to_find, points)
    if output.log_heat_BTKHW is not None:
        heat = heat_loss(output.log_heat_BTKHW, xy_seen, seen, seen_points)
    if output.boundary_BT is not None:
        each = [boundary_loss(output.boundary_BT, *of_sample, begin_weight, known_frames) for of_sample in begun]
        boundary = _sum(each)
    total = settings.lambda_kp * (kp + HEAT_WEIGHT * heat)
    if settings.learns_behaviour:
        total = action + total + settings.lambda_smooth * smooth + settings.lambda_tmse * tmse
        total = total + settings.lambda_boundary * boundary
    return Losses(total, action, kp, heat, smooth, tmse, boundary)


def _seen_by(view: View | None, xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoints where the encoder sees them; those that lie beyond its view count as not visible."""
    if view is None:
        return xy_BTK2, visible_BTK
    xy_BTK2 = view.into(xy_BTK2)
    return xy_BTK2, visible_BTK & ((xy_BTK2 >= 0) & (xy_BTK2 <= 1)).all(-1)


def counting_nothing(target: Augmented) -> Augmented:
    """The same samples, of which no frame, pair of frames or keypoint counts: all losses and gradients are 0."""
    nowhere = torch.zeros_like(target.valid)
    labels = torch.full_like(target.labels, UNLABELLED)
    return replace(target, labels=labels, valid=nowhere, visible=torch.zeros_like(target.visible))


def _told(target: Augmented) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """The labels (B,T) that are learned, and how much of each frame is theirs; None: all.

    Where samples are mixed, these are a sample's own and its partner's.
    """
    if target.own_share is None:
        return [(target.labels, None)]
    return [(target.labels, target.own_share), (partners(target.labels), 1 - target.own_share)]


def _begun(
    told: Sequence[tuple[torch.Tensor, torch.Tensor | None]], seam: torch.Tensor | None
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of labels as `_told` gives them: where bouts begin, and the weight (B,T) of that in each frame, 0: not known.

    seam: of the samples themselves, see `Augmented`.
    """
    seams = [None, None] if seam is None else [seam, partners(seam)]
    found = [(*boundaries.targets(labels, of_one), share) for (labels, share), of_one in zip(told, seams, strict=False)]
    return [(begins, known.float() if share is None else known * share) for begins, known, share in found]


def _sum(parts: list[torch.Tensor]) -> torch.Tensor:
    return functools.reduce(torch.add, parts)


def _mean(of_stages: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(of_stages).mean()


def _mean_over(values: torch.Tensor, weights: torch.Tensor, divisor: torch.Tensor | None) -> torch.Tensor:
    """The weighted mean, 0 if all weights are. divisor: what to divide by; None: the sum of the weights."""
    divisor = weights.sum().to(values.dtype) if divisor is None else divisor
    return (values * weights).sum() / divisor.clamp(min=1e-12)


def _frame_weights(
    labels_BT: torch.Tensor, class_weights_N: torch.Tensor, share_BT: torch.Tensor | None = None
) -> torch.Tensor:
    """That of its class for each labelled frame, times its share; 0 for the others."""
    weight_BT = class_weights_N[labels_BT.clamp(min=0)] * (labels_BT >= 0)
    return weight_BT if share_BT is None else weight_BT * share_BT


def _pairs(valid_BT: torch.Tensor) -> torch.Tensor:
    """(B,T-1): which two valid frames follow each other."""
    return valid_BT[:, 1:] & valid_BT[:, :-1]


def action_loss(
    logits_BTN: torch.Tensor,
    labels_BT: torch.Tensor,
    class_weights_N: torch.Tensor,
    gamma: float,
    smoothing: float,
    divisor: torch.Tensor | None = None,
    share_BT: torch.Tensor | None = None,
) -> torch.Tensor:
    """Focal cross-entropy with smoothed labels, mean over the labelled frames weighted by their class.

    A frame's loss is (1 - p)^gamma * ((1 - s) * -log p + s * mean over classes of -log p_n), p the probability of its
    own class: Lin et al. 2017, https://arxiv.org/abs/1708.02002, with the smoothed cross-entropy for the plain one.
    labels: -1 is not labelled and counts nowhere; 0 if no frame is labelled. divisor, here and below: see `_mean_over`.
    share: that each frame's weight is multiplied by; None: 1.
    """
    log_p_BTN = F.log_softmax(logits_BTN, -1)
    log_p_BT = log_p_BTN.gather(-1, labels_BT.clamp(min=0)[..., None])[..., 0]
    entropy_BT = -(1 - smoothing) * log_p_BT - smoothing * log_p_BTN.mean(-1)
    # The power's slope at 0 is infinite for gamma < 1, and p reaches 1 in float32.
    focal_BT = (1 - log_p_BT.exp()).clamp(min=1e-6) ** gamma * entropy_BT
    return _mean_over(focal_BT, _frame_weights(labels_BT, class_weights_N, share_BT), divisor)


def smoothness(logits_BTN: torch.Tensor, valid_BT: torch.Tensor, divisor: torch.Tensor | None = None) -> torch.Tensor:
    """Mean absolute change of the logits from one valid frame to the next; 0 if no two follow each other."""
    change_BTN = (logits_BTN[:, 1:] - logits_BTN[:, :-1]).abs()
    return _mean_over(change_BTN.mean(-1), _pairs(valid_BT), divisor)


def truncated_mse(
    logits_BTN: torch.Tensor, valid_BT: torch.Tensor, divisor: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean squared change of the log-probabilities from one valid frame to the next, each change at most TMSE_LARGEST.

    The smoothing loss of MS-TCN (Farha and Gall 2019, https://arxiv.org/abs/1903.01945): a change of behaviour costs
    no more however sure it is. The frame before is held fixed, as there.
    """
    log_p_BTN = F.log_softmax(logits_BTN, -1)
    change_BTN = (log_p_BTN[:, 1:] - log_p_BTN[:, :-1].detach()).abs().clamp(max=TMSE_LARGEST)
    return _mean_over(change_BTN.square().mean(-1), _pairs(valid_BT), divisor)


def boundary_loss(
    logits_BT: torch.Tensor,
    begins_BT: torch.Tensor,
    weight_BT: torch.Tensor,
    begin_weight: float,
    divisor: torch.Tensor | None = None,
) -> torch.Tensor:
    """Binary cross-entropy of where bouts begin, mean over the frames where it is known; 0 if it is nowhere.

    Frames at which one begins count begin_weight times. The boundary loss of ASRF (Ishikawa et al. 2021,
    https://arxiv.org/abs/2007.06866). begins: of `boundaries.targets`. weight (B,T): 0 where it is not known. Of a
    network that sees several frames as one step these share the step's logit, which learns from all of them.
    """
    entropy_BT = F.binary_cross_entropy_with_logits(
        logits_BT, begins_BT.to(logits_BT.dtype), pos_weight=logits_BT.new_tensor(begin_weight), reduction="none"
    )
    return _mean_over(entropy_BT, weight_BT, divisor)


def keypoint_loss(
    xy_hat_BTK2: torch.Tensor, xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor, divisor: torch.Tensor | None = None
) -> torch.Tensor:
    """SmoothL1 with KEYPOINT_BETA, mean over the coordinates of visible keypoints; 0 if none is visible."""
    error_BTK = F.smooth_l1_loss(xy_hat_BTK2, xy_BTK2, reduction="none", beta=KEYPOINT_BETA).mean(-1)
    return _mean_over(error_BTK, visible_BTK, divisor)


def heat_loss(
    log_heat_BTKHW: torch.Tensor, xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor, divisor: torch.Tensor | None = None
) -> torch.Tensor:
    """Cross-entropy of heat maps against a Gaussian about each visible keypoint, mean over these; 0 if there are none.

    Places alone may be right by a wide and lopsided attention, which fits the animals trained on and no others.
    """
    H, W = log_heat_BTKHW.shape[-2:]
    # A Gaussian over the plane is one over its columns times one over its rows.
    column_BTKW, row_BTKH = (_bump(xy_BTK2[..., axis], n) for axis, n in ((0, W), (1, H)))
    along_x_BTKH = (log_heat_BTKHW @ column_BTKW[..., None])[..., 0]
    entropy_BTK = -(along_x_BTKH * row_BTKH).sum(-1)
    return _mean_over(entropy_BTK, visible_BTK, divisor)


def _bump(at: torch.Tensor, n: int) -> torch.Tensor:
    """A Gaussian about `at` (...), in [0, 1], over n cells between 0 and 1: (...,n), of sum 1."""
    centres_n = torch.arange(n, device=at.device) + 0.5
    return (-(((centres_n - at[..., None] * n) / HEAT_SPREAD) ** 2) / 2).softmax(-1)
