"""Folds of whole animals, alike in recordings and behaviours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.train.folds import Folds, fold_split, load_folds, make_folds, save_folds
from pipeline.train.split import SplitError

NAMES = [f"rec_{i:02}" for i in range(20)]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_every_recording_is_tested_once_and_no_group_twice(data) -> None:
    n = data.draw(st.integers(2, 25))
    names = [f"r{i}" for i in range(n)]
    groups = [f"g{data.draw(st.integers(0, 9))}" for _ in range(n)]
    counts = np.array(data.draw(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=n, max_size=n)))
    n_folds, seed = data.draw(st.integers(2, 6)), data.draw(st.integers(0, 99))
    if len(set(groups)) < n_folds:
        with pytest.raises(SplitError, match=f"--folds {n_folds}: needs as many groups"):
            make_folds(names, groups, counts, n_folds, seed)
        return
    folds = make_folds(names, groups, counts, n_folds, seed)
    assert folds.numbers == list(range(1, n_folds + 1))
    assert sorted(name for fold in folds.numbers for name in folds.members(fold)) == sorted(names)
    for fold in folds.numbers:
        inside = {folds.groups[name] for name in folds.members(fold)}
        assert not inside & {folds.groups[name] for name in names if folds.fold_of[name] != fold}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n_with_it", [5, 6, 9])
def test_a_rare_class_is_in_every_fold_that_can_have_it(seed: int, n_with_it: int) -> None:
    rng = np.random.default_rng(seed)
    counts = np.column_stack([rng.integers(300, 340, 20), np.zeros(20, int)])
    counts[rng.permutation(20)[:n_with_it], 1] = 10
    folds = make_folds(NAMES, NAMES, counts, 5, seed)
    for fold in folds.numbers:
        inside = np.isin(NAMES, folds.members(fold))
        assert inside.sum() == 4
        assert counts[inside, 1].sum() > 0


def test_folds_depend_on_the_seed_and_not_on_the_order() -> None:
    counts = np.random.default_rng(0).integers(0, 50, (20, 3))
    groups = [f"{i % 9}M" for i in range(20)]
    folds = make_folds(NAMES, groups, counts, 4, 1)
    assert make_folds(NAMES[::-1], groups[::-1], counts[::-1], 4, 1) == folds
    assert make_folds(NAMES, groups, counts, 4, 2) != folds


def test_an_animal_with_most_of_the_recordings_leaves_the_others_their_folds() -> None:
    groups = ["1M"] * 17 + ["2M", "3M", "4M"]
    folds = make_folds(NAMES, groups, np.ones((20, 2), int), 4, 0)
    assert sorted(len(folds.members(fold)) for fold in folds.numbers) == [1, 1, 1, 17]


def test_a_fold_is_tested_and_the_others_train_and_validate() -> None:
    groups = {name: f"{i // 2}M" for i, name in enumerate(NAMES)}
    folds = make_folds(NAMES, list(groups.values()), np.ones((20, 2), int), 5, 0)
    split = fold_split(folds, 2, NAMES, np.ones((20, 2), int), 0.25, 0)
    assert split.test == tuple(folds.members(2))
    assert sorted(split.train + split.val + split.test) == NAMES
    assert len(split.val) == 4
    assert fold_split(folds, 2, NAMES, np.ones((20, 2), int), 0, 0).val == ()


def test_two_animals_in_two_folds_leave_nothing_to_validate_on() -> None:
    folds = Folds(dict(zip("abcd", (1, 1, 2, 2), strict=True)), dict(zip("abcd", "xxyy", strict=True)))
    with pytest.raises(SplitError, match=r"fold 1, what is not tested: .* found 1: y; .*--val-share 0"):
        fold_split(folds, 1, list("abcd"), np.ones((4, 1)), 0.2, 0)
    assert fold_split(folds, 1, list("abcd"), np.ones((4, 1)), 0, 0).train == ("c", "d")


def test_folds_are_read_as_they_were_saved(tmp_path: Path) -> None:
    names = ["a, with comma", "ü", "c"]
    folds = Folds(dict(zip(names, (1, 2, 10), strict=True)), dict(zip(names, "xyz", strict=True)))
    save_folds(folds, tmp_path / "folds.csv")
    assert load_folds(tmp_path / "folds.csv", names[::-1], "") == folds


def test_the_groups_of_folds_are_the_tables_or_the_patterns(tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    path.write_text("recording,fold\na_1,1\na_2,2\n")
    assert load_folds(path, ["a_1", "a_2"], "").groups == {"a_1": "a_1", "a_2": "a_2"}
    with pytest.raises(SplitError, match=r"folds.csv: a is in the folds 1, 2; a group has one fold"):
        load_folds(path, ["a_1", "a_2"], "^[a-z]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recording,fold\na,1\n", "in the cache but not in the folds: b;"),
        ("recording,fold\na,1\nb,2\nc,2\n", "not in the cache: c;"),
        ("recording,fold\na,1\nb,2\nb,2\n", "stand twice: b;"),
        ("recording,fold\na,1\nb,x\n", "have no whole number as their fold: b;"),
        ("recording,fold\na,1\nb,1\n", "1 fold; expected at least 2"),
        ("recording,part\na,1\n", "expected the columns recording,fold, found recording,part"),
    ],
    ids=["missing", "unknown", "twice", "no number", "one fold", "columns"],
)
def test_folds_that_do_not_fit_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "folds.csv"
    path.write_text(text)
    with pytest.raises(SplitError) as error:
        load_folds(path, ["a", "b"], "")
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
