"""A run's log for TensorBoard, in RUN/tensorboard/: its scalars, pictures and settings."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.train.followers import Followed, scalars_of

FOLDER = "tensorboard"
_FILES = "events.out.tfevents."
_WATCHED = "macro_f1/validation"
# Charts with several curves each, in the tab "Custom Scalars".
_LAYOUT = {
    "train and validation": {
        "loss": ["Multiline", ["^loss/train$", "^loss/validation$"]],
        "cross entropy": ["Multiline", ["^cross_entropy/"]],
        "macro F1": ["Multiline", ["^macro_f1/"]],
    },
    "validation": {"F1 per class": ["Multiline", ["^f1/"]]},
}


class TensorBoardLog:
    """Of a resumed run it goes on after the last epoch that was saved; readers leave out what was said of later ones.

    Each epoch is on the disk when it was told.
    """

    def __init__(self, run: Followed) -> None:
        _leave_tensorflow_out()
        from torch.utils.tensorboard import SummaryWriter

        done, folder = len(run.history), run.out / FOLDER
        goes_on = _number_files(folder)
        # Nothing is lost where it is long until the queue is full: flush() waits for all of it.
        self._writer = SummaryWriter(str(folder), purge_step=done + 1 if goes_on else None)
        table = [f"| {name} | {value} |" for name, value in sorted(run.settings.items())]
        self._writer.add_text("settings", "\n".join(["| setting | value |", "|---|---|", *table]), done)
        if not goes_on:
            self._begin(run)
        self._writer.flush()

    def epoch(self, number: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, number)
        for name, image in images.items():
            self._writer.add_image(name, image, number, dataformats="HWC")
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        self._writer.close()

    def _begin(self, run: Followed) -> None:
        """What is said once; and all former epochs of a run that was not followed until now."""
        from torch.utils.tensorboard.summary import hparams

        self._writer.add_custom_scalars(_LAYOUT)
        # Not add_hparams: it would make a run of its own beside this one.
        files: Any = self._writer.file_writer
        for summary in hparams(run.settings, {_WATCHED: 0.0}):
            files.add_summary(summary, 0)
        for row in run.history:
            self.epoch(int(row["epoch"]), scalars_of(row), {})


def _number_files(folder: Path) -> bool:
    """Gives the files of a former part of the run names that sort before any new one; whether there were some.

    Readers take a log's files by name, and a name begins with the second in which the file was begun: two parts that
    were begun in the same second, or a clock that was put back, would change places.
    """
    former = sorted(folder.glob(f"{_FILES}*"))
    for number, path in enumerate(former):
        stamp, rest = path.name.removeprefix(_FILES).split(".", 1)
        with suppress(PermissionError):  # Windows, while TensorBoard reads it
            path.rename(path.with_name(f"{_FILES}{number:0{len(stamp)}}.{rest}"))
    return bool(former)


def _leave_tensorflow_out() -> None:
    """Where TensorFlow is installed TensorBoard would load it: seconds, and warnings on stderr. This module, which is
    what TensorBoard asks for, tells it not to; its own files on the local disk need none of it.
    """
    name = "tensorboard.compat.notf"
    sys.modules.setdefault(name, types.ModuleType(name))
