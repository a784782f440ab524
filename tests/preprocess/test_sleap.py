from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from lab import X_STEP, Lab
from pipeline.preprocess import h5_table
from pipeline.preprocess.discovery import discover
from pipeline.preprocess.keypoints import KeypointError, read_dlc
from pipeline.preprocess.text_table import UnreadableError
from pipeline.preprocess_settings import PreprocessSettings

sio = pytest.importorskip("sleap_io")

NODES = ("nose", "tail", "paw")
SCORE = 0.8


def labels_of(
    frames: dict[int, list[str | None]], *, by_hand: bool = False, videos: int = 1, named: tuple[str, ...] = ()
):
    """SLEAP labels: frame -> the tracks (None: without one) seen in it; the nose's x is X_STEP times the frame.

    The second animal stands 50 pixels to the right; the paw of every third frame is not visible. named: more tracks.
    """
    skeleton = sio.Skeleton(nodes=list(NODES), name="mouse")
    tracks = {name: sio.Track(name) for names in frames.values() for name in names if name}
    films = [sio.Video(filename=f"a{i or ''}.mp4", open_backend=False) for i in range(videos)]
    seen = []
    for i, names in frames.items():
        animals = []
        for name in names:
            right = 50 * sorted(tracks).index(name) if name else 0
            points = np.array([[i * X_STEP + right, 10.0], [20 + right, 11], [30 + right, 12]])
            points[2] = np.nan if i % 3 == 0 else points[2]
            how = {"points_data": points, "skeleton": skeleton, "track": tracks.get(name)}
            if by_hand:
                animals.append(sio.Instance.from_numpy(**how))
            else:
                animals.append(sio.PredictedInstance.from_numpy(**how, point_scores=np.full(3, SCORE), score=0.9))
        seen.append(sio.LabeledFrame(video=films[i % videos], frame_idx=i, instances=animals))
    return sio.Labels(seen, tracks=[*tracks.values(), *(sio.Track(name) for name in named)])


def save(labels, path: Path) -> Path:
    if path.suffix == ".h5":
        sio.save_analysis_h5(labels, str(path))
    elif path.suffix == ".nwb":
        from sleap_io.io.nwb_predictions import write_nwb

        # Its own times, one for each frame that has an animal, do not fit frames in between that have none.
        write_nwb(labels, str(path), pose_estimation_metadata={"video_timestamps": np.arange(100.0)})
    else:
        labels.save(str(path), verbose=False)
    return path


KINDS = ("a.slp", "a.analysis.h5", "a.nwb")


@pytest.mark.parametrize("name", KINDS)
def test_rows_go_by_the_frame_number_and_gaps_stay_empty(tmp_path: Path, name: str) -> None:
    frames = [*range(3, 20), *range(40, 61)]  # nothing is seen before frame 3 and between 20 and 39
    table = read_dlc(save(labels_of({i: ["m1"] for i in frames}), tmp_path / name))
    assert table.names == NODES
    assert table.frames.tolist() == list(range(61))
    nose = {int(n): x for n, x in zip(table.frames, table.values[:, 0, 0], strict=True) if not np.isnan(x)}
    assert nose == {i: i * X_STEP for i in frames}
    place = {int(n): i for i, n in enumerate(table.frames)}
    assert table.values[place[4], :, 2] == pytest.approx([SCORE] * 3)
    assert np.isnan(table.values[place[42], 2]).all()
    assert not np.isnan(table.values[place[43], 2]).any()


@pytest.mark.parametrize("name", KINDS)
def test_tracks_are_named_as_several_animals_of_dlc_are(tmp_path: Path, name: str) -> None:
    seen = {i: ["m1", "m2"] if i < 5 else ["m2"] for i in range(10)}
    table = read_dlc(save(labels_of(seen, named=("unused",)), tmp_path / name))
    assert table.names == tuple(f"{track}_{node}" for track in ("m1", "m2") for node in NODES)
    assert np.isnan(table.values[5:, :3]).all()
    assert table.values[:, 3, 0].tolist() == [i * X_STEP + 50 for i in range(10)]
    assert table.notes == ()


@pytest.mark.parametrize("name", KINDS[:2])
def test_points_placed_by_hand_are_certain(tmp_path: Path, name: str) -> None:
    table = read_dlc(save(labels_of({i: ["m1"] for i in range(4)}, by_hand=True), tmp_path / name))
    assert table.values[1, :, 2].tolist() == [1, 1, 1]


def test_a_video_in_whose_end_no_animal_is_seen_is_covered_whole(tmp_path: Path) -> None:
    labels = labels_of({i: ["m1"] for i in range(5)})
    labels.videos[0].backend_metadata["shape"] = (40, 8, 8, 1)
    table = read_dlc(save(labels, tmp_path / "a.slp"))
    assert table.frames.tolist() == list(range(40))
    assert np.isnan(table.values[5:]).all()


