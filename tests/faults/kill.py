"""Kills preprocess, train and predict at random moments, and looks at what they leave.

    python tests/faults/kill.py WORK_FOLDER preprocess|train|predict [--kills 50] [--seed 0]

Prints how many kills there were and how many of them hit the work; the first thing that is not as it must be ends it.
Every step runs in a process forked from this one, which has only imported: so a kill costs no start of Python.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import cache as clip_cache
from pipeline.model import checkpoint
from pipeline.pictures import Strip, ethograms
from pipeline.predict.records import PredictFolder
from pipeline.predict.stage import predict
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.train.run_folder import HISTORY, LAST
from pipeline.train.stage import train
from pipeline.train_settings import TrainSettings

sys.path.append(str(Path(__file__).parents[1]))
from lab import Lab
from predict_lab import results, write_model, write_videos
from tests_support import write_small_cache

NOT_COMPARED = {"seen.json", ".lock"}  # says how fast it went; says nothing
N_FRAMES, TRIAL = 90, 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("what", choices=["preprocess", "train", "predict"])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rounds = {"preprocess": kill_preprocess, "train": kill_train, "predict": kill_predict}[options.what]
    hit = rounds(options.work, options.kills, random.Random(options.seed))
    print(f"{options.kills} kills, {hit} of them before the work was done; all as it must be")


def kill_preprocess(work: Path, kills: int, rng: random.Random) -> int:
    """Each time from nothing, or from a cache that other labels and one recording less were made into."""
    store = ("zarr", "hdf5")
    in_child(partial(make_lab, work))
    for kind in store:
        in_child(partial(make_cache, work / "before", work / f"before_{kind}", kind))
        in_child(partial(make_cache, work / "after", work / f"after_{kind}", kind))
        in_child(partial(from_before, work, kind, work / f"updated_{kind}"))
    hit = 0
    for i in range(kills):
        kind, start = store[i % 2], ("nothing", "before")[i // 2 % 2]
        cache = work / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        if start == "before":
            shutil.copytree(work / f"before_{kind}", cache)
        hit += killed(partial(make_cache, work / "after", cache, kind), rng)
        in_child(partial(check_whole, cache))
        in_child(partial(make_cache, work / "after", cache, kind))
        expected = work / (f"after_{kind}" if start == "nothing" else f"updated_{kind}")
        found, undisturbed = files_of(cache), files_of(expected)
        other = sorted(name for name in found | undisturbed if found.get(name) != undisturbed.get(name))
        assert not other, f"kill {i} ({kind}, from {start}): other than after an undisturbed run: {', '.join(other)}"
        in_child(partial(check_whole, cache))
    return hit


def make_lab(work: Path) -> None:
    """`after` is what `before` became: other labels of a, b filmed anew, c added."""
    for name, recordings in (("before", "ab"), ("after", "abc")):
        lab = Lab(work / name)
        for recording in recordings:
            lab.recording(f"{recording}.mp4", N_FRAMES, options={"crf": "23" if name == "before" else "21"})
            for trial in (1, 3):
                number = TRIAL * (trial - 1)
                lab.annotation(f"{recording}.mp4_{trial}", range(number, number + TRIAL - (trial == 1) * 5))
    shutil.copy(work / "before" / "a.mp4", work / "after" / "a.mp4")
    change = work / "before" / "prediction_a.mp4_3.csv"
    change.write_text(change.read_text().replace(",70", ",0"))


def make_cache(folder: Path, cache: Path, store: str) -> None:
    settings = PreprocessSettings(
        img_size=64, trial_frames=TRIAL, min_frames=25, crops="25=5", store=store,
        classes=",".join(f"frame{i}" for i in range(N_FRAMES)),
    )  # fmt: skip
    report = preprocess(settings, cache=cache, videos=folder, annotations=folder)
    assert not report.skipped, report.skipped


def from_before(work: Path, store: str, cache: Path) -> None:
    make_cache(work / "before", cache, store)
    make_cache(work / "after", cache, store)


def check_whole(cache: Path) -> None:
    """Every clip that is there shows the frames that it must."""
    if not (cache / "index.parquet").exists():
        return
    for clip in clip_cache.open(cache):
        expected = TRIAL * (clip.trial - 1) + 5 * (clip.trial == 1) + np.arange(clip.n_frames)
        np.testing.assert_array_equal(Lab.numbers(clip.frames[:]), expected)
        np.testing.assert_array_equal(clip.frame_index, expected)
        np.testing.assert_allclose(clip.keypoints[:, 0, 0] * 128 / 0.0625, expected, atol=1e-2)
        assert len(clip.labels) == len(expected)


def files_of(cache: Path) -> dict[str, bytes]:
    files = [path for path in cache.rglob("*") if path.is_file() and path.name not in NOT_COMPARED]
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


def kill_train(work: Path, kills: int, rng: random.Random) -> int:
    """Killed again and again until it is done, and then from the start."""
    in_child(partial(write_small_cache, work / "cache", recordings=4))
    in_child(partial(train_small, work / "cache", work / "undisturbed"))
    expected, hit = losses_of(work / "undisturbed"), 0
    run = work / "run"
    for i in range(kills):
        hit += killed(partial(train_small, work / "cache", run), rng)
        if (run / LAST).exists():
            in_child(partial(check_checkpoint, run))
        if i % 3 == 2:
            in_child(partial(train_small, work / "cache", run))
            pd.testing.assert_frame_equal(losses_of(run), expected, check_exact=True)
            shutil.rmtree(run)
    return hit


def train_small(cache: Path, run: Path) -> None:
    torch.set_num_threads(1)
    settings = TrainSettings(
        epochs=3, batch_size=4, train_T=24, lr=2e-3, warmup_epochs=1, encoder_width=16, pose_width=16, tcn_channels=16,
        tcn_layers=3, val_share=0.5, device="cpu",
    )  # fmt: skip
    train(settings, cache=cache, out=run, say=lambda line: None)


def check_checkpoint(run: Path) -> None:
    history = checkpoint.load(run / LAST)["loop"]["history"]
    assert 1 <= len(history) <= 3


def losses_of(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / HISTORY).drop(columns=["seconds", "waited_s"])


def kill_predict(work: Path, kills: int, rng: random.Random) -> int:
    """From the results of no model or of another one, with all recordings preprocessed; then to the end."""
    ethograms([Strip("drawn once, since the first time takes a second", np.zeros(9, int))], ["rest"], work / "pictures")
    in_child(partial(write_videos, work / "videos"))
    for number in (1, 2):
        in_child(partial(write_model, work / f"{number}.pt", number))
        in_child(partial(predict_videos, work, number, work / f"whole_{number}"))
    shutil.copytree(work / "whole_1" / "cache", work / "fresh" / "cache")
    expected, hit = results(work / "whole_2"), 0
    for i in range(kills):
        out = work / "out"
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(work / ("fresh", "whole_1")[i % 2], out)
        hit += killed(partial(predict_videos, work, 2, out), rng)
        in_child(partial(check_records, out))
        in_child(partial(predict_videos, work, 2, out))
        found = results(out)
        assert found.keys() == expected.keys()
        other = [name for name in found if name != "summary.csv" and found[name] != expected[name]]
        assert not other, f"kill {i}: other than after an undisturbed call: {', '.join(other)}"
    return hit


def predict_videos(work: Path, model: int, out: Path) -> None:
    torch.set_num_threads(1)
    done = predict([work / f"{model}.pt"], out=out, videos=work / "videos")
    assert not done.left_out, done.left_out


def check_records(out: Path) -> None:
    """No more than one recording's tables are without a record, and none is of two models."""
    folder = PredictFolder(out)
    if not (records := [record for name in "abc" if (record := folder.read(name))]):
        return
    assert all(record.made_of["models"] == folder.about()["made_of"]["models"] for record in records)
    known = {trial.table for record in records for trial in record.trials}
    unknown = {path.name for path in (out / "trials").glob("prediction_*.csv")} - known
    assert len({name.split(".")[0] for name in unknown}) <= 1, unknown


def in_child(step: Callable[[], object]) -> float:
    """Runs a step in a forked process, to its end, and says how long it took."""
    started = time.monotonic()
    _, status = os.waitpid(_fork(step), 0)
    assert status == 0, f"exit status {status}"
    _times.append(time.monotonic() - started)
    return _times[-1]


def killed(step: Callable[[], object], rng: random.Random) -> bool:
    """Runs a step and kills it at a random moment of the time that steps take; whether it was not done yet."""
    pid = _fork(step)
    time.sleep(rng.uniform(0, max(_times[-6:], default=0.5)))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or status == 0, f"exit status {status}"
    return os.WIFSIGNALED(status)


_times: list[float] = []


def _fork(step: Callable[[], object]) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        step()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
