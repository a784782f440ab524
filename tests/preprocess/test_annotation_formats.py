from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.preprocess.annotation_formats import read_labels
from pipeline.preprocess.annotations import Annotation, AnnotationError
from pipeline.preprocess.clock import Clock
from pipeline.preprocess.stage import check_settings
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import SettingsError

CLASSES = ("rest", "walk", "lick")
FPS = 30
ANYHOW = {
    "suppress_health_check": [HealthCheck.function_scoped_fixture], "max_examples": 40, "deadline": None,
}  # fmt: skip


@pytest.fixture
def read(tmp_path: Path):
    """read_labels of a file with that content, of the recording `a` of n frames at 30 frames/s."""

    def run(content: str | bytes, n: int = 12, fps: float | None = FPS, suffix: str = ".csv", **changes) -> Annotation:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_labels(path, PreprocessSettings(classes=",".join(CLASSES), **changes), "a", lambda: Clock(n, fps))

    return run


def bouts_of(labels: list[int]) -> list[tuple[int, int, int]]:
    """(class, start, stop) of the labelled stretches."""
    edges = [0, *(i for i in range(1, len(labels)) if labels[i] != labels[i - 1]), len(labels)]
    pairs = pairwise(edges)
    return [(labels[start], start, stop) for start, stop in pairs if start < stop and labels[start] >= 0]


def annotator(*streams: list[tuple[int, int, str]]) -> str:
    """A file of the Caltech Behavior Annotator with bouts (first, last, class) of each stream."""
    lines = ["Caltech Behavior Annotator - Annotation File", "", "Configuration file:", "rest\tr", ""]
    for i, bouts in enumerate(streams, start=1):
        lines += [f"S{i}:\tstart\tend\ttype", "-----------------------------"]
        lines += [f"   \t{first}\t{last}\t{name}" for first, last, name in bouts] + ["  "]
    return "\n".join(lines) + "\n"


AGGREGATED = (
    "Observation id,Observation date,Description,Observation type,Source,Time offset (s),Media duration (s),"
    "FPS (frame/s),Subject,Behavior,Behavioral category,Modifiers,Behavior type,Start (s),Stop (s),Duration (s),"
    "Media file name,Image index start,Image index stop,Comment start,Comment stop"
)


def aggregated(*events: tuple[str, object, object], **cells: object) -> str:
    """BORIS 8's aggregated events (behaviour, start s, stop s), each with these cells."""
    rows = []
    for name, start, stop in events:
        row = {
            "id": "one", "offset": "0.000", "duration": "", "fps": FPS, "subject": "No focal subject", "type": "STATE",
            "media": "Videos/a.mp4", "first": "", "last": "", "live": "Media file",
        } | cells  # fmt: skip
        rows.append(
            f"{row['id']},2025-05-01 10:00:00,,{row['live']},player #1:a.mp4,{row['offset']},{row['duration']},"
            f"{row['fps']},{row['subject']},{name},,,{row['type']},{start},{stop},,{row['media']},{row['first']},"
            f"{row['last']},,"
        )
    return "\n".join([AGGREGATED, *rows]) + "\n"


