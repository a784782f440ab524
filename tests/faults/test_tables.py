"""Tables as labs have them, and as nobody should: what is read is what the file says, or the file is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import cache as clip_cache
from pipeline.preprocess import number_table
from pipeline.preprocess.annotations import MAX_BYTES, AnnotationError, read_annotation
from pipeline.preprocess.crop import CropError, check_frame_column, trial_crop
from pipeline.preprocess.keypoints import KeypointError, align, read_dlc
from pipeline.preprocess.stage import Report, preprocess
from pipeline.preprocess_settings import PreprocessSettings

HEADER = "scorer,N,N,N,N,N,N\nbodyparts,a,a,a,b,b,b\ncoords,x,y,likelihood,x,y,likelihood\n"
CLASSES = ("rest", "walk", "lick")
anything = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)


def rows_of(n: int, *, first: int = 0) -> str:
    return "".join(f"{i},{i + 1},2,0.9,4,5,1\n" for i in range(first, first + n))


def dlc(folder: Path, content: str | bytes, name: str = "aDLC_n.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(HEADER.split("\n", 1)[1] + rows_of(3), "has no DLC header", id="no scorer row"),
        pytest.param(
            HEADER.replace("bodyparts,a,a,a,b,b,b\n", "") + rows_of(3), "has no DLC header", id="no bodyparts"
        ),
        pytest.param(HEADER.replace("coords", "x", 1) + rows_of(3), "has no DLC header", id="no coords"),
        pytest.param((HEADER + rows_of(3)).encode("utf-16"), "is not UTF-8 text", id="utf-16"),
        pytest.param((HEADER + rows_of(3)).encode("utf-16-le"), "has no DLC header", id="utf-16 without a mark"),
        pytest.param((HEADER.replace("a", "ä") + rows_of(3)).encode("latin-1"), "is not UTF-8 text", id="latin-1"),
        pytest.param(HEADER + rows_of(3) + "1,2,2,1,4,5,1\n", "frame 1 has more than one row", id="double"),
        pytest.param(HEADER + rows_of(3) + "3,2,../../etc,1,4,5,1\n", "row 7, column a y: '../../etc'", id="path"),
        pytest.param(HEADER + rows_of(3) + "3,2,1_0,1,4,5,1\n", "row 7, column a y: '1_0'", id="underscore"),
        pytest.param(HEADER + rows_of(3) + "3,2,2,1,4\n", "row 7: 5 cells, expected 7", id="cut"),
        pytest.param(HEADER + rows_of(3) + ",,,,,,\n" + rows_of(1, first=3), "row 7: frame number ''", id="no frame"),
        pytest.param(HEADER + "0," + "1" * 200_000 + ",2,1,4,5,1\n", "is not a table", id="endless cell"),
    ],
)
def test_what_a_dlc_table_must_not_hold(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = dlc(tmp_path, content)
    with pytest.raises(KeypointError, match=message) as error:
        read_dlc(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_bodyparts_in_another_order_are_the_same_points(tmp_path: Path) -> None:
    swapped = "scorer,N,N,N,N,N,N\nbodyparts,b,b,b,a,a,a\ncoords,x,y,likelihood,x,y,likelihood\n"
    first = read_dlc(dlc(tmp_path, HEADER + "0,1,2,0.9,4,5,1\n"))
    second = read_dlc(dlc(tmp_path, swapped + "0,4,5,1,1,2,0.9\n", "b.csv"))
    for name in ("a", "b"):
        places = [table.names.index(name) for table in (first, second)]
        np.testing.assert_array_equal(first.values[:, places[0]], second.values[:, places[1]])


@pytest.mark.parametrize("name", ["Pfote links", "左前足", "../../paw", "a;b", "=cmd()", "a'b", "x" * 300])
def test_names_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    assert read_dlc(dlc(tmp_path, HEADER.replace("b,b,b", ",".join([name] * 3)) + rows_of(2))).names == ("a", name)


@pytest.mark.parametrize(
    ("cell", "x"),
    [
        *((cell, None) for cell in ("", "NaN", "nan", "NA", "inf", "-Infinity", "1e999")),
        *(("1e-3", 1e-3), ("+7", 7), (" 7 ", 7), ("007", 7), ("-3.5", -3.5), ('"7"', 7), ("3e38", 3e38)),
    ],
)
@pytest.mark.parametrize("big", [False, True], ids=["one block", "several"])
def test_cells_say_the_same_by_either_way_of_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str, x: float | None, big: bool
) -> None:
    if big:
        monkeypatch.setattr(number_table, "BLOCK_BYTES", 64)
        monkeypatch.setattr(number_table, "BLOCK_ROWS", 3)
    text = HEADER + rows_of(20) + f"20,{cell},2,0.9,4,5,1\n" + rows_of(20, first=21)
    found = read_dlc(dlc(tmp_path, text))
    assert found.frames.tolist() == list(range(41))
    expected = np.arange(41) + 1.0
    expected[20] = np.nan if x is None else x
    np.testing.assert_array_equal(found.values[:, 0, 0], expected.astype(np.float32))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"], ids=repr)
def test_line_ends_of_all_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(number_table, "BLOCK_BYTES", 100)
    text = (HEADER + rows_of(200)).replace("\n", end) if end != "\n\n" else HEADER + rows_of(200).replace("\n", end)
    assert read_dlc(dlc(tmp_path, text)).values[:, 0, 0].tolist() == list(range(1, 201))


def test_an_error_far_below_names_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(number_table, "BLOCK_BYTES", 1000)
    text = HEADER + rows_of(5000) + "5000,1,x4,1,1,1,1\n"
    with pytest.raises(KeypointError, match="row 5004, column a y: 'x4' is not a number"):
        read_dlc(dlc(tmp_path, text))


def test_a_line_without_end_is_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.preprocess.text_table.MAX_LINE", 1000)
    monkeypatch.setattr(number_table, "MAX_LINE", 1000)
    monkeypatch.setattr(number_table, "BLOCK_BYTES", 500)
    with pytest.raises(KeypointError, match="has a line of more than 1,000 characters"):
        read_dlc(dlc(tmp_path, HEADER + rows_of(3) + "1," * 4000))


@anything
@given(st.text(alphabet=st.sampled_from("0123456789.,-+einaf \n\r\"'_x;\té\x00"), max_size=200))
@example('0,1,2,3,4,5,6\n"1",1,2,3,4,5,6\n')
@example("0,1,2,3,4,5,6\n,,,,,,\n,,\n")
@example("\n")
def test_whatever_text_follows_a_header(tmp_path: Path, text: str) -> None:
    """A table of what Python's own csv and float read, or an error that names the file; by blocks and by rows alike."""
    path = dlc(tmp_path, HEADER + text)
    outcomes = []
    for way in ("blocks", "rows"):
        with pytest.MonkeyPatch.context() as patch:
            if way == "rows":
                patch.setattr(number_table, "_plain_numbers", lambda text, n: None)
            try:
                found = read_dlc(path)
                outcomes.append((found.frames.tolist(), found.values.tobytes()))
            except KeypointError as error:
                outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
    assert isinstance(outcomes[0], tuple) or str(path) in outcomes[0]


