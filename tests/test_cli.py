"""The command line as a user meets it: its flags, its messages, its exit codes."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.held import held
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import flag
from pipeline.train_settings import TrainSettings
from tables_lab import random_lab, write_cache
from tests_support import called, write_small_cache

FOLDERS = ["--videos", "--annotations", "--dlc", "--config"]
CLUSTER_FLAGS = {"--scheduler", "--slurm"}
HOW_FLAGS = CLUSTER_FLAGS | {"--prune", "--workers", "--stall-timeout"}
# A flag that is taken away or renamed breaks labs' scripts: change this list only with a note for them.
PREPROCESS_FLAGS = {
    "--trial-frames", "--min-frames", "--crops", "--img-size", "--channels", "--classes", "--prefer-filtered",
    "--dlc-scorer", "--dlc-slack", "--dlc-lag", "--max-damaged", "--frame-size", "--store", "--compression",
    "--decoder", "--annotation-format", "--annotation-background", "--annotation-subject", "--annotation-slack",
    "--annotation-fps",
}  # fmt: skip
TRAIN_FLAGS = {
    "--model-type", "--encoder", "--freeze-encoder-epochs", "--encoder-width", "--pose-features", "--time-input",
    "--pose-width", "--pose-windows", "--tcn-channels", "--tcn-layers", "--tcn-kernel", "--tcn-stride",
    "--refine-stages", "--pose-names", "--merge", "--train-T", "--val-T",
    "--kp-likelihood-thr", "--val-share", "--group-by", "--split-file",
    "--kp-jitter-std", "--aug-brightness", "--aug-contrast", "--aug-temporal-drop", "--aug-hflip", "--aug-noise-std",
    "--aug-swap", "--aug-kp-drop", "--decision", "--aug-roll", "--rare-threshold-share", "--rare-boost-cap",
    "--focal-gamma", "--label-smoothing", "--view", "--view-size", "--view-span", "--patch-size", "--patch-span",
    "--patch-keypoints", "--frame-change", "--aug-view-shift",
    "--aug-view-turn", "--aug-view-zoom", "--aug-turn", "--aug-stretch", "--aug-mix", "--init-from",
    "--class-weight-power", "--logit-adjust", "--lambda-kp", "--lambda-smooth", "--lambda-tmse", "--lambda-boundary",
    "--dropout",
    "--head-dropout", "--weight-decay", "--lr", "--min-lr", "--lr-schedule", "--warmup-epochs", "--lr-patience",
    "--lr-factor", "--grad-clip", "--epochs", "--batch-size", "--seed", "--early-stopping-patience", "--use-ema",
    "--ema-decay", "--amp", "--device",
}  # fmt: skip
FOLLOW_FLAGS = {"--tensorboard", "--wandb"}
HOW_TO_TRAIN_FLAGS = {"--resume", "--force", "--keep", "--cache-copy", "--profile"} | FOLLOW_FLAGS


MAIN = "from pipeline.cli import main; main()"


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a command in tmp_path, in this process; returns its exit code and what it wrote to stderr."""

    def call(*arguments: str) -> tuple[object, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
        with pytest.raises(SystemExit) as done:
            main()
        return done.value.code, capsys.readouterr().err

    return call


def flags_of(command: str) -> set[str]:
    words = called(command, "--help").stdout.replace("/", " ").replace(",", " ").split()
    return {word for word in words if word.startswith("--") and not word.startswith("--no-")}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("preprocess", PREPROCESS_FLAGS | HOW_FLAGS | {*FOLDERS, "--cache", "--dry-run", "--help"}),
        ("status", PREPROCESS_FLAGS | {*FOLDERS, "--cache", "--out", "--help"}),
        ("train", TRAIN_FLAGS | HOW_TO_TRAIN_FLAGS | {"--cache", "--out", "--config", "--help"}),
        (
            "run",
            PREPROCESS_FLAGS | TRAIN_FLAGS | HOW_FLAGS | HOW_TO_TRAIN_FLAGS | {*FOLDERS, "--cache", "--out", "--help"},
        ),
        (
            "predict",
            {
                "--model",
                "--out",
                "--videos",
                "--dlc",
                "--dlc-scorer",
                "--prefer-filtered",
                "--force",
                "--device",
                "--help",
                "--decision",
                "--flips",
                "--stimulus",
            }
            | {"--workers", "--scheduler", "--stall-timeout", "--force"},
        ),
        ("evaluate", {"--model", "--cache", "--cache-copy", "--on", "--out", "--flips", "--device", "--help"}),
        ("report", {"--out", "--cache", "--help"}),
        (
            "cross-validate",
            TRAIN_FLAGS
            | FOLLOW_FLAGS
            | CLUSTER_FLAGS
            | {"--cache", "--out", "--config", "--keep", "--cache-copy", "--folds", "--fold-file", "--jobs", "--help"},
        ),
        (
            "tune",
            TRAIN_FLAGS
            | FOLLOW_FLAGS
            | CLUSTER_FLAGS
            | {
                "--cache",
                "--out",
                "--config",
                "--keep",
                "--cache-copy",
                "--folds",
                "--trials",
                "--search",
                "--jobs",
                "--help",
            },
        ),
    ],
    ids=["preprocess", "status", "train", "run", "predict", "evaluate", "report", "cross-validate", "tune"],
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


