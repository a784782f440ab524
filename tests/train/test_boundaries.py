"""Where bouts begin, and a head that learns it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import cache as clip_cache
from pipeline.model.trained import load_trained
from pipeline.train import boundaries, stage
from pipeline.train.balance import balance
from pipeline.train.data import prepare
from pipeline.train.run_folder import BEST, RECORD
from pipeline.train.validate import evaluate


def shown(labels: str, seam_BT: torch.Tensor | None = None) -> str:
    """Labels as digits, . unlabelled -> 1 where a bout begins, 0 where none does, . where it is not known."""
    ids = torch.tensor([[-1 if label == "." else int(label) for label in labels]])
    begins, known = boundaries.targets(ids, seam_BT)
    assert not (begins & ~known).any()
    return "".join("." if not k else str(int(b)) for b, k in zip(begins[0], known[0], strict=True))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("000000111111", "...0111110.."),
        ("0000000", "...00.."),
        ("001111111111", "1111100000.."),
        ("0000..11111111", ".........000.."),
        ("00000001.00000", "...00111.1...."),
        ("01010101", "11111111"),
        ("........", "........"),
        ("0", "."),
    ],
)
def test_a_begin_is_known_where_labels_tell(labels: str, expected: str) -> None:
    assert shown(labels) == expected
    assert shown(labels + "....")[: len(labels)] == expected  # padding is not labelled


@pytest.mark.parametrize(
    ("labels", "seam", "expected"),
    [
        ("000000111111", 6, "...0.....0.."),
        ("00000000000000", 7, "...00.....00.."),
        ("000011111111", 2, "..11111000.."),
        ("000001111111", 4, "....111100.."),
        ("00000111110000000", 5, "........1111100.."),
    ],
)
def test_where_a_window_is_rolled_nothing_is_known(labels: str, seam: int, expected: str) -> None:
    assert shown(labels, torch.arange(len(labels))[None] == seam) == expected


def test_the_weight_of_begins_is_the_inverse_of_their_share() -> None:
    labels = [np.array([0] * 6 + [1] * 6), np.array([2] * 20), np.zeros(0, np.int64)]
    assert boundaries.positive_weight(labels) == (7 + 15) / 5
    assert boundaries.positive_weight(labels[1:]) == 1
    assert boundaries.positive_weight([np.full(9, -1)]) == 1


@pytest.mark.parametrize("stride", [1, 2])
def test_a_trained_head_sees_where_bouts_begin(small_cache: Path, quick, tmp_path: Path, stride: int) -> None:
    settings = quick(
        encoder="none", pose_features="both", lambda_boundary=1.0, epochs=12, lr=1e-2, tcn_stride=stride, aug_roll=0,
        train_T=0, val_share=0.0, kp_jitter_std=0.0, dropout=0.0, head_dropout=0.0,
    )  # fmt: skip
    stage.train(settings, cache=small_cache, out=tmp_path / "run", say=lambda line: None)
    network = load_trained(tmp_path / "run" / BEST).network
    data = prepare(clip_cache.open(small_cache), settings, lambda line: None)
    balanced = balance(data.class_counts, settings)
    said = evaluate(network, data.train, data.merge.names, balanced, settings).boundaries
    begins, known = (
        np.concatenate([boundaries.targets(torch.from_numpy(ids)[None])[i][0] for ids in data.train.labels])
        for i in (0, 1)
    )
    logits = np.concatenate(said)
    near, far = logits[begins], logits[known & ~begins]
    assert (near[:, None] > far).mean() > 0.9


def test_only_what_learned_begins_of_rolled_windows_is_trained_anew(small_cache: Path, quick, tmp_path: Path) -> None:
    """Where a record of before there were seams says no version of them."""
    for changes, stale in (({}, True), ({"aug_roll": 0}, False), ({"lambda_boundary": 0.0}, False)):
        out = tmp_path / repr(changes)
        settings = quick(**({"encoder": "none", "lambda_boundary": 0.1, "epochs": 1} | changes))
        stage.train(settings, cache=small_cache, out=out, say=lambda line: None)
        record = json.loads((out / RECORD).read_text())
        del record["parts"]
        (out / RECORD).write_text(json.dumps(record))
        said: list[str] = []
        assert (stage.train(settings, cache=small_cache, out=out, say=said.append).state == "fresh") is not stale
        why = "[info] changed since the last run: version of the code of --lambda-boundary: 1 -> 2"
        assert (why in said) is stale


def test_other_settings_are_no_other_version(small_cache: Path, quick, tmp_path: Path) -> None:
    said: list[str] = []
    for roll in (5, 0):
        settings = quick(encoder="none", lambda_boundary=0.1, epochs=1, aug_roll=roll)
        stage.train(settings, cache=small_cache, out=tmp_path / "run", say=said.append)
    assert "[info] changed since the last run: aug_roll: 5 -> 0" in said
    assert not [line for line in said if "version of the code" in line]
