"""What a picture shows is read off its axes and images, not off its pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import pictures
from pipeline.pictures import Strip


def test_a_cropped_trial_stands_at_its_own_time() -> None:
    """345 labels of the crop [15:360] begin at 0.5 s of the trial, not at 0."""
    strips = [Strip("a", np.zeros(345, int), np.zeros(345, int), 15), Strip("b", np.zeros(360, int))]
    axes = pictures.ethogram_figure(strips, ["rest", "walk"], 30.0).axes[0]
    spans = [tuple(image.get_extent()[:2]) for image in axes.images]
    assert spans == [pytest.approx((0.5, 12)), pytest.approx((0.5, 12)), pytest.approx((0, 12))]
    assert axes.get_xlim() == (0, 12)


def test_many_trials_take_several_pictures(tmp_path: Path) -> None:
    strips = [Strip(str(i), np.zeros(10, int)) for i in range(41)]
    paths = pictures.ethograms(strips, ["rest"], tmp_path / "out")
    assert [path.name for path in paths] == ["ethogram_1.png", "ethogram_2.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def curves(**columns: list[float]) -> dict[str, dict[str, object]]:
    """Of each panel, by its y label: the labels of its curves, its epoch ticks, and what is written in it."""
    history = pd.DataFrame({"epoch": range(1, 1 + len(columns["train_loss"])), **columns})
    panels = pictures._learning_curves(history).axes
    return {
        axes.get_ylabel().split()[0]: {
            "curves": [line.get_label() for line in axes.lines],
            "seen": all(len(line.get_xdata()) > 1 or line.get_marker() == "o" for line in axes.lines),
            "ticks": [tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]],
            "text": [text.get_text() for text in axes.texts],
        }
        for axes in panels
    }


def test_curves_of_a_single_epoch_are_points_at_1() -> None:
    drawn = curves(train_loss=[0.5], val_loss=[0.6], val_macro_f1=[0.2], val_segment_f1=[0.1])
    assert drawn["loss"] == {"curves": ["train", "validation"], "seen": True, "ticks": [1], "text": []}
    assert drawn["validation"]["curves"] == ["macro F1", "segment F1@0.3"]
    assert drawn["validation"]["seen"]


def test_curves_without_validation_say_so() -> None:
    nothing = [np.nan] * 3
    drawn = curves(train_loss=[0.5, 0.4, 0.3], val_loss=nothing, val_macro_f1=nothing, val_segment_f1=nothing)
    assert drawn["loss"] == {"curves": ["train"], "seen": True, "ticks": [1, 2, 3], "text": []}
    assert drawn["validation"]["curves"] == []
    assert drawn["validation"]["text"] == ["nothing was held out"]
