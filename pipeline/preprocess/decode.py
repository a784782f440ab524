"""Frames of a video from the first on, as pixels in the padded square; those that are damaged are marked.

Seeking is never used: it returns wrong frames without an error on VFR, edit-list and AVI files.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from cache.clip import Geometry
from pipeline.machine import cores
from pipeline.preprocess.probe import ADVICE, VideoError, VideoFacts, decord, frames_of, opened, reason, video_stream

DECODE_VERSION = 5
BLOCK = 60  # frames of a yielded block: two chunks of the cache
Block = tuple[np.ndarray, np.ndarray]
AHEAD_PIXELS = 2_500_000  # of full-size frames that are decoded together: more would leave the processor's cache
REORDERED = 16  # frames that may be decoded after one that is shown after them: H.264 and HEVC allow no more


# Of a video's decoder; 0: one a core.
_threads = 0


def share_cores(processes: int) -> None:
    """To be called in each of so many processes that decode at the same time: together they then use each core once."""
    global _threads
    _threads = max(1, cores() // processes)


def decoder_of(wanted: str) -> str:
    """What --decoder names: decord or pyav; auto is PyAV, which measured faster and tells what is damaged."""
    return "decord" if wanted == "decord" else "pyav"


def trusted_decoder(wanted: str, path: Path, facts: VideoFacts) -> str:
    """The decoder that --decoder names. Raises VideoError where it is known to give wrong frames of this video."""
    decoder = decoder_of(wanted)
    if decoder == "decord" and facts.distrust:
        raise VideoError(f"{path}: decord gives wrong frames here, in silence: {facts.distrust}; use --decoder auto")
    return decoder


def decode(
    path: Path, facts: VideoFacts, *, stop: int | None, geometry: Geometry, channels: int, decoder: str
) -> Iterator[Block]:
    """Frames [0, stop) (None: all) in blocks: pixels (n, S, S, C) uint8 in the square of `geometry`, intact (n,) bool.

    A frame that is not intact is black: it is missing, damaged, or predicted from such a one. Every other frame has
    its own number. decoder: `decord`, which knows intact files only, or `pyav`. The blocks are views of one buffer:
    what is kept must be copied before the next.
    Raises VideoError where frames cannot be told to be in their places.
    """
    stop = facts.n_frames if stop is None else stop
    if stop > facts.n_frames:
        raise VideoError(f"{path}: frame {stop - 1} is needed, the file has {facts.n_frames} frames")
    scaled = _decord if decoder == "decord" else _pyav
    square = np.zeros((BLOCK, geometry.img_size, geometry.img_size, channels), dtype=np.uint8)
    content = square[:, geometry.top :, geometry.left :][:, : geometry.content_height, : geometry.content_width]
    intact = np.zeros(BLOCK, dtype=bool)
    n = 0
    for picture in scaled(path, facts, stop, geometry, channels):
        intact[n] = picture is not None
        content[n] = 0 if picture is None else picture
        n += 1
        if n == BLOCK:
            yield square, intact
            n = 0
    if n:
        yield square[:n], intact[:n]


def pictures(path: Path, facts: VideoFacts, stop: int) -> Iterator[np.ndarray | None]:
    """The first `stop` frames (height, width, 3) uint8 at their own size, as they are shown; None: damaged.

    Raises VideoError as `decode` does.
    """
    own_size = Geometry.fit(facts.width, facts.height, max(facts.width, facts.height))
    return _pyav(path, facts, stop, own_size, channels=3)


def luma(rgb: np.ndarray) -> np.ndarray:
    """Gray (..., 1) uint8 of rgb (..., 3) uint8: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601) in units of 1/256."""
    wide = rgb.astype(np.uint16)
    gray = (wide[..., 0] * 77 + wide[..., 1] * 150 + wide[..., 2] * 29 + 128) >> 8
    return gray.astype(np.uint8)[..., None]


def _decord(path: Path, facts: VideoFacts, stop: int, geometry: Geometry, channels: int) -> Iterator[np.ndarray]:
    """The first `stop` frames (content_height, content_width, channels).

    decord itself takes damaged pictures in silence, so PyAV decodes the same frames beside it and looks at each.
    """
    if decord is None:
        raise VideoError(f"{path}: decord is not installed here; use --decoder auto")
    try:
        # width and height: without them it holds full-size frames, 2.4 GB for 10,800 of 640x480.
        reader = decord.VideoReader(str(path), width=geometry.content_width, height=geometry.content_height)
        count = len(reader)
    except (decord.DECORDError, RuntimeError) as error:
        raise VideoError(f"{path}: decord cannot open it: {reason(error)}") from None
    if count != facts.n_frames:
        raise VideoError(f"{path}: decord counts {count} frames, the file has {facts.n_frames}")
    previous = None
    with _inspection(path, facts, stop) as inspected:
        for i in range(stop):
            try:
                picture = reader.next().asnumpy()
            except (decord.DECORDError, StopIteration, RuntimeError) as error:
                raise VideoError(f"{path}: decord stops at frame {i}: {reason(error)}") from None
            # For widths such as 48 and 72 it takes the padding at each row's end for a fourth channel.
            if picture.shape != (geometry.content_height, geometry.content_width, 3):
                raise VideoError(f"{path}: decord gives pictures of {picture.shape} for --img-size {geometry.img_size}")
            # Where decoding gives fewer frames than the file lists, decord fills up with the last one, in silence.
            if i == stop - 1 and previous is not None and np.array_equal(previous, picture):
                raise VideoError(f"{path}: the last two frames that decord gives are the same")
            previous = picture
            yield picture if channels == 3 else luma(picture)
        inspected.result()


@contextmanager
def _inspection(path: Path, facts: VideoFacts, stop: int) -> Iterator[Future[None]]:
    """Decodes the first `stop` frames with PyAV in a thread and keeps no picture; VideoError if one is damaged."""
    left = threading.Event()

    def inspect() -> None:
        for n, frame in enumerate(_pyav_frames(path, facts, stop)):
            if frame is None:
                raise VideoError(f"{path}: frame {n} is damaged, which decord does not tell; use --decoder auto")
            if left.is_set():
                return

    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(inspect)
        finally:
            left.set()


def _pyav(path: Path, facts: VideoFacts, stop: int, geometry: Geometry, channels: int) -> Iterator[np.ndarray | None]:
    """The first `stop` frames (content_height, content_width, channels), turned as they are shown; None: damaged."""
    turns = facts.rotation // 90
    size = (geometry.content_width, geometry.content_height)
    width, height = size if turns % 2 == 0 else size[::-1]
    reformatter = VideoReformatter()
    together = min(8, max(2, AHEAD_PIXELS // (facts.width * facts.height)))
    for frame in _ahead(_pyav_frames(path, facts, stop), together):
        if frame is None:
            yield None
        else:
            # Bilinear is what decord does: the two then differ by a few levels, with bicubic by up to 60. Gray is the
            # video's own luma, stretched to [0, 255] where the video has it in [16, 235].
            picture = reformatter.reformat(
                frame,
                width,
                height,
                "rgb24" if channels == 3 else "gray",
                interpolation=Interpolation.BILINEAR,
                dst_color_range=ColorRange.JPEG,
            )
            shown = np.rot90(picture.to_ndarray(), turns)
            yield shown if channels == 3 else shown[..., None]


def _ahead(frames: Generator[VideoFrame | None], n: int) -> Iterator[VideoFrame | None]:
    """The same frames, decoded n at a time in a thread while those before them are scaled, packed and written.

    Not where there is one core for both: two threads would hand it, and the frames from cache to cache, back and forth.
    """
    if _threads == 1:
        with closing(frames):
            yield from frames
        return
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as pool:
        following = pool.submit(lambda: list(islice(frames, n)))
        try:
            while group := following.result():
                following = pool.submit(lambda: list(islice(frames, n)))
                yield from group
        finally:
            following.cancel()
            pool.submit(frames.close)


def _pyav_frames(path: Path, facts: VideoFacts, stop: int) -> Generator[VideoFrame | None]:
    """The first `stop` frames as they are in the file, each in its place; None: not intact. Raises VideoError."""
    frames = _judged(_placed(path, facts))
    yield from islice(frames, stop)
    if facts.pts is None:
        for _ in frames:  # without time stamps only the count of all frames tells that none was lost
            pass


def _judged(frames: Iterable[VideoFrame | None]) -> Iterator[VideoFrame | None]:
    """None for what is damaged or missing (None), and for all that may have been predicted from it.

    That is what comes after it, up to the next key frame; and of what is shown before it the B frames, back to the
    last I or P frame: those are held until the frame that they point forward to has been seen.
    """
    held: list[VideoFrame] = []
    broken = False
    for frame in frames:
        if frame is None or frame.is_corrupt:
            broken = True
        elif frame.key_frame and frame.pict_type == PictureType.I:
            broken = False
        if broken:
            yield from [None] * (len(held) + 1)
            held = []
            continue
        assert frame is not None
        held.append(frame)
        if frame.pict_type != PictureType.B:
            yield from held
            held = []
        elif len(held) > REORDERED:
            yield held.pop(0)
    yield from held


def _placed(path: Path, facts: VideoFacts) -> Iterator[VideoFrame | None]:
    """All frames by their time stamps; None where the file has one that the decoder does not give.

    Raises VideoError where a frame has no place, and, without time stamps, where their number is not that of the file.
    """
    n = 0
    try:
        for frame in _decoded(path, facts, _threads):
            yield frame
            n += 1
        return
    except _ReorderedError:
        pass
    yield from islice(_decoded(path, facts, 1), n, None)


class _ReorderedError(Exception):
    """Frames are shown in another order than that of decoding, and several threads decode them."""


def _decoded(path: Path, facts: VideoFacts, threads: int) -> Iterator[VideoFrame | None]:
    """What `_placed` gives, decoded by so many threads (0: one a core). Raises VideoError and _ReorderedError.

    A picture that waits for its turn is handed out by the thread that decodes a later one, which may do so before the
    picture's own thread has found it damaged: it then looks good. So B frames are for one thread.
    """
    n = 0
    with opened(path) as container:
        stream = video_stream(path, container)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        try:
            for packet in container.demux(stream):
                frames = frames_of(packet)
                if threads != 1 and stream.codec_context.has_b_frames:
                    raise _ReorderedError
                for frame in frames:
                    place = _place(path, facts, frame, n)
                    yield from [None] * (place - n)
                    yield frame
                    n = place + 1
        except FFmpegError as error:
            raise VideoError(f"{path}: cannot be read beyond frame {n}: {reason(error)}; {ADVICE}") from None
    if facts.pts is None and n != facts.n_frames:
        raise VideoError(
            f"{path}: {n} of its {facts.n_frames} frames can be decoded, and without time stamps nothing tells which; "
            f"{ADVICE}"
        )
    yield from [None] * (facts.n_frames - n)


def _place(path: Path, facts: VideoFacts, frame: VideoFrame, n: int) -> int:
    """The number of a frame, of which n are before it. Raises VideoError where it cannot be told."""
    shown = (frame.width, frame.height) if facts.rotation % 180 == 0 else (frame.height, frame.width)
    if shown != (facts.width, facts.height):
        raise VideoError(f"{path}: frame {n} is {shown[0]}x{shown[1]}, the first {facts.width}x{facts.height}")
    if facts.pts is None:
        return n
    place = n if frame.pts is None else n + int(np.searchsorted(facts.pts[n:], frame.pts))
    if frame.pts is None or place == len(facts.pts) or facts.pts[place] != frame.pts:
        raise VideoError(f"{path}: the time stamp of frame {n}, {frame.pts}, is in no packet; {ADVICE}")
    return place
