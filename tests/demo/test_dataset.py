from __future__ import annotations

import csv
import json
import re

import av
import numpy as np
import pandas as pd
import pytest

from pipeline.demo import manifest
from pipeline.demo.dataset import NETWORK, make_dataset, make_recording, plan_recordings, poorly, track
from pipeline.demo.mouse import KEYPOINTS
from pipeline.demo.render import read_code

MADE = {"recordings": 5, "trials": 1, "size": (160, 120), "seed": 3, "share_345": 0.4, "frame_code": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    make_dataset(out, **MADE)
    return out


def test_layout_is_the_reference_one(folder):
    videos = sorted(p.name for p in (folder / "Videos").glob("*.mp4"))
    assert len(videos) == 5
    for name in videos:
        assert re.fullmatch(r"demo_2024-03-\d\d_CFA_\d{3}_\d{3}M_tracking\.mp4", name)
        tables = list((folder / "Videos").glob(f"{name.removesuffix('.mp4')}{NETWORK}.*"))
        assert [t.suffix for t in tables] in ([".csv"], [".h5"])
        assert (folder / "Annotations" / f"prediction_{name}_1.csv").exists()
    assert len(list((folder / "Videos").glob("*.h5"))) == 1
    animals = {re.search(r"_(\d+M)_", name)[1] for name in videos}
    assert len(animals) == 2


def test_annotations_have_345_or_360_rows_of_integers(folder):
    tables = [pd.read_csv(path) for path in sorted((folder / "Annotations").glob("*.csv"))]
    assert sorted(len(t) for t in tables) == [345, 345, 360, 360, 360]
    for table in tables:
        assert list(table.columns) in (["Frame", "Action"], ["Frame", "Action", "StimFrame"])
        assert table["Frame"].tolist() == list(range(len(table)))
        assert table["Action"].isin(range(8)).all()
    assert any("StimFrame" in table for table in tables)


def test_a_345_row_annotation_is_of_the_trials_frames_from_15_on(folder):
    plan = plan_recordings(5, 1, 2, MADE["seed"], MADE["share_345"])
    for recording in plan:
        labels = pd.read_csv(folder / "Annotations" / f"prediction_{recording.name}.mp4_1.csv")["Action"].to_numpy()
        truth = recording.trials[0].truth
        right = np.mean(labels == truth[360 - recording.rows[0] :])
        assert right > 0.9
    short = [recording.rows[0] == 345 for recording in plan]
    assert sum(short) == 2


def test_every_frame_carries_its_number_and_the_video_has_b_frames(folder):
    for path in sorted((folder / "Videos").glob("*.mp4"))[:2]:
        with av.open(str(path)) as video:
            frames = list(video.decode(video=0))
        assert [read_code(f.to_ndarray(format="gray")) for f in frames] == list(range(360))
        assert av.video.frame.PictureType.B in {f.pict_type for f in frames}
        assert frames[0].format.name == "yuv420p"


def test_dlc_csv_has_three_header_rows_and_about_a_row_a_frame(folder):
    for path in (folder / "Videos").glob("*.csv"):
        rows = list(csv.reader(path.open()))
        assert [row[0] for row in rows[:4]] == ["scorer", "bodyparts", "coords", "0"]
        assert tuple(rows[1][1::3]) == KEYPOINTS
        assert rows[2][1:4] == ["x", "y", "likelihood"]
        assert abs(len(rows) - 3 - 360) <= 1
    h5 = pd.read_hdf(next((folder / "Videos").glob("*.h5")))
    assert h5.columns.names == ["scorer", "bodyparts", "coords"]
    assert abs(len(h5) - 360) <= 1


@pytest.fixture
def again(tmp_path):
    """Makes the first recording of the module's data set once more, with something changed."""
    for name in ("Videos", "Annotations"):
        (tmp_path / name).mkdir()

    def make(**changed):
        settings = {"size": MADE["size"], "seed": MADE["seed"], "frame_code": True} | changed
        recording = plan_recordings(5, 1, 2, MADE["seed"], MADE["share_345"])[0]
        make_recording(tmp_path, 0, recording, **settings)
        return sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.*"))

    return make


def test_a_seed_fixes_every_byte(folder, tmp_path, again):
    made = again()
    assert len(made) == 3
    for path in made:
        assert (tmp_path / path).read_bytes() == (folder / path).read_bytes(), path


@pytest.mark.parametrize(
    ("changed", "same", "different"),
    [
        ({"size": (96, 72)}, {"Annotations"}, {"Videos"}),
        ({"frame_code": False}, {"Annotations", ".csv"}, {".mp4"}),
        ({"seed": 4}, set(), {".mp4", ".csv"}),
        ({"lost": 0.4}, {"Annotations", ".mp4"}, {".csv"}),
    ],
    ids=["size", "frame_code", "seed", "lost"],
)
def test_what_a_setting_changes(folder, tmp_path, again, changed, same, different):
    for path in again(**changed):
        equal = (tmp_path / path).read_bytes() == (folder / path).read_bytes()
        kinds = {path.parts[0], path.suffix}
        assert not kinds & same or equal
        assert not kinds & different or path.parts[0] in same or not equal


def test_another_seed_gives_other_animals_and_behaviour():
    one, other = (plan_recordings(4, 2, 2, seed, 0.3) for seed in (0, 1))
    assert {r.name for r in one}.isdisjoint(r.name for r in other)
    assert [t.acts for r in one for t in r.trials] != [t.acts for r in other for t in r.trials]


@pytest.mark.parametrize(("trials", "counts"), [(1, {1}), (3, {1, 2, 3, 4, 5}), (4, {3, 4, 5})])
def test_trials_of_recordings_lie_around_the_number_asked_for(trials, counts):
    plan = plan_recordings(10, trials, 5, 0, 0.3)
    assert {len(recording.trials) for recording in plan} == counts
    assert sum(len(recording.trials) for recording in plan) == trials * 10


def test_tracking_jitters_and_drops_out_with_a_low_likelihood():
    rng = np.random.default_rng(0)
    truth = np.concatenate([rng.uniform(0, 200, (1, 6, 2)) * np.ones((4000, 1, 1)), np.ones((4000, 6, 1))], axis=2)
    truth[:, 0, :2], truth[:, 1, :2] = (100, 50), (100, 150)
    table = track([truth], rng)
    error = np.linalg.norm(table[:, :, :2] - truth[:, :, :2], axis=2)
    sure = table[:, :, 2] >= 0.9
    assert 0.9 < sure.mean() < 0.995
    assert 0.2 < np.median(error[sure]) < 3
    assert np.median(error[~sure]) > 4 * np.median(error[sure])


@pytest.mark.parametrize("lost", [0.2, 0.5])
def test_poor_tracking_loses_paws_for_a_while_and_lifted_ones_most(lost):
    rng = np.random.default_rng(0)
    truth = np.concatenate([rng.uniform(0, 200, (1, 6, 2)) * np.ones((40000, 1, 1)), np.ones((40000, 6, 1))], axis=2)
    truth[:, 0, :2], truth[:, 1, :2] = (100, 50), (100, 150)
    truth[::7, 2:, 2] = 0.2
    before = track([truth], rng)
    table = poorly(before, [truth], lost, rng)
    gone = (table != before).any(2)
    assert abs(gone[:, 2:].mean() - lost) < 0.06
    assert gone[:, 1].mean() < gone[:, 0].mean() < gone[:, 2:].mean()
    begins = gone[1:] & ~gone[:-1]
    lifted = truth[1:, :, 2] < 1
    assert begins[:, 2:][lifted[:, 2:]].mean() > 3 * begins[:, 2:][~lifted[:, 2:]].mean()
    assert 10 < gone[:, 2:].sum() / begins[:, 2:].sum() < 40
    np.testing.assert_array_equal(table[~gone], before[~gone])
    off = np.linalg.norm(table - truth, axis=2)
    assert np.median(off[gone]) > 5 * np.median(off[~gone])
    np.testing.assert_array_equal(poorly(before, [truth], 0.0, rng), before)


def test_processes_give_the_same_files_and_progress_counts_the_frames(tmp_path):
    for processes in (1, 2):
        seen: list[tuple[str, int, int]] = []

        def note(*told, seen=seen):
            seen.append(told)

        out = tmp_path / str(processes)
        make_dataset(out, recordings=2, trials=1, size=(96, 72), progress=note, processes=processes)
        assert [(done, total) for _, done, total in seen] == [(360, 720), (720, 720)]
    files = sorted((tmp_path / "1").rglob("*.*"))
    assert len(files) == 7
    for path in files:
        assert path.read_bytes() == (tmp_path / "2" / path.relative_to(tmp_path / "1")).read_bytes()


def test_an_odd_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has to be even, found 321x240"):
        make_dataset(tmp_path, recordings=1, size=(321, 240))


def test_another_set_in_the_same_folder_replaces_the_former_and_nothing_else(tmp_path):
    small = {"recordings": 1, "trials": 1, "size": (96, 72)}
    make_dataset(tmp_path, **small, seed=0)
    former = {path for path in tmp_path.rglob("*.*") if path.name != manifest.NAME}
    assert len(former) == 3
    foreign = [tmp_path / "Videos" / "mine.mp4", tmp_path / "Annotations" / "prediction_mine.mp4_1.csv"]
    for path in foreign:
        path.write_text("precious")
    make_dataset(tmp_path, **small, seed=1)
    after = {path for path in tmp_path.rglob("*.*") if path.name != manifest.NAME}
    assert not former & after
    assert len(after) == 5
    assert all(path.read_text() == "precious" for path in foreign)


def test_the_same_set_is_rendered_once_unless_something_of_it_is_gone(folder):
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    make_dataset(folder, **MADE)
    assert files == {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    settings = json.loads((folder / manifest.NAME).read_text())["settings"]
    assert manifest.is_whole(folder, settings)
    video = next(folder.glob("Videos/*.mp4"))
    moved = video.rename(video.with_suffix(".away"))
    assert not manifest.is_whole(folder, settings)
    moved.rename(video)
    assert not manifest.is_whole(folder, settings | {"seed": 9})