QUICK = ["--train_T", 24, "--epochs", 1, "--batch_size", 4, "--encoder_width", 16]


@pytest.fixture(scope="module")
def trained(small_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[object], str]:
    """The words of a training that was done, with a settings file and flags as old command lines write them; what it
    said."""
    home = tmp_path_factory.mktemp("trained")
    (home / "lab.toml").write_text("[loop]\nepochs = 3\nseed = 6\n[model]\ntcn_channels = 16\n")
    files = ["--cache", small_cache, "--out", home / "run", "--config", home / "lab.toml"]
    words = ["train", *files, *QUICK, "--kp_jitter_std", 0.125]
    done = called(*words)
    assert done.returncode == 0, done.stderr
    return words, done.stdout


def test_underscores_and_dashes_are_the_same(trained) -> None:
    words, _ = trained
    assert '"kp_jitter_std": 0.125' in (words[4] / "run.json").read_text()
    again = [word.replace("_", "-") if str(word).startswith("--") else word for word in words]
    assert "is up to date" in called(*again).stdout


def test_train_shows_scores_and_writes_pictures(trained, small_cache: Path) -> None:
    words, said = trained
    out = words[4]
    for text in ("Scores on", "macro F1", "majority baseline", "keypoint MAE (px)"):
        assert text in said
    names = {path.name for path in (out / "pictures").iterdir()}
    assert names == {"confusion.png", "ethogram_1.png", "learning_curves.png", "worst"}
    scored = called("evaluate", "--model", out / "best_model_multitask.pt", "--cache", small_cache)
    assert scored.returncode == 0, scored.stderr
    table = said[said.index("Scores on") : said.index("Pictures:")]
    assert table.split() == scored.stdout.split()
    matrix = table[table.index("Confusion in frames (rows: truth)") :].splitlines()
    names = matrix[1].replace("┃", " ").split()[1:]
    rows = [line.replace("│", " ").split() for line in matrix[3 : 3 + len(names)]]
    frames = json.loads((out / "scores.json").read_text())["model"]["confusion"]
    assert rows == [[name, *map(str, row)] for name, row in zip(names, frames, strict=True)]


