"""Training under torchrun: two processes learn what one does, and one of them writes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pandas as pd
import pytest
import torch

import cache as clip_cache
from pipeline import machine
from pipeline.cli import main
from pipeline.model import checkpoint
from pipeline.model.network import Output
from pipeline.setting_texts import flag
from pipeline.torchrun import STARTED_BY
from pipeline.train import losses, stage
from pipeline.train.augment import Augmented
from pipeline.train.balance import Balance
from pipeline.train.data import prepare
from pipeline.train.ranks import Ranks
from pipeline.train.run_folder import BEST, HISTORY, LAST
from pipeline.train.windows import every_window
from pipeline.train_settings import TrainSettings
from tests_support import small_clip, write_recording

ROOT = Path(__file__).parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# How the time went; all else is what was learned.
TIMES = ["seconds", "waited_s"]
# Far longer than any of these runs takes: a guard against ranks that wait for each other for ever.
GUARD_S = 280


# What ranks tell each other. Not in the same processes as a training: they are in touch once and no second time.
TELL = """
from pipeline.train.ranks import world

def fails_on(*failing):
    if ranks.rank in failing:
        raise KeyError(f"of {ranks.rank}")
    return ranks.rank

def tried(ask, act):
    try:
        return ask(act)
    except Exception as error:
        return type(error).__name__ + str(error)[:6]

with world("cpu") as ranks:
    whos = ((), (0,), (1,), (0, 1))
    heard = [tried(ask, lambda: fails_on(*who)) for ask in (ranks.first, ranks.each) for who in whos]
    for line in ranks.gather(heard):
        print(line)
"""
# What `pipeline train` does, without the scores, pictures and report after it.
RESUME = """
import sys
from pathlib import Path
from pipeline.train_settings import TrainSettings
from pipeline.train import stage
settings = TrainSettings(**eval(sys.argv[3]))
stage.train(settings, cache=Path(sys.argv[1]), out=Path(sys.argv[2]), resume=True)
"""


def torchrun(*arguments: object, program: tuple[str, ...] = ("-m", "pipeline")) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, *program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=GUARD_S, check=False)


def flags_of(settings: TrainSettings) -> list[str]:
    """The settings as a command line."""
    given = []
    for f in fields(settings):
        value = getattr(settings, f.name)
        if isinstance(value, bool):
            given.append(f"--{flag(f.name)}" if value else f"--no-{flag(f.name)}")
        elif value != "":
            given += [f"--{flag(f.name)}", str(value)]
    return given


def history(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / HISTORY).drop(columns=TIMES)


def assert_same_history(ours: Path, theirs: Path) -> None:
    pd.testing.assert_frame_equal(history(ours), history(theirs), rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def uneven_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six recordings with trials of several lengths, some shorter than a window, one of them without labels."""
    path = tmp_path_factory.mktemp("uneven") / "cache"
    with clip_cache.create(path) as cache:
        for i in range(6):
            lengths = [(48, 15), (48, 40), (31, 48)][i % 3]
            clips = [{name: array[:n] for name, array in small_clip(10 * i + n).items()} for n in lengths]
            if i == 1:
                clips[1]["labels"][:] = -1
            write_recording(cache, f"mouse_{i}", clips)
    return path


