"""A cache in an object store: the same objects as files, few requests, whole recordings or none, and no lost writer."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from s3_lab import BUCKET, S3Server

import cache as clip_cache
from cache import bucket, remote
from cache.folder import LOCK_FILE
from tests_support import N_FRAMES, files_of, small_clip, write_recording, write_small_cache

N_OBJECTS = 13  # of a recording of up to 360 frames: its zarr.json, and of each of six arrays that and a file
PUTS = 5  # of a writer beside its recordings: claim, whether it holds, description, index, table of skips


def where(name: str) -> str:
    return f"s3://{BUCKET}/{name}"


def nameless(files: dict) -> dict[str, bytes]:
    """The files of a cache without the keys in the names of recordings, which are drawn; nor what names them."""
    found = {re.sub(r"\.[0-9a-f]{8}\.zarr", ".zarr", str(name)): content for name, content in files.items()}
    return {name.replace("\\", "/"): content for name, content in found.items() if name != "index.parquet"}


def assert_same_clips(found: clip_cache.Cache, expected: clip_cache.Cache) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.recording, one.trial, one.meta) == (other.recording, other.trial, other.meta)
        np.testing.assert_array_equal(one.frames[:], other.frames[:])
        for array in ("keypoints", "labels", "frame_index", "time_s", "intact"):
            np.testing.assert_array_equal(getattr(one, array), getattr(other, array))


def every(n: int, what: str) -> Callable[[int, str, str], str | None]:
    return lambda number, method, key: what if number % n == 1 else None


@pytest.fixture
def small(s3: S3Server, small_cache: Path, request: pytest.FixtureRequest) -> str:
    """The small cache in the store, under a name of the test's own."""
    name = re.sub(r"\W", "_", request.node.name)
    s3.put(name, {path.as_posix(): content for path, content in files_of(small_cache).items()})
    s3.behave()
    return where(name)


def test_the_objects_are_the_files_of_a_local_cache(s3: S3Server, small_cache: Path, tmp_path: Path) -> None:
    write_small_cache(where("alike"))
    objects = s3.objects("alike")
    assert nameless(objects) == nameless(files_of(small_cache))
    for name, content in objects.items():  # what `aws s3 cp --recursive` does
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert_same_clips(clip_cache.open(tmp_path), clip_cache.open(small_cache))


def test_a_local_cache_that_was_copied_there_is_read(small: str, small_cache: Path) -> None:
    found = clip_cache.open(small)
    assert_same_clips(found, clip_cache.open(small_cache))
    assert found.fingerprint == clip_cache.open(small_cache).fingerprint
    assert small in repr(found)


def test_plain_zarr_reads_it(s3: S3Server, small: str, small_cache: Path) -> None:
    from obstore.store import from_url

    clip = clip_cache.open(small)[0]
    store = from_url(str(clip.remote), client_options={"allow_http": True})
    group = zarr.open_group(zarr.storage.ObjectStore(store, read_only=True), mode="r")
    np.testing.assert_array_equal(group["frames"][:N_FRAMES], clip.frames[:])


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_a_window_is_one_request(s3: S3Server, compression: str) -> None:
    place = where(f"window_{compression}")
    clips = [small_clip(trial) for trial in range(9)]  # 432 frames, in two files of 360 and of 72
    with clip_cache.create(place, compression=compression) as writer:
        write_recording(writer, "mouse", clips)
    s3.behave()
    cache = clip_cache.open(place)
    assert [(method, key.rpartition("/")[2]) for method, key, _ in s3.requests] == [
        ("GET", "cache.json"), ("GET", "index.parquet"),
    ]  # fmt: skip
    s3.behave()
    frames = np.concatenate([clip["frames"] for clip in clips])
    np.testing.assert_array_equal(cache[1].frames[3:40], frames[51:88])
    assert len(s3.requests) == 3  # the array's layout, the file's index, and the chunks
    np.testing.assert_array_equal(cache[5].frames[20:21], frames[260:261])
    assert len(s3.requests) == 4
    np.testing.assert_array_equal(cache[7].frames[:], frames[336:384])
    assert len(s3.requests) == 7  # of the second file also its index
    s3.behave()
    for clip in cache:
        _ = clip.keypoints, clip.labels
    assert len(s3.requests) == 2


