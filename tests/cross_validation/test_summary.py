"""The figures of all folds against scikit-learn and the metrics of single runs."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

from pipeline.cross_validation import out_of_fold
from pipeline.cross_validation.out_of_fold import OutOfFold
from pipeline.cross_validation.summary import fold_table, summarise
from pipeline.train.metrics import segment_f1

CLASSES = ("rest", "lick", "walk", "never")


def clips_of(seed: int = 0) -> list[OutOfFold]:
    """Six recordings of two trials in three folds; fold 2 has no lick, said or true, and nobody ever has `never`."""
    rng, clips = np.random.default_rng(seed), []
    for i in range(6):
        for trial in (1, 2):
            fold = i // 2 + 1
            labels = np.repeat(rng.integers(0, 3, 12), 5)
            logits = rng.normal(0, 1, (60, 4)).astype(np.float32)
            logits[np.arange(60), labels] += 1.5
            if fold == 2:
                labels[labels == 1] = 0
                logits[:, 1] = -99
            logits[:, 3] = -99
            labels[:3] = -1
            intact, majority = np.arange(60) != 30, 2 if fold == 3 else 0
            clips.append(OutOfFold(f"r{i}", trial, fold, logits, labels, intact, majority, CLASSES))
    return clips


def frames(clips: list[OutOfFold]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    true, pred, baseline = (
        np.concatenate(arrays) for arrays in zip(*((c.labels, c.pred, c.baseline) for c in clips), strict=True)
    )
    return true[true >= 0], pred[true >= 0], baseline[true >= 0]


def test_folds_and_pool_are_scikit_learns() -> None:
    clips = clips_of()
    summary = summarise(clips, {f"r{i}": f"r{i}" for i in range(6)}, seed=0)
    true, pred, baseline = frames(clips)
    for i, name in enumerate(CLASSES[:3]):
        figure = summary.classes[name]
        assert figure.pooled == pytest.approx(f1_score(true, pred, labels=[i], average=None).item())
        assert figure.baseline == pytest.approx(f1_score(true, baseline, labels=[i], average=None).item())
        assert figure.low <= figure.pooled <= figure.high
        assert sum(summary.support[name].values()) == (true == i).sum()
    of_folds = [frames([clip for clip in clips if clip.fold == fold])[:2] for fold in (1, 2, 3)]
    macro = [f1_score(*both, average="macro") for both in of_folds]
    assert list(summary.macro.per_fold.values()) == pytest.approx(macro)
    assert (summary.macro.mean, summary.macro.sd) == pytest.approx((np.mean(macro), np.std(macro, ddof=1)))
    assert summary.macro.pooled == pytest.approx(f1_score(true, pred, average="macro"))
    assert summary.confusion.sum() == len(true)
    labels, said = [clip.labels for clip in clips], [clip.pred for clip in clips]
    for iou, figure in summary.segments.items():
        assert figure.pooled == pytest.approx(segment_f1(labels, said, iou))
        assert figure.baseline == pytest.approx(segment_f1(labels, [clip.baseline for clip in clips], iou))


def test_a_class_that_a_fold_lacks_is_left_out_of_the_mean() -> None:
    summary = summarise(clips_of(), {f"r{i}": f"r{i}" for i in range(6)}, seed=0)
    lick, never = summary.classes["lick"], summary.classes["never"]
    assert lick.unmeasured == [2]
    assert lick.mean == pytest.approx(np.mean([lick.per_fold[1], lick.per_fold[3]]))
    assert never.unmeasured == [1, 2, 3]
    assert np.isnan([never.mean, never.sd, never.pooled, never.low, never.high]).all()
    record = json.loads(json.dumps(summary.as_dict(), allow_nan=False))
    assert record["f1_per_class"]["never"]["mean"] is None
    assert record["f1_per_class"]["lick"]["per_fold"]["2"] is None


def test_the_bootstrap_draws_animals_where_there_are_any() -> None:
    alone = summarise(clips_of(), {f"r{i}": f"r{i}" for i in range(6)}, seed=0)
    animals = summarise(clips_of(), {f"r{i}": f"{i // 2}M" for i in range(6)}, seed=0)
    assert (alone.unit, alone.n_units) == ("recordings", 6)
    assert (animals.unit, animals.n_units) == ("groups", 3)
    assert alone.macro.pooled == animals.macro.pooled
    assert (alone.macro.low, alone.macro.high) != (animals.macro.low, animals.macro.high)


def unlabelled(clips: list[OutOfFold]) -> list[OutOfFold]:
    return [dataclasses.replace(clip, labels=np.full_like(clip.labels, -1)) for clip in clips]


def test_recordings_without_labels_are_not_drawn() -> None:
    clips = clips_of()
    more = [dataclasses.replace(clip, recording=f"u{i}") for i, clip in enumerate(unlabelled(clips))]
    groups = {name: name for name in [*(f"r{i}" for i in range(6)), *(clip.recording for clip in more)]}
    alone, all_of_them = summarise(clips, groups, seed=0), summarise([*clips, *more], groups, seed=0)
    assert all_of_them.n_units == 6
    assert all_of_them.as_dict() == alone.as_dict()


def test_of_nothing_labelled_there_is_no_score() -> None:
    summary = summarise(unlabelled(clips_of()), {f"r{i}": f"r{i}" for i in range(6)}, seed=0)
    assert summary.n_units == 0
    assert np.isnan([summary.macro.pooled, summary.macro.low, summary.segments[0.3].pooled]).all()


def test_no_interval_of_fewer_than_three_recordings() -> None:
    clips = clips_of()
    groups = {f"r{i}": f"r{i}" for i in range(6)}
    few = summarise([clip for clip in clips if clip.recording in ("r0", "r5")], groups, seed=0)
    assert few.macro.pooled > 0
    assert np.isnan([few.macro.low, few.macro.high, few.segments[0.3].low, few.classes["rest"].high]).all()
    # Only two of the others have anything of lick.
    some = summarise([clip for clip in clips if clip.fold in (1, 2)], groups, seed=0)
    assert np.isfinite([some.macro.low, some.segments[0.3].low, some.classes["rest"].low]).all()
    assert some.classes["lick"].pooled > 0
    assert np.isnan([some.classes["lick"].low, some.classes["lick"].high]).all()


def test_a_row_per_fold() -> None:
    clips = clips_of()
    summary = summarise(clips, {f"r{i}": f"r{i}" for i in range(6)}, seed=0)
    table = fold_table(summary, {fold: {"best_epoch": fold * 10} for fold in (1, 2, 3)}, clips)
    assert table["best_epoch"].tolist() == [10, 20, 30]
    assert table["support_lick"].tolist() == list(summary.support["lick"].values())
    true, _, baseline = frames([clip for clip in clips if clip.fold == 3])
    expected = f1_score(true, baseline, average="macro")
    assert table["majority_baseline_macro_f1"].iloc[2] == pytest.approx(expected)


def test_a_clip_is_read_as_it_was_saved(tmp_path) -> None:
    clip = clips_of()[3]
    (tmp_path / out_of_fold.FOLDER).mkdir()
    out_of_fold.save(clip, tmp_path)
    found = out_of_fold.load(tmp_path, [(clip.recording, clip.trial)])[0]
    for name, value in vars(clip).items():
        np.testing.assert_array_equal(getattr(found, name), value)
    assert (found.logits.dtype, found.labels.dtype) == (np.float32, np.int64)
