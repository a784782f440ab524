"""Pose tables in HDF5 (DLC's, SLEAP's, NWB), read by a process of its own: HDF5 crashes or hangs on damaged files.

The process is started for the first table and serves all others: importing pandas takes a second.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.preprocess.annotations import MAX_FRAME
from pipeline.preprocess.sleap_files import NEEDS_EXTRA, PoseError, Table, analysis_table, is_analysis, slp_table
from pipeline.preprocess.text_table import UnreadableError

LIMIT_S = 60.0  # for opening a table, and as much again for every BYTES_A_LIMIT of it
BYTES_A_LIMIT = 100_000_000
LEVELS = (("scorer", "bodyparts", "coords"), ("scorer", "individuals", "bodyparts", "coords"))
_UNREADABLE = "cannot be read as a DLC table"
_UNREADABLE_OTHER = "cannot be read as pose"


def read_h5(path: Path, rows: int | None = None) -> Table:
    """The one table of an .h5, .slp or .nwb file, or its first rows.

    Raises ValueError with the reason, without the file's name, as UnreadableError where an extra must be installed.
    """
    table = _server.ask(path, rows)
    if isinstance(table, str):
        raise (UnreadableError if table.startswith(NEEDS_EXTRA) else ValueError)(table)
    return table


class _Server:
    """The reading process; started when it is needed, and anew after one had to be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def ask(self, path: Path, rows: int | None) -> Table | str:
        """What `table_of` gives, or the reason why it gives nothing."""
        limit_s = LIMIT_S * (1 + path.stat().st_size // BYTES_A_LIMIT)
        with self._lock, ThreadPoolExecutor(1) as waiting:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                pickle.dump((str(path), rows), process.stdin)
                process.stdin.flush()
                answer: Table | str = waiting.submit(pickle.load, process.stdout).result(limit_s)
                if isinstance(answer, str) and answer.startswith((_UNREADABLE, _UNREADABLE_OTHER)):
                    # HDF5 keeps a damaged file half open, and answers from that when the file has been mended.
                    self._end(process)
                return answer
            except TimeoutError:
                reason = f"reading it does not end ({limit_s:.0f} s): it is damaged"
            except (EOFError, OSError, pickle.UnpicklingError):
                reason = "HDF5 crashes on it: it is damaged"
            except BaseException:
                self._end(process)
                raise
            self._end(process)
            return f"{_UNREADABLE}: {reason}"

    def _running(self) -> subprocess.Popen[bytes]:
        # A process that was forked from the one that started it must not share its pipes.
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            code = "from pipeline.preprocess.h5_table import serve; serve()"
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # HDF5 prints its own traces there
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            self._owner = os.getpid()
            assert self._process.stdout is not None
            self._process.stdout.readline()  # it has imported what it needs: no table's time is spent on that
        return self._process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        self._process = None
        process.kill()
        process.wait()


_server = _Server()


def serve() -> None:
    """Answer questions on stdin until it is closed."""
    import signal

    import tables  # noqa: F401  (what pandas imports when it opens the first table)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks; this one ends with it
    answers, sys.stdout = sys.stdout.buffer, sys.stderr
    answers.write(b"ready\n")
    answers.flush()
    while True:
        try:
            path, rows = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer: Any
        try:
            answer = table_of(Path(path), rows)
        except ValueError as error:
            answer = str(error)
        except MemoryError:
            answer = "does not fit into this machine's memory"
        pickle.dump(answer, answers, protocol=5)
        answers.flush()


def table_of(path: Path, rows: int | None) -> Table:
    """As `read_h5`, in this process."""
    import h5py
    import pandas as pd

    if not path.is_file() or not h5py.is_hdf5(path):
        raise ValueError("not an HDF5 file")
    if (other := _table_of_others(path, rows)) is not None:
        return other
    try:
        table: Any = pd.read_hdf(path, stop=rows)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes HDF5, PyTables and pandas raise whatever they meet first
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[-1] if lines[0].startswith("HDF5 error") else lines[0]  # HDF5 says at the end what it wanted
        raise ValueError(f"{_UNREADABLE}: {reason}") from None
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"holds a {type(table).__name__}, expected a DLC table")
    if tuple(table.columns.names) not in LEVELS or table.shape[1] == 0:
        found = ", ".join(str(name) for name in table.columns.names)
        raise ValueError(f"header levels {found}, expected scorer, bodyparts, coords and keypoints in them")
    columns = [tuple(str(part) for part in column) for column in table.columns]
    frames = pd.to_numeric(pd.Series(table.index), errors="coerce").to_numpy(dtype=np.float64)
    whole = (frames == np.floor(frames)) & (np.abs(frames) <= MAX_FRAME)
    if not whole.all():
        wrong = table.index[int(np.flatnonzero(~whole)[0])]
        raise ValueError(f"frame number {str(wrong)!r} is not a whole number below 2^31")
    try:
        return columns, frames.astype(np.int64), table.to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError) as error:
        raise ValueError(f"a cell is not a number: {str(error).splitlines()[0]}") from None


def _table_of_others(path: Path, rows: int | None) -> Table | None:
    """The table of a file that is not DLC's; None of one that may be."""
    import h5py

    kind = path.suffix.lower()
    known = kind in (".nwb", ".slp")
    try:
        if kind == ".nwb":
            from pipeline.preprocess.nwb_pose import nwb_table

            return nwb_table(path, rows)
        if kind == ".slp":
            return slp_table(path, rows)
        with h5py.File(path) as file:
            known = is_analysis(file)
            return analysis_table(file, rows) if known else None
    except (MemoryError, PoseError):
        raise
    except Exception as error:  # as of DLC's tables: whatever the libraries meet first
        if not known:
            return None
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{_UNREADABLE_OTHER}: {lines[0]}") from None
