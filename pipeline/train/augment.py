"""Augmentation of a batch on its device: every draw is each sample's own, from a generator with that sample's seed.

A batch is therefore augmented as its samples would be one by one, padded or not; what each is mixed with alone depends
on the others.
Axes: B batch, T frames, n valid frames of a sample, C channels, H, W, K keypoints.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.model.animals import exchanged
from pipeline.model.frame_encoder import to_unit
from pipeline.model.mirror import Mirror, mirrored_labels
from pipeline.model.mixing import partners
from pipeline.train.batch import Batch
from pipeline.train.tempo import played
from pipeline.train_settings import TrainSettings

LOST_FRAMES = 20
P_BRIGHTNESS, P_CONTRAST, P_TEMPORAL_DROP, P_NOISE, P_ROLL = 0.5, 0.5, 0.3, 0.3, 0.2
# The others are seen as they are: turned pixels are means of their neighbours, and no frame is so soft afterwards.
P_TURN = 0.5


@dataclass(frozen=True)
class Augmented:
    """What the network and the losses see.

    frames: float32 (B,T,C,H,W) in [0, 1], or None. xy_input (B,T,K,2) and visible_input make the pose features, but
    those of motion are made of xy_motion, whose jitter is one shift of each keypoint for all of a window's frames: in
    that of every frame speeds would drown. xy_target and visible, of the same shapes, have no jitter and no lost
    points, and are what the keypoint head learns.
    Coordinates are 0 where invisible. view_moved (B,4): how each sample's view is moved (see `View.moved`), None where
    all of a frame is seen as it is. own_share (B,T): of its own features and loss in each frame, where samples are
    mixed (see `mixing`), 1 where it or its partner is padding; None where none is. seam (B,T) bool: frames before which
    another is shown than the one that they follow, as where a window is rolled; None where there is none. The rest as
    in Batch.
    """

    frames: torch.Tensor | None
    xy_input: torch.Tensor
    xy_target: torch.Tensor
    visible_input: torch.Tensor
    visible: torch.Tensor
    labels: torch.Tensor
    valid: torch.Tensor
    when: torch.Tensor | None = None
    view_moved: torch.Tensor | None = None
    xy_motion: torch.Tensor | None = None
    own_share: torch.Tensor | None = None
    seam: torch.Tensor | None = None


@dataclass(frozen=True)
class Draws:
    """What one sample of n valid frames drew.

    order: for each frame the frame that its keypoints and labels come from; shown: the one that its pixels come from.
    noise_seed: None without noise. jitter: (n,K,2), shift: (1,K,2). lost: (n,K) bool, where the tracking is made to
    fail. animals: the animal that is shown in the place of each. view: its shift by x and y in its sides, its turn in
    radians, and the logarithm of its zoom.
    """

    brightness: float
    contrast: float
    order: np.ndarray
    shown: np.ndarray
    noise_seed: int | None
    flip: bool
    jitter: np.ndarray
    shift: np.ndarray
    lost: np.ndarray
    animals: tuple[int, ...] = (0,)
    view: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)


def plain(batch: Batch) -> Augmented:
    """The batch as it is, as validation sees it."""
    frames = None if batch.frames is None else to_unit(batch.frames)
    seen, learned = (batch.xy, batch.xy, batch.visible), (batch.visible, batch.labels, batch.valid)
    return Augmented(frames, *seen, *learned, batch.when, xy_motion=batch.xy)


def augment(
    batch: Batch,
    settings: TrainSettings,
    seeds: Sequence[int],
    mirror: Mirror,
    groups: Sequence[Sequence[int]] = (),
) -> Augmented:
    """Augment every sample by its seed.

    mirror: the keypoints and classes that change places in one. groups: the keypoints of each animal.
    """
    if settings.aug_stretch:
        batch = played(batch, [tempo(settings.aug_stretch, seed) for seed in seeds])
    lengths = batch.valid.sum(1).tolist()
    K = batch.xy.shape[2]
    groups = groups or (range(K),)
    draws = [draw(settings, n, K, seed, len(groups)) for n, seed in zip(lengths, seeds, strict=True)]
    xy, visible, labels = batch.xy.clone(), batch.visible.clone(), batch.labels.clone()
    when = None if batch.when is None else batch.when.clone()
    jitter, shift, lost = torch.zeros_like(xy), torch.zeros_like(xy), torch.zeros_like(visible)
    seam = torch.zeros_like(batch.valid) if settings.aug_roll else None  # all else leaves the frames in order
    for b, (n, drawn) in enumerate(zip(lengths, draws, strict=True)):
        order = torch.from_numpy(drawn.order).to(xy.device)
        shown = exchanged(groups, K, drawn.animals)
        keypoints = torch.tensor([mirror.keypoints[k] for k in shown] if drawn.flip else shown, device=xy.device)
        xy[b, :n] = batch.xy[b, order][:, keypoints]
        visible[b, :n] = batch.visible[b, order][:, keypoints]
        labels[b, :n] = batch.labels[b, order]
        if when is not None and batch.when is not None:
            when[b, :n] = batch.when[b, order]
        if seam is not None:
            seam[b, 1:n] = order.diff() != 1
        jitter[b, :n] = torch.from_numpy(drawn.jitter).to(xy.device)
        shift[b, :n] = torch.from_numpy(drawn.shift).to(xy.device)
        lost[b, :n] = torch.from_numpy(drawn.lost).to(xy.device)
        if drawn.flip:
            xy[b, ..., 0] = 1 - xy[b, ..., 0]
            labels[b] = mirrored_labels(labels[b], mirror)
    xy_target = xy.masked_fill(~visible[..., None], 0.0)
    visible_input = visible & ~lost
    xy_input, xy_motion = (
        (xy + moved).clamp(0, 1).masked_fill(~visible_input[..., None], 0.0) for moved in (jitter, shift)
    )
    frames = None if batch.frames is None else _pixels(batch.frames, draws, settings.aug_noise_std)
    moved = [drawn.view for drawn in draws]
    view_moved = torch.tensor(moved, device=xy.device) if _moves_view(settings) else None
    own_share = _own_share(batch.valid, settings.aug_mix, seeds)
    return Augmented(
        frames, xy_input, xy_target, visible_input, visible, labels, batch.valid, when, view_moved, xy_motion,
        own_share, seam,
    )  # fmt: skip


def _moves_view(settings: TrainSettings) -> bool:
    return settings.view != "full" or settings.aug_turn > 0


def tempo(largest: float, seed: int) -> float:
    """How many times as fast a sample is played: log-uniform from 1 / (1 + largest) to 1 + largest."""
    return math.exp(np.random.default_rng((seed, 6)).uniform(-1, 1) * math.log1p(largest))


def share_kept(alpha: float, seed: int) -> float:
    """Of a sample that is mixed: the larger part of 1 that Beta(alpha, alpha) gives, so that it stays what it is."""
    share = float(np.random.default_rng((seed, 7)).beta(alpha, alpha))
    return max(share, 1 - share)


def _own_share(valid_BT: torch.Tensor, alpha: float, seeds: Sequence[int]) -> torch.Tensor | None:
    """None without mixing, and for a sample by itself, which has no other to be mixed with."""
    if alpha == 0 or len(valid_BT) < 2:
        return None
    share_B = torch.tensor([share_kept(alpha, seed) for seed in seeds], device=valid_BT.device)
    return torch.where(valid_BT & partners(valid_BT), share_B[:, None], 1.0)


def draw(settings: TrainSettings, n: int, n_keypoints: int, seed: int, n_animals: int = 1) -> Draws:
    """Everything that is random about one sample of n frames, but its pixel noise, its tempo and what it is mixed with.

    Always as many numbers in the same order, so that switching one augmentation off leaves the others as they were.
    """
    rng = np.random.default_rng(seed)
    happens = rng.random(6)
    amounts = rng.uniform(-1, 1, 2)
    shift = int(rng.integers(-settings.aug_roll, settings.aug_roll + 1)) if settings.aug_roll else 0
    rng = np.random.default_rng((seed, 1))
    chances, noise_seed = rng.random(max(n - 1, 0)), int(rng.integers(2**62))
    jitter = rng.standard_normal((n, n_keypoints, 2), dtype=np.float32) * np.float32(settings.kp_jitter_std)
    constant = np.random.default_rng((seed, 5)).standard_normal((1, n_keypoints, 2), dtype=np.float32)
    rng = np.random.default_rng((seed, 2))
    swaps, animals = rng.random() < settings.aug_swap, rng.permutation(n_animals)
    moves = np.random.default_rng((seed, 3)).uniform(-1, 1, 4)
    whole = settings.view == "full"
    turn = settings.aug_turn if whole else settings.aug_view_turn
    largest = [settings.aug_view_shift] * 2 + [math.radians(turn), math.log1p(settings.aug_view_zoom)]
    if whole and np.random.default_rng((seed, 8)).random() >= P_TURN:
        largest = [0.0] * 4

    lost = _lost(n, n_keypoints, settings.aug_kp_drop, np.random.default_rng((seed, 4)))

    order = (np.arange(n) - (shift if happens[4] < P_ROLL else 0)) % max(n, 1)
    dropped = settings.aug_temporal_drop if happens[2] < P_TEMPORAL_DROP else 0.0
    return Draws(
        brightness=1 + settings.aug_brightness * amounts[0] if happens[0] < P_BRIGHTNESS else 1.0,
        contrast=1 + settings.aug_contrast * amounts[1] if happens[1] < P_CONTRAST else 1.0,
        order=order,
        shown=order[_last_kept(chances, dropped)] if n else order,
        noise_seed=noise_seed if settings.aug_noise_std > 0 and happens[3] < P_NOISE else None,
        flip=bool(happens[5] < settings.aug_hflip),
        jitter=jitter,
        shift=constant * np.float32(settings.kp_jitter_std),
        lost=lost,
        animals=tuple(animals.tolist()) if swaps else tuple(range(n_animals)),
        view=tuple((moves * largest).tolist()),
    )


def _lost(n: int, n_keypoints: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """(n,K) bool: about `share` of each keypoint's frames, in stretches of about LOST_FRAMES, as trackers lose them."""
    lost = np.zeros((n, n_keypoints), bool)
    if share <= 0:
        return lost
    begins = rng.random((n, n_keypoints)) < -np.log1p(-share) / LOST_FRAMES  # so that overlaps leave the share
    for frame, keypoint in np.argwhere(begins):
        lost[frame : frame + 1 + int(rng.exponential(LOST_FRAMES)), keypoint] = True
    return lost


