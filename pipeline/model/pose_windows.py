"""Means and deviations of features over the frames about each frame, for windows of several lengths.

As boosted trees on pose are given them (SimBA, MARS, JABS): a network that sees frames one by one must learn to average
noisy tracks over their gaps, which a mean over the frames that are known does at once.
Axes: B batch, T frames, S steps of some frames each, F features, L lengths.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F


def features(
    values_BTF: torch.Tensor, present_BTF: torch.Tensor, lengths: Sequence[int], step: int = 1
) -> torch.Tensor:
    """(B,S,2FL): of each length in frames the means, then the standard deviations, over what is present in the window.

    0 where nothing is. Frames before the clip's begin and after its end count as not present, so a window there is of
    the frames that there are, and one that is longer than the clip may be of all of them. step: frames from one window
    to the next, S = ceil(T / step); a window is then of whole steps, as many as come closest to its length.
    """
    present = present_BTF.to(values_BTF.dtype)
    values = values_BTF * present
    steps = [_steps(length, step) for length in lengths]
    counted = zip(*(_sums(_of_steps(x, step), steps) for x in (present, values, values.square())), strict=True)
    made = []
    for n, total, squares in counted:
        n = n.clamp(min=1)
        mean = total / n
        made += [mean, (squares / n - mean.square()).clamp(min=0).sqrt()]
    return torch.cat(made, -1)


def _of_steps(x_BTF: torch.Tensor, step: int) -> torch.Tensor:
    """Sums (B,S,F) over `step` frames each, fewer in the last."""
    return x_BTF if step == 1 else F.pad(x_BTF, (0, 0, 0, -x_BTF.shape[1] % step)).unflatten(1, (-1, step)).sum(2)


def _steps(length: int, step: int) -> int:
    return max(1, round(length / step))


def reach(lengths: Sequence[int], step: int = 1) -> int:
    """Frames before (and at most as many after) a step that its windows are over."""
    return max((_steps(length, step) // 2 * step for length in lengths), default=0)


def n_features(n: int, lengths: Sequence[int]) -> int:
    """Columns that `features` makes of n."""
    return 2 * n * len(lengths)


def _sums(x_BTF: torch.Tensor, lengths: Sequence[int]) -> list[torch.Tensor]:
    """Sums (B,T,F) over each length: of frame (or step) t from t - length // 2 on, as far as there are frames.

    Put together of sums over 1, 2, 4 ... frames, by the length's binary digits. Differences of running totals would
    lose digits in a long recording: after 100,000 frames a float32 total is exact to 0.01 at best.
    """
    T = x_BTF.shape[1]
    before = [min(length // 2, T) for length in lengths]
    after = [min((length - 1) // 2, T) for length in lengths]
    longest_before = max(before)
    runs = F.pad(x_BTF, (0, 0, longest_before, max(after)))
    widths = [b + 1 + a for b, a in zip(before, after, strict=True)]
    starts = [longest_before - b for b in before]
    sums = [torch.zeros_like(x_BTF) for _ in lengths]
    run = 1
    while True:
        for i, width in enumerate(widths):
            if width & run:
                sums[i] += runs[:, starts[i] : starts[i] + T]
                starts[i] += run
        if 2 * run > max(widths):
            return sums
        runs = runs[:, :-run] + runs[:, run:]
        run *= 2
