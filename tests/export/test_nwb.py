"""NWB files: what pynwb reads back, and what its validator and the inspector say of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.export import nwb
from pipeline.export.formats import Format
from pipeline.export.recordings import ExportError
from pipeline.export.stage import Asked, export
from pipeline.export.started import read_starts
from pipeline.lab_tables import TableError
from tables_lab import CLASSES, LENGTH, lived, write_cache, write_out_of_fold, write_predictions

pynwb = pytest.importorskip("pynwb")


def read(path: Path) -> Iterator[Any]:
    with pynwb.NWBHDF5IO(str(path), "r") as io:
        yield io.read()


@pytest.fixture(scope="module")
def written(filmed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("nwb")
    (out / "animals.csv").write_text("animal,sex,age,species,dose\n1M,M,P90D,Mus musculus,3\n")
    made = export(
        Asked(
            Format.NWB, filmed.predicted, cache=filmed.cache, group_by=r"_(\d+M)",
            session_start="2026-05-04T10:30:00+02:00", subjects=out / "animals.csv",
        ),
        out,
    )  # fmt: skip
    assert made.exit_code == 0
    return out / "nwb" / "m_1M.nwb"


@pytest.fixture
def file(written: Path) -> Iterator[Any]:
    yield from read(written)


def labels_of(table: Any, n_frames: int) -> np.ndarray:
    labels = np.full(n_frames, -1)
    for row in table.to_dataframe().itertuples():
        labels[row.start_frame : row.stop_frame] = CLASSES.index(row.behavior)
    return labels


def test_it_is_valid_and_nothing_in_it_is_critical(written: Path) -> None:
    from nwbinspector import Importance, inspect_nwbfile

    assert not pynwb.validate(path=str(written))
    found = list(inspect_nwbfile(nwbfile_path=written))
    bad = (Importance.CRITICAL, Importance.ERROR, Importance.PYNWB_VALIDATION, Importance.BEST_PRACTICE_VIOLATION)
    assert not [message for message in found if message.importance in bad]


def test_labels_probabilities_and_keypoints_come_back(filmed, file) -> None:
    bouts = file.intervals[nwb.BOUTS]
    np.testing.assert_array_equal(labels_of(bouts, len(filmed.said)), filmed.said)
    series = file.processing["behavior"][nwb.PROBABILITIES]
    assert (series.rate, series.starting_time) == (30.0, 0.0)  # two trials without a gap
    np.testing.assert_array_equal(series.data[:], filmed.probabilities[: 2 * LENGTH])
    assert tuple(file.processing["behavior"][nwb.CLASSES]["behavior"][:]) == CLASSES
    position = file.processing["behavior"][nwb.POSITION]
    for k, name in enumerate(("mouth", "tail_base", "paw")):
        np.testing.assert_array_equal(position[name].data[:], filmed.xy_px[: 2 * LENGTH, k])
        assert position[name].unit == "pixels"


def test_bouts_carry_their_times_and_mean_probability(filmed, file) -> None:
    for row in file.intervals[nwb.BOUTS].to_dataframe().itertuples():
        assert (row.start_time, row.stop_time) == pytest.approx((row.start_frame / 30, row.stop_frame / 30))
        own = filmed.probabilities[row.start_frame : row.stop_frame, CLASSES.index(row.behavior)]
        assert row.mean_probability == pytest.approx(own.mean())


def test_people_s_bouts_stand_beside_them(filmed, file) -> None:
    np.testing.assert_array_equal(labels_of(file.intervals[nwb.PEOPLES], len(filmed.true)), filmed.true)


def test_who_when_and_which_video(filmed, file, written: Path) -> None:
    assert file.session_start_time == datetime.fromisoformat("2026-05-04T10:30:00+02:00")
    assert file.notes is None
    subject = file.subject
    found = (subject.subject_id, subject.sex, subject.age, subject.species)
    assert found == ("1M", "M", "P90D", "Mus musculus")
    (link,) = file.acquisition[nwb.VIDEO].external_file[:]
    assert not Path(link).is_absolute()
    assert (written.parent / link).samefile(filmed.videos / "m_1M.mp4")
    assert file.trials.to_dataframe()[["trial", "start_frame", "stop_frame"]].to_numpy().tolist() == [
        [1, 0, LENGTH],
        [2, LENGTH, 2 * LENGTH],
    ]


def test_where_trials_are_apart_each_frame_has_its_time(filmed, tmp_path: Path) -> None:
    made = export(Asked(Format.NWB, cache=filmed.cache), tmp_path)
    assert any("began when their video's file says" in note for note in made.notes)
    for file in read(tmp_path / "nwb" / "m_1M.nwb"):
        assert "not given" in file.notes
        assert datetime.now(file.session_start_time.tzinfo) >= file.session_start_time
        behaviour = file.processing["behavior"]
        assert nwb.PROBABILITIES not in behaviour.data_interfaces  # people give none
        frames = np.r_[0:LENGTH, LENGTH + 15 : 2 * LENGTH]
        np.testing.assert_allclose(behaviour[nwb.LIKELIHOOD].timestamps[:], frames / 30)
        mouth = behaviour[nwb.POSITION]["mouth"]
        np.testing.assert_allclose(mouth.timestamps[:], frames / 30)
        np.testing.assert_allclose(mouth.data[:, 0], frames / 16, atol=1e-3)  # as lab.X_STEP
        np.testing.assert_array_equal(labels_of(file.intervals[nwb.BOUTS], len(filmed.true)), filmed.true)


def test_out_of_fold_probabilities_and_the_stimulus(tmp_path: Path) -> None:
    lab = {f"m_{i}M": [lived((1, 20, 40), stim=18, crop=15, damaged=[30])] for i in range(2)}
    cache = write_cache(tmp_path / "c", lab, fps=59.94)
    write_out_of_fold(tmp_path / "cv", lab)
    at = "2026-05-04T10:30:00Z"
    assert export(Asked(Format.NWB, tmp_path / "cv", cache=cache, session_start=at), tmp_path).exit_code == 0
    for file in read(tmp_path / "nwb" / "m_0M.nwb"):
        series = file.processing["behavior"][nwb.PROBABILITIES]
        assert series.starting_time == pytest.approx(15 / 59.94)
        probabilities = series.data[:]
        assert np.flatnonzero(np.isnan(probabilities).all(axis=1)).tolist() == [15]
        np.testing.assert_allclose(np.delete(probabilities, 15, 0).sum(axis=1), 1, rtol=1e-6)
        assert file.trials["stimulus_time"][0] == pytest.approx(18 / 59.94)
        assert nwb.VIDEO not in file.acquisition  # it is not there any more
        assert (file.subject.subject_id, file.subject.sex) == ("m_0M", "U")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("animal,sex\n1M,male\n", "row 2: sex 'male', expected M, F, U"),
        ("animal,age\n1M,90 days\n", "row 2: age '90 days', expected an ISO 8601 duration"),
        ("mouse,age\n1M,P1D\n", "no column recording; expected a column animal"),
        ("animal,sex\nm,MF\n", "row 2: sex 'MF', expected M, F, U"),
        (
            "animal,sex\nm,M\nn,F\nm,F\n",
            "rows 2 and 4: m has sex 'M' in one and 'F' in the other; keep one of the rows",
        ),
        ("recording,age\nr,P9D\nr.mp4,P8D\n", "rows 2 and 3: r has age 'P9D' in one and 'P8D'"),
    ],
)
def test_tables_of_animals_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "animals.csv").write_text(text)
    with pytest.raises(TableError, match=message):
        export(Asked(Format.NWB, tmp_path, subjects=tmp_path / "animals.csv"), tmp_path / "out")


@pytest.mark.parametrize("first", ["a", "a.mp4"])
def test_contradicting_starts_are_refused(tmp_path: Path, first: str) -> None:
    noon, one = "2026-05-04T12:00:00+02:00", "2026-05-04T13:00:00+02:00"
    path = tmp_path / "starts.csv"
    path.write_text(f"recording,session_start\n{first},{noon}\nb,{one}\na,{one}\n")
    with pytest.raises(TableError, match=r"starts.csv rows 2 and 4: a has session_start '.*12:00.*' in one and '.*13"):
        read_starts(str(path))
    path.write_text(f"recording,session_start\n{first},{noon}\nb,{one}\na,{noon}\n")
    assert {name: time.hour for name, time in read_starts(str(path)).items()} == {"a": 12, "b": 13}


def test_without_a_start_there_is_no_file(tmp_path: Path) -> None:
    folder = write_predictions(tmp_path / "p", {"m": [lived((1, 5, 9))]})
    made = export(Asked(Format.NWB, folder), tmp_path)
    assert made.left_out == [("m", "nwb", "no video tells when it began; give --session-start")]
    assert [path.name for path in (tmp_path / "nwb").iterdir()] == ["export.json"]


def test_without_pynwb_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_predictions(tmp_path / "p", {"m": [lived((1, 5, 9))]})
    monkeypatch.setitem(__import__("sys").modules, "pynwb", None)
    with pytest.raises(ExportError, match=r"pip install 'paw-pipeline\[nwb\]'"):
        export(Asked(Format.NWB, folder), tmp_path)
