"""The pose branch: keypoints of a clip -> one feature vector of every frame.

Axes: B batch, T frames, K keypoints, F features, D features out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipeline.model import pose_graph, pose_motion, pose_windows
from pipeline.model.animals import animals
from pipeline.model.tcn import stretched

# A feature further from its mean than so many standard deviations is a wrong point more often than a movement.
LARGEST = 5.0
# What is told of a frame's time, when it is: frames since the clip's begin, to its end, since the stimulus, and since
# the last animal's entry.
TIMES = 4
# Each time is told by so many knots, evenly over those of the training recordings: which of them have passed, softly
# within a step. A single number would need a very steep weight to tell, say, the end of a scored span.
KNOTS = 97
# Raised when a time is told otherwise, so that what was trained before is refused where it was shown one. 1: by single
# numbers, in checkpoints that name no version; 2: by knots.
TIME_VERSION = 2


class PoseFeaturesError(ValueError):
    """The pose features that the settings name cannot be made of these keypoints; the message says why."""


@dataclass(frozen=True)
class PoseSet:
    """Which features are made. graph: indices of the six parts, None without them. groups: of each animal, for motion.

    time: which of the TIMES columns are shown.
    """

    graph: tuple[int, ...] | None
    groups: tuple[tuple[int, ...], ...] | None
    time: tuple[int, ...] = ()


def pose_set(
    keypoint_names: Sequence[str], pose_names: Mapping[str, str], features: str, time_input: str = "none"
) -> PoseSet:
    """The features of a setting: graph, motion, both, none, or auto: both where the graph's six parts are, else motion.

    time_input: none, clip, stimulus or entry. Raises PoseError and PoseFeaturesError.
    """
    layout = pose_graph.layout(keypoint_names, pose_names)
    if features in ("graph", "both") and layout.indices is None:
        raise PoseFeaturesError(
            f"--pose-features {features}: the pose graph lacks {', '.join(layout.missing)}; the keypoints are "
            f"{', '.join(keypoint_names)}; name them with --pose-names, or use --pose-features motion"
        )
    graph = None if features in ("motion", "none") else layout.indices
    time = {"none": (), "clip": (0, 1), "stimulus": (2,), "entry": (3,)}[time_input]
    return PoseSet(graph, None if features in ("graph", "none") else animals(keypoint_names), time)


@dataclass(frozen=True)
class BodySizes:
    """What a sample's lengths (B,) are told in: by the graph and by the motion features; None: not known yet."""

    graph_B: torch.Tensor | None = None
    motion_B: torch.Tensor | None = None


