"""A row per frame and a column of 0 and 1 per class, as DeepEthogram and SimBA hold labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.export.recordings import Recording
from pipeline.setting_texts import SettingsError
from pipeline.train.run_folder import write_text

BACKGROUND = "background"


def one_hot_table(recording: Recording, background: str = "") -> pd.DataFrame:
    """Column Frame, of the video, and one per class; all 0 in a frame without a label.

    background: the class whose column comes first and is called background, as DeepEthogram wants it; a frame without a
    label is then -1, as there.
    """
    names = recording.class_names
    labels = recording.labels
    hot = (labels[:, None] == np.arange(len(names))).astype(np.int8)
    if background:
        hot[labels < 0] = -1
    columns = {BACKGROUND if name == background else name: hot[:, i] for i, name in enumerate(names)}
    first = {BACKGROUND: columns[BACKGROUND]} if background else {}
    return pd.DataFrame({"Frame": np.arange(recording.n_frames)} | first | columns)


def write_one_hot(recording: Recording, path: Path, background: str = "") -> None:
    """STEM.csv, whole or not at all."""
    write_text(path, one_hot_table(recording, background).to_csv(index=False, lineterminator="\n"))


def check_background(background: str, class_names: tuple[str, ...]) -> None:
    """Raises SettingsError where --background names no class, or would make two columns of one name."""
    if background and background not in class_names:
        raise SettingsError(f"--background {background}: expected one of {', '.join(class_names)}")
    if background not in ("", BACKGROUND) and BACKGROUND in class_names:
        raise SettingsError(f"--background {background}: there is a class {BACKGROUND} already; give that one")
