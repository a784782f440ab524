"""Damaged frames in training, evaluation and prediction: nothing is learned from them, and nothing is said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cache as clip_cache
from pipeline.model.trained import load_trained
from pipeline.predict.evaluation import evaluate
from pipeline.predict.exports import bout_table, trial_table
from pipeline.predict.stage import predict_clip
from pipeline.train.stage import train
from tests_support import N_FRAMES, small_clip, write_recording

DAMAGED = slice(10, 20)


def write(path: Path, *, labels_of_damaged: int) -> Path:
    """Four recordings whose frames 10 to 19 are damaged: black, with any label beside them."""
    intact = np.ones(N_FRAMES, bool)
    intact[DAMAGED] = False
    with clip_cache.create(path) as cache:
        for i in range(4):
            clip = small_clip(i)
            clip["frames"][DAMAGED] = 0
            clip["labels"][DAMAGED] = labels_of_damaged
            write_recording(cache, f"mouse_{i}", [clip], intact=intact)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, quick) -> list[tuple[Path, Path]]:
    """Model and cache of two trainings that differ in the labels of damaged frames alone."""
    made = []
    for label in (0, 2):
        folder = tmp_path_factory.mktemp(f"damaged_{label}")
        cache = write(folder / "cache", labels_of_damaged=label)
        outcome = train(quick(epochs=1, merge="none"), cache=cache, out=folder / "run", say=lambda _: None)
        made.append((outcome.best, cache))
    return made


def test_labels_of_damaged_frames_change_neither_model_nor_scores(runs) -> None:
    first, second = (evaluate([model], cache=cache, on="all") for model, cache in runs)
    assert first.model.loss == second.model.loss
    assert first.model.scores.as_dict() == second.model.scores.as_dict()
    assert sum(first.model.scores.support.values()) == 4 * (N_FRAMES - 10)


def test_nothing_is_said_of_damaged_frames(runs, tmp_path: Path) -> None:
    model, cache = runs[0]
    trained = load_trained(model)
    prediction = predict_clip(trained, clip_cache.open(cache)[0])
    trial_table(prediction, trained.class_names).to_csv(tmp_path / "a.csv", index=False)
    table = pd.read_csv(tmp_path / "a.csv")
    silent = np.arange(N_FRAMES)[DAMAGED]
    said = [name for name in table.columns if name == "Action" or name.startswith("p_") or name[-2:] in ("_x", "_y")]
    assert table.loc[silent, said].isna().all(axis=None)
    assert table.drop(index=silent)[said].notna().all(axis=None)
    assert table[["Frame", "VideoFrame", "Time_s"]].notna().all(axis=None)
    bouts = bout_table([prediction], trained.class_names)
    for bout in bouts.itertuples():
        assert bout.stop_frame <= silent[0] or bout.start_frame > silent[-1]
    assert bouts["duration_frames"].sum() == N_FRAMES - len(silent)
    assert bouts["mean_probability"].notna().all()
