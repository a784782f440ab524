"""Our files are zarr's: zarr-python reads what is written here, and what it writes is read here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import zstd
from zarr.codecs import BloscCodec, BytesCodec, ZstdCodec

import cache
from cache.clip import ARRAY_DTYPES
from cache.zarr_files import ArrayFiles, _content_size


def frames_of(n: int) -> np.ndarray:
    frames = np.random.default_rng(n).integers(0, 256, (n, 6, 5, 1)).astype(np.uint8)
    frames[: n // 2] = 0
    return frames


@pytest.mark.parametrize("compression", ["zstd", "none"])
@pytest.mark.parametrize("n", [1, 29, 30, 31, 359, 360, 361, 745])
def test_zarr_reads_what_is_written(tmp_path, make_meta, make_arrays, compression: str, n: int) -> None:
    meta = make_meta(lengths=(n,))
    frames = np.random.default_rng(n).integers(0, 256, (n, *meta.frame_shape)).astype(np.uint8)
    with cache.create(tmp_path, store="zarr", compression=compression) as writer:
        recording = writer.writer(meta.recording)
        for start in range(0, n, 47):
            recording.append_frames(frames[start : start + 47])
        recording.finish(meta, **make_arrays(meta))
    (path,) = (tmp_path / "recordings").iterdir()
    group = zarr.open_group(path, mode="r")
    assert np.array_equal(group["frames"][:], frames)
    for name, values in make_arrays(meta).items():
        np.testing.assert_array_equal(group[name][:], values.astype(ARRAY_DTYPES[name]))
    clip = cache.open(tmp_path)[0]
    assert np.array_equal(clip.frames[:], frames)
    assert cache.open_reader(path).compression == compression


@pytest.fixture(scope="module", params=["sharded", "plain"])
def by_zarr(request, tmp_path_factory) -> tuple[np.ndarray, dict[str, ArrayFiles]]:
    """401 frames that zarr-python wrote, by compression."""
    folder = tmp_path_factory.mktemp("by_zarr")
    frames = frames_of(401)
    files = {}
    for name, codec in (("zstd", ZstdCodec(level=3)), ("none", None)):
        array = zarr.create_array(
            folder / name,
            shape=frames.shape,
            dtype=frames.dtype,
            chunks=(20, 6, 5, 1),
            shards=(100, 6, 5, 1) if request.param == "sharded" else None,
            compressors=codec,
            config={"write_empty_chunks": True},
        )
        array[:] = frames
        files[name] = ArrayFiles(folder / name)
    return frames, files


@settings(deadline=None)
@given(a=st.integers(0, 401), length=st.integers(0, 401), compression=st.sampled_from(["zstd", "none"]))
def test_what_zarr_writes_is_read(by_zarr, a: int, length: int, compression: str) -> None:
    frames, files = by_zarr
    b = min(a + length, 401)
    assert np.array_equal(files[compression].read(a, b), frames[a:b])


def write(path: Path, **options) -> None:
    array = zarr.create_array(path, shape=(40, 6, 5, 1), dtype=np.uint8, chunks=(20, 6, 5, 1), **options)
    array[:] = frames_of(40)


def test_other_codecs_and_chunks_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "blosc", compressors=BloscCodec())
    with pytest.raises(cache.CacheError, match=r"codecs \(bytes, blosc\) are not those of this program"):
        ArrayFiles(tmp_path / "blosc")
    array = zarr.create_array(tmp_path / "cut", shape=(40, 6), dtype=np.uint8, chunks=(20, 3))
    array[:] = 1
    with pytest.raises(cache.CacheError, match="its chunks or codecs"):
        ArrayFiles(tmp_path / "cut")


def test_a_chunk_that_was_never_written_is_an_error(tmp_path: Path) -> None:
    options = {"shards": (40, 6, 5, 1), "compressors": ZstdCodec(), "config": {"write_empty_chunks": False}}
    write(tmp_path / "holes", **options)
    files = ArrayFiles(tmp_path / "holes")
    with pytest.raises(cache.CacheError, match="never written"):
        files.read(0, 5)
    assert np.array_equal(files.read(20, 40), frames_of(40)[20:])


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_files_that_are_cut_short_are_errors(tmp_path: Path, compression: str) -> None:
    codec = ZstdCodec() if compression == "zstd" else None
    write(tmp_path / "whole", compressors=codec, config={"write_empty_chunks": True})
    path = tmp_path / "whole" / "c" / "1" / "0" / "0" / "0"
    path.write_bytes(path.read_bytes()[:-20])
    files = ArrayFiles(tmp_path / "whole")
    assert np.array_equal(files.read(0, 20), frames_of(40)[:20])
    with pytest.raises((cache.CacheError, RuntimeError)):
        files.read(20, 40)


def test_the_index_of_a_shard_has_a_checksum(tmp_path: Path) -> None:
    write(tmp_path / "shard", shards=(40, 6, 5, 1), compressors=None)
    path = tmp_path / "shard" / "c" / "0" / "0" / "0" / "0"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(cache.CacheError, match="index of its chunks is damaged"):
        ArrayFiles(tmp_path / "shard").read(0, 1)


def test_a_chunk_of_other_frames_is_an_error(tmp_path: Path) -> None:
    """It would unpack to less than the buffer holds, which would keep what was in it before."""
    write(tmp_path / "frames", compressors=ZstdCodec(), config={"write_empty_chunks": True})
    small = zarr.create_array(
        tmp_path / "small", shape=(40, 3, 5, 1), dtype=np.uint8, chunks=(20, 3, 5, 1), compressors=ZstdCodec()
    )
    small[:] = 7
    place = Path("c") / "1" / "0" / "0" / "0"
    (tmp_path / "frames" / place).write_bytes((tmp_path / "small" / place).read_bytes())
    with pytest.raises(cache.CacheError, match="holds 300 bytes, expected 600"):
        ArrayFiles(tmp_path / "frames").read(20, 40)


def test_numbers_of_another_byte_order_are_refused(tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path / "big", shape=(4,), dtype=np.float64, serializer=BytesCodec(endian="big"), compressors=None
    )
    array[:] = 1.5
    with pytest.raises(cache.CacheError, match="not those of this program"):
        ArrayFiles(tmp_path / "big")


@settings(deadline=None)
@given(n=st.one_of(st.integers(0, 1000), st.integers(0, 200_000)), level=st.sampled_from([-5, 1, 3]))
def test_the_size_of_what_is_packed_is_read_off_its_header(n: int, level: int) -> None:
    packed = zstd.compress(bytes(n), level, True)
    assert _content_size(memoryview(packed)) == n
    assert _content_size(memoryview(packed)[:4]) == -1
