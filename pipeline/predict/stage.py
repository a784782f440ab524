"""New recordings in, tables and pictures out: one recording at a time, none of them twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cache as clip_cache
from cache import RecordingMeta
from pipeline.cluster import IN_PROCESS, Cluster
from pipeline.held import held
from pipeline.lab_tables import TableError
from pipeline.model.ensemble import networks_of
from pipeline.model.infer import pick_device
from pipeline.model.room import room_for
from pipeline.model.trained import Trained
from pipeline.predict import stimulus as stimulus_frames
from pipeline.predict import summary
from pipeline.predict.models import checkpoints, flipped, load_models, misfit, warn_of_networks
from pipeline.predict.recording import predict_clip, predict_recording
from pipeline.predict.records import BOUTS, SUMMARY, PredictFolder, model_sources, sources
from pipeline.predict.summary import FAILED, PREDICTED, REFUSED, SKIPPED, UP_TO_DATE, WITH_RESULTS, Outcome
from pipeline.preprocess.stage import Report, preprocess
from pipeline.preprocess_settings import STALL_S, PreprocessSettings
from pipeline.stimuli import Stimuli

__all__ = ["BOUTS", "SUMMARY", "PredictError", "Predicted", "predict", "predict_clip"]

Progress = Callable[[str, float, int], None]


class PredictError(ValueError):
    """The results cannot be written; the message says why."""


@dataclass(frozen=True)
class Predicted:
    """What became of each recording that was asked for, by name. pictures: ethograms of all trials.

    former: where the results that another model had left in the folder are now; None where there were none.
    """

    report: Report
    outcomes: tuple[Outcome, ...]
    n_trials: int
    n_bouts: int
    out: Path
    pictures: list[Path]
    former: Path | None = None

    @property
    def left_out(self) -> dict[str, str]:
        """Recordings without results, and why."""
        return {row.recording: row.reason for row in self.outcomes if row.state not in WITH_RESULTS}

    @property
    def n_faulty(self) -> int:
        """Recordings that the model does not fit, or failed on."""
        return sum(row.state in (REFUSED, FAILED) for row in self.outcomes)


def predict(
    models: Sequence[Path],
    *,
    out: Path,
    videos: Path | None = None,
    dlc: Path | None = None,
    device: str = "auto",
    dlc_scorer: str | None = None,
    prefer_filtered: bool | None = None,
    cluster: Cluster = IN_PROCESS,
    stall_s: float = STALL_S,
    decide: bool = True,
    flips: bool = False,
    stimulus: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], object] = print,
) -> Predicted:
    """Preprocesses new recordings as the model's were, and writes a table per trial, bouts and ethograms into `out`.

    A recording whose record in `out` is of the same models, decision and data is up to date, unless `force`; what
    another model left there is moved aside. One that cannot be predicted is listed, and the others go on.
    models: see `load_models`. decide False: the arg-max of each frame, whatever decision layer the model has. flips:
    each clip is seen in a mirror too, and the mean is decided. stimulus: a table of stimulus frames, which a model that
    is shown the time since the stimulus needs.
    dlc_scorer, prefer_filtered: which DLC tables to take, None: as for the model's own recordings. cluster, stall_s: as
    in preprocess. The cache lies in out/cache: a second call decodes nothing again. Raises CheckpointError, CacheError,
    TableError, PredictError, BusyError where another process is at work in `out`.
    """
    trained = load_models(models, pick_device(device))
    if not decide:
        trained = dataclasses.replace(trained, decision=None)
    if flips:
        trained = flipped(trained, say)
    stimuli = stimulus_frames.read(trained, stimulus, say)
    files = checkpoints(models)
    tables = {"dlc_scorer": dlc_scorer, "prefer_filtered": prefer_filtered}
    settings = trained.preprocess | {name: value for name, value in tables.items() if value is not None}
    with held(out, say):
        report = preprocess(
            PreprocessSettings(**settings),
            cache=out / "cache",
            videos=videos,
            dlc=dlc,
            cluster=cluster,
            stall_s=stall_s,
            progress=progress,
        )
        cluster.close()  # its processes have nothing more to do
        clips, asked = clip_cache.open(out / "cache"), _asked(report)
        warn_of_networks(trained, (meta for meta in clips.recordings if meta.recording in asked), say)
        for note in stimulus_frames.of_others(stimuli, clips):
            say(f"[warning] {stimulus}: {note}")
        folder, model = PredictFolder(out), model_sources(trained, files)
        try:
            former = folder.make_room(model)
            summary.write_about(
                folder, **summary.describe(trained, files, model, settings, stimulus if stimuli else None)
            )
            outcomes = _with_skips(_predict_all(trained, report, folder, model, stimuli, force, progress), report)
            n_trials, n_bouts = summary.finish(folder, outcomes, trained.class_names)
            pictures = summary.draw(folder, outcomes, trained.class_names)
        except OSError as error:  # what reading a recording raises is told with it
            raise PredictError(
                f"{out}: cannot be written ({error}); what was finished is kept: make room, and the same command "
                "goes on"
            ) from error
        return Predicted(report, outcomes, n_trials, n_bouts, out, pictures, former)


def _predict_all(
    trained: Trained,
    report: Report,
    folder: PredictFolder,
    model: Mapping[str, Any],
    stimuli: Stimuli,
    force: bool,
    progress: Progress | None,
) -> list[Outcome]:
    """One recording after the other. Raises OSError where results cannot be written."""
    clips = clip_cache.open(folder.out / "cache")
    asked = _asked(report)
    found: dict[str, Outcome] = {}
    todo: dict[str, RecordingMeta] = {}
    for meta in clips.recordings:
        if meta.recording in asked:
            try:
                told = stimulus_frames.told(meta, stimuli)
            except TableError as error:
                found[meta.recording] = Outcome(meta.recording, REFUSED, str(error))
                continue
            if settled := _settled(trained, told, folder, model, force):
                found[meta.recording] = settled
            else:
                todo[meta.recording] = told
    folder.drop([*todo, *(name for name, outcome in found.items() if outcome.state == REFUSED)])
    networks = list(networks_of(trained))
    room = room_for(networks, networks[0].action.weight.device)
    n_looks = len(networks) * (2 if trained.network.mirror else 1)
    bar = _Bar(progress, sum(meta.n_frames for meta in todo.values()), n_looks)
    for name, of_recording in groupby(clips, key=lambda clip: clip.recording):
        if name in todo:
            own = stimulus_frames.told_clips(list(of_recording), todo[name])
            made_of = sources(model, todo[name])
            reason = predict_recording(trained, own, folder, made_of, room, bar.start(name, todo[name].n_frames))
            own[0].forget()
            found[name] = Outcome(name, FAILED if reason else PREDICTED, reason)
    if failed := [name for name, outcome in found.items() if outcome.state == FAILED]:
        folder.drop(failed)
    return list(found.values())


def _asked(report: Report) -> set[str]:
    """Without those of an earlier call whose files are not in this one's folders: these stay in the cache."""
    return {row.recording for row in report.recordings if row.state != "removed"}


