"""Preprocess into an object store: what comes out, what is sent, and what is left after errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from s3_lab import BUCKET, S3Server

import cache as clip_cache
from lab import Lab
from pipeline.cluster import Cluster
from pipeline.preprocess import stage
from pipeline.preprocess.status import status
from pipeline.preprocess_settings import PreprocessSettings

SETTINGS = {"img_size": 32, "trial_frames": 40, "min_frames": 30, "crops": "35=5", "classes": "rest,walk,lick"}


@pytest.fixture(scope="module")
def day(make_lab) -> Lab:
    """Three recordings of two trials, of which the first is annotated."""
    lab = make_lab("day")
    for name in "abc":
        lab.recording(f"{name}.mp4", 80)
        lab.annotation(f"{name}.mp4_1", [1] * 40)
    return lab


def run(lab: Lab, cache: Path | str, **how: object) -> stage.Report:
    place = clip_cache.place(cache)
    settings = PreprocessSettings(**SETTINGS)  # type: ignore[arg-type]
    return stage.preprocess(settings, cache=place, videos=lab.folder, annotations=lab.folder, **how)  # type: ignore[arg-type]


def assert_same(found: clip_cache.Cache, expected: clip_cache.Cache) -> None:
    assert [(clip.recording, clip.trial, clip.meta) for clip in found] == [
        (clip.recording, clip.trial, clip.meta) for clip in expected
    ]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.frames[:], other.frames[:])
        np.testing.assert_array_equal(one.keypoints, other.keypoints)
        np.testing.assert_array_equal(one.labels, other.labels)


def test_the_clips_are_those_of_a_local_cache(s3: S3Server, day: Lab, tmp_path: Path) -> None:
    place = f"s3://{BUCKET}/day"
    report = run(day, place)
    assert report == run(day, tmp_path / "cache")
    assert_same(clip_cache.open(place), clip_cache.open(tmp_path / "cache"))
    s3.behave()
    assert {row.state for row in run(day, place).recordings} == {"fresh"}
    assert sum(s3.methods().values()) <= 15  # what is fresh is not looked at, however many recordings there are
    assert not s3.methods("recordings/")
    found = status(
        PreprocessSettings(**SETTINGS), cache=clip_cache.place(place), videos=day.folder, annotations=day.folder
    )
    assert {row.state for row in found.recordings} == {"fresh"}


def test_a_changed_label_sends_no_frame(s3: S3Server, lab: Lab) -> None:
    place = f"s3://{BUCKET}/relabelled"
    for name in "ab":
        lab.recording(f"{name}.mp4", 80)
        lab.annotation(f"{name}.mp4_1", [1] * 40)
    run(lab, place)
    lab.annotation("a.mp4_1", [2] * 40)
    s3.behave()
    assert [row.state for row in run(lab, place).recordings] == ["labels", "fresh"]
    assert s3.methods("frames")["PUT"] == 0
    assert s3.methods("frames")["COPY"] == 2  # by the store itself: what describes the array, and its file
    assert s3.methods("recordings/")["PUT"] == 11
    clips = clip_cache.open(place)
    assert set(clips[0].labels) == {2}
    for clip in clips:
        assert lab.numbers(clip.frames[:]).tolist() == list(range(40 * (clip.trial - 1), 40 * clip.trial))
    assert len({name.split("/")[1] for name in s3.objects("relabelled") if name.startswith("recordings/")}) == 2


def test_a_process_of_its_own_uploads_what_it_made(s3: S3Server, day: Lab, tmp_path: Path) -> None:
    with Cluster(1) as cluster:
        run(day, f"s3://{BUCKET}/own process", cluster=cluster)
    run(day, tmp_path / "cache")
    assert_same(clip_cache.open(f"s3://{BUCKET}/own process"), clip_cache.open(tmp_path / "cache"))


def test_a_store_that_refuses_ends_the_run_and_keeps_what_was_made(s3: S3Server, day: Lab) -> None:
    place = f"s3://{BUCKET}/refuses"
    s3.spoil = lambda number, method, key: "403" if "/c." in key else None
    with pytest.raises(clip_cache.StoreError, match="does not let you in"):
        run(day, place)
    assert not list(upload_folder().glob(".tmp-*"))
    s3.behave()
    states = {row.recording: row.state for row in run(day, place).recordings}
    assert states == {"a": "fresh", "b": "fresh", "c": "new"}
    assert len(clip_cache.open(place)) == 3


def test_a_damaged_version_is_decoded_again_and_one_out_of_reach_is_not(s3: S3Server, lab: Lab) -> None:
    place = f"s3://{BUCKET}/damaged"
    lab.recording("a.mp4", 80)
    lab.annotation("a.mp4_1", [1] * 40)
    run(lab, place)
    lab.annotation("a.mp4_1", [2] * 40)
    s3.spoil = lambda number, method, key: "403" if method == "COPY" else None
    with pytest.raises(clip_cache.StoreError):
        run(lab, place)
    s3.behave()
    (frames,) = [name for name in s3.objects("damaged") if name.endswith("frames/c/0/0/0/0")]
    s3.client.delete_object(Bucket=BUCKET, Key=f"damaged/{frames}")
    assert [row.state for row in run(lab, place).recordings] == ["frames+labels"]
    assert lab.numbers(clip_cache.open(place)[0].frames[:]).tolist() == list(range(40))


def upload_folder() -> Path:
    from cache.recording_writer import _scratch

    return _scratch()
