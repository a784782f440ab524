"""What follows a run: each epoch once and in order, whatever interrupts it, and never a change of what is learned."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from pipeline.cross_validation.stage import cross_validate
from pipeline.model import checkpoint
from pipeline.train import stage
from pipeline.train.followers import Follow, scalars_of
from pipeline.train.run_folder import BEST, HISTORY
from pipeline.train.tensorboard_log import FOLDER
from tests_support import called, write_small_cache

ROOT = Path(__file__).parents[2]
LOGGED = Follow(tensorboard=True)
TIMES = ["seconds", "waited_s"]


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_cache(tmp_path_factory.mktemp("poses") / "cache", frames=False, recordings=4)


@pytest.fixture(scope="module")
def make(quick):
    """A plateau: the course of a cosine would depend on the number of epochs."""
    return lambda **changes: quick(**({"encoder": "none", "lr_schedule": "plateau", "epochs": 4} | changes))


@pytest.fixture(scope="module")
def followed(poses: Path, make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("followed") / "run"
    run(poses, out, make(), LOGGED)
    return out


def run(cache: Path, out: Path, settings, follow: Follow, **options) -> list[str]:
    lines: list[str] = []
    stage.train(settings, cache=cache, out=out, follow=follow, say=lines.append, **options)
    return lines


def read(out: Path) -> EventAccumulator:
    log = EventAccumulator(str(out / FOLDER), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    log.Reload()
    return log


def scalars(log: EventAccumulator) -> dict[str, list[tuple[int, float]]]:
    return {tag: [(event.step, event.value) for event in log.Scalars(tag)] for tag in log.Tags()["scalars"]}


def expected(out: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for row in pd.read_csv(out / HISTORY).to_dict("records"):
        for tag, value in scalars_of(row).items():
            found.setdefault(tag, []).append((row["epoch"], pytest.approx(value, rel=1e-6)))
    return found


def test_every_epoch_is_in_the_log(followed: Path) -> None:
    found = scalars(read(followed))
    assert found == expected(followed)
    assert {len(steps) for tag, steps in found.items() if not tag.startswith("f1/")} == {4}
    assert found.keys() >= {
        "loss/train", "loss/validation", "macro_f1/validation", "segment_f1/validation", "f1/rest", "f1/walk",
        "course/learning_rate", "course/share_of_waiting",
    }  # fmt: skip
    assert "keypoint_error/validation" not in found  # this model places none: NaN is no point of a curve


def test_pictures_and_settings_are_in_the_log(followed: Path) -> None:
    log = read(followed)
    assert set(log.Tags()["images"]) == {
        f"{w}/{which}" for w in ("confusion", "ethogram") for which in ("best", "latest")
    }
    for tag in log.Tags()["images"]:
        events = log.Images(tag)
        assert 1 <= len(events) <= 11
        picture = Image.open(io.BytesIO(events[-1].encoded_image_string))
        assert max(picture.size) < 1200
        assert len(picture.getcolors(1 << 20)) > 5  # something is drawn
    text = log.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| lr | 0.002 |" in text
    assert log.summary_metadata["_hparams_/session_start_info"].plugin_data.plugin_name == "hparams"


def test_a_long_run_has_no_more_pictures(poses: Path, make, tmp_path: Path) -> None:
    run(poses, tmp_path / "run", make(epochs=12, tcn_layers=1, pose_width=4, tcn_channels=4), LOGGED)
    log = read(tmp_path / "run")
    assert [event.step for event in log.Images("ethogram/latest")] == [1, 2, 4, 6, 8, 10, 12]
    assert len(log.Images("ethogram/best")) <= 11


def test_following_changes_nothing_that_is_learned(poses: Path, make, followed: Path, tmp_path: Path) -> None:
    run(poses, tmp_path / "run", make(), Follow())
    ours, theirs = (pd.read_csv(out / HISTORY, dtype=str).drop(columns=TIMES) for out in (followed, tmp_path / "run"))
    assert ours.to_csv() == theirs.to_csv()
    weights, others = (checkpoint.load(out / BEST)["weights"] for out in (followed, tmp_path / "run"))
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert not (tmp_path / "run" / FOLDER).exists()
    # How a run is followed is no setting of it.
    assert "is up to date" in run(poses, tmp_path / "run", make(), LOGGED)[0]
    assert not (tmp_path / "run" / FOLDER).exists()


KILLED_BEFORE_IT_SAVES = """
import os, signal, sys, torch
from pathlib import Path
from pipeline.train_settings import TrainSettings
from pipeline.train import loop, stage
from pipeline.train.followers import Follow
torch.set_num_threads(1)
real = loop.Loop._save
def save(self):
    if len(self.history) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    real(self)
