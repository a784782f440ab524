"""Folds on a small cache: what a model is tested on never influences it, and a kill costs nothing that was done."""

from __future__ import annotations

import ast
import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import cache as clip_cache
from pipeline.cluster import IN_PROCESS, Cluster
from pipeline.cross_validation import out_of_fold, stage
from pipeline.held import BusyError, held
from pipeline.jobs import DONE, FAILED, LEFT_OUT, cross_validate
from pipeline.model import checkpoint
from pipeline.model.decision import Decision
from pipeline.model.infer import infer
from pipeline.predict.models import load_models, merge_of
from pipeline.setting_texts import SettingsError
from pipeline.train import stage as training
from pipeline.train.followers import NOBODY
from pipeline.train.run_folder import BEST, DECISION, RunError
from pipeline.train.split import SplitError, read_split
from pipeline.train.stream import load_clip
from pipeline.train_settings import Keep
from tests_support import CLASSES, small_clip, write_recording

NAMES = [f"mouse_{i:02d}M" for i in range(6)]


def write_cache(path: Path, names: list[str] = NAMES, altered: tuple[str, ...] = ()) -> Path:
    """altered: recordings whose labels are others."""
    with clip_cache.create(path) as cache:
        for i, name in enumerate(names):
            clips = [small_clip(10 * i + trial) for trial in range(2)]
            for clip in clips if name in altered else []:
                clip["labels"] = (clip["labels"][::-1] + 1) % len(CLASSES)
            write_recording(cache, name, clips, frames=False, version="2" if name in altered else "1")
    return path


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("poses") / "cache")


@pytest.fixture
def fold_file(tmp_path: Path) -> Path:
    path = tmp_path / "given.csv"
    rows = [f"{name},{i // 2 + 1}" for i, name in enumerate(NAMES)]
    path.write_text("\n".join(["recording,fold", *rows]) + "\n")
    return path


@pytest.fixture
def pose_only(quick):
    return lambda **changes: quick(**({"encoder": "none", "epochs": 2} | changes))


