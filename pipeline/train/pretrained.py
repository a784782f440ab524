"""The frame encoder of a model that was trained before, which another begins with (--init-from)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.model import checkpoint
from pipeline.model.checkpoint import CheckpointError
from pipeline.model.network import Network
from pipeline.train.run_folder import BEST, SPLIT, read_record
from pipeline.train.split import Split, read_split, some

_PREFIX = "encoder."  # of its weights in those of a network
_PATCHES = "patches.encoder."  # of those of what sees the patches


def checkpoint_of(given: str) -> Path:
    """The file that --init-from names; a folder stands for the best model of the run in it."""
    path = Path(given)
    return path / BEST if path.is_dir() else path


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The network's configuration and the weights of its encoder. Raises CheckpointError."""
    try:
        content = checkpoint.load(path)
    except CheckpointError as error:
        raise CheckpointError(f"--init-from: {error}") from None
    config, weights = content.get("network_config", {}), content.get("weights", {})
    found = {name.removeprefix(_PREFIX): w for name, w in weights.items() if name.startswith(_PREFIX)}
    if not found:
        raise CheckpointError(f"--init-from {path}: its model looks at no frames, so it has no encoder to begin with")
    return config, found


def take_over(path: Path, network: Network) -> None:
    """Gives the network the encoder of a checkpoint, with the maps by which it sees keypoints. Raises CheckpointError.

    The rest of the network stays as it is: what moves the keypoints from where they are seen goes by features in time.
    """
    config, weights = read(path)
    if differences := _differences(config, vars(network.config)):
        raise CheckpointError(f"--init-from {path}: its encoder does not fit; {'; '.join(differences)}")
    assert network.encoder is not None
    try:
        network.encoder.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"--init-from {path}: its encoder does not fit: {reason}") from None
    _take_over_patches(path, network)


def _take_over_patches(path: Path, network: Network) -> None:
    """What sees the patches too, where both networks look at the same ones; it stays as it is where they do not."""
    if network.patches is None:
        return
    content = checkpoint.load(path)
    alike = ("patch_size", "patch_span", "patch_keypoints")
    if any(content["network_config"].get(name) != getattr(network.config, name) for name in alike):
        return
    found = {name.removeprefix(_PATCHES): w for name, w in content["weights"].items() if name.startswith(_PATCHES)}
    network.patches.encoder.load_state_dict(found)


def seen_by(path: Path, *, chosen_by: bool = True) -> set[str] | None:
    """The recordings that a checkpoint was trained on, and those that it began with; None where no split tells.

    chosen_by: those too that its epoch was chosen by. Raises SplitError and RunError for a damaged split or record.
    """
    seen: set[str] = set()
    done: set[Path] = set()
    while path not in done:
        if not (path.parent / SPLIT).is_file():
            return None
        split = read_split(path.parent / SPLIT)
        seen |= {*split.train, *(split.val if chosen_by else ())}
        record = read_record(path.parent)
        given = record.settings.get("init_from") if record else ""
        if not given:
            break
        done.add(path)
        path = checkpoint_of(given)
    return seen


def say_begun(path: Path, split: Split, say: Callable[[str], None]) -> None:
    """Says where the encoder is from, and warns where it was trained on what this run holds out."""
    say(f"[info] begins with the encoder of {path}")
    trained_on = seen_by(path, chosen_by=False)
    if trained_on is None:
        say("[warning] --init-from: no split.csv tells what its encoder was trained on, so scores may be too good")
    elif seen := {*split.val, *split.test} & trained_on:
        say(
            f"[warning] --init-from: its encoder was trained on {len(seen)} recordings that are held out here "
            f"({some(seen, 3)}), so scores may be too good; hold out the same there and here "
            f"(--split-file {path.parent / SPLIT})"
        )


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """What shapes an encoder, or what it sees, and is not the same; a line each. theirs, ours: of a NetworkConfig."""
    said = {
        "encoder": "--encoder",
        "encoder_width": "--encoder-width",
        "channels": "channels of the frames",
        "view": "--view",
    }
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
    elif ours["multitask"] and tuple(theirs["keypoint_names"]) != ours["keypoint_names"]:
        there, here = (", ".join(config["keypoint_names"]) for config in (theirs, ours))
        lines.append(f"keypoints: {there} there, {here} here")
    return lines
