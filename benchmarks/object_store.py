"""A cache in an object store against the same one on the disk: requests, windows, epochs.

    python benchmarks/object_store.py WORK_FOLDER [--toy]

Requests are counted by moto's S3 server. It is made for tests and runs in this process, so the times are against a
small server in a process of its own, which sends ranges of files and waits for --delays (ms) before each answer, as a
network does. Everything is on loopback: bandwidth is not what a lab's network has. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import measure
import numpy as np
import pandas as pd
from speed_windows import BATCH, _random_windows

import cache as clip_cache
from pipeline.demo.dataset import make_dataset
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.train.labels import make_merge
from pipeline.train.run_folder import HISTORY
from pipeline.train.stage import train
from pipeline.train.stream import Stream, load_clips
from pipeline.train_settings import Keep, TrainSettings

sys.path.append(str(Path(__file__).parents[1] / "tests"))

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "mice", "AWS_REGION": "us-east-1"}


class Ranges(BaseHTTPRequestHandler):
    """GET of files below `folder`, whole or a range; nothing else of S3."""

    protocol_version = "HTTP/1.1"
    folder = Path()
    delay_s = 0.0

    def do_GET(self) -> None:
        time.sleep(self.delay_s)
        path = self.folder / self.path.lstrip("/").partition("/")[2]
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        start, stop, code = 0, size, 200
        if found := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            first, last = found.groups()
            start = int(first) if first else max(0, size - int(last))
            stop = min(size, int(last) + 1) if first and last else size
            code = 206
        self.send_response(code)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", "Wed, 01 Jan 2025 00:00:00 GMT")
        self.end_headers()
        with path.open("rb") as file:
            self.wfile.flush()
            os.sendfile(self.connection.fileno(), file.fileno(), start, stop - start)

    def log_message(self, *_: object) -> None:
        pass


def serve(folder: Path, delay_s: float) -> None:
    Ranges.folder, Ranges.delay_s = folder, delay_s
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ranges)
    print(server.server_port, flush=True)
    server.serve_forever()


@contextmanager
def far(cache: Path, delay_ms: int, copy: Path | None = None) -> Iterator[clip_cache.Place]:
    """The cache's address in a store whose answers take a while."""
    command = [sys.executable, __file__, str(cache.parent), "--serve", str(delay_ms / 1000)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        # A bucket of its own each time: stores of an address are kept open.
        os.environ.update(KEYS, AWS_ENDPOINT_URL=f"http://127.0.0.1:{int(server.stdout.readline())}")
        yield clip_cache.place(f"s3://after-{time.time_ns()}/{cache.name}", copy)
    finally:
        server.terminate()
        server.wait()


def made(work: Path, data: Path, img_size: int) -> Path:
    cache = work / f"cache_{img_size}"
    settings = PreprocessSettings(img_size=img_size)
    preprocess(settings, cache=cache, videos=data / "Videos", annotations=data / "Annotations")
    return cache


def requests(data: Path, img_size: int) -> None:
    """How many there are of each kind, for what one does with a cache."""
    from s3_lab import BUCKET, S3Server

    s3 = S3Server()
    os.environ.update(s3.environment)
    place = clip_cache.place(f"s3://{BUCKET}/cache")
    settings = PreprocessSettings(img_size=img_size)
    rows: list[list[object]] = []

    def count(what: str, do: Callable[[], object]) -> object:
        s3.behave()
        done = do()
        kinds = s3.methods()
        rows.append([what, sum(kinds.values()), ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))])
        return done

    def made() -> object:
        return preprocess(settings, cache=place, videos=data / "Videos", annotations=data / "Annotations")

    count("preprocess, all new", made)
    count("preprocess, nothing to do", made)
    label = next(iter(sorted((data / "Annotations").iterdir())))
    text = label.read_text()
    label.write_text(_other(text))
    count("preprocess, one label changed", made)
    label.write_text(text)
    clips = count("open", lambda: clip_cache.open(place))
    assert isinstance(clips, clip_cache.Cache)
    count("keypoints and labels of all", lambda: load_clips(clips, make_merge(clips.class_names, "auto"), 0.9))
    T = min(180, len(clips[0]) // 2)
    count(f"a window of {T} frames, the trial's first", lambda: clips[0].frames[0:T])
    count("another of the same trial", lambda: clips[0].frames[T // 2 : T // 2 + T])
    s3.close()
    title = f"Requests, {len(clips.recordings)} recordings, {len(clips)} trials"
    measure.table(title, ["what", "requests", "of these"], rows)


def _other(text: str) -> str:
    """The table with another label in its last row."""
    head, last = text.rstrip("\n").rsplit(",", 1)
    return f"{head},{'1' if last.strip() != '1' else '0'}\n"


def windows(cache: Path, delays: list[int], T: int, n_frames: int, rounds: int, work: Path) -> None:
    """Random windows in batches, from the disk and from stores; each store opened anew."""
    rows = []
    for delay in delays:
        shutil.rmtree(work / "copy", ignore_errors=True)
        with far(cache, delay) as place:
            places = {"disk": cache, "store": place, "copy": clip_cache.place(place, work / "copy")}
            chosen = _random_windows(list(clip_cache.open(cache)), T, n_frames // T)
            cases = {name: _stream(where, chosen) for name, where in places.items()}
            started = time.perf_counter()
            cases["copy"]()
            filling = time.perf_counter() - started
            cases["store"]()
            found = measure.interleave(cases, rounds)
        rate = {name: [len(chosen) / seconds for seconds in found[name]] for name in found}
        rows.append(
            [
                f"{delay} ms", measure.spread(rate["store"], 1),
                f"{np.median(rate['store']) * T:,.0f}", measure.spread(measure.ratios(found, "store", "disk")),
                measure.spread(measure.ratios(found, "copy", "disk")), f"{len(chosen) / filling:.1f}",
            ]
        )  # fmt: skip
    header = [
        "an answer takes",
        "windows/s",
        "frames/s",
        "over the disk's",
        "copy, over the disk's",
        "while it is filled",
    ]
    measure.table(f"Random windows of {T} frames in batches of {BATCH}", header, rows)


def _stream(place: clip_cache.Place, chosen: list) -> Callable[[], object]:
    clips = list(clip_cache.open(place))
    data = load_clips(clips, make_merge(clips[0].class_names, "auto"), 0.9)

    def case() -> None:
        with Stream(clips, data, chosen, BATCH, "cpu") as stream:
            for _ in stream:
                pass

    return case


def epochs(cache: Path, delays: list[int], train_T: int, work: Path) -> None:
    """Two epochs of a run, frames kept nowhere: seconds to prepare, seconds and share waited of each epoch."""
    rows = []
    for encoder in ("cnn", "none"):
        cases: list[tuple[str, int | None, bool]] = [("disk", None, False)]
        cases += [(f"store, {delay} ms", delay, False) for delay in delays]
        cases += [(f"store, {delays[-1]} ms, --cache-copy", delays[-1], True)]
        for name, delay, copied in cases:
            shutil.rmtree(work / "copy", ignore_errors=True)
            if delay is None:
                rows.append([encoder, name, *_run(cache, encoder, train_T, work)])
                continue
            with far(cache, delay, work / "copy" if copied else None) as place:
                rows.append([encoder, name, *_run(place, encoder, train_T, work)])
    header = ["encoder", "frames from", "seconds of epochs 1 and 2", "waited for data", "whole run, s"]
    measure.table("Training, --keep disk", header, rows)


def _run(place: clip_cache.Place, encoder: str, train_T: int, work: Path) -> list[str]:
    shutil.rmtree(work / "run", ignore_errors=True)
    settings = TrainSettings(encoder=encoder, epochs=2, train_T=train_T, warmup_epochs=0, device="cpu", decision=False)
    started = time.perf_counter()
    train(settings, cache=place, out=work / "run", keep=Keep.DISK, say=lambda line: None)
    seconds = time.perf_counter() - started
    table = pd.read_csv(work / "run" / HISTORY)
    shares = 100 * table["waited_s"] / table["seconds"]
    return [
        ", ".join(f"{value:.1f}" for value in table["seconds"]),
        ", ".join(f"{value:.1f} %" for value in shares),
        f"{seconds:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--delays", default="0,20,100", help="ms before each answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.work, options.serve)
    delays = [int(delay) for delay in options.delays.split(",")]
    work, toy = options.work, options.toy
    print(measure.machine())
    data = work / "data"
    size = {"size": (64, 48)} if toy else {}
    make_dataset(data, recordings=4 if toy else 8, trials=1 if toy else 2, processes=1 if toy else 2, **size)
    requests(data, 32 if toy else 224)
    rounds = 1 if toy else options.rounds
    windows(made(work, data, 32 if toy else 224), delays, 20 if toy else 180, 400 if toy else 20_000, rounds, work)
    epochs(made(work, data, 32 if toy else 96), delays, 20 if toy else 180, work)


if __name__ == "__main__":
    main()
