"""The model that --model names: a checkpoint, a run, a cross-validation, or several of these together."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch

from cache import RecordingMeta
from pipeline.file_names import networks_of
from pipeline.model.checkpoint import CheckpointError
from pipeline.model.decision import Decision
from pipeline.model.ensemble import together, with_flips
from pipeline.model.mirror import mirror_warnings
from pipeline.model.trained import Trained, load_trained
from pipeline.train.folds import FOLDS, fold_numbers
from pipeline.train.labels import Merge
from pipeline.train.run_folder import BEST, DECISION, read_record


def load_models(paths: Sequence[Path], device: torch.device | str = "cpu") -> Trained:
    """The mean of all models named. Raises CheckpointError.

    A folder stands for the checkpoint of the run in it, or for those of all folds of a cross-validation. The latter
    alone brings its own decision, which was fitted on what its models say of recordings that they never saw.
    """
    files = checkpoints(paths)
    members = [load_trained(file, device) for file in files]
    for file, member in zip(files, members, strict=True):
        if not member.names_behaviours:
            raise CheckpointError(
                f"{file}: was trained on keypoints alone (--model-type keypoints) and names no behaviour; begin a "
                f"model that does with it: `pipeline train --init-from {file}`"
            )
    trained = together(members, [str(file) for file in files])
    if len(paths) == 1 and (paths[0] / DECISION).is_file():
        return dataclasses.replace(trained, decision=_read_decision(paths[0] / DECISION, trained.class_names))
    return trained


def flipped(trained: Trained, say: Callable[[str], object]) -> Trained:
    """The model with --flips; warns where it never saw a mirror, and of what one leaves on the wrong side."""
    if not trained.train.get("aug_hflip"):
        say("[warning] --flips: the model was trained without --aug-hflip, and has never seen a mirror image")
    for warning in mirror_warnings("--flips", trained.keypoint_names, trained.class_names):
        say(f"{warning}, or leave it out")
    return with_flips(trained)


def checkpoints(paths: Sequence[Path]) -> list[Path]:
    """The files that the paths stand for, as in `load_models`. Raises CheckpointError for a folder without any."""
    return [file for path in paths for file in _checkpoints_of(path)]


def _checkpoints_of(path: Path) -> list[Path]:
    """The files that a path stands for. Raises CheckpointError for a folder without any."""
    if not path.is_dir():
        return [path]
    if (path / BEST).is_file():
        return [path / BEST]
    if not (path / FOLDS).is_file():
        raise CheckpointError(f"{path}: holds neither {BEST} nor {FOLDS}; expected a run or a cross-validation")
    folders = {number: path / f"fold-{number}" for number in fold_numbers(path / FOLDS)}
    if undone := [number for number, folder in folders.items() if not _is_finished(folder)]:
        raise CheckpointError(
            f"{path}: not all folds are trained (missing: {', '.join(map(str, undone))}); "
            "the same `pipeline cross-validate` goes on, or give the models one by one"
        )
    return [folder / BEST for folder in folders.values()]


def _is_finished(run: Path) -> bool:
    record = read_record(run)
    return record is not None and record.finished and (run / BEST).is_file()


def misfit(trained: Trained, meta: RecordingMeta) -> str:
    """Why the model cannot be used on a recording, or an empty string."""
    if meta.keypoint_names != trained.keypoint_names:
        return (
            f"its keypoints are {', '.join(meta.keypoint_names)}; the model was trained on "
            f"{', '.join(trained.keypoint_names)}"
        )
    if trained.network.encoder is None:
        return ""
    if not meta.has_frames:
        return "it has no video, and the model looks at frames"
    config = trained.network.config
    expected = (config.img_size, config.img_size, config.channels)
    if meta.frame_shape != expected:
        return f"its frames are {_shape(meta.frame_shape)}; the model was trained on {_shape(expected)}"
    return ""


def warn_of_networks(trained: Trained, recordings: Iterable[RecordingMeta], say: Callable[[str], object]) -> None:
    """Says of which recordings the keypoints are by another network than those that the model was trained on."""
    found = networks_of((meta.recording, meta.dlc) for meta in recordings)
    others = {recording: network for recording, network in found.items() if network not in trained.tracked_by}
    if others and trained.tracked_by:
        shown = ", ".join(list(others)[:5]) + (", ..." if len(others) > 5 else "")
        theirs, known = ", ".join(sorted(set(others.values()))), ", ".join(trained.tracked_by)
        say(
            f"[warning] keypoints of {len(others)} recordings ({shown}) are by {theirs}; the model was trained on "
            f"those of {known}. Each network has errors of its own, so the model may do worse than its scores say; "
            "track them with the same one"
        )


def merge_of(trained: Trained) -> Merge:
    """The model's merged classes."""
    return Merge(trained.class_names, trained.merge_lookup)


def _read_decision(path: Path, class_names: Sequence[str]) -> Decision:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        bias, begin = (tuple(map(float, values[name])) for name in ("bias", "begin"))
        decision = Decision(bias, begin, float(values.get("boundary", 0.0)))
        fits = values["class_names"] == list(class_names)
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{path}: damaged; run `pipeline cross-validate` again, or give the models one by one"
        ) from None
    if not fits or not len(decision.bias) == len(decision.begin) == len(class_names):
        raise CheckpointError(
            f"{path}: is of other classes than the models beside it; run `pipeline cross-validate` again"
        )
    return decision


def _shape(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]} with {shape[2]} channel{'s' if shape[2] > 1 else ''}"
