from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

import cache as clip_cache
from pipeline.preprocess.probe import decord
from pipeline.preprocess.seen import SEEN_FILE
from pipeline.preprocess.stage import Report, preprocess, work_until_commit_s
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import SettingsError

SIDE = 64
N_CLASSES = 1200
CLASSES = ",".join(f"frame{i}" for i in range(N_CLASSES))  # a label is the number of its frame
X_STEP, WIDTH = 0.0625, 128
needs_decord = pytest.mark.skipif(decord is None, reason="decord has no wheel for this machine")


def run(cache: Path, videos: Path | None, progress=None, annotations: Path | None = None, **settings) -> Report:
    """preprocess() of one folder that holds everything."""
    resolved = PreprocessSettings(**({"img_size": SIDE, "classes": CLASSES} | settings))
    return preprocess(resolved, cache=cache, videos=videos, annotations=annotations or videos, progress=progress)


def annotate(lab, name: str, trials: dict[int, int]) -> None:
    """Annotations of trial -> rows, whose labels are the numbers of their frames."""
    for trial, rows in trials.items():
        first = 360 * (trial - 1) + 360 - rows
        lab.annotation(f"{name}_{trial}", range(first, first + rows), first=(360 - rows) * (trial % 2))


VFR_MS = np.cumsum(np.arange(720) % 7 * 9 + 5)


def check_alignment(lab, clip: clip_cache.Clip, offset: int, hidden: int = 0) -> None:
    """Every frame, keypoint row and label row of a clip is 360 (n - 1) + offset + i, and its time fits."""
    expected = 360 * (clip.trial - 1) + offset + np.arange(clip.n_frames)
    np.testing.assert_array_equal(lab.numbers(clip.frames[:]), expected + hidden)
    np.testing.assert_array_equal(clip.frame_index, expected)
    np.testing.assert_allclose(clip.keypoints[:, 0, 0] * WIDTH / X_STEP, expected, atol=1e-2)
    times = (VFR_MS - VFR_MS[0]) / 1000 if clip.recording == "vfr_2" else np.arange(1200) / 30
    np.testing.assert_allclose(clip.time_s, times[expected], atol=1e-3)
    if clip.labels[0] >= 0:
        np.testing.assert_array_equal(clip.labels, expected)


@pytest.fixture(scope="session")
def shared(make_lab):
    """Recordings of several trials, 345 and 360 rows mixed, in kinds of files that are easy to get wrong."""
    lab = make_lab("shared")
    lab.recording("a_2023_267M.mp4", 1085)
    annotate(lab, "a_2023_267M.mp4", {1: 345, 2: 360, 3: 345})
    lab.recording("vfr_2.mp4", 720, times_ms=VFR_MS)
    annotate(lab, "vfr_2.mp4", {1: 360, 2: 345})
    return lab


