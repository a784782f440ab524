"""Two tiny trials, interrupted and gone on with, and what a search space may hold."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import cache as clip_cache
from pipeline.cluster import IN_PROCESS
from pipeline.held import BusyError, held
from pipeline.jobs import DONE, tune
from pipeline.model import checkpoint
from pipeline.model.checkpoint import CheckpointError
from pipeline.setting_texts import SettingsError
from pipeline.settings_file import read_toml
from pipeline.settings_given import resolve
from pipeline.train.followers import NOBODY
from pipeline.train.run_folder import BEST, RunError
from pipeline.train.stage import train
from pipeline.train_settings import Keep, TrainSettings
from pipeline.tuning import stage
from pipeline.tuning.search import DEFAULT, Range, read_search
from tests_support import small_clip, write_recording, write_small_cache

SEARCH = {"lr": Range(1e-4, 1e-2, log=True), "tcn_channels": (8, 16), "tcn_layers": Range(1, 3)}


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_cache(tmp_path_factory.mktemp("poses") / "cache", frames=False, recordings=4)


def options(quick, cache: Path, out: Path, **changes) -> dict:
    settings = quick(encoder="none", epochs=1)
    return {"settings": settings, "cache": cache, "out": out, "n_trials": 2, "n_folds": 2, "search": SEARCH} | changes


def test_an_interrupted_trial_goes_on_in_its_folder(poses: Path, quick, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("optuna")
    real, calls = stage.cross_validate, []

    def interrupted(settings, *, out: Path, **rest):
        calls.append((out.name, settings))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(settings, out=out, **rest)

    monkeypatch.setattr(stage, "cross_validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage.tune(**options(quick, poses, tmp_path / "out"))
    trials = stage.tune(**options(quick, poses, tmp_path / "out"))
    assert [name for name, _ in calls] == ["trial-0", "trial-1", "trial-1"]
    assert calls[1] == calls[2]
    assert calls[0] != calls[1]
    assert [trial.score for trial in trials] == sorted((trial.score for trial in trials), reverse=True)
    assert len(trials) == 2
    best = resolve(TrainSettings, read_toml(tmp_path / "out" / stage.BEST), {})
    assert {name: getattr(best, name) for name in SEARCH} == trials[0].changed
    assert best.epochs == 1
    stage.tune(**options(quick, poses, tmp_path / "out"))
    assert len(calls) == 3
    with pytest.raises(RunError, match="other folds: 2; use another --out"):
        stage.tune(**options(quick, poses, tmp_path / "out", n_folds=3))


def test_a_second_one_in_the_folder_is_refused(poses: Path, quick, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    with held(tmp_path / "out"), pytest.raises(BusyError, match="another process is at work in this folder"):
        stage.tune(**options(quick, poses, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_trial_of_which_a_fold_is_held_is_tried_again(poses: Path, quick, tmp_path: Path) -> None:
    """As where a worker goes on with a fold although the command was ended."""
    pytest.importorskip("optuna")
    stage.tune(**options(quick, poses, tmp_path / "out", n_trials=1))
    with (
        held(tmp_path / "out" / "trial-1" / "fold-2"),
        pytest.raises(BusyError, match="fold-2: another process is at work in this folder"),
    ):
        stage.tune(**options(quick, poses, tmp_path / "out"))
    trials = stage.tune(**options(quick, poses, tmp_path / "out"))
    assert all(trial.score is not None for trial in trials)
    assert {trial.folder for trial in trials} == {"trial-0", "trial-1"}


def test_a_study_of_before_a_setting_came_goes_on(poses: Path, quick, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    given = options(quick, poses, tmp_path / "out", n_trials=1)
    stage.tune(**given)
    storage = f"sqlite:///{(tmp_path / 'out' / stage.STUDY).resolve()}"
    study = optuna.load_study(study_name="tune", storage=storage)
    former = study.user_attrs["settings"]
    study.set_user_attr("settings", {name: former[name] for name in former if name != "aug_turn"})
    assert len(stage.tune(**given)) == 1
    other = dataclasses.replace(given["settings"], dropout=0.4)
    with pytest.raises(RunError, match=r"made with other settings: dropout 0\.3 \(now 0\.4\); use another --out"):
        stage.tune(**given | {"settings": other})


def test_it_says_that_the_best_score_is_too_good(poses: Path, quick, tmp_path: Path, capsys) -> None:
    pytest.importorskip("optuna")
    (tmp_path / "search.toml").write_text("lr = {low = 1e-4, high = 1e-2, log = true}\n")
    how = {"trials": 1, "folds": 2, "cluster": IN_PROCESS, "keep": Keep.AUTO, "follow": NOBODY}
    how["search"] = tmp_path / "search.toml"
    assert tune(quick(encoder="none", epochs=1), cache=poses, out=tmp_path / "out", **how) == DONE
    assert "chosen for its score, which is therefore too good" in capsys.readouterr().out


def test_without_optuna_it_says_what_to_install(poses: Path, quick, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SettingsError, match=r"needs Optuna: pip install 'paw-pipeline\[tune\]'"):
        stage.tune(**options(quick, poses, tmp_path / "out"))


def test_the_default_search_is_of_allowed_values() -> None:
    for name, entry in DEFAULT.items():
        for value in (entry.low, entry.high) if isinstance(entry, Range) else entry:
            resolve(TrainSettings, {name: value}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate = [1, 2]", "'rate' is no setting that can be searched"),
        ("seed = [1, 2]", "'seed' is no setting that can be searched"),
        ("lr = {low = 1e-2, high = 1e-4}", "expected low < high"),
        ("dropout = {low = 0.0, high = 0.5, log = true}", "low > 0 where log = true"),
        ("dropout = [0.1, 1.5]", "--dropout 1.5: expected a value < 1"),
        ("encoder = {low = 1, high = 2}", "expected a list of choices"),
        ("lr = 1e-3", "expected a list of choices, or for a number"),
        ("", "names no setting"),
    ],
)
def test_a_search_that_cannot_be_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "search.toml").write_text(text)
    with pytest.raises(SettingsError) as error:
        read_search(tmp_path / "search.toml")
    assert message in str(error.value)
    assert "search.toml: " in str(error.value)


@pytest.fixture(scope="module")
def encoder(quick, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on recordings that no trial sees; not to be changed."""
    path = tmp_path_factory.mktemp("encoder")
    with clip_cache.create(path / "cache") as cache:
        for i in range(2):
            write_recording(cache, f"other_{i}", [small_clip(i)])
    train(quick(model_type="keypoints", epochs=1), cache=path / "cache", out=path / "run", say=lambda line: None)
    return path / "run"


