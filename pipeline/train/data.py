"""What a run trains and validates on: the cache's clips, merged classes, the split, and what follows from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cache import Cache, CacheError, Clip, RecordingMeta
from cache.clip import UNLABELLED
from pipeline.file_names import networks_of
from pipeline.model import pose_graph
from pipeline.model.animals import animals
from pipeline.model.mirror import mirror_warnings
from pipeline.model.network import NetworkConfig
from pipeline.model.patches import looked_at
from pipeline.model.pose_branch import pose_set
from pipeline.model.view import check_keypoints
from pipeline.setting_texts import SettingsError, flag, parse_lengths, parse_map
from pipeline.train import keep
from pipeline.train.check_settings import check_settings
from pipeline.train.labels import Merge, make_merge
from pipeline.train.split import (
    Split,
    SplitError,
    group_of,
    load_split,
    make_split,
    missing_classes,
)
from pipeline.train.stream import ClipData, load_clips
from pipeline.train.windows import class_counts, rare_boost
from pipeline.train_settings import Keep, TrainSettings

# Settings that are off at 0, and shape only what is said of behaviours.
OF_BEHAVIOUR = ("lambda_boundary", "aug_mix", "refine_stages", "patch_size")
# Settings that shape patches alone, and those of keypoints as they are told to the network.
OF_PATCHES = ("patch_span", "patch_keypoints")
OF_TOLD_POSE = ("pose_width", "kp_jitter_std", "aug_kp_drop")
# A keypoint that is visible in fewer frames is named before training.
RARELY_VISIBLE = 0.5


@dataclass(frozen=True, eq=False)
class Part:
    """Clips and their data, side by side."""

    clips: list[Clip]
    data: list[ClipData]

    @property
    def labels(self) -> list[np.ndarray]:
        return [data.labels for data in self.data]

    @property
    def n_frames(self) -> int:
        return sum(len(data.labels) for data in self.data)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """train, val: by the split, whose test recordings are in neither. train_sample: training clips with about as many
    frames as val, to compare losses on.

    class_counts (N,): labelled training frames. boost (N,): how much more often windows with a class are drawn.
    tracked_by: as in Trained.
    """

    merge: Merge
    split: Split
    train: Part
    train_sample: Part
    val: Part
    class_counts: np.ndarray
    boost: np.ndarray
    original_classes: tuple[str, ...]
    network_config: NetworkConfig
    preprocess: dict[str, Any]
    tracked_by: tuple[str, ...]


def prepare(cache: Cache, settings: TrainSettings, say: Callable[[str], None]) -> TrainingData:
    """Reads keypoints and labels of all clips, splits, counts, and says what a user should know before a long run.

    Raises SettingsError, SplitError or CacheError where the cache cannot be trained on as asked.
    """
    shown = common_picture(cache.recordings, settings.encoder)
    check_settings(settings, cache.class_names)
    merge = make_merge(cache.class_names, settings.merge)
    whole = Part(list(cache), load_clips(cache, merge, settings.kp_likelihood_thr))
    _say_visible(whole, cache.keypoint_names, settings.kp_likelihood_thr, say)
    if settings.aug_hflip:
        learned = merge.names if settings.learns_behaviour else ()
        for warning in mirror_warnings(f"--aug-hflip {settings.aug_hflip:g}", cache.keypoint_names, learned):
            say(f"{warning}, or leave it at 0")
    _check_time(whole, settings)
    if settings.logit_adjust and settings.class_weight_power and settings.learns_behaviour:
        say(
            f"[warning] --logit-adjust {settings.logit_adjust:g} and --class-weight-power "
            f"{settings.class_weight_power:g} both make up for rare classes; use one of them"
        )
    split = _split(whole, merge.names, settings, say)
    if not settings.learns_behaviour:
        say("[info] --model-type keypoints: labels help to choose what is held out, and nothing is learned from them")
        # A settings file is often that of the run which begins with this one.
        if idle := [f"--{flag(name)}" for name in OF_BEHAVIOUR if getattr(settings, name)]:
            say(f"[warning] --model-type keypoints learns no behaviour: {', '.join(idle)} does nothing here")
        whole = _without_labels(whole)
    train, val = _part(whole, split.train), _part(whole, split.val)
    counts = class_counts(train.labels, len(merge.names))
    for name, part in (("training", train), ("validation", val)):
        if part is train or part.clips:
            _check_learnable(part, name, settings)
    shares = counts / max(1, counts.sum())
    return TrainingData(
        merge=merge,
        split=split,
        train=train,
        train_sample=_sample(train, val, settings.seed),
        val=val,
        class_counts=counts,
        boost=rare_boost(shares, settings.rare_threshold_share, settings.rare_boost_cap),
        original_classes=cache.class_names,
        network_config=network_config(settings, cache.keypoint_names, merge, shown, say),
        preprocess=shown.settings,
        tracked_by=tuple(sorted(set(networks_of((clip.recording, clip.meta.dlc) for clip in train.clips).values()))),
    )


def _check_time(whole: Part, settings: TrainSettings) -> None:
    """Raises SettingsError where the recordings don't tell the time that is to be shown."""
    if settings.time_input == "stimulus" and not any(np.isfinite(data.when[:, 2]).any() for data in whole.data):
        raise SettingsError("--time-input stimulus: no annotation has a StimFrame")
    if settings.time_input == "entry" and not any(np.isfinite(data.when[:, 3]).any() for data in whole.data):
        raise SettingsError(
            "--time-input entry: no recording shows several animals together; it is for keypoints that are named "
            "<animal>_<bodypart>, of two animals or more"
        )
    if settings.time_input == "entry" and len({clip.recording for clip in whole.clips}) < len(whole.clips):
        raise SettingsError(
            "--time-input entry: is counted in whole recordings, and some have several trials here; preprocess with "
            "--trial-frames 0"
        )


