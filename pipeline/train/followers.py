"""What follows a run from epoch to epoch: TensorBoard, Weights & Biases. Nothing that is learned depends on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.setting_texts import SettingsError

if TYPE_CHECKING:
    import numpy as np

    from cache import Clip
    from pipeline.train.figures import Look
    from pipeline.train.validate import Evaluation

# A run has about so many pictures of each kind, however long it is.
_LOOKS = 10
_LOSSES = {"loss": "loss", "action_loss": "loss_action", "kp_loss": "loss_keypoints"}
_BOTH = _LOSSES | {"cross_entropy": "cross_entropy", "macro_f1": "macro_f1"}
_PARTS = {"train": "train", "val": "validation"}
_ALONE = {
    "shown_loss": "loss/train_augmented",
    "val_segment_f1": "segment_f1/validation",
    "val_keypoint_mae": "keypoint_error/validation",
    "lr": "course/learning_rate",
    "seconds": "course/seconds",
}
_PER_CLASS = "val_f1_"


@dataclass(frozen=True)
class Follow:
    """What a run is followed by."""

    tensorboard: bool = False
    wandb: bool = False


NOBODY = Follow()


@dataclass(frozen=True)
class Followed:
    """The run that is followed. clips: the held-out ones. history: the rows of history.csv until now, when resumed."""

    out: Path
    settings: dict[str, Any]
    class_names: tuple[str, ...]
    clips: Sequence[Clip]
    history: tuple[dict[str, float], ...]


class Follower(Protocol):
    """Is told of a run. What it raises ends its following and never the run."""

    def epoch(self, number: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        """After epoch `number`, counted from 1; numbers rise. scalars: as `scalars_of` names them. images: uint8
        (H,W,3), in some epochs; at the end of the run they may come with the last epoch's number again, alone."""

    def close(self, *, failed: bool) -> None:
        """The run is over, or ends by an error."""


def check_follow(follow: Follow) -> None:
    """Raises SettingsError for what is not installed, before anything is trained."""
    if not follow.wandb:
        return
    try:
        from wandb import Settings  # noqa: F401  (a name of it: a folder called wandb would pass for the package)
    except ImportError:
        raise SettingsError("--wandb needs Weights & Biases: pip install 'paw-pipeline[wandb]'") from None


def scalars_of(row: Mapping[str, float]) -> dict[str, float]:
    """A row of history.csv by the names that followers show, in groups; without what is not a number."""
    named = {
        f"{name}/{shown}": row.get(f"{part}_{column}", math.nan)
        for column, name in _BOTH.items()
        for part, shown in _PARTS.items()
    }
    named |= {name: row.get(column, math.nan) for column, name in _ALONE.items()}
    named |= {f"f1/{key.removeprefix(_PER_CLASS)}": f1 for key, f1 in row.items() if key.startswith(_PER_CLASS)}
    named["course/share_of_waiting"] = row["waited_s"] / max(row["seconds"], 1e-9)
    return {name: float(value) for name, value in named.items() if not math.isnan(value)}


@contextmanager
def followers(follow: Follow, run: Followed, say: Callable[[str], None]) -> Iterator[Followers]:
    """Those that are asked for, open for as long as the run goes on."""
    told = Followers(run, say)
    if follow.tensorboard:
        from pipeline.train.tensorboard_log import TensorBoardLog

        told.add("TensorBoard", lambda: TensorBoardLog(run))
    if follow.wandb:
        from pipeline.train.wandb_log import WandbLog

        told.add("Weights & Biases", lambda: WandbLog(run, say))
    failed = True
    try:
        yield told
        failed = False
    finally:
        told.close(failed=failed)


class Followers:
    """All that follow one run, told of it in one place. One that fails is named once, and left out from then on."""

    def __init__(self, run: Followed, say: Callable[[str], None]) -> None:
        self._run, self._say = run, say
        self._open: dict[str, Follower] = {}
        self._every = math.ceil(run.settings["epochs"] / _LOOKS)
        self._best: Look | None = None  # of the best epoch, where it has not been drawn yet
        self._number = len(run.history)
        self._failed: set[str] = set()

    def add(self, name: str, open_follower: Callable[[], Follower]) -> None:
        with self._spared(name):
            self._open[name] = open_follower()

    def epoch(self, row: Mapping[str, float], on_val: Evaluation, *, better: bool) -> None:
        """row: that of history.csv. better: whether this epoch's model is the best until now."""
        if not self._open:
            return
        self._number = int(row["epoch"])
        images: dict[str, np.ndarray] = {}
        with self._spared("pictures"):
            images = self._images(on_val, better)
        self._tell(scalars_of(row), images)

    def close(self, *, failed: bool) -> None:
        if self._open and self._best:
            with self._spared("pictures"):
                self._tell({}, self._drawn("best", self._best))
        for name, follower in list(self._open.items()):
            with self._spared(name):
                follower.close(failed=failed)

    def _tell(self, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        for name, follower in list(self._open.items()):
            with self._spared(name):
                follower.epoch(self._number, scalars, images)

    def _images(self, on_val: Evaluation, better: bool) -> dict[str, np.ndarray]:
        due = self._number == 1 or self._number % self._every == 0
        labelled = any((trial.labels >= 0).any() for trial in on_val.trials)
        if not labelled or not (due or better):
            return {}
        from pipeline.train.figures import look

        seen = look(self._number, self._run.clips, on_val)
        if better:
            self._best = seen
        if not due:
            return {}
        images = self._drawn("latest", seen)
        if self._best is seen:
            images |= {name.replace("latest", "best"): image for name, image in images.items()}
        elif self._best:
            images |= self._drawn("best", self._best)
        self._best = None
        return images

    def _drawn(self, which: str, seen: Look) -> dict[str, np.ndarray]:
        return {f"{name}/{which}": image for name, image in seen.images(self._run.class_names).items()}

    @contextmanager
    def _spared(self, name: str) -> Iterator[None]:
        """Whatever goes wrong within, the training goes on without it."""
        try:
            yield
        except Exception as error:
            self._open.pop(name, None)
            if name not in self._failed:
                lines = str(error).splitlines() or [type(error).__name__]
                self._say(f"[info] {name}: {lines[0].rstrip('.')}; the training goes on without")
            self._failed.add(name)
