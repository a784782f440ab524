from __future__ import annotations

import pytest

from cache import fingerprint


def test_a_file_is_its_content(tmp_path):
    (tmp_path / "a").write_bytes(b"1" * 3_000_000)
    (tmp_path / "b").write_bytes(b"1" * 3_000_000)
    (tmp_path / "c").write_bytes(b"1" * 2_999_999 + b"2")
    a, b, c = (fingerprint.of_file(tmp_path / name) for name in "abc")
    assert a == b != c
    assert len(a) == 32


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        pytest.param({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}, True, id="order"),
        pytest.param({"a": (1, 2)}, {"a": [1, 2]}, True, id="tuple and list"),
        pytest.param({"a": 1}, {"a": "1"}, False, id="type"),
        pytest.param({"a": None}, {}, False, id="absent"),
        pytest.param({"a": ["x", "y"]}, {"a": ["xy"]}, False, id="borders"),
    ],
)
def test_values(one, other, equal):
    assert (fingerprint.of_values(**one) == fingerprint.of_values(**other)) is equal


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        pytest.param({"frames": "f", "keypoints": "k", "labels": "l"}, [], id="fresh"),
        pytest.param({"frames": "f", "keypoints": "k", "labels": "L"}, ["labels"], id="labels"),
        pytest.param({"frames": "F", "keypoints": "k", "labels": "L"}, ["frames", "labels"], id="two"),
        pytest.param({"keypoints": "k", "labels": "l"}, ["frames"], id="no video any more"),
    ],
)
def test_differences(new, expected):
    assert fingerprint.differences({"frames": "f", "keypoints": "k", "labels": "l"}, new) == expected