def test_one_animal_in_pieces_of_tracks_is_one_animal(tmp_path: Path) -> None:
    table = read_dlc(save(labels_of({i: [f"track_{i // 3}"] for i in range(9)}), tmp_path / "a.slp"))
    assert table.names == NODES
    assert not np.isnan(table.values[:, 0, 0]).any()


def test_more_tracks_than_animals_are_said(tmp_path: Path) -> None:
    seen = {i: ["m1", "m2"] if i < 5 else ["m1", "m3"] for i in range(10)}
    table = read_dlc(save(labels_of(seen), tmp_path / "a.slp"))
    assert table.notes == ("3 tracks, at most 2 in one frame: join those of one animal in SLEAP",)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"frames": {0: [None, None]}}, "has frames with several animals, and animals without a track"),
        ({"frames": {0: ["m1"], 1: ["m1"]}, "videos": 2}, "holds the frames of 2 videos"),
        ({"frames": {}}, "holds not one frame with an animal"),
        ({"frames": {0: [f"t{i}" for i in range(33)]}}, "has 33 tracks, at most 32 can be animals"),
    ],
    ids=["no tracks", "two videos", "nothing", "too many tracks"],
)
def test_what_no_one_can_tell_is_refused(tmp_path: Path, labels: dict, message: str) -> None:
    with pytest.raises(KeypointError, match=message) as error:
        read_dlc(save(labels_of(**labels), tmp_path / "a.slp"))
    assert "a.slp" in str(error.value)


def test_of_two_animals_of_one_track_none_is_dropped(tmp_path: Path) -> None:
    seen = {0: ["m1", "m2"], 3: ["m1", "m1"]}
    with pytest.raises(KeypointError, match="has two animals of one track in frame 3: mend its tracks in SLEAP"):
        read_dlc(save(labels_of(seen), tmp_path / "a.slp"))
    labels = labels_of({i: ["m1", "m2"] for i in range(4)})
    labels.labeled_frames[1].frame_idx = 3
    with pytest.raises(KeypointError, match="holds frame 3 more than once"):
        read_dlc(save(labels, tmp_path / "a.slp"))
    predicted, placed = labels_of({2: ["m1", "m2"]}), labels_of({2: ["m1", "m2"]}, by_hand=True)
    for instance, track in zip(placed.labeled_frames[0].instances, predicted.tracks, strict=True):
        instance.track, instance.skeleton = track, predicted.skeletons[0]
    predicted.labeled_frames[0].instances += placed.labeled_frames[0].instances
    assert len(read_dlc(save(predicted, tmp_path / "both.slp")).names) == 2 * len(NODES)


def nwb(path: Path, series: dict[str, dict], videos: tuple[str, ...] = ("a.mp4",)) -> Path:
    """An NWB file as other programs write it: node -> n samples, with its timestamps or its rate and starting_time."""
    from datetime import UTC, datetime

    from ndx_pose import PoseEstimation, PoseEstimationSeries, Skeleton, Skeletons
    from pynwb import NWBHDF5IO, NWBFile

    file = NWBFile("s", "i", datetime(2025, 1, 1, tzinfo=UTC))
    module = file.create_processing_module("behavior", "pose")
    skeleton = Skeleton(name="mouse", nodes=list(series))
    module.add(Skeletons(skeletons=[skeleton]))
    parts = [
        PoseEstimationSeries(
            name=node, description=node, unit="pixels", reference_frame="top left", confidence=np.full(n, SCORE),
            data=np.column_stack([np.arange(n) * X_STEP, np.full(n, 5.0)]), **when,
        )
        for node, (n, when) in series.items()
    ]  # fmt: skip
    pose = PoseEstimation(name="PoseEstimation", pose_estimation_series=parts, skeleton=skeleton, description="d",
                          original_videos=list(videos))  # fmt: skip
    module.add(pose)
    with NWBHDF5IO(str(path), "w") as out:
        out.write(file)
    return path