@pytest.mark.parametrize("store", ["zarr", "hdf5"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("decoder", [pytest.param("decord", marks=needs_decord), "pyav"])
def test_frames_keypoints_and_labels_stand_together(
    shared, tmp_path: Path, store: str, channels: int, decoder: str
) -> None:
    report = run(tmp_path / "cache", shared.folder, store=store, channels=channels, decoder=decoder)
    assert report.exit_code == 0, report.skipped
    clips = {(clip.recording, clip.trial): clip for clip in clip_cache.open(tmp_path / "cache")}
    offsets = {("a_2023_267M", 1): 15, ("a_2023_267M", 2): 0, ("a_2023_267M", 3): 15, ("vfr_2", 1): 0, ("vfr_2", 2): 15}
    assert list(clips) == list(offsets)
    for key, clip in clips.items():
        assert clip.frames.shape == (360 - offsets[key], SIDE, SIDE, channels)
        assert clip.labels[0] >= 0
        assert (clip.source["decoder"], clip.source["crop_start"]) == (decoder, offsets[key])
        check_alignment(shared, clip, offsets[key])


def test_it_also_holds_where_frames_are_hidden_or_files_are_old(lab, tmp_path: Path) -> None:
    source = lab.video("source.mp4", 400)
    lab.cut(source, "cut.mp4", 25)
    source.unlink()
    lab.dlc("cut", 375)
    annotate(lab, "cut.mp4", {1: 345})
    lab.recording("old.avi", 725, codec="mpeg4", options={"bf": "2"})
    annotate(lab, "old.avi", {2: 345})
    lab.recording("bare.mkv", 365)
    report = run(tmp_path / "cache", lab.folder)
    bare, cut, old = clip_cache.open(tmp_path / "cache")
    check_alignment(lab, bare, 0)
    assert (bare.labels == -1).all()
    check_alignment(lab, cut, 15, hidden=25)
    assert cut.labels[0] == 15
    check_alignment(lab, old, 15)
    assert old.trial == 2
    notes = {row.recording: row.notes for row in report.recordings}
    assert any("trial 1" in note and "without an annotation" in note for note in notes["old"])
    assert notes["bare"] == ()
    assert [(skip.recording, skip.trial, skip.fault) for skip in report.skipped] == [("bare", 2, False)]
    assert {row.decoder for row in report.recordings} == {"pyav"}


def test_keypoints_go_by_frame_number_not_by_row(lab, tmp_path: Path) -> None:
    lab.video("a.mp4", 361)
    lab.dlc("a", [i for i in range(363) if i not in (3, 100)], empty=[0, 1, 50])
    report = run(tmp_path / "cache", lab.folder)
    (clip,) = clip_cache.open(tmp_path / "cache")
    missing = [0, 1, 3, 50, 100]
    assert np.isnan(clip.keypoints[missing]).all()
    present = np.setdiff1d(np.arange(360), missing)
    np.testing.assert_allclose(clip.keypoints[present, 0, 0] * WIDTH / X_STEP, present, atol=1e-2)
    assert any("has 361 rows (frames 0 to 362), the video 361 frames" in note for note in report.recordings[0].notes)


@pytest.mark.parametrize("lag", [3, -2])
def test_a_lag_moves_the_keypoints_and_nothing_else(one, tmp_path: Path, lag: int) -> None:
    run(tmp_path / "cache", one.folder)
    before = clip_cache.open(tmp_path / "cache")
    kept = [(clip.frames[:], clip.labels) for clip in before]
    parts: list[float] = []  # of the recording, by its decoded frames
    (row,) = run(tmp_path / "cache", one.folder, lambda *step: parts.append(step[1] % 1), dlc_lag=lag).recordings
    assert (row.state, any(parts)) == ("keypoints", False)
    for (frames, labels), new in zip(kept, clip_cache.open(tmp_path / "cache"), strict=True):
        rows = new.frame_index + lag
        np.testing.assert_allclose(
            new.keypoints[:, 0, 0] * WIDTH / X_STEP, np.where(rows >= 0, rows, np.nan), atol=1e-2
        )
        np.testing.assert_array_equal(new.frames[:], frames)
        np.testing.assert_array_equal(new.labels, labels)
    assert [r.state for r in run(tmp_path / "cache", one.folder).recordings] == ["keypoints"]
    assert clip_cache.open(tmp_path / "cache").fingerprint == before.fingerprint


def test_rows_that_a_lag_asks_for_and_the_table_lacks_are_missing(lab, tmp_path: Path) -> None:
    lab.recording("a.mp4", 360)
    run(tmp_path / "cache", lab.folder, dlc_lag=5)
    (clip,) = clip_cache.open(tmp_path / "cache")
    assert np.isnan(clip.keypoints[-5:]).all()
    assert not np.isnan(clip.keypoints[:-5]).any()


@pytest.mark.parametrize(
    ("n_rows", "slack", "used"), [(370, 10, True), (371, 10, False), (371, 11, True), (349, 10, False)]
)
def test_tables_longer_or_shorter_than_the_video(lab, tmp_path: Path, n_rows: int, slack: int, used: bool) -> None:
    lab.video("a.mp4", 360)
    lab.dlc("a", n_rows)
    report = run(tmp_path / "cache", lab.folder, dlc_slack=slack)
    assert len(report.recordings) == used
    if not used:
        assert f"the DLC table has {n_rows} rows (frames 0 to {n_rows - 1}), the video 360" in report.skipped[0].reason
        assert report.exit_code == 3


@pytest.fixture
def one(lab):
    """One annotated recording of two trials."""
    lab.recording("a.mp4", 725)
    annotate(lab, "a.mp4", {1: 345, 2: 360})
    return lab


def change_labels(lab) -> None:
    lab.annotation("a.mp4_1", [7] * 345)


def change_table(lab) -> None:
    path = next(lab.folder.glob("a*DLC*.csv"))
    path.write_text(path.read_text().replace(",0.99", ",0.5"))


def change_video(lab) -> None:
    lab.video("a.mp4", 725, options={"crf": "30"})


def change_length(lab) -> None:
    lab.video("a.mp4", 726)


def add_rows(lab) -> None:
    annotate(lab, "a.mp4", {1: 360})


@pytest.mark.parametrize(
    ("change", "settings", "state"),
    [
        pytest.param(lambda lab: None, {}, "fresh", id="nothing"),
        pytest.param(change_labels, {}, "labels", id="labels"),
        pytest.param(change_table, {}, "keypoints", id="table"),
        pytest.param(change_video, {}, "frames", id="video"),
        # The labels' note says which frames come after the last whole trial.
        pytest.param(change_length, {}, "frames+keypoints+labels", id="length"),
        pytest.param(add_rows, {}, "frames+keypoints+labels", id="other crop"),
        pytest.param(lambda lab: None, {"img_size": 80}, "frames", id="img_size"),
        pytest.param(lambda lab: None, {"channels": 3}, "frames", id="channels"),
        pytest.param(lambda lab: None, {"decoder": "decord"}, "frames", id="decoder", marks=needs_decord),
        pytest.param(lambda lab: None, {"classes": CLASSES + ",more"}, "labels", id="classes"),
        pytest.param(lambda lab: None, {"dlc_slack": 5}, "keypoints", id="dlc_slack"),
    ],
)
@pytest.mark.parametrize("store", ["zarr", "hdf5"])
def test_only_what_changed_is_made_again(one, tmp_path: Path, change, settings, state: str, store: str) -> None:
    assert [row.state for row in run(tmp_path / "cache", one.folder, store=store).recordings] == ["new"]
    before = clip_cache.open(tmp_path / "cache")
    old_frames, old_print = before[1].frames[:], before.fingerprint
    change(one)
    parts: list[float] = []  # of a recording, by its decoded frames
    report = run(
        tmp_path / "cache", one.folder, lambda name, done, total: parts.append(done % 1), store=store, **settings
    )
    assert [row.state for row in report.recordings] == [state]
    assert any(parts) is ("frames" in state)
    after = clip_cache.open(tmp_path / "cache")
    assert (after.fingerprint == old_print) is (state == "fresh")
    if "frames" not in state:
        np.testing.assert_array_equal(after[1].frames[:], old_frames)
    anew = tmp_path / "anew"
    run(anew, one.folder, store=store, **settings)
    for made_again, made_anew in zip(after, clip_cache.open(anew), strict=True):
        np.testing.assert_array_equal(made_again.frames[:], made_anew.frames[:])
        for name in ("keypoints", "labels", "frame_index", "time_s", "intact"):
            np.testing.assert_array_equal(getattr(made_again, name), getattr(made_anew, name))
        assert made_again.source == made_anew.source


def test_bad_recordings_are_listed_and_the_others_go_on(one, tmp_path: Path) -> None:
    (one.folder / "text.mp4").write_text("not a video")
    one.dlc("text", 10)
    for name, n_frames, share in (("short", 500, 0.85), ("stub", 400, 0.5)):
        path = one.recording(f"{name}.mp4", n_frames, container={"movflags": "faststart"})
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    one.recording("cells.mp4", 360)
    table = next(one.folder.glob("cellsDLC*.csv"))
    table.write_text(table.read_text().replace("\n5,", "\n5,oops,", 1))
    one.video("alone.mp4", 20)
    one.annotation("a.mp4_3", [0] * 360)
    report = run(tmp_path / "cache", one.folder)
    reasons = {(skip.recording, skip.trial): skip.reason for skip in report.skipped}
    bad = [("a", 3), ("alone", None), ("cells", None), ("short", None), ("stub", None), ("stub", 1), ("text", None)]
    assert list(reasons) == bad
    assert "its frames 720 to 1079 run past the recording's end, it has 725" in reasons["a", 3]
    assert "no DLC table" in reasons["alone", None]
    assert "row 9: 11 cells, expected 10" in reasons["cells", None]
    assert "the DLC table has 500 rows" in reasons["short", None]
    assert "its header lists 500 frames" in reasons["short", None]
    assert "too short" in reasons["stub", 1]
    assert "its header lists 400 frames" in reasons["stub", None]
    assert "cannot be read as a video" in reasons["text", None]
    assert (report.n_bad, report.exit_code) == (6, 3)
    cache = clip_cache.open(tmp_path / "cache")
    assert [(clip.recording, clip.trial) for clip in cache] == [("a", 1), ("a", 2)]
    assert sorted(cache.skipped["reason"]) == sorted(reasons.values())


def damage_video(path: Path, first: int, n_bytes: int = 30) -> None:
    """Overwrite the beginning of the packet of frame `first` and leave all else as it is."""
    with av.open(str(path)) as container:
        packet = sorted((p for p in container.demux(video=0) if p.size), key=lambda p: p.pts)[first]
        place = packet.pos + 4
    content = bytearray(path.read_bytes())
    content[place : place + n_bytes] = bytes(n_bytes)
    path.write_bytes(bytes(content))


DAMAGE_OPTIONS = {"g": "48", "bf": "2", "x264-params": "scenecut=0"}  # a key frame every 48 frames


@pytest.fixture
def damaged(lab):
    """Two annotated trials; in the first the packet of frame 100 is damaged: 12 % of its frames are lost at most."""
    damage_video(lab.recording("a.mp4", 725, options=DAMAGE_OPTIONS), 100)
    annotate(lab, "a.mp4", {1: 345, 2: 360})
    return lab


@pytest.mark.parametrize("store", ["zarr", "hdf5"])
def test_damaged_frames_are_marked_and_the_others_used(damaged, tmp_path: Path, store: str) -> None:
    report = run(tmp_path / "cache", damaged.folder, store=store, max_damaged=0.2)
    (row,) = report.recordings
    (note,) = [note for note in row.notes if "damaged (frames" in note]
    found = re.fullmatch(
        r"(\d+) of 705 frames are damaged \(frames (\d+) to 143\): left out of training and scores", note
    )
    n_damaged, first = map(int, found.groups())
    assert n_damaged == 144 - first
    assert 97 <= first <= 100
    clips = list(clip_cache.open(tmp_path / "cache"))
    assert (clips[0].frame_index[~clips[0].intact] == np.arange(first, 144)).all()
    assert clips[1].intact.all()
    assert not clips[0].frames[:][~clips[0].intact].any()
    for clip, offset in zip(clips, (15, 0), strict=True):
        expected = 360 * (clip.trial - 1) + offset + np.arange(len(clip))
        np.testing.assert_array_equal(damaged.numbers(clip.frames[:][clip.intact]), expected[clip.intact])
        np.testing.assert_array_equal(clip.labels, expected)
        np.testing.assert_allclose(clip.keypoints[:, 0, 0] * WIDTH / X_STEP, expected, atol=1e-2)
    again = run(tmp_path / "cache", damaged.folder, store=store, max_damaged=0.2)
    assert ([row.state for row in again.recordings], again.recordings[0].notes) == (["fresh"], row.notes)
    change_labels(damaged)
    (row_labels,) = run(tmp_path / "cache", damaged.folder, store=store, max_damaged=0.2).recordings
    assert (row_labels.state, note in row_labels.notes) == ("labels", True)
    np.testing.assert_array_equal(clip_cache.open(tmp_path / "cache")[0].intact, clips[0].intact)


def test_trials_that_are_too_damaged_are_skipped_alone(damaged, tmp_path: Path) -> None:
    parts: list[float] = []  # of the recording, by its decoded frames

    def states(max_damaged: float) -> tuple[list[str], list[int], list[str]]:
        parts.clear()
        report = run(
            tmp_path / "cache",
            damaged.folder,
            lambda name, done, total: parts.append(done % 1),
            max_damaged=max_damaged,
        )
        clips = list(clip_cache.open(tmp_path / "cache"))
        for clip in clips:
            expected = 360 * (clip.trial - 1) + (15, 0)[clip.trial - 1] + np.arange(len(clip))
            np.testing.assert_array_equal(damaged.numbers(clip.frames[:][clip.intact]), expected[clip.intact])
            np.testing.assert_array_equal(clip.labels, expected)
        assert clip_cache.open(tmp_path / "cache").skipped["reason"].tolist() == [s.reason for s in report.skipped]
        return (
            [row.state for row in report.recordings],
            [clip.trial for clip in clips],
            [s.reason for s in report.skipped],
        )

    for state in ("new", "fresh"):
        said, trials, reasons = states(0.1)
        assert (said, trials) == ([state], [2])
        assert re.fullmatch(
            r"4\d of its 345 frames are damaged, more than a share of 0.1 \(--max-damaged\)", reasons[0]
        )
        assert any(parts) is (state == "new")
    annotate(damaged, "a.mp4", {2: 360})
    assert states(0.2) == (["frames"], [1, 2], [])
    assert states(0.3)[0] == ["fresh"]
    assert not any(parts)
    assert states(0.1)[:2] == (["frames"], [2])


def test_a_recording_of_nothing_but_damaged_trials_is_left_out(lab, tmp_path: Path) -> None:
    path = lab.recording("a.mp4", 360, options=DAMAGE_OPTIONS | {"g": "400"})
    assert len(run(tmp_path / "cache", lab.folder).recordings) == 1
    damage_video(path, 100)
    report = run(tmp_path / "cache", lab.folder)
    assert (report.recordings, report.exit_code) == ((), 3)
    assert re.match(r"26\d of its 360 frames are damaged", report.skipped[0].reason)
    assert len(clip_cache.open(tmp_path / "cache")) == 0


@needs_decord
def test_decord_alone_refuses_damaged_frames(damaged, tmp_path: Path) -> None:
    report = run(tmp_path / "cache", damaged.folder, decoder="decord")
    assert report.recordings == ()
    assert "a.mp4" in report.skipped[0].reason


@needs_decord
def test_decord_alone_refuses_what_it_would_get_wrong(lab, tmp_path: Path) -> None:
    lab.cut(lab.video("source.mp4", 400), "cut.mp4", 25)
    lab.dlc("cut", 375)
    (lab.folder / "source.mp4").unlink()
    report = run(tmp_path / "cache", lab.folder, decoder="decord")
    assert report.recordings == ()
    assert "an edit list hides some of its frames; use --decoder auto" in report.skipped[0].reason


def test_recordings_whose_files_are_gone_stay(one, tmp_path: Path) -> None:
    one.recording("b.mp4", 360)
    run(tmp_path / "cache", one.folder)
    (one.folder / "b.mp4").rename(tmp_path / "b.mp4")
    states = {row.recording: row.state for row in run(tmp_path / "cache", one.folder).recordings}
    assert states == {"a": "fresh", "b": "removed"}
    assert len(clip_cache.open(tmp_path / "cache")) == 3


def test_trials_that_were_skipped_stay_listed_with_their_recording(one, tmp_path: Path) -> None:
    one.annotation("a.mp4_2", [0] * 100)
    one.recording("b.mp4", 360)
    run(tmp_path / "cache", one.folder)
    listed = clip_cache.open(tmp_path / "cache").skipped
    assert listed["trial"].tolist() == [2]
    (one.folder / "a.mp4").rename(tmp_path / "a.mp4")
    for _ in range(2):
        run(tmp_path / "cache", one.folder)
        assert listed["reason"][0] in clip_cache.open(tmp_path / "cache").skipped["reason"].tolist()


@pytest.mark.parametrize(
    "file", ["a.mp4", "a.mp4 as link", "aDLC_resnet50_testMay7shuffle1_500.csv", "prediction_a.mp4_1.csv"]
)
def test_what_cannot_be_read_now_leaves_the_cache_as_it_is(one, tmp_path: Path, file: str) -> None:
    run(tmp_path / "cache", one.folder)
    before = clip_cache.open(tmp_path / "cache").fingerprint
    path = one.folder / file.removesuffix(" as link")
    path.unlink()
    if file.endswith("link"):
        path.symlink_to(tmp_path / "away")
    else:
        path.touch()
    report = run(tmp_path / "cache", one.folder)
    assert [row.state for row in report.recordings] == ["kept"]
    assert report.skipped[0].reason.startswith("kept as it was: ")
    assert path.name in report.skipped[0].reason
    assert report.exit_code == 3
    assert clip_cache.open(tmp_path / "cache").fingerprint == before


def test_an_old_version_that_is_damaged_is_decoded_anew(one, tmp_path: Path) -> None:
    run(tmp_path / "cache", one.folder)
    next((tmp_path / "cache" / "recordings").glob("a.*/frames/c/*/*/*/*")).unlink()
    change_labels(one)
    assert [row.state for row in run(tmp_path / "cache", one.folder).recordings] == ["frames+labels"]
    check_alignment(one, clip_cache.open(tmp_path / "cache")[1], 0)


def test_a_folder_that_moved_is_named_anew_and_nothing_made_again(one, tmp_path: Path) -> None:
    run(tmp_path / "cache", one.folder)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "recordings").rglob("*")}
    moved = one.folder.rename(tmp_path / "moved")
    assert [row.state for row in run(tmp_path / "cache", moved, min_frames=340).recordings] == ["fresh"]
    clip = clip_cache.open(tmp_path / "cache")[0]
    assert {str(Path(clip.source[name]).parent) for name in ("video", "dlc", "annotation")} == {str(moved)}
    assert clip.meta.settings["min_frames"] == 340
    assert clip.frames[0:1].shape == (1, SIDE, SIDE, 1)
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "recordings").rglob("*")}


