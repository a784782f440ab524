"""Rendered recordings whose tables are put out of step by hand: the pixels must tell by how much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from pipeline.demo.dataset import make_dataset
from pipeline.preprocess.decode import decode
from pipeline.preprocess.discovery import discover
from pipeline.preprocess.keypoints import DlcTable, align, read_dlc
from pipeline.preprocess.lag import MAX_LAG, LagEstimate, estimate_lag
from pipeline.preprocess.source import source_of
from pipeline.preprocess_settings import PreprocessSettings

N = 360


@dataclass(frozen=True)
class Film:
    """One rendered trial: frames (N, S, S), and its table with coordinates in [0, 1] of the square."""

    frames: np.ndarray
    table: DlcTable

    def estimate(self, *, lag: int = 0, keypoints: np.ndarray | None = None) -> LagEstimate:
        """As the table is looked at with --dlc-lag."""
        found = self.keypoints(lag) if keypoints is None else keypoints
        return estimate_lag((self.frames[i : i + 60] for i in range(0, N, 60)), found)

    def keypoints(self, lag: int = 0) -> np.ndarray:
        return align(self.table, np.arange(-MAX_LAG, N + MAX_LAG), 1, 1, lag)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    folder = tmp_path_factory.mktemp("film")
    make_dataset(folder, recordings=1, trials=1, size=(160, 120), seed=6)
    settings = PreprocessSettings(img_size=160)
    (files,) = discover(folder / "Videos", None, None, settings).recordings
    source = source_of(files, settings)
    blocks = decode(files.video, source.summary, stop=N, geometry=source.geometry, channels=1, decoder="pyav")
    frames = np.concatenate([block[..., 0].copy() for block, _ in blocks])
    table = read_dlc(files.dlc)
    xy = source.geometry.to_square(table.values[..., :2] / (source.geometry.width, source.geometry.height))
    values = np.concatenate([xy, table.values[..., 2:]], axis=-1)
    return Film(frames, DlcTable(table.names, table.frames, values, table.scorer))


@pytest.mark.parametrize("ahead", [-3, -2, -1, 0, 1, 2, 3])
def test_the_lag_is_found(film: Film, ahead: int) -> None:
    """A table in which what frame n shows stands in row n + ahead."""
    moved = Film(film.frames, DlcTable(film.table.names, film.table.frames + ahead, film.table.values, "N"))
    found = moved.estimate()
    assert (found.lag, found.unknown, found.differs) == (ahead, None, ahead != 0)
    assert found.change <= found.change_at_0
    assert moved.estimate(lag=ahead).lag == 0
    assert not moved.estimate(lag=ahead).differs


@pytest.mark.parametrize("share", [0.3, 0.6], ids=str)
def test_lost_keypoints_are_no_hindrance(film: Film, share: float) -> None:
    keypoints = film.keypoints(-2)
    keypoints[np.random.default_rng(0).random(keypoints.shape[:2]) < share, 2] = 0.1
    found = film.estimate(keypoints=keypoints)
    assert (found.lag, found.differs) == (2, True)


def test_half_a_row_is_no_reason_to_warn(film: Film) -> None:
    keypoints = film.keypoints()
    keypoints[1:] = (keypoints[1:] + keypoints[:-1]) / 2
    found = film.estimate(keypoints=keypoints)
    assert found.lag in (0, 1)
    assert not (found.differs and found.change_at_0 < 1.1 * found.change)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(lambda film: film.keypoints(100), "anything from", id="another part of the recording"),
        pytest.param(lambda film: film.keypoints() * (1, 1, 0), "too little is tracked", id="likelihood"),
        pytest.param(lambda film: film.keypoints()[:, :0], "too little is tracked", id="no keypoints"),
        pytest.param(lambda film: np.repeat(film.keypoints()[50:51], N + 2 * MAX_LAG, 0), "anything", id="still"),
    ],
)
def test_what_cannot_be_told_is_not_told(film: Film, spoil, reason: str) -> None:
    found = film.estimate(keypoints=spoil(film).astype(np.float32))
    assert found.unknown is not None
    assert reason in found.unknown
    assert not found.differs


def test_a_short_recording_is_not_judged(film: Film) -> None:
    short = Film(film.frames[:120], film.table)
    found = estimate_lag([short.frames[:60], short.frames[60:]], film.keypoints(-2)[: 120 + 2 * MAX_LAG])
    assert found.unknown is not None
    assert "too little is tracked" in found.unknown


def test_the_blocks_of_the_decoder_do_not_matter(film: Film) -> None:
    """Frames that are compared across the border of two blocks count like all others: only stretches differ."""
    keypoints = film.keypoints(-2)
    whole = estimate_lag([film.frames], keypoints)
    pieces = estimate_lag((film.frames[i : i + 20] for i in range(0, N, 20)), keypoints)
    assert whole.lag == pieces.lag == 2
    assert whole.change == pytest.approx(pieces.change, rel=1e-5)


def test_the_setting_moves_rows_and_leaves_nan_outside() -> None:
    table = DlcTable(("a",), np.arange(10), np.arange(30, dtype=np.float32).reshape(10, 1, 3), "N")
    for lag in (-2, 0, 3):
        values = align(table, np.arange(10), 1, 1, lag)[:, 0, 0]
        rows = np.arange(10) + lag
        np.testing.assert_array_equal(values, np.where((rows >= 0) & (rows < 10), 3 * rows, np.nan))
