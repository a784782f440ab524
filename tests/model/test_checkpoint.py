"""Checkpoints: whole or the one before, and nothing in them runs."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from pipeline.model import checkpoint
from pipeline.model.trained import load_trained
from predict_lab import write_model


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    content = {"weights": {"a": torch.arange(3)}, "names": ["x"], "rate": 0.5, "nothing": None, "map": {"k": (1, 2)}}
    checkpoint.save(tmp_path / "a.pt", content)
    loaded = checkpoint.load(tmp_path / "a.pt")
    assert torch.equal(loaded.pop("weights")["a"], torch.arange(3))
    assert loaded == {k: v for k, v in content.items() if k != "weights"} | {"schema": checkpoint.CHECKPOINT_SCHEMA}
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_hostile_file_is_refused_and_nothing_runs(tmp_path: Path, form: str) -> None:
    path, mark = tmp_path / "evil.pt", tmp_path / "mark"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"schema": 1, "weights": Hostile(mark)}))
    else:
        torch.save({"schema": 1, "weights": Hostile(mark)}, path)
    with pytest.raises(checkpoint.CheckpointError, match=r"evil\.pt"):
        checkpoint.load(path)
    assert not mark.exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99], ids=str)
def test_a_cut_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"weights": torch.zeros(1000)})
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises(checkpoint.CheckpointError, match=r"a\.pt"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weights": 1}, "no checkpoint of this pipeline"),
        ([1, 2], "no checkpoint of this pipeline"),
        ({"schema": 99}, "has schema 99, this version reads 3"),
    ],
    ids=["no schema", "a list", "newer"],
)
def test_other_files_are_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(checkpoint.CheckpointError, match=message):
        checkpoint.load(tmp_path / "a.pt")


@pytest.mark.parametrize("time_input", ["clip", "stimulus", "entry", "none"])
def test_a_model_that_was_shown_the_time_otherwise_is_refused_by_that(tmp_path: Path, time_input: str) -> None:
    path = write_model(tmp_path / "a.pt", time_input=time_input)
    load_trained(path)
    content = checkpoint.load(path)
    del content["time_version"]
    checkpoint.save(path, content)
    load_trained(path)  # by knots, before checkpoints told
    content["weights"].pop("pose.knots_WN", None)  # by single numbers, before that
    for wrote in (content, content | {"time_version": 3}):
        checkpoint.save(path, wrote)
        if time_input == "none":
            load_trained(path)
            continue
        with pytest.raises(checkpoint.CheckpointError) as caught:
            load_trained(path)
        assert str(caught.value) == (
            f"{path}: was trained with --time-input {time_input} by another version of this software, which told the "
            f"network the time differently (version {wrote.get('time_version', 1)} of the time input, 2 here); train "
            "it again"
        )


def test_a_checkpoint_without_a_model_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a.pt", {"network_config": {"n_classes": 2}})
    with pytest.raises(checkpoint.CheckpointError, match="holds no whole model"):
        load_trained(tmp_path / "a.pt")