# Another value, and what is then made again of a recording of 130 frames in trials of 80, with a table of each kind.
FRESHNESS = {
    "trial_frames": (100, "frames+keypoints+labels"),
    "min_frames": (40, "frames+keypoints+labels"),
    "crops": ("70=5", "frames+keypoints+labels"),
    "img_size": (80, "frames"),
    "channels": (3, "frames"),
    "classes": (CLASSES + ",more", "labels"),
    # Not of files with an action for each frame; of others see test_a_setting_that_decides_the_labels_makes_these_...
    "annotation_format": ("frames", "fresh"),
    "annotation_background": (CLASSES.split(",")[0], "fresh"),
    "annotation_subject": ("m1", "fresh"),
    "annotation_slack": (3, "fresh"),
    "annotation_fps": (30.0, "fresh"),
    "prefer_filtered": (True, "keypoints"),
    "dlc_scorer": ("filtered", "keypoints"),
    "dlc_slack": (5, "keypoints"),
    "dlc_lag": (2, "keypoints"),
    "max_damaged": (0.5, "fresh"),  # none is damaged; where some are: test_trials_that_are_too_damaged_...
    "frame_size": ("100x100", "fresh"),
    "store": ("hdf5", None),
    "compression": ("none", "compression"),
    "decoder": ("decord", "frames"),
}


