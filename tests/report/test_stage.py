"""What reports say, and that they neither hide nor break anything."""

from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from pipeline import jobs
from pipeline.cross_validation.decided import decided_by_other_folds, load_decided
from pipeline.cross_validation.out_of_fold import load
from pipeline.model import checkpoint
from pipeline.predict.scored_trials import FOLDER, load_all
from pipeline.report.folders import ReportError
from pipeline.report.made import MADE
from pipeline.report.predicted import of_prediction
from pipeline.report.stage import REPORT, describe, make
from pipeline.train.followers import NOBODY
from pipeline.train.run_folder import BEST
from pipeline.train_settings import Keep
from tests_support import write_small_cache

TRAIN = jobs.HowToTrain(resume=False, force=False, keep=Keep.AUTO, profile=False, follow=NOBODY)


def sections(folder: Path) -> dict[str, Any]:
    return {section.title: section.parts for section in describe(folder, folder / REPORT, None).sections}


def texts(table: Any) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_the_figures_are_those_of_the_scores(run: Path) -> None:
    scores = json.loads((run / "scores.json").read_text())
    _, overall, per_class = sections(run)["Scores"]
    kinds = [name for name in ("model", "decided", "majority") if name in scores]
    for row in texts(overall)[:2]:
        key = row[0].replace("macro F1", "macro_f1")
        expected = [scores[k]["macro_f1"] if key == "macro_f1" else scores[k]["segment_f1"]["0.1"] for k in kinds]
        assert row[1:] == [f"{value:.3f}" for value in expected]
    support = scores["model"]["support"]
    column = list(per_class.columns).index("frames")
    assert {row[0]: row[column] for row in texts(per_class)} == {name: f"{n:,}" for name, n in support.items()}
    never = next(row for row in texts(per_class) if not support[row[0]])
    assert never[-1].startswith("never labelled here")
    assert {trial.labels.shape for trial in load_all(run)} == {(48,)}


def test_it_says_what_scores_are_of(run: Path, folds: Path) -> None:
    assert "They chose the epoch" in sections(run)["Scores"][0].text
    assert "neither trained on its recording nor chose its epoch" in sections(folds)["Scores"][0].text


def test_the_same_report_is_made_without_the_cache(poses: Path, run: Path) -> None:
    before = (run / REPORT).read_bytes()
    poses.rename(poses.with_name("away"))
    try:
        assert make(run).read_bytes() == before
    finally:
        poses.with_name("away").rename(poses)


def test_decided_labels_are_kept_and_fitted_again_where_they_are_not(folds: Path, tmp_path: Path) -> None:
    names = [path.stem.rpartition("_")[::2] for path in sorted((folds / "out_of_fold").glob("*.npz"))]
    clips = load(folds, [(recording, int(trial)) for recording, trial in names])
    expected = decided_by_other_folds(clips)
    for folder in (folds, tmp_path):
        for one, other in zip(load_decided(clips, folder), expected, strict=True):
            np.testing.assert_array_equal(one.pred, other.pred)
    assert (folds / "decided.npz").exists()


