"""The folder of a run: its files' names, what it was made from, and whether that is still so."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cache import Place, RecordingMeta
from cache.remote import Remote
from pipeline.held import is_lock
from pipeline.train_settings import TrainSettings

BEST = "best_model_multitask.pt"
LAST = "last.pt"
HISTORY = "history.csv"
SPLIT = "split.csv"
RECORD = "run.json"
DECISION = "decision.json"
_TMP = ".tmp-"
PICTURES = "pictures"

# Settings that change how long a run goes on, not what its epochs compute: --resume may change them.
LENGTH_SETTINGS = frozenset({"epochs", "early_stopping_patience"})
# Settings that change where a run computes, not what.
PLACE_SETTINGS = frozenset({"device"})
# Settings of what is done with the trained model: a run of others is gone on with, without training.
AFTER_SETTINGS = frozenset({"decision"})


class RunError(ValueError):
    """A run cannot be resumed or started; the message says why and what to do."""


@dataclass(frozen=True)
class RunRecord:
    """What a run is made from. recordings: name -> fingerprints of frames, keypoints and labels.

    split_file: fingerprint of what the file holds that --split-file names, empty without one. init_from: likewise of
    the encoder that --init-from names (see `pretrained.fingerprint_now`). parts: version of the code of what only these
    settings use, 1 where it is not named.
    """

    settings: dict[str, Any]
    recordings: dict[str, dict[str, str]]
    code: int
    split_file: str = ""
    init_from: str = ""
    finished: bool = False
    parts: dict[str, int] = field(default_factory=dict)

    def differences(self, other: RunRecord) -> list[str]:
        """What `other` was made from that this was not, one line each; empty: the same result would come out."""
        changed = [
            name
            for name in sorted(self.settings.keys() | other.settings.keys())
            if name not in PLACE_SETTINGS | AFTER_SETTINGS and self.settings.get(name) != other.settings.get(name)
        ]
        lines = [f"{name}: {self.settings.get(name)} -> {other.settings.get(name)}" for name in changed]
        lines += _recording_differences(self.recordings, other.recordings)
        if self.split_file != other.split_file and self.settings.get("split_file") == other.settings.get("split_file"):
            lines.append("what the split file holds")
        if self.init_from != other.init_from and self.settings.get("init_from") == other.settings.get("init_from"):
            lines.append("the encoder that --init-from names")
        if self.code != other.code:
            lines.append(f"version of the training code: {self.code} -> {other.code}")
        # Runs of other settings may not both use a part.
        parts = () if set(changed) - LENGTH_SETTINGS else sorted(self.parts.keys() | other.parts.keys())
        for part in parts:
            old, new = self.parts.get(part, 1), other.parts.get(part, 1)
            if old != new:
                lines.append(f"version of the code of --{part}: {old} -> {new}")
        return lines


def made_from(settings: dict[str, Any], recordings: Iterable[RecordingMeta]) -> dict[str, dict[str, str]]:
    """RunRecord.recordings of a run of these settings: of each recording the fingerprints of what shapes the model.

    Labels don't where keypoints alone are learned and a file says what is held out.
    """
    ignored = {"labels"} if settings.get("model_type") == "keypoints" and settings.get("split_file") else set()
    return {
        meta.recording: {array: found for array, found in meta.fingerprints.items() if array not in ignored}
        for meta in recordings
    }


def read_record(out: Path) -> RunRecord | None:
    """The record of the run in `out`, None where there is none. Raises RunError for a damaged one."""
    path = out / RECORD
    if not path.exists():
        return None
    try:
        record = RunRecord(**json.loads(path.read_text(encoding="utf-8")))
        return replace(record, settings=with_defaults(record.settings))
    except (OSError, ValueError, TypeError):
        raise RunError(f"{path}: damaged; use another --out, or --force to train again") from None


def with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that were written when there were fewer: a new one's default does what was done without it."""
    return asdict(TrainSettings()) | settings


def write_record(out: Path, record: RunRecord) -> None:
    """Writes run.json beside and moves it into place."""
    write_text(out / RECORD, json.dumps(vars(record), indent=1, sort_keys=True))


def write_text(path: Path, text: str) -> None:
    """Writes a file in UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all: beside, and then moved into place."""
    write_blocks(path, [content])


def is_too_long(name: str) -> bool:
    """Whether file systems refuse a file of this name, or what is written beside it first: they allow 255 bytes."""
    return len(os.fsencode(_beside(name))) > 255


def _beside(name: str) -> str:
    return f"{_TMP}{name}"