def test_every_setting_has_its_effect_written_down() -> None:
    assert set(FRESHNESS) == {field.name for field in dataclasses.fields(PreprocessSettings)}


@pytest.mark.parametrize(
    "setting", [pytest.param(name, marks=needs_decord) if name == "decoder" else name for name in FRESHNESS]
)
def test_what_a_setting_makes_stale(lab, tmp_path: Path, setting: str) -> None:
    value, state = FRESHNESS[setting]
    lab.recording("a.mp4", 130)
    table = next(lab.folder.glob("a*.csv"))
    table.with_name(f"{table.stem}_filtered.csv").write_text(table.read_text().replace(",0.99", ",0.5"))
    if setting == "crops":
        lab.annotation("a.mp4_1", range(70))
    settings = {"trial_frames": 80, "min_frames": 60, "crops": "70=10"}
    first = run(tmp_path / "cache", lab.folder, **settings)
    assert [row.state for row in first.recordings] == ["new"]
    if state is None:
        with pytest.raises(clip_cache.CacheError, match="the cache's store is zarr"):
            run(tmp_path / "cache", lab.folder, **settings | {setting: value})
        return
    (row,) = run(tmp_path / "cache", lab.folder, **settings | {setting: value}).recordings
    assert row.state == state


def test_frames_are_packed_anew_without_decoding(one, tmp_path: Path) -> None:
    run(tmp_path / "cache", one.folder)
    small = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("frames/c/**/*") if path.is_file())
    frames = [clip.frames[:] for clip in clip_cache.open(tmp_path / "cache")]
    parts: list[float] = []
    states = []
    for compression in ("none", "none", "auto", "zstd"):
        report = run(
            tmp_path / "cache",
            one.folder,
            lambda name, done, total: parts.append(done % 1),
            compression=compression,
        )
        states += [row.state for row in report.recordings]
        size = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("frames/c/**/*") if path.is_file())
        assert (size == small) is (compression != "none")
        for clip, expected in zip(clip_cache.open(tmp_path / "cache"), frames, strict=True):
            np.testing.assert_array_equal(clip.frames[:], expected)
    assert states == ["compression", "fresh", "compression", "fresh"]
    assert not any(parts)


