"""What a tuning may change: settings with ranges or choices, from a TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pipeline.setting_texts import SettingsError
from pipeline.settings_given import resolve
from pipeline.train_settings import TrainSettings

# Settings that say what is compared, where or on what, and not how well is learned.
FIXED = frozenset({"split_file", "group_by", "merge", "seed", "device", "amp", "val_share"})


@dataclass(frozen=True)
class Range:
    """From low to high, both included; log: each factor is as likely, not each difference."""

    low: float
    high: float
    log: bool = False


Search = dict[str, Range | tuple[Any, ...]]

DEFAULT: Search = {
    "lr": Range(1e-5, 1e-2, log=True),
    "weight_decay": Range(1e-3, 1e-1, log=True),
    "dropout": Range(0.1, 0.5),
    "tcn_channels": (64, 128, 256),
    "tcn_layers": (4, 6, 8),
    "train_T": (90, 180, 345),
    "focal_gamma": Range(0.0, 3.0),
    "class_weight_power": Range(0.0, 1.0),
    "kp_jitter_std": Range(0.005, 0.05, log=True),
}


def read_search(path: Path) -> Search:
    """`name = {low = 1e-4, high = 1e-2, log = true}` or `name = [a, b]`. Raises SettingsError."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read as a TOML search space: {error}") from None
    if not content:
        raise SettingsError(f"{path}: names no setting; expected for example lr = {{low = 1e-4, high = 1e-2}}")
    try:
        return {key.replace("-", "_"): _entry(key.replace("-", "_"), value) for key, value in content.items()}
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def _entry(name: str, value: Any) -> Range | tuple[Any, ...]:
    known = {f.name for f in dataclasses.fields(TrainSettings)} - FIXED
    if name not in known:
        raise SettingsError(f"{name!r} is no setting that can be searched; these are: {', '.join(sorted(known))}")
    if isinstance(value, list) and value:
        _allowed(name, value)
        return tuple(value)
    numeric = get_type_hints(TrainSettings)[name] in (int, float)
    if not (numeric and isinstance(value, dict) and {"low", "high"} <= value.keys() <= {"low", "high", "log"}):
        raise SettingsError(f"{name} = {value}: expected a list of choices, or for a number {{low, high, log}}")
    _allowed(name, [value["low"], value["high"]])
    found = Range(**value)
    if not found.low < found.high or (found.log and found.low <= 0) or not isinstance(found.log, bool):
        raise SettingsError(f"{name} = {value}: expected low < high, and low > 0 where log = true")
    return found


def _allowed(name: str, values: list[Any]) -> None:
    for value in values:
        resolve(TrainSettings, {name: value}, {})
