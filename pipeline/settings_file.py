"""The lab's TOML file of settings, and what it says of Slurm."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import SettingsError
from pipeline.train_settings import TrainSettings

SLURM = "slurm"  # its table in the file; all others hold settings


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read as TOML settings: {error}") from None


def read_slurm(path: Path | None) -> dict[str, Any]:
    """The table [slurm] of a settings file: what dask_jobqueue.SLURMCluster is given. Raises SettingsError without."""
    found = _content(path).get(SLURM) if path else None
    if not isinstance(found, dict):
        example = 'cores = 4, memory = "16GB", walltime = "04:00:00"'
        raise SettingsError(f"--slurm: how its jobs are is missing; in the file of --config write [{SLURM}], {example}")
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """Keys and values of a settings file, flat or in tables named by group; - and _ are the same in a name.

    [slurm] is no table of settings: `read_slurm` reads it.

    Raises SettingsError for a file that is not TOML and for a key that is no setting.
    """
    flat: dict[str, Any] = {}
    for key, value in _content(path).items():
        if key == SLURM:
            continue
        flat |= value if isinstance(value, dict) else {key: value}
    flat = {key.replace("-", "_"): value for key, value in flat.items()}
    known = {f.name for cls in (PreprocessSettings, TrainSettings) for f in dataclasses.fields(cls)}
    for key in flat:
        if key not in known:
            raise SettingsError(f"{path}: {key!r} is no setting; the settings are: {', '.join(sorted(known))}")
    return flat
