"""From what a user gives, by flags and in a file, to settings whose values are right."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar, get_type_hints

from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import SettingsError, flag
from pipeline.train_settings import TrainSettings

Settings = TypeVar("Settings", PreprocessSettings, TrainSettings)


def resolve(cls: type[Settings], toml: dict[str, Any], flags: dict[str, Any]) -> Settings:
    """The settings of one stage: the default, over it the TOML file's value, over it the flag (None: not given).

    `toml` and `flags` may hold keys of the other stage; unknown ones are found by `settings_file.read_toml`.
    """
    names = {f.name for f in dataclasses.fields(cls)}
    given = {k: v for k, v in toml.items() if k in names}
    given |= {k: v for k, v in flags.items() if k in names and v is not None}
    return checked(cls(**{name: _typed(cls, name, value) for name, value in given.items()}))


def checked(settings: Settings) -> Settings:
    """The same settings, after checking bounds and choices; no number may be infinite. Raises SettingsError."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    for f in dataclasses.fields(settings):
        value, meta = getattr(settings, f.name), f.metadata
        if meta["choices"] and value not in meta["choices"]:
            options = " or ".join(map(str, meta["choices"]))
            raise SettingsError(f"--{flag(f.name)} {value}: expected {options}")
        for key, sign in signs.items():
            if key in meta and not _within(value, key, meta[key]):
                raise SettingsError(f"--{flag(f.name)} {value}: expected a value {sign} {meta[key]}")
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingsError(f"--{flag(f.name)} {value}: expected a finite number")
    return settings


def _typed(cls: type[Any], name: str, value: Any) -> Any:
    expected = get_type_hints(cls)[name]
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not expected:
        raise SettingsError(f"--{flag(name)} {value!r}: expected {expected.__name__}, found {type(value).__name__}")
    return value


def _within(value: float, key: str, bound: float) -> bool:
    return {"ge": value >= bound, "gt": value > bound, "le": value <= bound, "lt": value < bound}[key]