def keep_frames(data: TrainingData, wanted: Keep, device: torch.device, say: Callable[[str], None]) -> TrainingData:
    """The same with its frames kept as --keep says (see `pipeline.train.keep`)."""
    if data.network_config.encoder == "none":
        return data
    clips = [*data.train.clips, *data.val.clips]
    chosen, line = keep.choose(wanted, clips, device)
    say(line)
    kept = {clip: keep.kept(clip, chosen, device) for clip in clips}  # the sample's are among training's, and shared
    train, sample, val = (
        Part([kept[clip] for clip in part.clips], part.data) for part in (data.train, data.train_sample, data.val)
    )
    return dataclasses.replace(data, train=train, train_sample=sample, val=val)


def common_picture(recordings: Sequence[RecordingMeta], encoder: str) -> RecordingMeta:
    """A recording that stands for all; raises CacheError where frames are missing or of several sizes."""
    if not recordings:
        raise CacheError("the cache has no clips; see skipped.csv in it for the reasons")
    if encoder == "none":
        return recordings[0]
    pose_only = [meta.recording for meta in recordings if not meta.has_frames]
    if pose_only:
        raise CacheError(
            f"{len(pose_only)} recordings have no video (for example {pose_only[0]}), which --encoder {encoder} needs; "
            "use --encoder none for pose alone"
        )
    shapes = {meta.frame_shape: meta.recording for meta in recordings}
    if len(shapes) > 1:
        found = ", ".join(f"{shape[0]} px with {shape[2]} channels ({name})" for shape, name in shapes.items())
        raise CacheError(f"the recordings differ in their frames: {found}; preprocess all with the same settings")
    return recordings[0]


def label_counts(whole: Part, n_classes: int) -> tuple[list[str], np.ndarray]:
    """The recordings, sorted, and the labelled frames (recordings, n_classes) that each has of each class."""
    labels_of: dict[str, list[np.ndarray]] = {}
    for clip, data in zip(whole.clips, whole.data, strict=True):
        labels_of.setdefault(clip.recording, []).append(data.labels)
    names = sorted(labels_of)
    return names, np.array([class_counts(labels_of[name], n_classes) for name in names])


