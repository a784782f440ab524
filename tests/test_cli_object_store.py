"""The commands on a cache in an object store, as a user types them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from s3_lab import BUCKET, S3Server

from lab import Lab

ROOT = Path(__file__).parents[1]
PLACE = f"s3://{BUCKET}/lab/cache"
SMALL = [
    "--epochs", "1", "--encoder-width", "8", "--tcn-channels", "8", "--tcn-layers", "1", "--train-T", "16",
    "--device", "cpu", "--no-tensorboard",
]  # fmt: skip


@pytest.fixture
def call(s3: S3Server, tmp_path: Path):
    """Commands, one after the other in one process; gives the first exit code that is not 0, and what they said."""

    def run(*commands: list[str]) -> tuple[int, str]:
        script = (
            "import sys\nfrom pipeline.cli import main\ncode = 0\n"
            "for words in " + repr(list(commands)) + ":\n"
            "    sys.argv = ['pipeline', *words]\n"
            "    try:\n        main()\n"
            "    except SystemExit as done:\n        code = done.code or 0\n"
            "    print(f'-> {code}', flush=True)\n"
            "    if code:\n        break\n"
            "sys.exit(code)\n"
        )
        environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    return run


def test_every_command_takes_its_address(s3: S3Server, call, tmp_path: Path) -> None:
    lab = Lab(tmp_path / "day")
    for name in "abc":
        lab.recording(f"{name}.mp4", 80)
        for trial in (1, 2):
            lab.annotation(f"{name}.mp4_{trial}", [0] * 10 + [1] * 20 + [2] * 10)
    settings = ["--trial-frames", "40", "--min-frames", "40", "--img-size", "32", "--classes", "rest,walk,lick"]
    cache = ["--cache", PLACE]
    code, said = call(
        ["preprocess", "--videos", "day", "--annotations", "day", *cache, *settings, "--workers", "0"],
        ["status", *cache],
        ["train", *cache, "--out", "run", "--cache-copy", "copy", *SMALL],
        ["status", *cache, "--out", "run"],
        ["inspect", "a/1", *cache, "--out", "seen"],
        ["tables", *cache, "--out", "tables"],
        ["export", "--to", "onehot", *cache, "--out", "exported"],
    )
    assert code == 0, said
    assert f": {PLACE}" in said
    assert "run is up to date" in said
    assert not (tmp_path / "s3:").exists()
    assert not list(tmp_path.glob("**/s3:*"))
    assert (tmp_path / "run" / "report.html").exists()
    assert list((tmp_path / "copy").rglob("frames"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--cache", "s3://mice/nothing", "--out", "run"], 1, "no cache there (cache.json is missing)"),
        (["train", "--cache", "s3://mice", "--out", "run"], 2, "a cache needs a name in its bucket"),
        (["status", "--cache", "https://mice.org/cache"], 2, "or an object store's s3://bucket/cache"),
        (["train", "--cache", "here", "--cache-copy", "copy", "--out", "run"], 2, "here is a local folder"),
        (
            ["preprocess", "--videos", ".", "--cache", "s3://mice/c", "--store", "hdf5"], 1,
            "the hdf5 store needs a local folder",
        ),
    ],
    ids=["no cache", "no name", "another scheme", "copy of a folder", "hdf5"],
)  # fmt: skip
def test_mistakes_get_one_line(
    s3: S3Server, tmp_path: Path, arguments: list[str], code: int, message: str, monkeypatch, capsys
) -> None:
    from pipeline.cli import main

    (tmp_path / "a.mp4").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["pipeline", *arguments])
    with pytest.raises(SystemExit) as done:
        main()
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in said
    assert done.value.code == code