def test_the_settings_file_is_used_and_flags_win_over_it(trained) -> None:
    words, _ = trained
    record = json.loads((words[4] / "run.json").read_text())["settings"]
    assert (record["seed"], record["epochs"], record["tcn_channels"]) == (6, 1, 16)


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
        (["train", "--cache", "CACHE", "--out", "run", "--group-by", "mouse"], 1, "found 1: mouse; add recordings of"),
        (
            ["train", "--cache", "CACHE", "--out", "run", "--split-file", "no.csv"],
            1,
            "no.csv: cannot be read as a split: No such file or directory\n",
        ),
        (["train", "--cache", "CACHE", "--out", "run", "--lr", "inf"], 2, "--lr inf: expected a finite number"),
        (
            ["train", "--cache", "CACHE", "--out", "run", "--seed", str(2**64)],
            2,
            "expected a value <= 9223372036854775",
        ),
        (
            ["train", "--cache", "CACHE", "--out", "run", "--pose-width", str(10**15)],
            1,
            "error: out of memory: use --keep disk, lower --batch-size or --train-T, or preprocess with a smaller",
        ),
        (["evaluate", "--cache", "CACHE", "--model", "nothing.pt"], 1, "no such checkpoint"),
        (["train", "--cache", "CACHE", "--out", "s3://bucket/run"], 2, "is an address, which only"),
        (["cross-validate", "--cache", "CACHE", "--out", "s3://bucket/folds"], 2, "is an address, which only"),
        (["evaluate", "--cache", "CACHE", "--model", "m.pt", "--out", "s3://b/o"], 2, "is an address, which only"),
        (["predict", "--videos", ".", "--model", "m.pt", "--out", "gs://b/o"], 2, "is an address, which only"),
        (["tables", "--cache", "CACHE", "--out", "s3://b/o"], 2, "is an address, which only"),
        (["train", "--cache", "CACHE", "--out", "r", "--cache-copy", "s3://b"], 2, "is an address, which only"),
        (["report", "RUN", "--out", "s3://b/o.html"], 2, "is an address, which only"),
        (["export", "--cache", "CACHE", "--out", "s3://b/o"], 2, "is an address, which only"),
        (["preprocess", "--videos", "nowhere", "--cache", "new"], 1, "nowhere"),
    ],
    ids=lambda value: " ".join(value[5:]) or value[0] if isinstance(value, list) else "",
)
def test_mistakes_get_one_line_and_an_exit_code(
    small_cache: Path, tmp_path: Path, arguments: list[str], code: int, message: str, refusal
) -> None:
    arguments = [str(small_cache) if word == "CACHE" else word for word in arguments]
    found, said = refusal(*arguments)
    assert message in said
    assert found == code
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--encoder", "vgg"], "expected cnn, efficientnet_lite0"),
        (["--merge", "paw_lick=licking"], "'licking' is no class"),
        (["--merge", "paw_lick"], "expected name=name pairs"),
        (["--group-by", "("], "not a regular expression"),
        (["--pose-names", "snout=Nose"], "--pose-names snout=Nose: expected one of mouth"),
        (["--split-file", "no.csv"], "no.csv: cannot be read as a split"),
        (["--tcn-kernel", "4"], "expected an odd number of frames"),
        (["--aug-swap", "0.5"], "--aug-swap 0.5: the frames would still show each animal in its own place"),
        (["--aug-mix", "0.3", "--batch-size", "1"], "--aug-mix 0.3: --batch-size 1 has no second window to mix with"),
        (["--device", "cuda:77"], "--device cuda:77: not available here"),
        (["--resume"], "there is no run in run"),
        (["--resume", "--force"], "give one of them"),
        (["--out", "."], "the cache lies in it"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_run_finds_what_train_would_refuse_before_it_preprocesses(
    tmp_path: Path, wrong: list[str], message: str, refusal
) -> None:
    _, said = refusal("run", "--videos", ".", "--cache", "cache", "--out", "run", *wrong)
    assert message in said
    assert list(tmp_path.iterdir()) == []  # preprocess would have made the cache, or refused the folder


def test_run_finds_that_another_is_at_work_before_it_preprocesses(tmp_path: Path, refusal) -> None:
    with held(tmp_path / "run"):
        code, said = refusal("run", "--videos", ".", "--cache", "cache", "--out", "run")
    assert "--out run: another process is at work in this folder" in said
    assert code == 1
    assert not (tmp_path / "cache").exists()


def test_an_interruption_says_how_to_go_on(small_cache: Path, tmp_path: Path) -> None:
    # A shell's background job ignores Ctrl-C; Python's own handler is what a terminal gives.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + MAIN
    arguments = ["train", "--cache", small_cache, "--out", tmp_path / "run", *QUICK, "--epochs", 10000]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    while not process.stdout.readline().startswith("Epoch 2/"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors == "interrupted; the same command goes on from here\n"
    assert process.returncode == 130


def test_a_read_only_place_is_said(small_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = called("train", "--cache", small_cache, "--out", tmp_path / "file" / "run", *QUICK)
    assert done.returncode == 1
    assert done.stderr.startswith("error:")
    assert "Traceback" not in done.stderr


def test_hdf5_and_zarr_are_trained_by_the_same_command(tmp_path: Path) -> None:
    cache = write_small_cache(tmp_path / "cache", store="hdf5")
    done = called("train", "--cache", cache, "--out", tmp_path / "run", *QUICK)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("check", PREPROCESS_FLAGS | {*FOLDERS, "--csv", "--quick", "--help"}),
        ("inspect", {"--cache", "--out", "--frames", "--kp-likelihood-thr", "--help"}),
        (
            "tables",
            {"--out", "--cache", "--truth", "--groups", "--group-by", "--stimulus", "--merge", "--fps", "--decision"}
            | {"--seed", "--help"},
        ),
    ],
)
def test_the_flags_of_looking_are_frozen(command: str, expected: set[str]) -> None:
    assert flags_of(command) == expected


def test_inspect_writes_a_picture_and_a_video(small_cache: Path, tmp_path: Path) -> None:
    done = called("inspect", "mouse_00M_a/1", "--cache", small_cache, "--out", tmp_path / "seen", "--frames", "0:5")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {"mouse_00M_a_1.png", "mouse_00M_a_1.mp4"}
    wrong = called("inspect", "mouse_00M_a", "--cache", small_cache, "--out", tmp_path / "seen")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: mouse_00M_a: 2 clips of that name")


def test_tables_tell_what_is_in_no_group(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache", random_lab(0, animals=4))
    (tmp_path / "groups.csv").write_text("animal,treatment\n00M,CFA\n01M,CFA\n02M,CFA\n77M,CFA\n")
    asked = ["tables", "--cache", cache, "--group-by", r"_(\d+M)", "--out", tmp_path / "out"]
    done = called(*asked, "--groups", tmp_path / "groups.csv")
    assert done.returncode == 3, done.stderr
    for text in ("1 animals of it have no trial here: 77M", "mouse_03M trial 1", "Without a group", "too narrow"):
        assert text in done.stdout
    assert (tmp_path / "out" / "pictures" / "time_in_behaviour.svg").exists()
    done = called(*asked)
    assert done.returncode == 0, done.stderr
    wrong = called(*asked, "--stimulus", tmp_path / "groups.csv")
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: ")
    assert "no column recording, trial, stim_frame" in wrong.stderr
    assert called(*asked, "--fps", "0").returncode == 2