def _split(whole: Part, class_names: Sequence[str], settings: TrainSettings, say: Callable[[str], None]) -> Split:
    names, counts = label_counts(whole, len(class_names))
    if settings.split_file:
        split = load_split(Path(settings.split_file), names, val_needed=settings.val_share > 0)
        if settings.group_by:  # a file that has one animal on both sides is refused
            split = dataclasses.replace(split, groups={name: group_of(name, settings.group_by) for name in names})
    else:
        groups = [group_of(name, settings.group_by) for name in names]
        split = make_split(names, groups, counts, settings.val_share, settings.seed)
    if not split.val:
        why = "a single recording cannot be held out of its own training" if len(names) == 1 else "nothing is held out"
        say(
            f"[warning] {why}: there are no validation scores, early stopping and the plateau schedule have nothing "
            "to go by, and the last epoch's model is kept"
        )
    if not settings.learns_behaviour:
        return split
    for part, missing in missing_classes(split, names, counts, class_names).items():
        if part == "val" and not split.val:
            continue
        where = {"train": "training", "val": "validation"}[part]
        if missing:
            say(f"[warning] {where} has no frame of {', '.join(missing)}: no F1 of these means anything in this run")
    return split


def _without_labels(whole: Part) -> Part:
    data = [dataclasses.replace(clip, labels=np.full_like(clip.labels, UNLABELLED)) for clip in whole.data]
    return Part(whole.clips, data)


def _check_learnable(part: Part, name: str, settings: TrainSettings) -> None:
    """Raises SplitError where a part holds nothing of what is learned."""
    if settings.learns_behaviour and not any((labels >= 0).any() for labels in part.labels):
        raise SplitError(f"no labelled frame in the {name} recordings; annotate some, or change the split")
    if not settings.learns_behaviour and not any(data.visible.any() for data in part.data):
        raise SplitError(
            f"no visible keypoint in the {name} recordings; lower --kp-likelihood-thr, or change the split"
        )


def _part(whole: Part, names: Sequence[str]) -> Part:
    chosen = set(names)
    pairs = [(c, d) for c, d in zip(whole.clips, whole.data, strict=True) if c.recording in chosen]
    return Part([clip for clip, _ in pairs], [data for _, data in pairs])


def _sample(train: Part, val: Part, seed: int) -> Part:
    """Random training clips until they have as many frames, and as many labelled ones if any are, as validation."""
    order = np.random.default_rng(seed).permutation(len(train.clips))
    frames = np.cumsum([len(train.data[i].labels) for i in order])
    labelled = np.cumsum([(train.data[i].labels >= 0).sum() for i in order])
    wanted = max(1, sum(int((labels >= 0).sum()) for labels in val.labels)) if labelled.any() else 0
    enough = max(np.searchsorted(frames, val.n_frames), np.searchsorted(labelled, wanted)) + 1
    chosen = sorted(order[:enough])
    return Part([train.clips[i] for i in chosen], [train.data[i] for i in chosen])


