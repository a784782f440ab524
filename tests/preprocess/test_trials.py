from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.preprocess.discovery import RecordingFiles
from pipeline.preprocess.trials import Plan, plan_trials
from pipeline.preprocess_settings import PreprocessSettings


@pytest.fixture
def plan(lab):
    """plan_trials of a recording `a` with annotations of so many rows: trial number or None -> rows."""

    def run(n_frames: int, rows: list[tuple[int | None, int]], **settings: object) -> Plan:
        annotations = []
        for i, (number, n) in enumerate(rows):
            name = "a.mp4" if number is None else f"a.mp4_{'0' * i}{number}"
            annotations.append((number, lab.annotation(name, [1] * n)))
        files = RecordingFiles("a", Path("a.mp4"), Path("a.csv"), tuple(annotations))
        return plan_trials(files, n_frames, PreprocessSettings(**settings))

    return run


@pytest.mark.parametrize(
    ("n_frames", "rows", "settings", "ranges"),
    [
        pytest.param(1080, [(1, 345), (2, 360), (3, 345)], {}, [(15, 360), (360, 720), (735, 1080)], id="mixed"),
        pytest.param(1080, [(3, 345)], {}, [(735, 1080)], id="last only"),
        pytest.param(720, [(2, 350)], {"crops": "350=10"}, [(370, 720)], id="other crop"),
        pytest.param(749, [(1, 360), (2, 360)], {}, [(0, 360), (360, 720)], id="frames to spare"),
        pytest.param(360, [(None, 345)], {}, [(15, 360)], id="no number, one trial"),
        pytest.param(1080, [], {}, [(0, 360), (360, 720), (720, 1080)], id="not annotated"),
        pytest.param(749, [], {"trial_frames": 0}, [(0, 749)], id="whole"),
        pytest.param(749, [(1, 749)], {"trial_frames": 0}, [(0, 749)], id="whole, annotated"),
        pytest.param(20, [(None, 20)], {"trial_frames": 0}, [(0, 20)], id="whole, short"),
        pytest.param(200, [(2, 100)], {"trial_frames": 100, "min_frames": 50, "crops": ""}, [(100, 200)], id="100"),
        pytest.param(705, [], {}, [(0, 360), (360, 705)], id="the last one breaks off"),
        pytest.param(600, [(1, 300), (2, 300)], {"trial_frames": 300}, [(0, 300), (300, 600)], id="300 alone"),
    ],
)
def test_frames_of_each_trial(
    plan, n_frames: int, rows: list, settings: dict[str, object], ranges: list[tuple[int, int]]
) -> None:
    found = plan(n_frames, rows, **settings)
    assert found.ranges == ranges
    assert found.skipped == ()
    assert [len(trial.labels) for trial in found.trials] == [stop - start for start, stop in ranges]
    assert {label for trial in found.trials for label in trial.labels.tolist()} == ({1} if rows else {-1})
    stop = 0
    for rows_of, trial, (first, last) in zip(found.clip_rows(), found.trials, ranges, strict=True):
        assert (rows_of.start, rows_of.stop) == (stop, stop + last - first)
        assert (rows_of.trial, rows_of.first_frame, rows_of.crop_start) == (trial.number, first, trial.crop_start)
        stop = rows_of.stop


@pytest.mark.parametrize(
    ("n_frames", "rows", "settings", "trial", "reason"),
    [
        pytest.param(720, [(1, 344)], {}, 1, "too short: 344 rows", id="short"),
        pytest.param(720, [(1, 350)], {}, 1, "ambiguous: 350 rows", id="length"),
        pytest.param(720, [(3, 360)], {}, 3, "trial 3 begins at frame 720, the recording has 720", id="beyond"),
        pytest.param(719, [(2, 345)], {}, 2, "frames 375 to 719 run past the recording's end, it has 719", id="end"),
        pytest.param(720, [(0, 360)], {}, 0, "trials count from 1", id="zero"),
        pytest.param(720, [(1, 360), (1, 345)], {}, 1, "annotated more than once: ", id="twice"),
        pytest.param(360, [(1, 360), (None, 360)], {}, 1, "annotated more than once: ", id="with and without"),
        pytest.param(720, [(None, 360)], {}, None, "names no trial and the recording has several", id="which"),
        pytest.param(719, [(None, 360)], {}, None, "names no trial", id="which, the second not whole"),
        pytest.param(749, [(1, 750)], {"trial_frames": 0}, 1, "750 rows, the recording has 749 frames", id="whole"),
        pytest.param(749, [(2, 749)], {"trial_frames": 0}, 2, "trial 2 begins at frame 749", id="whole, trial 2"),
    ],
)
def test_trials_that_are_skipped(
    plan, n_frames: int, rows: list, settings: dict[str, object], trial: int | None, reason: str
) -> None:
    found = plan(n_frames, rows, **settings)
    assert found.trials == ()
    (skip,) = found.skipped
    assert (skip.recording, skip.trial, skip.fault) == ("a", trial, True)
    assert reason in skip.reason


def test_one_bad_trial_does_not_touch_the_others(plan) -> None:
    found = plan(1080, [(1, 345), (2, 100), (3, 360)])
    assert found.ranges == [(15, 360), (720, 1080)]
    assert [skip.trial for skip in found.skipped] == [2]


def test_trials_without_an_annotation_are_said(plan) -> None:
    expected = (
        "without an annotation, so left out: trial 1, 3",
        "after the last whole trial, so left out: frames 1080 to 1099",
    )
    assert plan(1100, [(2, 360)]).notes == expected
    assert plan(1100, [(2, 100)]).notes == expected
    assert plan(1080, [(1, 360), (2, 360), (3, 345)]).notes == ()


def test_what_is_left_of_an_unannotated_recording(plan) -> None:
    found = plan(749, [])
    assert found.ranges == [(0, 360), (360, 720)]
    (skip,) = found.skipped
    assert (skip.trial, skip.fault) == (3, False)
    assert "too short: 29 frames from frame 720 on" in skip.reason
    (alone,) = plan(300, []).skipped
    assert alone.fault


@pytest.mark.parametrize(("stim", "kept"), [(60, 60), (400, None)])
def test_stimulus_frames(lab, stim: int, kept: int | None) -> None:
    path = lab.annotation("a.mp4_1", (), header="Frame,Action,StimFrame", rows=[f"{i},0,{stim}" for i in range(360)])
    files = RecordingFiles("a", Path("a.mp4"), Path("a.csv"), ((1, path),))
    found = plan_trials(files, 360, PreprocessSettings())
    assert found.clip_rows()[0].stim_frame == kept
    assert any("StimFrame 400 lies outside" in note for note in found.notes) is (kept is None)


def test_a_frame_column_against_the_crop_is_a_reason(lab) -> None:
    path = lab.annotation("a.mp4_1", [0] * 360, first=15)
    files = RecordingFiles("a", Path("a.mp4"), Path("a.csv"), ((1, path),))
    (skip,) = plan_trials(files, 375, PreprocessSettings()).skipped
    assert "prediction_a.mp4_1.csv: its Frame column starts at 15, expected 0" in skip.reason


def test_labels_outside_the_class_list_skip_the_trial(lab) -> None:
    path = lab.annotation("a.mp4_1", [0] * 359 + [8])
    files = RecordingFiles("a", Path("a.mp4"), Path("a.csv"), ((1, path),))
    (skip,) = plan_trials(files, 360, PreprocessSettings()).skipped
    assert "row 361: class '8' is not in the class list" in skip.reason