def tabular(*events: tuple[object, str, str], length_s: float = 0.4) -> str:
    """BORIS 7's tabular events (time s, behaviour, status), tabs between, with what stands above them."""
    lines = ["Observation id\tone", "", "Observation date\t2020-01-01", "Description", "Time offset (s)\t0.0", ""]
    lines += ["Time\tMedia file path\tTotal length\tFPS\tSubject\tBehavior\tBehavioral category\tComment\tStatus"]
    media = f"C:\\Videos\\a.avi\t{length_s:.3f}\t30.0"
    lines += [f"{time}\t{media}\tmouse\t{name}\t\t\t{status}" for time, name, status in events]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("content", "labels", "format_"),
    [
        pytest.param("Frame,Action\n0,1\n1,lick\n", [1, 2], "frames", id="an action a frame"),
        pytest.param(",background,walk,lick\n0,1,0,0\n1,0,1,0\n2,0,0,1\n", [-1, 1, 2], "onehot", id="DeepEthogram"),
        pytest.param(
            ",background,walk,rest\n0,-1,-1,-1\n1,0,1,0\n", [-1, 1], "onehot", id="DeepEthogram, not labelled"
        ),
        pytest.param("walk;lick\n0;1.0\n1;0\n", [2, 1], "onehot", id="no column of frames"),
        pytest.param(
            ",Nose_x,Nose_y,Nose_p,Movement,walk,lick\n0,1.5,2,0.9,3,0,1\n1,1.5,2,0.9,3,1,0\n",
            [2, 1],
            "onehot",
            id="SimBA",
        ),
        pytest.param(annotator([(1, 2, "walk"), (4, 4, "lick")]), [1, 1, -1, 2, *[-1] * 8], "bouts", id="bouts"),
        pytest.param(
            aggregated(("walk", "0.000", "0.067"), ("lick", "0.100", "0.400")),
            [1, 1, -1, *[2] * 9],
            "boris",
            id="BORIS, aggregated",
        ),
        pytest.param(
            tabular((0.0, "walk", "START"), (0.067, "walk", "STOP"), (0.1, "lick", "START"), (0.4, "lick", "STOP")),
            [1, 1, -1, *[2] * 9],
            "boris",
            id="BORIS, tabular with what stands above it",
        ),
        pytest.param(
            "Observation id,Subject,Behavior,Behavior type,Time,Media file name,Image index\n"
            "o,,walk,START,0.010,a.mp4,0\no,,walk,STOP,0.099,a.mp4,2\no,,flash,POINT,0.2,a.mp4,6\n",
            [1, 1, *[-1] * 10],
            "boris",
            id="BORIS 8, tabular, by the image index",
        ),
    ],
)
def test_each_format_is_known_by_its_header(read, content: str, labels: list[int], format_: str) -> None:
    for wanted in ("auto", format_):
        found = read(content, annotation_format=wanted)
        assert found.labels.dtype == np.int16
        assert (found.labels.tolist(), found.format) == (labels, format_)


def test_gaps_are_not_labelled_unless_a_class_is_named_and_are_counted(read) -> None:
    texts = {
        "onehot": ",background,walk\n0,1,0\n1,0,1\n2,0,0\n", "bouts": annotator([(2, 2, "walk")]),
        "boris": aggregated(("walk", 1 / FPS, 2 / FPS)),
    }  # fmt: skip
    for content in texts.values():
        found = read(content, n=3)
        assert found.labels.tolist() == [-1, 1, -1]
        assert any("2 of 3 frames have no behaviour: they are not labelled" in note for note in found.notes)
        filled = read(content, n=3, annotation_background="rest")
        assert filled.labels.tolist() == [0, 1, 0]
        assert any("2 of 3 frames have no behaviour: they count as rest" in note for note in filled.notes)
    assert read(",walk,lick\n0,-1,-1\n1,1,0\n", annotation_background="rest").labels.tolist() == [-1, 1]


