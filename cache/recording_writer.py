"""Writing one recording: under a temporary name, to be taken into a cache when it is whole."""

from __future__ import annotations

import itertools
import os
import platform
import secrets
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from cache import index, upload
from cache.clip import ARRAY_DTYPES, RecordingMeta
from cache.remote import Place, Remote, StoreError
from cache.store import FORMATS, Reader, compression_of, explained
from cache.zarr_store import ZarrReader, ZarrWriter

COPY_FRAMES = 360  # frames in memory when they are copied from one recording to another

_number = itertools.count()
# Not as long as some clusters name their machines: a file's name has 255 bytes.
_HOST = f"{zlib.crc32(platform.node().encode()):08x}"


@dataclass(frozen=True)
class Finished:
    """A recording that is whole under a name that no index has; `CacheWriter.take` gives it its place."""

    path: Place
    meta: RecordingMeta

    def discard(self) -> None:
        """Delete it."""
        if isinstance(self.path, Remote):
            upload.discard(self.path)
        else:
            delete(self.path)


class Writer:
    """One recording on its way into a cache.

    Any process may write one into the folder `recordings` of a cache; only what the cache's own writer takes counts.
    For a cache in an object store it is made in the machine's temporary folder, and uploaded when it is finished.
    alive: called now and then while frames are copied or uploaded.
    """

    def __init__(
        self,
        recordings: Place,
        store: str,
        recording: str,
        take: Callable[[Finished], None] | None = None,
        *,
        compression: str = "auto",
        alive: Callable[[], object] = lambda: None,
    ) -> None:
        self._recording = recording
        self._alive = alive
        self._take = take
        # Machine and process in its name: one that outlives its killed cache writer never writes into the next's files.
        # The number: names that a file system, or being cut to its length, makes one are still apart.
        mark = f"{index.TEMPORARY}{_HOST}-{os.getpid()}-{next(_number)}-"
        self._target: Remote | None = None
        self._uploading = False
        self._kept_frames: Remote | None = None
        folder = recordings
        if isinstance(folder, Remote):
            # A key of its own, as nothing can be renamed later: no version of the recording, whoever made it, has it.
            self._target = folder / file_name(recording, f".{secrets.token_hex(4)}{FORMATS[store].suffix}")
            folder = _scratch()
        self._temporary = folder / (mark + file_name(recording, FORMATS[store].suffix))
        delete(self._temporary)
        self._compression = compression_of(store, compression)
        self._arrays = FORMATS[store].writer(self._temporary, self._compression)
        self._frame_shape: tuple[int, ...] | None = None

    def append_frames(self, frames: np.ndarray) -> None:
        """Frames (n, H, W, C) uint8 after the former ones; n need not be a round number."""
        self._frame_shape = self._frame_shape or frames.shape[1:]
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != self._frame_shape:
            expected = self._frame_shape if frames.ndim == 4 else "(H, W, C)"
            raise ValueError(f"frames of {frames.shape} {frames.dtype}: expected n times {expected}, uint8")
        self._arrays.append_frames(frames)

    def copy_frames_from(self, reader: Reader) -> None:
        """All frames of another version of the recording; in a zarr cache they are linked, which takes no time, unless
        they are to be packed otherwise. Raises CacheError where that version is damaged.
        """
        if not reader.meta.has_frames:
            return
        n_frames, frame_shape = reader.meta.n_frames, reader.meta.frame_shape
        own = self._arrays
        if isinstance(reader, ZarrReader) and isinstance(own, ZarrWriter):
            with explained(reader.path):
                reader.check_frames()
                linked = own.takes_files_of(reader)
            if linked:
                own.link_frames(reader)
                if isinstance(reader.path, Remote):
                    self._kept_frames = reader.path / "frames"
                self._frame_shape = frame_shape
                return
        buffer = np.empty((min(COPY_FRAMES, n_frames), *frame_shape), np.uint8)
        for start in range(0, n_frames, COPY_FRAMES):
            block = buffer[: n_frames - start]
            with explained(reader.path):
                reader.read_frames_into(start, start + len(block), block)
            self.append_frames(block)
            self._alive()

    def finish(
        self,
        meta: RecordingMeta,
        *,
        keypoints: np.ndarray,
        labels: np.ndarray,
        frame_index: np.ndarray,
        time_s: np.ndarray,
        intact: np.ndarray | None = None,
    ) -> Finished:
        """Write the arrays (n, ...), n rows for all clips together; a recording of `CacheWriter.writer` is then in it.

        intact None: every frame is. `cache.clip` describes the arrays.
        Raises ValueError where rows, frames and clips don't fit each other; what was written is then discarded.
        """
        arrays = {"keypoints": keypoints, "labels": labels, "frame_index": frame_index, "time_s": time_s}
        meta = replace(meta, compression=self._compression if meta.has_frames else "")
        arrays["intact"] = np.ones(meta.n_frames, dtype=bool) if intact is None else intact
        try:
            _check(meta, self._recording, (self._arrays.n_frames, *(self._frame_shape or ())), arrays)
            typed = {name: np.ascontiguousarray(arrays[name], dtype) for name, dtype in ARRAY_DTYPES.items()}
            self._arrays.finish(meta, typed)
            if self._target is not None:
                self._uploading = True
                upload.upload(self._temporary, self._target, self._kept_frames, self._alive)
                delete(self._temporary)
            else:
                for path in _walk(self._temporary):
                    index.sync(path)
        except BaseException:
            self.discard()
            raise
        finished = Finished(self._target or self._temporary, meta)
        if self._take is not None:
            self._take(finished)
        return finished

    def discard(self) -> None:
        """Forget the recording; an earlier version in the cache stays."""
        self._arrays.close()
        delete(self._temporary)
        if self._target is not None and self._uploading:
            with suppress(StoreError):  # the next writer does it
                upload.discard(self._target)


