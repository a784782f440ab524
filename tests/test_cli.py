"""The command line as a user meets it: its flags, its messages, its exit codes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.settings import PreprocessSettings, TrainSettings, flag
from tests_support import write_small_cache

FOLDERS = ["--videos", "--annotations", "--dlc", "--config"]
# A flag that is taken away or renamed breaks labs' scripts: change this list only with a note for them.
PREPROCESS_FLAGS = {
    "--trial-frames", "--min-frames", "--crops", "--img-size", "--channels", "--classes", "--prefer-filtered",
    "--dlc-scorer", "--dlc-slack", "--dlc-lag", "--frame-size", "--store", "--decoder",
}  # fmt: skip
TRAIN_FLAGS = {
    "--model-type", "--encoder", "--freeze-encoder-epochs", "--encoder-width", "--pose-width", "--tcn-channels",
    "--tcn-layers", "--tcn-kernel", "--pose-names", "--merge", "--train-T", "--val-T", "--kp-likelihood-thr",
    "--val-share", "--group-by", "--split-file", "--kp-jitter-std", "--aug-brightness", "--aug-contrast",
    "--aug-temporal-drop", "--aug-hflip", "--aug-noise-std", "--aug-roll", "--rare-threshold-share",
    "--rare-boost-cap", "--focal-gamma", "--label-smoothing", "--class-weight-power", "--lambda-kp", "--lambda-smooth",
    "--dropout", "--head-dropout", "--weight-decay", "--lr", "--min-lr", "--lr-schedule", "--warmup-epochs",
    "--lr-patience", "--lr-factor", "--grad-clip", "--epochs", "--batch-size", "--seed", "--early-stopping-patience",
    "--use-ema", "--ema-decay", "--amp", "--device",
}  # fmt: skip


def pipeline(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from pipeline.cli import main; main()", *map(str, arguments)]
    environment = {"PATH": "/usr/bin:/bin", "COLUMNS": "200", "OMP_NUM_THREADS": "1", "HOME": "/nonexistent"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300, check=False)


def flags_of(command: str) -> set[str]:
    words = pipeline(command, "--help").stdout.replace("/", " ").split()
    return {word for word in words if word.startswith("--") and not word.startswith("--no-")}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("preprocess", PREPROCESS_FLAGS | {*FOLDERS, "--cache", "--help"}),
        ("train", TRAIN_FLAGS | {"--cache", "--out", "--config", "--resume", "--force", "--help"}),
        (
            "run",
            PREPROCESS_FLAGS | TRAIN_FLAGS | {*FOLDERS, "--cache", "--out", "--resume", "--force", "--help"},
        ),
    ],
    ids=["preprocess", "train", "run"],
)
def test_the_flags_are_frozen(command: str, expected: set[str]) -> None:
    shown = flags_of(command)
    # Help texts name other flags too; these are all flags of the same stage.
    assert shown == expected


def test_every_setting_is_a_flag() -> None:
    for stage, flags in ((PreprocessSettings, PREPROCESS_FLAGS), (TrainSettings, TRAIN_FLAGS)):
        assert {f"--{flag(f.name)}" for f in dataclasses.fields(stage)} == flags


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys\nsys.argv = ['pipeline', '--help']\nfrom pipeline.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'pandas', 'zarr', 'h5py', 'av', 'matplotlib', 'scipy', 'sklearn'}\n"
        "print('LOADED', sorted(heavy & sys.modules.keys()))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "LOADED []" in shown
    for command in ("preprocess", "train", "run", "predict", "evaluate", "demo"):
        assert command in shown


QUICK = ["--train_T", 24, "--epochs", 1, "--batch_size", 4, "--encoder_width", 16, "--tcn_channels", 16]


def test_underscores_and_dashes_are_the_same(small_cache: Path, tmp_path: Path) -> None:
    done = pipeline("train", "--cache", small_cache, "--out", tmp_path / "run", *QUICK, "--kp_jitter_std", 0.125)
    assert done.returncode == 0, done.stderr
    assert '"kp_jitter_std": 0.125' in (tmp_path / "run" / "run.json").read_text()
    again = [str(word).replace("_", "-") if str(word).startswith("--") else word for word in QUICK]
    done = pipeline("train", "--cache", small_cache, "--out", tmp_path / "run", *again, "--kp-jitter-std", 0.125)
    assert "is up to date" in done.stdout


def test_train_shows_scores_and_writes_pictures(small_cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = pipeline("train", "--cache", small_cache, "--out", out, *QUICK)
    assert done.returncode == 0, done.stderr
    for text in ("Scores on", "macro F1", "majority baseline", "keypoint MAE (px)"):
        assert text in done.stdout
    names = {path.name for path in (out / "pictures").iterdir()}
    assert names == {"confusion.png", "ethogram_1.png", "learning_curves.png"}
    scored = pipeline("evaluate", "--model", out / "best_model_multitask.pt", "--cache", small_cache)
    assert scored.returncode == 0, scored.stderr
    table = done.stdout[done.stdout.index("Scores on") : done.stdout.index("Pictures:")]
    assert table.split() == scored.stdout.split()


def test_the_settings_file_is_used(small_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "lab.toml").write_text("[loop]\nepochs = 1\nbatch_size = 6\n[model]\ntcn_channels = 16\n")
    done = pipeline("train", "--cache", small_cache, "--out", tmp_path / "run", "--config", tmp_path / "lab.toml")
    assert done.returncode == 0, done.stderr
    assert '"batch_size": 6' in (tmp_path / "run" / "run.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--cache", "nowhere", "--out", "run"], 1, "nowhere"),
        (["train", "--cache", "CACHE", "--out", "run", "--epochs", "0"], 2, "--epochs 0: expected a value >= 1"),
        (["train", "--cache", "CACHE", "--out", "run", "--merge", "x=y"], 2, "'x' is no class"),
        (["train", "--cache", "CACHE", "--out", "run", "--encoder", "vgg"], 1, "expected cnn, efficientnet_lite0"),
        (["train", "--cache", "CACHE", "--out", "run", "--epoch", "3"], 2, "No such option"),
        (["train", "--cache", "CACHE", "--out", "run", "--resume"], 1, "there is no run in run"),
        (["train", "--cache", "CACHE", "--out", "run", "--group-by", "_(q+)_"], 1, "no match in the recording"),
        (["evaluate", "--cache", "CACHE", "--model", "nothing.pt"], 1, "no such checkpoint"),
        (["preprocess", "--videos", "nowhere", "--cache", "new"], 1, "nowhere"),
    ],
    ids=["no cache", "bounds", "merge", "encoder", "unknown flag", "no run", "group", "no model", "no videos"],
)
def test_mistakes_get_one_line_and_an_exit_code(
    small_cache: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    done = pipeline(*(str(small_cache) if word == "CACHE" else word for word in arguments), cwd=tmp_path)
    assert message in done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_a_read_only_place_is_said(small_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = pipeline("train", "--cache", small_cache, "--out", tmp_path / "file" / "run", *QUICK)
    assert done.returncode == 1
    assert done.stderr.startswith("error:")
    assert "Traceback" not in done.stderr


def test_hdf5_and_zarr_are_trained_by_the_same_command(tmp_path: Path) -> None:
    cache = write_small_cache(tmp_path / "cache", store="hdf5")
    done = pipeline("train", "--cache", cache, "--out", tmp_path / "run", *QUICK)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("check", PREPROCESS_FLAGS | {*FOLDERS, "--csv", "--quick", "--help"}),
        ("inspect", {"--cache", "--out", "--frames", "--kp-likelihood-thr", "--help"}),
    ],
)
def test_the_flags_of_looking_are_frozen(command: str, expected: set[str]) -> None:
    assert flags_of(command) == expected


def test_inspect_writes_a_picture_and_a_video(small_cache: Path, tmp_path: Path) -> None:
    done = pipeline("inspect", "mouse_00M_a/1", "--cache", small_cache, "--out", tmp_path / "seen", "--frames", "0:5")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {"mouse_00M_a_1.png", "mouse_00M_a_1.mp4"}
    wrong = pipeline("inspect", "mouse_00M_a", "--cache", small_cache, "--out", tmp_path / "seen")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: mouse_00M_a: 2 clips of that name")
