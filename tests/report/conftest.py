"""A run, a cross-validation and a prediction with hostile names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cache as clip_cache
from pipeline import jobs
from pipeline.cluster import IN_PROCESS
from pipeline.predict.exports import TABLES, Prediction, bout_table, trial_name, write_table
from pipeline.predict.stage import BOUTS
from pipeline.train.followers import NOBODY
from pipeline.train.split import Split, save_split
from pipeline.train_settings import Keep
from tables_lab import CLASSES as PREDICTED_CLASSES
from tables_lab import random_lab, write_predictions
from tests_support import small_clip, write_recording

RUNS = "window.hacked = true"
HOSTILE = f"<img src=x onerror='{RUNS}'> $x^"
CLASSES = ("rest", "paw_withdraw", f"</script><script>{RUNS}</script>", "paw_guard", "walk")
TRAIN = jobs.HowToTrain(resume=False, force=False, keep=Keep.AUTO, profile=False, follow=NOBODY)


def write_cache(path: Path, recordings: int, *, frames: bool) -> Path:
    with clip_cache.create(path) as cache:
        for i in range(recordings):
            name = f"mouse_{i:02d}M" if i else HOSTILE
            clips = [small_clip(10 * i + trial) for trial in range(2)]
            write_recording(cache, name, clips, frames=frames, class_names=CLASSES, crop_start=15 * (i % 2))
    return path


@pytest.fixture(scope="session")
def hostile() -> str:
    """The name of a recording that would run a script, were it not escaped."""
    return HOSTILE


@pytest.fixture(scope="session")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("report") / "cache", 6, frames=False)


@pytest.fixture(scope="session")
def run(poses: Path, quick: Callable[..., Any]) -> Path:
    """A finished run of poses, with a report; half of its recordings are held out, the hostile one among them."""
    out = poses.parent / "run"
    split = poses.parent / "split.csv"
    names = [meta.recording for meta in clip_cache.open(poses).recordings]
    held_out = tuple(name for i, name in enumerate(names) if name == HOSTILE or i % 2)
    trained = tuple(name for name in names if name not in held_out)
    save_split(Split(trained, held_out, {name: name for name in names}), split)
    settings = quick(encoder="none", epochs=3, split_file=str(split))
    assert jobs.train(settings, cache=poses, out=out, how=TRAIN) == jobs.DONE
    return out


@pytest.fixture(scope="session")
def folds(poses: Path, quick: Callable[..., Any]) -> Path:
    """A finished cross-validation of two folds, with a report."""
    out = poses.parent / "folds"
    settings = quick(encoder="none", epochs=2)
    code = jobs.cross_validate(
        settings, cache=poses, out=out, folds=2, fold_file=None, cluster=IN_PROCESS, keep=Keep.AUTO, follow=NOBODY
    )
    assert code == jobs.DONE
    return out


@pytest.fixture(scope="session")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `pipeline predict` leaves it, its report not made."""
    lab = random_lab(1, animals=4)
    lab[HOSTILE] = lab.pop("mouse_00M")
    out = write_predictions(tmp_path_factory.mktemp("predicted") / "out", lab)
    ids = {name: i for i, name in enumerate(PREDICTED_CLASSES)} | {"": -1}
    bouts = []
    for clip in clip_cache.open(out / "cache"):
        actions = pd.read_csv(out / TABLES / trial_name(clip), keep_default_na=False)["Action"]
        labels = actions.map(ids).to_numpy()
        bouts.append(bout_table([Prediction(clip, labels, np.full((len(labels), 3), 0.75), None)], PREDICTED_CLASSES))
    write_table(pd.concat(bouts), out / BOUTS)
    return out
