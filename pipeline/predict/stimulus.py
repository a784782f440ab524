"""When the stimulus comes, of recordings that a model is shown the time since it (--time-input stimulus)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cache import Clip, RecordingMeta
from pipeline import stimuli as written
from pipeline.lab_tables import TableError
from pipeline.model.ensemble import networks_of
from pipeline.model.trained import Trained
from pipeline.stimuli import Stimuli


def is_shown(trained: Trained) -> bool:
    """Whether any of the model's networks is shown the time since the stimulus."""
    return any(network.config.time_input == "stimulus" for network in networks_of(trained))


def read(trained: Trained, table: Path | None, say: Callable[[str], object]) -> Stimuli:
    """The stimuli of a table that a model has a use for. Raises TableError, also where it needs one."""
    if table is None:
        if is_shown(trained):
            raise TableError(
                "the model is shown the time since the stimulus (--time-input stimulus), which nothing tells of new "
                "recordings: write a table recording,trial,stim_frame and give it, --stimulus"
            )
        return {}
    stimuli = written.read_stimuli(table)
    if is_shown(trained):
        return stimuli
    say(f"[warning] --stimulus {table}: does nothing, the model was not trained with --time-input stimulus")
    return {}


def of_others(stimuli: Stimuli, clips: Iterable[Clip]) -> list[str]:
    """A note on the stimuli of trials that are not among these clips."""
    return written.of_others(stimuli, [(clip.recording, clip.trial) for clip in clips]) if stimuli else []


def told(meta: RecordingMeta, stimuli: Stimuli) -> RecordingMeta:
    """The recording with the stimuli that are known of its trials. Raises TableError for one outside of its trial."""
    clips = []
    for rows in meta.clips:
        stop = rows.crop_start + rows.stop - rows.start
        frame = written.of_trial(stimuli, meta.recording, rows.trial, rows.crop_start, stop)
        clips.append(rows if frame is None else dataclasses.replace(rows, stim_frame=frame))
    return dataclasses.replace(meta, clips=tuple(clips))


def told_clips(clips: Sequence[Clip], meta: RecordingMeta) -> list[Clip]:
    """A recording's clips with the stimuli of its `told` meta."""
    frames = {rows.trial: rows.stim_frame for rows in meta.clips}
    return [clip.with_stimulus(frames[clip.trial]) for clip in clips]


def lacking(trained: Trained, meta: RecordingMeta) -> str:
    """Why the model cannot be used on a recording whose stimuli are not known, or an empty string."""
    without = [str(rows.trial) for rows in meta.clips if rows.stim_frame is None]
    if not without or not is_shown(trained):
        return ""
    trials = f"trial{'s' if len(without) > 1 else ''} {', '.join(without)}"
    return (
        f"no stimulus frame is known of {trials}, and the model is shown the time since it (--time-input stimulus): "
        "write it into a table recording,trial,stim_frame and give that, --stimulus"
    )


def warn_of_unknown(trained: Trained, clips: Sequence[Clip], say: Callable[[str], object]) -> None:
    """Says how many of the clips that are scored have no stimulus frame, if the model is shown the time since it."""
    n = sum(clip.stim_frame is None for clip in clips)
    if n and is_shown(trained):
        say(
            f"[warning] {n} of {len(clips)} trials have no StimFrame: there the model, which is shown the time since "
            "the stimulus, is scored without it; `pipeline predict` refuses such trials"
        )
