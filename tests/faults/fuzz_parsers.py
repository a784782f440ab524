"""Damaged input files by the thousand: each must be read, or refused with one of our errors that names the file.

    python tests/faults/fuzz_parsers.py --inputs 20000 --seed 1 [--parser NAME ...]

Makes small valid files, damages copies of them (bits, bytes, cuts, lines, cells, encodings) and reads them. Prints the
counts of each parser; exits with 1, and keeps the input beside, if one ended in anything else. What is read must also
keep its order: a DLC table's rows are those of its frame numbers.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import cache as clip_cache
from cache import ClipRows, Geometry, RecordingMeta
from pipeline.model import checkpoint
from pipeline.model.network import Network, NetworkConfig
from pipeline.model.trained import Trained, load_trained
from pipeline.preprocess import annotation_formats, h5_table
from pipeline.preprocess.annotations import AnnotationError
from pipeline.preprocess.clock import Clock
from pipeline.preprocess.crop import CropError, check_frame_column
from pipeline.preprocess.keypoints import KeypointError, read_dlc
from pipeline.preprocess.text_table import UnreadableError
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import SettingsError
from pipeline.settings_file import read_toml
from pipeline.settings_given import resolve
from pipeline.train.split import SplitError, read_split
from pipeline.train_settings import TrainSettings

CLASSES = ("rest", "walk", "lick")
CELLS = ["", "nan", "NaN", "inf", "-1", "1e30", "1_0", "0.5", "x", "../../etc", "é", "\x00", '"', "٣", "a b", "=1+1"]


def dlc_csv(n_rows: int = 30) -> bytes:
    """Row n holds n in its x, so that a shift is seen."""
    head = "scorer,N,N,N,N,N,N\nbodyparts,a,a,a,b,b,b\ncoords,x,y,likelihood,x,y,likelihood\n"
    return (head + "".join(f"{i},{i + 1},2.5,0.9,4,5,1\n" for i in range(n_rows))).encode()


def dlc_h5(path: Path, kind: str) -> bytes:
    columns = [("N", part, coord) for part in "ab" for coord in ("x", "y", "likelihood")]
    titles = pd.MultiIndex.from_tuples(columns, names=["scorer", "bodyparts", "coords"])
    rows = [[i + 1, 2.5, 0.9, 4, 5, 1] for i in range(30)]
    pd.DataFrame(rows, columns=titles, dtype=float).to_hdf(path, key="df", format=kind)
    return path.read_bytes()


def annotation_csv() -> bytes:
    lines = [f"{i},{CLASSES[i % 3] if i % 2 else i % 3},5" for i in range(30)]
    return "\n".join(["Frame,Action,StimFrame", *lines, ""]).encode()


def one_hot_csv(simba: bool) -> bytes:
    title, cells = ("Nose_x,Nose_p,", "1.5,0.9,") if simba else ("", "")
    lines = [f"{i},{cells}{int(i % 3 == 0)},{int(i % 3 == 1)},0" for i in range(30)]
    return "\n".join([f",{title}rest,walk,lick", *lines, ""]).encode()


def boris_csv() -> bytes:
    head = "Observation id,Subject,FPS,Behavior,Behavior type,Start (s),Stop (s),Media file name,Image index start"
    lines = [f"o,m,30,{CLASSES[i % 3]},STATE,{i / 10:.3f},{(i + 1) / 10:.3f},v/a.mp4,{3 * i}" for i in range(10)]
    return "\n".join([head, *lines, ""]).encode()


def boris_tabular() -> bytes:
    lines = [f"{i / 10:.3f},a.mp4,30,m,{CLASSES[i // 2 % 3]},{'STOP' if i % 2 else 'START'}" for i in range(10)]
    return "\n".join(["Observation id,o", "", "Time,Media file,FPS,Subject,Behavior,Status", *lines, ""]).encode()


def bout_list() -> bytes:
    lines = [f"   \t{3 * i + 1}\t{3 * i + 3}\t{CLASSES[i % 3]}" for i in range(10)]
    return "\n".join(["Caltech Behavior Annotator", "", "S1:\tstart\tend\ttype", "----", *lines, ""]).encode()


def sleap_file(path: Path) -> bytes:
    """A .slp or an analysis .h5; row n holds n in its x, as in `dlc_csv`."""
    import sleap_io as sio

    skeleton, video = sio.Skeleton(nodes=["a", "b"], name="m"), sio.Video(filename="a.mp4", open_backend=False)
    seen = [
        sio.PredictedInstance.from_numpy(
            points_data=np.array([[i + 1, 2.5], [4, 5]]), point_scores=np.ones(2), score=1.0, skeleton=skeleton
        )
        for i in range(30)
    ]
    labels = sio.Labels([sio.LabeledFrame(video=video, frame_idx=i, instances=[one]) for i, one in enumerate(seen)])
    if path.suffix == ".h5":
        sio.save_analysis_h5(labels, str(path))
    else:
        labels.save(str(path), verbose=False)
    return path.read_bytes()


def split_csv() -> bytes:
    rows = [f"mouse_{i},animal_{i},{'val' if i == 3 else 'train'}" for i in range(5)]
    return "\n".join(["recording,group,part", *rows, ""]).encode()


def settings_toml() -> bytes:
    return b'[loop]\nepochs = 3\nseed = 7\n[optimiser]\nlr = 1e-4\nlr_schedule = "plateau"\n[data]\nclasses = "a,b"\n'


def checkpoint_file(path: Path) -> bytes:
    config = NetworkConfig(
        n_classes=3, keypoint_names=("a", "b"), pose_names={}, channels=1, img_size=16, encoder="none", pose_width=8,
        tcn_channels=8, tcn_layers=1,
    )  # fmt: skip
    trained = Trained(Network(config), CLASSES, CLASSES, np.arange(3), np.ones(3, np.int64), {}, {})
    checkpoint.save(path, trained.as_dict())
    return path.read_bytes()


def small_cache(folder: Path) -> Path:
    with clip_cache.create(folder) as writer:
        recording = writer.writer("mouse")
        recording.append_frames(np.zeros((5, 8, 8, 1), np.uint8))
        meta = RecordingMeta(
            "mouse", "v.mp4", "d.csv", Geometry.fit(8, 8, 8), 1, 30.0, "pyav", ("a",), CLASSES,
            (ClipRows(1, 0, 5, 0, 0),), {"frames": "f", "keypoints": "k", "labels": "l"},
        )  # fmt: skip
        rows = np.arange(5)
        recording.finish(meta, keypoints=np.ones((5, 1, 3)), labels=rows * 0, frame_index=rows, time_s=rows / 30)
        writer.skip("other", None, "no DLC table")
    return folder


def read_table(path: Path) -> None:
    table = read_dlc(path)
    assert (np.diff(table.frames) > 0).all()
    assert len(table.values) == len(table.frames)
    if table.names == ("a", "b"):
        shown = table.values[:, 0, 0]
        # One damaged cell may say anything; that most rows say another frame than their own is a shift.
        assert (np.isnan(shown) | (np.abs(shown - table.frames - 1) < 0.01)).sum() * 2 > len(shown) - 4, "shifted"


def read_labels(path: Path) -> None:
    settings = PreprocessSettings(classes=",".join(CLASSES))
    found = annotation_formats.read_labels(path, settings, "a", lambda: Clock(30, 30.0))
    assert ((found.labels >= -1) & (found.labels < len(CLASSES))).all()
    if found.frame_column is not None:
        check_frame_column(found.frame_column, 15)


def read_settings(path: Path) -> None:
    resolve(TrainSettings, read_toml(path), {})


def read_model(path: Path) -> None:
    load_trained(path)


def read_cache(path: Path) -> None:
    for clip in clip_cache.open(path.parent):
        assert len(clip.labels) == len(clip.frames[:]) == len(clip)


Read = Callable[[Path], None]
OURS = (
    KeypointError, UnreadableError, AnnotationError, CropError, SplitError, SettingsError, checkpoint.CheckpointError,
    clip_cache.CacheError,
)  # fmt: skip


def parsers(folder: Path) -> dict[str, tuple[Path, list[bytes], Read]]:
    """Name -> the file that is overwritten, valid contents of it, and what reads it."""
    cache = small_cache(folder / "cache")
    (in_cache,) = (cache / "recordings").glob("*.zarr/zarr.json")
    h5 = [dlc_h5(folder / f"{kind}.h5", kind) for kind in ("table", "fixed")]
    several = dlc_csv().replace(b"bodyparts", b"individuals,m,m,m,m,m,m\nbodyparts")
    sleap = [sleap_file(folder / "s.slp")]
    analysis = [sleap_file(folder / "s.h5")]
    one_hot = [one_hot_csv(simba) for simba in (False, True)]
    return {
        "one-hot csv": (folder / "a.csv", one_hot, read_labels),
        "BORIS csv": (folder / "a.csv", [boris_csv(), boris_tabular()], read_labels),
        "bout list": (folder / "a_annot.txt", [bout_list()], read_labels),
        "SLEAP slp": (folder / "a.slp", sleap, read_table),
        "SLEAP analysis h5": (folder / "a.h5", analysis, read_table),
        "DLC csv": (folder / "aDLC_n.csv", [dlc_csv(), several], read_table),
        "DLC h5": (folder / "aDLC_n.h5", h5, read_table),
        "annotation csv": (folder / "prediction_a.mp4_1.csv", [annotation_csv()], read_labels),
        "split csv": (folder / "split.csv", [split_csv()], lambda path: void(read_split(path))),
        "settings toml": (folder / "lab.toml", [settings_toml()], read_settings),
        "checkpoint": (folder / "model.pt", [checkpoint_file(folder / "model.pt")], read_model),
        "cache.json": (cache / "cache.json", [(cache / "cache.json").read_bytes()], read_cache),
        "index.parquet": (cache / "index.parquet", [(cache / "index.parquet").read_bytes()], read_cache),
        "recording": (in_cache, [in_cache.read_bytes()], lambda path: read_cache(cache / "cache.json")),
    }


def void(_: object) -> None:
    """For readers whose result is not looked at."""


def mutate(content: bytes, rng: random.Random) -> bytes:
    """One to three kinds of damage, one after the other."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice((flip_bits, overwrite, cut, drop_middle, lines, cells, encode, insert))(content, rng)
    return content


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8)) if content else 0):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def overwrite(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    size = min(rng.choice((1, 4, 64, 512)), len(content) - start)
    filler = rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size)))
    return content[:start] + filler + content[start + size :]


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def drop_middle(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.choice((1, 2, 16, 200)) :]


