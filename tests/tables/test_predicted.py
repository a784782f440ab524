"""Which columns of a prediction's tables are behaviours: a keypoint may be called as one."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.predict.exports import BOUT_COLUMNS, TABLES
from pipeline.predict.records import ABOUT, BOUTS
from pipeline.report.predicted import of_prediction
from pipeline.tables.predicted import from_predictions, read_class_names
from pipeline.tables.sources import SourceError
from tables_lab import CLASSES, lived, write_predictions

some_names = st.lists(st.sampled_from(["rest", "p_hind", "turn_x", "turn_y", "p_x", "x", "_"]), unique=True)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Predictions by a model of the keypoints p_hind and p_hind_x."""
    folder = write_predictions(tmp_path / "predicted", {"m_1M": [lived((1, 20, 30))]})
    for path in (folder / TABLES).iterdir():
        table = pd.read_csv(path, keep_default_na=False)
        for name in ("p_hind", "p_hind_x"):
            table[[f"{name}_x", f"{name}_y"]] = 7.0
        table.to_csv(path, index=False)
    row = ["m_1M", 1, "lick", 20, 30, 20, 10, 0.3333, 1.0]
    pd.DataFrame([row], columns=list(BOUT_COLUMNS)).to_csv(folder / BOUTS, index=False)
    return folder


@pytest.mark.parametrize("about", [None, {}, {"class_names": list(CLASSES)}, {"class_names": ["other"]}])
def test_a_keypoint_is_no_behaviour(odd: Path, about: dict[str, object] | None) -> None:
    if about is not None:
        (odd / ABOUT).write_text(json.dumps(about))
    assert from_predictions(odd).class_names == CLASSES
    shown = str([section for section in of_prediction(odd).sections if section.title != "Settings of the prediction"])
    assert "lick" in shown
    assert "hind" not in shown


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some_names, some_names)
def test_behaviours_that_are_told_are_read_as_such(tmp_path: Path, classes: list[str], keypoints: list[str]) -> None:
    path = tmp_path / "prediction_a.mp4_1.csv"
    places = [f"{name}_{axis}" for name in keypoints for axis in "xy"]
    columns = ["Frame", "Action", "VideoFrame", "Time_s", *(f"p_{name}" for name in classes), *places]
    path.write_text(",".join(columns) + "\n")
    if classes:
        assert read_class_names(path, tuple(classes)) == tuple(classes)
    else:
        with pytest.raises(SourceError, match="expected the columns Frame, Action, Time_s and p_<class>"):
            read_class_names(path, ())
