"""What is exported of which source, and what is said of what cannot be."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lab import Lab
from pipeline.cli import main
from pipeline.export.file_names import safe_name, safe_names
from pipeline.export.formats import Format
from pipeline.export.stage import Asked, export
from pipeline.export.started import read_starts
from pipeline.overlay import ClipError
from pipeline.predict.exports import TABLES
from pipeline.preprocess.stage import preprocess
from pipeline.setting_texts import SettingsError
from tables_lab import lived, write_cache, write_predictions

LAB = {"a_1M": [lived((1, 5, 9)), lived()], "b_1M": [lived((2, 5, 9))], "c_1M": [lived()]}


def test_a_bad_recording_is_listed_and_the_others_go_on(tmp_path: Path, monkeypatch, capsys) -> None:
    folder = write_predictions(tmp_path / "p", LAB)
    bad = folder / TABLES / "prediction_b_1M.mp4_1.csv"
    whole, out = bad.read_text(), tmp_path / "out" / "onehot"
    command = ["pipeline", "export", str(folder), "--to", "onehot", "--out", str(tmp_path / "out")]

    def call() -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as done:
            main()
        return done.value.code, capsys.readouterr().out

    assert call()[0] == 0
    assert sorted(path.name for path in out.iterdir()) == ["a_1M.csv", "b_1M.csv", "c_1M.csv", "export.json"]
    bad.write_text(whole.replace(",65,", ",5,").replace("\n31,", "\n32,"))
    code, said = call()
    assert code == 3
    assert "b_1M trial 1" in said
    assert "Frame has gaps" in said
    assert (out / "a_1M.csv").is_file()
    assert json.loads((out / "export.json").read_text())["left_out"][0][0] == "b_1M trial 1"
    bad.write_text("\n".join(line.replace(",31,", ",32,", 1) for line in whole.splitlines()))
    assert "VideoFrame has gaps" in call()[1]
    assert not (out / "b_1M.csv").exists()  # that of the first call must not pass for this one's


@pytest.mark.parametrize(
    ("clips", "expected"),
    [
        ((), ["a_1M", "b_1M", "c_1M"]),
        (("a_1M",), ["a_1M"]),
        (("a_1M/2", "c_1M_1"), ["a_1M", "c_1M"]),
    ],
)
def test_the_clips_that_are_named(tmp_path: Path, clips: tuple[str, ...], expected: list[str]) -> None:
    cache = write_cache(tmp_path / "c", LAB)
    made = export(Asked(Format.ONEHOT, cache=cache, clips=clips), tmp_path / "out")
    assert [path.stem for path in made.files] == expected
    if clips[1:]:
        first = pd.read_csv(made.files[0])
        assert first["Frame"].max() == 119
        assert first.iloc[:60, 1:].to_numpy().sum() == 0  # the other trial
    with pytest.raises(ClipError, match=r"a_1M/3: no such clip in .*; expected RECORDING/TRIAL, for example a_1M/"):
        export(Asked(Format.ONEHOT, cache=cache, clips=("a_1M/3",)), tmp_path / "out")


def test_recordings_without_a_rate_need_one(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "c", {"m": [lived((1, 30, 45))]}, fps=None)
    assert [row[:2] for row in export(Asked(Format.BORIS, cache=cache), tmp_path).left_out] == [("m", "boris")]
    assert export(Asked(Format.ONEHOT, cache=cache), tmp_path).exit_code == 0
    assert export(Asked(Format.BORIS, cache=cache, fps=15.0), tmp_path).exit_code == 0
    assert pd.read_csv(tmp_path / "boris" / "m.csv")["Stop (s)"].tolist() == [2.0, 3.0, 4.0]


def test_a_project_that_people_corrected_is_kept(tmp_path: Path) -> None:
    asked = Asked(Format.BORIS, cache=write_cache(tmp_path / "c", LAB))
    project = tmp_path / "out" / "boris" / "project.boris"
    for _ in range(2):
        assert not any("was changed" in note for note in export(asked, tmp_path / "out").notes)
    corrected = project.read_text().replace("people's labels", "looked at again")
    project.write_text(corrected + " ")
    for number in (2, 3):
        made = export(asked, tmp_path / "out")
        assert made.files[-1] == project.with_stem(f"project-{number}")
        assert any("was changed" in note for note in made.notes)
    assert project.read_text() == corrected + " "


def test_without_its_cache_a_prediction_has_the_frames_of_its_table(tmp_path: Path) -> None:
    folder = write_predictions(tmp_path / "p", {"m_1M": [lived(crop=15), lived((1, 5, 9))]})
    (folder / "cache").rename(tmp_path / "gone")
    made = export(Asked(Format.ONEHOT, folder), tmp_path)
    assert any("taken to end with its last trial, after 120 frames" in note for note in made.notes)
    table = pd.read_csv(made.files[0])
    assert np.flatnonzero(table["lick"]).tolist() == [65, 66, 67, 68]
    assert np.flatnonzero(table["rest"] == 0).tolist() == [*range(15), *range(65, 69)]


def test_frames_at_their_own_times_are_told_and_kept(tmp_path: Path) -> None:
    pytest.importorskip("pynwb")
    from pynwb import NWBHDF5IO

    from pipeline.preprocess_settings import PreprocessSettings

    lab = Lab(tmp_path / "lab")
    times_ms = np.cumsum([0, *([33] * 29), *([100] * 30)]).tolist()
    lab.video("v.mkv", 60, times_ms=times_ms)
    lab.dlc("v", 60)
    lab.annotation("v.mkv_1", [0] * 30 + [1] * 30)
    settings = PreprocessSettings(trial_frames=60, min_frames=60, crops="", img_size=32, classes="rest,lick")
    preprocess(settings, cache=tmp_path / "c", videos=lab.folder, annotations=lab.folder)
    made = export(Asked(Format.NWB, cache=tmp_path / "c"), tmp_path)
    assert any("v: the video's frames are not shown at their number over" in note for note in made.notes)
    with NWBHDF5IO(str(made.files[0]), "r") as io:
        file = io.read()
        bouts = file.intervals["behavior_bouts"].to_dataframe()
        assert bouts["start_time"].tolist() == pytest.approx([0, times_ms[30] / 1000])
        assert bouts["stop_time"].iloc[0] == bouts["start_time"].iloc[1]
        np.testing.assert_allclose(file.acquisition["video"].timestamps[:], np.array(times_ms) / 1000, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mouse 1", "mouse 1"),
        ('a<b>:"c"/\\|?*d', "a_b___c______d"),
        ("CON", "_CON"),
        ("nul.mp4", "_nul.mp4"),
        ("ends. ", "ends"),
        ("..", "_"),
        ("ü" * 200, "ü" * 75),
    ],
)
def test_names_that_every_file_system_takes(text: str, expected: str) -> None:
    assert safe_name(text) == expected


def test_names_that_differ_stay_apart() -> None:
    assert list(safe_names(["a:b", "A?b", "a|b", "c"]).values()) == ["a_b", "A_b~2", "a_b~3", "c"]


def test_starts(tmp_path: Path) -> None:
    table = tmp_path / "starts.csv"
    table.write_text("recording,session_start\nm.mp4,2026-05-04T10:30:00Z\n")
    assert read_starts(str(table))["m"].isoformat() == "2026-05-04T10:30:00+00:00"
    with pytest.raises(SettingsError, match="'2026-05-04T10:30:00': has no time zone; expected a time like"):
        read_starts("2026-05-04T10:30:00")
    with pytest.raises(SettingsError, match="--session-start today: 'today': expected a time like"):
        read_starts("today")
