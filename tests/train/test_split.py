import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.train.split import (
    Split,
    SplitError,
    group_of,
    load_split,
    make_split,
    missing_classes,
    save_split,
)

NAMES = [f"rec_{i:02}" for i in range(20)]


def counts_of(n: int, seed: int = 0) -> np.ndarray:
    """Mostly rest, a few rare classes that occur in some recordings only."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 40, (n, 4)) * (rng.random((n, 4)) < [1, 1, 0.4, 0.2])
    counts[:, 0] += 300
    return counts


def animals(n_animals: int) -> list[str]:
    return [f"{i % n_animals}M" for i in range(len(NAMES))]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_group_is_on_both_sides_and_no_recording_is_lost(data):
    n = data.draw(st.integers(2, 25))
    names = [f"r{i}" for i in range(n)]
    groups = [f"g{data.draw(st.integers(0, 6))}" for _ in range(n)]
    counts = np.array(data.draw(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=n, max_size=n)))
    share, seed = data.draw(st.floats(0.01, 0.99)), data.draw(st.integers(0, 99))
    if len(set(groups)) < 2:
        with pytest.raises(SplitError, match="at least 2 groups"):
            make_split(names, groups, counts, share, seed)
        return
    split = make_split(names, groups, counts, share, seed)
    of = dict(zip(names, groups, strict=True))
    assert not {of[name] for name in split.train} & {of[name] for name in split.val}
    assert sorted(split.train + split.val) == sorted(names)
    assert split.train
    assert split.val
    assert split.groups == of


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_a_class_of_two_recordings_is_on_both_sides(seed):
    counts = counts_of(20)
    counts[:, 3] = 0
    counts[[4, 11], 3] = 5
    split = make_split(NAMES, NAMES, counts, 0.2, seed)
    assert missing_classes(split, NAMES, counts, "abcd") == {"train": (), "val": ()}


def test_neither_part_is_ever_empty():
    for share in (0.05, 0.95):
        split = make_split(["a", "b"], ["a", "b"], np.array([[9, 0], [0, 9]]), share, 1)
        assert len(split.train) == len(split.val) == 1


def test_a_class_of_one_recording_goes_to_training():
    counts = counts_of(20)
    counts[:, 3] = 0
    counts[7, 3] = 500
    for seed in range(20):
        split = make_split(NAMES, NAMES, counts, 0.3, seed)
        assert missing_classes(split, NAMES, counts, "abcd") == {"train": (), "val": ("d",)}


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_validation_has_about_the_share_of_recordings_and_of_each_class(share):
    counts = counts_of(150)
    names = [f"r{i:03}" for i in range(150)]
    split = make_split(names, names, counts, share, 123)
    in_val = np.isin(names, split.val)
    assert len(split.val) / 150 == pytest.approx(share, abs=0.02)
    assert counts[in_val].sum(0) / counts.sum(0) == pytest.approx([share] * 4, abs=0.02)


def test_a_split_depends_on_the_seed_and_not_on_the_order():
    counts = counts_of(20)
    splits = [make_split(NAMES, animals(9), counts, 0.2, seed) for seed in range(8)]
    assert make_split(NAMES, animals(9), counts, 0.2, 3) == splits[3]
    assert make_split(NAMES[::-1], animals(9)[::-1], counts[::-1], 0.2, 3) == splits[3]
    assert len({split.val for split in splits}) > 1


def test_recordings_without_labels_are_split_too():
    split = make_split(NAMES, NAMES, np.zeros((20, 4)), 0.25, 1)
    assert len(split.val) == 5


def test_group_by_name_and_pattern():
    assert group_of("demo_267M_tracking", r"_(\d+M)_") == "267M"
    assert group_of("demo_267M_tracking", r"\d+M") == "267M"
    assert group_of("demo_267M_tracking", "") == "demo_267M_tracking"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        pytest.param(r"_(\d+F)_", r"--group-by _(\d+F)_: no match in the recording demo_267M", id="no match"),
        pytest.param("x*", "no match in the recording demo_267M", id="matches nothing"),
        pytest.param("(x)?demo", "no match in the recording demo_267M", id="group that took no part"),
        pytest.param("(", "--group-by (: not a regular expression", id="no expression"),
    ],
)
def test_a_pattern_that_names_no_animal_is_refused(pattern, message):
    with pytest.raises(SplitError) as error:
        group_of("demo_267M", pattern)
    assert message in str(error.value)


def test_one_animal_cannot_be_split():
    with pytest.raises(SplitError, match=r"needs at least 2 groups .* found 1: 5M"):
        make_split(NAMES, ["5M"] * 20, counts_of(20), 0.2, 1)


def test_a_split_is_read_as_it_was_saved(tmp_path):
    names = ["a, with comma", 'b "quoted"', "ü", "d"]
    split = make_split(names, ["1M", "2M", "1M", "3M"], counts_of(4), 0.3, 1)
    save_split(split, tmp_path / "split.csv")
    assert load_split(tmp_path / "split.csv", names[::-1]) == split


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param(["a,1,train", "b,2,val"], "in the cache but not in the split: c;", id="missing"),
        pytest.param(["a,1,train", "b,2,val", "c,3,train", "x,4,val"], "not in the cache: x;", id="unknown"),
        pytest.param(["a,1,train", "b,2,val", "c,3,train", "c,3,val"], "stand twice: c;", id="twice"),
        pytest.param(["a,1,train", "b,2,val", "c,3,dev"], "a part other than train, val or test: c;", id="part"),
        pytest.param(["a,1,train", "b,2,val", "c,2,train"], "has 2 in training and in validation", id="animal in both"),
        pytest.param(["a,1,train", "b,2,train", "c,3,train"], "no recording in val", id="nothing held out"),
        pytest.param(["a,1,val", "b,2,val", "c,3,val"], "no recording in train", id="nothing to learn from"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(tmp_path, rows, message):
    path = tmp_path / "split.csv"
    path.write_text("\n".join(["recording,group,part", *rows]), encoding="utf-8")
    with pytest.raises(SplitError) as error:
        load_split(path, ["a", "b", "c"])
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            b"name,part\na,train\n", "expected the columns recording,group,part, found name,part", id="columns"
        ),
        pytest.param(b"", "expected the columns recording,group,part, found none", id="empty"),
        pytest.param(b"\xff\xfe\x00", "cannot be read as a split", id="not text"),
        pytest.param(None, "cannot be read as a split", id="no file"),
    ],
)
def test_a_file_that_is_no_split_is_refused(tmp_path, content, message):
    path = tmp_path / "split.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SplitError, match=message):
        load_split(path, ["a", "b"])


def test_missing_classes_are_named():
    split = Split(train=("a",), val=("b",), groups={"a": "1", "b": "2"})
    counts = np.array([[5, 0, 3], [5, 2, 0]])
    assert missing_classes(split, ["a", "b"], counts, ["rest", "lick", "walk"]) == {
        "train": ("lick",),
        "val": ("walk",),
    }


def test_a_single_recording_trains_and_nothing_is_held_out(tmp_path):
    split = make_split(["only"], ["5M"], counts_of(1), 0.2, 0)
    assert (split.train, split.val) == (("only",), ())
    save_split(split, tmp_path / "split.csv")
    assert load_split(tmp_path / "split.csv", ["only"]) == split


def test_nothing_is_held_out_for_a_share_of_0():
    split = make_split(NAMES, animals(5), counts_of(20), 0, 1)
    assert (split.train, split.val) == (tuple(NAMES), ())
    assert make_split(NAMES, ["5M"] * 20, counts_of(20), 0, 1).val == ()


def test_a_test_part_is_saved_and_read(tmp_path):
    split = Split(train=("a",), val=(), test=("b", "c"), groups={"a": "1", "b": "2", "c": "2"})
    save_split(split, tmp_path / "split.csv")
    assert load_split(tmp_path / "split.csv", ["a", "b", "c"]) == split
    with pytest.raises(SplitError, match="in the cache but not in the split: d"):
        load_split(tmp_path / "split.csv", ["a", "b", "c", "d"])


@pytest.mark.parametrize(
    ("train", "val", "test", "message"),
    [
        ("ab", "c", "b", "has 2 in training and in test"),
        ("a", "bc", "c", "has 3 in validation and in test"),
        ("a", "b", "d", "has 1 in training and in test"),
    ],
)
def test_no_group_is_tested_that_trains_or_validates(train, val, test, message):
    with pytest.raises(SplitError, match=message):
        Split(tuple(train), tuple(val), dict(zip("abcd", "1231", strict=True)), tuple(test))


def test_a_split_without_val_is_read_where_none_is_needed(tmp_path):
    split = Split(train=("a", "b"), val=(), groups={"a": "1", "b": "2"})
    save_split(split, tmp_path / "split.csv")
    assert load_split(tmp_path / "split.csv", ["a", "b"], val_needed=False) == split
    with pytest.raises(SplitError, match="no recording in val"):
        load_split(tmp_path / "split.csv", ["a", "b"])


def test_ten_thousand_groups_are_split_in_bounded_memory() -> None:
    """All pairs of them would be 16 million swaps to weigh up."""
    rng = np.random.default_rng(0)
    names = [f"r{i:05d}" for i in range(10_000)]
    counts = rng.poisson(3, (10_000, 4)) * (rng.random((10_000, 4)) < [1, 0.5, 0.1, 0.0005])
    tracemalloc.start()
    split = make_split(names, names, counts, 0.2, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    shares = counts[[int(name[1:]) for name in split.val]].sum(0) / counts.sum(0)
    np.testing.assert_allclose(shares[:3], 0.2, atol=0.03)
    assert 0 < shares[3] < 1
    assert len(split.val) == pytest.approx(2000, abs=100)
