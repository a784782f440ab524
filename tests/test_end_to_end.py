"""From folders of videos to tables: the commands of the README on a small rendered set."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

import cache as clip_cache
from pipeline.demo.dataset import make_dataset
from pipeline.model import checkpoint
from pipeline.model.trained import load_trained
from pipeline.predict import evaluation, stage
from pipeline.predict.evaluation import EvaluateError
from pipeline.predict.models import misfit
from pipeline.predict.stage import predict_clip
from pipeline.preprocess.annotations import read_annotation
from pipeline.preprocess_settings import REFERENCE_CLASSES
from tests_support import called, write_small_cache

SIZE = (96, 72)
# A lab's command line from before this project, as it is.
OLD_FLAGS = ["--epochs", 2, "--batch_size", 2, "--train_T", 60, "--val_T", 60, "--early_stopping_patience", 0]
SMALL = ["--img_size", 32, "--encoder_width", 16, "--tcn_channels", 16]


def pipeline(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=500, check=False)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `pipeline run` was called on 4 recordings and `pipeline predict` on two others."""
    home = tmp_path_factory.mktemp("lab")
    make_dataset(home / "data", recordings=4, trials=1, animals=4, size=SIZE, seed=3)
    make_dataset(home / "new", recordings=2, trials=1, animals=2, size=SIZE, seed=4)
    shutil.rmtree(home / "new" / "Annotations")
    folders = ["--annotations", "data/Annotations", "--videos", "data/Videos"]
    done = pipeline("run", *folders, *OLD_FLAGS, *SMALL, cwd=home)
    assert done.returncode == 0, done.stderr
    (home / "run.log").write_text(done.stdout)
    done = pipeline(
        "predict", "--model", "paw_run/best_model_multitask.pt", "--videos", "new/Videos", "--out", "out", cwd=home
    )
    assert done.returncode == 0, done.stderr
    (home / "predict.log").write_text(done.stdout)
    return home


def test_run_shows_and_writes_everything(lab: Path) -> None:
    log = (lab / "run.log").read_text()
    for text in ("4 recordings, 4 trials used, 0 skipped", "Epoch 2/2", "Scores on", "majority baseline"):
        assert text in log
    written = {path.name for path in (lab / "paw_run").iterdir()}
    assert written == {
        "best_model_multitask.pt", "last.pt", "history.csv", "split.csv", "run.json", "scores.json", "pictures",
        "scored_trials", "made.json", "report.html", "tensorboard",
    }  # fmt: skip


def test_a_second_run_does_nothing(lab: Path) -> None:
    folders = ["--annotations", "data/Annotations", "--videos", "data/Videos"]
    before = {path: path.stat().st_mtime_ns for path in (lab / "paw_run").rglob("*")}
    done = called("run", *folders, *OLD_FLAGS, *SMALL, cwd=lab)
    assert "is up to date" in done.stdout
    assert done.stdout.count("fresh") == 4
    assert {path: path.stat().st_mtime_ns for path in (lab / "paw_run").rglob("*")} == before


def test_a_table_per_trial_that_reads_as_an_annotation(lab: Path) -> None:
    tables = sorted((lab / "out" / "trials").glob("prediction_*.mp4_1.csv"))
    assert len(tables) == 2
    classes = tuple(REFERENCE_CLASSES.split(","))
    for path in tables:
        table = pd.read_csv(path)
        assert table["Frame"].tolist() == list(range(360))
        assert table["VideoFrame"].tolist() == list(range(360))
        np.testing.assert_allclose(table["Time_s"], np.arange(360) / 30, atol=1e-3)
        probabilities = table.filter(like="p_")
        assert list(probabilities.columns) == [
            f"p_{name}" for name in ("rest", "paw_withdraw", "paw_lick", "paw_shake", "walk", "active")
        ]
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-3)
        chosen = [row[f"p_{action}"] for action, row in zip(table["Action"], table.to_dict("records"), strict=True)]
        assert (probabilities.max(axis=1) == chosen).all()  # rounded, two may be the largest
        assert table["L_hindpaw_x"].between(0, SIZE[0]).all()
        assert table["L_hindpaw_y"].between(0, SIZE[1]).all()
        labels = read_annotation(path, classes).labels
        assert [classes[i] for i in labels] == table["Action"].tolist()


def test_the_bouts_are_those_of_the_trials(lab: Path) -> None:
    bouts = pd.read_csv(lab / "out" / "bouts.csv")
    for path in (lab / "out" / "trials").iterdir():
        table = pd.read_csv(path)
        recording = path.name.removeprefix("prediction_").removesuffix(".mp4_1.csv")
        told = np.full(360, "", dtype=object)
        for bout in bouts[bouts["recording"] == recording].itertuples():
            assert (told[bout.start_frame : bout.stop_frame] == "").all()
            told[bout.start_frame : bout.stop_frame] = bout.action
            assert bout.duration_frames == bout.stop_frame - bout.start_frame
            assert bout.duration_s == pytest.approx(bout.duration_frames / 30, abs=1e-3)
        assert told.tolist() == table["Action"].tolist()


def test_predict_again_decodes_nothing(lab: Path) -> None:
    before = (lab / "out" / "bouts.csv").read_bytes()
    arguments = ["--model", "paw_run/best_model_multitask.pt", "--videos", "new/Videos", "--out", "out"]
    done = called("predict", *arguments, cwd=lab)
    assert done.stdout.count("fresh") == 2
    assert "2 up to date; 2 trials, " in done.stdout
    assert (lab / "out" / "predict.json").exists()
    assert (lab / "out" / "bouts.csv").read_bytes() == before


