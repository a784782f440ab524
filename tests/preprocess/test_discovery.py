from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from pipeline.preprocess.discovery import Discovery, DiscoveryError, discover
from pipeline.preprocess_settings import PreprocessSettings

HEADER = "scorer,N,N,N\nbodyparts,a,a,a\ncoords,x,y,likelihood\n0,1,2,1\n"


@pytest.fixture
def find(tmp_path: Path):
    """discover() in folders with the named files; tables get a DLC header, other files no content."""

    def run(
        videos: list[str] | None,
        annotations: list[str] | None = None,
        dlc: list[str] | None = None,
        **settings: object,
    ) -> Discovery:
        folders = {}
        for folder, names in (("videos", videos), ("annotations", annotations), ("dlc", dlc)):
            folders[folder] = None if names is None else tmp_path / folder
            for name in names or []:
                (tmp_path / folder).mkdir(exist_ok=True)
                write(tmp_path / folder / name)
            if names is not None:
                (tmp_path / folder).mkdir(exist_ok=True)
        return discover(**folders, settings=PreprocessSettings(**settings))

    return run


def write(path: Path) -> None:
    if path.suffix == ".h5":
        columns = pd.MultiIndex.from_product([["N"], ["a"], ["x", "y", "likelihood"]])
        columns.names = ["scorer", "bodyparts", "coords"]
        pd.DataFrame([[1, 2, 1]], columns=columns).to_hdf(path, key="df")
    else:
        path.write_text(HEADER if path.suffix == ".csv" and not path.name.startswith("prediction_") else "")


def reasons(found: Discovery) -> dict[str, str]:
    return {skip.recording: skip.reason for skip in found.skipped}


def test_recordings_are_sorted_and_have_their_files(find) -> None:
    found = find(
        ["b.AVI", "bDLC_n.csv", "a.mp4", "aDLC_n.csv", "._a.mp4", "._aDLC_n.csv", "aDLC_n_meta.pickle", "notes.txt"],
        ["prediction_a.mp4_2.csv", "prediction_a.mp4_1.csv", "prediction_b.avi.csv", "._prediction_a.mp4_1.csv"],
    )
    assert [recording.name for recording in found.recordings] == ["a", "b"]
    assert [(n, path.name) for n, path in found.recordings[0].annotations] == [
        (1, "prediction_a.mp4_1.csv"),
        (2, "prediction_a.mp4_2.csv"),
    ]
    assert [(n, path.name) for n, path in found.recordings[1].annotations] == [(None, "prediction_b.avi.csv")]
    assert found.skipped == ()


@pytest.mark.parametrize(
    ("tables", "settings", "chosen"),
    [
        pytest.param(["aDLC_n.csv"], {}, "aDLC_n.csv", id="usual"),
        pytest.param(["a.csv"], {}, "a.csv", id="plain name"),
        pytest.param(["a.h5"], {}, "a.h5", id="plain h5"),
        pytest.param(["aDLC_n.csv", "aDLC_n.h5"], {}, "aDLC_n.csv", id="csv before h5"),
        pytest.param(["aDLC_n.csv", "aDLC_n_filtered.csv"], {}, "aDLC_n.csv", id="not filtered"),
        pytest.param(
            ["aDLC_n.csv", "aDLC_n_filtered.csv"], {"prefer_filtered": True}, "aDLC_n_filtered.csv", id="filtered"
        ),
        pytest.param(["aDLC_n.csv"], {"prefer_filtered": True}, "aDLC_n.csv", id="filtered asked, absent"),
        pytest.param(["aDLC_n_el_filtered.csv"], {}, "aDLC_n_el_filtered.csv", id="only filtered"),
        pytest.param(["aDLC_n.h5", "aDLC_n_filtered.csv"], {}, "aDLC_n.h5", id="not filtered before csv"),
        pytest.param(["aDLC_n.csv", "aDLC_m.csv"], {"dlc_scorer": "_m"}, "aDLC_m.csv", id="scorer named"),
        pytest.param(["aDLC_n.csv", "abDLC_n.csv", "a_1DLC_n.csv"], {}, "aDLC_n.csv", id="longer stems"),
    ],
)
def test_which_table_is_read(find, tables: list[str], settings: dict[str, object], chosen: str) -> None:
    for place in ({"videos": ["a.mp4", *tables]}, {"videos": ["a.mp4"], "dlc": tables}):
        (recording,) = find(**place, **settings).recordings
        assert recording.dlc.name == chosen