def insert(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return (
        content[:start]
        + rng.choice((b"\n", b"\r", b",", b'"', b"\x00", b"\xff", b" ", rng.randbytes(4)))
        + content[start:]
    )


def lines(content: bytes, rng: random.Random) -> bytes:
    """A line twice, gone, or in the place of another."""
    rows = content.split(b"\n")
    i, j = rng.randrange(len(rows)), rng.randrange(len(rows))
    what = rng.randrange(3)
    if what == 0:
        rows.insert(j, rows[i])
    elif what == 1:
        del rows[i]
    else:
        rows[i], rows[j] = rows[j], rows[i]
    return b"\n".join(rows)


def cells(content: bytes, rng: random.Random) -> bytes:
    """A cell replaced, gone, added, or in the place of another of its line."""
    rows = content.split(b"\n")
    i = rng.randrange(len(rows))
    row = rows[i].split(b",")
    j, k = rng.randrange(len(row)), rng.randrange(len(row))
    what = rng.randrange(4)
    if what == 0:
        row[j] = rng.choice(CELLS).encode()
    elif what == 1:
        del row[j]
    elif what == 2:
        row.insert(j, rng.choice(CELLS).encode())
    else:
        row[j], row[k] = row[k], row[j]
    rows[i] = b",".join(row)
    return b"\n".join(rows)


def encode(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("latin-1")
    if rng.random() < 0.3:
        return content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n")))
    return text.replace("a", "ä").encode(
        rng.choice(("utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le", "cp037")), "replace"
    )


def fuzz(name: str, n_inputs: int, seed: int, folder: Path, keep: Path | None = None) -> Counter[str]:
    """Outcomes of n_inputs damaged files of one parser: read, refused, or what went wrong."""
    path, seeds, read = parsers(folder)[name]
    rng = random.Random(f"{seed} {name}")
    found: Counter[str] = Counter()
    for content in seeds:
        path.write_bytes(content)
        read(path)  # what is whole is read
    for i in range(n_inputs):
        content = mutate(rng.choice(seeds), rng)
        path.write_bytes(content)
        try:
            read(path)
            found["read"] += 1
        except OURS as error:
            text = str(error)
            named = path.name in text or path.parent.name in text or isinstance(error, CropError | SettingsError)
            if named and "\n" not in text:
                found["refused"] += 1
            else:
                found[f"not one line that names the file: {text[:80]!r}"] += 1
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            found[f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {str(error)[:80]!r}"] += 1
            if keep:
                (keep / f"{name.replace(' ', '_')}_{i}{path.suffix}").write_bytes(content)
    path.write_bytes(seeds[0])
    return found


def main() -> int:
    """Print a line a parser; 1 if any input ended in something else than being read or refused."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--inputs", type=int, default=20_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--parser", nargs="*", default=None)
    arguments.add_argument("--keep", type=Path, default=None, help="folder for the inputs that went wrong")
    given = arguments.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    h5_table.LIMIT_S = 5
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        names = given.parser or list(parsers(Path(folder)))
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            report[name] = dict(fuzz(name, given.inputs, given.seed, Path(folder), given.keep))
        print(f"{name}: {json.dumps(report[name], ensure_ascii=False)}", flush=True)
    return int(any(set(found) - {"read", "refused"} for found in report.values()))


if __name__ == "__main__":
    sys.exit(main())
