"""What is known of a video before its pictures are taken: length, times, picture, and who may decode it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

try:  # decord has no wheels for ARM machines
    import decord

    decord.logging.set_level(decord.logging.QUIET)
except ImportError:
    decord = None

ADVICE = "re-encode it: ffmpeg -i IN -c:v libx264 OUT.mp4"
# Elsewhere a packet may hold no picture, or two.
_PICTURE_A_PACKET = ("h264", "hevc", "mjpeg", "mpeg4", "vp8", "vp9", "av1")
_REGULAR = 0.95  # of the times between frames lie within a tenth of the usual one: they come at a constant rate
_STUB = 12  # bytes; MPEG-4's packet for "no picture here" (Xvid and DivX drop frames so) has 6 to 10


class VideoError(ValueError):
    """A video cannot be read, or not to the frame that is needed; the message names the file."""


@dataclass(frozen=True, kw_only=True)
class VideoSummary:
    """What planning a video's trials needs of it, in plain values.

    width, height: of the picture as it is shown (turned by rotation, degrees counter-clockwise). n_frames: shown ones,
    by its packets where each of them is one picture, else by decoding. distrust: why decord must not read the file, or
    None. note: something to tell the user, or None. n_lost: frames for which the times leave room, the first of them
    after frame lost_after. n_missing: how many more frames its header lists, where neither an edit list nor the format
    explains it.
    """

    width: int
    height: int
    n_frames: int
    fps: float
    rotation: int
    distrust: str | None
    note: str | None = None
    n_lost: int = 0
    lost_after: int = 0
    n_missing: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFacts(VideoSummary):
    """All that is known of a video before its pictures are taken.

    time_s: (n_frames,) seconds since the first shown frame. pts: (n_frames,) the same in the file's own units, or None
    if they don't tell a frame's place.
    """

    time_s: np.ndarray
    pts: np.ndarray | None

    def summary(self) -> VideoSummary:
        """What can be kept as JSON."""
        return VideoSummary(**{field.name: getattr(self, field.name) for field in fields(VideoSummary)})


def probe(path: Path) -> VideoFacts:
    """Count the shown frames (what an edit list cuts off is not shown) and look at the first. Raises VideoError."""
    with opened(path) as container:
        stream = video_stream(path, container)
        stamps, hidden, first, n_doubtful = _scan(path, container, stream)
        empty = None
        if n_doubtful:
            decoded = _decoded_stamps(path)
            empty = None if len(decoded) == len(stamps) else f"{len(stamps)} packets hold {len(decoded)} frames"
            if len(stamps) - len(decoded) > n_doubtful:
                raise VideoError(f"{path}: {empty}, and nothing tells which of them are lost; {ADVICE}")
            stamps = decoded
        if first is None or not stamps:
            raise VideoError(f"{path}: not one frame can be decoded; {ADVICE}")
        rotation = _rotation(path, first)
        pts = _sorted_stamps(stamps)
        time_s = _seconds(pts, len(stamps), stream)
        if _stamps_are_decoding_times(container, stream):
            pts = None
        turned = rotation in (90, 270)
        n_lost, lost_after = _lost(time_s)
        note = _count_note(stream.frames, len(stamps))
        if note and empty:
            note = f"{empty}: it marks dropped frames"
        return VideoFacts(
            width=first.height if turned else first.width,
            height=first.width if turned else first.height,
            n_frames=len(stamps),
            fps=_fps(stream, time_s),
            time_s=time_s,
            pts=pts,
            rotation=rotation,
            distrust=_distrust(container, first, hidden, rotation, pts) or empty or note,
            note=note,
            n_lost=n_lost,
            lost_after=lost_after,
            n_missing=0 if hidden or empty else max(0, stream.frames - len(stamps)),
        )


def _lost(time_s: np.ndarray) -> tuple[int, int]:
    """How many frames are missing where the times (n,) jump, and the frame before the first jump.

    None where frames do not come at a constant rate.
    """
    steps = np.diff(time_s)
    usual = np.median(steps) if len(steps) else math.nan
    if not usual > 0 or (np.abs(steps / usual - 1) < 0.1).mean() < _REGULAR:
        return 0, 0
    lost = np.round(steps / usual).astype(int) - 1
    return int(lost[lost > 0].sum()), int(np.argmax(lost > 0))


def frames_of(packet: Packet) -> list[VideoFrame]:
    """What the decoder gives when it is handed the packet; nothing where it cannot make sense of it."""
    try:
        return [frame for frame in packet.decode() if isinstance(frame, VideoFrame)]
    except FFmpegError:
        return []


def opened(path: Path) -> InputContainer:
    try:
        return av.open(str(path), metadata_errors="replace")
    except FFmpegError as error:
        raise VideoError(f"{path}: cannot be read as a video: {reason(error)}") from None


def video_stream(path: Path, container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise VideoError(f"{path}: has no video stream")
    return stream


def _scan(
    path: Path, container: InputContainer, stream: VideoStream
) -> tuple[list[int | None], bool, VideoFrame | None, int]:
    """Time stamps of the shown packets, whether there are hidden ones, the first shown frame, and the number of packets
    that may hold no frame."""
    stamps: list[int | None] = []
    hidden, first, n_doubtful = False, None, 0
    codec = stream.codec_context.codec.canonical_name
    try:
        for packet in container.demux(stream):
            if packet.size:
                hidden |= packet.is_discard
                if not packet.is_discard and _may_be_shown(codec, packet):
                    n_doubtful += codec not in _PICTURE_A_PACKET or (codec == "mpeg4" and packet.size <= _STUB)
                    stamps.append(packet.dts if packet.pts is None else packet.pts)
            if first is None:
                first = next(iter(frames_of(packet)), None)
    except FFmpegError as error:
        raise VideoError(f"{path}: cannot be read beyond frame {len(stamps)}: {reason(error)}; {ADVICE}") from None
    return stamps, hidden, first, n_doubtful


def _may_be_shown(codec: str, packet: Packet) -> bool:
    """False for VP8's frames that others are only predicted from: the header says so."""
    return codec != "vp8" or bool(memoryview(packet)[0] & 0x10)


