"""A run on Weights & Biases: scalars, pictures and settings; the files of it lie in RUN/wandb/.

The user's own environment says where it goes: WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY, WANDB_API_KEY, WANDB_BASE_URL.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pipeline.train.followers import Followed, scalars_of
from pipeline.train.run_folder import write_text

ID_FILE = "wandb_id.txt"
PROJECT = "paw-pipeline"
# Of a network that does not answer: the start, and the end of a run, wait no longer.
_START_S, _END_S = 30.0, 60.0


class WandbError(ValueError):
    """Weights & Biases cannot follow; the message says why and what to do."""


class WandbLog:
    """A resumed run goes on under the identity that is kept in RUN/wandb_id.txt. Nothing of its code is sent."""

    def __init__(self, run: Followed, say: Callable[[str], None]) -> None:
        import wandb

        quiet = wandb.Settings(
            silent=True, console="off", disable_code=True, disable_git=True, x_disable_meta=True, x_disable_stats=True,
            init_timeout=_START_S, finish_timeout=_END_S,
        )  # fmt: skip
        wandb.setup(settings=quiet)
        self._image: Callable[..., Any] = wandb.Image
        # Asked first: a start without a key would ask on the terminal, and wait for an answer.
        if os.environ.get("WANDB_MODE", "online") == "online" and not wandb.login(prompt=False):
            raise WandbError("not logged in: wandb login, or WANDB_MODE=offline")
        id_file = run.out / ID_FILE
        goes_on = id_file.exists()
        identity = id_file.read_text(encoding="utf-8").strip() if goes_on else uuid.uuid4().hex[:12]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=identity,
            name="/".join(run.out.resolve().parts[-2:]),
            resume="allow",
            dir=str(run.out),
            config=run.settings,
            settings=quiet,
        )
        write_text(id_file, identity + "\n")
        offline = f"offline, to be sent by: wandb sync {self._run.settings.sync_dir}"
        say(f"[info] Weights & Biases: {self._run.url if self._run.settings.mode == 'online' else offline}")
        for row in () if goes_on else run.history:
            self.epoch(int(row["epoch"]), scalars_of(row), {})

    def epoch(self, number: int, scalars: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
        pictures = {name: self._image(image) for name, image in images.items()}
        self._run.log({**scalars, **pictures}, step=number)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))
