"""Videos as cameras, converters and bad disks leave them: right frames in right order, or the reason why not.

Damage within H.264 and what probing and decoding do of each format are tested in tests/preprocess/test_decode.py.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

import cache as clip_cache
from cache import Geometry
from pipeline.preprocess.decode import decode
from pipeline.preprocess.keypoints import read_dlc
from pipeline.preprocess.probe import VideoError, VideoFacts, decord, probe
from pipeline.preprocess.source import Source, UnusableError, check_table
from pipeline.preprocess.stage import Report, preprocess
from pipeline.preprocess_settings import PreprocessSettings

ODD = Path(__file__).parents[2].parent / "shared" / "data" / "odd_videos"
SIDE = 64


def run(folder: Path, cache: Path, **changes: object) -> Report:
    values = {"img_size": SIDE, "trial_frames": 60, "min_frames": 40, "crops": "50=10"} | changes
    return preprocess(PreprocessSettings(**values), cache=cache, videos=folder)  # type: ignore[arg-type]


def reverse_bytes(path: Path, start: float, share: float) -> None:
    """Invert a stretch of the file, both as shares of its size."""
    content = bytearray(path.read_bytes())
    first, n = int(start * len(content)), int(share * len(content))
    content[first : first + n] = bytes(255 - byte for byte in content[first : first + n])
    path.write_bytes(bytes(content))


def shift_start(lab, source: Path, name: str, offset_s: int) -> Path:
    """The same packets with all times moved: a clip cut from the middle of a recording."""
    path = lab.folder / name
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        stream = given.streams.video[0]
        copy = out.add_stream_from_template(stream)
        offset = int(offset_s / stream.time_base)
        for packet in given.demux(stream):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, copy
                out.mux(packet)
    source.unlink()
    return path


def make_plain(lab, name: str) -> Path:
    return lab.video(f"{name}.mp4", 120)


GOOD = {
    "variable frame rate": lambda lab: lab.video("a.mp4", 120, times_ms=np.cumsum(np.arange(120) % 7 * 9 + 5)),
    "odd size": lambda lab: lab.video("a.mp4", 120, size=(131, 97), pix_fmt="yuv444p"),
    "10 bit": lambda lab: lab.video("a.mp4", 120, pix_fmt="yuv420p10le"),
    "non-zero start in mkv": lambda lab: shift_start(lab, lab.video("source.mp4", 120), "a.mkv", 7),
    "non-zero start in mov": lambda lab: shift_start(lab, lab.video("source.mp4", 120), "a.mov", 3),
    "edit list": lambda lab: hidden(lab, 20),
    "vp9": lambda lab: lab.video("a.webm", 120, codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"}),
    "vp8 with hidden frames": lambda lab: lab.video(
        "a.webm", 120, codec="libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "4"}
    ),
    "h264 in avi": lambda lab: lab.video("a.avi", 120),
}


def hidden(lab, n: int) -> Path:
    source = lab.video("source.mp4", 120 + n)
    path = lab.cut(source, "a.mp4", n)
    source.unlink()
    return path


@pytest.mark.parametrize("kind", GOOD)
def test_unusual_videos_give_every_frame_its_number(lab, tmp_path: Path, kind: str) -> None:
    path = GOOD[kind](lab)
    lab.dlc("a", 120)
    report = run(lab.folder, tmp_path / "cache")
    assert report.exit_code == 0, report.skipped
    clips = list(clip_cache.open(tmp_path / "cache"))
    assert [clip.trial for clip in clips] == [1, 2]
    size = (131, 97) if kind == "odd size" else (128, 96)
    first = 20 if kind == "edit list" else 0
    for clip in clips:
        expected = 60 * (clip.trial - 1) + np.arange(60)
        np.testing.assert_array_equal(clip.frame_index, expected)
        np.testing.assert_array_equal(lab.numbers(clip.frames[:], *size), expected + first)
        assert clip.intact.all()
    times = np.concatenate([clip.time_s for clip in clips])
    assert times[0] == 0, path
    assert (np.diff(times) > 0).all()


def text_as_video(lab) -> None:
    (lab.folder / "a.mp4").write_text("Frame,Action\n0,0\n" * 100)


def sound_alone(lab) -> None:
    with av.open(str(lab.folder / "a.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def cut_without_index(lab) -> None:
    path = make_plain(lab, "a")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut_with_index(lab) -> None:
    path = lab.video("a.mp4", 120, container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 8 // 10])


def damaged_head(lab) -> None:
    reverse_bytes(lab.video("a.mp4", 120, container={"movflags": "faststart"}), 0, 0.2)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda lab: (lab.folder / "a.mp4").touch(), r"a\.mp4 is empty \(0 bytes\)", id="empty"),
        pytest.param(text_as_video, r"a\.mp4: cannot be read as a video", id="text"),
        pytest.param(sound_alone, r"a\.mp4: has no video stream", id="sound alone"),
        pytest.param(cut_without_index, r"a\.mp4: cannot be read as a video", id="cut, index at the end"),
        pytest.param(cut_with_index, r"the DLC table has 120 rows .*its header lists 120 frames", id="cut"),
        pytest.param(damaged_head, r"a\.mp4: ", id="damaged head"),
    ],
)
def test_what_is_no_whole_video_is_skipped_with_its_reason(lab, tmp_path: Path, make, reason: str) -> None:
    make(lab)
    lab.dlc("a", 120)
    lab.recording("good.mp4", 60)
    report = run(lab.folder, tmp_path / "cache")
    assert [row.recording for row in report.recordings] == ["good"]
    (skip,) = [skip for skip in report.skipped if skip.recording == "a" and skip.trial is None and skip.fault]
    assert re.search(reason, skip.reason)
    assert "\n" not in skip.reason
    assert report.exit_code == 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("share", [0.002, 0.05])
def test_a_stretch_of_damage_shifts_nothing(lab, tmp_path: Path, suffix: str, share: float) -> None:
    """What is intact shows its own number, or the recording is left out with a reason."""
    path = lab.recording(f"a{suffix}", 240, options={"g": "30", "x264-params": "threads=1:scenecut=0"})
    reverse_bytes(path, 0.5, share)
    report = run(lab.folder, tmp_path / "cache", max_damaged=0.9)
    n_intact = 0
    for clip in clip_cache.open(tmp_path / "cache"):
        assert not clip.frames[:][~clip.intact].any()
        np.testing.assert_array_equal(lab.numbers(clip.frames[:][clip.intact]), clip.frame_index[clip.intact])
        n_intact += int(clip.intact.sum())
    assert n_intact < 240
    assert n_intact > 100 or report.skipped


def drop_packets(lab, source: Path, name: str, dropped: range) -> Path:
    """What is left of a video whose container lost packets: the others keep their times."""
    path = lab.folder / name
    with av.open(str(source)) as given, av.open(str(path), "w") as out:
        stream = given.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for i, packet in enumerate(packet for packet in given.demux(stream) if packet.size):
            if i not in dropped:
                packet.stream = copy
                out.mux(packet)
    source.unlink()
    return path


@pytest.mark.parametrize("n_rows", [120, 119])
def test_a_frame_that_only_the_header_has(lab, n_rows: int) -> None:
    """As after damage to an AVI: which one is lost nobody knows, and DLC has a row of it only if it came before."""
    lab.video("a.mp4", 119)
    facts = replace(probe(lab.folder / "a.mp4"), n_missing=1)
    geometry = Geometry.fit(128, 96, SIDE)
    table = read_dlc(lab.dlc("a", n_rows))
    source = Source(119, geometry, facts, None, ())
    if n_rows == 120:
        with pytest.raises(UnusableError, match="have 1 frames more than the video"):
            check_table(table, source, 10)
    else:
        check_table(table, source, 10)


def test_packets_lost_after_dlc_ran_are_noticed(lab, tmp_path: Path) -> None:
    drop_packets(lab, lab.video("source.mkv", 120, options={"bf": "0"}), "a.mkv", range(60, 66))
    lab.dlc("a", 120)
    (skip,) = run(lab.folder, tmp_path / "cache").skipped
    assert "the DLC table has 6 rows more than the video has frames" in skip.reason
    assert "jump by as many after frame 59" in skip.reason


def test_frames_that_a_camera_left_out_are_no_loss(lab, tmp_path: Path) -> None:
    """Their times jump as well, but DLC has no rows of them: the numbers fit."""
    drop_packets(lab, lab.video("source.mkv", 126, options={"bf": "0", "g": "1"}), "a.mkv", range(60, 66))
    lab.dlc("a", 120)
    assert run(lab.folder, tmp_path / "cache").exit_code == 0
    assert all(clip.intact.all() for clip in clip_cache.open(tmp_path / "cache"))


def read(path: Path, facts: VideoFacts, decoder: str) -> tuple[np.ndarray, np.ndarray]:
    geometry = Geometry.fit(facts.width, facts.height, SIDE)
    blocks = decode(path, facts, stop=None, geometry=geometry, channels=1, decoder=decoder)
    pairs = [(block.copy(), intact.copy()) for block, intact in blocks]
    return np.concatenate([block for block, _ in pairs]), np.concatenate([intact for _, intact in pairs])


@pytest.mark.skipif(not ODD.is_dir(), reason="the collection of odd videos is not beside the project")
@pytest.mark.parametrize("path", sorted(ODD.glob("*.*")) if ODD.is_dir() else [], ids=lambda path: path.name)
def test_odd_videos_of_others(path: Path) -> None:
    """Every one can be read; only the one that is named corrupted has damaged frames."""
    facts = probe(path)
    frames, intact = read(path, facts, "pyav")
    assert len(frames) == facts.n_frames > 0
    assert bool(intact.all()) is (path.name != "corrupted.mp4")
    assert frames[intact].max() > 0
    if decord is not None and facts.distrust is None:
        try:
            by_decord, _ = read(path, facts, "decord")
        except VideoError:
            return
        assert np.abs(by_decord.astype(int) - frames).mean() < 2
