"""Writes the files of a zarr v3 array that is cut along its first axis, as cache/zarr_files.py reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numcodecs import zstd

from cache.zarr_layout import ABSENT, Layout, crc

LEVEL = 1  # of zstd: higher ones pack decoded video no better


class ShardFiles:
    """Writes the files of a sharded array: rows after rows, a file when it is full, the last one by `finish`."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self.layout = layout
        self._path = path
        self._n_files = 0
        self._rows = np.zeros((layout.chunk, *layout.shape[1:]), layout.dtype)
        self._n_waiting = 0
        self._chunks: list[bytes] = []

    def append(self, rows: np.ndarray) -> None:
        """Rows (n, ...) after the former ones; n need not be a round number."""
        while len(rows):
            taken = rows[: self.layout.chunk - self._n_waiting]
            self._rows[self._n_waiting : self._n_waiting + len(taken)] = taken
            self._n_waiting += len(taken)
            rows = rows[len(taken) :]
            if self._n_waiting == self.layout.chunk:
                self._pack()

    def finish(self) -> None:
        """Write what is still in memory."""
        if self._n_waiting:
            self._rows[self._n_waiting :] = 0
            self._pack()
        if self._chunks:
            self._write()

    def _pack(self) -> None:
        self._chunks.append(zstd.compress(self._rows, LEVEL, True) if self.layout.packed else self._rows.tobytes())
        self._n_waiting = 0
        if len(self._chunks) * self.layout.chunk == self.layout.file:
            self._write()

    def _write(self) -> None:
        index = np.full((self.layout.file // self.layout.chunk, 2), ABSENT, "<u8")
        lengths = [len(chunk) for chunk in self._chunks]
        index[: len(lengths), 0] = np.cumsum([0, *lengths[:-1]])
        index[: len(lengths), 1] = lengths
        path = self._path / self.layout.file_name(self._n_files)
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            file.writelines([*self._chunks, index.tobytes(), crc(index.tobytes())])
        self._n_files += 1
        self._chunks = []
