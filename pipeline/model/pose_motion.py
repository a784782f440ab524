"""Pose features with time in them, for any keypoints and any number of animals, each seen from the animal itself.

The mean shape is fitted to every animal's visible keypoints, turned, shifted and scaled (Procrustes, Gower 1975,
https://doi.org/10.1007/BF02291478), which gives its middle and its heading also where some are missing. Places and
movements are then told in that frame, in units of the body's size, so that it matters neither where the animal is nor
which way it looks, but left stays left. Accelerations are what the network's first convolution makes of them.
Axes: B batch, T frames, K keypoints, A animals, n keypoints of an animal, F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import combinations

import torch
from torch.nn import functional as F

# Frames over which movements are taken, about the frame: a shake, a step, a turn.
LAGS = (1, 4, 16)
# A gap of so many frames or fewer in a keypoint's track is bridged by a straight line, and marked as such.
GAP = 15
# Frames before and after a frame that its features are made of.
REACH = GAP + max(lag - lag // 2 for lag in LAGS)
# Places further than this many body sizes are drawn in: what is far matters less, and a wrong point not much.
FAR = 4.0
# The mean shape is found from so many frames, evenly taken; more of them change it by less than a thousandth.
SHAPE_FRAMES = 20_000
# Rounds in which the mean shape and the fits to it agree; after 10 it moves by less than 1e-3.
ROUNDS = 10
# Longer clips are fitted so many frames at a time: what stands between takes some hundred bytes a keypoint and frame.
FITTED_TOGETHER = 8_192
# An animal smaller than this (0.002 px of a 224 px frame) has no heading: its points coincide but for rounding.
SHORTEST = 1e-5


@dataclass(frozen=True)
class Fit:
    """An animal in each frame: its middle (B,T,2), heading (B,T,2) of length 1, size (B,T) over that of the mean shape.

    placed: it has a visible keypoint. turned: two or more, which a heading and a size need.
    """

    middle: torch.Tensor
    heading: torch.Tensor
    size: torch.Tensor
    placed: torch.Tensor
    turned: torch.Tensor


class Columns:
    """Features as they are added, and whether each is present."""

    def __init__(self) -> None:
        self.values: list[torch.Tensor] = []
        self.present: list[torch.Tensor] = []

    def add(self, values_BTF: torch.Tensor, present: torch.Tensor) -> None:
        """present: (B,T,F), or (B,T) of all F."""
        self.values.append(values_BTF)
        self.present.append(present if present.ndim == 3 else present[..., None].expand_as(values_BTF))


def features(
    xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor, groups: Sequence[Sequence[int]], shape_n2: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(features (B,T,F) float32, 0 where not present; present (B,T,F) bool).

    groups: the keypoints of each animal. shape_n2: their mean shape, see `mean_shape`. Of every animal: its shape, the
    other animals, its movement and turning, the movement of each keypoint by itself and within the body; of every two
    animals how far they are, how they are turned, and whether they come closer; of every two keypoints the distance.
    """
    return of_bridged(*bridged(xy_BTK2.float(), visible_BTK), groups, shape_n2)


