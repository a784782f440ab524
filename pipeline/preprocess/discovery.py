"""Which files make a recording: videos, DeepLabCut tables and annotations, paired by name."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.file_names import ANNOTATION_PREFIX, VIDEO_SUFFIXES, composed
from pipeline.preprocess.annotation_formats import EVENTS, Header, format_of, header_of, recordings_named_in
from pipeline.preprocess.folder_warnings import mixtures, unread_subfolders
from pipeline.preprocess.table_names import (
    LABELLED_COPY,
    TABLE_SUFFIXES,
    HeaderFault,
    UnpairedError,
    choose_table,
    header_fault,
    is_table,
    stem_of_table,
    tables_by_stem,
)
from pipeline.preprocess.text_table import UnreadableError
from pipeline.preprocess_settings import PreprocessSettings

ANNOTATION_SUFFIXES = (".csv", ".tsv", ".txt")
_NOT_TEXT = (".xlsx", ".xls", ".ods", ".numbers", ".gz", ".zip")  # what annotations may be kept in, and cannot be read
# What DeepEthogram and the Caltech Behavior Annotator put after the recording's name.
_ENDINGS = ("_labels", "_annot")
_NO_HEADER = (
    "it has a recording's name, but no header of one-hot columns of the class list (--classes), BORIS events or bouts"
)


class DiscoveryError(ValueError):
    """A folder does not exist, or holds no recording at all."""


@dataclass(frozen=True)
class Skip:
    """A recording or one of its trials (None: all of it) that is left out.

    fault False: nothing is wrong with it. passing: its files cannot be read now, so what is in the cache stays.
    """

    recording: str
    trial: int | None
    reason: str
    fault: bool = True
    passing: bool = False

    @property
    def place(self) -> tuple[str, int, str]:
        """What lists of them are sorted by."""
        return self.recording, self.trial or 0, self.reason


@dataclass(frozen=True)
class RecordingFiles:
    """The files of one recording; annotations are (trial, path), trial None where the name has no number.

    notes: what should be said of their choice.
    """

    name: str
    video: Path | None
    dlc: Path
    annotations: tuple[tuple[int | None, Path], ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Discovery:
    """warnings: what is to be said of all of it together."""

    recordings: tuple[RecordingFiles, ...]
    skipped: tuple[Skip, ...]
    warnings: tuple[str, ...] = ()


def discover(
    videos: Path | None,
    annotations: Path | None,
    dlc: Path | None,
    settings: PreprocessSettings,
    fault_of: HeaderFault = header_fault,
) -> Discovery:
    """Pair the files of the folders; without `videos` the recordings come from the DLC tables alone.

    fault_of: header_fault, or what remembers its answers. Raises DiscoveryError if a folder is missing or there is
    neither a video nor a table.
    """
    if videos is None and dlc is None:
        raise DiscoveryError("nothing to preprocess: give --videos, or --dlc for recordings without a video")
    skipped: list[Skip] = []
    in_videos = _files(videos, (*VIDEO_SUFFIXES, *TABLE_SUFFIXES), skipped)
    in_dlc = _files(dlc, TABLE_SUFFIXES, skipped) if dlc != videos else []
    by_stem = _videos_by_stem(in_videos)
    tables = [in_dlc, [path for path in in_videos if path.suffix.lower() in TABLE_SUFFIXES]]
    of_tables = () if videos else (stem_of_table(path) for path in in_dlc if is_table(path, fault_of))
    stems = sorted(by_stem) if videos else sorted(set(of_tables))
    named = [tables_by_stem(folder, stems) for folder in tables]
    if not stems and not skipped:
        wanted = f"no video ({' '.join(VIDEO_SUFFIXES)})" if videos else "no DLC table (.csv or .h5)"
        raise DiscoveryError(
            "; ".join([f"{videos or dlc}: {wanted} in this folder", *unread_subfolders(videos, annotations, dlc)])
        )
    in_annotations = _files(annotations, (*ANNOTATION_SUFFIXES, *_NOT_TEXT), skipped)
    matched, unmatched = _match_annotations(in_annotations, by_stem, stems, settings, fault_of)
    skipped += unmatched
    recordings = []
    for stem in stems:
        try:
            video = _choose_video(by_stem.get(stem, []))
            candidates = next(filter(None, (folder.get(stem, []) for folder in named)), [])
            table, notes = choose_table(stem, candidates, settings, fault_of)
        except UnpairedError as error:
            fault = not LABELLED_COPY.search(stem)
            skipped.append(Skip(stem, None, str(error), fault, error.passing))
        else:
            recordings.append(RecordingFiles(stem, video, table, tuple(matched[stem]), notes))
    if videos:
        used = {path for folder in named for stem in stems for path in folder.get(stem, [])}
        skipped += _unused_tables([path for folder in tables for path in folder if path not in used], fault_of)
    skipped.sort(key=lambda skip: skip.place)
    warnings = mixtures({files.name: files.dlc for files in recordings}) + unread_subfolders(videos, annotations, dlc)
    return Discovery(tuple(recordings), tuple(skipped), warnings)


def _files(folder: Path | None, suffixes: tuple[str, ...], skipped: list[Skip]) -> list[Path]:
    """The folder's files of these suffixes, sorted, without the `._*` litter of macOS and other hidden ones.

    What has such a name but cannot be used is added to `skipped`.
    """
    if folder is None:
        return []
    if not folder.is_dir():
        raise DiscoveryError(f"{folder}: no such folder")
    files = []
    with os.scandir(folder) as entries:
        named = sorted(
            (entry for entry in entries if not entry.name.startswith(".") and _suffix(entry.name) in suffixes),
            key=lambda entry: entry.name,
        )
    for entry in named:
        path = folder / entry.name
        if reason := _unusable(entry):
            # A table or an annotation is not a recording: it is named as a file.
            name = path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name
            skipped.append(Skip(_printable(name), None, f"{_printable(path.name)} {reason}", passing=True))
        else:
            files.append(path)
    return files


def _suffix(name: str) -> str:
    """The last suffix in lower case, with its dot; a Path for each of 10,000s of names would take longer."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122


