"""How the learning rate and the moving average run over the steps, and when training stops."""

from __future__ import annotations

import math

from pipeline.train_settings import TrainSettings

WARMUP_START = 0.01


def lr_at(step: int, steps_per_epoch: int, settings: TrainSettings, plateau_scale: float = 1.0) -> float:
    """The learning rate of a step, counted from 0 over the whole run.

    It rises linearly from lr / 100 to lr during the warm-up epochs. Then `cosine` falls along half a cosine and is
    min_lr at the last step (Loshchilov & Hutter 2017, one cycle); `plateau` is lr times plateau_scale, at least min_lr.
    """
    warmup_steps = settings.warmup_epochs * steps_per_epoch
    if step < warmup_steps:
        return settings.lr * (WARMUP_START + (1 - WARMUP_START) * step / warmup_steps)
    floor = min(settings.min_lr, settings.lr)
    if settings.lr_schedule == "plateau":
        return max(floor, settings.lr * plateau_scale)
    last = settings.epochs * steps_per_epoch - 1
    progress = min(1.0, (step - warmup_steps) / max(1, last - warmup_steps))
    return floor + (settings.lr - floor) * (1 + math.cos(math.pi * progress)) / 2


def ema_decay_at(step: int, decay: float) -> float:
    """The moving average's decay at a step, counted from 0 over the whole run: min(decay, (1 + step) / (10 + step)).

    So the first steps replace the random weights that it starts from: after 100 steps 2e-13 of them is left, with a
    constant 0.999 it would be 0.9. The formula is that of TensorFlow's ExponentialMovingAverage with num_updates,
    https://www.tensorflow.org/api_docs/python/tf/train/ExponentialMovingAverage.
    """
    return min(decay, (1 + step) / (10 + step))


class Plateau:
    """The learning rate's scale, times `factor` after more than `patience` epochs in a row without a better score.

    The count begins anew after each fall: torch's ReduceLROnPlateau with threshold 0.
    """

    def __init__(self, patience: int, factor: float) -> None:
        self.patience = patience
        self.factor = factor
        self.scale = 1.0
        self.best = -math.inf
        self.bad_epochs = 0

    def update(self, score: float) -> float:
        """The scale after an epoch with this score (higher is better; NaN is never better)."""
        if score > self.best:
            self.best, self.bad_epochs = score, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > self.patience:
            self.scale, self.bad_epochs = self.scale * self.factor, 0
        return self.scale

    def state_dict(self) -> dict[str, float]:
        return {"scale": self.scale, "best": self.best, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.scale, self.best, self.bad_epochs = state["scale"], state["best"], int(state["bad_epochs"])


class EarlyStopping:
    """Remembers the best score and says when `patience` epochs in a row had none better; patience 0: never."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best = -math.inf
        self.bad_epochs = 0

    def update(self, score: float) -> bool:
        """Whether this epoch's score is better than all before it (NaN never is)."""
        better = score > self.best
        if better:
            self.best, self.bad_epochs = score, 0
        else:
            self.bad_epochs += 1
        return better

    @property
    def should_stop(self) -> bool:
        return 0 < self.patience <= self.bad_epochs

    def state_dict(self) -> dict[str, float]:
        return {"best": self.best, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.best, self.bad_epochs = state["best"], int(state["bad_epochs"])