def of_bridged(
    xy_BTK2: torch.Tensor,
    known_BTK: torch.Tensor,
    groups: Sequence[Sequence[int]],
    shape_n2: torch.Tensor,
    unit_B: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`features` of tracks as `bridged` gives them. unit_B: the body size, see `body_size`; None: of these frames."""
    fits = [fit(xy_BTK2[:, :, list(g)], known_BTK[:, :, list(g)], shape_n2) for g in groups]
    unit_B = _median_size(fits) if unit_B is None else unit_B
    xy_BTK2 = xy_BTK2 / unit_B[:, None, None, None]
    fits = [Fit(f.middle / unit_B[:, None, None], f.heading, f.size, f.placed, f.turned) for f in fits]
    columns = Columns()
    for a, group in enumerate(groups):
        own = xy_BTK2[:, :, list(group)], known_BTK[:, :, list(group)]
        _of_animal(columns, fits[a], *own)
        for b, other in enumerate(groups):
            if b != a:
                _of_other(columns, fits[a], fits[b], xy_BTK2[:, :, list(other)], known_BTK[:, :, list(other)])
    for a, b in combinations(range(len(groups)), 2):
        _of_two(columns, fits[a], fits[b])
    first, second = torch.triu_indices(xy_BTK2.shape[2], xy_BTK2.shape[2], 1, device=xy_BTK2.device)
    apart_BTF = (xy_BTK2[:, :, first] - xy_BTK2[:, :, second]).norm(dim=-1)
    columns.add(_drawn_in(apart_BTF[..., None])[..., 0], known_BTK[:, :, first] & known_BTK[:, :, second])
    present_BTF = torch.cat(columns.present, -1)
    return torch.cat(columns.values, -1).masked_fill(~present_BTF, 0.0), present_BTF


def _of_animal(columns: Columns, fit: Fit, xy_BTn2: torch.Tensor, known_BTn: torch.Tensor) -> None:
    within_BTn2 = _seen_from(fit, xy_BTn2)
    in_body_BTn = known_BTn & fit.turned[..., None]
    columns.add(within_BTn2.flatten(2), in_body_BTn.repeat_interleave(2, -1))
    for lag in LAGS:
        faster = FAR / lag**0.5  # about as large for every lag
        moved_BT2, both_BT = _over_time(fit.middle, fit.placed, lag)
        columns.add(_drawn_in(turned_back(moved_BT2, fit.heading) * faster), both_BT & fit.turned)
        columns.add((FAR * moved_BT2.norm(dim=-1)).log1p()[..., None], both_BT)
        columns.add(_angle(fit, lag)[..., None], _over_time(fit.heading, fit.turned, lag)[1])
        moved_BTn2, both_BTn = _over_time(xy_BTn2, known_BTn, lag)
        columns.add((FAR * moved_BTn2.norm(dim=-1)).log1p(), both_BTn)
        moved_BTn2, both_BTn = _over_time(within_BTn2, in_body_BTn, lag)
        columns.add(_drawn_in(moved_BTn2 * faster).flatten(2), both_BTn.repeat_interleave(2, -1))


def _of_other(columns: Columns, fit: Fit, other: Fit, xy_BTn2: torch.Tensor, known_BTn: torch.Tensor) -> None:
    seen_BTn = known_BTn & fit.turned[..., None]
    columns.add(_drawn_in(_seen_from(fit, xy_BTn2)).flatten(2), seen_BTn.repeat_interleave(2, -1))
    columns.add(_drawn_in(turned_back(other.middle - fit.middle, fit.heading)), fit.turned & other.placed)


def _of_two(columns: Columns, one: Fit, two: Fit) -> None:
    columns.add(turned_back(two.heading, one.heading), one.turned & two.turned)
    both_BT = one.placed & two.placed
    apart_BT1 = (two.middle - one.middle).norm(dim=-1, keepdim=True)
    columns.add((apart_BT1 + 0.1).log(), both_BT)
    for lag in LAGS:
        closer_BT1, seen_BT = _over_time(apart_BT1, both_BT, lag)
        columns.add(_drawn_in(closer_BT1 * (FAR / lag**0.5)), seen_BT)


def n_features(groups: Sequence[Sequence[int]], n_keypoints: int) -> int:
    """F of `features`, counted by making them once."""
    xy = torch.zeros(1, 1, n_keypoints, 2)
    visible = torch.zeros(1, 1, n_keypoints, dtype=torch.bool)
    return features(xy, visible, groups, torch.zeros(len(groups[0]), 2))[0].shape[-1]


def bridged(xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tracks with gaps of up to GAP frames bridged by a straight line, and which points are known then."""
    B, T, K, _ = xy_BTK2.shape
    if not T:
        return xy_BTK2, visible_BTK
    t = torch.arange(T, device=xy_BTK2.device, dtype=torch.float32)[None, :, None]
    # By maxima over windows, since cummax is not on every device. Infinite where no visible frame is near enough.
    before = _largest_near(torch.where(visible_BTK, t, -torch.inf), GAP, 0)
    after = -_largest_near(torch.where(visible_BTK, -t, -torch.inf), 0, GAP)
    known = after - before <= GAP + 1
    start, stop = (
        xy_BTK2.gather(1, torch.where(known, at, 0.0).long()[..., None].expand(B, T, K, 2)) for at in (before, after)
    )
    share = torch.where(known, (t - before) / (after - before).clamp(min=1), 0.0)[..., None].to(start.dtype)
    return torch.where(known[..., None], torch.lerp(start, stop, share), 0.0), known


def _largest_near(x_BTK: torch.Tensor, back: int, ahead: int) -> torch.Tensor:
    """The largest of each frame, the `back` frames before it and the `ahead` frames after."""
    x_BKT = F.pad(x_BTK.transpose(1, 2), (back, ahead), value=-torch.inf)
    return F.max_pool1d(x_BKT, back + ahead + 1, 1).transpose(1, 2)


def fit(xy_BTn2: torch.Tensor, known_BTn: torch.Tensor, shape_n2: torch.Tensor) -> Fit:
    """Turn, shift and scale of the mean shape that fit the known keypoints best (least squares), in every frame."""
    weight = known_BTn[..., None].to(xy_BTn2.dtype)
    n = weight.sum(2).clamp(min=1)
    shape_middle = (weight * shape_n2).sum(2) / n
    middle = (weight * xy_BTn2).sum(2) / n
    about, shape_about = xy_BTn2 - middle[:, :, None], shape_n2 - shape_middle[:, :, None]
    turn = (weight * turned_back(about, shape_about)).sum(2)
    spread = (weight * shape_about.square()).sum((2, 3))
    length = turn.norm(dim=-1)
    placed = known_BTn.any(-1)
    size = length / spread.clamp(min=SHORTEST)
    turned = (known_BTn.sum(-1) > 1) & (spread > SHORTEST) & (size > SHORTEST)
    heading = torch.where(turned[..., None], turn / length.clamp(min=SHORTEST**2)[..., None], 0.0)
    size = torch.where(turned, size, 0.0)
    # Of the body, not of the points that happen to be known.
    middle = middle - turned_by(heading, shape_middle) * size[..., None]
    return Fit(middle, heading, size, placed, turned)


def fit_bridged(
    xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor, groups: Sequence[Sequence[int]], shape_n2: torch.Tensor
) -> list[Fit]:
    """The `fit` of each animal in its bridged tracks, of a clip of any length in little more memory than it takes."""
    found = [
        [fit(xy[:, :, list(g)], known[:, :, list(g)], shape_n2) for g in groups]
        for xy, known in bridged_parts(xy_BTK2, visible_BTK)
    ]
    names = [field.name for field in fields(Fit)]
    return [
        Fit(*(torch.cat([getattr(part, name) for part in parts], 1) for name in names))
        for parts in zip(*found, strict=True)
    ]


def bridged_parts(xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What `bridged` gives of a clip of any length, so many frames at a time, one after the other."""
    T = xy_BTK2.shape[1]
    for start in range(0, max(T, 1), FITTED_TOGETHER):
        stop, first = min(T, start + FITTED_TOGETHER), max(0, start - GAP)
        xy, known = bridged(xy_BTK2[:, first : stop + GAP].float(), visible_BTK[:, first : stop + GAP])
        own = slice(start - first, stop - first)
        yield xy[:, own], known[:, own]


def body_size(
    xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor, groups: Sequence[Sequence[int]], shape_n2: torch.Tensor
) -> torch.Tensor:
    """The body size (B,) of whole clips, which all lengths in their features are told in."""
    return _median_size(fit_bridged(xy_BTK2, visible_BTK, groups, shape_n2))


def mean_shape(tracks: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """The shape (n,2) that all frames' keypoints fit best, about its middle, with a root mean square distance of 1.

    tracks: (xy (T,n,2), visible (T,n)) of animals with the same parts. Generalised Procrustes analysis with missing
    points: of what a frame shows. A keypoint that is never seen lies in the middle.
    """
    seen = list(tracks)
    xy, visible = torch.cat([xy for xy, _ in seen]), torch.cat([visible for _, visible in seen])
    several = visible.sum(1) > 1
    step = max(1, int(several.sum()) // SHAPE_FRAMES)
    xy, visible = xy[several][::step].double(), visible[several][::step]
    # Points that all coincide, as in a corner to which they were clipped, tell no shape.
    extended = _extent(xy, visible) > SHORTEST
    xy, visible = xy[extended], visible[extended]
    if not len(xy):
        return torch.zeros(visible.shape[1], 2)
    first = visible.sum(1).argmax()
    shape, known = xy[first], visible[first]
    for _ in range(ROUNDS):
        shape = _normed(shape, known)
        found = fit(xy[None], (visible & known)[None], shape)
        good = found.turned[0]
        aligned = turned_back((xy - found.middle[0][:, None])[good], found.heading[0][good][:, None])
        aligned = aligned / found.size[0][good][:, None, None]
        weight = visible[good][..., None].double()
        shape = (aligned * weight).sum(0) / weight.sum(0).clamp(min=1)
        known = visible[good].any(0)
    return _normed(shape, known).float()


def _normed(shape_n2: torch.Tensor, known_n: torch.Tensor) -> torch.Tensor:
    about = (shape_n2 - shape_n2[known_n].mean(0)) * known_n[:, None]
    return about / _extent(shape_n2, known_n).clamp(min=SHORTEST)


def _extent(xy: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Root mean square distance (...) of the known of the points (...,n,2) from their middle."""
    weight = known[..., None].to(xy.dtype)
    n = weight.sum(-2, keepdim=True).clamp(min=1)
    about = (xy - (xy * weight).sum(-2, keepdim=True) / n) * weight
    return (about.square().sum((-1, -2)) / n[..., 0, 0]).sqrt()


def _median_size(fits: Sequence[Fit]) -> torch.Tensor:
    """Median (B,) over frames and animals; 1, the side of the picture, where none has a size."""
    sizes_BM = torch.cat([fit.size.masked_fill(~fit.turned, torch.nan) for fit in fits], 1)
    if not sizes_BM.shape[1]:
        return torch.ones(len(sizes_BM), device=sizes_BM.device)
    median_B = sizes_BM.nanmedian(1).values.nan_to_num(0.0)
    return torch.where(median_B > SHORTEST, median_B, 1.0)


def _over_time(x: torch.Tensor, known: torch.Tensor, lag: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The change of x (B,T,...) over the `lag` frames about each, and whether both ends are known (and exist)."""
    change, both = torch.zeros_like(x), torch.zeros_like(known)
    T, back = x.shape[1], lag // 2
    if lag < T:
        change[:, back : T - lag + back] = x[:, lag:] - x[:, :-lag]
        both[:, back : T - lag + back] = known[:, lag:] & known[:, :-lag]
    return change, both


def _angle(fit: Fit, lag: int) -> torch.Tensor:
    """The turn (B,T) over `lag` frames, in radians."""
    turn = torch.zeros_like(fit.heading)
    T, back = turn.shape[1], lag // 2
    if lag < T:
        turn[:, back : T - lag + back] = turned_back(fit.heading[:, lag:], fit.heading[:, :-lag])
    return torch.atan2(turn[..., 1], turn[..., 0])


def _seen_from(fit: Fit, xy_BTn2: torch.Tensor) -> torch.Tensor:
    return turned_back(xy_BTn2 - fit.middle[:, :, None], fit.heading[:, :, None])


def turned_back(v: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """v (...,2) turned by the angle of `by` backwards, and times its length: the complex v * conj(by)."""
    x, y, c, s = v[..., 0], v[..., 1], by[..., 0], by[..., 1]
    return torch.stack([x * c + y * s, y * c - x * s], -1)


def turned_by(v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """v (...,2) turned by the angle of w and times its length: the complex product."""
    x, y, c, s = v[..., 0], v[..., 1], w[..., 0], w[..., 1]
    return torch.stack([x * c - y * s, y * c + x * s], -1)


def _drawn_in(v: torch.Tensor) -> torch.Tensor:
    """v / (1 + |v| / FAR): as it is when small, of length FAR at most."""
    return v / (1 + v.norm(dim=-1, keepdim=True) / FAR)
