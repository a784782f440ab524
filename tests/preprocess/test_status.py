"""What a run would do, said before it is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli import app
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess.status import Status, status
from pipeline.preprocess_settings import PreprocessSettings

VALUES = {"img_size": 64, "trial_frames": 30, "min_frames": 30}


def look(cache: Path, folder: Path, **changes) -> Status:
    return status(PreprocessSettings(**VALUES | changes), cache=cache, videos=folder, annotations=folder)


def rows(found: Status) -> dict[str, tuple[str, tuple[str, ...], int]]:
    return {row.recording: (row.state, row.why, row.n_decode) for row in found.recordings}


@pytest.fixture
def two(lab):
    for name in ("a", "b"):
        lab.recording(f"{name}.mp4", 60)
        lab.annotation(f"{name}.mp4_1", [0] * 30)
    return lab


@pytest.fixture
def cached(two, tmp_path: Path) -> Path:
    preprocess(PreprocessSettings(**VALUES), cache=tmp_path / "cache", videos=two.folder, annotations=two.folder)
    return tmp_path / "cache"


def test_before_the_first_run(two, tmp_path: Path) -> None:
    found = look(tmp_path / "cache", two.folder)
    assert rows(found) == {"a": ("new", (), 30), "b": ("new", (), 30)}
    assert (found.n_stale, found.n_decode) == (2, 60)
    assert found.seconds is not None
    assert found.seconds > 0
    assert not (tmp_path / "cache").exists()


def test_nothing_changed(two, cached: Path) -> None:
    found = look(cached, two.folder)
    assert rows(found) == {"a": ("fresh", (), 0), "b": ("fresh", (), 0)}
    assert (found.n_stale, found.seconds) == (0, 0)


@pytest.mark.parametrize(
    ("change", "settings", "expected"),
    [
        ("label", {}, ("labels", ("prediction_a.mp4_1.csv changed",), 0)),
        ("table", {}, ("keypoints", ("aDLC_resnet50_testMay7shuffle1_500.csv changed",), 0)),
        ("video", {}, ("frames", ("a.mp4 changed",), 30)),
        ("more", {}, ("frames+keypoints+labels", ("prediction_a.mp4_2.csv is new",), 60)),
        ("gone", {}, ("frames+keypoints+labels", ("prediction_a.mp4_1.csv is gone",), 60)),
        ("", {"channels": 3}, ("frames", ("channels: 1 -> 3",), 30)),
        ("", {"dlc_slack": 3}, ("keypoints", ("dlc_slack: 10 -> 3",), 0)),
        ("", {"compression": "none"}, ("compression", ("compression: auto -> none",), 0)),
    ],
)
def test_why_something_is_stale(two, cached: Path, change: str, settings: dict[str, int], expected) -> None:
    table = next(two.folder.glob("aDLC*.csv"))
    match change:
        case "label":
            two.annotation("a.mp4_1", [7] * 30)
        case "table":
            table.write_text(table.read_text().replace(",0.99", ",0.5"))
        case "video":
            two.video("a.mp4", 60, options={"crf": "30"})
        case "more":
            two.annotation("a.mp4_2", [0] * 30)
        case "gone":
            (two.folder / "prediction_a.mp4_1.csv").unlink()
    before = {path: path.read_bytes() for path in cached.rglob("*") if path.is_file()}
    assert rows(look(cached, two.folder, **settings))["a"] == expected
    assert {path: path.read_bytes() for path in cached.rglob("*") if path.is_file()} == before
    report = preprocess(
        PreprocessSettings(**VALUES | settings), cache=cached, videos=two.folder, annotations=two.folder
    )
    assert {row.recording: row.state for row in report.recordings}["a"] == expected[0]


def test_what_is_gone_and_what_cannot_be_used(two, cached: Path) -> None:
    for path in two.folder.glob("*b.mp4*"):
        path.unlink()
    two.video("c.mp4", 30)
    (two.folder / "d.mp4").write_text("text")
    two.dlc("d", 30)
    found = look(cached, two.folder)
    assert rows(found) == {"a": ("fresh", (), 0), "b": ("removed", (), 0)}
    reasons = {skip.recording: skip.reason for skip in found.skipped}
    assert "no DLC table" in reasons["c"]
    assert "cannot be read as a video" in reasons["d"]


def test_the_command_line_repeats_the_last_run(two, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders and settings need not be given again; the exit code says whether there is anything to do."""

    def command(*words: object) -> tuple[int, str]:
        code = app([str(word) for word in words], standalone_mode=False)
        return code or 0, capsys.readouterr().out

    cache = ["--cache", tmp_path / "cache"]
    given = ["--videos", two.folder, "--annotations", two.folder, *cache, "--workers", 0]
    given += [word for name, value in VALUES.items() for word in (f"--{name}", value)]
    code, out = command("preprocess", *given, "--dry-run")
    assert (code, "0 recordings are fresh, 2 are not" in out) == (4, True)
    assert "preprocess would decode 60 frames, in about" in out
    assert not (tmp_path / "cache").exists()
    assert command("preprocess", *given)[0] == 0
    code, out = command("status", *cache)
    assert (code, "2 recordings are fresh, 0 are not" in out) == (0, True)
    assert command("status", *cache, "--img_size", 80)[0] == 4
    two.annotation("a.mp4_1", [7] * 30)
    code, out = command("status", *cache, "--out", tmp_path / "run")
    assert code == 4
    assert "prediction_a.mp4_1.csv changed" in out
    assert f"{tmp_path / 'run'}: no run there yet" in out
