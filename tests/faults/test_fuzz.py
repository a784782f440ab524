"""A small run of the fuzzing script; by hand it is run with many thousands of inputs."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_parsers

N_INPUTS = {"DLC h5": 8, "SLEAP slp": 4, "checkpoint": 60, "cache.json": 60, "index.parquet": 60, "recording": 60}


@pytest.mark.parametrize(
    "parser",
    [
        "DLC csv",
        "DLC h5",
        "one-hot csv",
        "BORIS csv",
        "bout list",
        "SLEAP slp",
        "annotation csv",
        "split csv",
        "settings toml",
        *list(N_INPUTS)[2:],
    ],
)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path, parser: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fuzz_parsers.fuzz(parser, N_INPUTS.get(parser, 250), 0, tmp_path)
    assert set(found) <= {"read", "refused"}, found  # that the whole files are read, `fuzz` makes sure of
    assert found["refused"] > 0


def test_an_h5_file_on_which_hdf5_hangs_or_crashes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the reading process is stopped, and ended, in the place of HDF5."""
    import os
    import signal

    from pipeline.preprocess import h5_table
    from pipeline.preprocess.keypoints import KeypointError, read_dlc

    path = tmp_path / "a.h5"
    path.write_bytes(fuzz_parsers.dlc_h5(path, "table"))
    read_dlc(path)
    process = h5_table._server._process
    assert process is not None
    monkeypatch.setattr(h5_table, "LIMIT_S", 0.5)
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(KeypointError, match=r"a\.h5: cannot be read as a DLC table: reading it does not end"):
        read_dlc(path)
    assert process.poll() is not None
    monkeypatch.undo()
    assert len(read_dlc(path).frames) == 30
    running = h5_table._server._running()
    monkeypatch.setattr(h5_table._Server, "_running", lambda self: running)
    running.kill()
    with pytest.raises(KeypointError, match="HDF5 crashes on it"):
        read_dlc(path)
    monkeypatch.undo()
    assert len(read_dlc(path).frames) == 30