def test_small_arrays_that_are_cut_otherwise_are_read_too(s3: S3Server, small: str) -> None:
    from obstore.store import from_url

    clip = clip_cache.open(small)[0]
    expected = clip.labels.copy()
    store = zarr.storage.ObjectStore(from_url(str(clip.remote), client_options={"allow_http": True}))
    whole = zarr.open_group(store, mode="r+")
    labels = whole["labels"][:]
    how: dict[str, Any] = {"overwrite": True, "config": {"write_empty_chunks": True}}
    whole.create_array("labels", shape=labels.shape, chunks=(7,), dtype=labels.dtype, **how)[:] = labels
    np.testing.assert_array_equal(clip_cache.open(small)[0].labels, expected)


def test_writing_takes_a_request_an_object(s3: S3Server) -> None:
    write_small_cache(where("puts"), recordings=6)
    assert s3.methods()["PUT"] <= 6 * N_OBJECTS + PUTS
    assert sum(s3.methods().values()) - s3.methods()["PUT"] <= 10
    s3.behave()
    with clip_cache.create(where("puts")):  # nothing to do
        pass
    assert s3.methods()["PUT"] == 2  # the claim, and whether it would hold
    assert sum(s3.methods().values()) <= 11


@pytest.mark.parametrize("how", ["503", "drop", "cut"])
def test_what_the_network_spoils_is_asked_for_again(s3: S3Server, small_cache: Path, how: str) -> None:
    place = where(f"spoilt_{how}")
    s3.spoil = every(4, how)
    write_small_cache(place, recordings=2)
    found = clip_cache.open(place)
    expected = clip_cache.open(small_cache)
    for clip, other in zip(found, expected, strict=False):
        np.testing.assert_array_equal(clip.frames[:], other.frames[:])
        np.testing.assert_array_equal(clip.labels, other.labels)
    assert len(found) == 4


@pytest.mark.parametrize("name", [LOCK_FILE, "index.parquet"])
def test_an_answer_that_is_lost_is_no_other_writer(s3: S3Server, name: str) -> None:
    lost = []

    def spoil(number: int, method: str, key: str) -> str | None:
        if method != "PUT" or not key.endswith(name) or lost:
            return None
        lost.append(key)
        return "done, then drop"

    s3.spoil = spoil
    write_small_cache(where(f"lost_{name}"), recordings=2)
    assert lost
    assert len(clip_cache.open(where(f"lost_{name}"))) == 4


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://mice/nothing", "no cache there (cache.json is missing); preprocess makes one"),
        ("s3://no-such-bucket/cache", "there is no bucket no-such-bucket"),
        ("s3://mice", "a cache needs a name in its bucket: s3://mice/cache"),
        ("ftp://mice/cache", "expected a folder, or an object store's s3://bucket/cache"),
        ("s3://key:secret@mice/cache", "s3://...@...: no credentials in an address, which is kept with every run"),
        ("s3://mice/../cache", "expected s3://bucket/folder/cache, in which no name is empty, . or .."),
        ("./s3:/mice/cache", "looks like an address and is none"),
    ],
)
def test_what_is_not_there_is_said(s3: S3Server, address: str, message: str) -> None:
    with pytest.raises(clip_cache.CacheError, match=re.escape(message)):
        clip_cache.open(address)


def test_a_bucket_that_is_not_there_is_said_to_a_writer(s3: S3Server) -> None:
    with pytest.raises(clip_cache.StoreError, match="there is no bucket no-such-bucket; make it"):
        clip_cache.create("s3://no-such-bucket/cache")


