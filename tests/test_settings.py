from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import SettingsError, parse_lengths, parse_list, parse_map
from pipeline.settings_file import read_toml
from pipeline.settings_given import resolve
from pipeline.train_settings import TrainSettings

# The settings that the project promises, with their defaults; a change here is a change for every user.
PROMISED = {
    "trial_frames": 360, "min_frames": 345, "img_size": 224, "channels": 1, "model_type": "multitask", "encoder": "cnn",
    "train_T": 180, "val_T": 0, "kp_likelihood_thr": 0.9, "kp_jitter_std": 0.02, "aug_brightness": 0.2,
    "aug_contrast": 0.2, "aug_temporal_drop": 0.1, "aug_hflip": 0.0, "rare_threshold_share": 0.02,
    "rare_boost_cap": 30.0, "focal_gamma": 2.5, "label_smoothing": 0.1, "lambda_kp": 1.0, "lambda_smooth": 5e-4,
    "dropout": 0.3, "head_dropout": 0.2, "weight_decay": 5e-2, "lr": 5e-5, "min_lr": 1e-6, "lr_schedule": "cosine",
    "warmup_epochs": 10, "lr_patience": 10, "lr_factor": 0.5, "epochs": 200, "batch_size": 2, "seed": 123,
    "early_stopping_patience": 20, "use_ema": False, "ema_decay": 0.999,
    "annotation_format": "auto", "annotation_background": "", "annotation_subject": "", "annotation_slack": 10,
    "annotation_fps": 0.0,
}  # fmt: skip


def test_the_promised_defaults() -> None:
    ours = dataclasses.asdict(PreprocessSettings()) | dataclasses.asdict(TrainSettings())
    assert {name: ours[name] for name in PROMISED} == PROMISED


def test_no_name_is_in_both_stages() -> None:
    first, second = ({f.name for f in dataclasses.fields(cls)} for cls in (PreprocessSettings, TrainSettings))
    assert not first & second


def test_flags_win_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text("epochs = 7\n[augmentation]\nkp-jitter-std = 0.5\nlr = 1\n[data]\nimg_size = 96\n")
    toml = read_toml(path)
    settings = resolve(TrainSettings, toml, {"epochs": 3, "seed": None})
    assert (settings.epochs, settings.kp_jitter_std, settings.lr, settings.seed) == (3, 0.5, 1.0, 123)
    assert resolve(PreprocessSettings, toml, {}).img_size == 96


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "'epoch' is no setting"),
        ("[augmentation]\nbrightness = 1", "'brightness' is no setting"),
        ("epochs = ", "cannot be read as TOML settings"),
    ],
    ids=["unknown", "unknown in a table", "not TOML"],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message) as caught:
        read_toml(path)
    assert "lab.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "--epochs 0: expected a value >= 1"),
        ({"lr_schedule": "step"}, "--lr-schedule step: expected cosine or plateau"),
        ({"epochs": 2.5}, "--epochs 2.5: expected int, found float"),
        ({"use_ema": 1}, "--use-ema 1: expected bool, found int"),
        ({"aug_hflip": 1.5}, "--aug-hflip 1.5: expected a value <= 1"),
        ({"label_smoothing": 1.0}, "--label-smoothing 1.0: expected a value < 1"),
        ({"lr": float("nan")}, "--lr nan: expected a value > 0"),
        ({"lr": float("inf")}, "--lr inf: expected a finite number"),
        ({"seed": 2**63}, f"--seed {2**63}: expected a value <= {2**63 - 1}"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_values_out_of_bounds(values: dict, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(TrainSettings, {}, values)
    assert str(caught.value) == message


@given(st.dictionaries(st.from_regex(r"[a-zA-Z_]\w{0,5}", fullmatch=True), st.from_regex(r"\w{1,5}", fullmatch=True)))
def test_a_map_is_read_as_written(pairs: dict[str, str]) -> None:
    assert parse_map(" , ".join(f"{a} = {b}" for a, b in pairs.items()), "merge") == pairs


@pytest.mark.parametrize("text", ["a", "a=", "=b", "a=b,a=c", "a=b=c"], ids=str)
def test_a_wrong_map_names_its_setting(text: str) -> None:
    with pytest.raises(SettingsError, match="--pose-names"):
        parse_map(text, "pose_names")


@pytest.mark.parametrize("text", ["", "a,,b", "a,a", " , "], ids=repr)
def test_a_list_has_distinct_names(text: str) -> None:
    with pytest.raises(SettingsError, match="--classes"):
        parse_list(text, "classes")


@pytest.mark.parametrize(("text", "lengths"), [("", ()), (" ", ()), ("15", (15,)), ("61, 15,2", (61, 15, 2))], ids=repr)
def test_lengths_are_numbers_of_frames(text: str, lengths: tuple[int, ...]) -> None:
    assert parse_lengths(text, "pose_windows") == lengths


@pytest.mark.parametrize("text", ["1", "0", "-3", "a", "15,", "15,15", "15,015", "2.5"], ids=repr)
def test_wrong_lengths_name_their_setting(text: str) -> None:
    with pytest.raises(SettingsError, match=r"--pose-windows .*: expected distinct"):
        parse_lengths(text, "pose_windows")