def _decoded_stamps(path: Path) -> list[int | None]:
    """Time stamps of the frames that decoding shows, whatever state they are in."""
    with opened(path) as container:
        stream = video_stream(path, container)
        stream.thread_type = "AUTO"
        stamps: list[int | None] = []
        try:
            stamps += (frame.pts for frame in container.decode(stream))
        except FFmpegError as error:
            raise VideoError(f"{path}: frame {len(stamps)} cannot be decoded: {reason(error)}; {ADVICE}") from None
        return stamps


def _sorted_stamps(stamps: list[int | None]) -> np.ndarray | None:
    """In the order of showing; None unless every frame has one of its own."""
    known = np.array(sorted(stamp for stamp in stamps if stamp is not None), dtype=np.int64)
    return known if len(np.unique(known)) == len(stamps) else None


def _stamps_are_decoding_times(container: InputContainer, stream: VideoStream) -> bool:
    """Whether frames come in another order than that of their time stamps: AVI knows no times of showing."""
    return container.format.name == "avi" and stream.codec_context.codec.canonical_name in ("h264", "hevc")


def _seconds(pts: np.ndarray | None, n_frames: int, stream: VideoStream) -> np.ndarray:
    if pts is not None and stream.time_base is not None:
        return (pts - pts[0]) * float(stream.time_base)
    return np.arange(n_frames) / float(stream.average_rate) if stream.average_rate else np.full(n_frames, math.nan)


def _fps(stream: VideoStream, time_s: np.ndarray) -> float:
    if stream.average_rate:
        return float(stream.average_rate)
    return float((len(time_s) - 1) / time_s[-1]) if len(time_s) > 1 and time_s[-1] > 0 else math.nan


def _rotation(path: Path, frame: VideoFrame) -> int:
    """0, 90, 180 or 270 degrees counter-clockwise, by which the picture is turned to be shown.

    From the display matrix [[a, b], [c, d]] (16.16 fixed point) as ffmpeg's own turning reads it.
    """
    turn = int(frame.rotation) % 360
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].astype(np.int64)
        if a * d - b * c < 0:
            raise VideoError(f"{path}: is mirrored by its metadata, which is not supported; {ADVICE}")
    if turn % 90:
        raise VideoError(f"{path}: is turned by {turn} degrees by its metadata, expected quarter turns; {ADVICE}")
    return turn


def _distrust(
    container: InputContainer, first: VideoFrame, hidden: bool, rotation: int, pts: np.ndarray | None
) -> str | None:
    """Why decord would give wrong frames in silence, or None."""
    if decord is None:
        return "decord is not installed here"
    if hidden:
        return "an edit list hides some of its frames"
    if rotation:
        return f"its metadata turns the picture by {rotation} degrees"
    if "mpegts" in container.format.name:
        return "it is an MPEG transport stream"
    if first.format.components[0].bits != 8:
        return f"it has {first.format.components[0].bits} bits a pixel value"
    if pts is not None and first.pts is not None and first.pts != pts[0]:
        return "its first frames cannot be decoded"
    return None


def _count_note(listed: int, shown: int) -> str | None:
    """What to say where the header's count (0: it has none) is not what is shown."""
    if listed in (0, shown):
        return None
    return (
        f"its header lists {listed} frames, {shown} are shown (an edit list hides the rest, or the file is cut short)"
    )


def reason(error: Any) -> str:
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(text).splitlines()[-1].split("Check failed: ")[-1][:160]