def test_the_dlc_folder_goes_before_the_videos(find) -> None:
    """Whatever network the table beside the video is of."""
    for beside in ("aDLC_n.csv", "aDLC_other.csv", "aDLC_n_filtered.csv"):
        (recording,) = find(["a.mp4", beside], dlc=["aDLC_n.csv"]).recordings
        assert recording.dlc.parent.name == "dlc"


def test_the_scorer_is_looked_for_after_the_stem(find) -> None:
    found = find(["a_net1.mp4", "a_net1DLC_net1.csv", "a_net1DLC_net2.csv"], dlc_scorer="net1")
    assert [recording.dlc.name for recording in found.recordings] == ["a_net1DLC_net1.csv"]


def test_a_part_of_a_scorers_number_is_not_its_name(find) -> None:
    found = find(["a.mp4", "aDLC_shuffle10_9.csv", "b.mp4", "bDLC_shuffle1_9.csv"], dlc_scorer="shuffle1")
    assert [recording.dlc.name for recording in found.recordings] == ["bDLC_shuffle1_9.csv"]
    assert reasons(found)["a"].startswith("no DLC table has 'shuffle1' (--dlc-scorer) after a")


@pytest.mark.parametrize(
    ("short", "long", "table"),
    [
        pytest.param("a", "aDLC_r", "aDLC_rDLC_q.csv", id="DLC in a name"),
        pytest.param("267M", "CFA.010_267M", "CFA.010_267M.h5", id="as a project of SLEAP's"),
    ],
)
def test_a_table_is_of_one_recording(find, short: str, long: str, table: str) -> None:
    """The one whose name says the most; the other must not have another animal's keypoints."""
    for place in ({"videos": [f"{short}.mp4", f"{long}.mp4", table]}, {"videos": [f"{long}.mp4"], "dlc": [table]}):
        found = find(**place)
        assert [(recording.name, recording.dlc.name) for recording in found.recordings] == [(long, table)]
    assert reasons(found)[short].startswith("no DLC table")


@pytest.mark.parametrize(
    ("content", "reason", "passing"),
    [
        pytest.param(b"", "is empty (0 bytes)", True, id="empty"),
        pytest.param(HEADER.replace("a", "\xe4").encode("latin-1"), "is not UTF-8 text", False, id="latin-1"),
        pytest.param(HEADER[:25].encode(), "has no DLC header", False, id="cut"),
        pytest.param(HEADER.replace(",", ";").encode(), "has no DLC header", False, id="semicolons"),
        pytest.param(
            b"scorer\nbodyparts\ncoords\n0\n", "has a DLC header without any keypoint", False, id="one column"
        ),
    ],
)
@pytest.mark.parametrize("has_video", [True, False])
def test_tables_that_cannot_be_read_are_listed_with_the_true_reason(
    find, tmp_path: Path, has_video: bool, content: bytes, reason: str, passing: bool
) -> None:
    folder = tmp_path / ("videos" if has_video else "dlc")
    folder.mkdir()
    (folder / "aDLC_n.csv").write_bytes(content)
    if has_video:
        (folder / "a.mp4").touch()
    found = find([]) if has_video else find(None, dlc=[])
    (skip,) = found.skipped
    assert (skip.recording, skip.fault, skip.passing) == ("a", True, passing)
    assert f"aDLC_n.csv {reason}" in skip.reason


