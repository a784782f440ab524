"""What is wrong with training settings whatever the recordings hold: said before anything is read or trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.model import pose_graph
from pipeline.setting_texts import SettingsError, parse_lengths, parse_map
from pipeline.train.labels import make_merge
from pipeline.train.split import check_pattern, read_split
from pipeline.train_settings import TrainSettings

# A smaller patch leaves nothing of its picture after the convolutions.
SMALLEST_PATCH = 8


def check_settings(settings: TrainSettings, class_names: Sequence[str]) -> None:
    """Raises SettingsError, PoseError or SplitError."""
    if settings.tcn_kernel % 2 == 0:
        raise SettingsError(f"--tcn-kernel {settings.tcn_kernel}: expected an odd number of frames")
    make_merge(class_names, settings.merge)
    pose_names = parse_map(settings.pose_names, "pose_names")
    pose_graph.layout(tuple(pose_names.values()), pose_names)
    parse_lengths(settings.pose_windows, "pose_windows")
    if settings.pose_features == "none" and settings.pose_windows:
        raise SettingsError(
            f"--pose-windows {settings.pose_windows}: with --pose-features none there is nothing to take means of; "
            "leave one of the two out"
        )
    if settings.aug_mix and settings.batch_size == 1:
        raise SettingsError(
            f"--aug-mix {settings.aug_mix:g}: --batch-size 1 has no second window to mix with; expected 2 or more"
        )
    if not settings.learns_behaviour and not settings.lambda_kp:
        raise SettingsError("--model-type keypoints: with --lambda-kp 0 nothing is learned; expected a value above 0")
    if settings.encoder == "none":
        _check_pose_alone(settings)
    else:
        _check_frames(settings)
    check_pattern(settings.group_by)
    if settings.split_file:
        read_split(Path(settings.split_file))


def _check_frames(settings: TrainSettings) -> None:
    """Of a model that looks at frames."""
    if settings.aug_swap:
        raise SettingsError(
            f"--aug-swap {settings.aug_swap:g}: the frames would still show each animal in its own place; "
            "use it with --encoder none"
        )
    if settings.aug_turn and settings.view != "full":
        raise SettingsError(
            f"--aug-turn {settings.aug_turn:g}: is for whole frames; a view that turns with the animal is turned by "
            "--aug-view-turn"
        )
    if 0 < settings.patch_size < SMALLEST_PATCH:
        raise SettingsError(f"--patch-size {settings.patch_size}: expected 0, or {SMALLEST_PATCH} pixels or more")


def _check_pose_alone(settings: TrainSettings) -> None:
    """Of a model that looks at no frames."""
    if settings.pose_features == "none":
        raise SettingsError("--pose-features none: --encoder none leaves nothing to learn from; choose one of each")
    if settings.view == "animal":
        raise SettingsError("--view animal: --encoder none looks at no frames; choose an encoder, or --view full")
    if settings.aug_turn:
        raise SettingsError(
            f"--aug-turn {settings.aug_turn:g}: --encoder none looks at no frames, and poses are told without a "
            "direction; choose an encoder, or 0"
        )
    if settings.patch_size:
        raise SettingsError(
            f"--patch-size {settings.patch_size}: --encoder none looks at no frames; choose an encoder, or 0"
        )
    if settings.init_from:
        raise SettingsError(f"--init-from {settings.init_from}: --encoder none has no encoder to begin with")
    if not settings.learns_behaviour:
        raise SettingsError("--model-type keypoints: --encoder none looks at no frames, where keypoints are found")