def network_config(
    settings: TrainSettings,
    keypoint_names: tuple[str, ...],
    merge: Merge,
    shown: RecordingMeta,
    say: Callable[[str], None],
) -> NetworkConfig:
    """Of a model of these keypoints and classes, and frames as those of `shown`. Raises SettingsError, PoseError and
    PoseFeaturesError where the keypoints cannot be used as the settings say."""
    pose_names = parse_map(settings.pose_names, "pose_names")
    _say_pose(keypoint_names, pose_names, settings.pose_features, say)
    with_patches = settings.patch_size > 0 and settings.learns_behaviour
    _say_idle(settings, keypoint_names, with_patches, say)
    if settings.encoder == "none" and settings.model_type == "multitask":
        say("[info] --encoder none: there are no frames to find keypoints in, so the model learns the behaviour alone")
    if settings.view == "animal":
        check_keypoints(keypoint_names)
    return NetworkConfig(
        n_classes=len(merge.names),
        keypoint_names=keypoint_names,
        pose_names=pose_names,
        channels=shown.channels,
        img_size=shown.geometry.img_size,
        encoder=settings.encoder,
        encoder_width=settings.encoder_width,
        frame_change=settings.frame_change,
        view=settings.view,
        view_size=settings.view_size,
        view_span=settings.view_span,
        patch_size=settings.patch_size if with_patches else 0,
        patch_span=settings.patch_span,
        patch_keypoints=looked_at(settings.patch_keypoints, keypoint_names, pose_names) if with_patches else (),
        pose_features=settings.pose_features,
        pose_windows=parse_lengths(settings.pose_windows, "pose_windows"),
        time_input=settings.time_input,
        pose_width=settings.pose_width,
        tcn_channels=settings.tcn_channels,
        tcn_layers=settings.tcn_layers,
        tcn_kernel=settings.tcn_kernel,
        tcn_stride=settings.tcn_stride,
        refine_stages=settings.refine_stages,
        dropout=settings.dropout,
        head_dropout=settings.head_dropout,
        multitask=settings.multitask,
        boundary=settings.lambda_boundary > 0 and settings.learns_behaviour,
    )


def _say_idle(
    settings: TrainSettings, keypoint_names: Sequence[str], with_patches: bool, say: Callable[[str], None]
) -> None:
    """Names settings that change nothing beside the others, or with these keypoints."""
    if settings.aug_swap and len(animals(keypoint_names)) == 1:
        say(
            f"[warning] --aug-swap {settings.aug_swap:g} changes nothing: by their names all keypoints are one animal's"
        )
    if not settings.patch_size and (idle := _changed(settings, OF_PATCHES)):
        say(f"[warning] --patch-size 0: {', '.join(idle)} does nothing")
    if not settings.frame_change and settings.encoder != "cnn" and not with_patches:
        say(f"[warning] --no-frame-change changes nothing: --encoder {settings.encoder} is shown no changes")
    nothing_told = settings.pose_features == settings.time_input == "none" and not with_patches
    if nothing_told and (idle := _changed(settings, OF_TOLD_POSE)):
        say(f"[warning] --pose-features none: {', '.join(idle)} does nothing")


def _changed(settings: TrainSettings, names: Sequence[str]) -> list[str]:
    """The flags of those that are not at their defaults."""
    defaults = TrainSettings()
    return [f"--{flag(name)}" for name in names if getattr(settings, name) != getattr(defaults, name)]


def _say_visible(whole: Part, keypoint_names: Sequence[str], likelihood_thr: float, say: Callable[[str], None]) -> None:
    """Warns of keypoints that are hardly ever visible: too high a threshold takes the pose away without an error."""
    share_K = np.concatenate([data.visible for data in whole.data]).mean(axis=0)
    rare = [
        f"{name} {share:.0%}" for name, share in zip(keypoint_names, share_K, strict=True) if share < RARELY_VISIBLE
    ]
    if rare:
        say(
            f"[warning] visible in few frames: {', '.join(rare)}; the others count as missing "
            f"(--kp-likelihood-thr {likelihood_thr:g}: lower it if the tracking is better than that)"
        )


def _say_pose(
    keypoint_names: tuple[str, ...], pose_names: dict[str, str], features: str, say: Callable[[str], None]
) -> None:
    layout = pose_graph.layout(keypoint_names, pose_names)
    if layout.missing and features == "auto":
        say(
            f"[info] the pose graph lacks {', '.join(layout.missing)}; the keypoints are {', '.join(keypoint_names)}; "
            "name them with --pose-names to use it. Motion features, which need no names, are used"
        )
    made = pose_set(keypoint_names, pose_names, features)
    if made.groups is not None and len(made.groups) > 1:
        firsts = ", ".join(keypoint_names[group[0]] for group in made.groups)
        say(f"[info] {len(made.groups)} animals of {len(made.groups[0])} keypoints each, by their names ({firsts} ...)")
