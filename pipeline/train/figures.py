"""Pictures of a run that goes on: the confusion matrix and some held-out trials, as arrays of a bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cache import Clip
from pipeline.pictures import Strip, confusion_figure, ethogram_figure, fps_of, title_of
from pipeline.train.metrics import TrialResult
from pipeline.train.validate import Evaluation

_TRIALS = 6
_DPI = 80


@dataclass(frozen=True, eq=False)
class Look:
    """What is drawn of an epoch. confusion (N,N): frames, rows the truth."""

    epoch: int
    strips: list[Strip]
    confusion: np.ndarray
    fps: float

    def images(self, class_names: Sequence[str]) -> dict[str, np.ndarray]:
        """uint8 (H,W,3) each."""
        figures = {
            "confusion": confusion_figure(self.confusion, class_names),
            "ethogram": ethogram_figure(self.strips, class_names, self.fps),
        }
        return {name: _pixels(figure, f"epoch {self.epoch}") for name, figure in figures.items()}


def look(epoch: int, clips: Sequence[Clip], result: Evaluation) -> Look:
    """Some labelled trials, the same in every epoch, spread over all of them."""
    labelled = [i for i, trial in enumerate(result.trials) if (trial.labels >= 0).any()]
    places = np.unique(np.linspace(0, len(labelled) - 1, _TRIALS).round().astype(int))
    shown = [labelled[place] for place in places]
    strips = strips_of([clips[i] for i in shown], [result.trials[i] for i in shown])
    return Look(epoch, strips, result.scores.confusion, fps_of(list(clips)))


def strips_of(clips: Sequence[Clip], trials: Sequence[TrialResult]) -> list[Strip]:
    """Strips for an ethogram: people's labels over predicted ones."""
    return [
        Strip(title_of(clip), trial.pred, trial.labels, clip.source["crop_start"])
        for clip, trial in zip(clips, trials, strict=True)
    ]


def _pixels(figure: Figure, title: str) -> np.ndarray:
    figure.suptitle(title, fontsize=9, x=0.99, ha="right")
    figure.set_dpi(_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