def test_a_background_must_be_a_class() -> None:
    with pytest.raises(SettingsError, match="--annotation-background sleep: expected one of rest, paw_withdraw"):
        check_settings(PreprocessSettings(annotation_background="sleep"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(",walk,lick\n0,1,1\n", "row 2: walk and lick at once", id="one-hot: two at once"),
        pytest.param(",walk,lick\n0,1,0\n1,2,0\n", "row 3: walk is '2', expected 0 or 1", id="one-hot: a 2"),
        pytest.param(",walk,lick\n0,-1,0\n", "row 2: walk is '-1', expected 0 or 1", id="one-hot: half not labelled"),
        pytest.param(",walk,groom\n0,1,0\n", "columns 'groom' are not in the class list", id="one-hot: no class"),
        pytest.param(",N_x,walk,groom\n0,3,1,0\n", "columns 'groom' are not in the class list", id="SimBA: no class"),
        pytest.param(",walk,walk\n0,1,0\n", "a behaviour has several columns", id="one-hot: a class twice"),
        pytest.param(",walk,lick\n0,1\n", "row 2: 2 cells, expected 3", id="one-hot: cut row"),
        pytest.param(",walk,lick\nx,1,0\n", "row 2: frame number 'x'", id="one-hot: frame"),
        pytest.param(",walk,lick\n", "no rows below a header", id="one-hot: nothing"),
        pytest.param(
            annotator([(1, 3, "walk"), (3, 4, "lick")]),
            r"row 9: lick from 3 to 4 overlaps row 8: walk",
            id="bouts: overlap",
        ),
        pytest.param(annotator([(0, 3, "walk")]), "row 8: a bout from 0 to 3; frames count from 1", id="bouts: from 0"),
        pytest.param(annotator([(3, 2, "walk")]), "row 8: a bout from 3 to 2", id="bouts: backwards"),
        pytest.param(annotator([(1, 2, "groom")]), "row 8: class 'groom' is not in the class list", id="bouts: class"),
        pytest.param(
            annotator([(1, 23, "walk")]),
            "row 8: walk from 1 to 23 runs 11 frames past the recording's end, it has 12: .*--annotation-slack 10",
            id="bouts: beyond the end",
        ),
        pytest.param(
            annotator([(1, 2, "walk")], [(1, 2, "lick")]),
            "several streams, S1, S2: choose one",
            id="bouts: two streams",
        ),
        pytest.param(annotator(), "no bouts below a line", id="bouts: none"),
        pytest.param(
            annotator([(1, 2, "walk")]) + "what\n", "row 10: 'what', expected start, end and type", id="bouts: text"
        ),
        pytest.param(
            aggregated(("walk", 0, 0.2), ("lick", 0.1, 0.3)),
            r"row 3: lick from 0.100 s to 0.300 s overlaps row 2: walk",
            id="BORIS: overlap",
        ),
        pytest.param(
            aggregated(("walk", 0.1, "NA")), "row 2: walk at 0.100 s is never stopped", id="BORIS: not stopped"
        ),
        pytest.param(aggregated(("groom", 0, 0.1)), "row 2: class 'groom' is not in the class list", id="BORIS: class"),
        pytest.param(
            aggregated(("walk", 0, 0.9)),
            "row 2: walk from 0.000 s to 0.900 s runs 15 frames past",
            id="BORIS: beyond the end",
        ),
        pytest.param(
            aggregated(("walk", "soon", 0.9)), r"row 2, column start \(s\): 'soon' is not a number", id="BORIS: time"
        ),
        pytest.param(aggregated(("walk", -0.1, 0.1)), "begins before the recording", id="BORIS: before the begin"),
        pytest.param(
            aggregated(("walk", 0.1, 0.1), type="POINT"), "row 2: walk at 0.100 s is a point event", id="BORIS: point"
        ),
        pytest.param(
            aggregated(("walk", 0.1, 0.2), type="SOMETIMES"),
            "walk is 'SOMETIMES', expected STATE or POINT",
            id="BORIS: kind",
        ),
        pytest.param(aggregated(("walk", 0.1, 0.2), offset="5"), "time offset of 5 s", id="BORIS: offset"),
        pytest.param(
            aggregated(("walk", 0.1, 0.2), live="Live"), "row 2: walk at 0.100 s: a live observation", id="BORIS: live"
        ),
        pytest.param(
            aggregated(("walk", 0.1, 0.2), media="b.mp4"),
            "its events are of the media b; expected a",
            id="BORIS: media",
        ),
        pytest.param(
            aggregated(("walk", 0.1, 0.2), duration=33.3),
            r"its media lasts 33.3 s, the recording 0.4 s",
            id="BORIS: longer media",
        ),
        pytest.param(
            aggregated(("walk", 0.1, 0.2), first=9, last=12),
            "image index 9, but at 0.100 s frame 3 is shown",
            id="BORIS: index against time",
        ),
        pytest.param(tabular((0, "walk", "START")), "row 8: walk at 0.000 s is never stopped", id="BORIS: no STOP"),
        pytest.param(
            tabular((0, "walk", "STOP")), "row 8: walk at 0.000 s stops, but has not been started", id="BORIS: no START"
        ),
        pytest.param(
            tabular((0, "walk", "START"), (0.1, "walk", "START")),
            "row 9: walk at 0.100 s starts, but that of row 8",
            id="BORIS: START twice",
        ),
        pytest.param(AGGREGATED + "\n", "no events below the header", id="BORIS: nothing"),
        pytest.param(
            'Action,Behavior,"Start (s)",Stop (s)\n',
            "line 1: the header of several formats, frames and boris",
            id="two formats",
        ),
        pytest.param("Frame,Doing\n0,1\n", "no column Action", id="no format"),
        pytest.param(b"Caltech Behavior Annotator\n\xe4", "is not UTF-8 text", id="encoding"),
    ],
)
def test_what_is_refused_is_named(read, content: str | bytes, message: str) -> None:
    with pytest.raises(AnnotationError, match=message) as error:
        read(content)
    assert "a.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_another_format_than_the_settings_name_is_refused(read) -> None:
    for wanted, expected in {"boris": "no header of --annotation-format boris", "frames": "no column Action"}.items():
        with pytest.raises(AnnotationError, match=expected):
            read(",walk,lick\n0,1,0\n", annotation_format=wanted)