@anything
@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0.5, 1000, width=32)), max_size=60, unique_by=lambda r: r[0]))
def test_row_n_is_what_the_file_says_of_frame_n(tmp_path: Path, rows: list[tuple[int, float]]) -> None:
    path = dlc(tmp_path, HEADER + "".join(f"{frame},{x},2,0.9,4,5,1\n" for frame, x in rows))
    if not rows:
        with pytest.raises(KeypointError, match="no rows below the header"):
            read_dlc(path)
        return
    aligned = align(read_dlc(path), np.arange(401), 1, 1)
    expected = np.full(401, np.nan, np.float32)
    expected[[frame for frame, _ in rows]] = [x for _, x in rows]
    np.testing.assert_array_equal(aligned[:, 0, 0], expected)


@anything
@given(st.text(max_size=120) | st.text(alphabet=st.sampled_from("Frame,Action\n0123restwalk;\t\"'.-_"), max_size=120))
@example("Frame,Action\n0,1_0\n")
@example('Frame,Action\n0,"1\n')
def test_whatever_text_is_an_annotation(tmp_path: Path, text: str) -> None:
    path = tmp_path / "prediction_a.mp4_1.csv"
    for content in (text, "Frame,Action\n" + text):
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        message = ""
        try:
            found = read_annotation(path, CLASSES)
        except AnnotationError as error:
            message = str(error)
        if message:
            assert str(path) in message
            continue
        assert len(found.labels) <= len(content.splitlines())
        assert ((found.labels >= -1) & (found.labels < 3)).all()
        if found.frame_column is not None:
            try:
                check_frame_column(found.frame_column, 15)
            except CropError:
                continue
            assert (np.diff(found.frame_column) == 1).all()


@given(st.integers(0, 800), st.integers(1, 400), st.integers(0, 400), st.dictionaries(st.integers(1, 400), st.just(0)))
def test_a_crop_lies_in_its_trial_or_is_an_error(n_rows: int, length: int, least: int, starts: dict[int, int]) -> None:
    crops = {rows: length - rows for rows in starts if rows <= length}
    try:
        start = trial_crop(n_rows, length, least, crops)
    except CropError:
        return
    assert 0 <= start <= start + n_rows <= length


