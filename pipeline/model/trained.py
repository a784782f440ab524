"""A trained network with all that is needed to use it on other recordings; what a checkpoint holds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.model import checkpoint
from pipeline.model.decision import Decision
from pipeline.model.network import Network, NetworkConfig
from pipeline.model.pose_branch import TIME_VERSION

if TYPE_CHECKING:
    from pipeline.model.ensemble import Ensemble


@dataclass(frozen=True, eq=False)
class Trained:
    """class_names: the merged classes that the logits stand for. merge_lookup (n_original,): original id -> merged id.
    class_counts (N,): labelled training frames of each merged class.

    preprocess: settings that made the cache (crop, image size, class list ...), train: settings of the training.
    decision: how labels follow from probabilities; None: the arg-max. tracked_by: the DeepLabCut networks of the
    training recordings' keypoints, as far as names of tables tell; empty where that is not known.
    """

    network: Network | Ensemble
    class_names: tuple[str, ...]
    original_classes: tuple[str, ...]
    merge_lookup: np.ndarray
    class_counts: np.ndarray
    preprocess: dict[str, Any]
    train: dict[str, Any]
    decision: Decision | None = None
    tracked_by: tuple[str, ...] = ()

    @property
    def keypoint_names(self) -> tuple[str, ...]:
        return self.network.config.keypoint_names

    @property
    def names_behaviours(self) -> bool:
        """Whether its logits mean anything."""
        return bool(self.train.get("model_type") != "keypoints")

    def as_dict(self) -> dict[str, Any]:
        """Tensors and plain values, for a checkpoint."""
        return {
            "network_config": dataclasses.asdict(self.network.config),
            "weights": self.network.state_dict(),
            "class_names": list(self.class_names),
            "original_classes": list(self.original_classes),
            "merge_lookup": [int(i) for i in self.merge_lookup],
            "class_counts": [int(n) for n in self.class_counts],
            "keypoint_names": list(self.keypoint_names),
            "preprocess": self.preprocess,
            "train": self.train,
            "decision": None if self.decision is None else self.decision.as_dict(),
            "time_version": TIME_VERSION,
            "tracked_by": list(self.tracked_by),
        }


def load_trained(path: Path, device: torch.device | str = "cpu") -> Trained:
    """The model that a checkpoint holds, ready to predict. Raises CheckpointError."""
    content = checkpoint.load(path, device)
    try:
        _check_time(path, content)
        config = content["network_config"]
        config["keypoint_names"] = tuple(config["keypoint_names"])
        network = Network(NetworkConfig(**config)).to(device)
        network.load_state_dict(content["weights"])
        return Trained(
            network.eval(),
            tuple(content["class_names"]),
            tuple(content["original_classes"]),
            np.array(content["merge_lookup"], np.int64),
            np.array(content["class_counts"], np.int64),
            content["preprocess"],
            content["train"],
            None if content["decision"] is None else Decision(**content["decision"]),
            tuple(content.get("tracked_by", ())),
        )
    except checkpoint.CheckpointError:
        raise
    except Exception as error:  # of values that are damaged, or not those of a model
        first_line = (str(error).splitlines() or [""])[0]
        raise checkpoint.CheckpointError(f"{path}: holds no whole model ({first_line[:120]}); train again") from None


def _check_time(path: Path, content: dict[str, Any]) -> None:
    """Raises CheckpointError where the network was shown the time otherwise than it would be now."""
    if (shown := content["network_config"].get("time_input", "none")) == "none":
        return
    by_knots = "pose.knots_WN" in content["weights"]
    wrote = content.get("time_version", 2 if by_knots else 1)
    if wrote != TIME_VERSION:
        raise checkpoint.CheckpointError(
            f"{path}: was trained with --time-input {shown} by another version of this software, which told the "
            f"network the time differently (version {wrote} of the time input, {TIME_VERSION} here); train it again"
        )
