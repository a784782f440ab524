"""One-hot tables: a row per frame of the whole recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.export.formats import Format
from pipeline.export.stage import Asked, export
from pipeline.setting_texts import SettingsError
from tables_lab import CLASSES


def test_labels_come_back_from_every_frame_of_the_video(filmed, tmp_path: Path) -> None:
    export(Asked(Format.ONEHOT, filmed.predicted), tmp_path)
    table = pd.read_csv(tmp_path / "onehot" / "m_1M.csv")
    assert tuple(table) == ("Frame", *CLASSES)
    np.testing.assert_array_equal(table["Frame"], np.arange(130))
    hot = table[list(CLASSES)].to_numpy()
    assert set(np.unique(hot)) == {0, 1}
    np.testing.assert_array_equal(np.where(hot.sum(axis=1) == 1, hot.argmax(axis=1), -1), filmed.said)


def test_deepethogram_s_background_comes_first(filmed, tmp_path: Path) -> None:
    export(Asked(Format.ONEHOT, filmed.predicted, background="rest"), tmp_path)
    table = pd.read_csv(tmp_path / "onehot" / "m_1M.csv")
    assert tuple(table) == ("Frame", "background", "lick", "walk")
    np.testing.assert_array_equal(table["background"] == 1, filmed.said == 0)
    np.testing.assert_array_equal((table.iloc[:, 1:] == -1).all(axis=1), filmed.said == -1)
    with pytest.raises(SettingsError, match="--background sleep: expected one of rest, lick, walk"):
        export(Asked(Format.ONEHOT, filmed.predicted, background="sleep"), tmp_path)