def test_a_recording_that_a_killed_run_packed_otherwise_is_packed_anew(one, tmp_path: Path) -> None:
    run(tmp_path / "cache", one.folder)
    remembered = (tmp_path / "cache" / SEEN_FILE).read_bytes()
    run(tmp_path / "cache", one.folder, compression="none")
    (tmp_path / "cache" / SEEN_FILE).write_bytes(remembered)
    assert [row.state for row in run(tmp_path / "cache", one.folder).recordings] == ["compression"]


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_damage_is_found_when_frames_are_packed_anew_or_linked(one, tmp_path: Path, damage: str) -> None:
    for settings in ({"compression": "none"}, {"dlc_slack": 5}):
        cache = tmp_path / next(iter(settings))
        run(cache, one.folder)
        (path,) = cache.glob("recordings/*.zarr/frames/c/1/0/0/0")
        content = path.read_bytes()
        path.unlink()
        if damage == "cut":
            path.write_bytes(content[len(content) // 2 :])
        (row,) = run(cache, one.folder, **settings).recordings
        assert row.state.startswith("frames+")
        assert [len(clip.frames[:]) for clip in clip_cache.open(cache)] == [345, 360]


def test_a_compression_that_the_store_lacks_is_refused(one, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="the hdf5 store takes none; use --store zarr"):
        run(tmp_path / "cache", one.folder, store="hdf5", compression="zstd")
    assert not (tmp_path / "cache").exists()


def test_the_size_of_the_picture_makes_keypoints_without_a_video_stale(lab, tmp_path: Path) -> None:
    lab.dlc("a", 60)
    states = []
    for frame_size in ("", "128x96", "128x96"):
        settings = PreprocessSettings(trial_frames=0, frame_size=frame_size)
        states += [row.state for row in preprocess(settings, cache=tmp_path / "cache", dlc=lab.folder).recordings]
    assert states == ["new", "keypoints", "fresh"]


def test_the_same_frames_of_another_place_in_the_trial_make_labels_stale(lab, tmp_path: Path) -> None:
    """Frames [40, 60) are the last 20 of a second trial of 30 frames, and the first 20 of one of 40."""
    lab.recording("a.mp4", 60)
    lab.annotation("a.mp4_2", range(20))
    found = []
    for settings in ({"trial_frames": 30, "crops": "20=10"}, {"trial_frames": 40, "crops": "20=0"}):
        (row,) = run(tmp_path / "cache", lab.folder, min_frames=10, **settings).recordings
        source = clip_cache.open(tmp_path / "cache")[0].source
        found.append((row.state, source["first_frame"], source["crop_start"]))
    assert found == [("new", 40, 10), ("labels", 40, 0)]


def test_one_outlier_does_not_set_the_scale(lab, tmp_path: Path) -> None:
    path = lab.dlc("a", 810)
    lines = path.read_text().split("\n")
    lines[100] = lines[100].replace(",10,", ",90000,", 1)
    path.write_text("\n".join(lines))
    settings = PreprocessSettings(trial_frames=0)
    (row,) = preprocess(settings, cache=tmp_path / "cache", dlc=lab.folder).recordings
    assert row.notes[0] == "picture taken as 51x51 (--frame-size)"
    (clip,) = clip_cache.open(tmp_path / "cache")
    assert clip.geometry.width == 51


def test_frame_numbers_without_bounds_are_refused_and_the_others_go_on(lab, tmp_path: Path) -> None:
    for stem, number in (("a", "1e30"), ("b", "1e13"), ("c", "2e9")):
        path = lab.dlc(stem, 30)
        path.write_text(path.read_text().replace("\n29,", f"\n{number},"))
    lab.dlc("d", 30)
    report = preprocess(PreprocessSettings(trial_frames=0), cache=tmp_path / "cache", dlc=lab.folder)
    assert [row.recording for row in report.recordings] == ["d"]
    reasons = [skip.reason for skip in report.skipped]
    assert "'1e30' is not a whole number below 2^31" in reasons[0]
    assert "'1e13' is not a whole number below 2^31" in reasons[1]
    assert "has 30 rows (frames 0 to 2000000000), the recording 2000000001 frames" in reasons[2]


def test_a_full_disk_ends_the_run_and_keeps_what_was_finished(one, tmp_path: Path, monkeypatch) -> None:
    one.recording("b.mp4", 360)
    real = clip_cache.Writer.append_frames

    def fill(self, frames):
        if self._recording == "b":
            raise OSError(28, "No space left on device")
        real(self, frames)

    monkeypatch.setattr(clip_cache.Writer, "append_frames", fill)
    with pytest.raises(clip_cache.CacheError, match=r"No space left on device.*what was finished is kept: make room"):
        run(tmp_path / "cache", one.folder)
    assert {clip.recording for clip in clip_cache.open(tmp_path / "cache")} == {"a"}


@pytest.mark.parametrize(("commit_s", "work_s"), [(0.01, 1.0), (0.05, 1.0), (30.0, 600.0)])
def test_commits_never_take_more_than_a_small_share_of_the_time(commit_s: float, work_s: float) -> None:
    assert work_until_commit_s(commit_s) == work_s


def test_recordings_that_are_now_skipped_leave_the_cache(one, tmp_path: Path) -> None:
    run(tmp_path / "cache", one.folder)
    one.video("a.avi", 20, codec="mpeg4")
    assert run(tmp_path / "cache", one.folder).recordings == ()
    assert len(clip_cache.open(tmp_path / "cache")) == 0


def test_an_interrupted_run_leaves_what_was_there(one, tmp_path: Path) -> None:
    run(tmp_path / "cache", one.folder)
    change_video(one)

    def interrupt(name: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cache", one.folder, interrupt)
    assert not list((tmp_path / "cache").rglob(".tmp-*"))
    clips = clip_cache.open(tmp_path / "cache")
    check_alignment(one, clips[0], 15)
    assert [row.state for row in run(tmp_path / "cache", one.folder).recordings] == ["frames"]


def test_progress_counts_recordings_and_their_frames(one, tmp_path: Path) -> None:
    """720 of 725 frames are needed, 60 at a time."""
    one.recording("b.mp4", 360)
    steps: list[tuple[str, float, int]] = []
    run(tmp_path / "cache", one.folder, lambda *step: steps.append(step))
    done = [done for _, done, _ in steps]
    assert {name for name, _, _ in steps} == {"a", "b"}
    assert done == sorted(done)
    assert {60 / 720, 0.5, 1, 1 + 60 / 360, 2} <= set(done)
    assert {total for _, _, total in steps} == {2}


def test_a_recording_without_annotations_beside_annotated_ones(one, tmp_path: Path) -> None:
    one.recording("b.mp4", 365)
    run(tmp_path / "cache", one.folder)
    labelled = {clip.recording: bool((clip.labels >= 0).all()) for clip in clip_cache.open(tmp_path / "cache")}
    assert labelled == {"a": True, "b": False}


def test_whole_recordings(lab, tmp_path: Path) -> None:
    lab.recording("a.mp4", 100)
    lab.annotation("a.mp4_1", range(100))
    run(tmp_path / "cache", lab.folder, trial_frames=0)
    (clip,) = clip_cache.open(tmp_path / "cache")
    check_alignment(lab, clip, 0)
    assert clip.n_frames == 100


@pytest.mark.parametrize(
    ("frame_size", "size"), [("", (51, 51)), ("128x96", (128, 96))], ids=["largest coordinate", "given"]
)
def test_recordings_without_a_video(lab, tmp_path: Path, frame_size: str, size: tuple[int, int]) -> None:
    lab.dlc("rat_1", 810, suffix="DLC_net_el_filtered")
    lab.annotation("rat_1_1", [f"frame{i}" for i in range(810)])
    settings = PreprocessSettings(trial_frames=0, classes=CLASSES, frame_size=frame_size)
    report = preprocess(settings, cache=tmp_path / "cache", dlc=lab.folder, annotations=lab.folder)
    assert report.exit_code == 0
    assert any("--frame-size" in note for note in report.recordings[0].notes) is (frame_size == "")
    (clip,) = clip_cache.open(tmp_path / "cache")
    assert (clip.recording, clip.n_frames, clip.has_frames) == ("rat_1", 810, False)
    assert (clip.geometry.width, clip.geometry.height) == size
    np.testing.assert_array_equal(clip.labels, np.arange(810))
    points = clip.keypoints[1:, 0, 0] * size[0] / X_STEP
    np.testing.assert_allclose(points, np.arange(1, 810), atol=1e-2)
    again = preprocess(settings, cache=tmp_path / "cache", dlc=lab.folder, annotations=lab.folder)
    assert [row.state for row in again.recordings] == ["fresh"]


def with_other_cells(lab, old: str, new: str) -> None:
    """A recording in whose table other cells stand for those that the pattern finds."""
    lab.recording("a.mp4", 360)
    table = next(lab.folder.glob("a*.csv"))
    table.write_text(re.sub(old, new, table.read_text()))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        pytest.param(r",0\.99", ",99", "likelihoods up to 99, expected 0 to 1: are they in percent?", id="percent"),
        pytest.param(
            r",[0-9.]+,[0-9.]+,0\.99", ",0.4,0.9,0.99", "coordinates are all below 1, expected pixels", id="unit"
        ),
    ],
)
def test_keypoints_on_another_scale_are_refused(lab, tmp_path: Path, old: str, new: str, reason: str) -> None:
    with_other_cells(lab, old, new)
    report = run(tmp_path / "cache", lab.folder)
    assert report.exit_code == 3
    assert reason in report.skipped[0].reason


def test_a_table_without_a_single_point_is_said(lab, tmp_path: Path) -> None:
    with_other_cells(lab, r",0\.99", ",")
    (row,) = run(tmp_path / "cache", lab.folder).recordings
    assert any("no keypoint is visible in any frame" in note for note in row.notes)


def test_keypoints_of_another_picture_are_noticed(lab, tmp_path: Path) -> None:
    with_other_cells(lab, r",10,0\.99", ",1000,0.99")
    (row,) = run(tmp_path / "cache", lab.folder).recordings
    assert any("33% of the keypoints lie outside the picture" in note for note in row.notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"crops": "345=20"}, "--crops 345=20"),
        ({"classes": "a,a"}, "--classes"),
        ({"frame_size": "12"}, "--frame-size 12: expected WIDTHxHEIGHT"),
    ],
)
def test_settings_are_checked_before_any_work(lab, tmp_path: Path, settings: dict[str, str], message: str) -> None:
    lab.folder.joinpath("a.mp4").touch()
    with pytest.raises(SettingsError, match=message):
        run(tmp_path / "cache", lab.folder, **settings)
    assert not (tmp_path / "cache").exists()


def test_the_same_files_give_the_same_cache(one, tmp_path: Path) -> None:
    run(tmp_path / "first", one.folder)
    run(tmp_path / "second", one.folder)
    files = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*") if path.is_file())
    files.remove(Path(SEEN_FILE))  # says how fast it went, too
    assert files
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file
    shutil.rmtree(tmp_path / "first")


def test_it_imports_nothing_of_training() -> None:
    code = "import sys, pipeline.preprocess.stage; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pipeline.preprocess.stage" in result.stdout.split()
    assert not {"torch", "pipeline.train", "pipeline.cli"} & set(result.stdout.split())
