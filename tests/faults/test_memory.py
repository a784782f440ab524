"""Memory that grows with the length of a video, or from epoch to epoch, would end a long run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

import cache as clip_cache
from cache import ClipRows, Geometry, RecordingMeta
from lab import PARTS
from pipeline.model.decision import Decision
from pipeline.preprocess.probe import decord
from predict_lab import NAMES, write_model
from tests_support import write_small_cache

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own figures of memory")

DECODE = """
import resource, sys
from pathlib import Path
from cache import Geometry
from pipeline.preprocess.decode import decode
from pipeline.preprocess.probe import probe
path, decoder = Path(sys.argv[1]), sys.argv[2]
facts = probe(path)
geometry = Geometry.fit(facts.width, facts.height, 64)
n = sum(len(block) for block, _ in decode(path, facts, stop=None, geometry=geometry, channels=1, decoder=decoder))
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""

TRAIN = """
import json, resource, sys
from pathlib import Path
import torch
from pipeline.train_settings import TrainSettings
from pipeline.train.stage import train
torch.set_num_threads(1)
rss = []
def say(line):
    if line.startswith("Epoch "):
        with open("/proc/self/statm") as file:
            rss.append(int(file.read().split()[1]) * resource.getpagesize() / 2**20)
train(TrainSettings(**json.loads(sys.argv[3])), cache=Path(sys.argv[1]), out=Path(sys.argv[2]), say=say)
print(json.dumps(rss))
"""

PREDICT = """
import resource, sys
from pathlib import Path
import torch
import cache as clip_cache
from pipeline.model.trained import load_trained
from pipeline.predict.records import PredictFolder
from pipeline.predict.recording import predict_recording
from pipeline.model.room import Room
torch.set_num_threads(1)
out = PredictFolder(Path(sys.argv[3]))
out.make_room({})
clips = list(clip_cache.open(sys.argv[2]))
reason = predict_recording(load_trained(Path(sys.argv[1])), clips, out, {}, Room(), lambda n: None)
assert not reason, reason
print(len(clips[0]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def render(path: Path, n_frames: int, size: tuple[int, int] = (64, 48)) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"preset": "ultrafast", "g": "300"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        pictures = [np.full((size[1], size[0], 3), level, np.uint8) for level in range(0, 250, 10)]
        for i in range(n_frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pictures[i % len(pictures)], format="rgb24")))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("long")
    return {n: render(folder / f"{n}.mp4", n) for n in (2_000, 20_000)}


@pytest.mark.parametrize("decoder", ["decord", "pyav"] if decord else ["pyav"])
def test_decoding_ten_times_as_many_frames_takes_no_more_memory(videos: dict[int, Path], decoder: str) -> None:
    peaks = {}
    for n, path in videos.items():
        command = [sys.executable, "-c", DECODE, str(path), decoder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        count, peaks[n] = (float(text) for text in done.stdout.split())
        assert count == n
    assert peaks[20_000] - peaks[2_000] < 60, f"{peaks} MB"


def test_the_trainer_does_not_grow_from_epoch_to_epoch(tmp_path: Path) -> None:
    cache = write_small_cache(tmp_path / "cache", recordings=24)
    settings = {
        "epochs": 16, "batch_size": 4, "train_T": 24, "lr": 2e-3, "encoder_width": 16, "pose_width": 16,
        "tcn_channels": 16, "tcn_layers": 2, "val_share": 0.34, "early_stopping_patience": 0, "use_ema": True,
    }  # fmt: skip
    command = [sys.executable, "-c", TRAIN, str(cache), str(tmp_path / "run"), json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rss = json.loads(done.stdout.strip().splitlines()[-1])
    assert len(rss) == 16
    # It grows by 2 MB; if each epoch left its frames behind as float32, by 80.
    assert rss[-1] - rss[3] < 30, [round(each) for each in rss]


def write_long(path: Path, n: int) -> Path:
    """A recording of keypoints alone, one clip of n frames."""
    t = np.arange(n)[:, None]
    xy = 0.5 + 0.2 * np.stack([np.sin(t / 50 + np.arange(3)), np.cos(t / 70 + np.arange(3))], -1)
    with clip_cache.create(path) as cache:
        meta = RecordingMeta(
            recording="long", video=None, dlc="long.csv", geometry=Geometry.pose_only(64, 48), channels=1, fps=30.0,
            decoder=None, keypoint_names=PARTS, class_names=NAMES, clips=(ClipRows(1, 0, n, 0, 0),),
            fingerprints=dict.fromkeys(("frames", "keypoints", "labels"), "long"), settings={},
        )  # fmt: skip
        cache.writer("long").finish(
            meta,
            keypoints=np.concatenate([xy, np.ones((n, 3, 1))], -1).astype(np.float32),
            labels=np.full(n, -1, np.int16),
            frame_index=np.arange(n),
            time_s=np.arange(n) / 30,
        )
    return path


def test_predicting_four_times_as_long_a_clip_takes_little_more_memory(tmp_path: Path) -> None:
    decision, peaks = Decision((0.0,) * 3, (1.0,) * 3), {}
    model = write_model(tmp_path / "model.pt", decision=decision, pose_windows=(9, 31, 91, 301))
    for n in (8_000, 32_000):
        cache = write_long(tmp_path / f"cache_{n}", n)
        command = [sys.executable, "-c", PREDICT, str(model), str(cache), str(tmp_path / f"out_{n}")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        count, peaks[n] = (float(text) for text in done.stdout.split())
        assert count == n
    # It grows by 18 MB; where all frames went through the network at once, by 208.
    assert peaks[32_000] - peaks[8_000] < 80, f"{peaks} MB"
