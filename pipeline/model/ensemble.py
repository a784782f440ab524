"""Several trained networks as one: the mean of what they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from pipeline.model.checkpoint import CheckpointError
from pipeline.model.decision import LEAST, Decision
from pipeline.model.mirror import Mirror, mirror_of
from pipeline.model.network import Network, Output
from pipeline.model.trained import Trained

# What the members' models must have in common to be asked about the same clips.
ALIKE = {"class_names": "classes", "original_classes": "class lists", "keypoint_names": "keypoints"}
# Settings that shape the clips that a model is used on.
CACHED = ("trial_frames", "min_frames", "crops", "img_size", "channels", "classes", "dlc_lag")
# Settings by which a clip is read and shown to the network.
READING = ("kp_likelihood_thr", "val_T")


class Ensemble(nn.Module):
    """Looks to other code as its first network does; `infer` asks every one of them.

    mirror: each is also asked of what it sees in one; None: of the clip alone.
    """

    def __init__(self, members: Sequence[Network], *, mirror: Mirror | None = None) -> None:
        super().__init__()
        self.mirror = mirror
        self.members = nn.ModuleList(members)
        self.networks = tuple(members)
        self.config, self.encoder, self.keypoints = members[0].config, members[0].encoder, members[0].keypoints


def mean_output(outputs: Sequence[Output]) -> Output:
    """Logits whose softmax is the members' mean probability, the mean of their places, and logits of mean boundaries.

    Places and boundaries are those of the members that give them: the others' decision layers have no use for one.
    A mean is less sure than each of its members, so a decision layer that was fitted on single ones smooths it a little
    more than them.
    """
    if len(outputs) == 1:
        return outputs[0]
    probabilities = torch.stack([output.logits_BTN.softmax(-1) for output in outputs]).mean(0)
    places = [output.xy_BTK2 for output in outputs if output.xy_BTK2 is not None]
    boundaries = [output.boundary_BT.sigmoid() for output in outputs if output.boundary_BT is not None]
    return Output(
        probabilities.clamp(min=1e-12).log(),
        torch.stack(places).mean(0) if places else None,
        boundary_BT=torch.stack(boundaries).mean(0).logit(eps=LEAST) if boundaries else None,
    )


def together(models: Sequence[Trained], names: Sequence[str]) -> Trained:
    """One model of several. names: their files, for messages. Raises CheckpointError where they do not fit together.

    The decision is the mean of theirs where all have one. class_counts: of all of them, which stands for the data.
    """
    first = models[0]
    if len(models) == 1:
        return first
    for model, name in zip(models[1:], names[1:], strict=True):
        for attribute, what in ALIKE.items():
            if getattr(model, attribute) != getattr(first, attribute):
                raise CheckpointError(f"{name}: has other {what} than {names[0]}; such models cannot predict together")
        if not np.array_equal(model.merge_lookup, first.merge_lookup):
            raise CheckpointError(
                f"{name}: was trained with another --merge than {names[0]}, so that classes of one name are not the "
                "same behaviour; such models cannot predict together"
            )
        other = [what for what in CACHED if model.preprocess.get(what) != first.preprocess.get(what)]
        if other:
            raise CheckpointError(f"{name}: its cache was made with another {', '.join(other)} than that of {names[0]}")
        if (model.network.encoder is None) != (first.network.encoder is None):
            raise CheckpointError(
                f"{name}: only one of it and {names[0]} looks at frames; they cannot predict together"
            )
        if _reading(model) != _reading(first):
            raise CheckpointError(f"{name}: reads clips with other settings ({', '.join(READING)}) than {names[0]}")
    known = all(model.tracked_by for model in models)
    decisions = [model.decision for model in models if model.decision is not None]
    return dataclasses.replace(
        first,
        network=Ensemble([network for model in models for network in networks_of(model)]).eval(),
        class_counts=np.sum([model.class_counts for model in models], axis=0),
        decision=_mean_decision(decisions) if len(decisions) == len(models) else None,
        tracked_by=tuple(sorted({network for model in models for network in model.tracked_by})) if known else (),
    )


def with_flips(model: Trained) -> Trained:
    """The mean of what the model says of a clip and of its mirror image."""
    mirror = mirror_of(model.keypoint_names, model.class_names)
    return dataclasses.replace(model, network=Ensemble(networks_of(model), mirror=mirror).eval())


def networks_of(model: Trained) -> Sequence[Network]:
    """One, or those of an ensemble."""
    return model.network.networks if isinstance(model.network, Ensemble) else (model.network,)


def _reading(model: Trained) -> list[object]:
    return [model.train[name] for name in READING]


def _mean_decision(decisions: Sequence[Decision]) -> Decision:
    bias, begin = (np.mean([getattr(d, name) for d in decisions], axis=0) for name in ("bias", "begin"))
    # A model without a boundary head adds a weight of 0: the costs are then the means of theirs all the same.
    return Decision(tuple(bias.tolist()), tuple(begin.tolist()), float(np.mean([d.boundary for d in decisions])))
