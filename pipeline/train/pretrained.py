"""The frame encoder of a model that was trained before, which another begins with (--init-from)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cache import fingerprint
from pipeline.model import checkpoint
from pipeline.model.checkpoint import CheckpointError
from pipeline.model.network import Network
from pipeline.train.run_folder import BEST, SPLIT, RunRecord, read_record
from pipeline.train.split import Split, SplitError, check_pattern, group_of, read_split, some
from pipeline.train_settings import TrainSettings

_PREFIX = "encoder."  # of its weights in those of a network
_PATCHES = "patches.encoder."  # of those of what sees the patches
# Settings that an encoder must have been made with to fit.
SHAPED_BY = frozenset({"encoder", "encoder_width", "frame_change", "view", "view_size", "view_span", "model_type"})
# Of a network's configuration: what shapes its encoder, or what that sees.
_TAKEN = (
    "encoder", "encoder_width", "channels", "img_size", "view", "view_size", "view_span", "multitask", "keypoint_names",
)  # fmt: skip
_OF_PATCHES = ("patch_size", "patch_span", "patch_keypoints")
# In neither, since the weights have other shapes without: a fingerprint of before there was this setting still holds.
_CHANGE = "frame_change"
# Begins the fingerprint of an encoder; one without is of a whole file, as runs of before have it.
_OF_ENCODER = "encoder:"
SEEN = "seen"  # of a checkpoint's content: see `Seen`


@dataclass(frozen=True)
class Seen:
    """Recordings, sorted, that a model's weights were trained on, and those whose scores chose the epoch.

    Those of the encoder that it began with are among them, and of what that one began with.
    """

    trained_on: tuple[str, ...]
    chosen_by: tuple[str, ...]

    def __or__(self, other: Seen) -> Seen:
        both = ({*mine, *theirs} for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True))
        return Seen(*(tuple(sorted(names)) for names in both))

    def as_dict(self) -> dict[str, tuple[str, ...]]:
        """Plain values, for a checkpoint."""
        return dataclasses.asdict(self)


def checkpoint_of(given: str) -> Path:
    """The file that --init-from names; a folder stands for the best model of the run in it."""
    path = Path(given)
    return path / BEST if path.is_dir() else path


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The network's configuration, and the weights of its encoder and of what sees its patches."""
    try:
        content = checkpoint.load(path)
    except CheckpointError as error:
        raise CheckpointError(f"--init-from: {error}") from None
    config, weights = {_CHANGE: True} | content.get("network_config", {}), content.get("weights", {})
    taken = {name: weight for name, weight in weights.items() if name.startswith((_PREFIX, _PATCHES))}
    if not _of(taken, _PREFIX):
        raise CheckpointError(f"--init-from {path}: its model looks at no frames, so it has no encoder to begin with")
    return config, taken


def _of(weights: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def take_over(path: Path, network: Network) -> None:
    """Gives the network the encoder of a checkpoint, with the maps by which it sees keypoints. Raises CheckpointError.

    The rest of the network stays as it is: what moves the keypoints from where they are seen goes by features in time.
    """
    config, weights = read(path)
    _check_fit(path, config, vars(network.config))
    assert network.encoder is not None
    try:
        network.encoder.load_state_dict(_of(weights, _PREFIX))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"--init-from {path}: its encoder does not fit: {reason}") from None
    # What sees the patches too, where both look at the same ones; it stays as it is where they do not.
    if network.patches and all(config.get(name) == getattr(network.config, name) for name in (*_OF_PATCHES, _CHANGE)):
        network.patches.encoder.load_state_dict(_of(weights, _PATCHES))


def check(
    settings: TrainSettings, *, channels: int, img_size: int, keypoint_names: tuple[str, ...] | None = None
) -> None:
    """Raises CheckpointError where what --init-from names is missing, damaged or does not fit what a run will have.

    channels, img_size: of the frames. keypoint_names: None where these are not known yet.
    """
    ours = dataclasses.asdict(settings) | {"channels": channels, "img_size": img_size, "multitask": settings.multitask}
    if keypoint_names is not None:
        ours["keypoint_names"] = keypoint_names
    path = checkpoint_of(settings.init_from)
    _check_fit(path, read(path)[0], ours)


def fingerprint_of(path: Path) -> str:
    """Of the encoder that a checkpoint holds: its weights, and what it was made with. Raises CheckpointError."""
    config, weights = read(path)
    names = (*_TAKEN, *(_OF_PATCHES if config.get("patch_size") else ()))
    taken = {name: config[name] for name in names if name in config}
    digest = hashlib.blake2b(json.dumps(taken, sort_keys=True).encode(), digest_size=16)
    for name in sorted(weights):
        weight = weights[name].contiguous()
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.reshape(-1).view(torch.uint8).numpy())
    return _OF_ENCODER + digest.hexdigest()