@pytest.fixture(scope="module")
def settings(quick) -> TrainSettings:
    """All that a batch's parts could get wrong: classes of several weights, boosts, every augmentation, keypoints and
    heat maps, boundaries, refinements, a frozen encoder, a moving average, and a last batch of a single window."""
    return quick(
        batch_size=7, rare_threshold_share=0.3, aug_hflip=0.5, aug_kp_drop=0.2, aug_stretch=0.3, lambda_smooth=0.1,
        lambda_tmse=0.15, refine_stages=1, lambda_boundary=0.1, tcn_stride=2, pose_features="both",
        freeze_encoder_epochs=1, use_ema=True,
        ema_decay=0.5, patch_size=8, dropout=0.0, head_dropout=0.0, lr_schedule="plateau", lr_patience=0, device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(uneven_cache: Path, settings: TrainSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    stage.train(settings, cache=uneven_cache, out=out, say=lambda line: None)
    return out


@pytest.fixture(scope="module")
def together(
    uneven_cache: Path, settings: TrainSettings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The same run of two ranks, by the command line."""
    out = tmp_path_factory.mktemp("together") / "run"
    done = torchrun("train", "--cache", uneven_cache, "--out", out, *flags_of(settings))
    assert done.returncode == 0, done.stderr
    return out, done


def test_two_ranks_learn_what_one_process_does(alone: Path, together) -> None:
    out, _ = together
    assert_same_history(alone, out)
    assert history(alone)["shown_loss"].diff().abs().max() > 0.01  # it did learn, more than the tolerance
    for name in (BEST, LAST):
        ours, theirs = (checkpoint.load(run / name)["weights"] for run in (alone, out))
        for key, weight in ours.items():
            torch.testing.assert_close(theirs[key], weight, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: key + text)


def test_the_last_batch_has_fewer_windows_than_ranks(uneven_cache: Path, settings: TrainSettings) -> None:
    """Or the comparison above would not show that a rank without a window changes nothing."""
    data = prepare(clip_cache.open(uneven_cache), settings, lambda line: None)
    lengths = [len(clip) for clip in data.train.clips]
    assert len(every_window(lengths, settings.train_T)) % settings.batch_size == 1
    assert len({window.n_frames for window in every_window(lengths, settings.train_T)}) > 1


def test_one_rank_writes_and_speaks(alone: Path, together) -> None:
    out, done = together
    for line in ("Epoch 1/2", "Epoch 2/2", f"Pictures: {out / 'pictures'}", f"Report: {out / 'report.html'}"):
        assert done.stdout.splitlines().count(line) == 1, line
    assert "Warning" not in done.stderr
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert len([name for name in files if name.startswith("tensorboard/")]) == 1
    assert not [name for name in files if ".tmp" in name]
    assert {path.name for path in alone.iterdir()} <= {name.split("/")[0] for name in files}


def test_a_run_goes_on_with_another_number_of_ranks(
    uneven_cache: Path, settings: TrainSettings, alone: Path, together, tmp_path: Path
) -> None:
    longer = replace(settings, epochs=3)
    for before, after in ((alone, "one"), (together[0], "fewer")):
        shutil.copytree(before, tmp_path / after)
        stage.train(longer, cache=uneven_cache, out=tmp_path / after, resume=True, say=lambda line: None)
    assert_same_history(tmp_path / "one", tmp_path / "fewer")
    shutil.copytree(alone, tmp_path / "more")
    (tmp_path / "resume.py").write_text(RESUME)
    arguments = [uneven_cache, tmp_path / "more", repr(vars(longer))]
    done = torchrun(*arguments, program=(str(tmp_path / "resume.py"),))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines().count("[info] goes on after epoch 2") == 1
    assert_same_history(tmp_path / "one", tmp_path / "more")


def test_two_ranks_learn_keypoints_alone_with_an_encoder_that_was_trained(
    uneven_cache: Path, settings: TrainSettings, alone: Path, tmp_path: Path
) -> None:
    of_keypoints = replace(settings, model_type="keypoints", init_from=str(alone), freeze_encoder_epochs=0, epochs=1)
    stage.train(of_keypoints, cache=uneven_cache, out=tmp_path / "one", say=lambda line: None)
    (tmp_path / "train.py").write_text(RESUME.replace(", resume=True", ""))
    arguments = [uneven_cache, tmp_path / "two", repr(vars(of_keypoints))]
    done = torchrun(*arguments, program=(str(tmp_path / "train.py"),))
    assert done.returncode == 0, done.stderr
    assert_same_history(tmp_path / "one", tmp_path / "two")
    assert done.stdout.count("begins with the encoder of") == 1


def test_what_one_rank_meets_all_are_told(tmp_path: Path) -> None:
    (tmp_path / "tell.py").write_text(TELL)
    done = torchrun(program=(str(tmp_path / "tell.py"),))
    assert done.returncode == 0, done.stderr
    alone_failed, elsewhere = "KeyError'of 0'", "ElsewhereErroranothe"
    assert done.stdout.splitlines() == [
        str([0, alone_failed, 0, alone_failed, 0, alone_failed, elsewhere, alone_failed]),
        str([0, elsewhere, 0, elsewhere, 1, elsewhere, "KeyError'of 1'", elsewhere]),
    ]


def test_a_rank_that_fails_amid_an_epoch_ends_all_and_is_named(
    uneven_cache: Path, settings: TrainSettings, tmp_path: Path
) -> None:
    """The second rank sees a copy of the cache whose frames cannot be read."""
    (tmp_path / "cache0").symlink_to(uneven_cache)
    shutil.copytree(uneven_cache, tmp_path / "cache1")
    for chunk in (tmp_path / "cache1").glob("recordings/*/frames/c/**/0"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    command = f'exec "{sys.executable}" -m pipeline train --cache "{tmp_path}/cache$RANK" --out "{tmp_path}/run" "$@"'
    done = torchrun("sh", "-c", command, "sh", "--keep", "disk", *flags_of(settings), program=("--no-python",))
    assert done.returncode != 0
    (said,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert said.startswith(f"error: rank 1: {tmp_path / 'cache1'}")
    assert done.stderr.count("Traceback") == 1  # that of torchrun's own report
    assert not (tmp_path / "run" / LAST).exists()


@pytest.mark.parametrize(
    ("arguments", "rank", "said"),
    [
        (["train", "--cache", "C", "--out", "R", "--batch-size", "3"], 0, "--batch-size 3: the 4 ranks share each"),
        (
            ["train", "--cache", "C", "--out", "R", "--batch-size", "4", "--device", "cuda:1"],
            0,
            "--device cuda:1: with",
        ),
        (["train", "--cache", "C", "--out", "R", "--batch-size", "4", "--device", "mps"], 0, "--device mps: with 4"),
        (
            ["train", "--cache", "C", "--out", "R", "--batch-size", "4", "--aug-mix", "0.3"],
            0,
            "--aug-mix 0.3: mixes a window with another of its batch, which the 4 ranks share; train in one process",
        ),
        (["predict", "--model", "M", "--out", "P"], 0, "pipeline predict: works in one process, and was started as 4"),
        (["cross-validate", "--cache", "C", "--out", "CV"], 2, "rank 2: pipeline cross-validate: works in one"),
        (["tune", "--cache", "C", "--out", "T"], 3, ""),
    ],
    ids=["small batch", "one card for all", "mps", "mixed windows", "predict", "first of another machine", "any other"],
)
def test_what_several_ranks_cannot_do_is_refused_by_the_first_of_each_machine(
    arguments: list[str],
    rank: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started(monkeypatch, WORLD_SIZE=4, RANK=rank, LOCAL_RANK=rank % 2, LOCAL_WORLD_SIZE=2)
    monkeypatch.setattr("pipeline.torchrun.STAY_S", 0.0)
    monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(f"error: {said}" if said else "")
    assert len(shown.err.splitlines()) == (1 if said else 0)
    assert not list(tmp_path.iterdir())


def started(monkeypatch: pytest.MonkeyPatch, **environment: int) -> None:
    """As by torchrun."""
    for name, value in (environment | {STARTED_BY: 1}).items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("environment", [{"RANK": "1"}, {"LOCAL_RANK": "1"}, {"WORLD_SIZE": "1", "RANK": "3"}])
def test_what_others_call_a_rank_mutes_nobody(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["pipeline", "train", "--cache", "nowhere", "--out", "run"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err.startswith("error: nowhere: no cache there")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but torchrun did not start this process"),
        ({"WORLD_SIZE": "many"}, "the environment variable WORLD_SIZE is 'many': expected a number"),
    ],
)
def test_several_processes_that_torchrun_did_not_start_are_refused(
    environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each would train alone, and all write into the same run."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["pipeline", "train", "--cache", "nowhere", "--out", "run"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")


def test_ranks_on_a_machine_share_its_memory_and_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    free, cores = machine.free_memory(), machine.cores()
    started(monkeypatch, WORLD_SIZE=4, LOCAL_WORLD_SIZE=4)
    assert machine.free_memory() == pytest.approx(free / 4, rel=0.2)
    assert machine.cores() == max(1, cores // 4)


@pytest.mark.parametrize(
    ("n_windows", "batch_size", "size"), [(16, 5, 2), (16, 5, 4), (7, 8, 3), (1, 4, 4), (12, 4, 1)]
)
def test_each_window_is_one_ranks_and_every_batch_is_shared(n_windows: int, batch_size: int, size: int) -> None:
    dealt = [Ranks(rank, size).deal(n_windows, batch_size) for rank in range(size)]
    for step, places in enumerate(zip(*dealt, strict=True)):
        batch = range(step * batch_size, min(n_windows, (step + 1) * batch_size))
        assert sorted(place for part in places for place in part) == list(batch)
        lengths = [len(part) for part in places]
        assert max(lengths) - min(lengths) <= 1
    for whole in dealt:  # the stream reads batches of one length, but for the last
        assert {len(part) for part in whole[:-1]} <= {len(whole[0])}


def test_clips_are_shared_by_their_frames() -> None:
    sizes = [5, 100, 30, 30, 40, 7]
    parts = [Ranks(rank, 2).share(sizes) for rank in range(2)]
    assert sorted(i for part in parts for i in part) == list(range(len(sizes)))
    assert [sum(sizes[i] for i in part) for part in parts] == [107, 105]
    assert Ranks().share(sizes) == list(range(len(sizes)))


@pytest.mark.parametrize("model_type", ["multitask", "keypoints"])
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_the_parts_of_a_batch_have_the_losses_and_gradients_of_the_whole(cut: int, model_type: str) -> None:
    """cut 0: a rank that has no sample of its own."""
    generator = torch.Generator().manual_seed(0)
    B, T, N, K = 4, 9, 5, 3
    logits = torch.randn(B, T, N, generator=generator, requires_grad=True)
    xy = torch.rand(B, T, K, 2, generator=generator, requires_grad=True)
    heat = torch.randn(B, T, K, 4, 4, generator=generator).flatten(-2).log_softmax(-1).unflatten(-1, (4, 4))
    labels = torch.randint(-1, N, (B, T), generator=generator)
    visible = torch.rand(B, T, K, generator=generator) > torch.arange(B)[:, None, None] / B
    valid = torch.arange(T) < torch.tensor([9, 4, 7, 1])[:, None]
    target_xy = torch.rand(B, T, K, 2, generator=generator)
    balance = Balance(torch.tensor([1.0, 0.2, 3.0, 0.0, 2.0]), torch.tensor([-0.5, -2.0, -3.0, 0.0, -1.0]))
    begins = torch.randn(B, T, generator=generator, requires_grad=True)
    seam = torch.arange(T) == torch.tensor([6, 2, 0, 9])[:, None]
    settings = TrainSettings(lambda_smooth=0.3, lambda_tmse=0.2, lambda_boundary=0.5, model_type=model_type)

    def losses_of(samples: slice, counts: bool, over_ranks) -> losses.Losses:
        part = Augmented(
            None, target_xy[samples], target_xy[samples], visible[samples], visible[samples], labels[samples],
            valid[samples], seam=seam[samples],
        )  # fmt: skip
        output = Output(
            logits[samples], xy[samples], heat[samples], (2 * logits[samples],), boundary_BT=begins[samples]
        )
        part = part if counts else losses.counting_nothing(part)
        return losses.total(output, part, balance, settings, over_ranks, 3.0)

    whole = losses_of(slice(None), True, lambda own: own)
    assert whole.boundary > 0
    wanted = (logits, xy, begins) if settings.learns_behaviour else (xy,)
    whole_slopes = torch.autograd.grad(whole.total, wanted)
    parts = [(slice(cut) if cut else slice(1), bool(cut)), (slice(cut, None), True)]
    seen: list[torch.Tensor] = []
    for samples, counts in parts:
        losses_of(samples, counts, lambda own: seen.append(own) or own)
    shared = [losses_of(samples, counts, lambda own: (seen[0] + seen[1]) / 2) for samples, counts in parts]
    for f in fields(losses.Losses):
        mean = (getattr(shared[0], f.name) + getattr(shared[1], f.name)) / 2
        torch.testing.assert_close(mean, getattr(whole, f.name))
    slopes = torch.autograd.grad((shared[0].total + shared[1].total) / 2, wanted)
    for ours, theirs in zip(slopes, whole_slopes, strict=True):
        torch.testing.assert_close(ours, theirs)
