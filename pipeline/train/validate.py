"""Losses and scores of whole clips, each frame once, without augmentation, dropout or boosting."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from cache import Clip
from cache.clip import UNLABELLED
from pipeline.model.decision import Evidence, evidence
from pipeline.model.ensemble import Ensemble
from pipeline.model.infer import infer
from pipeline.model.network import Network, Output
from pipeline.train import losses
from pipeline.train.augment import Augmented
from pipeline.train.balance import Balance
from pipeline.train.data import Part
from pipeline.train.keep import fetched
from pipeline.train.metrics import Scores, TrialResult, score
from pipeline.train.ranks import ALONE, Ranks
from pipeline.train.windows import tiles
from pipeline.train_settings import TrainSettings


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Losses over all clips together, in the terms that training minimises, and the scores.

    kp_loss: NaN for a network that places no keypoints. action_loss, cross_entropy: NaN for one that learns keypoints
    alone, whose logits mean nothing. cross_entropy: the plain one, without class weights, smoothing and focal term, to
    compare runs of other settings by. logits: (T,N) float32 of each trial. boundaries: (T,) float32 of each, None
    without a boundary head. waited_s: seconds in which the network waited for frames. Of several ranks only the first
    has trials, logits and boundaries, and waited_s is its.
    """

    loss: float
    action_loss: float
    kp_loss: float
    cross_entropy: float
    scores: Scores
    trials: list[TrialResult]
    logits: list[np.ndarray]
    boundaries: list[np.ndarray | None]
    waited_s: float

    def evidence(self, clips: Sequence[Clip]) -> list[Evidence]:
        """What the decision layer goes by. clips: those that were scored."""
        parts = zip(self.logits, clips, self.boundaries, strict=True)
        return [evidence(logits, np.asarray(clip.intact), boundary) for logits, clip, boundary in parts]


def evaluate(
    network: Network | Ensemble,
    part: Part,
    class_names: tuple[str, ...],
    balance: Balance,
    settings: TrainSettings,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Train and validation figures both come from here, so that their gap means something; NaN for no clips.

    Each of several ranks looks at some of the clips.
    """
    if not part.clips:
        return Evaluation(math.nan, math.nan, math.nan, math.nan, score([], class_names), [], [], [], 0.0)
    network.eval()
    waits: list[float] = []
    chosen = ranks.share([len(clip) for clip in part.clips])
    clips = [part.clips[i] for i in chosen]
    with_frames = network.encoder is not None
    own: dict[int, Output] = {}
    started = time.perf_counter()
    for i, clip in zip(chosen, fetched(clips) if with_frames else clips, strict=True):
        waits.append(time.perf_counter() - started if with_frames else 0.0)
        data = part.data[i]
        own[i] = infer(network, clip, data.xy, data.visible, tiles(len(clip), settings.val_T), waits.append, data.when)
        started = time.perf_counter()
    parts = ranks.gather(own)

    def scored() -> Evaluation:
        found = {i: output for outputs in parts for i, output in outputs.items()}
        outputs = [found[i] for i in range(len(part.clips))]
        evaluation = _scored(outputs, part, class_names, balance.to("cpu"), settings, sum(waits))
        if not settings.learns_behaviour:
            evaluation = replace(evaluation, action_loss=math.nan, cross_entropy=math.nan)
        return evaluation if network.keypoints is not None else replace(evaluation, kp_loss=math.nan)

    return ranks.first(scored, lambda evaluation: replace(evaluation, trials=[], logits=[], boundaries=[]))


def _scored(
    outputs: list[Output],
    part: Part,
    class_names: tuple[str, ...],
    balance: Balance,
    settings: TrainSettings,
    waited_s: float,
) -> Evaluation:
    trials = [_trial(part, i, output) for i, output in enumerate(outputs)]
    found = _losses(outputs, part, balance, settings)
    plain = losses.action_loss(
        torch.cat([output.logits_BTN for output in outputs]),
        torch.from_numpy(np.concatenate(part.labels)),
        torch.ones(len(class_names)),
        gamma=0,
        smoothing=0,
    )
    return Evaluation(
        loss=float(found.total),
        action_loss=float(found.action),
        kp_loss=float(found.kp),
        cross_entropy=float(plain),
        scores=score(trials, class_names),
        trials=trials,
        logits=[output.logits_BTN.numpy() for output in outputs],
        boundaries=[None if output.boundary_BT is None else output.boundary_BT.numpy() for output in outputs],
        waited_s=waited_s,
    )


def _trial(part: Part, index: int, output: Output) -> TrialResult:
    data = part.data[index]
    return TrialResult(
        labels=data.labels,
        pred=output.logits_BTN.argmax(-1).numpy(),
        xy_true=data.xy,
        xy_pred=None if output.xy_BTK2 is None else output.xy_BTK2.numpy(),
        visible=data.visible,
        geometry=part.clips[index].geometry,
    )


def _losses(outputs: list[Output], part: Part, balance: Balance, settings: TrainSettings) -> losses.Losses:
    """As if all clips were one batch, so that a frame weighs the same in a short clip and in a long one."""
    logits_BTN = pad_sequence([output.logits_BTN for output in outputs], batch_first=True)
    places = [output.xy_BTK2 for output in outputs if output.xy_BTK2 is not None]
    xy_BTK2 = _padded([data.xy for data in part.data], 0)
    visible_BTK = _padded([data.visible for data in part.data], False)
    target = Augmented(
        frames=None,
        xy_target=xy_BTK2,
        xy_input=xy_BTK2,
        visible_input=visible_BTK,
        visible=visible_BTK,
        labels=_padded([data.labels for data in part.data], UNLABELLED),
        valid=_padded([np.ones(len(data.labels), bool) for data in part.data], False),
    )
    output = Output(logits_BTN, pad_sequence(places, batch_first=True) if places else None)
    return losses.total(output, target, balance, settings)


def _padded(arrays: list[np.ndarray], value: float) -> torch.Tensor:
    return pad_sequence([torch.from_numpy(array) for array in arrays], batch_first=True, padding_value=value)