def test_nwb_of_other_programs_is_read_by_its_clock(tmp_path: Path) -> None:
    times = np.round(np.arange(300) / 29.97, 3)  # milliseconds: no step is the true one
    seen = np.r_[0:100, 250:300]
    table = read_dlc(
        nwb(tmp_path / "a.nwb", {"nose": (300, {"timestamps": times}), "paw": (150, {"timestamps": times[seen]})})
    )
    assert table.names == ("nose", "paw")
    assert table.frames.tolist() == list(range(300))
    assert table.values[:, 0, 0].tolist() == [i * X_STEP for i in range(300)]
    assert np.flatnonzero(~np.isnan(table.values[:, 1, 0])).tolist() == seen.tolist()


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ({"a": (9, {"rate": 30.0, "starting_time": 4.1})}, "begins at 4.100 s, and nothing tells which frame"),
        ({"a": (4, {"timestamps": np.array([0, 0.1, 0.2, 0.35])})}, "not steps of one length"),
        ({"a": (3, {"timestamps": np.array([0, 0.2, 0.1])})}, "do not increase"),
        ({"a": (99, {"rate": 29.0}), "b": (99, {"timestamps": np.arange(99) / 29.97})}, "by which clock"),
    ],
    ids=["another begin", "irregular", "backwards", "two clocks"],
)
def test_nwb_whose_times_do_not_tell_the_frames_is_refused(tmp_path: Path, series: dict, message: str) -> None:
    with pytest.raises(KeypointError, match=message):
        read_dlc(nwb(tmp_path / "a.nwb", series))


def test_nwb_without_pose_is_refused(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from pynwb import NWBHDF5IO, NWBFile

    with NWBHDF5IO(str(tmp_path / "a.nwb"), "w") as out:
        out.write(NWBFile("s", "i", datetime(2025, 1, 1, tzinfo=UTC)))
    with pytest.raises(KeypointError, match="holds no pose"):
        read_dlc(tmp_path / "a.nwb")


@pytest.mark.parametrize("name", ["a.slp", "a.nwb"])
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    whole = save(labels_of({i: ["m1"] for i in range(9)}), tmp_path / name).read_bytes()
    for content in (whole[: len(whole) // 3], b"garbage" * 99):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(KeypointError, match=name) as error:
            read_dlc(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_lightning_pose_table_is_one_of_dlc(tmp_path: Path) -> None:
    """Its ensembles add columns of their own, which are not read."""
    coords = ["x", "y", "likelihood", "x_ens_median", "x_ens_var"]
    rows = [["scorer", *["heatmap_tracker"] * 10], ["bodyparts", *["nose"] * 5, *["paw"] * 5], ["coords", *coords * 2]]
    rows += [[i, i + 1, 2, 0.5, 7, 8, 3, 4, 0.25, 7, 8] for i in range(5)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in rows))
    table = read_dlc(path)
    assert table.names == ("nose", "paw")
    assert table.values[2].tolist() == [[3, 2, 0.5], [3, 4, 0.25]]


@pytest.mark.parametrize(
    "name",
    ["a.slp", "a.mp4.predictions.slp", "a.predictions.analysis.h5", "labels.v001.000_a.analysis.h5", "a.nwb"],
)
def test_exports_are_found_by_the_recordings_name(lab: Lab, name: str) -> None:
    lab.video("a.mp4", 3)
    path = save(labels_of({i: ["m1"] for i in range(3)}), lab.folder / name)
    (found,) = discover(lab.folder, None, None, PreprocessSettings()).recordings
    assert found.dlc == path
    (alone,) = discover(None, None, lab.folder, PreprocessSettings()).recordings
    assert (alone.name, alone.dlc) == ("a", path)


def test_two_trackings_of_a_recording_are_not_chosen_from(lab: Lab) -> None:
    lab.recording("a.mp4", 3)
    save(labels_of({i: ["m1"] for i in range(3)}), lab.folder / "a.slp")
    (skip,) = discover(lab.folder, None, None, PreprocessSettings()).skipped
    assert "tables of several DLC networks" in skip.reason
    (found,) = discover(lab.folder, None, None, PreprocessSettings(dlc_scorer=".slp")).recordings
    assert found.dlc.name == "a.slp"


def test_without_the_extra_the_file_and_the_command_are_named(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.video("a.mp4", 3)
    path = save(labels_of({i: ["m1"] for i in range(3)}), lab.folder / "a.slp")
    (tmp_path / "hidden").mkdir()
    for module in ("sleap_io", "ndx_pose"):
        (tmp_path / "hidden" / f"{module}.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(str(tmp_path / "hidden"))
    h5_table._server._end(h5_table._server._running())  # the reading process learns of the path when it starts
    try:
        with pytest.raises(UnreadableError, match=r"a\.slp needs the sleap extra: pip install 'paw-pipeline\[sleap\]'"):
            read_dlc(path)
        (skip,) = discover(lab.folder, None, None, PreprocessSettings()).skipped
        assert "a.slp needs the sleap extra: pip install" in skip.reason
        assert skip.passing
    finally:
        monkeypatch.undo()
        h5_table._server._end(h5_table._server._running())
    assert os.fspath(discover(lab.folder, None, None, PreprocessSettings()).recordings[0].dlc) == os.fspath(path)