def _settled(
    trained: Trained, meta: RecordingMeta, folder: PredictFolder, model: Mapping[str, Any], force: bool
) -> Outcome | None:
    """What is known of a recording without looking at its frames; None: it is to be predicted."""
    if why := misfit(trained, meta) or stimulus_frames.lacking(trained, meta):
        return Outcome(meta.recording, REFUSED, why)
    record = None if force else folder.read(meta.recording)
    if record is None or record.made_of != sources(model, meta):
        return None
    return Outcome(meta.recording, UP_TO_DATE)


def _with_skips(outcomes: Sequence[Outcome], report: Report) -> tuple[Outcome, ...]:
    """With the recordings that preprocess left out, and with what it says of trials, by name."""
    found = {outcome.recording: outcome for outcome in outcomes}
    for skip in report.skipped:
        reason = skip.reason if skip.trial is None else f"trial {skip.trial}: {skip.reason}"
        former = found.get(skip.recording, Outcome(skip.recording, SKIPPED))
        both = "; ".join(filter(None, (former.reason, reason)))
        found[skip.recording] = dataclasses.replace(former, reason=both)
    return tuple(found[name] for name in sorted(found))


class _Bar:
    """Says how many frames are done, of all recordings together; each of them is looked at n_looks times."""

    def __init__(self, tell: Progress | None, n_frames: int, n_looks: int) -> None:
        self.tell, self.n_frames, self.n_looks = tell, n_frames, n_looks
        self.before = 0  # frames of the recordings before the one at work

    def start(self, recording: str, n_frames: int) -> Callable[[int], None]:
        """What is to be told the frames of this recording that were looked at once more."""
        start, seen = self.before, 0
        self.before += n_frames

        def passed(n: int) -> None:
            nonlocal seen
            seen += n
            if self.tell:
                self.tell(f"predict {recording}", start + seen / self.n_looks, self.n_frames)

        return passed
