"""How fast the cache is filled and read, what waiting for data costs, and how it all grows; prints Markdown tables.

    python benchmarks/speed.py WORK_FOLDER [PART ...] [--real FOLDER] [--device auto] [--rounds 5]

PART: preprocess, windows, training, clips, frames; all if none is named. A data set is rendered into WORK_FOLDER once.
--real: a folder with Videos and Annotations of your own for `preprocess`. ffmpeg must be on the PATH for `preprocess`;
opencv-python-headless and decord are used where they are installed. --toy: tiny sizes, to see that it runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import measure
import numpy as np
import speed_growth
import speed_preprocess
import speed_training
import speed_windows
from recordings import first_linked

import cache as clip_cache
from pipeline.demo.dataset import make_dataset
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings

PARTS = ("preprocess", "windows", "training", "clips", "frames")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--real", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--encoders", default="cnn,none")
    parser.add_argument("--compile", action="store_true", help="also try torch.compile")
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    toy, rounds = options.toy, options.rounds
    parts = options.parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    device = speed_training.resolve(options.device)
    print(measure.machine(device))
    img_size = 32 if toy else 224
    data = rendered(options.work, toy)
    caches = caches_of(options.work, data, img_size) if set(parts) - {"preprocess", "frames"} else {}
    if "preprocess" in parts:
        folders = {"rendered, 640x480" if not toy else "rendered": data}
        folders |= {"real": options.real} if options.real else {}
        speed_preprocess.run(options.work, folders, img_size, rounds)
    if "windows" in parts:
        npy = frames_of(options.work, caches["zarr, zstd"])
        lengths, n_frames = ((20,), 100) if toy else ((60, 180, 345), 20_000)
        speed_windows.run(caches, npy, lengths, n_frames, rounds)
    if "training" in parts:
        encoders, train_T = options.encoders.split(","), 20 if toy else 180
        speed_training.run(
            few_of(options.work, data, img_size),
            options.work,
            device,
            rounds,
            encoders=encoders,
            train_T=train_T,
            compiled=options.compile,
        )
    if "clips" in parts:
        numbers, whole = ((10, 20), 20) if toy else ((100, 1_000, 10_000, 100_000), 100_000)
        speed_growth.clips(caches["zarr, zstd"], options.work, numbers, whole)
    if "frames" in parts:
        speed_growth.frames(data, options.work, 32 if toy else 64, (4, 5) if toy else (4, 6, 8, 12))


def rendered(work: Path, toy: bool) -> Path:
    """Videos and annotations; made once."""
    data = work / "data"
    size, recordings = ((64, 48), 5) if toy else ((640, 480), 12)
    make_dataset(data, recordings=recordings, trials=1 if toy else 3, size=size, processes=1 if toy else 2)
    return data


def few_of(work: Path, data: Path, img_size: int) -> Path:
    """A cache of the first three recordings: an epoch of it takes half a minute on two cores."""
    few, cache = first_linked(data, work / "few", 3), work / "cache_few"
    folders = {"videos": few / "Videos", "annotations": few / "Annotations"}
    preprocess(PreprocessSettings(img_size=img_size), cache=cache, **folders)
    return cache


def caches_of(work: Path, data: Path, img_size: int) -> dict[str, Path]:
    """The same recordings in every format."""
    found = {}
    for name, settings in (
        ("zarr, zstd", {}),
        ("zarr, --compression none", {"compression": "none"}),
        ("hdf5", {"store": "hdf5"}),
    ):
        found[name] = work / ("cache_" + name.split("-")[-1].split(", ")[-1].replace(" ", "_"))
        preprocess(
            PreprocessSettings(img_size=img_size, **settings),
            cache=found[name],
            videos=data / "Videos",
            annotations=data / "Annotations",
        )
    return found


def frames_of(work: Path, cache: Path) -> Path:
    """All frames of a cache as one .npy."""
    path = work / "frames.npy"
    clips = clip_cache.open(cache)
    out = np.lib.format.open_memmap(path, "w+", np.uint8, (sum(map(len, clips)), *clips[0].frames.shape[1:]))
    start = 0
    for clip in clips:
        clip.frames.read_into(0, len(clip), out[start : start + len(clip)])
        start += len(clip)
    out.flush()
    return path


if __name__ == "__main__":
    main()
