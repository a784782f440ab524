"""What a picture shows is read off its axes and images, not off its pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.predict import pictures
from pipeline.predict.pictures import Strip


def test_a_cropped_trial_stands_at_its_own_time() -> None:
    """345 labels of the crop [15:360] begin at 0.5 s of the trial, not at 0."""
    strips = [Strip("a", np.zeros(345, int), np.zeros(345, int), 15), Strip("b", np.zeros(360, int))]
    axes = pictures._ethogram(strips, ["rest", "walk"], 30.0).axes[0]
    spans = [tuple(image.get_extent()[:2]) for image in axes.images]
    assert spans == [pytest.approx((0.5, 12)), pytest.approx((0.5, 12)), pytest.approx((0, 12))]
    assert axes.get_xlim() == (0, 12)


def test_many_trials_take_several_pictures(tmp_path: Path) -> None:
    strips = [Strip(str(i), np.zeros(10, int)) for i in range(41)]
    paths = pictures.ethograms(strips, ["rest"], tmp_path / "out")
    assert [path.name for path in paths] == ["ethogram_1.png", "ethogram_2.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
