"""How long a recording is and how large its picture: from its video or, without one, from its DLC table."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache import Geometry, RecordingMeta
from pipeline.preprocess.clock import Clock
from pipeline.preprocess.discovery import RecordingFiles
from pipeline.preprocess.keypoints import DlcTable, KeypointError, read_dlc
from pipeline.preprocess.probe import VideoFacts, VideoSummary, probe
from pipeline.preprocess.text_table import UnreadableError, require_content
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import SettingsError

_MOST_LIKELY = 2.0  # SLEAP's scores may lie a little above 1
_OUTSIDE_SHARE = 0.05  # of the keypoints may lie outside the picture before that is said
_SURE = 0.5  # likelihood of the points that the size of an unknown picture is taken from
_SIZE_PERCENTILE = 99.9  # of their coordinates: one outlier must not set the scale


class UnusableError(ValueError):
    """The files of a recording do not fit each other; the message is the reason."""


@dataclass(frozen=True)
class Source:
    """Length and picture of a recording: of its video or, without one, of its DLC table; the other is None.

    summary: of the video; VideoFacts where it was looked at just now.
    """

    n_frames: int
    geometry: Geometry
    summary: VideoSummary | None
    table: DlcTable | None
    notes: tuple[str, ...]


def require_files(files: RecordingFiles, old: RecordingMeta | None) -> None:
    """Raise UnreadableError where the video, the table, or an annotation that `old` has, cannot be read now.

    An annotation that the cache does not have is a matter of its trial alone.
    """
    in_cache = {re.split(r"[/\\]", clip.annotation)[-1] for clip in old.clips if clip.annotation} if old else set()
    annotations = [path for _, path in files.annotations if path.name in in_cache]
    # One that is found by its content belongs to nobody while it cannot be read.
    former = {Path(clip.annotation) for clip in old.clips if clip.annotation} if old else set()
    for path in (files.video, files.dlc, *annotations, *sorted(path for path in former if path.is_file())):
        if path is not None:
            try:
                require_content(path)
            except UnreadableError as error:
                raise UnreadableError(f"{path} {error}") from None


def source_of(files: RecordingFiles, settings: PreprocessSettings, known: VideoSummary | None = None) -> Source:
    """known: what an earlier look at this very video found, which is then not looked at again.

    Raises VideoError, KeypointError, UnusableError or UnreadableError.
    """
    if files.video is not None:
        summary = known or probe(files.video)
        geometry = Geometry.fit(summary.width, summary.height, settings.img_size)
        return Source(summary.n_frames, geometry, summary, None, (summary.note,) if summary.note else ())
    table = read_dlc(files.dlc)
    n_frames = int(table.frames[-1]) + 1
    _check_rows(table, n_frames, "recording", settings.dlc_slack, ())
    if size := parse_frame_size(settings.frame_size):
        return Source(n_frames, Geometry.pose_only(*size), None, table, ())
    side = _picture_side(files, table)
    note = f"picture taken as {side}x{side} (--frame-size)"
    return Source(n_frames, Geometry.pose_only(side, side), None, table, (note,))


def clock_of(files: RecordingFiles, source: Source) -> Clock:
    """When the recording's frames are shown; without a video nothing is known of that. Raises VideoError."""
    if source.summary is None or files.video is None:
        return Clock(source.n_frames)
    facts = source.summary if isinstance(source.summary, VideoFacts) else probe(files.video)
    return Clock(source.n_frames, facts.fps if math.isfinite(facts.fps) else None, facts.time_s)


def check_table(table: DlcTable, source: Source, slack: int) -> list[str]:
    """What to say of a table that fits the recording; raises UnusableError for one that does not."""
    kind = "video" if source.summary else "recording"
    notes = _check_rows(table, source.n_frames, kind, slack, source.notes) + list(table.notes)
    if source.summary:
        _check_gaps(table, source.summary)
    inside = table.values[table.frames < source.n_frames]
    xy, visible = inside[..., :2], ~np.isnan(inside[..., 0])
    if (highest := np.nanmax(table.values[..., 2], initial=0)) > _MOST_LIKELY:
        raise UnusableError(f"the DLC table has likelihoods up to {highest:g}, expected 0 to 1: are they in percent?")
    if source.summary and visible.any() and np.nanmax(xy) < 1:
        raise UnusableError("the DLC table's coordinates are all below 1, expected pixels of the video")
    if not (visible & ~np.isnan(inside[..., 2])).any():
        notes.append("no keypoint is visible in any frame: the DLC table has no point with a likelihood")
    outside = (xy < 0) | (xy >= (source.geometry.width, source.geometry.height))
    share = outside.any(axis=-1).sum() / max(1, visible.sum())
    if share > _OUTSIDE_SHARE:
        notes.append(f"{share:.0%} of the keypoints lie outside the picture: is the DLC table of this very video?")
    return notes


def parse_frame_size(text: str) -> tuple[int, int] | None:
    """`1280x720` -> (1280, 720), nothing -> None. Raises SettingsError."""
    if not text:
        return None
    size = re.fullmatch(r"([1-9][0-9]*)[xX]([1-9][0-9]*)", text)
    if size is None:
        raise SettingsError(f"--frame-size {text}: expected WIDTHxHEIGHT in pixels, for example 1280x720")
    return int(size[1]), int(size[2])


def _check_rows(table: DlcTable, n_frames: int, kind: str, slack: int, source_notes: tuple[str, ...]) -> list[str]:
    n_inside = int((table.frames < n_frames).sum())
    rows = f"the DLC table has {len(table.frames)} rows (frames {table.frames[0]} to {table.frames[-1]})"
    of = f"the {kind} {n_frames} frames"
    if max(n_frames - n_inside, len(table.frames) - n_inside) > slack:
        more = "".join(f"; {note}" for note in source_notes)
        raise UnusableError(f"{rows}, {of}: is it of another version of it? (--dlc-slack {slack}){more}")
    return [] if n_inside == n_frames == len(table.frames) else [f"{rows}, {of}"]


def _check_gaps(table: DlcTable, video: VideoSummary) -> None:
    """Raise UnusableError where frames are missing from the file itself that were there when DLC saw it.

    A damaged avi, mkv, webm or ts loses packets without a sign but its header's count or a gap in time. Where a camera
    left the frames out, DLC has no rows of them either.
    """
    n_more = len(table.frames) - video.n_frames
    if n_more > 0 and n_more == video.n_missing:
        raise UnusableError(
            f"the DLC table and the video's header have {n_more} frames more than the video, and nothing tells which "
            "are lost; copy the video again"
        )
    if video.n_lost and n_more == video.n_lost:
        raise UnusableError(
            f"the DLC table has {video.n_lost} rows more than the video has frames, and the video's times jump by as "
            f"many after frame {video.lost_after}: frames were lost after DLC ran; copy the video again"
        )


def _picture_side(files: RecordingFiles, table: DlcTable) -> int:
    """Pixels of a square that holds nearly all points that are sure, or all where none is."""
    present = ~np.isnan(table.values[..., 0])
    if not present.any():
        raise KeypointError(f"{files.dlc}: not one row has a keypoint")
    sure = present & (table.values[..., 2] >= _SURE)
    larger = table.values[..., :2].max(axis=-1)[sure if sure.any() else present]
    side = math.floor(np.percentile(larger, _SIZE_PERCENTILE)) + 1
    if side <= 1:
        raise KeypointError(f"{files.dlc}: its coordinates are below 1, expected pixels; or give --frame-size")
    return side
