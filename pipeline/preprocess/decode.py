"""Videos, frame by frame from the first: facts, and pixels in the padded square.

Seeking is never used: it returns wrong frames without an error on VFR, edit-list and AVI files.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from cache.clip import Geometry

try:  # decord has no wheels for ARM machines
    import decord

    decord.logging.set_level(decord.logging.QUIET)
except ImportError:
    decord = None

DECODE_VERSION = 2
BLOCK = 60  # frames of a yielded block: a chunk of the cache
# Elsewhere a packet may hold no picture (VP8's hidden frames), or two.
_PICTURE_A_PACKET = ("h264", "hevc", "mjpeg", "mpeg4")
_STUB = 32  # bytes; MPEG-4's packet for "no picture here" (Xvid and DivX drop frames so) has 6 to 10
_ADVICE = "re-encode it: ffmpeg -i IN -c:v libx264 OUT.mp4"


class VideoError(ValueError):
    """A video cannot be read, or not to the frame that is needed; the message names the file."""


class DecordError(VideoError):
    """decord alone failed; PyAV may still read the file."""


@dataclass(frozen=True, kw_only=True)
class VideoSummary:
    """What planning a video's trials needs of it, in plain values.

    width, height: of the picture as it is shown (turned by rotation, degrees counter-clockwise). n_frames: shown ones,
    by its packets where each of them is one picture, else by decoding. distrust: why decord must not read the file, or
    None. note: something to tell the user, or None.
    """

    width: int
    height: int
    n_frames: int
    fps: float
    rotation: int
    distrust: str | None
    note: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFacts(VideoSummary):
    """All that is known of a video before its pictures are taken.

    time_s: (n_frames,) seconds since the first shown frame. pts: (n_frames,) the same in the file's own units, or None
    if it has none.
    """

    time_s: np.ndarray
    pts: np.ndarray | None

    def summary(self) -> VideoSummary:
        """What can be kept as JSON."""
        return VideoSummary(**{field.name: getattr(self, field.name) for field in fields(VideoSummary)})


def probe(path: Path) -> VideoFacts:
    """Count the shown frames (what an edit list cuts off is not shown) and look at the first. Raises VideoError."""
    with _opened(path) as container:
        stream = _video_stream(path, container)
        stamps, hidden, first, counts = _scan(path, container, stream)
        empty = None
        if not counts:
            decoded = _decoded_stamps(path)
            empty = None if len(decoded) == len(stamps) else f"{len(stamps)} packets hold {len(decoded)} frames"
            stamps = decoded
        if first is None or not stamps:
            raise VideoError(f"{path}: not one frame can be decoded; {_ADVICE}")
        rotation = _rotation(path, first)
        pts = _sorted_stamps(stamps)
        turned = rotation in (90, 270)
        time_s = _seconds(pts, len(stamps), stream)
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
        )


def decode(
    path: Path, facts: VideoFacts, *, stop: int | None, geometry: Geometry, channels: int, decoder: str
) -> Iterator[np.ndarray]:
    """Frames [0, stop) (None: all) as blocks (n, S, S, C) uint8, resized into the square of `geometry`.

    decoder: `decord` or `pyav`. The blocks are views of one buffer: what is kept must be copied before the next.
    Raises VideoError (DecordError where PyAV may do better) instead of giving a wrong, black or repeated frame.
    """
    stop = facts.n_frames if stop is None else stop
    if stop > facts.n_frames:
        raise VideoError(f"{path}: frame {stop - 1} is needed, the file has {facts.n_frames} frames")
    pictures = _decord_rgb if decoder == "decord" else _pyav_rgb
    square = np.zeros((BLOCK, geometry.img_size, geometry.img_size, channels), dtype=np.uint8)
    content = square[:, geometry.top :, geometry.left :][:, : geometry.content_height, : geometry.content_width]
    n = 0
    for picture in pictures(path, facts, stop, geometry):
        content[n] = picture if channels == 3 else luma(picture)
        n += 1
        if n == BLOCK:
            yield square
            n = 0
    if n:
        yield square[:n]


def luma(rgb: np.ndarray) -> np.ndarray:
    """Gray (..., 1) uint8 of rgb (..., 3) uint8: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601) in units of 1/256."""
    wide = rgb.astype(np.uint16)
    gray = (wide[..., 0] * 77 + wide[..., 1] * 150 + wide[..., 2] * 29 + 128) >> 8
    return gray.astype(np.uint8)[..., None]


def _decord_rgb(path: Path, facts: VideoFacts, stop: int, geometry: Geometry) -> Iterator[np.ndarray]:
    """The first `stop` frames (content_height, content_width, 3).

    decord itself takes damaged pictures in silence, so PyAV decodes the same frames beside it and looks at each.
    """
    if decord is None:
        raise DecordError(f"{path}: decord is not installed here; use --decoder auto")
    try:
        # width and height: without them it holds full-size frames, 2.4 GB for 10,800 of 640x480.
        reader = decord.VideoReader(str(path), width=geometry.content_width, height=geometry.content_height)
        count = len(reader)
    except (decord.DECORDError, RuntimeError) as error:
        raise DecordError(f"{path}: decord cannot open it: {_reason(error)}") from None
    if count != facts.n_frames:
        raise DecordError(f"{path}: decord counts {count} frames, the file has {facts.n_frames}")
    previous = None
    with _inspection(path, facts, stop) as inspected:
        for i in range(stop):
            try:
                picture = reader.next().asnumpy()
            except (decord.DECORDError, StopIteration, RuntimeError) as error:
                raise DecordError(f"{path}: decord stops at frame {i}: {_reason(error)}") from None
            # For widths such as 48 and 72 it takes the padding at each row's end for a fourth channel.
            if picture.shape != (geometry.content_height, geometry.content_width, 3):
                raise DecordError(
                    f"{path}: decord gives pictures of {picture.shape} for --img-size {geometry.img_size}"
                )
            # Where decoding gives fewer frames than the file lists, decord fills up with the last one, in silence.
            if i == stop - 1 and previous is not None and np.array_equal(previous, picture):
                raise DecordError(f"{path}: the last two frames that decord gives are the same")
            previous = picture
            yield picture
        inspected.result()


@contextmanager
def _inspection(path: Path, facts: VideoFacts, stop: int) -> Iterator[Future[None]]:
    """Decodes the first `stop` frames with PyAV in a thread, as _pyav_frames checks them, and keeps no picture."""
    left = threading.Event()

    def inspect() -> None:
        for _ in _pyav_frames(path, facts, stop):
            if left.is_set():
                return

    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(inspect)
        finally:
            left.set()


def _pyav_rgb(path: Path, facts: VideoFacts, stop: int, geometry: Geometry) -> Iterator[np.ndarray]:
    """The first `stop` frames (content_height, content_width, 3), turned as they are shown."""
    turns = facts.rotation // 90
    size = (geometry.content_width, geometry.content_height)
    width, height = size if turns % 2 == 0 else size[::-1]
    # Bilinear is what decord does: the two then differ by a level at most, with bicubic by up to 60.
    to_rgb = VideoReformatter()
    for frame in _pyav_frames(path, facts, stop):
        rgb = to_rgb.reformat(frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR)
        yield np.rot90(rgb.to_ndarray(), turns)


def _pyav_frames(path: Path, facts: VideoFacts, stop: int) -> Iterator[VideoFrame]:
    """The first `stop` frames as they are in the file. Raises VideoError unless each is there, undamaged."""
    n = 0
    with _opened(path) as container:
        stream = _video_stream(path, container)
        stream.thread_type = "AUTO"
        try:
            for frame in islice(container.decode(stream), stop):
                _check_frame(path, facts, frame, n)
                yield frame
                n += 1
        except FFmpegError as error:
            raise VideoError(f"{path}: frame {n} cannot be decoded: {_reason(error)}; {_ADVICE}") from None
    if n < stop:
        raise VideoError(f"{path}: ends after frame {n - 1}, {stop} frames are needed; {_ADVICE}")


def _check_frame(path: Path, facts: VideoFacts, frame: VideoFrame, n: int) -> None:
    """Raise VideoError unless this is, undamaged, the frame that stands n-th in the file."""
    if frame.is_corrupt:
        raise VideoError(f"{path}: frame {n} is damaged; copy the file again or re-export it")
    shown = (frame.width, frame.height) if facts.rotation % 180 == 0 else (frame.height, frame.width)
    if shown != (facts.width, facts.height):
        raise VideoError(f"{path}: frame {n} is {shown[0]}x{shown[1]}, the first {facts.width}x{facts.height}")
    if facts.pts is not None and frame.pts is not None and frame.pts != facts.pts[n]:
        raise VideoError(f"{path}: a frame before frame {n} cannot be decoded, all after it would shift; {_ADVICE}")


def _opened(path: Path) -> InputContainer:
    try:
        return av.open(str(path), metadata_errors="replace")
    except FFmpegError as error:
        raise VideoError(f"{path}: cannot be read as a video: {_reason(error)}") from None


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise VideoError(f"{path}: has no video stream")
    return stream


def _scan(
    path: Path, container: InputContainer, stream: VideoStream
) -> tuple[list[int | None], bool, VideoFrame | None, bool]:
    """Time stamps of the shown packets, whether there are hidden ones, the first shown frame, and whether a packet
    is sure to be a frame."""
    stamps: list[int | None] = []
    hidden, first = False, None
    codec = stream.codec_context.codec.canonical_name
    counts = codec in _PICTURE_A_PACKET
    try:
        for packet in container.demux(stream):
            if packet.size:
                hidden |= packet.is_discard
                counts &= codec != "mpeg4" or packet.size > _STUB
                if not packet.is_discard:
                    stamps.append(packet.dts if packet.pts is None else packet.pts)
            if first is None:
                first = next(iter(packet.decode()), None)
    except FFmpegError as error:
        raise VideoError(f"{path}: cannot be read beyond frame {len(stamps)}: {_reason(error)}; {_ADVICE}") from None
    return stamps, hidden, first, counts


def _decoded_stamps(path: Path) -> list[int | None]:
    """Time stamps of the frames that decoding shows, whatever state they are in."""
    with _opened(path) as container:
        stream = _video_stream(path, container)
        stream.thread_type = "AUTO"
        stamps: list[int | None] = []
        try:
            stamps += (frame.pts for frame in container.decode(stream))
        except FFmpegError as error:
            raise VideoError(f"{path}: frame {len(stamps)} cannot be decoded: {_reason(error)}; {_ADVICE}") from None
        return stamps


def _sorted_stamps(stamps: list[int | None]) -> np.ndarray | None:
    """In the order of showing; None unless every frame has one of its own."""
    known = np.array(sorted(stamp for stamp in stamps if stamp is not None), dtype=np.int64)
    return known if len(np.unique(known)) == len(stamps) else None


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
            raise VideoError(f"{path}: is mirrored by its metadata, which is not supported; {_ADVICE}")
    if turn % 90:
        raise VideoError(f"{path}: is turned by {turn} degrees by its metadata, expected quarter turns; {_ADVICE}")
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


def _reason(error: Any) -> str:
    text = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
    return str(text).splitlines()[-1].split("Check failed: ")[-1][:160]
