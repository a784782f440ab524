from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.preprocess.crop import CropError, check_frame_column, parse_crops, trial_crop, whole_crop
from pipeline.setting_texts import SettingsError


@pytest.mark.parametrize(
    ("n_rows", "crops", "start"),
    [
        pytest.param(360, {345: 15}, 0, id="all"),
        pytest.param(345, {345: 15}, 15, id="without the context"),
        pytest.param(350, {345: 15, 350: 3}, 3, id="named by the settings"),
    ],
)
def test_crop_of_known_lengths(n_rows: int, crops: dict[int, int], start: int) -> None:
    assert trial_crop(n_rows, 360, 345, crops) == start


@pytest.mark.parametrize(
    ("n_rows", "reason"),
    [
        pytest.param(344, "too short: 344 rows", id="one less than the least"),
        pytest.param(346, "ambiguous: 346 rows, expected 345, 360", id="between"),
        pytest.param(361, "ambiguous: 361 rows", id="one too many"),
        pytest.param(0, "too short", id="none"),
    ],
)
def test_other_lengths_are_not_guessed(n_rows: int, reason: str) -> None:
    with pytest.raises(CropError, match=reason):
        trial_crop(n_rows, 360, 345, {345: 15})


def test_min_frames_decides_before_the_crops() -> None:
    with pytest.raises(CropError, match="too short"):
        trial_crop(340, 360, 345, {340: 20})
    assert trial_crop(340, 360, 340, {340: 20}) == 20


def test_a_whole_recording_has_a_row_for_every_frame() -> None:
    assert whole_crop(749, 749) == 0
    with pytest.raises(CropError, match="750 rows, the recording has 749 frames"):
        whole_crop(750, 749)


@given(st.integers(1, 400), st.integers(0, 400), st.integers(1, 400))
def test_a_cropped_clip_lies_within_its_trial(rows: int, start: int, trial_frames: int) -> None:
    text = f"{rows}={start}"
    if rows + start > trial_frames:
        with pytest.raises(SettingsError, match="run past --trial-frames"):
            parse_crops(text, trial_frames)
    else:
        crop = trial_crop(rows, trial_frames, 1, parse_crops(text, trial_frames))
        assert crop == start
        assert crop + rows <= trial_frames


@pytest.mark.parametrize("text", ["345", "345=x", "=15", "0=5", "-345=15", "345=15,345=0"])
def test_crops_that_cannot_be_read(text: str) -> None:
    with pytest.raises(SettingsError, match="--crops"):
        parse_crops(text, 360)


def test_whole_recordings_have_no_crops() -> None:
    assert parse_crops("345=15", 0) == {}


@pytest.mark.parametrize("first", [0, 15])
def test_frame_column_may_start_at_0_or_at_the_crop(first: int) -> None:
    check_frame_column(np.arange(first, first + 345), 15)


@pytest.mark.parametrize(
    ("frames", "crop_start", "reason"),
    [
        pytest.param([1, 2, 3], 15, "starts at 1, expected 0 or 15", id="from 1"),
        pytest.param([15, 16, 17], 0, "starts at 15, expected 0", id="cropped, with all rows"),
        pytest.param([0, 1, 3], 0, "row 4 of the file says 3, expected 2", id="gap"),
        pytest.param([0, 0, 1], 0, "row 3 of the file says 0, expected 1", id="double"),
        pytest.param([2, 1, 0], 0, "starts at 2", id="backwards"),
    ],
)
def test_frame_column_that_contradicts_the_crop(frames: list[int], crop_start: int, reason: str) -> None:
    with pytest.raises(CropError, match=reason):
        check_frame_column(np.array(frames), crop_start)
