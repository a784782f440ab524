from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.preprocess.annotations import AnnotationError, read_annotation

CLASSES = ("rest", "walk", "lick")


@pytest.fixture
def annotated(tmp_path: Path):
    def write(content: str | bytes) -> Path:
        path = tmp_path / "prediction_a.mp4_1.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("content", "labels", "frames"),
    [
        pytest.param("Frame,Action\n0,0\n1,2\n2,1\n", [0, 2, 1], [0, 1, 2], id="integers"),
        pytest.param("Frame,Action\n0,rest\n1,lick\n", [0, 2], [0, 1], id="names"),
        pytest.param("Frame,Action\n15.0,1.0\n16.0,2.0\n", [1, 2], [15, 16], id="integers as floats"),
        pytest.param("Frame,Action\n0,\n1,nan\n2,walk\n", [-1, -1, 1], [0, 1, 2], id="empty is not labelled"),
        pytest.param("Action\n1\n0\n", [1, 0], None, id="no Frame column"),
        pytest.param("\ufeffFrame;Action\r\n0;1\r\n1;2\r\n", [1, 2], [0, 1], id="Excel: mark, semicolons"),
        pytest.param("Action\tFrame\nwalk\t0\n", [1], [0], id="tabs, other order"),
        pytest.param("frame, action\n0, walk\n\n\n", [1], [0], id="case, spaces, blank end"),
        pytest.param("Frame,Action\n0,1\n,\n,\n", [1], [0], id="a spreadsheet's empty rows"),
        pytest.param("Action,StimFrame\n1,0\nNA,NA\n2,\n\n", [1, -1, 2], None, id="R's NA, blank end"),
    ],
)
def test_what_an_annotation_says(annotated, content: str, labels: list[int], frames: list[int] | None) -> None:
    found = read_annotation(annotated(content), CLASSES)
    assert found.labels.dtype == np.int16
    assert found.labels.tolist() == labels
    assert (found.frame_column is None) if frames is None else (found.frame_column.tolist() == frames)


@pytest.mark.parametrize(
    "columns", [["Action"], ["Action", "StimFrame"], ["Note", "Action"]], ids=lambda names: "+".join(names)
)
@pytest.mark.parametrize("n_end", [0, 1, 15])
def test_frames_without_a_label_at_the_end_are_frames(tmp_path: Path, columns: list[str], n_end: int) -> None:
    """Or 360 rows whose last 15 have no label would pass for 345, and every label would be 15 frames off."""
    path = tmp_path / "prediction_a.mp4_1.csv"
    labels = [1] * (360 - n_end) + [None] * n_end
    table = pd.DataFrame({name: pd.array(labels, dtype="Int64") if name == "Action" else None for name in columns})
    table.to_csv(path, index=False)
    found = read_annotation(path, CLASSES)
    assert found.labels.tolist() == [1] * (360 - n_end) + [-1] * n_end
    said = f"{path.name}: its last {n_end} rows are empty: they count as frames that are not labelled"
    assert found.notes == ((said,) if n_end else ())


@pytest.mark.parametrize("text", ["1", "1.0", "3", "3.0"])
def test_a_number_among_names_that_are_numbers_is_a_name(annotated, text: str) -> None:
    names = ("2", "3", "1")
    assert read_annotation(annotated(f"Action\n{text}\n"), names).labels.tolist() == [names.index(text[0])]
    with pytest.raises(AnnotationError, match=r"class '0' is not in the class list .*: 0 2, 1 3, 2 1"):
        read_annotation(annotated("Action\n0\n"), names)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("Frame,Action\n0,0\n1,3\n", r"_1\.csv row 3: class '3' is not .*0 rest, 1 walk, 2 lick", id="id"),
        pytest.param("Frame,Action\n0,groom\n", "row 2: class 'groom'", id="name"),
        pytest.param("Frame,Action\n0,Rest\n", "row 2: class 'Rest'", id="case of a name"),
        pytest.param("Frame,Action\n0,-1\n", "row 2: class '-1'", id="negative"),
        pytest.param("Frame,Action\n0,1.5\n", "row 2: class '1.5'", id="half"),
        pytest.param("Frame,Action\n0,inf\n", "row 2: class 'inf'", id="infinite"),
        pytest.param("Frame,Behaviour\n0,1\n", "no column Action, found Frame, Behaviour", id="column"),
        pytest.param("Action,Action\n0,1\n", "2 columns Action", id="two columns"),
        pytest.param("Frame,Action\n0,1\n1\n", "row 3: 1 cells, expected 2", id="cut row"),
        pytest.param("Frame,Action\n0,1\n,2\n", "row 3: Frame '' is not a whole number", id="frame"),
        pytest.param("Frame,Action\n", "no rows below a header", id="header only"),
        pytest.param("", r"is empty \(0 bytes\)", id="empty file"),
        pytest.param(b"Frame,Action\n0,\xe4\n", "is not UTF-8 text", id="encoding"),
        pytest.param("Frame,Action,StimFrame\n0,1,3\n1,1,4\n", "StimFrame 3, 4, expected one", id="two stimuli"),
        pytest.param("Frame,Action,StimFrame\n0,1,soon\n", "StimFrame soon", id="stimulus"),
    ],
)
def test_errors_name_the_file_and_the_row(annotated, content: str | bytes, message: str) -> None:
    path = annotated(content)
    with pytest.raises(AnnotationError, match=message) as error:
        read_annotation(path, CLASSES)
    assert str(path) in str(error.value)


def test_a_missing_file_is_an_annotation_error(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_annotation(tmp_path / "none.csv", CLASSES)


@pytest.mark.parametrize(
    ("cells", "stim"), [(["7", "7"], 7), (["7", ""], 7), (["", ""], None)], ids=["every row", "one row", "none"]
)
def test_stimulus_frame(annotated, cells: list[str], stim: int | None) -> None:
    rows = "".join(f"{i},0,{cell}\n" for i, cell in enumerate(cells))
    assert read_annotation(annotated("Frame,Action,StimFrame\n" + rows), CLASSES).stim_frame == stim


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(st.integers(-1, 2), min_size=1, max_size=40), st.booleans(), st.sampled_from(",;\t"))
def test_what_is_written_is_read(annotated, labels: list[int], names: bool, delimiter: str) -> None:
    texts = ["" if i < 0 else CLASSES[i] if names else str(i) for i in labels]
    rows = [f"Frame{delimiter}Action"] + [f"{i}{delimiter}{text}" for i, text in enumerate(texts)]
    assert read_annotation(annotated("\n".join(rows)), CLASSES).labels.tolist() == labels
