"""Annotations of other programs, from the folder to the cache: found, cut into trials, checked, made again."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

import cache as clip_cache
from lab import Lab
from pipeline.preprocess.check import check
from pipeline.preprocess.discovery import discover
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess.trials import Plan, plan_trials
from pipeline.preprocess_settings import PreprocessSettings

CLASSES = "rest,walk,lick"
TWO_TRIALS = {"trial_frames": 20, "min_frames": 15, "crops": "15=5", "classes": CLASSES, "img_size": 32}
BORIS = "Observation id,Subject,Behavior,Behavior type,Start (s),Stop (s),Media file name"


def events(lab: Lab, name: str, *rows: str) -> Path:
    path = lab.folder / name
    path.write_text("\n".join([BORIS, *rows]) + "\n")
    return path


def one_hot(lab: Lab, name: str, labels: list[int]) -> Path:
    path = lab.folder / name
    rows = [f"{i},{int(label == 1)},{int(label == 2)}" for i, label in enumerate(labels)]
    path.write_text("\n".join([",walk,lick", *rows]) + "\n")
    return path


def bouts(lab: Lab, name: str, *rows: tuple[int, int, str]) -> Path:
    path = lab.folder / name
    text = "".join(f"   \t{first}\t{last}\t{kind}\n" for first, last, kind in rows)
    path.write_text(f"Caltech Behavior Annotator - Annotation File\n\nS1:\tstart\tend\ttype\n-----\n{text}")
    return path


def found(lab: Lab, **changes) -> tuple[dict[str, list[tuple[int | None, str]]], list[str]]:
    """Annotations of each recording, and the reasons why others are not used."""
    seen = discover(lab.folder, lab.folder, None, PreprocessSettings(**(TWO_TRIALS | changes)))
    return {f.name: [(n, path.name) for n, path in f.annotations] for f in seen.recordings}, [
        skip.reason for skip in seen.skipped
    ]


def planned(lab: Lab, n_frames: int = 40, **changes) -> Plan:
    settings = PreprocessSettings(**(TWO_TRIALS | changes))
    (files,) = discover(None, lab.folder, lab.folder, settings).recordings
    return plan_trials(files, n_frames, settings)


@pytest.mark.parametrize(
    ("name", "trial"),
    [("a.csv", None), ("a.mp4.csv", None), ("a_labels.csv", None), ("a_2.csv", 2), ("prediction_a.mp4_2.csv", 2)],
)
def test_one_hot_files_are_found_by_the_recordings_name(lab: Lab, name: str, trial: int | None) -> None:
    lab.recording("a.mp4", 3)
    one_hot(lab, name, [0, 1, 2])
    assert found(lab) == ({"a": [(trial, name)]}, [])


def test_a_name_that_means_two_recordings_is_refused(lab: Lab) -> None:
    lab.recording("a.mp4", 3)
    lab.recording("a_2.mp4", 3)
    one_hot(lab, "a_2.csv", [0, 1, 2])
    matched, reasons = found(lab)
    assert matched == {"a": [], "a_2": []}
    assert "an annotation of a, trial 2 or a_2, trial 1: its name means both" in reasons[0]


def test_bout_lists_and_boris_tables_are_found_in_text_files(lab: Lab) -> None:
    lab.recording("a.mp4", 3)
    lab.recording("b.mp4", 3)
    bouts(lab, "a_annot.txt", (1, 2, "walk"))
    events(lab, "b.tsv", "o,,walk,STATE,0,0.1,b.mp4").write_text((lab.folder / "b.tsv").read_text().replace(",", "\t"))
    (lab.folder / "README.txt").write_text("The first line\nof a text\n")
    assert found(lab) == ({"a": [(None, "a_annot.txt")], "b": [(None, "b.tsv")]}, [])


def test_a_boris_file_of_a_project_belongs_to_the_videos_among_its_media(lab: Lab) -> None:
    for name in "abcü":
        lab.recording(f"{name}.mp4", 3)
    rows = [f"{name},,walk,STATE,0,0.1,/data/{unicodedata.normalize('NFD', name)}.avi" for name in "aübz"]
    events(lab, "project.csv", *rows)
    assert found(lab)[0] == {name: [(None, "project.csv")] if name != "c" else [] for name in "abcü"}
    events(lab, "project.csv", *rows[3:])
    matched, reasons = found(lab)
    assert set(map(len, matched.values())) == {0}
    assert "belongs to no video here; expected <name of the video>.csv, or that name among its media" in reasons[0]


def test_a_table_of_other_columns_is_no_annotation(lab: Lab) -> None:
    lab.recording("a.mp4", 3)
    one_hot(lab, "summary.csv", [0, 1])
    matched, reasons = found(lab)
    assert matched == {"a": []}
    assert reasons == ["no annotation: its name does not begin with prediction_"]


def test_a_whole_recording_is_cut_into_its_trials(lab: Lab) -> None:
    lab.dlc("a", 47)
    path = bouts(lab, "a_annot.txt", (1, 10, "walk"), (19, 22, "lick"), (41, 47, "walk"))
    plan = planned(lab, 47)
    assert plan.ranges == [(0, 20), (20, 40)]
    assert [trial.annotation for trial in plan.trials] == [path, path]
    assert plan.trials[0].labels.tolist() == [1] * 10 + [-1] * 8 + [2] * 2
    assert plan.trials[1].labels.tolist() == [2] * 2 + [-1] * 18
    (rest,) = plan.skipped
    assert (rest.trial, rest.fault) == (3, False)
    (alone,) = planned(lab, 47, trial_frames=0).trials
    assert alone.labels.tolist() == [1] * 10 + [-1] * 8 + [2] * 4 + [-1] * 18 + [1] * 7


@pytest.mark.parametrize(
    ("name", "rows", "ranges"),
    [
        ("a.csv", 40, [(0, 20), (20, 40)]),
        ("a_2.csv", 20, [(20, 40)]),
        ("a_2.csv", 15, [(25, 40)]),
        ("prediction_a.mp4_1.csv", 15, [(5, 20)]),
    ],
    ids=["whole", "trial", "cropped trial", "named as of old"],
)
def test_one_hot_is_of_the_recording_or_of_a_trial(lab: Lab, name: str, rows: int, ranges: list) -> None:
    lab.dlc("a", 40)
    labels = np.random.default_rng(0).integers(1, 3, rows).tolist()
    one_hot(lab, name, labels)
    plan = planned(lab)
    assert plan.ranges == ranges
    assert np.concatenate([trial.labels for trial in plan.trials]).tolist() == labels


def test_one_hot_of_the_only_trial_is_cropped(lab: Lab) -> None:
    lab.dlc("a", 20)
    one_hot(lab, "a.csv", [1] * 15)
    assert planned(lab, 20).ranges == [(5, 20)]


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda lab: one_hot(lab, "a.csv", [1] * 39), "a.csv names no trial and has 39 rows, the recording has 40"),
        (lambda lab: bouts(lab, "a_2.txt", (1, 3, "walk")), "a bouts file tells of the whole recording; take _2 off"),
        (lambda lab: bouts(lab, "a.txt", (1, 99, "walk")), "row 5: walk from 1 to 99 runs 59 frames past"),
        (
            lambda lab: (bouts(lab, "a.txt", (1, 9, "walk")), one_hot(lab, "a.csv", [1] * 40)),
            "annotated more than once: a.csv, a.txt; keep one",
        ),
        (lambda lab: events(lab, "a.csv", "o,,walk,STATE,0,1,a.mp4"), "no frame rate to count its time by"),
        (lambda lab: one_hot(lab, "a_2.csv", [1] * 17), "a_2.csv: ambiguous: 17 rows"),
    ],
    ids=["a row less", "bouts of a trial", "beyond", "twice", "no rate", "rows of a trial"],
)
def test_what_cannot_be_laid_onto_a_recording_is_a_reason(lab: Lab, write, reason: str) -> None:
    lab.dlc("a", 40)
    write(lab)
    plan = planned(lab)
    assert plan.trials == ()
    (skip,) = plan.skipped
    assert reason in skip.reason
    assert skip.fault


def test_check_says_how_each_file_was_read(lab: Lab) -> None:
    for name in "abcd":
        lab.recording(f"{name}.mp4", 40)
    lab.annotation("a.mp4_1", [1] * 20)
    one_hot(lab, "b.csv", [1] * 40)
    events(lab, "c.csv", "o,,walk,STATE,0,1.333,c.mp4")
    bouts(lab, "d.txt", (1, 30, "walk"))
    settings = PreprocessSettings(**TWO_TRIALS)
    rows = check(settings, videos=lab.folder, annotations=lab.folder, quick=True).rows
    assert {row.recording: row.read_as for row in rows} == {"a": "frames", "b": "onehot", "c": "boris", "d": "bouts"}
    assert {row.recording: row.verdict for row in rows} == {"a": "warning", "b": "ok", "c": "ok", "d": "warning"}
    filled = PreprocessSettings(**TWO_TRIALS, annotation_background="rest")
    rows = check(filled, videos=lab.folder, annotations=lab.folder, quick=True).rows
    assert {row.verdict for row in rows if row.recording == "d"} == {"ok"}


def test_times_are_those_of_the_video_and_the_frames_show_it(lab: Lab, tmp_path: Path) -> None:
    """A video with a gap in its times: the behaviour begins where the frame of that time is."""
    times_ms = [33 * i + (500 if i >= 10 else 0) for i in range(40)]
    lab.recording("a.mp4", 40, times_ms=times_ms)
    events(lab, "a.csv", f"o,,walk,STATE,{times_ms[12] / 1000:.3f},{times_ms[30] / 1000:.3f},a.mp4")
    preprocess(PreprocessSettings(**TWO_TRIALS), videos=lab.folder, annotations=lab.folder, cache=tmp_path / "cache")
    clips = list(clip_cache.open(tmp_path / "cache"))
    numbers = np.concatenate([lab.numbers(clip.frames[:]) for clip in clips])
    assert numbers.tolist() == list(range(40))
    labels = np.concatenate([clip.labels for clip in clips])
    assert np.flatnonzero(labels == 1).tolist() == list(range(12, 30))


def states(lab: Lab, cache: Path, **changes) -> dict[str, str]:
    settings = PreprocessSettings(**(TWO_TRIALS | changes))
    report = preprocess(settings, videos=lab.folder, annotations=lab.folder, cache=cache)
    return {row.recording: row.state for row in report.recordings}


def test_a_setting_that_decides_the_labels_makes_these_alone_again(lab: Lab, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in "ab":
        lab.recording(f"{name}.mp4", 40)
    events(lab, "a.csv", "o,m1,walk,STATE,0,1,a.mp4", "o,m2,lick,STATE,0,1.4,a.mp4")
    lab.annotation("b.mp4_1", [1] * 20)
    assert states(lab, cache, annotation_subject="m1") == {"a": "new", "b": "new"}
    assert states(lab, cache, annotation_subject="m1") == {"a": "fresh", "b": "fresh"}
    assert states(lab, cache, annotation_subject="m2") == {"a": "labels", "b": "fresh"}
    wanted = {"annotation_subject": "m2", "annotation_background": "rest"}
    assert states(lab, cache, annotation_subject="m1", annotation_background="rest") == {"a": "labels", "b": "fresh"}
    labels = [clip.labels.tolist() for clip in clip_cache.open(cache) if clip.recording == "a"]
    assert labels == [[1] * 20, [1] * 10 + [0] * 10]
    assert states(lab, cache, **wanted, annotation_slack=1) == {"b": "fresh"}  # it runs 2 frames past the end
    assert states(lab, cache, **wanted, annotation_slack=2) == {"a": "new", "b": "fresh"}
    assert states(lab, cache, **wanted, annotation_format="boris")["a"] == "fresh"


def test_the_frame_rate_of_the_setting_decides_labels(lab: Lab, tmp_path: Path) -> None:
    lab.dlc("a", 40)
    events(lab, "a.csv", "o,m1,walk,STATE,0,1,a.mp4")

    def state(fps: float) -> str:
        settings = PreprocessSettings(**TWO_TRIALS, annotation_fps=fps)
        report = preprocess(settings, dlc=lab.folder, annotations=lab.folder, cache=tmp_path / "cache")
        return report.recordings[0].state

    assert [state(fps) for fps in (20.0, 20.0, 30.0)] == ["new", "fresh", "labels"]
    assert sum((clip.labels == 1).sum() for clip in clip_cache.open(tmp_path / "cache")) == 30