def _unusable(entry: os.DirEntry[str]) -> str | None:
    """Why it is no file that could be read, or None."""
    if _printable(entry.name) != entry.name:
        return "has a name that is not UTF-8; rename it"
    try:
        if entry.is_file():
            return None
        return "is a folder, expected a file" if entry.is_dir() else "is a link to what is not there"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _printable(name: str) -> str:
    """The name itself, or its repr where it cannot be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return repr(name)
    return name


def _videos_by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        if path.suffix.lower() in VIDEO_SUFFIXES:
            by_stem[path.stem].append(path)
    return dict(by_stem)


def _choose_video(videos: Sequence[Path]) -> Path | None:
    if len(videos) > 1:
        raise UnpairedError(f"several videos of this name: {', '.join(path.name for path in videos)}; keep one")
    return videos[0] if videos else None


def _unused_tables(unused: Iterable[Path], fault_of: HeaderFault) -> list[Skip]:
    reason = "a DLC table without a video of its name; recordings without a video are read without --videos"
    return [Skip(path.name, None, reason, fault=False) for path in unused if is_table(path, fault_of)]


def _match_annotations(
    files: Iterable[Path],
    videos: dict[str, list[Path]],
    stems: Sequence[str],
    settings: PreprocessSettings,
    fault_of: HeaderFault,
) -> tuple[dict[str, list[tuple[int | None, Path]]], list[Skip]]:
    """Annotations of each stem as (trial, path), and those that belong to none or to more than one."""
    stem_of = _annotated_names(videos, stems)
    matched: dict[str, list[tuple[int | None, Path]]] = defaultdict(list)
    skipped = []
    for path in files:
        shared, header = False, None
        if path.suffix.lower() in _NOT_TEXT:
            if path.stem.lower().startswith(ANNOTATION_PREFIX):
                skipped.append(Skip(path.name, None, "an annotation that is no text: save it as CSV"))
            continue
        if path.stem.startswith(ANNOTATION_PREFIX):
            meanings = _meanings(path.stem.removeprefix(ANNOTATION_PREFIX), stem_of)
        else:
            names = stem_of | {_fold(stem): stem for stem in stems}
            header, fault = _foreign_header(path, settings, fault_of)
            meanings, shared = _foreign_meanings(path, header, names)
            if not meanings and (header is None or header.format not in EVENTS):
                if fault and _meanings_of_file(path, names):
                    is_fault, passing = str(fault) != _NO_HEADER, isinstance(fault, UnreadableError)
                    skipped.append(Skip(path.name, None, f"not read: {fault}", is_fault, passing))
                elif _is_of_frames(path, settings, fault_of):
                    reason = f"no annotation: its name does not begin with {ANNOTATION_PREFIX}"
                    skipped.append(Skip(path.name, None, reason, fault=False))
                continue
        if len(meanings) == 1 or shared:
            for stem, trial in meanings:
                matched[stem].append((trial, path))
        else:
            skipped.append(Skip(path.name, None, _unmatched_reason(header, meanings, bool(videos))))
    for stem, found in matched.items():
        matched[stem], less = _own_first(stem, found)
        skipped += less
    return matched, skipped


def _is_of_frames(path: Path, settings: PreprocessSettings, fault_of: HeaderFault) -> bool:
    """Whether it may be an annotation of this program's own that lacks its name; of .csv all but a DLC table."""
    return fault_of(path) is not None if path.suffix.lower() == ".csv" else format_of(path, settings) == "frames"


