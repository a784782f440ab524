from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.preprocess.keypoints import DlcTable, KeypointError, align, read_dlc
from pipeline.preprocess.table_names import header_fault

SINGLE = "scorer,N,N,N,N,N,N\nbodyparts,a,a,a,b,b,b\ncoords,x,y,likelihood,x,y,likelihood\n"


@pytest.fixture
def table(tmp_path: Path):
    def write(content: str | bytes, name: str = "aDLC_n.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def frame_of(columns: list[tuple[str, ...]], rows: list[list[float]], index: list[object]) -> pd.DataFrame:
    levels = ["scorer", "individuals", "bodyparts", "coords"]
    names = levels if len(columns[0]) == 4 else [levels[0], *levels[2:]]
    return pd.DataFrame(rows, index=index, columns=pd.MultiIndex.from_tuples(columns, names=names))


def test_a_table_of_one_animal(table) -> None:
    found = read_dlc(table(SINGLE + "0,1,2,0.5,3,4,0.25\n1,5,6,1,7,8,1\n"))
    assert found.names == ("a", "b")
    assert found.scorer == "N"
    assert found.frames.tolist() == [0, 1]
    assert found.values[0].tolist() == [[1, 2, 0.5], [3, 4, 0.25]]
    assert found.values.dtype == np.float32


def test_several_animals_are_named_apart(table) -> None:
    text = (
        "scorer,N,N,N,N,N,N\nindividuals,m1,m1,m1,m2,m2,m2\nbodyparts,nose,nose,nose,nose,nose,nose\n"
        "coords,x,y,likelihood,x,y,likelihood\n0,1,2,1,3,4,1\n"
    )
    assert read_dlc(table(text)).names == ("m1_nose", "m2_nose")


@pytest.mark.parametrize("n_empty", [1, 3])
def test_empty_first_rows_shift_nothing(table, n_empty: int) -> None:
    rows = "".join(f"{i},,,,,,\n" for i in range(n_empty)) + f"{n_empty},10,20,1,30,40,1\n"
    found = read_dlc(table(SINGLE + rows))
    assert found.frames.tolist() == list(range(n_empty + 1))
    assert np.isnan(found.values[:n_empty]).all()
    assert found.values[n_empty, 0].tolist() == [10, 20, 1]


def test_rows_of_commas_at_the_end_are_no_rows(table) -> None:
    found = read_dlc(table(SINGLE + "0,,,,,,\n1,1,2,1,3,4,1\n,,,,,,\n,,,,,,,\n"))
    assert found.frames.tolist() == [0, 1]


def test_scorers_that_pandas_made_unique(table) -> None:
    text = SINGLE.replace("scorer,N,N,N,N,N,N", "scorer,N,N.1,N.2,N.3,N.4,N.5") + "0,1,2,1,3,4,1\n"
    found = read_dlc(table(text))
    assert (found.names, found.scorer) == (("a", "b"), "N")


def test_columns_are_found_by_name_not_by_place(table) -> None:
    text = "scorer,N,N,N,N,N,N\nbodyparts,b,a,a,b,b,a\ncoords,y,likelihood,x,x,likelihood,y\n0,1,2,3,4,5,6\n"
    found = read_dlc(table(text))
    assert found.names == ("b", "a")
    assert found.values[0].tolist() == [[4, 1, 5], [3, 6, 2]]


@pytest.mark.parametrize("row", ["0,inf,2,1,3,4,1", "0,1,-inf,1,3,4,1", "0,,2,1,3,4,1", "0,NaN,2,0.9,3,4,1"])
def test_a_point_with_a_missing_coordinate_is_no_point(table, row: str) -> None:
    values = read_dlc(table(SINGLE + row + "\n")).values
    assert np.isnan(values[0, 0]).all()
    assert values[0, 1].tolist() == [3, 4, 1]


def test_a_point_at_zero_is_missing(table) -> None:
    found = read_dlc(table(SINGLE + "0,0,0,1,3,4,1\n1,0,5,1,3,4,1\n"))
    assert np.isnan(found.values[0, 0]).all()
    assert found.values[1, 0].tolist() == [0, 5, 1]
    assert "points in the DLC table are exactly (0, 0)" in found.notes[0]


def test_a_table_without_likelihood_says_so(table) -> None:
    found = read_dlc(table("scorer,N,N\nbodyparts,a,a\ncoords,x,y\n0,1,2\n1,,\n"))
    assert found.values[0, 0].tolist() == [1, 2, 1]
    assert np.isnan(found.values[1]).all()
    assert "no likelihood" in found.notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(SINGLE + "0,1,2,1,3,x4,1\n", r"row 4, column b y: 'x4' is not a number", id="cell"),
        pytest.param(SINGLE + "0,1,2,1,3,4,1\n1,1,2,1\n", "row 5: 4 cells, expected 7; is the file cut", id="cut"),
        pytest.param(SINGLE + "0,1,2,1,3,4,1\n0,1,2,1,3,4,1\n", "frame 0 has more than one row", id="double"),
        pytest.param(SINGLE + "a.png,1,2,1,3,4,1\n", "row 4: frame number 'a.png'", id="frame"),
        pytest.param(SINGLE + "-1,1,2,1,3,4,1\n", "frame number -1", id="negative frame"),
        pytest.param(
            SINGLE + "1e30,1,2,1,3,4,1\n", r"frame number '1e30' is not a whole number below 2\^31", id="1e30"
        ),
        pytest.param(SINGLE + ",1,2,1,3,4,1\n", "row 4: frame number ''", id="no frame"),
        pytest.param("scorer\nbodyparts\ncoords\n0\n", "only its first column", id="first column"),
        pytest.param(SINGLE, "no rows below the header", id="no rows"),
        pytest.param("Frame,Action\n0,1\n", "has no DLC header", id="no header"),
        pytest.param(SINGLE.replace("b,b,b", "a,a,a") + "0,1,2,1,3,4,1\n", "a has two columns x", id="twice"),
        pytest.param(
            "scorer,N,N,N,N,N\nbodyparts,a,a,a,b,b\ncoords,x,y,likelihood,x,y\n0,1,2,1,3,4\n",
            "b has no column likelihood, found x, y",
            id="likelihood of one part",
        ),
        pytest.param("scorer,N\nbodyparts,a\ncoords,x\n0,1\n", "a has no column y", id="no y"),
        pytest.param("scorer,N,N\nbodyparts,a\ncoords,x,y\n0,1,2\n", "different lengths", id="ragged header"),
        pytest.param(SINGLE.encode() + b"0,\xff,2,1,3,4,1\n", "is not UTF-8", id="encoding"),
    ],
)
def test_errors_say_where(table, content: str | bytes, message: str) -> None:
    path = table(content)
    with pytest.raises(KeypointError, match=message) as error:
        read_dlc(path)
    assert str(path) in str(error.value)