def _last_kept(chances: np.ndarray, share: float) -> np.ndarray:
    """For each of len(chances) + 1 frames the last one not dropped; the first never is.

    The round(share * n) frames with the smallest chances are dropped.
    """
    n = len(chances) + 1
    kept = np.arange(n)
    kept[1 + np.argsort(chances, kind="stable")[: round(share * n)]] = 0
    return np.maximum.accumulate(kept)


def _pixels(frames_BTHWC: torch.Tensor, draws: Sequence[Draws], noise_std: float) -> torch.Tensor:
    """uint8 (B,T,H,W,C) -> float32 (B,T,C,H,W) in [0, 1], augmented; padding is black."""
    B, T, H, W, C = frames_BTHWC.shape
    out = torch.zeros((B, T, C, H, W), device=frames_BTHWC.device)
    for b, drawn in enumerate(draws):
        shown = torch.from_numpy(drawn.shown).to(frames_BTHWC.device)
        _pixels_of_one(frames_BTHWC[b], shown, drawn, noise_std, out[b, : len(shown)])
    return out


def _pixels_of_one(
    frames_THWC: torch.Tensor, shown: torch.Tensor, drawn: Draws, noise_std: float, out_nCHW: torch.Tensor
) -> None:
    """Brightness and then contrast about the sample's mean are one affine: b*c*x + b*(1 - c)*mean."""
    out_nCHW.copy_(frames_THWC[shown].movedim(-1, 1))
    if drawn.flip:
        out_nCHW.copy_(out_nCHW.flip(-1))
    out_nCHW.mul_(drawn.brightness * drawn.contrast / 255)
    if drawn.contrast != 1:
        mean = frames_THWC[: len(shown)].sum(dtype=torch.int64) / (frames_THWC[: len(shown)].numel() * 255)
        out_nCHW.add_(drawn.brightness * (1 - drawn.contrast) * mean)
    if drawn.noise_seed is not None:
        generator = torch.Generator(out_nCHW.device).manual_seed(drawn.noise_seed)
        out_nCHW.add_(torch.randn(out_nCHW.shape, generator=generator, device=out_nCHW.device), alpha=noise_std)
    if drawn.noise_seed is not None or drawn.brightness != 1 or drawn.contrast != 1:
        out_nCHW.clamp_(0, 1)