loop.Loop._save = save
settings = TrainSettings(**eval(sys.argv[3]))
stage.train(settings, cache=Path(sys.argv[1]), out=Path(sys.argv[2]), follow=Follow(tensorboard=True))
"""


def test_killed_and_gone_on_with_it_has_each_epoch_once(poses: Path, make, followed: Path, tmp_path: Path) -> None:
    """Killed when epoch 3 was in the log and not yet in last.pt, which is the worst moment."""
    out = tmp_path / "run"
    arguments = [sys.executable, "-c", KILLED_BEFORE_IT_SAVES, str(poses), str(out), repr(vars(make()))]
    done = subprocess.run(arguments, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    (log,) = (out / FOLDER).iterdir()
    assert [step for step, _ in scalars(read(out))["loss/train"]] == [1, 2, 3]
    with log.open("r+b") as file:  # and as if it had been killed while it wrote
        file.truncate(log.stat().st_size - 5)
    assert [step for step, _ in scalars(read(out))["loss/train"]] == [1, 2, 3]
    run(poses, out, make(), LOGGED)
    assert scalars(read(out)) == expected(out)
    assert scalars(read(out))["loss/train"] == scalars(read(followed))["loss/train"]
    assert {len(list(read(out).Images(tag))) for tag in ("ethogram/latest", "confusion/latest")} == {4}


def test_parts_of_one_second_keep_their_order(poses: Path, make, tmp_path: Path) -> None:
    """Files are read by name, and a name has the second in it: this also holds where the clock was put back."""
    out = tmp_path / "run"
    run(poses, out, make(epochs=1), LOGGED)
    (log,) = (out / FOLDER).iterdir()
    log.rename(log.with_name("events.out.tfevents.9999999999.host.1.0"))
    run(poses, out, make(epochs=2), LOGGED, resume=True)
    run(poses, out, make(epochs=3), LOGGED, resume=True)
    assert scalars(read(out)) == expected(out)


def test_a_run_that_is_followed_later_has_its_first_epochs_too(poses: Path, make, tmp_path: Path) -> None:
    run(poses, tmp_path / "run", make(epochs=2), Follow())
    run(poses, tmp_path / "run", make(epochs=3), LOGGED, resume=True)
    assert scalars(read(tmp_path / "run")) == expected(tmp_path / "run")


def test_what_is_moved_aside_takes_its_log_along_and_what_is_fresh_has_no_new_one(
    poses: Path, make, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(poses, out, make(epochs=2), LOGGED)
    before = {path: path.stat().st_mtime_ns for path in (out / FOLDER).iterdir()}
    assert "is up to date" in run(poses, out, make(epochs=2), LOGGED)[0]
    assert {path: path.stat().st_mtime_ns for path in (out / FOLDER).iterdir()} == before
    run(poses, out, make(epochs=1, lr=1e-3), LOGGED)
    assert [step for step, _ in scalars(read(tmp_path / "run.old-1"))["loss/train"]] == [1, 2]
    assert [step for step, _ in scalars(read(out))["loss/train"]] == [1]


def test_a_log_that_cannot_be_written_stops_nothing(poses: Path, make, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(poses, out, make(epochs=1), Follow())
    (out / FOLDER).write_text("no folder")
    lines = run(poses, out, make(epochs=2), LOGGED, resume=True)
    told = [line for line in lines if "TensorBoard" in line]
    assert len(told) == 1
    assert told[0].endswith("; the training goes on without")
    assert len(pd.read_csv(out / HISTORY)) == 2


def test_nothing_held_out_has_no_pictures_and_no_validation(poses: Path, make, tmp_path: Path) -> None:
    lines = run(poses, tmp_path / "run", make(epochs=1, val_share=0.0), LOGGED)
    assert not any("goes on without" in line for line in lines)
    found = scalars(read(tmp_path / "run"))
    assert "loss/train" in found
    assert not any(tag.endswith("/validation") or tag.startswith("f1/") for tag in found)


def test_folds_are_compared_in_one_board(poses: Path, make, tmp_path: Path) -> None:
    out, settings = tmp_path / "cv", make(epochs=1, decision=False)
    cross_validate(settings, cache=poses, out=out, n_folds=2, follow=LOGGED)
    board = EventMultiplexer()
    board.AddRunsFromDirectory(str(out))
    board.Reload()
    assert set(board.Runs()) == {f"fold-{fold}/{FOLDER}" for fold in (1, 2)}
    assert all("macro_f1/validation" in tags["scalars"] for tags in board.Runs().values())


WITH_WANDB = """
import os, sys, torch
from pathlib import Path
from pipeline.train_settings import TrainSettings
from pipeline.train import stage
from pipeline.train.followers import Follow
torch.set_num_threads(1)
values, cache, out = eval(sys.argv[3]), Path(sys.argv[1]), Path(sys.argv[2])
for epochs in eval(sys.argv[4]):
    stage.train(TrainSettings(**values | {"epochs": epochs}), cache=cache, out=out, follow=Follow(wandb=True))
