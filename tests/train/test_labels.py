import numpy as np
import pytest

from pipeline.preprocess_settings import REFERENCE_CLASSES
from pipeline.setting_texts import SettingsError
from pipeline.train.labels import make_merge

REFERENCE = tuple(REFERENCE_CLASSES.split(","))


def test_the_reference_merge():
    merge = make_merge(REFERENCE, "auto")
    assert merge.names == ("rest", "paw_withdraw", "paw_lick", "paw_shake", "walk", "active")
    merged = merge.apply(np.array([-1, 0, 1, 2, 3, 4, 5, 6, 7], np.int16))
    assert merged.dtype == np.int64
    assert merged.tolist() == [-1, 0, 1, 2, 1, 3, 1, 4, 5]


@pytest.mark.parametrize(
    ("classes", "setting", "names", "lookup"),
    [
        pytest.param(REFERENCE, "none", REFERENCE, list(range(8)), id="none"),
        pytest.param(("base", "social"), "auto", ("base", "social"), [0, 1], id="auto without the reference names"),
        pytest.param(
            ("flinch", "rest", "paw_guard"), "auto", ("flinch", "rest", "paw_guard"), [0, 1, 2], id="no target"
        ),
        pytest.param(
            ("flinch", "rest", "paw_withdraw"), "auto", ("rest", "paw_withdraw"), [1, 0, 1], id="half of auto"
        ),
        pytest.param(("a", "b", "c"), "a=c", ("b", "c"), [1, 0, 1], id="into a later class"),
        pytest.param(("a", "b", "c"), "b=a, c=a", ("a",), [0, 0, 0], id="all into one"),
    ],
)
def test_merges(classes, setting, names, lookup):
    merge = make_merge(classes, setting)
    assert merge.names == names
    assert merge.lookup.tolist() == lookup


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        pytest.param(
            "guard=rest", "--merge guard=rest: 'guard' is no class; the classes are: rest, walk, lick", id="from"
        ),
        pytest.param("walk=run", "--merge walk=run: 'run' is no class; the classes are: rest, walk, lick", id="into"),
        pytest.param("walk=lick,lick=rest", "'walk' goes into 'lick', which is merged away itself", id="chain"),
        pytest.param("walk=walk", "'walk' goes into 'walk', which is merged away itself", id="into itself"),
        pytest.param("walk=rest,walk=lick", "'walk' stands twice", id="twice"),
        pytest.param("walk", "expected name=name pairs", id="no pair"),
    ],
)
def test_a_merge_that_cannot_be(setting, message):
    with pytest.raises(SettingsError) as error:
        make_merge(("rest", "walk", "lick"), setting)
    assert message in str(error.value)


@pytest.mark.parametrize("label", [3, -2])
def test_a_label_outside_the_list_is_refused(label):
    with pytest.raises(ValueError, match=f"label {label}: expected -1 .unlabelled. or a class from 0 to 2"):
        make_merge(("rest", "walk", "lick"), "none").apply(np.array([0, label]))
