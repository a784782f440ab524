"""A recording as Neurodata Without Borders: bouts, probabilities, keypoints and trials on the video's time.

Time 0 is the video's first frame. Axes: F frames of all trials, N classes, K keypoints.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from pipeline.bouts import Bout, find
from pipeline.export.file_names import safe_name
from pipeline.export.paths import beside
from pipeline.export.recordings import ExportError, Keypoints, Recording, Said
from pipeline.export.started import Started
from pipeline.export.subjects import UNKNOWN

BOUTS = "behavior_bouts"
PEOPLES = "behavior_bouts_of_people"
PROBABILITIES = "behavior_probabilities"
CLASSES = "behavior_classes"
POSITION = "keypoints"
LIKELIHOOD = "keypoint_likelihood"
VIDEO = "video"


def library() -> ModuleType:
    """pynwb. Raises ExportError where the extra is not installed."""
    try:
        import pynwb
    except ImportError:
        raise ExportError("pynwb is not installed: pip install 'paw-pipeline[nwb]'") from None
    return pynwb


def write_nwb(recording: Recording, started: Started | None, path: Path, animal: Mapping[str, str] = UNKNOWN) -> None:
    """Written beside and moved into place. Raises ExportError where the start or the frame rate is not known."""
    pynwb = library()
    file = nwb_file(recording, started, path.parent, animal)
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        with pynwb.NWBHDF5IO(str(temporary), "w") as io:
            io.write(file)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def nwb_file(recording: Recording, started: Started | None, folder: Path, animal: Mapping[str, str]) -> Any:
    """The pynwb.NWBFile. folder: where it will lie, from which the video is named. animal: what is known of it."""
    pynwb = library()
    if started is None:
        raise ExportError("no video tells when it began; give --session-start")
    _ = recording.rate  # raises where it is not known
    notes = [note for note in (started.note, *recording.notes) if note]
    file = pynwb.NWBFile(
        session_description=f"Behaviour in every frame of the video {recording.name}: {recording.what}",
        identifier=str(uuid.uuid4()),
        session_start_time=started.time,
        session_id=recording.name,
        subject=_subject(recording, animal),
        keywords=["behavior", *recording.class_names],
        notes=" ".join(f"{note}." for note in notes) or None,
    )
    _add_video(file, recording, folder)
    _add_trials(file, recording)
    _add_bouts(file, recording)
    if any(said.trial.true is not None for said in recording.trials):
        _add_peoples(file, recording)
    module = file.create_processing_module("behavior", "What a model, or people, say of every frame")
    _add_probabilities(module, recording)
    _add_keypoints(module, recording)
    return file


def _subject(recording: Recording, animal: Mapping[str, str]) -> Any:
    """Without a name it has the recording's, which is said: archives take no file without a subject."""
    description = "The animal" if recording.subject else "No animal was named: the id is the recording's name"
    subject_id = recording.subject or recording.name
    return library().file.Subject(subject_id=subject_id, description=description, **{**UNKNOWN, **animal})


def _add_video(file: Any, recording: Recording, folder: Path) -> None:
    """A link to it, where it still lies."""
    video = recording.video
    if not video or not video.facts:
        return
    when: dict[str, Any] = {"rate": recording.rate, "starting_time": 0.0, "num_samples": recording.n_frames}
    if recording.irregular:
        when = {"timestamps": recording.times_s[:-1]}
    file.add_acquisition(
        library().image.ImageSeries(
            name=VIDEO,
            description="The video, of which all frames are numbered from 0",
            external_file=[beside(video.path, folder)],
            starting_frame=[0],
            format="external",
            dimension=list(video.size),
            unit="n.a.",
            **when,
        )
    )


def _add_trials(file: Any, recording: Recording) -> None:
    """A row per trial: the frames that have been looked at, and its stimulus."""
    file.add_trial_column("trial", "number of the trial in the recording, from 1")
    file.add_trial_column("start_frame", "the video's frame at start_time")
    file.add_trial_column("stop_frame", "the video's frame at stop_time: the one after the last")
    with_stimulus = any(said.trial.stim_frame is not None for said in recording.trials)
    if with_stimulus:
        file.add_trial_column("stimulus_time", "when the stimulus is given, in s; NaN: not known")
    for said in recording.trials:
        more = {"stimulus_time": _stimulus_s(recording, said)} if with_stimulus else {}
        file.add_trial(**_span(recording, said.start, said.stop), trial=said.trial.trial, **more)


def _stimulus_s(recording: Recording, said: Said) -> float:
    if said.trial.stim_frame is None:
        return math.nan
    frame = said.start - said.trial.first + said.trial.stim_frame
    return float(recording.times_s[frame]) if 0 <= frame < len(recording.times_s) else math.nan


def _span(recording: Recording, start: int, stop: int) -> dict[str, Any]:
    """Frames [start, stop) of the video, and when they are shown."""
    times = recording.times_s[[start, stop]].tolist()
    return {"start_time": times[0], "stop_time": times[1], "start_frame": start, "stop_frame": stop}