@pytest.fixture(scope="module")
def made_once(poses: Path, quick, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A cross-validation as `pose_only()` makes it, and a copy of it."""
    out = tmp_path_factory.mktemp("made") / "out"
    assert call(quick(encoder="none"), poses, out) == DONE
    return out, shutil.copytree(out, out.with_name("copy"))


@pytest.fixture
def made(made_once: tuple[Path, Path]) -> Path:
    """It again, as it was made and where: the place of its split files is among its settings."""
    out, copy = made_once
    for path in out.parent.glob("out*"):
        shutil.rmtree(path)
    return shutil.copytree(copy, out)


def call(settings, cache: Path, out: Path, **options) -> int:
    options = {"folds": 3, "fold_file": None, "cluster": IN_PROCESS, "keep": Keep.AUTO, "follow": NOBODY} | options
    return cross_validate(settings, cache=cache, out=out, **options)


def logits_of(out: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted((out / "out_of_fold").iterdir()):
        with np.load(path, allow_pickle=False) as fields:
            found[path.name] = fields["logits"]
    return found


def test_all_of_it(poses: Path, pose_only, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert call(pose_only(), poses, out) == DONE
    shown = capsys.readouterr().out
    for text in ("[fold 3] Epoch 2/2", "F1 on 3 folds", "segment F1@0.5", "bootstrap of 6 recordings", "Confusion"):
        assert text in shown
    table = pd.read_csv(out / stage.TABLE)
    summary = json.loads((out / stage.SUMMARY).read_text())
    folds = pd.read_csv(out / stage.FOLDS).set_index("recording")["fold"]
    names = {f"{name}_{trial}.npz" for name in NAMES for trial in (1, 2)}
    assert logits_of(out).keys() == names
    for fold in (1, 2, 3):
        split = read_split(out / f"fold-{fold}" / "split.csv")
        assert set(split.test) == set(folds[folds == fold].index)
        assert split.val
        scores = json.loads((out / f"fold-{fold}" / "test" / "scores.json").read_text())
        row = table[table["fold"] == fold].iloc[0]
        assert row["macro_f1"] == pytest.approx(scores["model"]["macro_f1"])
        assert row["segment_f1@0.3"] == pytest.approx(scores["model"]["segment_f1"]["0.3"])
        assert row["majority_baseline_macro_f1"] == pytest.approx(scores["majority"]["macro_f1"])
        assert row["best_epoch"] == checkpoint.load(out / f"fold-{fold}" / BEST)["epoch"]
    assert summary["macro_f1"]["mean"] == pytest.approx(table["macro_f1"].mean())
    assert summary["decided"]["macro_f1"]["mean"] == pytest.approx(table["decided_macro_f1"].mean())
    assert "With the decision layer" in shown
    # The folder is a model: the mean of its folds, with the decision of all of them.
    decision = json.loads((out / DECISION).read_text())
    assert load_models([out]).decision == Decision(tuple(decision["bias"]), tuple(decision["begin"]))


def test_boundaries_are_kept_out_of_fold_and_weighed(poses: Path, pose_only, tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = pose_only(lambda_boundary=0.5, epochs=1, val_share=0.0)
    assert call(settings, poses, out, folds=2) == DONE
    clips = out_of_fold.load(out, [(name, 1) for name in NAMES])
    for clip in clips:
        assert (clip.boundary.shape, clip.boundary.dtype) == (clip.labels.shape, np.float32)
        expected = np.log(1 / (1 + np.exp(-clip.boundary.astype(np.float64))))
        np.testing.assert_allclose(clip.evidence.log_begin_T, expected, rtol=1e-4)
    model = load_models([out / "fold-1" / BEST])
    fold = next(clip for clip in clips if clip.fold == 1)
    told = load_clip(next(c for c in clip_cache.open(poses) if c.recording == fold.recording), merge_of(model), 0.9)
    said = infer(model.network, None, told.xy, told.visible, [(0, len(told.labels))], when_TW=told.when)
    np.testing.assert_allclose(fold.boundary, said.boundary_BT, atol=1e-5)


def test_what_is_tested_never_influences_its_model(poses: Path, pose_only, fold_file: Path, tmp_path: Path) -> None:
    tested = tuple(NAMES[2:4])
    other = write_cache(tmp_path / "other", altered=tested)
    for name, cache in (("a", poses), ("b", other)):
        assert call(pose_only(), cache, tmp_path / name, fold_file=fold_file) == DONE
    first, second = (checkpoint.load(tmp_path / name / "fold-2" / BEST) for name in "ab")
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])
    assert first["epoch"] == second["epoch"]
    ours, theirs = logits_of(tmp_path / "a"), logits_of(tmp_path / "b")
    for name in tested:
        np.testing.assert_array_equal(ours[f"{name}_1.npz"], theirs[f"{name}_1.npz"])
    assert (ours[f"{NAMES[0]}_1.npz"] != theirs[f"{NAMES[0]}_1.npz"]).any()  # its model trained on them
    scores = [json.loads((tmp_path / n / "fold-2" / "test" / "scores.json").read_text()) for n in "ab"]
    assert scores[0]["model"]["macro_f1"] != scores[1]["model"]["macro_f1"]


def test_what_is_done_is_left_and_what_changed_is_made_anew(poses: Path, pose_only, made: Path) -> None:
    out = made
    files = [path for path in out.rglob("*") if path.is_file() and path.parent.name in ("test", "out_of_fold")]
    before = {path: path.stat().st_mtime_ns for path in files}
    summary = (out / stage.SUMMARY).read_text()
    assert call(pose_only(), poses, out) == DONE
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert (out / stage.SUMMARY).read_text() == summary
    former = logits_of(out)
    assert call(pose_only(lr=1e-2), poses, out) == DONE
    assert all((out / f"fold-{fold}.old-1" / "test" / "scores.json").exists() for fold in (1, 2, 3))
    assert all((former[name] != logits).any() for name, logits in logits_of(out).items())


def test_lost_scores_are_made_again_without_training(poses: Path, pose_only, made: Path) -> None:
    out = made
    before, trained = logits_of(out), (out / "fold-1" / BEST).stat().st_mtime_ns
    next((out / "out_of_fold").iterdir()).unlink()
    assert call(pose_only(), poses, out) == DONE
    assert (out / "fold-1" / BEST).stat().st_mtime_ns == trained
    np.testing.assert_equal(logits_of(out), before)


def test_side_by_side_is_as_one_by_one(poses: Path, pose_only, made: Path, tmp_path: Path, capfd) -> None:
    assert call(pose_only(), poses, tmp_path / "two", cluster=Cluster(2)) == DONE
    assert "[fold 2] Epoch 1/2" in capfd.readouterr().out
    np.testing.assert_equal(logits_of(tmp_path / "two"), logits_of(made))


COMMAND = """
import sys
from pathlib import Path
from pipeline.cluster import Cluster
from pipeline.cross_validation import stage
from pipeline.train_settings import TrainSettings
if __name__ == "__main__":
    settings = TrainSettings(**eval(sys.argv[3]))
    with Cluster(int(sys.argv[4])) as cluster:
        stage.cross_validate(settings, cache=Path(sys.argv[1]), out=Path(sys.argv[2]), n_folds=3, cluster=cluster)
"""


@pytest.fixture(scope="module")
def undisturbed(poses: Path, quick, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert call(quick(encoder="none", epochs=3), poses, out) == DONE
    return out


@pytest.mark.parametrize("jobs", [0, 2])
def test_killed_and_gone_on_with_is_as_undisturbed(
    poses: Path, pose_only, undisturbed: Path, tmp_path: Path, jobs: int
) -> None:
    settings, out = pose_only(epochs=3), tmp_path / "killed"
    script = tmp_path / "command.py"
    script.write_text(COMMAND)
    arguments = [sys.executable, str(script), str(poses), str(out), repr(vars(settings)), str(jobs)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    while not process.stdout.readline().startswith("[fold 2] Epoch 3/3"):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.read()  # until the last fold's process has closed it: none goes on without the first
    assert not (out / stage.SUMMARY).exists()
    assert call(settings, poses, out) == DONE
    np.testing.assert_equal(logits_of(out), logits_of(undisturbed))
    ours, theirs = (pd.read_csv(folder / stage.TABLE) for folder in (out, undisturbed))
    pd.testing.assert_frame_equal(ours.drop(columns="seconds"), theirs.drop(columns="seconds"))


def test_a_second_one_in_the_folder_is_refused(poses: Path, pose_only, tmp_path: Path) -> None:
    with held(tmp_path / "out"), pytest.raises(BusyError, match="another process is at work in this folder"):
        stage.cross_validate(pose_only(epochs=1), cache=poses, out=tmp_path / "out", n_folds=3)
    assert not (tmp_path / "out").exists()


def test_a_fold_that_fails_does_not_stop_the_others(
    poses: Path, pose_only, made: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    out = made
    real = training.train
    wild = {"lr": 1e30, "grad_clip": 0.0, "warmup_epochs": 0, "epochs": 6}

    def second_diverges(settings, *, out: Path, **options):
        return real(dataclasses.replace(settings, **wild) if out.name == "fold-2" else settings, out=out, **options)

    monkeypatch.setattr(training, "train", second_diverges)
    assert call(pose_only(), poses, out) == LEFT_OUT
    assert "the loss is no longer a finite number" in capsys.readouterr().out
    assert pd.read_csv(out / stage.TABLE)["fold"].tolist() == [1, 3]
    assert json.loads((out / stage.SUMMARY).read_text())["not_done"] == [2]
    assert len(logits_of(out)) == 8  # none is left of the model that fold 2 had before


def test_where_all_folds_fail_there_is_no_summary(poses: Path, pose_only, made: Path) -> None:
    out = made
    assert call(pose_only(lr=1e30, grad_clip=0.0, warmup_epochs=0, epochs=6), poses, out) == FAILED
    assert not (out / stage.SUMMARY).exists()
    assert not (out / stage.TABLE).exists()
    assert logits_of(out) == {}


DYING = """
import os, signal, sys, time
from pathlib import Path
from pipeline.cluster import Cluster
from pipeline.cross_validation import crew, stage
from pipeline.train_settings import TrainSettings
real = crew.attempt
def attempt(task, *rest):
    if task.fold == 2:
        time.sleep(1)  # what it tells has left it
        os.kill(os.getpid(), signal.SIGKILL)
    return real(task, *rest)
crew.attempt = attempt
if __name__ == "__main__":
    with Cluster(2) as cluster:
        settings = TrainSettings(**eval(sys.argv[3]))
        cache, out = map(Path, sys.argv[1:3])
        found = stage.cross_validate(settings, cache=cache, out=out, n_folds=3, cluster=cluster)
    print(repr([[(one.fold, one.reason) for one in found.failed], found.summary.folds]))
"""


def test_a_process_that_dies_costs_its_fold_alone(poses: Path, pose_only, tmp_path: Path) -> None:
    script = tmp_path / "dying.py"
    script.write_text(DYING)
    arguments = [sys.executable, str(script), str(poses), str(tmp_path / "out"), repr(vars(pose_only(epochs=1)))]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    [[(fold, reason)], folds] = ast.literal_eval(done.stdout.splitlines()[-1])
    assert fold == 2
    assert reason.startswith("the process that did it died, and so did the next")
    assert reason.endswith("the same command goes on")
    assert folds == (1, 3)


def test_nothing_is_held_out_to_choose_the_epoch_by(poses: Path, pose_only, tmp_path: Path) -> None:
    assert call(pose_only(val_share=0.0, epochs=3), poses, tmp_path / "out") == DONE
    assert pd.read_csv(tmp_path / "out" / stage.TABLE)["best_epoch"].tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("changes", "options", "error", "message"),
    [
        ({"split_file": "split.csv"}, {}, SettingsError, "folds of your own are given as --fold-file"),
        ({}, {"n_folds": 7}, SplitError, "--folds 7: needs as many groups"),
        ({"group_by": "mouse"}, {}, SplitError, "--folds 5: needs as many groups .* found 1: mouse; lower --folds"),
        ({"tcn_kernel": 4}, {}, SettingsError, "expected an odd number of frames"),
        ({"device": "cuda:77"}, {}, ValueError, "--device cuda:77: not available here"),
        ({"pose_names": "mouth=beak"}, {}, ValueError, "beak"),
    ],
    ids=["split file", "too many folds", "too few animals", "settings", "device", "keypoints"],
)
def test_what_is_wrong_with_all_folds_is_refused_at_once(
    poses: Path, pose_only, tmp_path: Path, changes: dict, options: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        stage.cross_validate(pose_only(**changes), cache=poses, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused(poses: Path, pose_only, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds files that are not of a cross-validation"):
        stage.cross_validate(pose_only(), cache=poses, out=tmp_path)
    with pytest.raises(RunError, match="the cache lies in it"):
        stage.cross_validate(pose_only(), cache=poses, out=poses.parent)


def test_saved_folds_are_used_again_and_must_fit(pose_only, tmp_path: Path) -> None:
    cache, out = write_cache(tmp_path / "cache"), tmp_path / "out"
    call(pose_only(epochs=1), cache, out)
    folds = (out / stage.FOLDS).read_text()
    call(pose_only(epochs=1, seed=7), cache, out)
    assert (out / stage.FOLDS).read_text() == folds
    with pytest.raises(SplitError, match=r"--folds 2: .*folds.csv has 3; use another --out"):
        call(pose_only(epochs=1), cache, out, folds=2)
    with clip_cache.create(cache) as writer:
        write_recording(writer, "mouse_99M", [small_clip(99)], frames=False)
    with pytest.raises(SplitError, match=r"folds.csv: .*in the cache but not in the folds: mouse_99M"):
        call(pose_only(epochs=1), cache, out)


def test_a_fold_without_labels_is_refused(pose_only, fold_file: Path, tmp_path: Path) -> None:
    with clip_cache.create(tmp_path / "cache") as cache:
        for i, name in enumerate(NAMES):
            clip = small_clip(i)
            clip["labels"] = clip["labels"] if i > 1 else np.full_like(clip["labels"], -1)
            write_recording(cache, name, [clip], frames=False)
    with pytest.raises(SplitError, match="fold 1: no labelled frame in its recordings"):
        call(pose_only(), tmp_path / "cache", tmp_path / "out", fold_file=fold_file)
