"""How many times as fast an epoch is with two ranks as with one, each on one thread; prints a Markdown table.

    python benchmarks/ranks.py WORK_FOLDER [--rounds 3] [--toy]

The same recordings, settings and batches; the two cases take turns. Both train for some epochs, each time in new
processes; an epoch's time is the median of all but the first, with its validation. Needs two idle cores. A data set is
rendered into WORK_FOLDER once, that of speed.py: three recordings of it for cnn, all for pose alone (none). --toy: tiny
sizes, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import measure
import pandas as pd
import speed

from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.train import stage
from pipeline.train.run_folder import HISTORY
from pipeline.train_settings import TrainSettings

BATCH = 4
EPOCHS = {"cnn": 3, "none": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--train", help=argparse.SUPPRESS)  # what each rank is started with
    options = parser.parse_args()
    if options.train:
        out, cache, settings = json.loads(options.train)
        stage.train(TrainSettings(**settings), cache=Path(cache), out=Path(out), say=lambda line: None)
        return
    print(measure.machine())
    data = speed.rendered(options.work, options.toy)
    caches = {"cnn": speed.few_of(options.work, data, 32 if options.toy else 224), "none": options.work / "cache_pose"}
    folders = {"videos": data / "Videos", "annotations": data / "Annotations"}
    preprocess(PreprocessSettings(img_size=32), cache=caches["none"], **folders)
    rows = []
    for encoder, epochs in EPOCHS.items():
        shape = {"encoder": encoder, "train_T": 20 if options.toy else 180, "epochs": 2 if options.toy else epochs}
        settings = shape | {"batch_size": BATCH, "decision": False, "device": "cpu", "early_stopping_patience": 0}
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for number in range(options.rounds):
            for ranks in (1, 2) if number % 2 == 0 else (2, 1):
                seconds[ranks].append(_epoch_s(options.work, caches[encoder], settings, ranks))
        ratios = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
        rows.append([encoder, *(measure.spread(seconds[ranks], 3) for ranks in (1, 2)), measure.spread(ratios)])
    header = ["encoder", "epoch with 1 rank, s", "with 2 ranks, s", "times as fast"]
    measure.table(f"Training with ranks, batches of {BATCH} windows", header, rows)


def _epoch_s(work: Path, cache: Path, settings: dict[str, object], ranks: int) -> float:
    """Seconds of an epoch in a new run of so many ranks."""
    out = work / f"ranks_{ranks}"
    shutil.rmtree(out, ignore_errors=True)
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [*start, __file__, str(work), "--train", json.dumps([str(out), str(cache), settings])]
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    return float(pd.read_csv(out / HISTORY)["seconds"].iloc[1:].median())


if __name__ == "__main__":
    main()
