"""A model that is shown the time since the stimulus: it is told when that comes, or it says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cache as clip_cache
from cache import fingerprint
from lab import Lab
from pipeline.lab_tables import TableError
from pipeline.model.trained import load_trained
from pipeline.predict.evaluation import evaluate
from pipeline.predict.stage import Predicted, predict, predict_clip
from pipeline.predict.summary import REFUSED
from predict_lab import NAMES, TRIAL, write_model, write_videos
from tests_support import called

HEADER = "recording,trial,stim_frame\n"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.pt", time_input="stimulus")


def write(folder: Path, *rows: str) -> Path:
    path = folder / "stimuli.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return path


def probabilities(out: Path, recording: str, trial: int) -> np.ndarray:
    """(T,N)."""
    table = pd.read_csv(out / "trials" / f"prediction_{recording}.mp4_{trial}.csv")
    return table[[f"p_{name}" for name in NAMES]].to_numpy()


def states(done: Predicted) -> dict[str, str]:
    return {row.recording: row.state for row in done.outcomes}


def test_a_recording_without_its_stimuli_is_refused(videos: Path, model: Path, tmp_path: Path) -> None:
    stimuli = write(tmp_path, "a.mp4,1,5", "a,2,7", "b,1,5", f"c,1,{TRIAL}", "c,2,0")
    done = predict([model], out=tmp_path / "out", videos=videos, stimulus=stimuli)
    assert states(done) == {"a": "predicted", "b": REFUSED, "c": REFUSED}
    assert "no stimulus frame is known of trial 2, " in done.left_out["b"]
    assert f"row 5: stim_frame {TRIAL} lies outside the trial, whose frames are 0 to {TRIAL - 1}" in done.left_out["c"]
    assert done.n_faulty == 2


def test_without_a_table_nothing_is_done_and_nothing_lost(videos: Path, model: Path, tmp_path: Path) -> None:
    """A flag that was forgotten, of a folder that was filled with it."""
    stimuli, out = write(tmp_path, *(f"{name},{trial},5" for name in "abc" for trial in (1, 2))), tmp_path / "out"
    predict([model], out=out, videos=videos, stimulus=stimuli)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(TableError, match="write a table recording,trial,stim_frame and give it, --stimulus"):
        predict([model], out=out, videos=videos)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    about = json.loads((out / "predict.json").read_text())
    assert about["stimulus"] == {"path": str(stimuli), "fingerprint": fingerprint.of_file(stimuli)}


def test_what_is_said_follows_the_stimulus(videos: Path, model: Path, tmp_path: Path) -> None:
    """As an annotation's StimFrame would: what is scored and what is predicted are the same."""
    out = tmp_path / "out"
    rows = [f"{name},{trial},5" for name in "abc" for trial in (1, 2)]
    predict([model], out=out, videos=videos, stimulus=write(tmp_path, *rows))
    trained = load_trained(model)
    for clip in clip_cache.open(out / "cache"):
        annotated = predict_clip(trained, clip.with_stimulus(5)).probabilities
        np.testing.assert_allclose(probabilities(out, clip.recording, clip.trial), annotated, atol=1e-3)
        assert np.abs(annotated - predict_clip(trained, clip).probabilities).max() > 0.01
    early = probabilities(out, "a", 1)
    again = predict([model], out=out, videos=videos, stimulus=write(tmp_path, "a,1,25", *rows[1:]))
    assert states(again) == {"a": "predicted", "b": "up to date", "c": "up to date"}
    assert np.abs(probabilities(out, "a", 1) - early).max() > 0.01


def test_a_table_that_does_nothing_or_does_not_fit_is_told(videos: Path, model: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    rows = [f"{name},{trial},5" for name in "abcz" for trial in (1, 2)]
    predict([model], out=tmp_path / "out", videos=videos, stimulus=write(tmp_path, *rows), say=lines.append)
    assert any("2 stimuli are of trials that are not here: z trial 1, z trial 2" in line for line in lines)
    other = write_model(tmp_path / "other.pt")
    predict([other], out=tmp_path / "other", videos=videos, stimulus=tmp_path / "stimuli.csv", say=lines.append)
    assert "does nothing, the model was not trained with --time-input stimulus" in lines[-1]
    path = tmp_path / "wrong.csv"
    path.write_text("recording,trial\na,1\n")
    with pytest.raises(TableError, match="no column stim_frame"):
        predict([model], out=tmp_path / "wrong", videos=videos, stimulus=path)


def test_the_command_takes_the_table(videos: Path, model: Path, tmp_path: Path) -> None:
    stimuli = write(tmp_path, *(f"{name},{trial},5" for name in "abc" for trial in (1, 2)))
    words = ["predict", "--model", model, "--videos", videos, "--out", tmp_path / "out"]
    refused = called(*words)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: the model is shown the time since the stimulus")
    done = called(*words, "--stimulus", stimuli)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 predicted" in done.stdout


def test_scores_say_how_many_stimuli_they_lack(tmp_path: Path, model: Path) -> None:
    lab = Lab(tmp_path / "lab")
    lab.recording("a.mp4", 2 * TRIAL)
    lab.annotation("a.mp4_1", [f"{label},3" for label in np.arange(TRIAL) % 3], header="Frame,Action,StimFrame")
    lab.annotation("a.mp4_2", np.arange(TRIAL) % 3)
    cache = tmp_path / "cache"
    settings = ["--img-size", 32, "--trial-frames", TRIAL, "--min-frames", TRIAL, "--classes", "rest,lick,walk"]
    folders = ["--videos", lab.folder, "--annotations", lab.folder, "--cache", cache]
    done = called("preprocess", *folders, *settings, "--crops", "")
    assert done.returncode == 0, done.stderr
    lines: list[str] = []
    evaluate([model], cache=cache, on="all", say=lines.append)
    assert any("1 of 2 trials have no StimFrame" in line for line in lines)