def test_a_small_overhang_is_cut_and_said(read) -> None:
    found = read(annotator([(1, 15, "walk")]))
    assert found.labels.tolist() == [1] * 12
    assert found.notes == ("a.csv: runs 3 frames past the recording's end, cut there",)
    with pytest.raises(AnnotationError, match="--annotation-slack 2"):
        read(annotator([(1, 15, "walk")]), annotation_slack=2)


def test_a_subject_or_a_stream_is_chosen(read) -> None:
    two = aggregated(("walk", 0, 0.2), subject="m1") + aggregated(("lick", 0, 0.2), subject="m2").split("\n", 1)[1]
    with pytest.raises(AnnotationError, match="several subjects, m1, m2: choose one, --annotation-subject"):
        read(two)
    assert read(two, annotation_subject="m2").labels.tolist() == [2] * 6 + [-1] * 6
    with pytest.raises(AnnotationError, match=r"no event of m3 \(--annotation-subject\), found m1, m2"):
        read(two, annotation_subject="m3")
    streams = annotator([(1, 12, "walk")], [(1, 12, "lick")])
    assert read(streams, annotation_subject="S2").labels.tolist() == [2] * 12
    with pytest.raises(AnnotationError, match="no stream S3"):
        read(streams, annotation_subject="S3")


def test_several_observations_or_media_are_not_mixed(read) -> None:
    here, again = aggregated(("walk", 0, 0.2)), aggregated(("lick", 0.2, 0.4), id="two").split("\n", 1)[1]
    other = aggregated(("lick", 0, 0.2), id="two", media="b.mp4").split("\n", 1)[1]
    assert read(here + other).labels.tolist() == [1] * 6 + [-1] * 6
    with pytest.raises(AnnotationError, match="several observations of a: one, two"):
        read(here + again)
    with pytest.raises(AnnotationError, match="the observation one plays several media files, a and b"):
        read(here + aggregated(("lick", 0, 0.2), media="b.mp4").split("\n", 1)[1])


def test_events_of_no_media_beside_those_of_one_are_not_lost(read) -> None:
    here, nowhere = aggregated(("walk", 0, 0.2)), aggregated(("lick", 0.2, 0.4), media="").split("\n", 1)[1]
    with pytest.raises(AnnotationError, match=r"row 3: lick .*names no media file, others .* name a \(1 such events\)"):
        read(here + nowhere)
    live = aggregated(("lick", 0.2, 0.4), id="live", media="").split("\n", 1)[1]
    assert read(here + live).labels.tolist() == [1] * 6 + [-1] * 6


@pytest.mark.parametrize("empty", [range(5), range(7, 12), [4]], ids=["begin", "end", "middle"])
def test_empty_rows_of_one_hot_are_frames_without_a_label(read, empty) -> None:
    rows = ["," if i in empty else "0,1" for i in range(12)]
    found = read("walk,lick\n" + "\n".join(rows) + "\n\n")
    assert found.labels.tolist() == [-1 if i in empty else 2 for i in range(12)]
    assert [note for note in found.notes if "rows are empty" in note] == (
        ["a.csv: its last 5 rows are empty: they count as frames that are not labelled"] if 11 in empty else []
    )
    numbered = [f"{i},{row}" for i, row in enumerate(rows)]
    for n_end in (1, 12):  # none of these is a frame, also where there are as many of them as of frames
        found = read("frame,walk,lick\n" + "\n".join([*numbered, *[",,"] * n_end]) + "\n")
        assert found.labels.tolist() == [-1 if i in empty else 2 for i in range(12)]
        assert not any("rows are empty" in note for note in found.notes)