def test_the_filtered_table_instead_of_one_that_cannot_be_read_is_said(find, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "aDLC_n.csv").write_text("scorer,N\n")
    (recording,) = find(["a.mp4", "aDLC_n_filtered.csv"]).recordings
    assert recording.dlc.name == "aDLC_n_filtered.csv"
    assert "aDLC_n.csv has no DLC header" in recording.notes[0]
    assert recording.notes[0].endswith("aDLC_n_filtered.csv is used")


def test_h5_files_of_two_tables_are_listed(find, tmp_path: Path) -> None:
    find(None, dlc=["aDLC_n.h5"])
    pd.read_hdf(tmp_path / "dlc" / "aDLC_n.h5").to_hdf(tmp_path / "dlc" / "aDLC_n.h5", key="other")
    (skip,) = find(None, dlc=[]).skipped
    assert (skip.recording, skip.fault) == ("a", True)
    assert "aDLC_n.h5: cannot be read as a DLC table" in skip.reason


@pytest.mark.parametrize(
    ("make", "name", "reason"),
    [
        pytest.param(lambda path: path.mkdir(), "b.mp4", "b.mp4 is a folder", id="folder"),
        pytest.param(lambda path: path.symlink_to("nowhere"), "b.mp4", "b.mp4 is a link to what is not", id="link"),
        pytest.param(lambda path: path.touch(), os.fsdecode(b"\xff.mp4"), "name that is not UTF-8", id="name"),
    ],
)
def test_what_only_looks_like_a_video_is_listed(find, tmp_path: Path, make, name: str, reason: str) -> None:
    (tmp_path / "videos").mkdir()
    try:
        make(tmp_path / "videos" / name)
    except OSError:
        pytest.skip("this file system has no such names")
    found = find(["a.mp4", "a.csv"])
    assert [recording.name for recording in found.recordings] == ["a"]
    (skip,) = found.skipped
    assert skip.fault
    assert reason in skip.reason
    skip.recording.encode()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_link_into_a_closed_folder_is_listed(find, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "b.mp4").symlink_to(closed / "b.mp4")
    closed.chmod(0)
    try:
        (skip,) = find(["a.mp4", "a.csv"]).skipped
    finally:
        closed.chmod(0o700)
    assert "Permission denied" in skip.reason


@pytest.mark.parametrize(
    ("videos", "settings", "reason"),
    [
        pytest.param(["a.mp4"], {}, "no DLC table aDLC_*.csv", id="no table"),
        pytest.param(["a.mp4", "prediction_x.csv"], {}, "no DLC table", id="other csv"),
        pytest.param(["a.mp4", "a.mkv", "a.csv"], {}, "several videos of this name: a.mkv, a.mp4", id="two videos"),
        pytest.param(
            ["a.mp4", "aDLC_n.csv", "aDLC_m.csv"],
            {},
            "several DLC networks: aDLC_m.csv, aDLC_n.csv; choose one by a part of its name: --dlc-scorer",
            id="two networks",
        ),
        pytest.param(["a.mp4", "aDLC_n.csv"], {"dlc_scorer": "x"}, "has 'x' (--dlc-scorer)", id="no such scorer"),
    ],
)
def test_recordings_that_are_skipped(find, videos: list[str], settings: dict[str, object], reason: str) -> None:
    found = find(videos, ["prediction_a.mp4_1.csv"], **settings)
    assert found.recordings == ()
    assert reason in reasons(found)["a"]
    assert list(reasons(found)) == ["a"]


def test_a_table_without_a_dlc_header_is_named(find, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.csv").write_text("time,event\n1,2\n")
    with pytest.raises(DiscoveryError):
        find([])
    (tmp_path / "videos" / "a.mp4").touch()
    assert "a.csv has no DLC header" in reasons(find([]))["a"]


def test_labelled_copies_are_no_fault(find) -> None:
    found = find(["a.mp4", "aDLC_n.csv", "aDLC_n_labeled.mp4"])
    assert [recording.name for recording in found.recordings] == ["a"]
    assert [(skip.recording, skip.fault) for skip in found.skipped] == [("aDLC_n_labeled", False)]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("prediction_a_1.csv", "belongs to no video here; expected prediction_<video file name with extension>"),
        ("prediction_b.mp4_1.csv", "belongs to no video here"),
        ("prediction_a.mp4_x.csv", "belongs to no video here"),
        ("prediction_a.mp4_20231025123000.csv", "belongs to no video here"),
        ("prediction_a.mp4_1_.csv", "belongs to no video here"),
    ],
)
def test_annotations_of_nothing_are_listed(find, name: str, reason: str) -> None:
    found = find(["a.mp4", "a.csv"], [name])
    assert reason in reasons(found)[name]
    assert found.recordings[0].annotations == ()