@cache
def _scratch() -> Path:
    """A folder of this machine for what is to be uploaded, without what killed processes left there."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"paw-uploads-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in folder.glob(f"{index.TEMPORARY}{_HOST}-*"):
        pid = path.name.removeprefix(f"{index.TEMPORARY}{_HOST}-").partition("-")[0]
        if pid.isdigit() and not is_running(int(pid)):
            delete(path)
    return folder


def is_running(pid: object) -> bool:
    """Whether a process of this machine still runs; True where that cannot be told."""
    if not isinstance(pid, int) or os.name == "nt":  # where asking like this ends it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _check(meta: RecordingMeta, recording: str, frames_shape: tuple[int, ...], arrays: dict[str, np.ndarray]) -> None:
    name, rows = meta.recording, meta.n_frames
    if name != recording:
        raise ValueError(f"recording {name}: the writer is for {recording}")
    starts = [0, *(clip.stop for clip in meta.clips)]
    if not meta.clips or any(c.start != start or c.stop <= start for c, start in zip(meta.clips, starts, strict=False)):
        raise ValueError(f"recording {name}: its clips must follow one another from row 0 on, found {meta.clips}")
    frames_expected = (rows, *meta.frame_shape) if meta.has_frames else (0,)
    expected = {"frames": frames_expected, "keypoints": (rows, len(meta.keypoint_names), 3)}
    found = {"frames": frames_shape} | {array: values.shape for array, values in arrays.items()}
    for array, shape in found.items():
        if shape != (needed := expected.get(array, (rows,))):
            raise ValueError(f"recording {name}: {array} of {shape}, its clips need {needed}")


def file_name(recording: str, ending: str) -> str:
    """The name of a recording's file or folder."""
    # File systems allow 255 bytes; the key, of which the whole name is a part, keeps shortened names apart.
    return recording.encode()[:200].decode(errors="ignore") + ending


def _walk(path: Path) -> Iterator[Path]:
    """Files before the folders that hold them."""
    for folder, _, files in os.walk(path, topdown=False):
        yield from (Path(folder, file) for file in files)
        yield Path(folder)
    if path.is_file():
        yield path


def delete(path: Path) -> None:
    """Delete a file or a folder: moved away first, so that no reader finds a half of it.

    What another program holds open on Windows stays; the next writer tries again.
    """
    trash = path
    if not path.name.startswith(index.TEMPORARY):
        trash = path.with_name(f"{index.TEMPORARY}{path.name}")
    with suppress(OSError):
        path.rename(trash)
        if trash.is_dir():
            shutil.rmtree(trash)
        else:
            trash.unlink()