def test_h5_says_what_csv_says(table, tmp_path: Path) -> None:
    csv_table = read_dlc(table(SINGLE + "0,1,2,0.5,3,4,0.25\n1,,,,7,8,1\n"))
    columns = [("N", part, coord) for part in "ab" for coord in ("x", "y", "likelihood")]
    rows = [[1, 2, 0.5, 3, 4, 0.25], [np.nan, np.nan, np.nan, 7, 8, 1]]
    frame_of(columns, rows, [0, 1]).to_hdf(tmp_path / "a.h5", key="df_with_missing", format="table")
    h5_table = read_dlc(tmp_path / "a.h5")
    assert (h5_table.names, h5_table.scorer) == (csv_table.names, csv_table.scorer)
    np.testing.assert_array_equal(h5_table.values, csv_table.values)
    np.testing.assert_array_equal(h5_table.frames, csv_table.frames)


def test_h5_of_several_animals(tmp_path: Path) -> None:
    columns = [("N", animal, "nose", coord) for animal in ("m1", "m2") for coord in ("x", "y", "likelihood")]
    frame_of(columns, [[1, 2, 1, 3, 4, 1]], [0]).to_hdf(tmp_path / "a.h5", key="df")
    assert read_dlc(tmp_path / "a.h5").names == ("m1_nose", "m2_nose")


@pytest.mark.parametrize(("index", "wrong"), [(["img0.png"], "img0.png"), ([0.5], "0.5")], ids=["name", "half"])
def test_h5_rows_must_be_frames(tmp_path: Path, index: list[object], wrong: str) -> None:
    columns = [("N", "a", coord) for coord in ("x", "y", "likelihood")]
    frame_of(columns, [[1, 2, 1]], index).to_hdf(tmp_path / "a.h5", key="df")
    with pytest.raises(KeypointError, match=f"frame number '?{wrong}'? is not a whole number"):
        read_dlc(tmp_path / "a.h5")


@pytest.mark.parametrize("kind", ["fixed", "table"])
def test_a_damaged_h5_is_an_error_of_its_own(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.h5"
    columns = [("N", "a", coord) for coord in ("x", "y", "likelihood")]
    frame_of(columns, [[1, 2, 1]] * 50, list(range(50))).to_hdf(path, key="df", format=kind)
    whole, n_errors = path.read_bytes(), 0
    for place in range(800, len(whole), len(whole) // 12):
        path.write_bytes(whole[:place] + b"\xff" * 64 + whole[place + 64 :])
        try:
            read_dlc(path)
        except KeypointError:
            n_errors += 1
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(KeypointError, match=r"a\.h5: cannot be read as a DLC table"):
        read_dlc(path)
    assert n_errors


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", SINGLE, True),
        ("b.csv", "Frame,Action\n0,1\n", False),
        ("c.csv", "", False),
        ("d.csv", b"\xff\xfe\x00", False),
        ("e.h5", b"text", False),
    ],
)
def test_what_counts_as_a_dlc_table(table, name: str, content: str | bytes, expected: bool) -> None:
    assert (header_fault(table(content, name)) is None) is expected


def test_other_h5_files_are_no_dlc_tables(tmp_path: Path) -> None:
    pd.DataFrame({"x": [1]}).to_hdf(tmp_path / "a.h5", key="x")
    pd.Series([1]).to_hdf(tmp_path / "b.h5", key="x")
    assert header_fault(tmp_path / "a.h5") is not None
    assert header_fault(tmp_path / "b.h5") is not None
    with pytest.raises(KeypointError, match="holds a Series"):
        read_dlc(tmp_path / "b.h5")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 60), min_size=1), st.randoms(use_true_random=False))
def test_align_goes_by_the_frame_number(table, frames: set[int], random) -> None:
    order = list(frames)
    random.shuffle(order)
    found = read_dlc(table(SINGLE + "".join(f"{i},{i + 1},{2 * i + 2},1,5,6,1\n" for i in order)))
    wanted = np.arange(0, 70)
    values = align(found, wanted, width=100, height=200)
    present = np.isin(wanted, order)
    np.testing.assert_allclose(values[present, 0, 0], (wanted[present] + 1) / 100, rtol=1e-6)
    np.testing.assert_allclose(values[present, 0, 1], (wanted[present] + 1) / 100, rtol=1e-6)
    assert np.isnan(values[~present]).all()


def test_align_leaves_the_table_as_it_is() -> None:
    table = DlcTable(("a",), np.array([3]), np.ones((1, 1, 3), np.float32), "N")
    align(table, np.array([2, 3, 4]), 10, 10)
    assert (table.values == 1).all()