def _own_first(stem: str, found: list[tuple[int | None, Path]]) -> tuple[list[tuple[int | None, Path]], list[Skip]]:
    """Without other programs' files of what has a file of this program's own: that was made from them."""
    own = {trial for trial, path in found if path.stem.startswith(ANNOTATION_PREFIX)}
    kept, less = [], []
    for trial, path in found:
        if own and (trial is None or trial in own) and not path.stem.startswith(ANNOTATION_PREFIX):
            reason = f"not read of {stem}: that has annotations {ANNOTATION_PREFIX}..., which count"
            less.append(Skip(path.name, None, reason, fault=False))
        else:
            kept.append((trial, path))
    return kept, less


def _foreign_header(
    path: Path, settings: PreprocessSettings, fault_of: HeaderFault
) -> tuple[Header | None, ValueError | None]:
    """The header of a file that another program named, if it is one of annotations; never one of this program's own.

    And why nothing can be told of it.
    """
    if path.suffix.lower() == ".csv" and fault_of(path) is None:
        return None, None
    try:
        header = header_of(path, settings)
    except ValueError as error:
        return None, error
    return (header, None) if header and header.format != "frames" else (None, ValueError(_NO_HEADER))


def _meanings_of_file(path: Path, stem_of: dict[str, str]) -> list[tuple[str, int | None]]:
    """As `_meanings`, of names that other programs give."""
    bodies = {path.stem, *(path.stem.removesuffix(ending) for ending in _ENDINGS)}
    return sorted({each for body in bodies for each in _meanings(body, stem_of)}, key=str)


def _foreign_meanings(
    path: Path, header: Header | None, stem_of: dict[str, str]
) -> tuple[list[tuple[str, int | None]], bool]:
    """As `_meanings`, of names that other programs give; and whether it belongs to all of these recordings.

    A BORIS file tells of every recording whose video is among its media, unless it has the name of another one.
    """
    if header is None:
        return [], False
    named = _meanings_of_file(path, stem_of)
    if header.format != "boris":
        return named, False
    try:
        played = recordings_named_in(path, header)
        media = {stem for stem in stem_of.values() if composed(stem) in played}
    except ValueError:  # said when it is read, of the recording that has its name
        media = set()
    if not media or (named and not {stem for stem, _ in named} & media):
        return named, False
    trials = dict(named)
    return [(stem, trials.get(stem)) for stem in sorted(media)], True


def _annotated_names(videos: dict[str, list[Path]], stems: Sequence[str]) -> dict[str, str]:
    """The names that an annotation may give a recording -> its stem.

    With videos that is the video's file name; without them the stem, alone or with the extension of a video.
    """
    if videos:
        return {_fold(path.name): stem for stem, paths in videos.items() for path in paths}
    with_suffix = {_fold(stem + suffix): stem for stem in stems for suffix in VIDEO_SUFFIXES}
    return with_suffix | {_fold(stem): stem for stem in stems}


def _fold(name: str) -> str:
    """The name, composed, with a video's extension in lower case: `a.MP4` and `a.mp4` mean one video."""
    name, suffix = composed(name), _suffix(name)
    return name[: -len(suffix)] + suffix if suffix in VIDEO_SUFFIXES else name


def _meanings(body: str, stem_of: dict[str, str]) -> list[tuple[str, int | None]]:
    """All readings of an annotation's name without its prefix: `<name>` and `<name>_<trial>`."""
    meanings: list[tuple[str, int | None]] = []
    if _fold(body) in stem_of:
        meanings.append((stem_of[_fold(body)], None))
    numbered = re.fullmatch(r"(.+)_([0-9]{1,6})", body)
    if numbered and _fold(numbered[1]) in stem_of:
        meanings.append((stem_of[_fold(numbered[1])], int(numbered[2])))
    return meanings


def _unmatched_reason(header: Header | None, meanings: list[tuple[str, int | None]], has_videos: bool) -> str:
    if meanings:
        readings = " or ".join(f"{name}, trial {trial or 1}" for name, trial in meanings)
        return (
            f"an annotation of {readings}: its name means both; rename it, with the video's extension before _<trial>"
        )
    expected = (
        "prediction_<video file name with extension>_<trial>.csv" if has_videos else "prediction_<name>_<trial>.csv"
    )
    known = "video" if has_videos else "DLC table"
    if header:
        expected = f"<name of the {known}>.csv" + (", or that name among its media" if header.format == "boris" else "")
    return f"an annotation that belongs to no {known} here; expected {expected}"
