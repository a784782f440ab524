"""Several models as one, and the decision layer that comes with them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import cache as clip_cache
from pipeline.model import checkpoint
from pipeline.model.checkpoint import CheckpointError
from pipeline.model.decision import Decision, undecided
from pipeline.model.ensemble import _mean_decision
from pipeline.model.trained import load_trained
from pipeline.predict.evaluation import EvaluateError, evaluate, scores_are_of
from pipeline.predict.models import checkpoints, load_models
from pipeline.predict.stage import predict_clip
from pipeline.report.stage import make
from pipeline.train import stage
from pipeline.train.folds import FOLDS
from pipeline.train.run_folder import BEST, DECISION, RECORD
from pipeline.train.split import Split, save_split
from tests_support import small_clip, write_recording


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, quick, small_cache: Path) -> list[Path]:
    """Two runs of other seeds, split by the same file."""
    folder = tmp_path_factory.mktemp("runs")
    for number in (1, 2):
        split = {"split_file": str(folder / "1" / "split.csv")} if number == 2 else {}
        stage.train(quick(seed=number, **split), cache=small_cache, out=folder / str(number), say=lambda _: None)
    return [folder / "1", folder / "2"]


def test_two_models_say_the_mean_of_their_probabilities_and_places(runs: list[Path], small_cache: Path) -> None:
    clip = clip_cache.open(small_cache)[0]
    alone = [predict_clip(load_models([run]), clip) for run in runs]
    together = predict_clip(load_models(runs), clip)
    mean = np.mean([prediction.probabilities for prediction in alone], axis=0)
    np.testing.assert_allclose(together.probabilities, mean, atol=1e-5)
    assert np.abs(alone[0].probabilities - alone[1].probabilities).max() > 1e-3  # they do differ
    places = np.mean([prediction.xy_px for prediction in alone], axis=0)
    np.testing.assert_allclose(together.xy_px, places, atol=1e-2)


def test_a_folder_stands_for_its_models(runs: list[Path], tmp_path: Path) -> None:
    assert checkpoints([runs[0]]) == [runs[0] / BEST]
    for fold, run in enumerate(runs, 1):
        (tmp_path / f"fold-{fold}").mkdir()
        (tmp_path / f"fold-{fold}" / BEST).symlink_to(run / BEST)
        (tmp_path / f"fold-{fold}" / RECORD).symlink_to(run / RECORD)
    (tmp_path / FOLDS).write_text("recording,group,fold\na,a,1\nb,b,2\n")
    assert [file.parent.name for file in checkpoints([tmp_path])] == ["fold-1", "fold-2"]
    (tmp_path / FOLDS).write_text("recording,group,fold\na,a,1\nb,b,2\nc,c,3\n")
    with pytest.raises(CheckpointError, match=r"not all folds are trained \(missing: 3\)"):
        checkpoints([tmp_path])
    (tmp_path / FOLDS).write_text("recording,group,fold\na,a,1\nb,b,2\n")
    trained = load_models([tmp_path])
    names = list(trained.class_names)
    values = {"bias": [0.5] * len(names), "begin": [2.0] * len(names), "class_names": names}
    (tmp_path / DECISION).write_text(json.dumps(values))
    assert load_models([tmp_path]).decision == Decision((0.5,) * len(names), (2.0,) * len(names))
    (tmp_path / DECISION).write_text(json.dumps(values | {"boundary": 1.5}))
    assert load_models([tmp_path]).decision.boundary == 1.5
    (tmp_path / DECISION).write_text(json.dumps(values | {"class_names": names[::-1]}))
    with pytest.raises(CheckpointError, match="other classes than the models beside it"):
        load_models([tmp_path])
    (tmp_path / DECISION).write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        load_models([tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty: holds neither best_model_multitask.pt nor folds.csv"):
        load_models([tmp_path / "empty"])


def test_models_of_other_classes_do_not_predict_together(runs: list[Path], tmp_path: Path) -> None:
    content = checkpoint.load(runs[1] / BEST)
    content["class_names"] = content["class_names"][::-1]
    checkpoint.save(tmp_path / "other.pt", content)
    with pytest.raises(CheckpointError, match="other classes than"):
        load_models([runs[0], tmp_path / "other.pt"])


def test_models_that_merge_classes_otherwise_do_not_predict_together(runs: list[Path], tmp_path: Path) -> None:
    """Their merged classes have the same names."""
    content = checkpoint.load(runs[1] / BEST)
    content["merge_lookup"] = [(i + 1) % len(content["class_names"]) for i in content["merge_lookup"]]
    checkpoint.save(tmp_path / "other.pt", content)
    with pytest.raises(CheckpointError, match="another --merge than"):
        load_models([runs[0], tmp_path / "other.pt"])


def test_the_decision_is_kept_in_the_checkpoint_and_told_beside_the_arg_max(
    runs: list[Path], small_cache: Path, tmp_path: Path
) -> None:
    assert load_trained(runs[0] / BEST).decision is not None
    result = evaluate([runs[0]], cache=small_cache, out=tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert result.decided is not None
    assert scores["decided"]["macro_f1"] == pytest.approx(result.decided.macro_f1)
    assert scores["model"]["macro_f1"] == pytest.approx(result.model.scores.macro_f1)


def test_a_decision_that_costs_much_leaves_one_bout(runs: list[Path], small_cache: Path) -> None:
    trained, clip = load_models([runs[0]]), clip_cache.open(small_cache)[0]
    costly = Decision((0.0,) * len(trained.class_names), (1e6,) * len(trained.class_names))
    assert len(set(predict_clip(dataclasses.replace(trained, decision=costly), clip).labels.tolist())) == 1
    plain = predict_clip(dataclasses.replace(trained, decision=None), clip)
    np.testing.assert_array_equal(plain.labels, plain.probabilities.argmax(1))


def test_a_bout_begins_where_the_network_says_a_boundary(runs: list[Path], small_cache: Path) -> None:
    trained, clip = load_models([runs[0]]), clip_cache.open(small_cache)[0]
    plain = predict_clip(dataclasses.replace(trained, decision=None), clip)
    assert len(set(plain.labels.tolist())) > 1
    network = trained.network
    network.boundary = torch.nn.Linear(network.config.tcn_channels, 1)
    torch.nn.init.zeros_(network.boundary.weight)
    zero = (0.0,) * len(trained.class_names)
    for logit, weight, alone in ((-4.0, 1e6, True), (50.0, 1e6, False), (-4.0, 0.0, False)):
        torch.nn.init.constant_(network.boundary.bias, logit)
        said = predict_clip(dataclasses.replace(trained, decision=Decision(zero, zero, weight)), clip)
        np.testing.assert_array_equal(said.probabilities, plain.probabilities)
        if alone:
            assert len(set(said.labels.tolist())) == 1
        else:
            np.testing.assert_array_equal(said.labels, plain.labels)


def test_scores_with_flips_do_not_stand_for_those_without(runs: list[Path], small_cache: Path, tmp_path: Path) -> None:
    plain, flipped = (evaluate([runs[0]], cache=small_cache, out=tmp_path / str(f), flips=f) for f in (False, True))
    assert np.abs(plain.model.logits[0] - flipped.model.logits[0]).max() > 1e-3
    assert scores_are_of(tmp_path / "False", [runs[0]])
    assert not scores_are_of(tmp_path / "True", [runs[0]])
    assert json.loads((tmp_path / "True" / "scores.json").read_text())["scored_on"]["flips"] is True
    with pytest.raises(EvaluateError, match="holds a run, whose own scores are without; choose another folder"):
        evaluate([runs[0]], cache=small_cache, out=runs[0], flips=True)
    assert "(--flips)" in make(tmp_path / "True").read_text()
    assert "(--flips)" not in make(tmp_path / "False").read_text()


def test_a_model_from_before_there_were_boundaries_is_read(runs: list[Path], small_cache: Path, tmp_path: Path) -> None:
    content = checkpoint.load(runs[0] / BEST)
    del content["network_config"]["boundary"], content["train"]["lambda_boundary"]
    assert "boundary" not in content["decision"]
    checkpoint.save(tmp_path / "old.pt", content)
    clip = clip_cache.open(small_cache)[0]
    old, new = (predict_clip(load_models([path]), clip) for path in (tmp_path / "old.pt", runs[0]))
    np.testing.assert_array_equal(old.labels, new.labels)
    np.testing.assert_array_equal(old.probabilities, new.probabilities)


def test_the_mean_of_decisions_weighs_boundaries_by_the_mean_weight() -> None:
    mean = _mean_decision([Decision((0.0,), (2.0,), 4.0), Decision((1.0,), (6.0,))])
    assert mean == Decision((0.5,), (4.0,), 2.0)


def test_several_models_have_no_one_split_to_score(runs: list[Path], small_cache: Path) -> None:
    with pytest.raises(EvaluateError, match="several models have no one split"):
        evaluate(runs, cache=small_cache)
    assert evaluate(runs, cache=small_cache, on="all").n_recordings == len(clip_cache.open(small_cache).recordings)


def test_recordings_that_the_model_knows_are_counted(runs: list[Path], small_cache: Path, tmp_path: Path) -> None:
    n = len(clip_cache.open(small_cache).recordings)
    assert evaluate([runs[0]], cache=small_cache, on="all").n_known == n
    with clip_cache.create(tmp_path / "new") as cache:
        write_recording(cache, "another", [small_clip(0)])
    assert evaluate(runs, cache=tmp_path / "new", on="all").n_known == 0
    content = checkpoint.load(runs[0] / BEST)
    seen = content["seen"]["trained_on"][0]
    content["train"]["group_by"] = f"^({seen}|another)"
    checkpoint.save(tmp_path / "grouped.pt", content)
    with clip_cache.create(tmp_path / "same_animal") as cache:
        write_recording(cache, f"{seen}_again", [small_clip(0)])
        write_recording(cache, "another", [small_clip(0)])
    assert evaluate([tmp_path / "grouped.pt"], cache=tmp_path / "same_animal", on="all").n_known == 1
    both = [runs[1], tmp_path / "grouped.pt"]  # the first was trained without --group-by
    assert evaluate(both, cache=tmp_path / "same_animal", on="all").n_known == 1
    (tmp_path / "alone.pt").write_bytes((runs[0] / BEST).read_bytes())
    assert evaluate([tmp_path / "alone.pt"], cache=small_cache, on="all").n_known == n
    content = checkpoint.load(runs[0] / BEST)
    del content["seen"]  # as checkpoints were before
    checkpoint.save(tmp_path / "alone.pt", content)
    assert evaluate([tmp_path / "alone.pt"], cache=small_cache, on="all").n_known is None


def test_recordings_without_labels_are_neither_scored_nor_counted(quick, tmp_path: Path) -> None:
    with clip_cache.create(tmp_path / "cache") as cache:
        for i in range(5):
            clips = [small_clip(10 * i + trial) for trial in range(2)]
            if i in (1, 2):
                clips = [clip | {"labels": np.full_like(clip["labels"], -1)} for clip in clips]
            write_recording(cache, f"m{i}", clips, frames=False)
    split = Split(("m3", "m4"), ("m0", "m1", "m2"), {f"m{i}": f"m{i}" for i in range(5)})
    save_split(split, tmp_path / "split.csv")
    said: list[str] = []
    settings = quick(encoder="none", split_file=str(tmp_path / "split.csv"))
    run = stage.train(settings, cache=tmp_path / "cache", out=tmp_path / "run", say=said.append).best.parent
    assert any("two or more labelled held-out recordings" in line for line in said)
    on_val = evaluate([run], cache=tmp_path / "cache", out=run)
    assert (on_val.n_recordings, on_val.model.scores.n_labelled, on_val.model.scores.n_trials) == (1, 2, 6)
    assert "2 labelled trials of 1 recording (4 more without" in make(run).read_text()
    on_all = evaluate([run], cache=tmp_path / "cache", on="all")
    assert (on_all.n_recordings, on_all.n_known) == (3, 3)
    # A layer of a model from before this was minded was fitted on one recording: nothing tests it.
    content = checkpoint.load(run / BEST)
    checkpoint.save(run / BEST, content | {"decision": undecided(len(content["class_names"])).as_dict()})
    assert evaluate([run], cache=tmp_path / "cache").decided is None


def test_the_decision_setting_trains_nothing_anew(quick, small_cache: Path, tmp_path: Path) -> None:
    said: list[str] = []

    def train(decision: bool) -> tuple[Decision | None, str]:
        said.clear()
        outcome = stage.train(quick(decision=decision), cache=small_cache, out=tmp_path / "run", say=said.append)
        return load_trained(outcome.best).decision, outcome.state

    assert train(True)[0] is not None
    weights = load_trained(tmp_path / "run" / BEST).network.state_dict()
    assert train(True)[1] == "fresh"
    assert train(False)[0] is None
    assert not any(line.startswith("Epoch") for line in said)
    assert train(True)[0] is not None
    assert not any(line.startswith("Epoch") for line in said)
    for name, weight in load_trained(tmp_path / "run" / BEST).network.state_dict().items():
        assert weight.equal(weights[name])


def test_keypoints_of_another_network_than_the_trainings_are_told(quick, runs: list[Path], tmp_path: Path) -> None:
    cache = tracked_by("DLC_net_a", tmp_path / "a")
    trained = stage.train(quick(epochs=1), cache=cache, out=tmp_path / "run", say=lambda line: None).best
    assert load_trained(trained).tracked_by == ("DLC_net_a",)
    said: list[str] = []
    evaluate([trained], cache=tmp_path / "a", on="all", say=said.append)
    assert not any("are by" in line for line in said)
    evaluate([trained], cache=tracked_by("DLC_net_b", tmp_path / "b"), on="all", say=said.append)
    expected = "2 recordings (mouse_0, mouse_1) are by DLC_net_b; the model was trained on those of DLC_net_a."
    assert any(expected in line for line in said)
    assert load_models([trained, runs[0]]).tracked_by == ()  # of one of them it is not known


def tracked_by(network: str, path: Path) -> Path:
    with clip_cache.create(path) as cache:
        for i in range(2):
            write_recording(cache, f"mouse_{i}", [small_clip(i)], dlc=f"/data/mouse_{i}{network}_filtered.csv")
    return path
