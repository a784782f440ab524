"""What earlier runs saw of the input files: a shortcut past reading them again, never the truth.

It lies in the cache as seen.json. Without it, or where a file's size or date differ, the file's content is read, and
decides. Nothing else depends on it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cache import Place, RecordingMeta, fingerprint
from cache.index import replace
from pipeline.preprocess.decode import DECODE_VERSION
from pipeline.preprocess.discovery import RecordingFiles, Skip
from pipeline.preprocess.probe import VideoSummary
from pipeline.preprocess.table_names import header_fault
from pipeline.preprocess.text_table import UnreadableError
from pipeline.preprocess_settings import PreprocessSettings

TABLE_VERSION = 3  # of what is made from DLC tables and annotations; frames have DECODE_VERSION
VERSIONS = [DECODE_VERSION, TABLE_VERSION]
SEEN_FILE = "seen.json"
# A file that changed so shortly before it was read may change again without another date, so its date is not trusted.
YOUNG_NS = 2 * 10**9


@dataclass(frozen=True)
class Stamp:
    """A file's size and date when its content (a fingerprint) was read; trusted False: it was young then."""

    size: int
    mtime_ns: int
    content: str
    trusted: bool = True

    def holds(self, path: Path) -> bool:
        """Whether the file can be taken for what it was."""
        return self.trusted and self.looks_like(path)

    def looks_like(self, path: Path) -> bool:
        """Whether the file has the same size and date."""
        return _look(path) == (self.size, self.mtime_ns)


@dataclass(frozen=True)
class SeenRecording:
    """What a recording in the cache was made from.

    key: of settings, versions and contents. fingerprints: of the version that was made. stamps: absolute path -> Stamp.
    skipped: what was said of its trials. video: what is known of its video, or None.
    """

    key: str
    fingerprints: dict[str, str]
    stamps: dict[str, Stamp]
    skipped: tuple[Skip, ...]
    video: VideoSummary | None


@dataclass
class Seen:
    """headers: path of a table -> its size, its date, and what is wrong with it as a DLC table, or None.

    frames_per_s: of the last decoding. folders, settings: of the last run, so that `status` can repeat it.
    """

    recordings: dict[str, SeenRecording] = field(default_factory=dict)
    headers: dict[str, tuple[int, int, str | None]] = field(default_factory=dict)
    frames_per_s: float | None = None
    folders: dict[str, str | None] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def header_fault(self, path: Path) -> ValueError | None:
        """`table_names.header_fault`, which reads no header twice."""
        name, look = _absolute(path), _look(path)
        known = self.headers.get(name)
        if known is not None and known[:2] == look:
            return None if known[2] is None else ValueError(known[2])
        fault = header_fault(path)
        if look is not None and not _is_young(look[1]) and not isinstance(fault, UnreadableError):
            self.headers[name] = (*look, None if fault is None else str(fault))
        return fault


def load(cache: Place) -> Seen:
    """What was kept; nothing where there is none, or where it cannot be used."""
    try:
        values = json.loads((cache / SEEN_FILE).read_bytes())
        recordings = {name: _recording(name, each) for name, each in values["recordings"].items()}
        headers = {name: (size, mtime_ns, fault) for name, (size, mtime_ns, fault) in values["headers"].items()}
        if values["versions"] != VERSIONS:
            return Seen()
        return Seen(recordings, headers, values["frames_per_s"], values["folders"], values["settings"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Seen()


def save(cache: Place, seen: Seen) -> None:
    """Write it whole or not at all."""
    recordings = {name: _plain(each) for name, each in sorted(seen.recordings.items())}
    values = vars(seen) | {"recordings": recordings, "versions": VERSIONS}
    replace(cache / SEEN_FILE, json.dumps(values, separators=(",", ":")).encode())


def paths_of(files: RecordingFiles) -> list[Path]:
    """The recording's files in a fixed order: video, table, annotations."""
    return [*([files.video] if files.video else []), files.dlc, *(path for _, path in files.annotations)]


def unchanged(files: RecordingFiles, shaping: str, old: RecordingMeta | None, seen: SeenRecording | None) -> bool:
    """Whether by size and date of its files a recording is what its version in the cache was made from."""
    if old is None or seen is None or old.fingerprints != seen.fingerprints:
        return False
    stamps = []
    for path in paths_of(files):
        stamp = seen.stamps.get(_absolute(path))
        if stamp is None or not stamp.holds(path):
            return False
        stamps.append(stamp)
    return key_of(files, shaping, stamps) == seen.key


def shaping_of(settings: PreprocessSettings) -> str:
    """Of the settings and the code's versions: what shapes a recording beside its files."""
    return fingerprint.of_values(settings=asdict(settings), versions=VERSIONS)


def key_of(files: RecordingFiles, shaping: str, stamps: Iterable[Stamp]) -> str:
    """Of all that a recording is made from; stamps in the order of `paths_of`."""
    names = [files.video.name if files.video else None, files.dlc.name]
    names += [f"{trial} {path.name}" for trial, path in files.annotations]
    contents = [stamp.content for stamp in stamps]
    return fingerprint.of_values(shaping=shaping, names=names, notes=files.notes, contents=contents)


def stamp(path: Path, known: SeenRecording | None, alive: Callable[[], None]) -> Stamp:
    """The file's size, date and content, which is read unless `known` holds; `alive` is called while it is read.

    Raises UnreadableError.
    """
    former = known.stamps.get(_absolute(path)) if known else None
    if former is not None and former.holds(path):
        return former
    try:
        found = path.stat()
        content = fingerprint.of_file(path, alive)
        return Stamp(found.st_size, found.st_mtime_ns, content, not _is_young(found.st_mtime_ns))
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror or error}") from None


def stamp_all(files: RecordingFiles, known: SeenRecording | None, alive: Callable[[], None]) -> dict[str, Stamp]:
    """Absolute path -> Stamp of every file of a recording. Raises UnreadableError."""
    return {_absolute(path): stamp(path, known, alive) for path in paths_of(files)}


def content_of(stamps: dict[str, Stamp], path: Path) -> str:
    """The content's fingerprint of one of the files."""
    return stamps[_absolute(path)].content


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  (Path.resolve asks the disk, for each of 10,000s of files)


def _look(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _is_young(mtime_ns: int) -> bool:
    return abs(time.time_ns() - mtime_ns) < YOUNG_NS


def _plain(recording: SeenRecording) -> dict[str, Any]:
    return {
        "key": recording.key,
        "fingerprints": recording.fingerprints,
        "stamps": {path: list(vars(each).values()) for path, each in recording.stamps.items()},
        "skipped": [[skip.trial, skip.reason, skip.fault] for skip in recording.skipped],
        "video": vars(recording.video) if recording.video else None,
    }


def _recording(name: str, values: dict[str, Any]) -> SeenRecording:
    names = {each.name for each in fields(VideoSummary)}
    video = values["video"] and {key: value for key, value in values["video"].items() if key in names}
    return SeenRecording(
        values["key"],
        values["fingerprints"],
        {path: Stamp(*each) for path, each in values["stamps"].items()},
        tuple(Skip(name, trial, reason, fault=fault) for trial, reason, fault in values["skipped"]),
        VideoSummary(**video) if video else None,
    )
