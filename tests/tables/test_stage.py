"""The tables of small caches and predictions: where frames lie, who is independent of whom, what files hold."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.predict.exports import TABLES
from pipeline.setting_texts import SettingsError
from pipeline.tables import stage
from pipeline.tables.sources import SourceError
from pipeline.tables.stage import Asked, make, save
from tables_lab import LENGTH, Lived, lived, random_lab, write_cache, write_out_of_fold, write_predictions

BY = r"_(\d+M)"


def of(table: pd.DataFrame, **where: object) -> pd.Series:
    """The one row with these values."""
    (row,) = [own for _, own in table[(table[list(where)] == list(where.values())).all(axis=1)].iterrows()]
    return row


@pytest.mark.parametrize("write", [write_cache, write_predictions])
@pytest.mark.parametrize(
    ("crop", "onset", "stim", "latency", "from_start"),
    [
        (0, 30, 30, 0.0, 1.0),
        (15, 30, 30, 0.0, 1.0),  # the crop moves the labels' first row, not the trial's frames
        (15, 16, 15, 1 / 30, 16 / 30),
        (15, 33, 30, 0.1, 1.1),
        (0, 12, 9, 0.1, 0.4),
    ],
)
def test_latencies_count_from_the_stimulus_frame_of_the_trial(
    tmp_path: Path, groups_file: Callable, write: Callable, crop: int, onset: int, stim: int, latency: float,
    from_start: float,
) -> None:  # fmt: skip
    lab = {"m_1M": [lived(), lived((1, onset, onset + 6), (1, 50, 52), stim=stim, crop=crop)]}
    folder = write(tmp_path / "lab", lab)
    if write is write_cache:
        trials = make(Asked(cache=folder)).tables["per_trial"]
    else:
        stimuli = groups_file(f"recording,trial,stim_frame\nm_1M,2,{stim}\n", "stimuli.csv")
        trials = make(Asked(folder, stimuli=stimuli)).tables["per_trial"]
    row = of(trials, trial=2, behaviour="lick")
    assert row["latency_from_stimulus_s"] == pytest.approx(latency)
    assert row["latency_from_trial_start_s"] == pytest.approx(from_start)
    assert (row["first_frame"], row["n_frames"], row["stim_frame"]) == (crop, LENGTH - crop, stim)
    assert row["time_s"] == pytest.approx(8 / 30)
    none = of(trials, trial=1, behaviour="lick")
    assert (none["n_bouts"], none["time_s"]) == (0, 0)
    assert none[["latency_from_stimulus_s", "responded", "latency_from_trial_start_s"]].isna().all()


def test_what_runs_since_before_the_crop_or_goes_on_behind_a_gap_is_no_answer(tmp_path: Path) -> None:
    """With StimFrame 15 in a trial of the frames 15 to 359, every trial would be answered in its first frame."""
    lab = {
        "crop_1M": [lived((1, 0, 40), stim=15, crop=15)],
        "gap_1M": [lived((1, 0, 40), stim=15, damaged=[18])],
        "again_1M": [lived((1, 0, 40), (1, 50, 55), stim=15, crop=15)],
        "later_1M": [lived((1, 20, 25), stim=15, crop=15)],
    }
    tables = make(Asked(cache=write_cache(tmp_path / "c", lab), group_by=BY)).tables
    columns = ["latency_from_stimulus_s", "responded", "running_at_stimulus", "latency_from_trial_start_s"]
    found = tables["per_trial"].query("behaviour == 'lick'").set_index("recording")[columns]
    nan = np.nan
    np.testing.assert_allclose(found.loc["crop_1M"], [nan, nan, nan, 0.5])
    np.testing.assert_allclose(found.loc["gap_1M"], [nan, nan, 1, 0])
    np.testing.assert_allclose(found.loc["again_1M"], [nan, 1, nan, 0.5])
    np.testing.assert_allclose(found.loc["later_1M"], [5 / 30, 1, 0, 20 / 30])
    animal = of(tables["per_animal"], behaviour="lick")
    assert animal[["n_trials_with_stimulus", "n_trials_censored", "responded"]].tolist() == [2, 0, 1]
    assert animal["latency_from_stimulus_s"] == pytest.approx(5 / 30)


def test_a_rate_of_29_97_makes_longer_seconds(tmp_path: Path) -> None:
    lab = {"m_1M": [lived((1, 30, 45), stim=20)]}
    for folder in (write_cache(tmp_path / "c", lab, fps=29.97), write_predictions(tmp_path / "p", lab, fps=29.97)):
        asked = Asked(cache=folder) if folder.name == "c" else Asked(folder, cache=tmp_path / "c")
        row = of(make(asked).tables["per_trial"], behaviour="lick")
        assert (row["time_s"], row["latency_from_stimulus_s"]) == pytest.approx((15 / 29.97, 10 / 29.97))
        assert row["bouts_per_min"] == pytest.approx(60 / (60 / 29.97))


def test_damaged_and_unlabelled_frames_are_no_time_and_are_told(tmp_path: Path) -> None:
    trial = lived((1, 20, 40), damaged=[25, 26, 50])
    trial.labels[:6] = -1
    row = of(make(Asked(cache=write_cache(tmp_path / "c", {"m": [trial]}))).tables["per_trial"], behaviour="lick")
    assert row[["damaged_s", "unlabelled_s", "scored_s"]].tolist() == pytest.approx([3 / 30, 6 / 30, 51 / 30])
    assert (row["time_s"], row["share"]) == pytest.approx((18 / 30, 18 / 51))
    assert (row["n_bouts"], row["n_cut_bouts"]) == (2, 2)


def test_trials_of_an_animal_are_no_further_animals(tmp_path: Path) -> None:
    """Ten times the trials, all alike: the same means, and intervals that are not narrower."""
    lab = random_lab(0, animals=5)
    more = {f"{name}_{i}": trials for name, trials in lab.items() for i in range(10)}
    once = make(Asked(cache=write_cache(tmp_path / "once", lab), group_by=BY)).tables["per_group"]
    often = make(Asked(cache=write_cache(tmp_path / "often", more), group_by=BY)).tables["per_group"]
    columns = ["mean", "low", "high", "sd"]
    np.testing.assert_allclose(often[columns], once[columns])
    assert (often["n_animals"] == once["n_animals"]).all()
    assert (often["n_trials"] == 10 * once["n_trials"]).all()
    as_recordings = make(Asked(cache=tmp_path / "often")).tables["per_group"]
    widths = [of(t, behaviour="lick", measure="time_s")[["low", "high"]].diff().iloc[1] for t in (often, as_recordings)]
    assert widths[1] < widths[0] / 2  # what it would be if they passed for animals


def test_group_means_are_those_of_animals_means(tmp_path: Path, groups_file: Callable) -> None:
    lab = random_lab(1)
    lab["mouse_00M_again"] = lab["mouse_03M"]
    lines = "".join(f"{i:02d}M,{'ab'[i % 2]}\n" for i in range(8))
    asked = Asked(cache=write_cache(tmp_path / "c", lab), group_by=BY, groups=groups_file(f"animal,treatment\n{lines}"))
    tables = make(asked).tables
    by_hand: dict[str, list[float]] = {}
    for name, trials in lab.items():
        for trial in trials:
            kept = [f for f in range(trial.crop, LENGTH) if f not in trial.damaged]
            by_hand.setdefault(name[6:9], []).append(sum(int(trial.labels[f] == 1) for f in kept) / 30)
    for treatment, animals in (("a", range(0, 8, 2)), ("b", range(1, 8, 2))):
        means = [np.mean(by_hand[f"{i:02d}M"]) for i in animals]
        row = of(tables["per_group"], treatment=treatment, behaviour="lick", measure="time_s")
        assert (row["mean"], row["sd"]) == pytest.approx((np.mean(means), np.std(means, ddof=1)))
        assert row["low"] <= row["mean"] <= row["high"]
        assert (row["n_animals"], row["n_trials"]) == (4, 15 if treatment == "a" else 12)
    summed = tables["transitions"].groupby(["level", "treatment"])["count"].sum()
    assert summed["trial"].tolist() == summed["animal"].tolist() == summed["group"].tolist()


def test_two_animals_have_a_mean_and_no_interval(tmp_path: Path) -> None:
    found = make(Asked(cache=write_cache(tmp_path / "c", random_lab(0, animals=2)), group_by=BY)).tables["per_group"]
    assert found["mean"].notna().any()
    assert found[["low", "high"]].isna().all(axis=None)
    assert set(found["note"]) == {"fewer than 3 animals with a value: no interval"}
    five = write_cache(tmp_path / "five", random_lab(0, animals=5))
    time = of(make(Asked(cache=five, group_by=BY)).tables["per_group"], behaviour="lick", measure="time_s")
    assert time["note"] == "fewer than 10 animals with a value: the interval is too narrow"
    assert time["low"] < time["high"]


def test_censored_trials_are_counted_and_have_no_latency(tmp_path: Path) -> None:
    lab = {f"m_{i}M": [lived((1, 40, 45), stim=30), lived(stim=30), lived((1, 5, 9), stim=30)] for i in range(3)}
    tables = make(Asked(cache=write_cache(tmp_path / "c", lab), group_by=BY)).tables
    animal = of(tables["per_animal"], animal="1M", behaviour="lick")
    assert animal["latency_from_stimulus_s"] == pytest.approx(10 / 30)
    assert animal["responded"] == pytest.approx(1 / 3)
    counts = ["n_trials", "n_trials_with_stimulus", "n_trials_censored", "n_trials_without_behaviour"]
    assert animal[counts].tolist() == [3, 3, 2, 1]
    assert of(tables["per_group"], behaviour="lick", measure="responded")["n_trials_censored"] == 6


def test_around_the_stimulus_each_trial_stands_at_its_own_time(tmp_path: Path) -> None:
    lab = {"m_1M": [lived((1, 30, 33), stim=30), lived((1, 40, 43), stim=40, crop=15)], "m_2M": [lived(stim=20)]}
    table = make(Asked(cache=write_cache(tmp_path / "c", lab), group_by=BY)).tables["peri_stimulus"]
    lick = table[table["behaviour"] == "lick"].set_index("time_from_stimulus_s")
    assert lick["share_of_trials"].loc[-0.1:0.2].tolist() == [0, 0.5, 0, 0]
    assert lick.loc[0.0, ["n_animals", "n_trials"]].tolist() == [2, 3]
    assert table.groupby("time_from_stimulus_s")["share_of_trials"].sum().to_numpy() == pytest.approx(1)


def test_the_order_of_recordings_changes_nothing_and_the_seed_the_intervals_alone(tmp_path: Path) -> None:
    lab = random_lab(2)
    one = make(Asked(cache=write_cache(tmp_path / "one", lab), group_by=BY)).tables
    # Other names of the recordings, so that another one comes first; the same animals.
    other = {f"{9 - i}_{name}": trials for i, (name, trials) in enumerate(lab.items())}
    two = make(Asked(cache=write_cache(tmp_path / "two", other), group_by=BY)).tables
    for name in ("per_animal", "per_group", "peri_stimulus"):
        pd.testing.assert_frame_equal(one[name], two[name])
    again = make(Asked(cache=tmp_path / "one", group_by=BY, seed=1)).tables["per_group"]
    assert (again["mean"].dropna() == one["per_group"]["mean"].dropna()).all()
    assert (again["low"].dropna() != one["per_group"]["low"].dropna()).any()


def test_errors_are_on_frames_that_both_name(tmp_path: Path) -> None:
    """People labelled [15:60] of a trial that is predicted whole; a frame is damaged in the prediction alone."""
    truth = lived((1, 20, 30), (2, 50, 60), stim=18, crop=15)
    said = lived((1, 10, 27), (2, 50, 60), damaged=[55])
    write_cache(tmp_path / "c", {"m_1M": [truth]})
    found = make(Asked(write_predictions(tmp_path / "p", {"m_1M": [said], "m_2M": [said]}), cache=tmp_path / "c"))
    errors = found.tables["errors"].set_index(["behaviour", "measure"])
    assert set(errors["recording"]) == {"m_1M"}
    columns = ["predicted", "true", "error", "abs_error"]
    assert errors.loc[("lick", "time_s"), columns].tolist() == pytest.approx([12 / 30, 10 / 30, 2 / 30, 2 / 30])
    assert errors.loc[("rest", "time_s"), columns].tolist() == pytest.approx([23 / 30, 25 / 30, -2 / 30, 2 / 30])
    assert errors.loc[("walk", "n_bouts"), columns].tolist() == [2, 2, 0, 0]  # the gap parts both
    assert errors.loc[("walk", "time_s"), "compared_s"] == pytest.approx(44 / 30)
    assert np.isnan(errors.loc[("lick", "latency_from_stimulus_s"), "predicted"])  # runs since before the stimulus
    trial = of(found.tables["per_trial"], recording="m_1M", behaviour="lick")
    assert (trial["stim_frame"], trial["first_frame"]) == (18, 0)  # the annotation's; predictions know none


def test_agreement_is_given_of_all_and_of_each_group(tmp_path: Path, groups_file: Callable) -> None:
    truth = random_lab(3)
    said = {name: [dataclasses.replace(t, labels=np.roll(t.labels, 2)) for t in ts] for name, ts in truth.items()}
    write_cache(tmp_path / "c", truth)
    lines = "".join(f"{i:02d}M,{'ab'[i % 2]}\n" for i in range(8))
    groups = groups_file(f"animal,treatment\n{lines}")
    asked = Asked(write_predictions(tmp_path / "p", said), cache=tmp_path / "c", group_by=BY, groups=groups)
    tables = make(asked).tables
    errors, agreement = tables["errors"], tables["agreement"]
    assert list(dict.fromkeys(agreement["treatment"])) == ["all", "a", "b"]
    for treatment, n in (("all", 8), ("a", 4), ("b", 4)):
        inside = errors[(errors["behaviour"] == "lick") & (errors["measure"] == "time_s")]
        inside = inside if treatment == "all" else inside[inside["treatment"] == treatment]
        row = of(agreement, treatment=treatment, behaviour="lick", measure="time_s")
        assert row["mean_error"] == pytest.approx(inside.groupby("animal")["error"].mean().mean())
        assert row["mean_abs_error"] == pytest.approx(inside.groupby("animal")["abs_error"].mean().mean())
        assert (row["n_animals"], row["n_trials"]) == (n, 3 * n)


def test_out_of_fold_labels_stand_in_the_frames_of_their_trials(tmp_path: Path) -> None:
    lab = random_lab(4)
    cache = write_cache(tmp_path / "c", lab)
    write_out_of_fold(tmp_path / "cv", lab)
    tables = make(Asked(tmp_path / "cv", cache=cache, group_by=BY)).tables
    row = of(tables["per_trial"], recording="mouse_01M", trial=2, behaviour="lick")
    trial = lab["mouse_01M"][1]
    kept = np.setdiff1d(np.arange(15, LENGTH), trial.damaged)
    said = np.concatenate([np.zeros(15, int), np.roll(trial.labels[15:], 1)])
    assert row["time_s"] == pytest.approx((said[kept] == 1).sum() / 30)
    assert (row["first_frame"], row["stim_frame"]) == (15, trial.stim_frame)
    error = of(tables["errors"], recording="mouse_01M", trial=2, behaviour="lick", measure="time_s")
    assert error["true"] == pytest.approx((trial.labels[kept] == 1).sum() / 30)
    (tmp_path / "cv" / "decision.json").write_text("{}")  # as when one was fitted
    assert "decision layer fitted on the other folds" in make(Asked(tmp_path / "cv", cache=cache)).what
    with pytest.raises(SettingsError, match="is a cross-validation: give --cache"):
        make(Asked(tmp_path / "cv"))
    other = write_cache(tmp_path / "other", {"mouse_00M": lab["mouse_00M"]})
    with pytest.raises(SourceError, match=r"tested mouse_01M trial 1; .*other does not hold it"):
        make(Asked(tmp_path / "cv", cache=other))


def test_parquet_is_what_the_csv_says_and_former_tables_go(tmp_path: Path, groups_file: Callable) -> None:
    truth = random_lab(5, animals=4)
    cache = write_cache(tmp_path / "c", truth)
    asked = Asked(write_predictions(tmp_path / "p", truth), cache=cache, group_by=BY)
    made = make(asked)
    save(made, asked, tmp_path / "out")
    assert {path.stem for path in (tmp_path / "out").glob("*.csv")} == set(stage.TABLE_NAMES)
    for name in stage.TABLE_NAMES:
        parquet = pd.read_parquet(tmp_path / "out" / f"{name}.parquet")
        texts = {c: "str" for c in parquet if not pd.api.types.is_numeric_dtype(parquet[c])}
        read = pd.read_csv(tmp_path / "out" / f"{name}.csv", dtype=parquet.dtypes.to_dict() | texts, na_filter=True)
        for column in texts:
            read[column] = read[column].fillna("")
        pd.testing.assert_frame_equal(read, parquet, check_exact=True)
        assert len(parquet) == len(made.tables[name])
    record = json.loads((tmp_path / "out" / "tables.json").read_text())
    assert (record["group_by"], record["labels"]) == (BY, "predicted labels")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    save(make(asked), asked, tmp_path / "out")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    alone = Asked(tmp_path / "p", group_by=BY)
    save(make(alone), alone, tmp_path / "out")
    assert not list((tmp_path / "out").glob("errors.*")) + list((tmp_path / "out").glob("*/around_stimulus.*"))


def test_trials_that_the_table_leaves_out_are_no_further_animals(tmp_path: Path, groups_file: Callable) -> None:
    """Of four recordings of two animals, two trials each, the table names the first trials."""
    lab = {f"r{i}": [lived((1, 20, 30)), lived((2, 20, 30))] for i in range(4)} | {"nobody": [lived()]}
    rows = "".join(f"r{i},1,m{i // 2},veh\n" for i in range(4))
    groups = groups_file(f"recording,trial,animal,treatment\n{rows}")
    asked = Asked(write_predictions(tmp_path / "p", lab), cache=write_cache(tmp_path / "c", lab), groups=groups)
    tables = make(asked).tables
    row = of(tables["agreement"], behaviour="lick", measure="time_s")
    assert (row["treatment"], row["n_animals"], row["n_trials"]) == ("all", 2, 8)
    assert set(tables["per_animal"]["animal"]) == {"m0", "m1"}
    transitions = tables["transitions"]
    assert set(transitions[transitions["level"] == "animal"]["animal"]) == {"m0", "m1"}
    assert len(tables["per_trial"]) == 9 * 3


@pytest.mark.parametrize("column", ["n_shocks", "count"])
def test_a_column_of_text_stays_text_whatever_its_name(tmp_path: Path, groups_file: Callable, column: str) -> None:
    groups = groups_file(f"animal,treatment,{column}\n00M,a,3\n01M,a,none\n")
    asked = Asked(cache=write_cache(tmp_path / "c", random_lab(6, animals=2)), groups=groups, group_by=BY)
    save(make(asked), asked, tmp_path / "out")
    for table in (
        pd.read_csv(tmp_path / "out" / "per_animal.csv"),
        pd.read_parquet(tmp_path / "out/per_animal.parquet"),
    ):
        assert set(table[column]) == {"3", "none"}


def test_former_tables_go_only_when_the_new_ones_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(cache=write_cache(tmp_path / "c", random_lab(6, animals=2)), group_by=BY)
    save(make(asked), asked, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    monkeypatch.setattr(stage.plots, "pictures", lambda *_: [][0])
    with pytest.raises(IndexError):
        save(make(asked), asked, tmp_path / "out")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    monkeypatch.undo()
    monkeypatch.setattr(stage, "write_table", lambda *_: [][0])  # killed between
    with pytest.raises(IndexError):
        save(make(asked), asked, tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_what_is_left_out_is_told(tmp_path: Path, groups_file: Callable) -> None:
    lab = random_lab(6, animals=3)
    lab["mouse_02M"][0] = Lived(np.full(LENGTH, -1, np.int16))
    groups = groups_file("animal,treatment\n00M,a\n01M,a\n")
    made = make(Asked(cache=write_cache(tmp_path / "c", lab), groups=groups, group_by=BY))
    assert made.left_out == (("mouse_02M", 1, "has no labelled frame"),)
    assert made.ungrouped == ("mouse_02M trial 2", "mouse_02M trial 3")
    assert stage.exit_code(made) == 3
    assert set(made.tables["per_group"]["n_animals_in_group"]) == {2}
    assert "02M" in set(made.tables["per_animal"]["animal"])  # still in the tables of animals, without a group


def test_without_a_video_there_is_no_rate(tmp_path: Path) -> None:
    folder = write_cache(tmp_path / "c", {"m_1M": [lived((1, 30, 45))]}, fps=None)
    with pytest.raises(SourceError, match=r"no trial to make tables of \(m_1M no video tells its frame rate; --fps"):
        make(Asked(cache=folder))
    row = of(make(Asked(cache=folder, fps=15.0)).tables["per_trial"], behaviour="lick")
    assert row["time_s"] == pytest.approx(1)


def test_predictions_without_their_cache(tmp_path: Path) -> None:
    lab = {"a.b_1M": [lived((1, 30, 45), crop=15), lived((1, 5, 20), damaged=[0])]}
    folder = write_predictions(tmp_path / "p", lab, fps=29.97)
    with_cache = make(Asked(folder)).tables["per_trial"]
    (folder / "cache").rename(tmp_path / "gone")
    made = make(Asked(folder))
    assert "2 of 2 predictions are not of a recording in" in made.notes[0]
    pd.testing.assert_frame_equal(made.tables["per_trial"], with_cache, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.write_text("Frame,Action\n0,rest\n"), "expected the columns Frame, Action, Time_s and p_<"),
        (lambda file: file.write_text(file.read_text().replace("\n31,", "\n32,")), "Frame has gaps"),
        (
            lambda file: file.write_text(file.read_text().replace(",lick,", ",bite,")),
            "Action 'bite' is none of rest, li",
        ),
        (lambda file: file.unlink(), "no trials/prediction_\\*.csv in it"),
        (lambda file: (file.unlink(), file.parent.rmdir()), "holds neither trials/"),
    ],
)
def test_folders_that_are_no_predictions(tmp_path: Path, change: Callable, message: str) -> None:
    folder = write_predictions(tmp_path / "p", {"m": [lived((1, 30, 45))]})
    change(next((folder / TABLES).iterdir()))
    with pytest.raises(SourceError, match=message):
        make(Asked(folder))


def test_other_classes_are_refused(tmp_path: Path) -> None:
    folder = write_predictions(tmp_path / "p", {"m": [lived()]})
    cache = write_cache(tmp_path / "c", {"m": [lived()]})
    with pytest.raises(SourceError, match="merged by --merge lick=walk, are rest, walk; the predictions' are rest, li"):
        make(Asked(folder, cache=cache, merge="lick=walk"))
    with pytest.raises(SettingsError, match="give a folder of predictions or of a cross-validation, or --cache"):
        make(Asked())