def test_worst_trials_link_to_sheets_and_nothing_held_out_is_said(
    quick: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.report.worst.MOST_SHEETS", 1)
    cache, out = write_small_cache(tmp_path / "cache", recordings=2), tmp_path / "a run"
    assert jobs.train(quick(epochs=1, val_share=0.0), cache=cache, out=out, how=TRAIN) == jobs.DONE
    found = sections(out)
    assert "Nothing was held out, so there are no scores" in found["Scores"][0].text
    assert "Confusion" not in found
    assert jobs.evaluate(models=[out], cache=cache, on="all", out=tmp_path / "scored", device="cpu") == jobs.DONE
    page = make(tmp_path / "scored", out=tmp_path / "elsewhere" / "page.html")
    links = re.findall(r'<a href="([^"#]+)"', page.read_text(encoding="utf-8").split("<script>")[0])
    assert len(links) == 1
    assert Path(os.path.normpath(page.parent / unquote(links[0]))).read_bytes().startswith(b"\x89PNG")
    found = sections(tmp_path / "scored")
    assert "2 of them, or others of their animals, trained this model" in found["Scores"][0].text
    assert [row[0] for row in texts(found["Keypoints"][1])][:2] == ["mouth", "tail_base"]


def test_a_report_that_fails_fails_no_training(
    poses: Path, run: Path, quick: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = json.loads((run / "run.json").read_text())["settings"]
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / REPORT).unlink()
    (copy / "history.csv").write_text("no table\n")
    assert jobs.train(type(quick())(**settings), cache=poses, out=copy, how=TRAIN) == jobs.DONE
    said = capsys.readouterr().out
    assert f"[warning] no report was made: KeyError: 'epoch'; `pipeline report {copy}` tries again" in said
    assert not (copy / REPORT).exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "no such folder"),
        ("", "expected the folder of `pipeline train`"),
        ("trials", "bouts.csv: not there"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, name: str, message: str) -> None:
    if name == "trials":
        (tmp_path / "out" / name).mkdir(parents=True)
    folder = tmp_path / {"": "", "trials": "out"}.get(name, name)
    with pytest.raises(ReportError, match=re.escape(message)):
        make(folder)


def test_a_run_of_an_earlier_version_says_what_it_lacks(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / FOLDER)
    (copy / MADE).unlink()
    report = describe(copy, copy / REPORT, None)
    assert report.facts["Command"] == "not kept (made by an earlier version)"
    assert "was not kept here" in next(s for s in report.sections if s.title == "Scores").parts[0].text
    assert "Learning curves" in [section.title for section in report.sections]


def test_times_of_a_prediction_are_those_of_its_tables(predicted: Path, hostile: str) -> None:
    report = of_prediction(predicted, {"mouse_99M": "it has no video"})
    found = {section.title: section.parts for section in report.sections}
    assert texts(found["Left out"][0]) == [["mouse_99M", "all", "it has no video"]]
    rows = {(row[0], row[1]): row for row in texts(found["Trials"][0])}
    assert len(rows) == 12
    table = pd.read_csv(predicted / "trials" / f"prediction_{hostile}.mp4_1.csv")
    expected = [f"{(table['Action'] == name).sum() / 30:.2f}" for name in ("rest", "lick", "walk")]
    assert [f"{float(cell):.1f}" for cell in rows[hostile, "1"][4:]] == [f"{float(cell):.1f}" for cell in expected]
    data = found["Ethograms"][0].data
    assert (data["unit"], len(data["rows"])) == ("s", 12)
    assert data["rows"][0]["fps"] == pytest.approx(30, rel=1e-3)


def test_a_wheel_holds_the_page() -> None:
    root = Path(__file__).parents[2]
    packed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    files = {path for path in root.glob("pipeline/**/*") if path.is_file() and path.suffix not in {".py", ".pyc"}}
    in_wheel = {
        path
        for room, names in packed.items()
        for name in names
        for path in root.glob(f"{room.replace('.', '/')}/{name}")
    }
    assert {path.name for path in files} >= {"page.html", "page.css", "page.js"}
    assert files <= in_wheel


def test_scores_of_another_part_or_model_are_never_shown(run: Path, poses: Path, tmp_path: Path) -> None:
    """A kill between the trials and what says whose they are; and a model that went on after it was scored."""
    again = shutil.copytree(run, tmp_path / "run")
    (again / "scores.json").unlink()
    assert "same command again scores it" in sections(again)["Scores"][0].text
    shutil.copy(run / "scores.json", again)
    assert "held-out recordings" in sections(again)["Scores"][0].text
    next((again / FOLDER).glob("*.npz")).unlink()
    for kept in [path for path in (again / FOLDER).glob("*.npz") if path.name.startswith("mouse_01M")]:
        kept.unlink()
    assert "not those that scores.json is of" in sections(again)["Scores"][0].text
    shutil.rmtree(again / FOLDER)
    shutil.copytree(run / FOLDER, again / FOLDER)
    best = checkpoint.load(again / BEST)
    checkpoint.save(again / BEST, best | {"epoch": best["epoch"] + 1})
    assert "of another model" in sections(again)["Scores"][0].text
