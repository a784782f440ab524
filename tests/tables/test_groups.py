"""Which trial belongs where, and what is said to whoever wrote the tables."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.lab_tables import TableError
from pipeline.stimuli import read_stimuli
from pipeline.tables.groups import place, read_groups
from pipeline.tables.sources import Source, Trial
from pipeline.tables.stimuli import with_stimuli
from pipeline.train.split import SplitError

Write = Callable[..., Path]
BY = r"_(\d+M)"


def trials(*names: tuple[str, int]) -> tuple[Trial, ...]:
    return tuple(Trial(name, n, np.zeros(45, int), np.ones(45, bool), 30.0, 15) for name, n in names)


HERE = trials(("r_1M", 1), ("r_1M", 2), ("s_1M", 1), ("r_2M", 1))


def placed(path: Path, group_by: str = BY, here: tuple[Trial, ...] = HERE):
    return place(here, read_groups(path, taken=["time_s"]), group_by)


def test_animals_have_groups(groups_file: Write) -> None:
    found = placed(groups_file("animal,treatment,dose\n2M,saline,0\n1M,CFA,5\n"))
    assert [(p.animal, p.group, p.more) for p in found.places] == [("1M", ("CFA", ""), ("5",))] * 3 + [
        ("2M", ("saline", ""), ("0",))
    ]
    assert found.order == [("saline", ""), ("CFA", "")]  # as the file has them
    assert (found.ungrouped, found.notes, found.more) == ((), (), ("dose",))


def test_recordings_and_trials_have_groups(groups_file: Write) -> None:
    text = "Recording;Trial;Session\nr_1M.mp4;1;before\nr_1M;2;after\ns_1M;1;after\nr_2M;1;\n\n"
    found = placed(groups_file(text))  # a spreadsheet's semicolons, a name with its extension, an empty line
    assert [p.group[1] for p in found.places] == ["before", "after", "after", ""]
    assert found.ungrouped == ("r_2M trial 1",)
    assert found.notes == (
        "1 animals are in more than one group (1M): each group's interval stands for itself, a difference between "
        "groups needs a paired test on per_animal",
    )


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(("key", "name", "by"), [("recording", "Mäuse_1M.mp4", ""), ("animal", "Mäuse", "(M.+use)")])
def test_an_umlaut_is_the_same_however_a_computer_writes_it(
    groups_file: Write, form: str, key: str, name: str, by: str
) -> None:
    here = trials((unicodedata.normalize(form, "Mäuse_1M"), 1))
    for typed in ("NFC", "NFD"):
        path = groups_file(unicodedata.normalize(typed, f"{key},treatment\n{name},a\n"))
        assert placed(path, by, here).ungrouped == ()
    stimuli = read_stimuli(groups_file("recording,trial,stim_frame\nMäuse_1M,1,20\n", "stimuli.csv"))
    found = with_stimuli(Source(("rest",), here, "labels"), stimuli)
    assert (found.trials[0].stim_frame, found.notes) == (20, ())


def test_a_column_animal_stands_for_the_pattern(groups_file: Write) -> None:
    path = groups_file("recording,animal,treatment\nr_1M,Anna,a\ns_1M,Anna,a\nr_2M,Bert,b\n")
    assert [p.animal for p in placed(path, "").places] == ["Anna", "Anna", "Anna", "Bert"]
    with pytest.raises(TableError, match=r"groups.csv row 2: animal 'Anna', but --group-by finds '1M' in r_1M"):
        placed(path)


def test_a_trial_without_a_row_is_of_the_animal_of_its_recording_or_of_none(groups_file: Write) -> None:
    path = groups_file("recording,trial,animal,treatment\nr_1M,1,Anna,a\ns_1M,1,Anna,a\n")
    found = placed(path, "")
    assert [p.animal for p in found.places] == ["Anna", "Anna", "Anna", ""]
    assert found.ungrouped == ("r_1M trial 2", "r_2M trial 1")
    assert found.notes[0].endswith(
        "no row names the animal of 1 trials (r_2M trial 1): they are in no figure of animals, only in those of trials"
    )
    two = groups_file("recording,trial,animal,treatment\nr_1M,1,Anna,a\nr_1M,3,Bert,a\n", "two.csv")
    assert [p.animal for p in placed(two, "").places] == ["Anna", "", "", ""]


def test_what_has_no_recording_and_what_no_group_is_told(groups_file: Write) -> None:
    found = placed(groups_file("animal,treatment\n1M,a\n9M,b\n8M,b\n"))
    assert found.ungrouped == ("r_2M trial 1",)
    assert [note.split(": ", 1)[1] for note in found.notes] == ["2 animals of it have no trial here: 9M, 8M"]
    assert found.order == [("a", "")]


def test_without_any_name_recordings_stand_for_animals_and_that_is_said() -> None:
    found = place(HERE, None, "")
    assert [p.animal for p in found.places] == ["r_1M", "r_1M", "s_1M", "r_2M"]
    assert "each recording counts as an animal of its own" in found.notes[0]
    assert place(HERE, None, BY).notes == ()
    with pytest.raises(SplitError, match="no match in the recording r_1M"):
        place(HERE, None, "_(q)_")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is empty \(0 bytes\); expected a column recording"),
        ("animal,treatment\n", "no rows below the header; expected a column recording"),
        ("mouse,treatment\n1M,a\n", "no column recording or animal; expected a column .*, found mouse, treatment"),
        ("animal,drug\n1M,a\n", "no column treatment, session; expected a column .*, found animal, drug"),
        ("animal,treatment\n1M,a\n2M,b\n1M,b\n", "rows 2 and 4: 1M has treatment 'a' in one and 'b' in the other"),
        ("animal,treatment\n1M,a\n,b\n", "row 3: animal is empty"),
        ("animal,treatment\n1M,a,x\n", "row 2: 3 cells, expected 2 as in the header"),
        ("animal,treatment,treatment\n1M,a,x\n", "the column treatment stands twice"),
        ("animal,treatment,time_s\n1M,a,x\n", "a column may not be called 'time_s'"),
        ("animal,treatment,stim_frame\n1M,a,3\n", "trial and stim_frame are of recordings; add a column recording"),
        ("recording,trial,treatment\nr_1M,one,a\n", "row 2: trial 'one' is not a whole number from 0 on"),
    ],
)
def test_mistakes_name_the_row(groups_file: Write, text: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        placed(groups_file(text))


def test_a_double_without_contradiction_is_none(groups_file: Write) -> None:
    assert placed(groups_file("animal,treatment\n1M,a\n1M,a\n2M,b\n")).order == [("a", ""), ("b", "")]


def test_animals_need_to_be_named(groups_file: Write) -> None:
    with pytest.raises(TableError, match="names animals, so --group-by must tell each recording's animal"):
        placed(groups_file("animal,treatment\n1M,a\n"), "")


def test_stimuli_are_of_trials(groups_file: Write) -> None:
    source = Source(("rest",), HERE, "")
    path = groups_file("recording,trial,stim_frame\nr_1M,2,20\nr_2M.mp4,1,59\ns_1M,1,\nx,1,3\n", "stimuli.csv")
    found = with_stimuli(source, read_stimuli(path))
    assert [trial.stim_frame for trial in found.trials] == [None, 20, None, 59]
    assert found.notes == ("1 stimuli are of trials that are not here: x trial 1",)


def test_a_stimulus_of_the_groups_is_of_every_trial_of_the_recording(groups_file: Write) -> None:
    groups = read_groups(groups_file("recording,treatment,stim_frame\nr_1M,a,30\nr_2M,a,\n"), taken=[])
    assert {key: frame for key, (frame, _) in groups.stimuli(HERE).items()} == {("r_1M", 1): 30, ("r_1M", 2): 30}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recording,trial,frame\nr_1M,1,3\n", "no column stim_frame; expected the columns recording,trial,stim_frame"),
        ("recording,trial,stim_frame\nr_1M,1,60\n", "row 2: stim_frame 60 lies outside the trial, whose .* 15 to 59"),
        ("recording,trial,stim_frame\nr_1M,1,6\nr_1M,1,7\n", "row 2 and row 3: other stimulus frames for r_1M trial 1"),
        ("recording,trial,stim_frame\nr_1M,1,2.5\n", "row 2: stim_frame '2.5' is not a whole number from 0 on"),
    ],
)
def test_mistakes_in_stimuli(groups_file: Write, text: str, message: str) -> None:
    with pytest.raises(TableError, match=message):
        with_stimuli(Source(("rest",), HERE, ""), read_stimuli(groups_file(text, "stimuli.csv")))