def write_blocks(path: Path, blocks: Iterable[bytes]) -> None:
    """`write_bytes` of a file that is never whole in memory."""
    beside = path.with_name(_beside(path.name))
    with beside.open("wb") as file:
        for block in blocks:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def set_aside(out: Path) -> Path:
    """Moves a former run to OUT.old-1 (or the next free number), so that nothing is lost; returns where it went."""
    out, number = out.resolve(), 1
    while (aside := out.with_name(f"{out.name}.old-{number}")).exists():
        number += 1
    out.rename(aside)
    return aside


def check_folder(out: Path, settings: dict[str, Any], *, cache: Place, resume: bool, force: bool) -> None:
    """Raises RunError where `out` cannot take a run of these settings, whatever the cache will hold."""
    if force and resume:
        raise RunError("--force trains anew and --resume goes on: give one of them")
    check_apart(out, cache)
    if (begun := settings.get("init_from")) and Path(begun).resolve().is_relative_to(out.resolve()):
        raise RunError(f"--init-from {begun}: lies in --out {out}, which this run replaces; choose another --out")
    if holds_files(out) and not (out / RECORD).exists():
        raise RunError(f"--out {out}: holds files that are not of a run; choose an empty or a new folder")
    if resume:
        former = read_record(out)
        if former is None:
            raise RunError(f"--resume: there is no run in {out}")
        refuse_others(out, former.differences(replace(former, settings=settings)))


def check_apart(out: Path, cache: Place) -> None:
    """Raises RunError where the cache lies in the folder, or the copy of one in an object store."""
    if isinstance(cache, Path) and cache.resolve().is_relative_to(out.resolve()):
        raise RunError(f"--out {out}: the cache lies in it; choose another folder")
    if isinstance(cache, Remote) and cache.copy and cache.copy.resolve().is_relative_to(out.resolve()):
        raise RunError(f"--out {out}: --cache-copy {cache.copy} lies in it; choose another folder")


def holds_files(out: Path) -> bool:
    """Whether a folder is there with anything in it but locks, and what a kill left half written."""
    return out.exists() and any(not (path.name.startswith(_TMP) or is_lock(path.name)) for path in out.iterdir())


def is_up_to_date(out: Path, record: RunRecord) -> bool:
    """Whether the same run has been made, and is finished."""
    former = read_record(out)
    if not (former and former.finished and (out / BEST).exists()) or former.differences(record):
        return False
    return all(former.settings.get(name) == record.settings.get(name) for name in AFTER_SETTINGS)


def would_go_on(out: Path, record: RunRecord, *, resume: bool, force: bool) -> bool:
    """Whether `goes_on` will find an epoch to go on from, or refuse: where it was made from something else."""
    former = None if force else read_record(out)
    return former is not None and (out / LAST).exists() and (resume or not former.differences(record))


def goes_on(out: Path, record: RunRecord, *, resume: bool, force: bool, say: Callable[[str], None]) -> bool:
    """Whether the run in `out` is gone on with; one that must not be is moved aside. For what is not up to date."""
    if force and (out / RECORD).exists():
        say(f"[info] the former run is now in {set_aside(out)}")
    former = read_record(out)
    if former is None:
        return False
    differences = former.differences(record)
    if resume:
        refuse_others(out, differences)
        if not (out / LAST).exists():
            raise RunError(f"--resume: {out} holds no finished epoch; leave --resume out to start")
        _say_other_course(former.settings, record.settings, say)
        return True
    if would_go_on(out, record, resume=False, force=False):
        return True
    for line in differences:
        say(f"[info] changed since the last run: {line}")
    say(f"[info] the former run is now in {set_aside(out)}")
    return False


def refuse_others(out: Path, differences: list[str]) -> None:
    """Raises RunError where --resume would go on with a run of something else."""
    other = [line for line in differences if line.split(":")[0] not in LENGTH_SETTINGS]
    if other:
        raise RunError(f"--resume: {out} was made from something else: {'; '.join(other)}")


def _say_other_course(old: dict[str, Any], new: dict[str, Any], say: Callable[[str], None]) -> None:
    if new["lr_schedule"] == "cosine" and old["epochs"] != new["epochs"]:
        say(
            f"[info] epochs: {old['epochs']} -> {new['epochs']}: the cosine of the learning rate now ends at epoch "
            f"{new['epochs']}, so its course from here on is another, and not that of one run of {new['epochs']} epochs"
        )


def _recording_differences(old: dict[str, dict[str, str]], new: dict[str, dict[str, str]]) -> list[str]:
    lines = []
    for what, names in (("added", new.keys() - old.keys()), ("removed", old.keys() - new.keys())):
        if names:
            lines.append(f"recordings {what}: {_some(names)}")
    for array in ("frames", "keypoints", "labels"):
        changed = {name for name in old.keys() & new.keys() if old[name].get(array) != new[name].get(array)}
        if changed:
            lines.append(f"{array} changed: {_some(changed)}")
    return lines


def _some(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