@pytest.mark.parametrize(
    ("changes", "search", "says"),
    [
        ({"encoder_width": 24}, {}, "its encoder does not fit; --encoder-width: 16 there, 24 here"),
        ({}, {"encoder_width": (16, 24)}, "its encoder does not fit; --encoder-width: 16 there, 24 here"),
        ({}, {"encoder_width": Range(16, 24)}, "its encoder does not fit; --encoder-width: 16 there, 24 here"),
        ({"init_from": ""}, {"init_from": ("", "nowhere")}, "nowhere: no such checkpoint"),
    ],
)
def test_an_encoder_that_does_not_fit_all_that_is_searched_is_refused_at_once(
    small_cache: Path, encoder: Path, quick, tmp_path: Path, changes: dict, search: dict, says: str
) -> None:
    pytest.importorskip("optuna")
    settings = quick(**({"epochs": 1, "init_from": str(encoder)} | changes))
    with pytest.raises(CheckpointError, match=f"^--init-from.*{says}"):
        stage.tune(**options(quick, small_cache, tmp_path / "out", settings=settings, search=SEARCH | search))
    assert not (tmp_path / "out").exists()


def test_an_encoder_that_has_seen_what_is_tested_is_refused_at_once(small_cache: Path, quick, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    out = tmp_path / "run"
    train(quick(model_type="keypoints", epochs=1), cache=small_cache, out=out, say=lambda line: None)
    with pytest.raises(SettingsError, match="was trained on 6 recordings that are tested here"):
        stage.tune(**options(quick, small_cache, tmp_path / "out", settings=quick(init_from=str(out))))
    assert not (tmp_path / "out").exists()


def test_trials_of_another_encoder_are_not_compared(
    small_cache: Path, encoder: Path, quick, tmp_path: Path, monkeypatch
) -> None:
    pytest.importorskip("optuna")
    scored = SimpleNamespace(failed=[], summary=SimpleNamespace(macro=SimpleNamespace(mean=0.5)))
    monkeypatch.setattr(stage, "cross_validate", lambda settings, **options: scored)
    begins = tmp_path / "begins"
    shutil.copytree(encoder, begins)
    asked = options(quick, small_cache, tmp_path / "out", settings=quick(init_from=str(begins)))
    stage.tune(**asked)
    content = checkpoint.load(begins / BEST)
    checkpoint.save(begins / BEST, content | {"decision": None, "more": 1})
    stage.tune(**asked | {"n_trials": 3})
    content["weights"][next(name for name in content["weights"] if name.startswith("encoder."))] += 1
    checkpoint.save(begins / BEST, content)
    with pytest.raises(RunError, match="the encoder that --init-from names is not the one that the study's trials"):
        stage.tune(**asked | {"n_trials": 4})
    shutil.rmtree(begins)
    assert len(stage.tune(**asked)) == 3  # all is done, and needs it no more


def test_trials_on_other_recordings_are_not_compared(quick, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    cache = write_small_cache(tmp_path / "cache", frames=False, recordings=4)
    stage.tune(**options(quick, cache, tmp_path / "out", n_trials=1))
    write_small_cache(tmp_path / "other", frames=False, recordings=5)
    with pytest.raises(RunError, match="recordings came, went or changed; use another --out"):
        stage.tune(**options(quick, tmp_path / "other", tmp_path / "out"))