"""


def with_wandb(cache: Path, out: Path, settings, epochs: list[int], **environment: str) -> subprocess.CompletedProcess:
    """Trains in a process of its own, as the command line does. Nothing of the user's own account is seen by it."""
    pytest.importorskip("wandb")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    kept |= {"PYTHONPATH": str(ROOT), "HOME": str(out.parent), "NETRC": str(out.parent / "no-netrc")}
    command = [sys.executable, "-c", WITH_WANDB, str(cache), str(out), repr(vars(settings)), repr(epochs)]
    options = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 300}
    return subprocess.run(command, env=kept | environment, check=False, **options)


def wandb_records(file: Path) -> list:
    """Of a LevelDB log: after 7 bytes for the whole file come blocks of 32 KiB, of pieces with a head of 7 bytes each:
    a checksum, the length, and whether it is a whole record (1), its first (2), a middle (3) or its last (4) piece."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, record, found = file.read_bytes(), 7, b"", []
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # what is left of the block is empty
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            found.append(Record.FromString(record))
            record = b""
    return found


def test_an_offline_run_of_wandb_holds_every_epoch_and_goes_on(poses: Path, make, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = with_wandb(poses, out, make(), [1, 3], WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "[info] Weights & Biases: offline, to be sent by: wandb sync" in done.stdout
    files = sorted(out.glob("wandb/offline-run-*/run-*.wandb"))
    assert files
    assert len({path.name for path in files}) == 1  # one identity
    records = [record for file in files for record in wandb_records(file)]
    assert {record.run.project for record in records if record.HasField("run")} == {"paw-pipeline"}
    rows = [
        {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    history = pd.read_csv(out / HISTORY)
    told = {int(row["_step"]): float(row["loss/validation"]) for row in rows if "loss/validation" in row}
    assert told == dict(zip(history["epoch"], history["val_loss"].map(pytest.approx), strict=True))
    assert any("confusion/latest" in key for row in rows for key in row)
    assert any("macro_f1/validation" in row for row in rows)


@pytest.mark.parametrize(
    "environment",
    [{}, {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": 40 * "a"}],
    ids=["not logged in", "no network"],
)
def test_without_an_answer_from_wandb_the_training_goes_on(
    poses: Path, make, tmp_path: Path, environment: dict
) -> None:
    done = with_wandb(poses, tmp_path / "run", make(), [1], **environment)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if "Weights & Biases" in line]
    assert len(told) == 1
    assert told[0].endswith("; the training goes on without")
    assert done.stderr == ""
    assert len(pd.read_csv(tmp_path / "run" / HISTORY)) == 1


def test_without_the_extra_it_is_said_before_anything_is_done(
    poses: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setitem(sys.modules, "wandb", None)
    for command in (["train"], ["cross-validate"], ["tune"], ["run", "--videos", "Videos"]):
        done = called(*command, "--wandb", "--cache", poses, "--out", tmp_path / "run")
        assert done.returncode == 2
        assert done.stderr == "error: --wandb needs Weights & Biases: pip install 'paw-pipeline[wandb]'\n"
    assert not (tmp_path / "run").exists()