def test_pictures_are_there(lab: Path) -> None:
    for path in (lab / "out" / "pictures" / "ethogram_1.png", lab / "paw_run" / "pictures" / "confusion.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_evaluate_on_all_and_on_val(lab: Path) -> None:
    model = lab / "paw_run" / "best_model_multitask.pt"
    on_val = evaluation.evaluate([model], cache=lab / "paw_cache", out=lab / "scored")
    on_all = evaluation.evaluate([model], cache=lab / "paw_cache", on="all")
    assert on_val.n_recordings == 1
    assert on_all.n_recordings == 4
    written = json.loads((lab / "scored" / "scores.json").read_text())
    assert written["model"]["macro_f1"] == on_val.model.scores.macro_f1
    saved = checkpoint.load(model)["scores"]
    assert saved["macro_f1"] == pytest.approx(on_val.model.scores.macro_f1, abs=1e-6)


def test_the_checkpoint_holds_what_predicting_needs(lab: Path) -> None:
    content = checkpoint.load(lab / "paw_run" / "best_model_multitask.pt")
    assert content["class_names"][1] == "paw_withdraw"
    assert content["keypoint_names"][0] == "mouth"
    assert content["preprocess"]["img_size"] == 32
    assert content["preprocess"]["trial_frames"] == 360
    assert content["preprocess"]["crops"] == "345=15"
    assert content["train"]["train_T"] == 60
    assert content["schema"] == checkpoint.CHECKPOINT_SCHEMA


def test_other_keypoints_are_refused_with_the_difference(lab: Path, tmp_path: Path) -> None:
    videos = tmp_path / "Videos"
    shutil.copytree(lab / "new" / "Videos", videos)
    table = min(videos.glob("*.csv"))
    table.write_text(table.read_text().replace("L_hindpaw", "left_foot"))
    model = lab / "paw_run" / "best_model_multitask.pt"
    done = called("predict", "--model", model, "--videos", videos, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 3
    assert "left_foot" in done.stdout
    assert "1 predicted, 1 refused; 1 trials, " in done.stdout
    assert len(list((tmp_path / "out" / "trials").iterdir())) == 1


def test_the_dlc_table_to_predict_from_can_be_chosen(lab: Path, tmp_path: Path) -> None:
    """The chosen table is told by a keypoint of its own, which the model refuses by name."""
    videos = tmp_path / "Videos"
    shutil.copytree(lab / "new" / "Videos", videos)
    first = min(videos.glob("*.csv"))
    stem = min(videos.glob("*.mp4")).stem
    text = first.read_text()
    (videos / f"{stem}DLC_second.csv").write_text(text.replace("mouth", "second"))
    (videos / f"{stem}DLC_second_filtered.csv").write_text(text.replace("mouth", "smoothed"))
    model = lab / "paw_run" / "best_model_multitask.pt"
    folders = ["--model", model, "--videos", videos, "--out", tmp_path / "out"]
    for chosen, said in (
        ([], "choose one by a part of its name: --dlc-scorer"),
        (["--dlc-scorer", "second"], "its keypoints are second, tail_base"),
        (["--dlc-scorer", "second", "--prefer-filtered"], "its keypoints are smoothed, tail_base"),
    ):
        done = called("predict", *folders, *chosen, cwd=tmp_path)
        assert said in " ".join(done.stdout.split()), done.stdout + done.stderr


def test_another_size_is_refused_with_the_difference(lab: Path, tmp_path: Path) -> None:
    other = write_small_cache(tmp_path / "cache", recordings=2)
    with pytest.raises(EvaluateError, match="classes are rest, paw_withdraw"):
        evaluation.evaluate([lab / "paw_run" / "best_model_multitask.pt"], cache=other, on="all")
    trained = load_trained(lab / "paw_run" / "best_model_multitask.pt")
    colour = write_small_cache(tmp_path / "colour", recordings=2, channels=3)
    meta = clip_cache.open(colour).recordings[0]
    assert (
        misfit(trained, meta) == "its frames are 32x32 with 3 channels; the model was trained on 32x32 with 1 channel"
    )


def test_scores_are_of_arg_max_labels(lab: Path) -> None:
    """No threshold is chosen on the frames that are scored: scikit-learn gives the same from the arg-max alone."""
    model = lab / "paw_run" / "best_model_multitask.pt"
    trained = load_trained(model)
    clips = clip_cache.open(lab / "paw_cache")
    labels = np.concatenate([trained.merge_lookup[clip.labels] for clip in clips])
    pred = np.concatenate([predict_clip(trained, clip).probabilities.argmax(1) for clip in clips])
    scores = evaluation.evaluate([model], cache=lab / "paw_cache", on="all").model.scores
    assert scores.macro_f1 == pytest.approx(f1_score(labels, pred, average="macro"), abs=1e-9)
    assert scores.support == {n: int((labels == i).sum()) for i, n in enumerate(trained.class_names)}


def test_only_the_asked_recordings_are_predicted(lab: Path, tmp_path: Path) -> None:
    """A second folder of videos into the same --out does not bring the first one's bouts along."""
    shutil.copytree(lab / "out", tmp_path / "out")
    only = tmp_path / "only"
    only.mkdir()
    chosen = min((lab / "new" / "Videos").glob("*.mp4"))
    for path in (lab / "new" / "Videos").glob(f"{chosen.stem}*"):
        shutil.copy(path, only)
    done = stage.predict([lab / "paw_run" / "best_model_multitask.pt"], out=tmp_path / "out", videos=only)
    assert done.n_trials == 1
    assert set(pd.read_csv(tmp_path / "out" / "bouts.csv")["recording"]) == {chosen.stem}
