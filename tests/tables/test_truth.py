"""People's labels beside predictions: of the classes that the model learned, not of others that have their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tables_lab
from pipeline.predict.records import ABOUT
from pipeline.tables.sources import SourceError
from pipeline.tables.stage import Asked, make
from tables_lab import lived, write_cache, write_predictions


@pytest.fixture
def flinches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """People's labels of rest, paw_withdraw and flinch; and right predictions by a model whose flinch was rest."""
    monkeypatch.setattr(tables_lab, "CLASSES", ("rest", "paw_withdraw", "flinch"))
    lab = {f"m_{i}M": [lived((1, 20, 30), (2, 40, 55))] for i in range(4)}
    cache = write_cache(tmp_path / "cache", lab)
    monkeypatch.setattr(tables_lab, "CLASSES", ("rest", "paw_withdraw"))
    predictions = write_predictions(tmp_path / "predicted", {name: [lived((1, 20, 30))] for name in lab})
    (predictions / ABOUT).write_text(json.dumps({"settings": {"train": {"merge": "flinch=rest"}}}))
    return predictions, cache


def error(asked: Asked) -> float:
    agreement = make(asked).tables["agreement"].set_index(["behaviour", "measure"])
    return float(agreement.loc[("paw_withdraw", "time_s"), "mean_abs_error"])


@pytest.mark.parametrize("merge", ["auto", "flinch=rest"])
def test_classes_are_merged_as_in_training(flinches: tuple[Path, Path], merge: str) -> None:
    """By auto, the reference's merge, a flinch would be a paw_withdraw: names alike, half a second off."""
    predictions, cache = flinches
    assert error(Asked(predictions, cache=cache, merge=merge)) == 0


def test_another_merge_than_in_training_is_refused(flinches: tuple[Path, Path]) -> None:
    predictions, cache = flinches
    with pytest.raises(SourceError, match="was trained with --merge flinch=rest"):
        make(Asked(predictions, cache=cache, merge="flinch=paw_withdraw"))
    (predictions / ABOUT).write_text(json.dumps({"settings": {"train": {"merge": "none"}}}))
    with pytest.raises(SourceError, match=r"merged by --merge none, are rest, paw_withdraw, flinch; .*give --merge"):
        make(Asked(predictions, cache=cache))


def test_people_may_have_labelled_the_merged_classes(flinches: tuple[Path, Path], tmp_path: Path) -> None:
    predictions, _ = flinches
    lab = {f"m_{i}M": [lived((1, 20, 30))] for i in range(4)}
    assert error(Asked(predictions, cache=write_cache(tmp_path / "merged", lab))) == 0  # of rest and paw_withdraw


def test_where_nothing_tells_of_the_training_the_merge_that_is_given_holds(flinches: tuple[Path, Path]) -> None:
    predictions, cache = flinches
    for about in ("{}", json.dumps({"settings": {"train": {"merge": "jump=rest"}}})):  # jump: no class of this cache
        (predictions / ABOUT).write_text(about)
        assert error(Asked(predictions, cache=cache, merge="flinch=rest")) == 0
        assert error(Asked(predictions, cache=cache, merge="flinch=paw_withdraw")) == pytest.approx(15 / 30)
