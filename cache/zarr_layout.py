"""How a zarr v3 array that is cut along its first axis lies in its files, as its zarr.json says."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import google_crc32c
import numpy as np

from cache.clip import CacheError
from cache.remote import Place, StoreError

# At the end of a shard stands its index: offset and length of each chunk, uint64, and a checksum.
ABSENT = 2**64 - 1  # there is no such chunk
CRC_BYTES = 4


@dataclass(frozen=True)
class Layout:
    """How an array lies in its files.

    shape: of the array. chunk: rows that are packed together. file: rows in one file: a multiple of chunk if sharded,
    else chunk itself. packed: by zstd, otherwise as they are.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    chunk: int
    file: int
    sharded: bool
    packed: bool

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def n_files(self) -> int:
        return -(-self.shape[0] // self.file)

    def file_name(self, number: int) -> str:
        """Of a file with rows, below the array's folder."""
        return "/".join(["c", str(number), *["0"] * (len(self.shape) - 1)])


def read_layout(path: Place) -> Layout:
    """The layout of the array in the folder `path`. Raises OSError, and CacheError for one that is cut otherwise."""
    try:
        content = json.loads((path / "zarr.json").read_bytes())
        shape = tuple(content["shape"])
        rows, *others = content["chunk_grid"]["configuration"]["chunk_shape"]
        codecs = content["codecs"]
        sharded = codecs[0]["name"] == "sharding_indexed"
        chunk = rows
        if sharded:
            configuration = codecs[0]["configuration"]
            chunk, codecs = configuration["chunk_shape"][0], configuration["codecs"]
        names = [codec["name"] for codec in codecs]
        plain = codecs[0].get("configuration", {}).get("endian", "little") == "little"
        plain &= content["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
        plain &= not sharded or configuration.get("index_location", "end") == "end"
        dtype = np.dtype(content["data_type"]).newbyteorder("<")
        if plain and min(rows, chunk) > 0 and tuple(others) == shape[1:] and names in (["bytes"], ["bytes", "zstd"]):
            return Layout(shape, dtype, chunk, rows, sharded, "zstd" in names)
    except StoreError:
        raise
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise CacheError(f"{path}: its zarr.json is damaged ({error!r})") from None
    raise CacheError(f"{path}: its chunks or codecs ({', '.join(names)}) are not those of this program")


def crc(content: bytes) -> bytes:
    return google_crc32c.value(content).to_bytes(CRC_BYTES, "little")