def test_times_are_counted_by_the_video_else_by_the_file_else_by_the_setting(read) -> None:
    seconds = aggregated(("walk", 0, 0.2), fps="")
    assert (read(seconds, fps=10).labels == 1).sum() == 2
    with pytest.raises(AnnotationError, match=r"no frame rate to count its time by.*--annotation-fps"):
        read(seconds, fps=None)
    assert (read(seconds, fps=None, annotation_fps=20.0).labels == 1).sum() == 4
    assert (read(aggregated(("walk", 0, 0.2)), fps=None, annotation_fps=20.0).labels == 1).sum() == 6
    found = read(aggregated(("walk", 0, 0.2), first=0, last=6), fps=20)  # the media ran at 30
    assert (found.labels == 1).sum() == 4
    assert any("its media has 30 frames/s, the recording 20: by the times" in note for note in found.notes)


def test_without_a_video_the_image_index_tells_the_frames(read) -> None:
    live = {"live": "Live observation", "media": "NA", "fps": "NA"}
    assert read(aggregated(("walk", 0.1, 0.3), first=3, last=9, **live), fps=None).labels.tolist()[2:10] == [
        -1, *[1] * 6, -1,
    ]  # fmt: skip
    with pytest.raises(AnnotationError, match="a live observation"):
        read(aggregated(("walk", 0.1, 0.3), **live), annotation_fps=30.0)


def test_points_of_other_behaviours_are_said(read) -> None:
    text = aggregated(("walk", 0, 0.4)) + aggregated(("flash", 0.1, 0.1), type="POINT").split("\n", 1)[1]
    assert read(text).notes == ("a.csv: 1 point events (flash) last for no frame, not used",)


def test_a_variable_frame_rate_counts() -> None:
    clock = Clock(4, 2.0, np.array([0.0, 0.1, 0.2, 1.2]))
    assert [clock.frame_at(t) for t in (-0.5, 0.0, 0.06, 0.21, 0.69, 0.71, 1.2, 1.7)] == [-1, 0, 1, 2, 2, 3, 3, 4]


@settings(**ANYHOW)
@given(st.lists(st.integers(-1, 2), min_size=1, max_size=40), st.sampled_from(",;\t"), st.booleans())
def test_one_hot_is_read_as_written(read, labels: list[int], delimiter: str, simba: bool) -> None:
    before = ["", "Nose_x", "Nose_y", "Speed"] if simba else [""]
    rows = [[*before, *CLASSES]]
    rows += [[i, *[1.5] * (len(before) - 1), *(int(label == c) for c in range(3))] for i, label in enumerate(labels)]
    found = read("\n".join(delimiter.join(map(str, row)) for row in rows))
    assert found.labels.tolist() == labels
    assert found.frame_column.tolist() == list(range(len(labels)))


@settings(**ANYHOW)
@given(st.lists(st.integers(-1, 2), min_size=1, max_size=60).filter(lambda labels: max(labels) >= 0), st.randoms())
def test_bouts_are_read_as_written(read, labels: list[int], random) -> None:
    bouts = [(start + 1, stop, CLASSES[label]) for label, start, stop in bouts_of(labels)]
    random.shuffle(bouts)
    assert read(annotator(bouts), n=len(labels)).labels.tolist() == labels


@settings(**ANYHOW)
@given(
    st.lists(st.integers(-1, 2), min_size=1, max_size=200).filter(lambda labels: max(labels) >= 0),
    st.sampled_from([10.0, 25.0, 29.97, 30000 / 1001, 30.0, 60.0, 120.0, 240.0]),
)
def test_boris_times_of_three_decimals_give_back_the_frames(read, labels: list[int], fps: float) -> None:
    events = [(CLASSES[c], f"{start / fps:.3f}", f"{stop / fps:.3f}") for c, start, stop in bouts_of(labels)]
    assert read(aggregated(*events, fps=f"{fps:.3f}"), n=len(labels), fps=fps).labels.tolist() == labels
    pairs = [each for name, start, stop in events for each in ((start, name, "START"), (stop, name, "STOP"))]
    content = tabular(*pairs, length_s=len(labels) / fps)
    assert read(content, n=len(labels), fps=fps).labels.tolist() == labels
