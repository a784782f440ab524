"""Writes a rendered data set in a lab's own layout: videos, DLC tables beside them, an annotation of each trial."""

from __future__ import annotations

import csv
import functools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter1d

from pipeline.demo import manifest
from pipeline.demo.behaviour import perform
from pipeline.demo.mouse import FPS, KEYPOINTS, Animal, Pose, make_animal, move
from pipeline.demo.render import code, film, make_scene
from pipeline.demo.script import TRIAL_FRAMES, Trial, annotate, write_trials

NETWORK = "DLC_resnet50_demoMar5shuffle1_100000"
DEMO_VERSION = 1  # of what the same settings render
# What poor tracking loses of each keypoint, over that of a paw, and for how many frames at a time, in the mean.
LOST, LOST_FRAMES = (0.5, 0.1, 1.0, 1.0, 1.0, 1.0), 20
CROP_START = 15  # where a trial begins that is annotated with 345 rows

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Recording:
    """One video to be made: whose, of which trials, and how many rows each trial's annotation gets."""

    name: str
    animal: Animal
    trials: tuple[Trial, ...]
    rows: tuple[int, ...]


def make_dataset(
    out: Path,
    *,
    recordings: int = 12,
    trials: int = 3,
    animals: int | None = None,
    size: tuple[int, int] = (320, 240),
    seed: int = 0,
    frame_code: bool = False,
    progress: Progress | None = None,
    share_345: float = 0.3,
    lost: float = 0.0,
    processes: int = 1,
) -> None:
    """Renders `recordings` videos of `size` (width, height) with their tables into out/Videos and out/Annotations.

    trials: per recording on average; the recordings have 1 to 5, but all one where this is 1. animals: None for half
    as many as recordings. frame_code: every frame carries its index in its top left corner. progress: called after
    each recording with its name, the frames done, and the frames of the whole data set. share_345: of the annotations
    that have 345 rows instead of 360. lost: see `poorly`. The same seed gives the same files; `size` and `frame_code`
    change how the same behaviour is seen, `lost` how it is tracked. What an earlier call wrote there is removed, or
    left as it is if it is the same and whole.
    """
    if size[0] % 2 or size[1] % 2:
        raise ValueError(f"the size of an H.264 video has to be even, found {size[0]}x{size[1]}")
    animals = animals or max(1, recordings // 2)
    settings = {"recordings": recordings, "trials": trials, "animals": animals, "size": size, "seed": seed}
    settings |= {"frame_code": frame_code, "share_345": share_345, "version": DEMO_VERSION}
    settings |= {"lost": lost} if lost else {}
    if manifest.is_whole(out, settings):
        return
    plan = plan_recordings(recordings, trials, animals, seed, share_345)
    for folder in manifest.FOLDERS:
        (out / folder).mkdir(parents=True, exist_ok=True)
    manifest.begin(out, [name for i, recording in enumerate(plan) for name in _files_of(i, recording)])
    make = functools.partial(make_recording, out, size=size, seed=seed, frame_code=frame_code, lost=lost)
    if processes == 1:
        _report(map(make, range(recordings), plan), plan, progress)
    else:
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            _report(pool.map(make, range(recordings), plan), plan, progress)
    manifest.finish(out, settings)


def make_recording(
    out: Path,
    index: int,
    recording: Recording,
    *,
    size: tuple[int, int],
    seed: int,
    frame_code: bool,
    lost: float = 0.0,
) -> None:
    """The video, the DLC table and the annotations of one recording, the index-th of its data set."""
    rng = np.random.default_rng([seed, 1, index])
    pixel_rng = np.random.default_rng([seed, 2, index])
    keypoints: list[np.ndarray] = []
    frames = _shoot(recording, size, keypoints, rng, pixel_rng)
    tint = pixel_rng.integers(-1, 2, 2)
    write_video(out / "Videos" / f"{recording.name}.mp4", _coded(frames) if frame_code else frames, tint)
    table = poorly(track(keypoints, rng), keypoints, lost, np.random.default_rng([seed, 3, index]))
    write_dlc(out / "Videos", recording.name, table, as_h5=_as_h5(index), rng=rng)
    for number, (trial, rows) in enumerate(zip(recording.trials, recording.rows, strict=True), start=1):
        path = out / "Annotations" / f"prediction_{recording.name}.mp4_{number}.csv"
        write_annotation(path, trial, rows, with_stim=index % 3 == 1, rng=rng)


def _as_h5(index: int) -> bool:
    return index % 6 == 4


def _files_of(index: int, recording: Recording) -> list[str]:
    """What make_recording writes, relative to the data set's folder."""
    table = f"Videos/{recording.name}{NETWORK}.{'h5' if _as_h5(index) else 'csv'}"
    trials = range(1, len(recording.trials) + 1)
    annotations = [f"Annotations/prediction_{recording.name}.mp4_{number}.csv" for number in trials]
    return [f"Videos/{recording.name}.mp4", table, *annotations]


def plan_recordings(recordings: int, trials: int, animals: int, seed: int, share_345: float) -> tuple[Recording, ...]:
    """Names, animals and scripts of the whole data set, without drawing anything."""
    rng = np.random.default_rng([seed, 0])
    numbers = rng.choice(np.arange(100, 1000), animals, replace=False)
    cast = [make_animal(f"{n}M", rng) for n in numbers]
    spread = min(trials - 1, max(0, 5 - trials), 2)
    evenly = ((np.arange(recordings) + 0.5) / recordings * (2 * spread + 1)).astype(int)
    n_trials = trials + rng.permutation(evenly - spread)
    owners = [cast[i % animals] for i in range(recordings)]
    scripts = write_trials([owner for owner, n in zip(owners, n_trials, strict=True) for _ in range(n)], rng)
    short = rng.permutation(len(scripts)) < round(share_345 * len(scripts))
    rows = np.where(short, TRIAL_FRAMES - CROP_START, TRIAL_FRAMES).tolist()
    plan, first = [], 0
    for index, (owner, n) in enumerate(zip(owners, n_trials.tolist(), strict=True)):
        name = f"demo_2024-03-{5 + index // animals:02d}_CFA_{index + 1:03d}_{owner.name}_tracking"
        plan.append(Recording(name, owner, tuple(scripts[first : first + n]), tuple(rows[first : first + n])))
        first += n
    return tuple(plan)


def write_video(path: Path, frames: Iterable[np.ndarray], tint: np.ndarray) -> None:
    """Encodes (H, W) uint8 frames as H.264 with B-frames; `tint` (2,) is what the chroma is off gray."""
    with av.open(str(path), "w") as container:
        stream: av.VideoStream | None = None
        for image in frames:
            stream = stream or _h264(container, image.shape[1], image.shape[0])
            container.mux(stream.encode(_yuv(image, tint)))
        if stream is not None:
            container.mux(stream.encode(None))


def track(keypoints: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """What a pose network would say (T, K, 3) of the true places and visibilities, a list of (T, K, 3) per trial.

    Jitter of about a pixel; more, and a low likelihood, for what is lifted or hidden; now and then a drop-out, in
    which the point jumps elsewhere or onto the paw of the other side.
    """
    table = np.concatenate(keypoints)
    n_frames, n_points = table.shape[:2]
    clear = table[:, :, 2]
    unit = np.median(np.linalg.norm(table[:, 0, :2] - table[:, 1, :2], axis=1)) / 100
    white, slow = rng.standard_normal((2, n_frames, n_points, 2))
    slow = gaussian_filter1d(slow, 4, axis=0) * 3.5
    truth, table = table[:, :, :2], table.copy()
    table[:, :, :2] += unit * (0.5 * white + 0.7 * slow) * (1 + 2.5 * (1 - clear[:, :, None]))
    doubt = (1 - clear) * rng.uniform(0, 1, (n_frames, n_points)) ** 2
    table[:, :, 2] = np.clip(1 - 0.012 * rng.exponential(1, (n_frames, n_points)) - 0.6 * doubt, 0.02, 0.9999)
    for point in range(n_points):
        # Front paws are lost most often, the tail base hardly ever.
        per_frame = (0.003, 0.0006, 0.006, 0.006, 0.003, 0.003)[point] * (1 + 6 * (1 - clear[:, point]))
        for start in np.flatnonzero(rng.random(n_frames) < per_frame):
            lost = slice(start, start + 1 + int(rng.geometric(0.25)))
            table[lost, point, 2] = rng.uniform(0.01, 0.8, table[lost, point].shape[0])
            other = rng.choice([point, point ^ 1]) if point >= 2 else point
            table[lost, point, :2] = truth[lost, other] + unit * rng.normal(0, 9, 2)
    return table


def poorly(table: np.ndarray, keypoints: list[np.ndarray], lost: float, rng: np.random.Generator) -> np.ndarray:
    """The table (T, K, 3) of `track` with about `lost` of each paw's frames lost, LOST_FRAMES at a time in the mean.

    Of other keypoints less (LOST). What is lifted or hidden is lost up to six times as often. A lost point has a low
    likelihood and lies anywhere about where it was.
    """
    table, n_frames = table.copy(), len(table)
    risk = 1 + 5 * (1 - np.concatenate(keypoints)[:, :, 2])
    unit = np.median(np.linalg.norm(table[:, 0, :2] - table[:, 1, :2], axis=1)) / 100
    for point, weight in enumerate(LOST):
        per_frame = -np.log1p(-lost * weight) / LOST_FRAMES * risk[:, point] / risk[:, point].mean()
        for start in np.flatnonzero(rng.random(n_frames) < per_frame):
            gone = slice(start, start + 1 + int(rng.exponential(LOST_FRAMES)))
            n = len(table[gone])
            table[gone, point, 2] = rng.uniform(0.01, 0.6, n)
            table[gone, point, :2] += unit * (rng.normal(0, 15, 2) + rng.normal(0, 9, (n, 2)))
    return table


def write_dlc(folder: Path, name: str, table: np.ndarray, *, as_h5: bool, rng: np.random.Generator) -> None:
    """A DLC table (T, K, 3) beside the video: csv, or .h5 alone; it may have a row more or fewer than the video."""
    odd = rng.random()
    table = np.concatenate([table, table[-1:]]) if odd < 0.15 else table[:-1] if odd > 0.9 else table
    flat = table.reshape(len(table), -1)
    header = [(NETWORK, point, coord) for point in KEYPOINTS for coord in ("x", "y", "likelihood")]
    if as_h5:
        columns = pd.MultiIndex.from_tuples(header, names=["scorer", "bodyparts", "coords"])
        frame = pd.DataFrame(flat, columns=columns)
        frame.to_hdf(folder / f"{name}{NETWORK}.h5", key="df_with_missing", mode="w", format="table")
        return
    with (folder / f"{name}{NETWORK}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for label, cells in zip(("scorer", "bodyparts", "coords"), zip(*header, strict=True), strict=True):
            writer.writerow([label, *cells])
        for number, row in enumerate(flat.tolist()):
            writer.writerow([number, *(f"{value:.6g}" for value in row)])


def write_annotation(path: Path, trial: Trial, rows: int, *, with_stim: bool, rng: np.random.Generator) -> None:
    """The last `rows` labels of the trial; Frame counts from 0 as in the reference set-up, whatever the crop."""
    labels = annotate(trial, rng)[TRIAL_FRAMES - rows :]
    table = pd.DataFrame({"Frame": np.arange(rows), "Action": labels})
    if with_stim:
        table["StimFrame"] = trial.stim_frame
    table.to_csv(path, index=False, lineterminator="\n")


def _shoot(
    recording: Recording,
    size: tuple[int, int],
    keypoints: list[np.ndarray],
    rng: np.random.Generator,
    pixel_rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    """The frames of all trials; appends each trial's true keypoints (T, K, 3: x, y, how clear) before its frames.

    What the animal does is drawn from `rng`, what the camera adds from `pixel_rng`: the former doesn't depend on size.
    """
    # A camera with light from above has a pale floor; a white mouse can't be seen on it.
    scene = make_scene(size, pixel_rng, pale_floor=rng.random() < 0.25 and recording.animal.fur < 100)
    has_rod = rng.random() < 0.6
    for trial in recording.trials:
        pose = move(perform(trial.acts, TRIAL_FRAMES, recording.animal, rng), recording.animal, size, rng)
        keypoints.append(np.concatenate([pose.keypoints, _clearness(pose)[:, :, None]], axis=2))
        probe = _rod(pose, trial, recording.animal, rng) if has_rod else np.full((TRIAL_FRAMES, 2), np.nan)
        yield from film(scene, recording.animal, pose, probe, pixel_rng)


def _clearness(pose: Pose) -> np.ndarray:
    """How well each keypoint can be seen, (T, K) in 0 to 1."""
    paws = 1 - 0.8 * pose.lift
    paws[:, :2] -= 0.4 * pose.rear[:, None]
    body = np.stack([1 - 0.7 * pose.rear, np.ones_like(pose.rear)], axis=1)
    return np.clip(np.concatenate([body, paws], axis=1), 0.05, 1)


def _rod(pose: Pose, trial: Trial, animal: Animal, rng: np.random.Generator) -> np.ndarray:
    """Tip (T, 2) of the rod that touches the sore paw at the stimulus frame; NaN before and after."""
    tip = np.full((TRIAL_FRAMES, 2), np.nan)
    start, stop = trial.stim_frame - int(rng.integers(6, 20)), trial.stim_frame + int(rng.integers(2, 6))
    paw = pose.paws[trial.stim_frame, 2 + animal.sore]
    nearing = np.abs(np.arange(start, stop) - trial.stim_frame)[:, None] * rng.uniform(0.5, 2)
    tip[start:stop] = paw + nearing * rng.normal(0, 1, 2) + rng.normal(0, 0.4, (stop - start, 2))
    return tip


def _report(made: Iterator[None], plan: tuple[Recording, ...], progress: Progress | None) -> None:
    frames = np.cumsum([len(recording.trials) * TRIAL_FRAMES for recording in plan]).tolist()
    for recording, done, _ in zip(plan, frames, made, strict=True):
        if progress:
            progress(recording.name, done, frames[-1])


def _coded(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for number, image in enumerate(frames):
        code(image, number)
        yield image


def _h264(container: av.container.OutputContainer, width: int, height: int) -> av.VideoStream:
    stream = container.add_stream("libx264", rate=Fraction(FPS))
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    # The same bytes each time: with its macroblock tree x264 gave 11 different files in 12 runs, without it one.
    stream.options = {"crf": "23", "preset": "veryfast", "bf": "2", "threads": "1", "x264-params": "mbtree=0"}
    return stream


def _yuv(image: np.ndarray, tint: np.ndarray) -> av.VideoFrame:
    """Gray (H, W) 0 to 255 as limited-range yuv420p with a constant tint; H and W are even."""
    height, width = image.shape
    planes = np.empty((height * 3 // 2, width), np.uint8)
    planes[:height] = _LIMITED_RANGE[image]
    chroma = planes[height:].reshape(2, -1)
    chroma[:] = 128 + tint[:, None]
    return av.VideoFrame.from_ndarray(planes, format="yuv420p")


_LIMITED_RANGE = np.round(16 + np.arange(256) * 219 / 255).astype(np.uint8)