def test_credentials_that_are_refused_are_named(s3: S3Server, small: str) -> None:
    s3.spoil = lambda *_: "403"
    with pytest.raises(clip_cache.StoreError, match=r"does not let you in .*403.*AWS_ACCESS_KEY_ID"):
        clip_cache.open(small)


def test_a_server_that_is_gone_is_said(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RETRY_S", 0.5)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    remote._opened.cache_clear()
    try:
        with pytest.raises(clip_cache.StoreError, match=r"does not answer .*nothing is lost: try again") as said:
            clip_cache.open("s3://mice/gone")
        assert "\n" not in str(said.value)
    finally:
        remote._opened.cache_clear()


def test_without_obstore_it_is_said_how_to_get_it(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(clip_cache.CacheError, match=r"needs obstore: pip install 'paw-pipeline\[s3\]'"):
        clip_cache.open("s3://mice/cache")


def test_hdf5_stays_in_folders(s3: S3Server) -> None:
    with pytest.raises(clip_cache.CacheError, match="the hdf5 store needs a local folder; use --store zarr"):
        clip_cache.create(where("hdf5"), store="hdf5")


def test_what_is_no_cache_is_not_written_into(s3: S3Server) -> None:
    s3.put("foreign", {"recordings/day1/notes.txt": b"mine"})
    with pytest.raises(clip_cache.CacheError, match="that is not a cache's"):
        clip_cache.create(where("foreign"))
    assert list(s3.objects("foreign")) == ["recordings/day1/notes.txt"]


def test_an_object_that_is_gone_or_damaged_is_no_frame(s3: S3Server, small: str) -> None:
    clip = clip_cache.open(small)[0]
    key = str(clip.remote / "frames/c/0/0/0/0").removeprefix(f"s3://{BUCKET}/")
    content = s3.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    s3.client.put_object(Bucket=BUCKET, Key=key, Body=content[:500] + b"?" + content[501:])
    with pytest.raises(clip_cache.CacheError, match="cannot be read"):
        clip.frames[:]
    s3.client.put_object(Bucket=BUCKET, Key=key, Body=content[:-50])
    with pytest.raises(clip_cache.CacheError, match="the index of its chunks is damaged"):
        clip_cache.open(small)[0].frames[:]
    s3.client.delete_object(Bucket=BUCKET, Key=key)
    with pytest.raises(clip_cache.CacheError, match=r"is not there.*if preprocess has run meanwhile, start again"):
        clip_cache.open(small)[0].frames[:]


KILLED = """
import os, sys
import cache, cache.upload
from tests_support import small_clip, write_recording
place, moment = sys.argv[1:]
writer = cache.create(place)
write_recording(writer, "first", [small_clip(1)])
writer.commit()
write_recording(writer, "second", [small_clip(2)])
if moment == "while it uploads":
    put = cache.upload._put
    def killed(target, path):
        if target.name == "zarr.json" and target.url.endswith(".zarr/zarr.json"):
            os._exit(9)
        put(target, path)
    cache.upload._put = killed
write_recording(writer, "third", [small_clip(3)])
os._exit(9)
"""


@pytest.mark.parametrize(("moment", "adopted"), [("while it uploads", 2), ("before it commits", 3)])
def test_a_killed_writer_leaves_the_cache_as_it_was(s3: S3Server, moment: str, adopted: int) -> None:
    place = where(f"killed {moment}")
    tests = str(Path(__file__).parents[1])
    root = str(Path(clip_cache.__file__).parents[1])
    script = f"import sys; sys.path[:0] = {[root, tests]!r}\n{KILLED}"
    done = subprocess.run([sys.executable, "-c", script, place, moment], check=False, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    assert [clip.recording for clip in clip_cache.open(place)] == ["first"]
    with clip_cache.create(place) as writer:  # at once: the process that claims it is not there any more
        assert len(writer.recordings) == adopted
    found = clip_cache.open(place)
    assert [clip.recording for clip in found] == ["first", "second", "third"][:adopted]
    for seed, clip in enumerate(found, 1):
        np.testing.assert_array_equal(clip.frames[:], small_clip(seed)["frames"])
    recordings = {name.split("/")[1] for name in s3.objects(f"killed {moment}") if name.startswith("recordings/")}
    assert len(recordings) == adopted
    assert not any(name.endswith(LOCK_FILE) for name in s3.objects(f"killed {moment}"))


def test_a_half_deleted_recording_is_not_taken_for_whole(s3: S3Server) -> None:
    """Of a process that was given up and went on uploading while what it had put was deleted."""
    place = where("half")
    writer = clip_cache.create(place)
    write_recording(writer, "mouse", [small_clip(1)])
    writer.__exit__(KeyboardInterrupt, None, None)
    (part,) = [name for name in s3.objects("half") if name.endswith("frames/c/0/0/0/0")]
    s3.client.delete_object(Bucket=BUCKET, Key=f"half/{part}")
    with clip_cache.create(place) as writer:
        assert not writer.recordings
    assert not [name for name in s3.objects("half") if name.startswith("recordings/")]


def test_a_second_writer_is_refused_and_told_of_the_first(s3: S3Server) -> None:
    with clip_cache.create(where("busy")) as writer:
        write_recording(writer, "mouse", [small_clip(1)])
        with pytest.raises(clip_cache.CacheBusyError, match=r"process \d+ on .* is writing to this cache"):
            clip_cache.create(where("busy"))
    assert len(clip_cache.open(where("busy"))) == 1


@pytest.mark.parametrize("commits", ["the slow one first", "the second one first"])
def test_of_two_writers_one_is_refused_and_nothing_is_lost(
    s3: S3Server, commits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow one is taken for dead: its claim is old, and of another machine."""
    place = where(commits)
    with clip_cache.create(place) as writer:
        write_recording(writer, "mouse", [small_clip(1)])
    slow = clip_cache.create(place)
    write_recording(slow, "of_the_slow_one", [small_clip(2)])
    monkeypatch.setattr(bucket, "STALE_S", -1.0)
    second = clip_cache.create(place)
    write_recording(second, "of_the_second_one", [small_clip(3)])
    if commits == "the second one first":
        second.commit()
    with pytest.raises(clip_cache.CacheBusyError, match="another process has written to this cache meanwhile"):
        slow.close()
    second.close()
    found = clip_cache.open(place)
    names = [clip.recording for clip in found]
    assert {"mouse", "of_the_second_one"} <= set(names)
    for clip in found:  # all that the index names is there
        seed = {"mouse": 1, "of_the_slow_one": 2, "of_the_second_one": 3}[clip.recording]
        np.testing.assert_array_equal(clip.frames[:], small_clip(seed)["frames"])
    with clip_cache.create(place):  # the claim of the second one was let go of, not that of the slow one
        pass


def test_what_a_refused_writer_left_does_not_replace_what_counts(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be made from older files than what was committed meanwhile, whenever it was put there."""
    place = where("left")
    slow = clip_cache.create(place)
    write_recording(slow, "adopted", [small_clip(1)], version="1")
    monkeypatch.setattr(bucket, "STALE_S", -1.0)
    with clip_cache.create(place) as second:
        write_recording(second, "mouse", [small_clip(2)], version="new")
    write_recording(slow, "mouse", [small_clip(3)], version="old")
    write_recording(slow, "adopted", [small_clip(4)], version="2")
    assert [len(clip.frames[:]) for clip in clip_cache.open(place)] == [N_FRAMES, N_FRAMES]  # nothing was deleted
    with pytest.raises(clip_cache.CacheBusyError):
        slow.close()
    with clip_cache.create(place):
        pass
    found = {clip.recording: clip.labels for clip in clip_cache.open(place)}
    np.testing.assert_array_equal(found["mouse"], small_clip(2)["labels"])
    np.testing.assert_array_equal(found["adopted"], small_clip(1)["labels"])


def test_a_copy_that_cannot_be_written_is_no_fault_of_the_store(s3: S3Server, small: str, tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("no folder")
    clip = clip_cache.open(clip_cache.place(small, tmp_path / "copy"))[0]
    with pytest.raises(clip_cache.StoreError, match=r"--cache-copy .*copy: cannot be written .* make room"):
        clip.frames[:]


def test_a_damaged_copy_is_fetched_anew(s3: S3Server, small: str, small_cache: Path, tmp_path: Path) -> None:
    expected = clip_cache.open(small_cache)[0].frames[:]
    for _ in range(2):
        clip = clip_cache.open(clip_cache.place(small, tmp_path / "copy"))[0]
        np.testing.assert_array_equal(clip.frames[:], expected)
        for path in (tmp_path / "copy").rglob("frames/c/0/*"):
            chunk = next(each for each in [path, *path.rglob("*")] if each.is_file())
            chunk.write_bytes(chunk.read_bytes()[:100])


def test_a_claim_is_renewed_while_the_writer_is_there(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "RENEW_S", 0.02)
    with clip_cache.create(where("renewed")) as writer:
        until = time.monotonic() + 20
        while s3.methods(LOCK_FILE)["PUT"] < 4 and time.monotonic() < until:
            time.sleep(0.01)
        write_recording(writer, "mouse", [small_clip(1)])
    assert s3.methods(LOCK_FILE)["PUT"] >= 4
    assert LOCK_FILE not in s3.objects("renewed")
    assert len(clip_cache.open(where("renewed"))) == 1


def test_a_new_version_replaces_the_old_one(s3: S3Server) -> None:
    place = where("versions")
    for version in "12":
        with clip_cache.create(place) as writer:
            write_recording(writer, "mouse", [small_clip(int(version))], version=version)
    np.testing.assert_array_equal(clip_cache.open(place)[0].frames[:], small_clip(2)["frames"])
    assert len({name.split("/")[1] for name in s3.objects("versions") if name.startswith("recordings/")}) == 1


def test_a_copy_is_read_instead_of_the_store(s3: S3Server, small: str, small_cache: Path, tmp_path: Path) -> None:
    place = clip_cache.place(small, tmp_path / "copy")
    assert_same_clips(clip_cache.open(place), clip_cache.open(small_cache))
    copies = {path for path in files_of(tmp_path / "copy") if ".partial" not in path.parts}
    arrays = {path for path in files_of(small_cache) if len(path.parts) > 3}  # what says which they are is never a copy
    assert {path.parts[1:] for path in copies} == {path.parts[1:] for path in arrays}
    s3.behave()
    again = clip_cache.open(place)
    assert_same_clips(again, clip_cache.open(small_cache))
    assert len(s3.requests) == 2


def test_a_new_version_is_not_taken_from_the_copy(s3: S3Server, tmp_path: Path) -> None:
    place = clip_cache.place(where("copied versions"), tmp_path)
    for version in "12":
        with clip_cache.create(place) as writer:
            write_recording(writer, "mouse", [small_clip(int(version))], version=version)
        clip = clip_cache.open(place)[0]
        np.testing.assert_array_equal(clip.frames[:], small_clip(int(version))["frames"])
        np.testing.assert_array_equal(clip.labels, small_clip(int(version))["labels"])


def test_a_copy_of_a_folder_is_refused(small_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(clip_cache.CacheError, match="is for a cache in an object store"):
        clip_cache.place(small_cache, tmp_path)


def test_what_cannot_be_looked_at_now_is_not_taken_for_a_half(s3: S3Server) -> None:
    place = where("later")
    writer = clip_cache.create(place)
    write_recording(writer, "mouse", [small_clip(1)])
    writer.__exit__(KeyboardInterrupt, None, None)
    s3.spoil = lambda number, method, key: "403" if key.endswith("frames/zarr.json") else None
    with pytest.raises(clip_cache.StoreError):
        clip_cache.create(place)
    s3.behave()
    with clip_cache.create(place) as writer:
        assert list(writer.recordings) == ["mouse"]