def fingerprint_now(given: str, former: RunRecord | None) -> str:
    """RunRecord.init_from of a run that begins with what --init-from names. Raises CheckpointError.

    former: of the run that is in its folder. A run that has begun does not need the file again, so where this is gone
    it is what it was; and where it is of a whole file, as it was before, that still counts while the file is the same.
    """
    if not given:
        return ""
    was = former.init_from if former and former.settings.get("init_from") == given else ""
    path = checkpoint_of(given)
    if not path.is_file():
        return was
    if was and not was.startswith(_OF_ENCODER) and was == fingerprint.of_file(path):
        return was
    return fingerprint_of(path)


def seen_by(path: Path, *, chosen_by: bool = True) -> set[str] | None:
    """The recordings that a checkpoint was trained on, and those that it began with; None where that is not known.

    chosen_by: those too that its epoch was chosen by. Raises CheckpointError, and SplitError and RunError for a damaged
    split or record.
    """
    seen = lineage(path)
    return None if seen is None else {*seen.trained_on, *(seen.chosen_by if chosen_by else ())}


def lineage(path: Path, dependents: Set[Path] = frozenset()) -> Seen | None:
    """What a checkpoint says that it has seen; of one that does not, what the files beside it say: None without these.

    dependents: checkpoints that began with this one.
    """
    content = checkpoint.load(path) if path.is_file() else {}
    if SEEN in content:
        try:
            return Seen(**content[SEEN]) if content[SEEN] else None
        except TypeError:
            raise CheckpointError(f"{path}: what it says of the recordings that it has seen is damaged") from None
    if not (path.parent / SPLIT).is_file():
        return None
    record = read_record(path.parent)
    given = record.settings.get("init_from") if record else ""
    begun = checkpoint_of(given) if given else None
    if begun in dependents:
        begun = None
    return _seen(read_split(path.parent / SPLIT), begun, {*dependents, path})


def seen_with(split: Split, begins_with: Path | None) -> Seen | None:
    """What a run has seen that begins with the encoder of a checkpoint; None where it is not known of that."""
    return _seen(split, begins_with, frozenset())


def _seen(split: Split, begins_with: Path | None, dependents: Set[Path]) -> Seen | None:
    own = Seen(split.train, split.val)
    if begins_with is None:
        return own
    before = lineage(begins_with, dependents)
    return None if before is None else own | before


def known(held_out: Iterable[str], seen: Set[str], group_by: str) -> set[str]:
    """Of recordings those that were seen, or whose animal was; group_by: see `split.group_of`. Raises SplitError."""
    check_pattern(group_by)
    animals = {_animal(name, group_by) for name in seen} - {None}
    return {name for name in held_out if name in seen or _animal(name, group_by) in animals}


def _animal(name: str, group_by: str) -> str | None:
    """None where nothing tells: for names of another lab, or of another way to write them."""
    try:
        return group_of(name, group_by) if group_by else None
    except SplitError:
        return None


def say_begun(path: Path, split: Split, group_by: str, say: Callable[[str], None]) -> None:
    """Says where the encoder is from, and warns where it was trained on what this run holds out, or on its animals."""
    say(f"[info] begins with the encoder of {path}")
    trained_on = seen_by(path, chosen_by=False)
    if trained_on is None:
        say("[warning] --init-from: nothing tells what its encoder was trained on, so scores may be too good")
    elif seen := known([*split.val, *split.test], trained_on, group_by):
        what = "animals of " if seen - trained_on else ""
        say(
            f"[warning] --init-from: its encoder was trained on {what}{len(seen)} recordings that are held out here "
            f"({some(seen, 3)}), so scores may be too good; hold out the same there and here "
            f"(--split-file {path.parent / SPLIT})"
        )


def _check_fit(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raises CheckpointError where `_differences` finds any."""
    if differences := _differences(theirs, ours):
        raise CheckpointError(f"--init-from {path}: its encoder does not fit; {'; '.join(differences)}")


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """What shapes an encoder, or what it sees, and is not the same; a line each. theirs, ours: of a NetworkConfig, ours
    maybe without keypoint_names."""
    said = {
        "encoder": "--encoder",
        "encoder_width": "--encoder-width",
        "channels": "channels of the frames",
        "view": "--view",
    }
    if ours["encoder"] == "cnn":
        said[_CHANGE] = "--frame-change"
    own_view = ours["view"] == theirs.get("view") == "animal"
    said |= {"view_size": "--view-size", "view_span": "--view-span"} if own_view else {"img_size": "pixels of a frame"}
    lines = [
        f"{what}: {theirs.get(name)} there, {ours[name]} here"
        for name, what in said.items()
        if theirs.get(name) != ours[name]
    ]
    if bool(theirs.get("multitask")) != ours["multitask"]:
        places = {True: "places keypoints", False: "places none (--model-type action_only; --lambda-kp 0 trains alike)"}
        lines.append(f"it {places[bool(theirs.get('multitask'))]}, this one {places[ours['multitask']]}")
    elif ours["multitask"] and "keypoint_names" in ours and tuple(theirs["keypoint_names"]) != ours["keypoint_names"]:
        there, here = (", ".join(config["keypoint_names"]) for config in (theirs, ours))
        lines.append(f"keypoints: {there} there, {here} here")
    return lines
