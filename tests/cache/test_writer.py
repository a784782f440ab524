"""Recordings appear whole or not at all, whenever the writer dies; versions, skips, the lock, the messages."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import cache

# Writes version after version of two recordings. Every array of a version holds its number, as does its fingerprint.
ENDLESS = """
import sys, itertools, numpy as np, cache
path, store, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
n = 400
def version(writer, name, v):
    geometry = cache.Geometry.fit(10, 10, 10)
    meta = cache.RecordingMeta(name, "v", "d", geometry, 1, 30.0, "pyav", ("k",), ("c",),
        (cache.ClipRows(1, 0, n, 0, 0),), {"frames": str(v), "keypoints": str(v), "labels": str(v)})
    recording = writer.writer(name)
    for _ in range(8):
        recording.append_frames(np.full((n // 8, 10, 10, 1), v % 251 + 1, np.uint8))
    full = np.full(n, v)
    recording.finish(meta, keypoints=np.full((n, 1, 3), v), labels=full, frame_index=full, time_s=full)
with cache.create(path, store=store) as writer:
    for v in itertools.count(first):
        version(writer, "a", v)
        version(writer, "b", v)
        if v % 2:
            writer.commit()
        if v == first + 1:
            print("started", flush=True)
"""


def is_whole(clip: cache.Clip) -> bool:
    version = int(clip.meta.fingerprints["frames"])
    arrays = (clip.keypoints, clip.labels, clip.frame_index, clip.time_s)
    return bool(np.all(clip.frames[:] == version % 251 + 1)) and all(np.all(array == version) for array in arrays)


def test_a_killed_writer_leaves_whole_recordings(store, tmp_path):
    path, version = tmp_path / "cache", 1
    for delay_s in (0.0, 0.03, 0.08, 0.17):
        process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(path), store, str(version)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n", process.communicate()[1]
        time.sleep(delay_s)
        process.kill()
        process.communicate()
        clips = list(cache.open(path))
        assert [clip.recording for clip in clips] == ["a", "b"]
        assert all(map(is_whole, clips))
        committed = min(int(clip.meta.fingerprints["frames"]) for clip in clips)
        with cache.create(path, store=store) as writer:
            found = [int(meta.fingerprints["frames"]) for meta in writer.recordings.values()]
        assert min(found) >= committed >= version
        assert all(map(is_whole, cache.open(path)))
        assert len(list((path / "recordings").iterdir())) == 2
        version = max(found) + 1


# Each dies at one point; what the next writer must find as mouse_1's version, and what a reader sees before that.
DEATHS = {
    "before the first frame": ("writer.writer('a')", "1", "1"),
    "between frames": ("w = writer.writer('a'); w.append_frames(frames)", "1", "1"),
    "after all arrays": ("arrays.finish = lambda *a: (finish(*a), die()); w.finish(meta, **rows)", "1", "1"),
    "after the move": ("w.finish(meta, **rows)", "1", "2"),
    "after the index": ("w.finish(meta, **rows); cache.writer.delete = die; writer.commit()", "2", "2"),
    "after a removal's index": ("writer.remove('a'); cache.writer.delete = die; writer.commit()", None, None),
}
DYING = """
import os, signal, sys, numpy as np, cache, cache.writer
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def meta_of(v):
    return cache.RecordingMeta("a", "v", "d", cache.Geometry.fit(10, 10, 10), 1, 30.0, "pyav", ("k",), ("c",),
        (cache.ClipRows(1, 0, 9, 0, 0),), {"frames": v, "keypoints": v, "labels": v})
def start(v):
    w = writer.writer("a")
    w.append_frames(np.full((9, 10, 10, 1), v, np.uint8))
    full = np.full(9, v)
    return w, meta_of(str(v)), dict(keypoints=np.full((9, 1, 3), v), labels=full, frame_index=full, time_s=full)
frames = np.zeros((9, 10, 10, 1), np.uint8)
with cache.create(sys.argv[1], store=sys.argv[2]) as writer:
    w, meta, rows = start(1)
    w.finish(meta, **rows)
writer = cache.create(sys.argv[1], store=sys.argv[2])
w, meta, rows = start(2)
arrays, finish = w._arrays, w._arrays.finish
"""


@pytest.mark.parametrize("death", DEATHS)
def test_a_writer_killed_at_each_step(store, tmp_path, death):
    steps, seen, found = DEATHS[death]
    done = subprocess.run(
        [sys.executable, "-c", f"{DYING}\n{steps}\ndie()", str(tmp_path), store], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [clip.meta.fingerprints["labels"] for clip in cache.open(tmp_path)] == [seen][: seen is not None]
    with cache.create(tmp_path, store=store) as writer:
        assert [meta.fingerprints["labels"] for meta in writer.recordings.values()] == [found][: found is not None]
    opened = cache.open(tmp_path)
    assert [clip.labels.tolist() for clip in opened] == [[int(clip.meta.fingerprints["labels"])] * 9 for clip in opened]
    assert len(list((tmp_path / "recordings").iterdir())) == len(opened)


@pytest.mark.parametrize("table", ["", "recording,trial,reason\nold,,of another run\n"], ids=["gone", "old"])
def test_what_is_skipped_is_said_also_after_a_kill_between_index_and_table(tmp_path, make_meta, put, table):
    with cache.create(tmp_path) as writer:
        put(writer, make_meta())
        writer.skip("mouse_2", None, "no DLC table")
    expected = (tmp_path / "skipped.csv").read_bytes()
    (tmp_path / "skipped.csv").unlink()
    (tmp_path / ".tmp-skipped.csv").write_bytes(expected[:10])
    if table:
        (tmp_path / "skipped.csv").write_text(table)
    with cache.create(tmp_path) as writer:
        writer.skip("mouse_2", None, "no DLC table")
    assert (tmp_path / "skipped.csv").read_bytes() == expected
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_discarded_recording_leaves_nothing(store, tmp_path, make_meta, make_frames, put):
    with cache.create(tmp_path, store=store) as writer:
        first = put(writer, make_meta(), version=1)
        writer.commit()
        again = writer.writer("mouse_1")
        again.append_frames(make_frames(make_meta(), seed=2))
        again.discard()
        assert len(list((tmp_path / "recordings").iterdir())) == 1
    assert np.array_equal(cache.open(tmp_path)[0].frames[:], first[:345])


def test_an_exception_commits_nothing_and_loses_nothing(store, tmp_path, make_meta, put):
    with suppress(KeyboardInterrupt), cache.create(tmp_path, store=store) as writer:
        put(writer, make_meta("mouse_1"))
        writer.commit()
        put(writer, make_meta("mouse_2"))
        raise KeyboardInterrupt
    assert [meta.recording for meta in cache.open(tmp_path).recordings] == ["mouse_1"]
    with cache.create(tmp_path, store=store) as writer:
        assert sorted(writer.recordings) == ["mouse_1", "mouse_2"]
    assert len(cache.open(tmp_path)) == 4


def test_what_is_as_it_was_two_versions_ago_is_found_after_an_interruption(store, tmp_path, make_meta, put):
    for version in (1, 2):
        with cache.create(tmp_path, store=store) as writer:
            put(writer, make_meta(version=version), version=version)
    with suppress(KeyboardInterrupt), cache.create(tmp_path, store=store) as writer:
        put(writer, make_meta(version=1), version=1)
        raise KeyboardInterrupt
    with cache.create(tmp_path, store=store) as writer:
        assert writer.recordings["mouse_1"].fingerprints["frames"] == "f1"


@pytest.mark.parametrize("source", ["zarr", "hdf5"])
def test_new_labels_keep_the_frames(store, source, tmp_path, make_meta, make_arrays, put):
    with cache.create(tmp_path / "old", store=source) as old, cache.create(tmp_path / "new", store=store) as new:
        frames = put(old, make_meta())
        writer = new.writer("mouse_1")
        writer.copy_frames_from(old.reader("mouse_1"))
        writer.finish(make_meta(version=1), **make_arrays(make_meta(), 1))
    opened = cache.open(tmp_path / "new")
    assert np.array_equal(opened[1].frames[:], frames[345:])
    assert np.array_equal(opened[0].labels, make_arrays(make_meta(), 1)["labels"][:345])


def test_new_labels_of_a_recording_without_a_video(store, tmp_path, make_meta, make_arrays):
    meta = make_meta(geometry=cache.Geometry.pose_only(640, 480))
    with cache.create(tmp_path, store=store) as writer:
        writer.writer("mouse_1").finish(meta, **make_arrays(meta))
        again = writer.writer("mouse_1")
        again.copy_frames_from(writer.reader("mouse_1"))
        again.finish(meta, **make_arrays(meta, 1))
    assert cache.open(tmp_path)[0].labels[0] == 0


def test_zarr_frames_are_linked_and_outlive_the_old_version(tmp_path, make_meta, make_arrays, put):
    def inodes() -> list[int]:
        return sorted(path.stat().st_ino for path in tmp_path.glob("recordings/*.zarr/frames/c/*/0/0/0"))

    with cache.create(tmp_path, store="zarr") as writer:
        frames = put(writer, make_meta())
        writer.commit()
        before = inodes()
        again = writer.writer("mouse_1")
        again.copy_frames_from(writer.reader("mouse_1"))
        again.finish(make_meta(version=1), **make_arrays(make_meta(), 1))
    assert inodes() == before
    assert len(before) == 2
    assert np.array_equal(cache.open(tmp_path)[0].frames[:], frames[:345])


def test_readers_of_a_replaced_version_get_an_error_and_no_wrong_data(store, tmp_path, make_meta, put):
    with cache.create(tmp_path, store=store) as writer:
        put(writer, make_meta(), version=1)
    opened = cache.open(tmp_path)
    opened[0].frames[0:5]
    with cache.create(tmp_path, store=store) as writer:
        frames = put(writer, make_meta(version=2), version=2)
    with pytest.raises(cache.CacheError, match="if preprocess has run meanwhile, start again"):
        opened[0].frames[0:5]
    assert np.array_equal(cache.open(tmp_path)[0].frames[0:5], frames[0:5])


def test_the_same_version_written_again_replaces_the_old_one(store, tmp_path, make_meta, put):
    for content in range(5):  # names come back after two versions
        with cache.create(tmp_path, store=store) as writer:
            frames = put(writer, make_meta(), version=content)
        assert np.array_equal(cache.open(tmp_path)[0].frames[:], frames[:345])
        assert len(list((tmp_path / "recordings").iterdir())) == 1


def test_a_removed_recording_goes_at_the_commit(store, tmp_path, make_meta, put):
    with cache.create(tmp_path, store=store) as writer:
        put(writer, make_meta("mouse_1"))
        put(writer, make_meta("mouse_2"))
        writer.commit()
        writer.remove("mouse_1")
        assert len(cache.open(tmp_path).recordings) == 2
    assert [clip.recording for clip in cache.open(tmp_path)] == ["mouse_2", "mouse_2"]
    assert len(list((tmp_path / "recordings").iterdir())) == 1


def test_a_second_writer_is_refused(store, tmp_path):
    message = f"{tmp_path}: another process is writing"
    with cache.create(tmp_path, store=store), pytest.raises(cache.CacheBusyError, match=message):
        cache.create(tmp_path, store=store)
    cache.create(tmp_path, store=store).close()


def test_a_second_process_is_refused_until_the_first_dies(tmp_path):
    code = "import sys, cache; w = cache.create(sys.argv[1], store='zarr'); print('open', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    with pytest.raises(cache.CacheBusyError):
        cache.create(tmp_path, store="zarr")
    process.kill()
    process.communicate()
    cache.create(tmp_path, store="zarr").close()


def test_skips_are_listed_beside_the_cache_and_forgotten_by_the_next_run(store, tmp_path, make_meta, put):
    with cache.create(tmp_path, store=store) as writer:
        put(writer, make_meta())
        writer.skip("mouse_2", None, "no DLC table, no video")
        writer.skip("mouse_1", 3, 'too short: "300" rows')
    expected = [("mouse_2", None, "no DLC table, no video"), ("mouse_1", 3, 'too short: "300" rows')]
    for table in (cache.open(tmp_path).skipped, pd.read_csv(tmp_path / "skipped.csv")):
        assert list(table.columns) == ["recording", "trial", "reason"]
        rows = table.astype(object).where(table.notna(), None)
        assert list(rows.itertuples(index=False, name=None)) == expected
    with cache.create(tmp_path, store=store):
        pass
    assert len(cache.open(tmp_path).skipped) == 0
    assert len(cache.open(tmp_path)) == 2


def test_fingerprint_is_of_the_content_whatever_the_order_and_the_store(tmp_path, make_meta, put):
    prints = []
    for name, store, order in (("a", "zarr", (1, 2)), ("b", "hdf5", (2, 1))):
        with cache.create(tmp_path / name, store=store) as writer:
            for i in order:
                put(writer, make_meta(f"mouse_{i}", (5,)))
        prints.append(cache.open(tmp_path / name).fingerprint)
    with cache.create(tmp_path / "b", store="hdf5") as writer:
        put(writer, make_meta("mouse_2", (5,), version=1))
    prints.append(cache.open(tmp_path / "b").fingerprint)
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "no cache there", id="none"),
        pytest.param(
            {"schema_version": 1, "store": "zarr"}, r"older schema version 1, .* reads 2; preprocess", id="older"
        ),
        pytest.param({"schema_version": 3, "store": "zarr"}, r"newer schema version 3, .* reads 2; update", id="newer"),
        pytest.param([], "not a cache's description", id="something else"),
        pytest.param({"schema_version": 2, "store": "zarr"}, "not complete", id="without an index"),
    ],
)
def test_what_cannot_be_opened_says_why(tmp_path, content, message):
    if content is not None:
        (tmp_path / "cache.json").write_text(json.dumps(content))
    with pytest.raises(cache.CacheError, match=message):
        cache.open(tmp_path)


@pytest.mark.parametrize("version", [1, 3])
def test_another_schema_version_is_not_written_to(tmp_path, version):
    (tmp_path / "cache.json").write_text(json.dumps({"schema_version": version, "store": "zarr"}))
    with pytest.raises(cache.CacheError, match=f"schema version {version}"):
        cache.create(tmp_path, store="zarr")


def test_a_cache_keeps_its_store(tmp_path):
    cache.create(tmp_path, store="zarr").close()
    with pytest.raises(cache.CacheError, match="store is zarr, not hdf5"):
        cache.create(tmp_path, store="hdf5")


def test_a_file_is_no_place_for_a_cache(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(cache.CacheError, match="cannot be made a cache"):
        cache.create(tmp_path / "file", store="zarr")
    with pytest.raises(cache.CacheError, match="no cache there"):
        cache.open(tmp_path / "file")


def test_a_damaged_index_is_named(store, tmp_path, make_meta, put):
    with cache.create(tmp_path, store=store) as writer:
        frames = put(writer, make_meta())
    (tmp_path / "index.parquet").write_bytes(b"nothing")
    with pytest.raises(cache.CacheError, match=r"index.parquet: cannot be read .* delete it"):
        cache.open(tmp_path)
    (tmp_path / "index.parquet").unlink()
    cache.create(tmp_path, store=store).close()  # everything else is found again
    assert np.array_equal(cache.open(tmp_path)[0].frames[:], frames[:345])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"clips"', '"klips"', "damaged metadata of a recording"),
        ('"recording": "mouse_1"', '"recording": "mouse_9"', "mouse_9 stands where mouse_1 should"),
        ('"trial": 2', '"trial": two', "Expecting value"),
    ],
)
def test_damaged_metadata_in_the_index_names_the_file(tmp_path, make_meta, put, old, new, reason):
    """What the index says of a recording is understood when it is asked for, and the message is the same then."""
    with cache.create(tmp_path) as writer:
        put(writer, make_meta())
    table = pq.read_table(tmp_path / "index.parquet")
    texts = [text and text.replace(old, new) for text in table["meta"].to_pylist()]
    assert texts != table["meta"].to_pylist()
    column = table.schema.get_field_index("meta")
    pq.write_table(table.set_column(column, table.schema.field("meta"), [texts]), tmp_path / "index.parquet")
    with pytest.raises(cache.CacheError, match=rf"index.parquet: cannot be read \(.*{reason}.* delete it"):
        cache.open(tmp_path)[0]


@pytest.mark.parametrize("file", ["frames/c/1/0/0/0", "labels/c/0", "frames/zarr.json"])
@pytest.mark.parametrize("damage", ["gone", "cut short", "a byte changed"])
def test_damaged_zarr_files_are_an_error_and_not_zeros(tmp_path, make_meta, put, file, damage):
    with cache.create(tmp_path, store="zarr") as writer:
        put(writer, make_meta())
    (path,) = tmp_path.glob(f"recordings/*.zarr/{file}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.unlink()
    if damage != "gone":
        path.write_bytes(content if damage == "a byte changed" else content[: len(content) // 2])
    clip = cache.open(tmp_path)[1]
    with pytest.raises(cache.CacheError, match="cannot be read"):
        clip.labels if file.startswith("labels") else clip.frames[:]


def test_a_truncated_hdf5_file_is_an_error(tmp_path, make_meta, put):
    with cache.create(tmp_path, store="hdf5") as writer:
        put(writer, make_meta())
    (path,) = tmp_path.glob("recordings/*.h5")
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(cache.CacheError, match="cannot be read"):
        cache.open(tmp_path)[0].frames[:]


def test_a_recording_that_is_gone_is_not_whole(store, tmp_path, make_meta, put):
    with cache.create(tmp_path, store=store) as writer:
        put(writer, make_meta("mouse_1"))
        put(writer, make_meta("mouse_2"))
    (path,) = tmp_path.glob("recordings/mouse_1.*")
    path.rename(tmp_path / "elsewhere")
    with cache.create(tmp_path, store=store) as writer:
        assert list(writer.recordings) == ["mouse_2"]


def test_recordings_whose_names_are_one_when_cut_stay_apart(store, tmp_path, make_meta, make_frames, make_arrays):
    """Both lie finished side by side before either is taken, as they do when a worker goes on meanwhile."""
    names = ["x" * 220 + "a", "x" * 220 + "b"]
    with cache.create(tmp_path, store=store) as writer:
        finished = []
        for name in names:
            meta = make_meta(name)
            own = cache.Writer(tmp_path / "recordings", store, name)
            own.append_frames(make_frames(meta, seed=len(finished)))
            finished.append(own.finish(meta, **make_arrays(meta)))
        for each in finished:
            writer.take(each)
    opened = cache.open(tmp_path)
    assert [clip.recording for clip in opened if clip.trial == 1] == names
    for i, clip in enumerate(opened[::2]):
        assert np.array_equal(clip.frames[:], make_frames(make_meta(names[i]), seed=i)[:345])


def test_names_of_any_length_and_alphabet(store, tmp_path, make_meta, put):
    names = sorted(["x" * 250, "x" * 249 + "y", "Мышь №1 (копия)", "mouse.2024.03", "鼠" * 80])
    with cache.create(tmp_path, store=store) as writer:
        for i, name in enumerate(names):
            put(writer, make_meta(name, (3,)), version=i)
    with cache.create(tmp_path, store=store) as writer:
        assert sorted(writer.recordings) == names
    assert [(clip.recording, clip.labels[0]) for clip in cache.open(tmp_path)] == [
        (n, i - 1) for i, n in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"recording": "mouse_2"}, "the writer is for mouse_1", id="another recording"),
        pytest.param({"clips": ()}, "must follow one another", id="no clips"),
        pytest.param({"clips": (cache.ClipRows(1, 5, 20, 0, 0),)}, "must follow one another", id="a gap"),
        pytest.param(
            {"clips": (cache.ClipRows(1, 0, 19, 0, 0),)},
            r"frames of \(20, 12, 12, 1\), its clips need \(19, 12, 12, 1\)",
            id="rows",
        ),
        pytest.param(
            {"keypoint_names": ("a",)}, r"keypoints of \(20, 2, 3\), its clips need \(20, 1, 3\)", id="keypoints"
        ),
        pytest.param(
            {"geometry": cache.Geometry.pose_only(640, 480)}, r"frames of .* need \(0,\)", id="frames without a video"
        ),
        pytest.param({"channels": 3}, r"frames of .* need \(20, 12, 12, 3\)", id="channels"),
    ],
)
def test_a_recording_that_contradicts_itself_is_refused(
    store, tmp_path, make_meta, make_arrays, make_frames, changes, message
):
    meta = make_meta(lengths=(20,))
    with cache.create(tmp_path, store=store) as writer:
        recording = writer.writer("mouse_1")
        recording.append_frames(make_frames(meta))
        with pytest.raises(ValueError, match=message):
            recording.finish(make_meta(**{"lengths": (20,)} | changes), **make_arrays(meta))
        assert list((tmp_path / "recordings").iterdir()) == []


@pytest.mark.parametrize("name", ["class_names", "keypoint_names"])
def test_recordings_that_differ_are_named(store, tmp_path, make_meta, put, name):
    with cache.create(tmp_path, store=store) as writer:
        put(writer, make_meta("mouse_1", (3,)))
        put(writer, make_meta("mouse_2", (3,), **{name: ("p", "q")}))
    with pytest.raises(cache.CacheError, match=f"{name} differ: mouse_1 has .*; mouse_2 has p, q"):
        getattr(cache.open(tmp_path), name)


def test_an_empty_cache_opens_and_says_so(store, tmp_path):
    with cache.create(tmp_path, store=store) as writer:
        writer.skip("mouse_1", None, "no DLC table")
    opened = cache.open(tmp_path)
    assert (len(opened), opened.recordings) == (0, ())
    with pytest.raises(cache.CacheError, match=r"holds no recording; skipped.csv"):
        opened.class_names  # noqa: B018


@pytest.mark.parametrize("name", ["mine.h5", "mine.zarr/zarr.json", "x.0123abcd.h5"])
def test_a_folder_that_is_no_cache_is_left_alone(store, tmp_path, name):
    path = tmp_path / "recordings" / name
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    with pytest.raises(cache.CacheError, match="holds a folder recordings that is not a cache's; use another folder"):
        cache.create(tmp_path, store=store)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_foreign_files_in_a_cache_stay(store, tmp_path, make_meta, put):
    with cache.create(tmp_path, store=store) as writer:
        put(writer, make_meta())
    foreign = [tmp_path / "recordings" / name for name in ("mine.h5", "mine.zarr", "mine.0123abcd.txt")]
    for path in foreign:
        path.write_text("precious")
    with cache.create(tmp_path, store=store) as writer:
        put(writer, make_meta(version=1), version=1)
    assert all(path.read_text() == "precious" for path in foreign)
    assert len(list((tmp_path / "recordings").iterdir())) == 4


def test_a_recording_is_described_anew_in_the_index_alone(store, tmp_path, make_meta, put, contents):
    with cache.create(tmp_path, store=store) as writer:
        put(writer, make_meta())
    before = contents(tmp_path / "recordings")
    moved = make_meta(video="elsewhere/mouse_1.mp4", settings={"min_frames": 3})
    with cache.create(tmp_path, store=store) as writer:
        writer.describe(moved)
        with pytest.raises(ValueError, match="need a new version"):
            writer.describe(make_meta(version=1))
    assert cache.open(tmp_path)[0].meta == moved
    assert contents(tmp_path / "recordings") == before


def test_each_recording_keeps_its_own_settings_and_names(store, tmp_path, make_meta, put):
    """What neighbours have in common is kept once in memory."""
    metas = [
        dataclasses.replace(make_meta(name), settings={"img_size": size}, class_names=classes)
        for name, size, classes in (("a", 1, ("rest",)), ("b", 1, ("rest",)), ("c", 2, ("walk",)), ("d", 1, ("rest",)))
    ]
    with cache.create(tmp_path, store=store) as writer:
        for meta in metas:
            put(writer, meta)
    read = cache.open(tmp_path).recordings
    assert [(meta.settings, meta.class_names) for meta in read] == [(meta.settings, meta.class_names) for meta in metas]
    assert read[0].settings is read[1].settings


def test_skips_of_trials_are_kept_when_asked_for(store, tmp_path, make_meta, put):
    with cache.create(tmp_path, store=store) as writer:
        put(writer, make_meta())
        writer.skip("mouse_1", 3, "too short")
        writer.skip("mouse_2", 1, "too short")
    with cache.create(tmp_path, store=store) as writer:
        writer.keep_skips("mouse_1")
    assert cache.open(tmp_path).skipped.to_numpy().tolist() == [["mouse_1", 3, "too short"]]


def test_copying_from_a_damaged_version_is_a_cache_error(store, tmp_path, make_meta, put):
    with cache.create(tmp_path, store=store) as writer:
        put(writer, make_meta())
        (path,) = (tmp_path / "recordings").iterdir()
        if store == "zarr":
            _remove_a_shard(path)
        else:
            path.write_bytes(path.read_bytes()[:5000])
        again = writer.writer("mouse_1")
        with pytest.raises(cache.CacheError, match="cannot be read"):
            again.copy_frames_from(writer.reader("mouse_1"))
        again.discard()


def _remove_a_shard(path):
    next(file for file in sorted((path / "frames" / "c").rglob("*")) if file.is_file()).unlink()