def _add_bouts(file: Any, recording: Recording) -> None:
    rows = [(said, bout, said.certainty(bout)) for said in recording.trials for bout in said.bouts]
    sure = None if any(math.isnan(row[2]) for row in rows) else [row[2] for row in rows]
    _add_intervals(file, recording, BOUTS, f"Bouts: {recording.what}", [row[:2] for row in rows], sure)


def _add_peoples(file: Any, recording: Recording) -> None:
    rows = [(said, bout) for said in recording.trials if said.trial.true is not None for bout in find(said.trial.true)]
    _add_intervals(file, recording, PEOPLES, "Bouts: people's labels of the same frames", rows, None)


def _add_intervals(
    file: Any,
    recording: Recording,
    name: str,
    description: str,
    rows: Sequence[tuple[Said, Bout]],
    mean_probabilities: Sequence[float] | None,
) -> None:
    """A table of bouts; nothing where there is none."""
    if not rows:
        return
    table = library().epoch.TimeIntervals(name=name, description=f"{description}. A bout ends where stop_time begins")
    table.add_column("behavior", "the behaviour")
    table.add_column("trial", "number of the trial in the recording, from 1")
    table.add_column("start_frame", "the video's frame at start_time")
    table.add_column("stop_frame", "the video's frame at stop_time: the one after the last")
    if mean_probabilities:
        table.add_column("mean_probability", "mean over the bout's frames of the behaviour's probability")
    for i, (said, bout) in enumerate(rows):
        more = {"mean_probability": mean_probabilities[i]} if mean_probabilities else {}
        span = _span(recording, said.start + bout.start, said.start + bout.stop)
        table.add_row(**span, behavior=recording.class_names[bout.class_id], trial=said.trial.trial, **more)
    file.add_time_intervals(table)


def _add_probabilities(module: Any, recording: Recording) -> None:
    """(F,N), NaN of damaged frames, with the names of its columns in a table beside it."""
    given = [said.probabilities for said in recording.trials]
    if any(each is None for each in given):
        return
    pynwb = library()
    module.add(
        pynwb.TimeSeries(
            name=PROBABILITIES,
            description=f"Probability of each class in each frame of the trials, in the order of the table {CLASSES}; "
            f"NaN: the frame is damaged. Classes: {', '.join(recording.class_names)}",
            data=_packed(np.concatenate(given)),  # type: ignore[arg-type]
            unit="1",
            **_when(recording, recording.trials),
        )
    )
    names = pynwb.core.VectorData(name="behavior", description="the class", data=list(recording.class_names))
    description = f"The columns of {PROBABILITIES}"
    module.add(pynwb.core.DynamicTable(name=CLASSES, description=description, columns=[names]))


def _add_keypoints(module: Any, recording: Recording) -> None:
    """One SpatialSeries a keypoint (F,2) in pixels; likelihoods (F,K), where they are known, in one series."""
    given = [(said, said.keypoints) for said in recording.trials if said.keypoints]
    if not given or len({keypoints.names for _, keypoints in given}) > 1:
        return
    pynwb = library()
    first: Keypoints = given[0][1]
    xy = np.concatenate([keypoints.xy_px for _, keypoints in given])
    when = _when(recording, [said for said, _ in given])
    position = pynwb.behavior.Position(name=POSITION)
    for k, name in enumerate(first.names):
        series = pynwb.behavior.SpatialSeries(
            name=safe_name(name),
            description=f"{name}, {first.what}: x and y; NaN: no place is known",
            data=_packed(xy[:, k]),
            unit="pixels",
            reference_frame="(0, 0) is the top left corner of the video's picture, x goes right and y down",
            **when,
        )
        position.add_spatial_series(series)
        if "timestamps" in when:
            when = {"timestamps": series}  # the same ones, kept once
    module.add(position)
    likelihood = [keypoints.likelihood for _, keypoints in given]
    if all(each is not None for each in likelihood):
        module.add(
            pynwb.TimeSeries(
                name=LIKELIHOOD,
                description=f"Likelihood of each keypoint, {first.what}: {', '.join(first.names)}",
                data=_packed(np.concatenate(likelihood)),  # type: ignore[arg-type]
                unit="1",
                **when,
            )
        )


def _when(recording: Recording, trials: Sequence[Said]) -> dict[str, Any]:
    """The times of the trials' frames: a start and a rate where there is no gap, each one where there is."""
    gaps = any(after.start != before.stop for before, after in pairwise(trials))
    if gaps or recording.irregular:
        frames = np.concatenate([np.arange(said.start, said.stop) for said in trials])
        return {"timestamps": _packed(recording.times_s[frames])}
    return {"starting_time": float(recording.times_s[trials[0].start]), "rate": recording.rate}


def _packed(data: np.ndarray) -> Any:
    """Compressed in the file."""
    from hdmf.backends.hdf5 import H5DataIO

    return H5DataIO(data, compression="gzip")