def test_other_tables_among_the_annotations(find, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "folds.csv").write_text("a,b\n")
    found = find(["a.mp4", "a.csv"], ["aDLC_n.csv"])
    assert [(skip.recording, skip.fault) for skip in found.skipped] == [("folds.csv", False)]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("prediction_a.mp4_1.xlsx", "PK", "an annotation that is no text: save it as CSV"),
        ("Prediction_a.mp4_1.csv.gz", "", "an annotation that is no text: save it as CSV"),
        ("Prediction_a.mp4_1.tsv", "Frame\tAction\n0\t1\n", "its name does not begin with prediction_"),
        ("annotation_a.mp4_1.txt", "Frame,Action\n0,1\n", "its name does not begin with prediction_"),
    ],
)
def test_annotations_that_are_not_read_are_listed(find, tmp_path: Path, name: str, content: str, reason: str) -> None:
    find(["a.mp4", "aDLC_n.csv"], [])
    (tmp_path / "annotations" / name).write_text(content)
    (tmp_path / "annotations" / "notes.txt").write_text("a mouse")
    (tmp_path / "annotations" / "weights.xlsx").write_text("PK")
    found = find(["a.mp4", "aDLC_n.csv"], [])
    (skip,) = found.skipped
    assert skip.recording == name
    assert reason in skip.reason


def test_names_that_end_in_a_number(find) -> None:
    found = find(
        ["m.mp4", "m.csv", "m_2.mp4", "m_2.csv"],
        ["prediction_m.mp4_2.csv", "prediction_m_2.mp4.csv", "prediction_m_2.mp4_1.csv"],
    )
    by_name = {r.name: [(n, p.name) for n, p in r.annotations] for r in found.recordings}
    assert by_name == {
        "m": [(2, "prediction_m.mp4_2.csv")],
        "m_2": [(None, "prediction_m_2.mp4.csv"), (1, "prediction_m_2.mp4_1.csv")],
    }


def test_without_videos_the_tables_make_the_recordings(find) -> None:
    found = find(
        None,
        ["prediction_r1_1.csv", "prediction_r2.csv", "prediction_r3.mp4_1.csv"],
        ["r1DLC_x_DLC_y_el_filtered.csv", "r2.h5", "r3DLC_n.csv"],
    )
    assert [(r.name, r.video, r.dlc.name) for r in found.recordings] == [
        ("r1", None, "r1DLC_x_DLC_y_el_filtered.csv"),
        ("r2", None, "r2.h5"),
        ("r3", None, "r3DLC_n.csv"),
    ]
    assert [[n for n, _ in r.annotations] for r in found.recordings] == [[1], [None], [1]]
    assert found.skipped == ()


def test_a_name_that_means_two_recordings_is_not_guessed(find) -> None:
    found = find(None, ["prediction_m_2.csv"], ["m.csv", "m_2.csv"])
    assert "its name means both" in reasons(found)["prediction_m_2.csv"]
    assert [r.annotations for r in found.recordings] == [(), ()]


def test_tables_without_a_video_are_listed(find) -> None:
    found = find(["a.mp4", "a.csv", "bDLC_n.csv"])
    assert [(skip.recording, skip.fault) for skip in found.skipped] == [("bDLC_n.csv", False)]


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({"videos": []}, "no video"),
        ({"videos": None, "dlc": []}, "no DLC table"),
        ({"videos": None}, "give --videos, or --dlc"),
    ],
)
def test_nothing_to_do_is_an_error(find, folders: dict[str, list[str] | None], message: str) -> None:
    with pytest.raises(DiscoveryError, match=message):
        find(**folders)


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DiscoveryError, match="nowhere: no such folder"):
        discover(tmp_path / "nowhere", None, None, PreprocessSettings())