def run(folder: Path, cache: Path, **changes: object) -> Report:
    values = {"img_size": 32, "trial_frames": 40, "min_frames": 30, "crops": "35=5", "classes": "rest,walk,lick"}
    return preprocess(PreprocessSettings(**(values | changes)), cache=cache, videos=folder, annotations=folder)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        pytest.param([f"{i},{7 if i == 9 else 1}" for i in range(40)], "row 11: class '7' is not in", id="unknown id"),
        pytest.param([f"{i},{'grooming' if i == 9 else 1}" for i in range(40)], "'grooming' is not in", id="name"),
        pytest.param([f"{i},{0.5 if i == 9 else 1}" for i in range(40)], "row 11: class '0.5'", id="half"),
        pytest.param([f"{i},../../../etc/passwd" for i in range(40)], "class '../../../etc/passwd'", id="path"),
        pytest.param([f"{i},1" for i in range(41) if i != 20], "has a gap or a double: row 22", id="missing frame"),
        pytest.param([f"{i},1" for i in range(39)], "ambiguous: 39 rows", id="fewer"),
        pytest.param([f"{i},1" for i in range(41)], "ambiguous: 41 rows", id="more"),
        pytest.param([f"{max(0, i - 1)},1" for i in range(40)], "has a gap or a double: row 3", id="double"),
    ],
)
def test_a_wrong_annotation_takes_its_trial_alone(pair_lab, tmp_path: Path, rows: list[str], reason: str) -> None:
    pair_lab.annotation("a.mp4_1", [], rows=rows)
    report = run(pair_lab.folder, tmp_path / "cache")
    assert [(skip.trial, reason in skip.reason) for skip in report.skipped if skip.fault] == [(1, True)]
    (clip,) = clip_cache.open(tmp_path / "cache")
    assert (clip.trial, clip.labels.tolist()) == (2, [1] * 40)


def test_annotations_as_floats_are_read(pair_lab, tmp_path: Path) -> None:
    pair_lab.annotation("a.mp4_1", [], rows=[f"{i}.0,2.0" for i in range(40)])
    run(pair_lab.folder, tmp_path / "cache")
    assert clip_cache.open(tmp_path / "cache")[0].labels.tolist() == [2] * 40


def test_an_annotation_of_gigabytes_is_none(tmp_path: Path) -> None:
    path = tmp_path / "prediction_a.mp4_1.csv"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(AnnotationError, match="an annotation has at most"):
        read_annotation(path, CLASSES)


LARGE = """
import resource, sys
from pathlib import Path
from pipeline.preprocess.keypoints import KeypointError, read_dlc
path = Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if sys.argv[2] != "0":
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]), -1))
try:
    print(len(read_dlc(path).frames), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
except KeypointError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def large_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 MB, 6 keypoints."""
    parts = [("N", f"p{k}", coord) for k in range(6) for coord in ("x", "y", "likelihood")]
    titles = (("scorer", "bodyparts", "coords")[level] + "," + ",".join(p[level] for p in parts) for level in range(3))
    values = [",".join(map(repr, row)) for row in np.random.default_rng(0).uniform(0, 1000, (1000, 18)).tolist()]
    path = tmp_path_factory.mktemp("large") / "aDLC_n.csv"
    with path.open("w") as file:
        file.write("\n".join(titles) + "\n")
        for start in range(0, 180_000, 1000):
            file.write("".join(f"{start + i},{row}\n" for i, row in enumerate(values)))
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own figures of memory")
def test_a_large_table_takes_less_memory_than_its_size(large_table: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LARGE, large_table, "0"], capture_output=True, text=True, check=True)
    n_rows, grown = map(int, done.stdout.split())
    assert n_rows == 180_000
    # 22 MB of numbers, twice while they are put together, and the blocks; row by row it took 9 times the file's size.
    assert grown < 1.5 * large_table.stat().st_size, f"{grown / 1e6:.0f} MB"


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
def test_a_table_that_does_not_fit_the_memory_ends_in_one_line(large_table: Path, tmp_path: Path) -> None:
    quoted = tmp_path / "aDLC_n.csv"
    quoted.write_bytes(large_table.read_bytes().replace(b"\n0,", b'\n"0",', 1))  # read row by row: pyarrow would abort
    command = [sys.executable, "-c", LARGE, quoted, str(15_000_000)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"{quoted}: does not fit into this machine's memory (0.1 GB)", done.stderr
