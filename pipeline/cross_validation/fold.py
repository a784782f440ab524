"""One fold: a model that never sees the recordings of the fold, and what it says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cache import Place
from pipeline.console import Bar
from pipeline.cross_validation import out_of_fold
from pipeline.cross_validation.out_of_fold import OutOfFold
from pipeline.held import BusyError
from pipeline.machine import LOWER, memory_advice
from pipeline.predict import evaluation as scoring
from pipeline.train import stage as training
from pipeline.train.followers import Follow
from pipeline.train.run_folder import HISTORY, write_text
from pipeline.train_settings import Keep, TrainSettings

TEST = "test"
# Written last into the fold's folder: with it the fold is scored. It is moved away with a run of other settings.
SCORED = "scored.json"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """settings: with the fold's split file. clips: (recording, trial) of all that the fold tests. out: of all folds."""

    fold: int
    settings: TrainSettings
    clips: tuple[tuple[str, int], ...]
    cache: Place
    out: Path
    keep: Keep
    follow: Follow

    @property
    def folder(self) -> Path:
        return self.out / f"fold-{self.fold}"


@dataclass(frozen=True)
class Done:
    """seconds: of all epochs, those before an interruption too. fresh: an earlier call had trained it."""

    fold: int
    best_epoch: int
    seconds: float
    fresh: bool


@dataclass(frozen=True)
class Failed:
    """A fold that has no scores, and why. busy: since another process is at work in its folder."""

    fold: int
    reason: str
    busy: bool = False


def attempt(task: Task, say: Say, progress: Bar | None = None) -> Done | Failed:
    """`work`, where nothing that one fold meets ends the others."""
    try:
        with memory_advice(LOWER):
            return work(task, lambda line: say(f"[fold {task.fold}] {line}"), progress)
    except Exception as error:
        kind = "" if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: "
        lines = str(error).splitlines() or [type(error).__name__]
        return Failed(task.fold, kind + lines[0], busy=isinstance(error, BusyError))


def work(task: Task, say: Say, progress: Bar | None = None) -> Done:
    """Trains and scores; what of it is done already is left alone. Raises what training and scoring raise."""
    outcome = training.train(
        task.settings,
        cache=task.cache,
        out=task.folder,
        keep=task.keep,
        follow=task.follow,
        say=say,
        progress=progress,
    )
    scored = task.folder / TEST / SCORED
    kept = [scored, *(out_of_fold.path_of(task.out, *clip) for clip in task.clips)]
    if outcome.state != "fresh" or not all(path.exists() for path in kept):
        _score(task, outcome.best)
        seconds = float(pd.read_csv(task.folder / HISTORY)["seconds"].sum())
        write_text(scored, json.dumps({"best_epoch": outcome.best_epoch, "seconds": seconds}))
        say(f"[info] scores on its test recordings: {task.folder / TEST / scoring.SCORES}")
    return Done(task.fold, **json.loads(scored.read_text(encoding="utf-8")), fresh=outcome.state == "fresh")


def _score(task: Task, model: Path) -> None:
    result = scoring.evaluate([model], cache=task.cache, on="test", out=task.folder / TEST, device=task.settings.device)
    said = result.model
    for clip, logits, boundary, trial in zip(result.clips, said.logits, said.boundaries, said.trials, strict=True):
        out_of_fold.save(
            OutOfFold(
                recording=clip.recording,
                trial=clip.trial,
                fold=task.fold,
                logits=logits.astype(np.float32),
                labels=trial.labels.astype(np.int64),
                intact=np.asarray(clip.intact),
                majority=result.majority,
                class_names=said.scores.class_names,
                boundary=boundary,
            ),
            task.out,
        )
