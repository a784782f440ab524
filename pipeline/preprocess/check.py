"""What preprocess would make of a lab's folders, and all that is wrong with them, without writing anything.

Discovery, reading, trials and decoding are those of preprocess; only, a fault does not end the look at a recording.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from cache import Geometry
from pipeline.preprocess.advice import FILLED, LAG_ADVICE, LEFTOVER, OTHER_LENGTH, advice
from pipeline.preprocess.decode import Block, decode, trusted_decoder
from pipeline.preprocess.discovery import RecordingFiles, Skip, discover
from pipeline.preprocess.keypoints import DlcTable, align, read_dlc
from pipeline.preprocess.lag import GAP, MAX_LAG, LagEstimate, estimate_lag
from pipeline.preprocess.probe import VideoError, VideoFacts
from pipeline.preprocess.source import Source, check_table, clock_of, source_of
from pipeline.preprocess.stage import BAD_EXIT_CODE, Progress, check_settings
from pipeline.preprocess.staleness import UNUSABLE, skip_for
from pipeline.preprocess.text_table import UnreadableError, require_content
from pipeline.preprocess.trials import Plan, Trial, damage_note, damage_of, leave_out_damaged, plan_trials
from pipeline.preprocess_settings import PreprocessSettings

T = TypeVar("T")

Verdict = Literal["ok", "warning", "skipped"]


@dataclass(frozen=True)
class Remark:
    """What is to be said of a trial, or with trial None of a recording or a file. fault: exit code 3 says so too."""

    recording: str
    trial: int | None
    verdict: Verdict
    reason: str
    what_to_do: str
    fault: bool = False


@dataclass(frozen=True)
class Row:
    """One trial, or with trial None a recording or a file that is left out as a whole.

    frames: that the video is said to have; decoded: that were decoded, None where that broke off or was not tried.
    lag: rows that the keypoints run ahead; None where that is not told. crop: frames [start, stop) of the trial.
    read_as: the format of its annotation.
    """

    recording: str
    trial: int | None = None
    frames: int | None = None
    decoded: int | None = None
    dlc_rows: int | None = None
    label_rows: int | None = None
    read_as: str = ""
    fps: float | None = None
    size: str = ""
    crop: str = ""
    lag: int | None = None
    verdict: Verdict = "ok"


@dataclass(frozen=True)
class Checked:
    """Rows and remarks by recording and trial; lags: of each recording with a video and a table that fits it.

    warnings: what is to be said of all recordings together.
    """

    rows: tuple[Row, ...]
    remarks: tuple[Remark, ...]
    lags: dict[str, LagEstimate]
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return BAD_EXIT_CODE if any(remark.fault for remark in self.remarks) else 0

    def remarks_on(self, row: Row) -> list[Remark]:
        """Of the trial and of its recording."""
        return [r for r in self.remarks if r.recording == row.recording and r.trial in (None, row.trial)]


def check(
    settings: PreprocessSettings,
    *,
    videos: Path | None = None,
    annotations: Path | None = None,
    dlc: Path | None = None,
    quick: bool = False,
    progress: Progress | None = None,
) -> Checked:
    """Look at all that preprocess would read. quick: without decoding, so also without the lag.

    Raises SettingsError or DiscoveryError, as preprocess does.
    """
    check_settings(settings)
    found = discover(videos, annotations, dlc, settings)
    looks = [_look_at(files, settings, quick, progress) for files in found.recordings]
    remarks = [_left_out(skip) for skip in found.skipped]
    rows = [Row(name, verdict="skipped") for name in sorted({skip.recording for skip in found.skipped})]
    for look in looks:
        remarks += _remarks(look)
        rows += _rows(look)
    rows.sort(key=lambda row: (row.recording, row.trial or 0))
    remarks.sort(key=lambda remark: (remark.recording, remark.trial or 0))
    lags = {look.files.name: look.lag for look in looks if look.lag}
    return Checked(tuple(rows), tuple(remarks), lags, found.warnings)


def lag_warning(estimate: LagEstimate, lag_set: int) -> str:
    """What to say of a table that another lag fits; lag_set: the --dlc-lag that it was looked at with."""
    rows = f"{abs(estimate.lag)} row{'s' if abs(estimate.lag) > 1 else ''}"
    where = f"what frame n shows stands in row n {lag_set + estimate.lag:+d}".replace("+", "+ ").replace("-", "- ")
    return (
        f"keypoints run {rows} {'ahead of' if estimate.lag > 0 else 'behind'} the video (evidence: {where}; so the "
        f"picture around them changes by {estimate.change:.1f} gray levels in {GAP} frames, as it is by "
        f"{estimate.change_at_0:.1f}); if that is so set --dlc-lag {lag_set + estimate.lag}"
    )


@dataclass
class _Look:
    """A recording while it is looked at: what is known of it, and what is wrong with it as a whole."""

    files: RecordingFiles
    settings: PreprocessSettings
    source: Source | None = None
    table: DlcTable | None = None
    plan: Plan | None = None
    decoded: int | None = None
    intact: list[np.ndarray] = field(default_factory=list)
    lag: LagEstimate | None = None
    faults: list[Skip] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _look_at(files: RecordingFiles, settings: PreprocessSettings, quick: bool, progress: Progress | None) -> _Look:
    look = _Look(files, settings, notes=list(files.notes))
    _read(look)
    _plan(look)
    if look.source and isinstance(look.source.summary, VideoFacts) and files.video and not quick:
        _decode(look, files.video, look.source.summary, look.source.geometry, progress)
    return look


def _read(look: _Look) -> None:
    """Read video and table; what is wrong with each is said once."""
    files = look.files
    empty = {path for path in (files.video, files.dlc) if path and not _has_content(look, path)}
    if (files.video or files.dlc) not in empty:
        look.source = _tried(look, source_of, files, look.settings)
    if look.source and look.source.table:
        look.table = look.source.table
    elif files.video and files.dlc not in empty:
        look.table = _tried(look, read_dlc, files.dlc)


def _has_content(look: _Look, path: Path) -> bool:
    try:
        require_content(path)
    except UnreadableError as error:
        look.faults.append(Skip(look.files.name, None, f"{path} {error}", passing=True))
        return False
    return True


def _tried(look: _Look, read: Callable[..., T], *arguments: object) -> T | None:
    """What `read` gives; None, with the reason among the faults, where it finds that the recording cannot be used."""
    try:
        return read(*arguments)
    except UNUSABLE as error:
        look.faults.append(skip_for(look.files.name, error))
        return None


def _plan(look: _Look) -> None:
    """The trials, and whether the table fits; if the video cannot be read, the table says how long the recording is."""
    source, table = look.source, look.table
    n_frames = source.n_frames if source else int(table.frames[-1]) + 1 if table else 0
    if n_frames:
        clock = (lambda: clock_of(look.files, source)) if source else None
        look.plan = plan_trials(look.files, n_frames, look.settings, clock)
    if source:
        look.notes += [*source.notes, *(look.plan.notes if look.plan else ())]
    if source and table:
        look.notes += _tried(look, check_table, table, source, look.settings.dlc_slack) or []


def _decode(look: _Look, video: Path, facts: VideoFacts, geometry: Geometry, progress: Progress | None) -> None:
    """Decode the whole video, once, and estimate the lag of a table that fits it on the way."""

    def blocks(stop: int) -> Iterator[Block]:
        return _gray(video, facts, geometry, look.settings.decoder, stop)

    frames = _watched(blocks(facts.n_frames), look, facts.n_frames, progress)
    try:
        if look.table and not look.faults:
            around = np.arange(-MAX_LAG, facts.n_frames + MAX_LAG)
            keypoints = align(look.table, around, geometry.width, geometry.height, look.settings.dlc_lag)
            keypoints[..., :2] = geometry.to_square(keypoints[..., :2])
            look.lag = estimate_lag(frames, keypoints)
        deque(frames, maxlen=0)
        _note_damage(look)
    except VideoError as error:
        _note_or_fault(look, str(error), blocks)


def _note_damage(look: _Look) -> None:
    """Frames that cannot be decoded: of which trials, and which of these are then left out."""
    intact, plan = np.concatenate(look.intact), look.plan
    look.decoded = int(intact.sum())
    if intact.all() or plan is None:
        return
    look.lag = None  # black frames look like motion
    damage = damage_of(plan, intact)
    look.plan = leave_out_damaged(plan, look.files.name, damage, look.settings.max_damaged)
    if not damage:
        look.notes.append(f"{len(intact) - look.decoded} frames of the video are damaged, none of a trial")
    elif look.plan.trials:
        look.notes += damage_note(look.plan.frame_index, intact[look.plan.frame_index])


def _note_or_fault(look: _Look, reason: str, blocks: Callable[[int], Iterator[Block]]) -> None:
    """A video that breaks off after the last trial is used all the same."""
    stop = look.plan.stop if look.plan else 0
    try:
        deque(blocks(stop), maxlen=0)
    except VideoError:
        stop = 0
    if stop:
        look.notes.append(f"{reason} (no trial needs that frame)")
    else:
        look.faults.append(Skip(look.files.name, None, reason))


def _gray(video: Path, facts: VideoFacts, geometry: Geometry, wanted: str, stop: int) -> Iterator[Block]:
    """Frames [0, stop) as gray blocks (n, S, S), and which of them are intact (n,).

    Raises VideoError where preprocess would leave the recording out.
    """
    decoder = trusted_decoder(wanted, video, facts)
    for block, intact in decode(video, facts, stop=stop, geometry=geometry, channels=1, decoder=decoder):
        yield block[..., 0], intact


def _watched(blocks: Iterable[Block], look: _Look, n_frames: int, progress: Progress | None) -> Iterator[np.ndarray]:
    """The pixels alone; which frames are intact is added to the look."""
    n_done = 0
    for block, intact in blocks:
        n_done += len(block)
        look.intact.append(intact.copy())
        if progress:
            progress(look.files.name, n_done, n_frames)
        yield block


def _rows(look: _Look) -> list[Row]:
    """A row for each trial, or one for a recording that is left out as a whole."""
    source, video, plan, lag = look.source, look.source.summary if look.source else None, look.plan, look.lag
    row = Row(
        look.files.name,
        frames=source.n_frames if source else None,
        decoded=look.decoded,
        dlc_rows=len(look.table.frames) if look.table else None,
        fps=round(video.fps, 3) if video and math.isfinite(video.fps) else None,
        size=f"{source.geometry.width}x{source.geometry.height}" if source else "",
        lag=lag.lag if lag and not lag.unknown else None,
        verdict="warning" if any(remark.verdict == "warning" for remark in _remarks(look)) else "ok",
    )
    rows = [replace(row, trial=trial, verdict="skipped") for trial in {skip.trial for skip in _skips(look)}]
    return rows + [_of_trial(row, trial) for trial in (plan.trials if plan and not look.faults else ())]


def _of_trial(row: Row, trial: Trial) -> Row:
    n_rows = len(trial.labels)
    labels = n_rows if trial.annotation else None
    crop = f"[{trial.crop_start}:{trial.crop_start + n_rows}]"
    return replace(row, trial=trial.number, label_rows=labels, read_as=trial.format, crop=crop)


def _skips(look: _Look) -> list[Skip]:
    """Without a readable video the length is a guess, so that only annotations can be judged."""
    of_trials = look.plan.skipped if look.plan and (look.source or look.files.annotations) else ()
    return [*look.faults, *of_trials]


def _remarks(look: _Look) -> list[Remark]:
    in_step = look.lag is not None and not look.lag.unknown and not look.lag.differs
    harmless = f"{LEFTOVER}|{FILLED}|{OTHER_LENGTH}" if in_step else f"{LEFTOVER}|{FILLED}"
    remarks = [_left_out(skip) for skip in _skips(look)] + [
        _noted(look.files.name, note, harmless) for note in look.notes
    ]
    if look.lag and look.lag.differs:
        warning = lag_warning(look.lag, look.settings.dlc_lag)
        remarks.append(Remark(look.files.name, None, "warning", warning, LAG_ADVICE))
    return remarks


def _left_out(skip: Skip) -> Remark:
    what_to_do = advice(skip.reason) if skip.fault else "nothing: it is no fault"
    return Remark(skip.recording, skip.trial, "skipped", skip.reason, what_to_do, skip.fault)


def _noted(recording: str, note: str, harmless: str) -> Remark:
    return Remark(recording, None, "ok" if re.search(harmless, note) else "warning", note, advice(note))