def test_tables_of_several_networks_are_said(find) -> None:
    """Each network errs in its own way; a recording alone does not show it."""
    net, other = "DLC_resnet50_pawMay7shuffle1_500000", "DLC_resnet50_pawJun1shuffle2_500000"
    videos = ["a.mp4", f"a{net}.csv", "b.mp4", f"b{net}.h5", "c.mp4", f"c{other}.csv", "d.mp4", "d.csv"]
    (warning,) = find(videos).warnings
    assert f"several networks: {net} (2 recordings: a, b); {other} (1 recording: c)." in warning
    found = find(videos, dlc_scorer="May7")
    assert found.warnings == ()
    assert "c" in reasons(found)


def test_filtered_tables_among_others_are_said(find) -> None:
    videos = ["a.mp4", "aDLC_n.csv", "b.mp4", "bDLC_n_filtered.csv", "c.mp4", "cDLC_n.csv", "cDLC_n_filtered.csv"]
    videos += ["d_filtered.mp4", "d_filtered.csv"]  # a name that tells no network tells nothing
    (warning,) = find(videos).warnings
    assert "not (2 recordings: a, c); filtered by DLC (_filtered) (1 recording: b)" in warning
    (warning,) = find(videos, prefer_filtered=True).warnings
    assert "filtered by DLC (_filtered) (2 recordings: b, c); not (1 recording: a)" in warning


def test_what_lies_in_subfolders_is_said(find, tmp_path: Path) -> None:
    videos, settings = tmp_path / "videos", PreprocessSettings()
    for name in ("day2/b.mp4", "day2/bDLC_n.csv", "day1/prediction_a.mp4_1.csv", "plots/a.png", "out/trials.csv"):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        (videos / name).touch()
    (warning,) = find(["a.mp4", "aDLC_n.csv"]).warnings
    assert "videos: 2 files in its subfolders are not read (day2); " in warning
    (warning,) = discover(videos, videos, None, settings).warnings  # annotations are looked for as well
    assert "3 files in its subfolders are not read (day1, day2)" in warning
    (warning,) = discover(videos, videos / "day1", None, settings).warnings  # what is given is read
    assert "2 files in its subfolders are not read (day2)" in warning
    with pytest.raises(DiscoveryError, match=r"/out: no video .* in this folder$"):
        discover(videos / "out", None, None, settings)
    with pytest.raises(DiscoveryError, match=r"no video .* in this folder; .*: 2 files in its subfolders .*videos"):
        discover(tmp_path, None, None, settings)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights")
def test_links_that_cannot_be_followed_are_no_reason_to_stop(find, tmp_path: Path) -> None:
    videos = ["a.mp4", "aDLC_n.csv"]
    find(videos)
    (tmp_path / "videos" / "loop").symlink_to(tmp_path / "videos" / "loop")
    (tmp_path / "videos" / "nowhere").symlink_to(tmp_path / "nowhere")
    found = find(videos)
    assert ([recording.name for recording in found.recordings], found.warnings) == (["a"], ())


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_umlaut_is_the_same_however_a_computer_writes_it(find, form: str) -> None:
    """macOS takes it apart, others do not; what passed through both has one video in two spellings."""
    video, table, annotation = (unicodedata.normalize(one, "Mäuse_1") for one in (form, "NFC", "NFD"))
    found = find([f"{video}.mp4", f"{table}DLC_n.csv"], [f"prediction_{annotation}.mp4_2.csv"])
    (recording,) = found.recordings
    assert recording.name == video
    assert recording.dlc.name == f"{table}DLC_n.csv"
    assert [trial for trial, _ in recording.annotations] == [2]
    assert found.skipped == ()