class PoseBranch(nn.Module):
    """Features and which of them are present -> linear (B,T,D), D = width, which is 0 where none are made.

    Motion features are seen over their mean and spread in the training recordings, about the animal's mean shape there,
    and times by KNOTS over theirs; `fit` and `fit_times` find these, and the weights hold them. windows: lengths in
    frames over which the features' means and deviations are seen too, alike in a step's `step` frames (`pose_windows`).
    """

    shape_n2: torch.Tensor
    mean_F: torch.Tensor
    spread_F: torch.Tensor
    knots_WN: torch.Tensor

    def __init__(self, made: PoseSet, n_keypoints: int, width: int, windows: Sequence[int] = (), step: int = 1) -> None:
        super().__init__()
        self.made, self.windows, self.step = made, tuple(windows), step
        n_windowed = pose_graph.n_features() if made.graph is not None else 0
        n_inputs = 2 * n_windowed
        if made.groups is not None:
            F = pose_motion.n_features(made.groups, n_keypoints)
            self.register_buffer("shape_n2", torch.zeros(len(made.groups[0]), 2))
            self.register_buffer("mean_F", torch.zeros(F))
            self.register_buffer("spread_F", torch.ones(F))
            n_inputs += F + 2 * n_keypoints
            n_windowed += F
        if made.time:
            self.register_buffer("knots_WN", torch.arange(KNOTS, dtype=torch.float32).repeat(len(made.time), 1))
        n_inputs += (1 + KNOTS) * len(made.time)
        self.width = width if n_inputs else 0
        self.linear = nn.Linear(n_inputs, width) if n_inputs else None
        if self.windows:
            self.of_windows = nn.Linear(pose_windows.n_features(n_windowed, self.windows), width, bias=False)

    def forward(
        self,
        xy_BTK2: torch.Tensor,
        visible_BTK: torch.Tensor,
        when_BTW: torch.Tensor | None = None,
        motion_BTK2: torch.Tensor | None = None,
        sizes: BodySizes | None = None,
    ) -> torch.Tensor:
        """when_BTW: frames, see TIMES; NaN where not known, None of clips without. motion_BTK2: the places that the
        motion features are made of, where these are others. sizes: see `body_sizes`; None: those of these frames.
        """
        sizes = sizes or BodySizes()
        parts, windowed = [], []
        if self.made.graph is not None:
            values_BTF, present_BTF = pose_graph.features(xy_BTK2, visible_BTK, self.made.graph, sizes.graph_B)
            parts += [values_BTF, present_BTF.float()]
            windowed.append((values_BTF, present_BTF))
        if self.made.groups is not None:
            motion_BTK2 = xy_BTK2 if motion_BTK2 is None else motion_BTK2
            motion_BTK2, known_BTK = pose_motion.bridged(motion_BTK2.float(), visible_BTK)
            values_BTF, present_BTF = pose_motion.of_bridged(
                motion_BTK2, known_BTK, self.made.groups, self.shape_n2, sizes.motion_B
            )
            standard_BTF = ((values_BTF - self.mean_F) / self.spread_F).clamp(-LARGEST, LARGEST)
            parts += [standard_BTF.masked_fill(~present_BTF, 0.0), visible_BTK.float(), known_BTK.float()]
            windowed.append((standard_BTF, present_BTF))
        if self.made.time:
            parts.append(self._times(when_BTW, xy_BTK2))
        if self.linear is None:
            return xy_BTK2.new_zeros((*xy_BTK2.shape[:2], 0))
        posed_BTD = self.linear(torch.cat(parts, -1))
        if not self.windows:
            return posed_BTD
        values_BTF, present_BTF = (torch.cat(columns, -1) for columns in zip(*windowed, strict=True))
        windowed_BSD = self.of_windows(pose_windows.features(values_BTF, present_BTF, self.windows, self.step))
        return posed_BTD + stretched(windowed_BSD, posed_BTD.shape[1], self.step)

    @property
    def reach(self) -> int:
        """Frames before and after a frame that its features are made of, with the `body_sizes` of the whole clip."""
        motion = 0 if self.made.groups is None else pose_motion.REACH
        return motion + pose_windows.reach(self.windows, self.step)

    def body_sizes(self, xy_BTK2: torch.Tensor, visible_BTK: torch.Tensor) -> BodySizes:
        """Of whole clips, for the features of parts of them."""
        graph_B = motion_B = None
        if self.made.graph is not None:
            graph_B = pose_graph.body_size(xy_BTK2, visible_BTK, self.made.graph)
        if self.made.groups is not None:
            motion_B = pose_motion.body_size(xy_BTK2, visible_BTK, self.made.groups, self.shape_n2)
        return BodySizes(graph_B, motion_B)

    def _times(self, when_BTW: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
        """Whether each time is known, and of each of its knots whether it has passed (-1 to 1); 0 where not known."""
        if when_BTW is None:
            when_BTW = torch.full((*like.shape[:2], TIMES), torch.nan, device=like.device)
        when_BTW = when_BTW[..., list(self.made.time)]
        step_W1 = self.knots_WN[:, 1:2] - self.knots_WN[:, :1]
        passed_BTWN = (2 * (when_BTW[..., None] - self.knots_WN) / step_W1).tanh().nan_to_num(0.0)
        return torch.cat([torch.isfinite(when_BTW).float(), passed_BTWN.flatten(2)], -1)

    @torch.no_grad()
    def fit_times(self, whens: Sequence[np.ndarray]) -> None:
        """The knots of the times (T,TIMES) of clips: from the smallest to the largest, a frame apart at least."""
        for row, column in enumerate(self.made.time):
            known = [when[np.isfinite(when[:, column]), column] for when in whens]
            known = [times for times in known if len(times)]
            if known:
                first, last = min(float(t.min()) for t in known), max(float(t.max()) for t in known)
                self.knots_WN[row] = torch.linspace(first, max(last, first + KNOTS - 1), KNOTS)

    @torch.no_grad()
    def fit(self, tracks: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Mean shape, and mean and spread of the features, of clips' (xy (T,K,2), visible (T,K))."""
        if self.made.groups is None or not tracks:
            return
        device = self.mean_F.device
        tensors = [(torch.from_numpy(xy), torch.from_numpy(visible)) for xy, visible in tracks]
        of_animals = [(xy[:, list(g)], visible[:, list(g)]) for xy, visible in tensors for g in self.made.groups]
        self.shape_n2.copy_(pose_motion.mean_shape(of_animals))
        n = total = squares = torch.zeros(len(self.mean_F), dtype=torch.float64)
        for xy, visible in tensors:
            seen = xy[None].to(device), visible[None].to(device)
            values_BTF, present_BTF = pose_motion.features(*seen, self.made.groups, self.shape_n2)
            values_BTF = values_BTF.cpu().double()  # MPS has no double
            n = n + present_BTF.sum((0, 1)).cpu()
            total = total + values_BTF.sum((0, 1))
            squares = squares + values_BTF.square().sum((0, 1))
        mean = total / n.clamp(min=1)
        self.mean_F.copy_(mean)
        # A feature that hardly changes is not blown up, nor one that was never there.
        spread = (squares / n.clamp(min=1) - mean.square()).clamp(min=0).sqrt().clamp(min=1e-3)
        self.spread_F.copy_(torch.where(n > 0, spread, 1.0))
