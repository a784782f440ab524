"""Folders in which much is wrong at once: the check must say all of it, and what preprocess would say."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipeline.preprocess.check import Checked, check
from pipeline.preprocess.discovery import DiscoveryError
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings
from tests_support import called

SMALL = {"img_size": 64, "trial_frames": 80, "min_frames": 60, "crops": "70=10"}


def look(folder: Path, **options) -> Checked:
    """check() of one folder that holds everything."""
    quick = options.pop("quick", False)
    return check(PreprocessSettings(**(SMALL | options)), videos=folder, annotations=folder, quick=quick)


@pytest.fixture
def faulty(lab):
    """One good recording of two trials, and one of each fault."""
    lab.recording("good.mp4", 165)
    lab.annotation("good.mp4_1", [0] * 80)
    lab.annotation("good.mp4_2", [1] * 70)
    lab.video("alone.mp4", 80)
    lab.video("other.mp4", 80)
    lab.dlc("other", 120)
    lab.recording("names.mp4", 80)
    lab.annotation("names.mp4_1", ["rest", "zoom", *["rest"] * 78])
    lab.recording("stub.mp4", 160)
    lab.annotation("stub.mp4_1", [0] * 50)
    lab.annotation("stub.mp4_2", [0] * 80)
    (lab.folder / "text.mp4").write_text("no video at all")
    lab.dlc("text", 80)
    lab.annotation("text.mp4_1", ["zoom"] * 80)
    (lab.folder / "away.mp4").touch()
    lab.dlc("away", 80)
    lab.annotation("nobody.mp4_1", [0] * 80)
    return lab


EXPECTED = {
    ("alone", None): "no DLC table aloneDLC_",
    ("away", None): "away.mp4 is empty (0 bytes)",
    ("names", 1): "row 3: class 'zoom' is not in the class list",
    ("other", None): "the DLC table has 120 rows (frames 0 to 119), the video 80 frames",
    ("prediction_nobody.mp4_1.csv", None): "belongs to no video here",
    ("stub", 1): "too short: 50 rows",
    ("text", None): "cannot be read as a video",
    ("text", 1): "row 2: class 'zoom' is not in the class list",
}


def test_all_faults_are_found_at_once(faulty) -> None:
    checked = look(faulty.folder)
    faults = {(r.recording, r.trial): r for r in checked.remarks if r.fault}
    assert len(faults) == sum(r.fault for r in checked.remarks)
    assert faults.keys() == EXPECTED.keys()
    for key, reason in EXPECTED.items():
        assert reason in faults[key].reason
        assert faults[key].what_to_do not in ("", "correct the file that is named"), key
    verdicts = {(row.recording, row.trial): row.verdict for row in checked.rows}
    used = dict.fromkeys([("good", 1), ("good", 2), ("stub", 2)], "ok")
    assert verdicts == dict.fromkeys(EXPECTED, "skipped") | used
    assert checked.exit_code == 3


def test_it_says_what_preprocess_says(faulty, tmp_path: Path) -> None:
    checked = look(faulty.folder)
    settings = PreprocessSettings(**SMALL)
    report = preprocess(settings, cache=tmp_path / "cache", videos=faulty.folder, annotations=faulty.folder)
    told = {(r.recording, r.trial, r.reason, r.fault) for r in checked.remarks if r.verdict == "skipped"}
    assert {(s.recording, s.trial, s.reason, s.fault) for s in report.skipped} <= told
    used = {(row.recording, row.trial) for row in checked.rows if row.verdict != "skipped"}
    assert {name for name, _ in used} == {row.recording for row in report.recordings}
    assert len(used) == sum(row.trials for row in report.recordings)
    assert checked.exit_code == report.exit_code


def test_two_unreadable_files_of_one_recording_are_both_named(lab) -> None:
    lab.recording("a.mp4", 80)
    table = next(lab.folder.glob("*.csv"))
    table.write_text(table.read_text().replace("\n9,", "\n9,7,"))
    (lab.folder / "a.mp4").write_text("no video")
    reasons = [remark.reason for remark in look(lab.folder).remarks]
    assert len(reasons) == 2
    assert any("row 13: 11 cells, expected 10" in reason for reason in reasons)
    assert any("cannot be read as a video" in reason for reason in reasons)


def test_the_facts_of_each_trial(faulty) -> None:
    rows = [row for row in look(faulty.folder).rows if row.recording == "good"]
    assert [(row.trial, row.label_rows, row.crop) for row in rows] == [(1, 80, "[0:80]"), (2, 70, "[10:80]")]
    for row in rows:
        assert (row.frames, row.decoded, row.dlc_rows, row.fps, row.size) == (165, 165, 165, 30.0, "128x96")


def test_a_video_that_breaks_off_is_found_by_decoding_alone(lab) -> None:
    path = lab.recording("a.mp4", 400, container={"movflags": "faststart"}, options={"bf": "0"})
    content = bytearray(path.read_bytes())
    for i in range(len(content) // 2, len(content) * 3 // 4, 7):
        content[i] ^= 0x55
    path.write_bytes(bytes(content))
    assert look(lab.folder, quick=True).exit_code == 0
    checked = look(lab.folder)
    assert checked.exit_code == 3
    assert {row.frames for row in checked.rows} == {400}
    assert all(row.decoded is not None and 150 < row.decoded < 300 for row in checked.rows)
    damaged = {r.trial for r in checked.remarks if "frames are damaged, more than a share of 0.1" in r.reason}
    assert damaged == {row.trial for row in checked.rows if row.verdict == "skipped"}
    assert damaged
    # Of what lies before the damage nothing is lost.
    lab.annotation("a.mp4_1", [0] * 80)
    checked = look(lab.folder)
    assert checked.exit_code == 0
    assert [(row.trial, row.verdict) for row in checked.rows] == [(1, "warning")]
    assert any("frames of the video are damaged, none of a trial" in remark.reason for remark in checked.remarks)


def test_quick_decodes_nothing(faulty) -> None:
    seen: list[str] = []
    settings = PreprocessSettings(**SMALL)
    checked = check(
        settings, videos=faulty.folder, annotations=faulty.folder, quick=True, progress=lambda *step: seen.append("")
    )
    assert (seen, checked.lags) == ([], {})
    assert all(row.decoded is None for row in checked.rows)
    assert checked.exit_code == 3


def test_recordings_without_a_video(lab) -> None:
    lab.dlc("a", 80)
    checked = check(PreprocessSettings(**SMALL), dlc=lab.folder)
    assert [(row.trial, row.frames, row.dlc_rows, row.fps, row.lag) for row in checked.rows] == [
        (1, 80, 80, None, None)
    ]
    assert checked.exit_code == 0


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DiscoveryError, match="no such folder"):
        look(tmp_path / "nowhere")


def test_the_command_shows_all_and_writes_the_table(faulty, tmp_path: Path) -> None:
    settings = ["--img-size", 64, "--trial-frames", 80, "--min-frames", 60, "--crops", "70=10"]
    folders = ["--videos", faulty.folder, "--annotations", faulty.folder]
    done = called("check", *folders, *settings, "--csv", tmp_path / "check.csv")
    assert done.returncode == 3, done.stderr
    assert "3 ok, 0 with a warning, 8 skipped; 8 faults" in done.stdout
    with (tmp_path / "check.csv").open() as file:
        rows = {(row["recording"], row["trial"]): row for row in csv.DictReader(file)}
    assert rows["good", "2"]["crop"] == "[10:80]"
    assert rows["good", "2"]["reason"].startswith("after the last whole trial")
    assert "aloneDLC_" in rows["alone", ""]["reason"]
    assert rows["alone", ""]["what_to_do"].startswith("run DLC on the video")


def test_check_and_preprocess_say_that_networks_are_mixed(lab, tmp_path: Path) -> None:
    settings = ["--img-size", 64, "--trial-frames", 80, "--min-frames", 60, "--crops", "70=10"]
    for name in ("a", "b"):
        lab.video(f"{name}.mp4", 80)
        lab.dlc(name, 80, suffix=f"DLC_net_{name}")
        lab.annotation(f"{name}.mp4_1", [0] * 80)
    folders = ["--videos", lab.folder, "--annotations", lab.folder]
    for command in (["check", "--quick"], ["preprocess", "--cache", tmp_path / "cache"]):
        done = called(*command, *folders, *settings)
        assert done.returncode == 0, done.stderr
        assert "[warning] keypoints are of several networks: DLC_net_a (1 recording: a); DLC_net_b" in done.stdout
