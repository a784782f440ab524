"""The frame encoder that a setting names."""

from __future__ import annotations

from typing import Any

from pipeline.model.backbones import efficientnet_lite0, hugging_face
from pipeline.model.cnn import CnnEncoder
from pipeline.model.frame_encoder import EncoderError, FrameEncoder


def make_encoder(
    name: str,
    channels: int,
    width: int,
    n_places: int,
    img_size: int,
    spec: dict[str, Any] | None = None,
    *,
    change: bool = True,
) -> FrameEncoder | None:
    """The encoder that a setting names; None for `none`. It places n_places keypoints, which may be 0.

    spec: that of a trained encoder, whose weights will be loaded next; pretrained weights are then not looked for.
    change: whether `cnn` sees each frame's change from the one before it; the others see each frame alone.
    """
    if name == "none":
        return None
    if name == "cnn":
        return CnnEncoder(channels, width, n_places, change)
    if name == "efficientnet_lite0":
        return efficientnet_lite0(width, n_places, img_size, spec)
    if name.startswith("hf:"):
        return hugging_face(name.removeprefix("hf:"), width, n_places, img_size, spec)
    raise EncoderError(f"--encoder {name}: expected cnn, efficientnet_lite0, hf:<name or folder>, or none")


def freeze(encoder: FrameEncoder, frozen: bool) -> None:
    """Keep the encoder's trunk fixed, or let it learn again."""
    encoder.trunk.requires_grad_(not frozen)
