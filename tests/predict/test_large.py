"""Many recordings, and long ones: each is predicted once, whatever comes between, and nothing is mixed."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

import cache as clip_cache
from lab import NETWORK, PARTS, Lab
from pipeline.held import BusyError, held
from pipeline.model import checkpoint
from pipeline.model.decision import Decision
from pipeline.model.trained import load_trained
from pipeline.predict import exports
from pipeline.predict.exports import trial_table, write_trial
from pipeline.predict.stage import Predicted, predict, predict_clip
from pipeline.report.predicted import of_prediction
from pipeline.tables.predicted import from_predictions
from predict_lab import NAMES, TRIAL, results, write_model, write_videos


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.pt")


def states(done: Predicted) -> dict[str, str]:
    return {row.recording: row.state for row in done.outcomes}


def stamps(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "trials").iterdir()}


def taken_home(out: Path) -> dict[str, bytes]:
    """All but the summary, which says what the call did."""
    return {name: content for name, content in results(out).items() if name != "summary.csv"}


def test_a_second_call_predicts_nothing_again(videos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told: list[tuple[str, float, int]] = []
    first = predict([model], out=out, videos=videos, progress=lambda *said: told.append(said))
    assert states(first) == dict.fromkeys("abc", "predicted")
    assert (first.n_trials, first.left_out) == (6, {})
    assert told[-1] == ("predict c", 6 * TRIAL, 6 * TRIAL)  # the bar counts frames
    assert sum(what == "predict a" for what, *_ in told) >= 1
    before, bouts = stamps(out), taken_home(out)
    second = predict([model], out=out, videos=videos)
    assert states(second) == dict.fromkeys("abc", "up to date")
    assert (second.n_trials, second.n_bouts) == (first.n_trials, first.n_bouts)
    assert stamps(out) == before
    assert taken_home(out) == bouts
    third = predict([model], out=out, videos=videos, force=True)
    assert states(third) == dict.fromkeys("abc", "predicted")
    assert not stamps(out).items() & before.items()
    assert taken_home(out) == bouts


def test_keypoints_of_another_network_are_told(videos: Path, model: Path, tmp_path: Path) -> None:
    other, said = tmp_path / "other.pt", []
    for known, n in ((("DLC_other",), 1), ((NETWORK,), 0), ((), 0)):
        checkpoint.save(other, checkpoint.load(model) | {"tracked_by": list(known)})
        predict([other], out=tmp_path / "out", videos=videos, say=said.append)
        expected = f"3 recordings (a, b, c) are by {NETWORK}; the model was trained on those of DLC_other."
        assert sum(expected in line for line in said) == n
        assert sum("are by" in line for line in said) == n
        said.clear()


def test_a_second_call_at_the_same_time_is_refused(videos: Path, model: Path, tmp_path: Path) -> None:
    with held(tmp_path / "out"), pytest.raises(BusyError, match="another process is at work in this folder"):
        predict([model], out=tmp_path / "out", videos=videos)
    assert not (tmp_path / "out").exists()
    assert states(predict([model], out=tmp_path / "out", videos=videos)) == dict.fromkeys("abc", "predicted")


@pytest.mark.skipif(sys.platform == "win32", reason="other lengths there")
def test_a_name_that_is_too_long_for_a_table_stops_no_other(model: Path, tmp_path: Path) -> None:
    long = "m" * 235
    for name in (long, "z"):
        Lab(tmp_path / "videos").video(f"{name}.mp4", TRIAL)
        Lab(tmp_path / "videos").dlc(name, TRIAL, suffix="")
    done = predict([model], out=tmp_path / "out", videos=tmp_path / "videos")
    assert states(done) == {long: "failed", "z": "predicted"}
    assert f"prediction_{long}.mp4_1.csv: too long a name for a table; rename the video" in done.left_out[long]
    assert not list((tmp_path / "out").rglob(f"*{long[:200]}*.csv"))


def test_what_is_said_of_all_together(videos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = predict([model], out=out, videos=videos)
    tables = {name: pd.read_csv(out / "trials" / f"prediction_{name}.mp4_{n}.csv") for name in "abc" for n in (1, 2)}
    assert len(tables["a"]) == TRIAL
    summary = pd.read_csv(out / "summary.csv").set_index("recording")
    assert summary["state"].tolist() == ["predicted"] * 3
    assert (summary["trials"] == 2).all()
    assert (summary["frames"] == 2 * TRIAL).all()
    assert (summary["damaged_frames"] == 0).all()
    for recording, row in summary.iterrows():
        both = pd.concat([pd.read_csv(out / "trials" / f"prediction_{recording}.mp4_{n}.csv") for n in (1, 2)])
        for name in NAMES:
            assert row[f"share_{name}"] == pytest.approx((both["Action"] == name).mean(), abs=1e-4)
            assert row[f"s_{name}"] == pytest.approx((both["Action"] == name).sum() / 30, abs=1e-3)
        sure = both[[f"p_{name}" for name in NAMES]].max(axis=1).mean()
        assert row["mean_certainty"] == pytest.approx(sure, abs=1e-3)  # arg-max: the model has no decision layer
        assert row["seconds"] == 2
    bouts = pd.read_csv(out / "bouts.csv")
    assert len(bouts) == done.n_bouts
    assert bouts["duration_frames"].sum() == 6 * TRIAL
    about = json.loads((out / "predict.json").read_text())
    assert about["finished"]
    assert (about["class_names"], about["recordings"], about["left_out"]) == (list(NAMES), ["a", "b", "c"], {})
    assert about["models"][0]["path"] == str(model)
    assert about["settings"]["preprocess"]["trial_frames"] == TRIAL
    assert {"paw-pipeline", "torch"} <= about["versions"].keys()


def test_what_is_said_with_flips_mixes_with_nothing(videos: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "out", []
    model = write_model(tmp_path / "model.pt", encoder="cnn", multitask=False)
    predict([model], out=out, videos=videos, say=said.append)
    assert said == []
    plain, made_of = results(out), json.loads((out / "predict.json").read_text())["made_of"]
    assert "flips" not in made_of  # results of earlier versions stay up to date
    told: list[tuple[str, float, int]] = []
    done = predict([model], out=out, videos=videos, flips=True, say=said.append, progress=lambda *t: told.append(t))
    assert states(done) == dict.fromkeys("abc", "predicted")
    assert done.former == out / "former-1"
    assert results(done.former) == plain
    assert told[-1] == ("predict c", 6 * TRIAL, 6 * TRIAL)
    unseen, warning = said  # none of these names says a side
    assert unseen == "[warning] --flips: the model was trained without --aug-hflip, and has never seen a mirror image"
    assert warning.startswith("[warning] --flips: no partner to change places with in the mirror has mouth, tail_base")
    tables = [pd.read_csv(folder / "trials" / "prediction_a.mp4_1.csv") for folder in (out, done.former)]
    assert (tables[0]["p_rest"] - tables[1]["p_rest"]).abs().max() > 1e-3
    again = predict([model], out=out, videos=videos, flips=True, say=said.append)
    assert states(again) == dict.fromkeys("abc", "up to date")


def test_another_model_or_decision_mixes_with_nothing(videos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict([model], out=out, videos=videos)
    one = tmp_path / "one"
    Lab(one).recording("d.mp4", TRIAL)
    of_first = results(out)
    other = write_model(tmp_path / "other.pt", seed=1, decision=Decision((0.0,) * 3, (1e6,) * 3))
    done = predict([other], out=out, videos=one)
    assert states(done) == {"d": "predicted"}
    assert done.former == out / "former-1"
    assert results(done.former) == of_first
    assert [path.name for path in (out / "trials").iterdir()] == ["prediction_d.mp4_1.csv"]
    assert len(pd.read_csv(out / "bouts.csv")) == 1  # so costly a change is never made
    without = predict([other], out=out, videos=one, decide=False)
    assert (states(without), without.former) == ({"d": "predicted"}, out / "former-2")
    assert len(pd.read_csv(out / "bouts.csv")) > 1
    both = predict([model, other], out=out, videos=one)
    assert (states(both), both.former) == ({"d": "predicted"}, out / "former-3")
    assert predict([model, other], out=out, videos=one).former is None


def test_results_of_a_version_without_records_are_not_taken_over(videos: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "trials").mkdir(parents=True)
    (tmp_path / "out" / "trials" / "prediction_old.mp4_1.csv").write_text("Frame,Action\n")
    done = predict([model], out=tmp_path / "out", videos=videos)
    assert done.former is not None
    assert (done.former / "trials" / "prediction_old.mp4_1.csv").exists()


def test_changed_data_redo_just_what_changed(videos: Path, model: Path, tmp_path: Path) -> None:
    own, out = tmp_path / "videos", tmp_path / "out"
    shutil.copytree(videos, own)
    predict([model], out=out, videos=own)
    before = stamps(out)
    table = next(own.glob("b*.csv"))
    table.write_text(table.read_text().replace(",10,", ",11,"))
    done = predict([model], out=out, videos=own)
    assert states(done) == {"a": "up to date", "b": "predicted", "c": "up to date"}
    assert {name for name, stamp in stamps(out).items() if stamp != before[name]} == {
        "prediction_b.mp4_1.csv", "prediction_b.mp4_2.csv",
    }  # fmt: skip
    (out / "trials" / "prediction_c.mp4_2.csv").write_text("cut")
    assert states(predict([model], out=out, videos=own))["c"] == "predicted"


def test_recordings_that_are_not_asked_for_stay_and_are_not_counted(videos: Path, model: Path, tmp_path: Path) -> None:
    own, out = tmp_path / "videos", tmp_path / "out"
    shutil.copytree(videos, own)
    predict([model], out=out, videos=own)
    for path in own.glob("a*"):
        path.unlink()
    predict([model], out=out, videos=own)
    assert set(pd.read_csv(out / "bouts.csv")["recording"]) == {"b", "c"}
    assert pd.read_csv(out / "summary.csv")["recording"].tolist() == ["b", "c"]
    assert "2 of 6 predictions are of recordings that only earlier calls" in from_predictions(out).notes[0]
    facts = of_prediction(out).facts
    assert facts["Trials"] == "4 of 2 recordings"
    assert facts["Not in this report"].startswith("2 trials")
    assert states(predict([model], out=out, videos=videos)) == dict.fromkeys("abc", "up to date")
    assert "Not in this report" not in of_prediction(out).facts
    assert not from_predictions(out).notes


def test_bad_recordings_are_listed_and_the_others_go_on(videos: Path, tmp_path: Path) -> None:
    """One whose frames in the cache are damaged, one whose keypoints are others, one that is no video."""
    own, out = tmp_path / "videos", tmp_path / "out"
    shutil.copytree(videos, own)
    model = write_model(tmp_path / "model.pt", encoder="cnn")
    assert states(predict([model], out=out, videos=own)) == dict.fromkeys("abc", "predicted")
    lab = Lab(own)
    lab.dlc("d", TRIAL)
    (own / "d.mp4").write_bytes(b"no video" * 1000)
    table = next(own.glob("c*.csv"))
    table.write_text(table.read_text().replace(PARTS[0], "foot"))
    for path in (out / "cache" / "recordings").glob("b.*.zarr/frames/c/*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = predict([model], out=out, videos=own, force=True)
    assert states(done) == {"a": "predicted", "b": "failed", "c": "refused", "d": "skipped"}
    assert set(done.left_out) == {"b", "c", "d"}
    assert "cannot be read" in done.left_out["b"]
    assert "its keypoints are foot" in done.left_out["c"]
    assert done.n_faulty == 2
    assert {name.split(".")[0] for name in stamps(out)} == {"prediction_a"}  # nothing old of the others either
    assert set(pd.read_csv(out / "bouts.csv")["recording"]) == {"a"}
    summary = pd.read_csv(out / "summary.csv").set_index("recording")
    assert summary.loc["b", "reason"] == done.left_out["b"]
    assert summary.loc["b", ["frames", "seconds", "share_lick"]].isna().all()
    assert json.loads((out / "predict.json").read_text())["left_out"] == done.left_out


def test_a_table_written_in_parts_is_the_whole_table(
    videos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(tmp_path / "model.pt", encoder="cnn")
    predict([model], out=tmp_path / "out", videos=videos)
    monkeypatch.setattr(exports, "ROWS_TOGETHER", 7)
    prediction = predict_clip(load_trained(model), clip_cache.open(tmp_path / "out" / "cache")[0])
    path = write_trial(prediction, NAMES, tmp_path / "parts.csv")
    assert path.read_text() == trial_table(prediction, NAMES).to_csv(index=False, lineterminator="\n")
    assert path.read_bytes() == (tmp_path / "out" / "trials" / "prediction_a.mp4_1.csv").read_bytes()
