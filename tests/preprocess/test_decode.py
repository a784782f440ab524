from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType, VideoFrame

from cache import Geometry
from pipeline.preprocess import decode as decoding
from pipeline.preprocess.decode import _decoded, _judged, _placed, decode, luma
from pipeline.preprocess.probe import VideoError, VideoFacts, decord, probe

SIDE = 64
DECODERS = ["decord", "pyav"] if decord else ["pyav"]
needs_decord = pytest.mark.skipif(decord is None, reason="decord has no wheel for this machine")


def read(
    path: Path,
    decoder: str,
    *,
    stop: int | None = None,
    channels: int = 1,
    side: int = SIDE,
    facts: VideoFacts | None = None,
) -> np.ndarray:
    facts = facts or probe(path)
    geometry = Geometry.fit(facts.width, facts.height, side)
    blocks = decode(path, facts, stop=stop, geometry=geometry, channels=channels, decoder=decoder)
    pairs = [(block.copy(), intact.copy()) for block, intact in blocks]
    assert all(intact.all() for _, intact in pairs)
    return np.concatenate([block for block, _ in pairs])


def read_with_damage(path: Path, facts: VideoFacts | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Frames (n, SIDE, SIDE, 1) and which are intact (n,), by PyAV."""
    facts = facts or probe(path)
    geometry = Geometry.fit(facts.width, facts.height, SIDE)
    blocks = decode(path, facts, stop=None, geometry=geometry, channels=1, decoder="pyav")
    pairs = [(block.copy(), intact.copy()) for block, intact in blocks]
    return np.concatenate([block for block, _ in pairs]), np.concatenate([intact for _, intact in pairs])


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("a.mp4", {}, id="h264 with b-frames"),
        pytest.param("a.avi", {"codec": "mpeg4", "options": {"bf": "2"}}, id="mpeg4 avi"),
        pytest.param("a.mkv", {"options": {"x264-params": "open-gop=1:keyint=24:bframes=3"}}, id="open gop mkv"),
        pytest.param("a.mov", {"pix_fmt": "gray"}, id="gray mov"),
        pytest.param("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}, id="mjpeg"),
        pytest.param("a.mp4", {"times_ms": np.cumsum(np.arange(130) % 7 * 9 + 5)}, id="variable frame rate"),
    ],
)
def test_every_frame_shows_its_number(lab, name: str, options: dict, decoder: str, channels: int) -> None:
    path = lab.video(name, 130, **options)
    frames = read(path, decoder, channels=channels)
    assert frames.shape == (130, SIDE, SIDE, channels)
    np.testing.assert_array_equal(lab.numbers(frames), np.arange(130))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("stop", [1, 59, 60, 61, 100])
def test_it_stops_where_it_is_told(lab, decoder: str, stop: int) -> None:
    path = lab.video("a.mp4", 100)
    np.testing.assert_array_equal(lab.numbers(read(path, decoder, stop=stop)), np.arange(stop))


def test_leaving_early_ends_the_thread_that_decodes(lab) -> None:
    path = lab.video("a.mp4", 300)
    facts = probe(path)
    geometry = Geometry.fit(facts.width, facts.height, SIDE)
    blocks = decode(path, facts, stop=None, geometry=geometry, channels=1, decoder="pyav")
    block, _ = next(blocks)
    np.testing.assert_array_equal(lab.numbers(block), np.arange(60))
    assert any(thread.name.startswith("decode") for thread in threading.enumerate())
    blocks.close()
    assert not any(thread.name.startswith("decode") for thread in threading.enumerate())


@needs_decord
@pytest.mark.parametrize("side", [64, 100])
@pytest.mark.parametrize("size", [(128, 96), (84, 128), (130, 98), (128, 70)])
def test_decoders_agree(lab, size: tuple[int, int], side: int) -> None:
    path = lab.video("a.mp4", 20, size=size)
    gray = [read(path, decoder, side=side).astype(int) for decoder in DECODERS]
    assert np.abs(gray[0] - gray[1]).max() <= 3
    colour = [read(path, decoder, side=side, channels=3).astype(int) for decoder in DECODERS]
    # Where red meets blue they place the colours of H.264, which have half the resolution, a quarter pixel apart.
    assert np.abs(colour[0] - colour[1]).mean() < 0.5


@needs_decord
@pytest.mark.parametrize("side", [48, 72])
def test_widths_that_decord_misreads_are_errors(lab, side: int) -> None:
    path = lab.video("a.mp4", 20)
    np.testing.assert_array_equal(lab.numbers(read(path, "pyav", side=side)), np.arange(20))
    with pytest.raises(VideoError, match="decord"):
        read(path, "decord", side=side)


@pytest.mark.parametrize("decoder", DECODERS)
def test_colours_keep_their_order_and_range(lab, decoder: str) -> None:
    path = lab.video("a.mp4", 10)
    frame = read(path, decoder, channels=3)[5].astype(int)
    np.testing.assert_allclose(frame[8 + 10, 60], (200, 60, 40), atol=8)
    np.testing.assert_allclose(frame[8 + 40, 60], (40, 60, 200), atol=8)
    gray = read(path, decoder)[5].astype(int)
    np.testing.assert_allclose(gray[8 + 10, 60], 0.299 * 200 + 0.587 * 60 + 0.114 * 40, atol=6)
    assert frame[8:56, :32].max() > 215
    assert frame[8:56, :32].min() < 40


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("size", [(128, 96), (84, 128), (131, 97)])
def test_the_picture_is_centred_and_the_rest_is_black(lab, decoder: str, size: tuple[int, int]) -> None:
    path = lab.video("a.mp4", 5, size=size, pix_fmt="yuv444p" if size[0] % 2 else "yuv420p")
    frame = read(path, decoder)[3, :, :, 0]
    geometry = Geometry.fit(*size, SIDE)
    inside = np.zeros((SIDE, SIDE), bool)
    inside[geometry.top :, geometry.left :][: geometry.content_height, : geometry.content_width] = True
    assert (frame[~inside] == 0).all()
    assert (frame[inside] > 5).mean() > 0.99


def test_luma_is_that_of_bt601() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    exact = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.abs(luma(rgb)[..., 0] - exact).max() <= 1
    assert luma(np.full((1, 1, 3), 255, np.uint8)).item() == 255


def test_probe_knows_times(lab) -> None:
    times = np.cumsum(np.arange(40) % 5 * 11 + 10)
    facts = probe(lab.video("a.mp4", 40, times_ms=times))
    assert facts.n_frames == 40
    np.testing.assert_allclose(facts.time_s, (times - times[0]) / 1000, atol=1e-3)
    constant = probe(lab.video("b.mp4", 40))
    assert constant.fps == 30
    np.testing.assert_allclose(constant.time_s, np.arange(40) / 30, atol=1e-3)
    assert (constant.distrust, constant.note) == (None, None)


@needs_decord
def test_frames_that_an_edit_list_hides_are_not_frames(lab) -> None:
    path = lab.cut(lab.video("a.mp4", 150), "cut.mp4", 20)
    facts = probe(path)
    assert facts.n_frames == 130
    assert facts.distrust == "an edit list hides some of its frames"
    assert "lists 150 frames, 130 are shown" in facts.note
    np.testing.assert_array_equal(lab.numbers(read(path, "pyav")), np.arange(20, 150))
    with pytest.raises(VideoError, match=r"decord counts 1\d\d frames, the file has 130"):
        read(path, "decord")


ROTATIONS = {  # the display matrix's [a, b, u, c, d] in 16.16 fixed point, by degrees clockwise
    90: (0, 1, 0, -1, 0),
    180: (-1, 0, 0, 0, -1),
    270: (0, -1, 0, 1, 0),
}


def set_matrix(path: Path, matrix: tuple[int, ...]) -> None:
    """Put a display matrix into the header of an mp4."""
    content = path.read_bytes()
    identity = np.array([0x10000, 0, 0, 0, 0x10000], ">i4").tobytes()
    place = content.index(identity, content.index(b"tkhd"))
    turned = (np.array(matrix) * 0x10000).astype(">i4").tobytes()
    path.write_bytes(content[:place] + turned + content[place + len(turned) :])


@pytest.mark.parametrize("clockwise", [90, 180, 270])
def test_turned_videos_are_shown_as_players_show_them(lab, clockwise: int) -> None:
    path = lab.video("a.mp4", 8)
    upright = read(path, "pyav", channels=3, side=128)[:, 16:112].astype(int)
    set_matrix(path, ROTATIONS[clockwise])
    facts = probe(path)
    assert (facts.width, facts.height) == ((96, 128) if clockwise != 180 else (128, 96))
    assert "turns the picture" in facts.distrust
    turned = read(path, "pyav", channels=3, side=128).astype(int)
    expected = np.rot90(upright, -clockwise // 90, axes=(1, 2))
    content = turned[:, :, 16:112] if clockwise != 180 else turned[:, 16:112]
    assert np.abs(content - expected).mean() < 1.5


def test_mirrored_videos_are_refused(lab) -> None:
    path = lab.video("a.mp4", 8)
    set_matrix(path, (-1, 0, 0, 0, 1))
    with pytest.raises(VideoError, match="mirrored"):
        probe(path)


@needs_decord
def test_a_last_frame_given_again_and_again_is_an_error(lab) -> None:
    """decord fills up to its own count, which includes the hidden frames, with copies of the last."""
    path = lab.cut(lab.video("a.mp4", 150), "cut.mp4", 20)
    count = len(decord.VideoReader(str(path), width=SIDE, height=SIDE))
    assert count > 130
    claimed = replace(probe(path), n_frames=count)
    for stop in (count, 131):
        with pytest.raises(VideoError, match="the last two frames that decord gives are the same"):
            read(path, "decord", facts=claimed, stop=stop)


@needs_decord
def test_ten_bits_are_left_to_pyav(lab) -> None:
    path = lab.video("a.mp4", 30, pix_fmt="yuv420p10le")
    assert probe(path).distrust == "it has 10 bits a pixel value"
    np.testing.assert_array_equal(lab.numbers(read(path, "pyav")), np.arange(30))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_file_cut_short_gives_what_it_has_and_no_more(lab, decoder: str) -> None:
    path = lab.video("a.mp4", 200, container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    facts = probe(path)
    assert 60 < facts.n_frames < 180
    assert f"its header lists 200 frames, {facts.n_frames} are shown" in facts.note
    assert facts.distrust == facts.note
    with pytest.raises(VideoError, match=f"frame 199 is needed, the file has {facts.n_frames}"):
        read(path, decoder, stop=200)
    np.testing.assert_array_equal(
        lab.numbers(read(path, "pyav", stop=facts.n_frames - 5)), np.arange(facts.n_frames - 5)
    )


@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_every_intact_frame_is_the_right_one(lab, b_frames: str) -> None:
    """Whichever of these bytes are wrong: each frame is right, or marked up to the next key frame at most."""
    # threads=1: the same bytes in every run. Other bytes, and other formats, may be wrong without a sign.
    steady = {"x264-params": "mbtree=0:threads=1", "g": "24", "bf": b_frames}
    path = lab.video("a.mp4", 120, container={"movflags": "faststart"}, options=steady)
    content = path.read_bytes()
    first = content.index(b"mdat") + 1000
    n_marked = []
    for place in range(first, len(content) - 100, (len(content) - first) // 16):
        damaged = bytes(byte ^ 0x55 for byte in content[place : place + 8])
        path.write_bytes(content[:place] + damaged + content[place + 8 :])
        frames, intact = read_with_damage(path)
        np.testing.assert_array_equal(lab.numbers(frames[intact]), np.flatnonzero(intact))
        assert not frames[~intact].any()
        n_marked.append(int((~intact).sum()))
        assert n_marked[-1] <= 24 + 24
    assert sum(n > 0 for n in n_marked) > len(n_marked) // 2, n_marked


@pytest.mark.parametrize(("b_frames", "threads"), [("0", 4), ("2", 1)])
def test_b_frames_are_decoded_by_one_thread(lab, monkeypatch, b_frames: str, threads: int) -> None:
    """Of several, one may hand a picture out before another has found it damaged: no other sign tells that it is."""
    path = lab.video("a.mp4", 120, options={"g": "24", "bf": b_frames})
    used = []

    def spied(path: Path, facts: VideoFacts, threads: int) -> Iterator[VideoFrame | None]:
        for frame in _decoded(path, facts, threads):
            used.append(threads)
            yield frame

    monkeypatch.setattr(decoding, "_decoded", spied)
    monkeypatch.setattr(decoding, "_threads", 4)
    np.testing.assert_array_equal(lab.numbers(read(path, "pyav")), np.arange(120))
    assert used == [threads] * 120


def test_where_b_frames_turn_up_late_no_frame_is_lost_or_given_twice(lab, monkeypatch) -> None:
    path = lab.video("a.mp4", 120)

    def several_until_60(path: Path, facts: VideoFacts, threads: int) -> Iterator[VideoFrame | None]:
        for n, frame in enumerate(_decoded(path, facts, 1)):
            if threads != 1 and n == 60:
                raise decoding._ReorderedError
            yield frame

    monkeypatch.setattr(decoding, "_decoded", several_until_60)
    monkeypatch.setattr(decoding, "_threads", 4)
    np.testing.assert_array_equal(lab.numbers(read(path, "pyav")), np.arange(120))


def test_what_was_predicted_from_a_damaged_frame_is_marked_too(lab) -> None:
    """I0 b1 B2 b3 P4 ... : b and B frames look at the next P; all look back at most to the key frame at 24 or 48."""
    steady = {"x264-params": "mbtree=0:threads=1:scenecut=0:b-adapt=0", "g": "24", "bf": "3"}
    path = lab.video("a.mp4", 72, options=steady)
    with av.open(str(path)) as container:
        kinds = [frame.pict_type for frame in container.decode(video=0)]
    assert [n for n, kind in enumerate(kinds) if kind == PictureType.I] == [0, 24, 48]
    broken = next(n for n, kind in enumerate(kinds) if kind == PictureType.P and n > 30)
    since = max(n for n, kind in enumerate(kinds) if kind != PictureType.B and n < broken) + 1
    assert since < broken
    facts = probe(path)
    frames = list(_placed(path, facts))
    frames[broken] = None
    judged = [frame is not None for frame in _judged(frames)]
    assert [n for n, good in enumerate(judged) if not good] == list(range(since, 48))


@needs_decord
def test_decord_does_not_pass_damaged_frames(lab) -> None:
    path = lab.video("a.mp4", 120, container={"movflags": "faststart"})
    content = path.read_bytes()
    place = len(content) // 2
    path.write_bytes(
        content[:place] + bytes(byte ^ 0x55 for byte in content[place : place + 50]) + content[place + 50 :]
    )
    assert not read_with_damage(path)[1].all()
    with pytest.raises(VideoError, match=r"damaged, which decord does not tell|decord stops at frame"):
        read(path, "decord")


@pytest.mark.parametrize("stop", [None, 30])
@pytest.mark.parametrize("name", ["a.avi", "a.mp4"])
def test_packets_without_a_picture_are_not_frames(lab, name: str, stop: int | None) -> None:
    """Frame 20 of the source is dropped: what stands at 20 is then frame 21."""
    path = lab.drop(lab.video(f"source_{name}", 60, codec="mpeg4", options={"bf": "0"}), name, {20, 40, 41})
    facts = probe(path)
    assert (facts.n_frames, len(facts.time_s)) == (57, 57)
    assert facts.distrust == "60 packets hold 57 frames"
    shown = np.delete(np.arange(60), [20, 40, 41])
    np.testing.assert_allclose(facts.time_s, shown / 30, atol=1e-3)
    assert len(read(path, "pyav", stop=stop)) == (stop or 57)
    if decord:
        with pytest.raises(VideoError, match="decord counts 60 frames, the file has 57"):
            read(path, "decord", stop=stop)


def test_a_lost_frame_shifts_nothing(lab) -> None:
    """A frame that the file lists but the decoder does not give: the others keep their numbers."""
    path = lab.video("a.mp4", 60, options={"g": "24", "x264-params": "scenecut=0"})
    facts = probe(path)
    pts = np.insert(facts.pts, 30, (facts.pts[29] + facts.pts[30]) // 2)
    listed = replace(facts, n_frames=61, pts=pts)
    frames, intact = read_with_damage(path, listed)
    assert not intact[30:49].any()
    assert intact[:28].all()
    np.testing.assert_array_equal(lab.numbers(frames[49:]), np.arange(48, 60))
    assert intact[49:].all()
    unstamped = replace(facts, n_frames=61, pts=None)
    for stop in (61, 40):
        with pytest.raises(VideoError, match="60 of its 61 frames can be decoded, and without time stamps"):
            read(path, "pyav", facts=unstamped, stop=stop)
    if decord:
        with pytest.raises(VideoError, match="decord counts 60 frames, the file has 61"):
            read(path, "decord", facts=listed)


def test_a_time_stamp_that_no_packet_has_is_refused(lab) -> None:
    path = lab.video("a.mp4", 60)
    facts = probe(path)
    other = replace(facts, pts=facts.pts + (np.arange(60) == 30))
    with pytest.raises(VideoError, match=r"the time stamp of frame 30, .*, is in no packet"):
        read(path, "pyav", facts=other)


@pytest.mark.parametrize("decoder", DECODERS)
def test_h264_in_avi_whose_time_stamps_are_of_decoding(lab, decoder: str) -> None:
    path = lab.video("a.avi", 90)
    np.testing.assert_array_equal(lab.numbers(read(path, decoder, stop=50)), np.arange(50))
    np.testing.assert_array_equal(lab.numbers(read(path, decoder)), np.arange(90))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "cannot be read as a video", id="empty"),
        pytest.param(b"Frame,Action\n0,0\n" * 50, "cannot be read as a video", id="text"),
    ],
)
def test_what_is_no_video(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=message) as error:
        probe(path)
    assert str(path) in str(error.value)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with pytest.raises(VideoError, match="has no video stream"):
        probe(path)
