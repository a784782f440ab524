"""A filmed lab whose frames show their numbers, a cache of it, and what a model says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import cache as clip_cache
from lab import Lab
from pipeline.predict.exports import TABLES, Prediction, trial_name, trial_table, write_table
from pipeline.preprocess.stage import preprocess
from pipeline.preprocess_settings import PreprocessSettings
from tables_lab import CLASSES, LENGTH

N_FRAMES = 2 * LENGTH + 10
DAMAGED = 7  # frame of the first trial


@dataclass(frozen=True)
class Filmed:
    """One recording of two trials, the second cropped to [15:60] by people's labels alone.

    true, said: (N_FRAMES,) people's labels and the model's, -1 where there is none.
    """

    videos: Path
    cache: Path
    predicted: Path
    true: np.ndarray
    said: np.ndarray
    probabilities: np.ndarray
    xy_px: np.ndarray


@pytest.fixture(scope="session")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Filmed:
    folder = tmp_path_factory.mktemp("filmed")
    rng = np.random.default_rng(0)
    lab = Lab(folder / "Videos")
    lab.recording("m_1M.mp4", N_FRAMES)
    true, said = (np.repeat(rng.integers(0, 3, N_FRAMES), rng.integers(1, 9, N_FRAMES))[:N_FRAMES] for _ in range(2))
    true[2 * LENGTH :] = said[2 * LENGTH :] = true[LENGTH : LENGTH + 15] = said[DAMAGED] = -1
    people = Lab(folder / "Annotations")
    people.annotation("m_1M.mp4_1", true[:LENGTH])
    people.annotation("m_1M.mp4_2", true[LENGTH + 15 : 2 * LENGTH], first=15)
    shape = {"trial_frames": LENGTH, "min_frames": 45, "crops": "45=15", "img_size": 64, "classes": ",".join(CLASSES)}
    settings = PreprocessSettings(**shape, decoder="pyav")
    preprocess(settings, cache=folder / "cache", videos=lab.folder, annotations=people.folder)
    predicted = folder / "predicted"
    preprocess(settings, cache=predicted / "cache", videos=lab.folder)
    (predicted / TABLES).mkdir()
    probabilities = np.round(rng.dirichlet(np.ones(3), N_FRAMES), 4)
    xy_px = np.round(rng.uniform((75, 10), (120, 90), (N_FRAMES, 3, 2)), 2)  # beside the number that a frame shows
    probabilities[DAMAGED], xy_px[DAMAGED] = np.nan, np.nan
    for clip in clip_cache.open(predicted / "cache"):
        rows = slice(int(clip.frame_index[0]), int(clip.frame_index[-1]) + 1)
        table = trial_table(Prediction(clip, said[rows], probabilities[rows], xy_px[rows]), CLASSES)
        write_table(table, predicted / TABLES / trial_name(clip))
    return Filmed(lab.folder, folder / "cache", predicted, true, said, probabilities, xy_px)
