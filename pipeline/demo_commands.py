"""`pipeline demo`: renders a data set and lets the stages run on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.console import progress_bar, say
from pipeline.train.run_folder import BEST


def render(out: Path, *, recordings: int, seed: int, frame_code: bool, lost: float, with_new: bool) -> None:
    """The rendered data set in out/data, and two recordings of other animals in out/new for predict."""
    from pipeline.demo.dataset import make_dataset

    with progress_bar() as progress:
        options: dict[str, Any] = {"frame_code": frame_code, "lost": lost, "processes": 2, "progress": progress}
        make_dataset(out / "data", recordings=recordings, seed=seed, **options)
        if with_new:
            make_dataset(out / "new", recordings=2, seed=seed + 1, **options)
    say(f"Rendered {recordings} recordings: {out / 'data'}")


def demo_commands(out: Path) -> list[list[str]]:
    """The three stages on the rendered data, with settings for a few minutes on two cores.

    The defaults are meant for long runs on a lab's own data.
    """
    data, cache, run = out / "data", out / "cache", out / "run"
    preprocess = [
        "--videos",
        data / "Videos",
        "--annotations",
        data / "Annotations",
        "--cache",
        cache,
        "--img-size",
        80,
    ]
    train = ["--cache", cache, "--out", run, "--group-by", r"_(\d+M)_", "--epochs", 14, "--batch-size", 4, "--lr", 1e-3]
    train += ["--warmup-epochs", 1, "--train-T", 120, "--early-stopping-patience", 0]
    predict = ["--model", run / BEST, "--videos", out / "new" / "Videos", "--out", out / "predicted"]
    commands = {"preprocess": preprocess, "train": train, "predict": predict}
    return [[name, *map(str, arguments)] for name, arguments in commands.items()]


def show_demo(out: Path) -> None:
    """Where everything lies."""
    say(f"\nThe data, the cache, the run and the predictions lie in {out}; its pictures:")
    for picture in sorted(out.glob("*/pictures/*.png")):
        say(f"  {picture}")
