"""Training from an object store: the same epochs as from a folder, from the store or from a copy, whatever breaks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from s3_lab import BUCKET, S3Server

import cache as clip_cache
from pipeline.predict.evaluation import evaluate
from pipeline.train.run_folder import BEST, HISTORY
from pipeline.train.stage import train
from pipeline.train_settings import Keep
from tests_support import files_of

TIMES = ["seconds", "waited"]  # of an epoch, which no two have in common


@pytest.fixture
def stored(s3: S3Server, small_cache: Path) -> clip_cache.Remote:
    """The small cache in the store."""
    s3.put("trained", {path.as_posix(): content for path, content in files_of(small_cache).items()})
    s3.behave()
    place = clip_cache.place(f"s3://{BUCKET}/trained")
    assert isinstance(place, clip_cache.Remote)
    return place


@pytest.fixture(scope="module")
def of_a_folder(small_cache: Path, quick, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return history(small_cache, quick, tmp_path_factory.mktemp("folder") / "run")[0]


def history(cache: clip_cache.Place, quick, out: Path, keep: Keep = Keep.DISK) -> tuple[pd.DataFrame, list[str]]:
    """What the epochs gave, and what was said meanwhile."""
    said: list[str] = []
    train(quick(), cache=cache, out=out, keep=keep, say=said.append)
    table = pd.read_csv(out / HISTORY)
    return table[[name for name in table if not any(word in name for word in TIMES)]], said


@pytest.mark.parametrize("keep", [Keep.DISK, Keep.MEMORY])
def test_the_epochs_are_those_of_a_folder(
    stored: clip_cache.Remote, s3: S3Server, of_a_folder: pd.DataFrame, quick, tmp_path: Path, keep: Keep
) -> None:
    s3.delay_s = 0.02
    s3.spoil = lambda number, method, key: {5: "503", 17: "drop", 31: "cut"}.get(number % 40)
    found, said = history(stored, quick, tmp_path / "run", keep)
    pd.testing.assert_frame_equal(found, of_a_folder)
    where = "read from the object store in every epoch" if keep is Keep.DISK else "kept in memory"
    assert any(where in line for line in said)
    s3.behave()
    result = evaluate([tmp_path / "run" / BEST], cache=stored, on="val", device="cpu")
    assert result.model.scores.macro_f1 == pytest.approx(found["val_macro_f1"].max())


def test_a_copy_is_filled_by_the_first_run_and_read_by_the_next(
    stored: clip_cache.Remote, s3: S3Server, of_a_folder: pd.DataFrame, quick, tmp_path: Path
) -> None:
    place = clip_cache.place(stored, tmp_path / "copy")
    found, said = history(place, quick, tmp_path / "run")
    pd.testing.assert_frame_equal(found, of_a_folder)
    assert any(f"their copies in {tmp_path / 'copy'}" in line for line in said)
    assert len(s3.requests) == len({key for _, key, _ in s3.requests})  # no object twice
    s3.behave()
    again, _ = history(place, quick, tmp_path / "again")
    pd.testing.assert_frame_equal(again, of_a_folder)
    assert len(s3.requests) == 2


def test_the_pose_alone_asks_for_no_frame(stored: clip_cache.Remote, s3: S3Server, quick, tmp_path: Path) -> None:
    train(quick(encoder="none", epochs=1), cache=stored, out=tmp_path / "run", say=lambda line: None)
    assert not s3.methods("frames")
    assert len(s3.requests) <= 2 + 4 * 6  # labels, keypoints and intact of each recording; of some again for the scores
