"""Checkpoints that are cut, damaged, foreign or hostile: the command line says one line, exits with 1, runs nothing."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from pipeline.cli import main
from pipeline.model import checkpoint
from pipeline.model.trained import load_trained
from pipeline.predict.evaluation import evaluate
from pipeline.train.stage import train


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture(scope="module")
def trained(small_cache: Path, quick, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run of one epoch; not to be changed."""
    out = tmp_path_factory.mktemp("trained") / "run"
    return train(quick(epochs=1, encoder="none"), cache=small_cache, out=out, say=lambda _: None).best


def hostile_zip(source: Path, path: Path, mark: Path) -> None:
    """A checkpoint of ours whose pickle has been replaced."""
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(path, "w") as out:
        for name in given.namelist():
            content = pickle.dumps(Hostile(mark), protocol=2) if name.endswith("data.pkl") else given.read(name)
            out.writestr(name, content)


def foreign_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("readme.txt", "not torch's")


BAD = {
    "cut": lambda source, path, mark: path.write_bytes(source.read_bytes()[:-2000]),
    "empty": lambda source, path, mark: path.write_bytes(b""),
    "text": lambda source, path, mark: path.write_text("a model"),
    "another schema": lambda source, path, mark: torch.save(checkpoint.load(source) | {"schema": 99}, path),
    "not a model": lambda source, path, mark: checkpoint.save(path, {"weights": {}}),
    "hostile pickle": lambda source, path, mark: path.write_bytes(pickle.dumps({"schema": 1, "x": Hostile(mark)})),
    "hostile torch file": lambda source, path, mark: torch.save({"schema": 1, "x": Hostile(mark)}, path),
    "hostile zip": hostile_zip,
    "foreign zip": lambda source, path, mark: foreign_zip(path),
    "a folder": lambda source, path, mark: path.mkdir(),
}
COMMANDS = ("evaluate", "predict")


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_checkpoint_ends_in_one_line(
    trained: Path, small_cache: Path, tmp_path: Path, capsys, monkeypatch, kind: str
) -> None:
    path, mark = tmp_path / "model.pt", tmp_path / "mark"
    BAD[kind](trained, path, mark)
    command = COMMANDS[list(BAD).index(kind) % 2]
    where = ["--cache", small_cache] if command == "evaluate" else ["--videos", tmp_path, "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["pipeline", command, "--model", str(path), *map(str, where)])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"error: {path}: ")
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


def test_cut_at_many_places_it_is_refused(trained: Path, tmp_path: Path) -> None:
    content, path = trained.read_bytes(), tmp_path / "model.pt"
    for size in range(0, len(content), len(content) // 60):
        path.write_bytes(content[:size])
        with pytest.raises(checkpoint.CheckpointError, match=r"model\.pt"):
            load_trained(path)


def test_flipped_bits_are_refused_wherever_they_are(trained: Path, tmp_path: Path) -> None:
    """The zip's checksums find them, in the weights too; what they don't cover holds no weights."""
    content, path, rng = trained.read_bytes(), tmp_path / "model.pt", random.Random(0)
    expected = checkpoint.load(trained)
    refused = 0
    for _ in range(60):
        damaged = bytearray(content)
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(damaged))
        try:
            found = checkpoint.load(path)
        except checkpoint.CheckpointError:
            refused += 1
            continue
        assert all(torch.equal(found["weights"][name], weight) for name, weight in expected["weights"].items())
    assert refused > 30


def test_a_model_beside_a_damaged_one_is_still_used(trained: Path, small_cache: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained.parent, tmp_path / "run")
    (run / trained.name).write_bytes(b"damaged")
    assert evaluate([run / "last.pt"], cache=small_cache).n_recordings > 0
