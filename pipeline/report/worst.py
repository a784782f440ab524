"""The trials that the model does worst on, with pictures of them to look at."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

import cache as clip_cache
from cache.clip import UNLABELLED
from pipeline import contact_sheet
from pipeline.report.content import Cell, Note, Section, Table, count, number, share, text
from pipeline.report.scored import Scored
from pipeline.train.metrics import confusion, macro_f1
from pipeline.train.run_folder import PICTURES

SHEETS = "worst"
MOST_TRIALS, MOST_SHEETS = 15, 3


@dataclass(frozen=True)
class Trial:
    """wrong: share of its labelled frames. commonest: the commonest mistake, (true, predicted, frames) or None."""

    recording: str
    trial: int
    frames: int
    wrong: float
    macro_f1: float
    commonest: tuple[str, str, int] | None


def section(scored: Scored, folder: Path, clips: clip_cache.Cache | None, page: Path, likelihood_thr: float) -> Section:
    """clips: the cache that the trials come from, for the pictures; page: the file that links to them."""
    worst = worst_trials(scored)[:MOST_TRIALS]
    if not worst:
        return Section("Worst trials", [Note("No labelled frame: there is nothing to rank.")])
    names = [(trial.recording, trial.trial) for trial in worst if trial.wrong > 0][:MOST_SHEETS]
    sheets = draw(names, clips, folder / PICTURES / SHEETS, likelihood_thr) if clips else {}
    for name in names:  # of a former call, where the cache is gone
        path = folder / PICTURES / SHEETS / contact_sheet.file_stem(*name)
        if name not in sheets and (found := path.with_name(f"{path.name}.png")).is_file():
            sheets[name] = found
    rows = [_row(trial, sheets.get((trial.recording, trial.trial)), page) for trial in worst]
    columns = ("recording", "trial", "frames that are wrong", "labelled frames", "macro F1", "commonest mistake")
    caption = f"By the share of labelled frames that are wrong ({scored.best})."
    if not sheets and names:
        caption += (
            " There are no contact sheets: the cache is not at hand, or holds no frames. "
            "`pipeline report --cache CACHE` draws them where it does."
        )
    return Section("Worst trials", [Table([*columns, "contact sheet"], rows, caption)])


def worst_trials(scored: Scored) -> list[Trial]:
    """All trials with a labelled frame, those with the largest share of wrong frames first."""
    found = []
    for trial, pred in zip(scored.trials, scored.said[scored.best], strict=True):
        labelled = trial.labels != UNLABELLED
        if not labelled.any():
            continue
        wrong = labelled & (trial.labels != pred)
        mistakes = Counter(zip(trial.labels[wrong].tolist(), pred[wrong].tolist(), strict=True)).most_common(1)
        commonest = [(scored.names[t], scored.names[p], n) for (t, p), n in mistakes]
        found.append(
            Trial(
                trial.recording,
                trial.trial,
                int(labelled.sum()),
                float(wrong.sum() / labelled.sum()),
                macro_f1(confusion(trial.labels, np.asarray(pred), len(scored.names))),
                commonest[0] if commonest else None,
            )
        )
    return sorted(found, key=lambda trial: (-trial.wrong, trial.recording, trial.trial))


def draw(
    names: Sequence[tuple[str, int]], clips: clip_cache.Cache, folder: Path, likelihood_thr: float
) -> dict[tuple[str, int], Path]:
    """A contact sheet of each of the trials whose frames the cache holds; those of a former call are taken away.

    A trial that cannot be drawn has none: its frames may be damaged since.
    """
    wanted = [clip for clip in clips if clip.has_frames and (clip.recording, clip.trial) in names]
    for former in folder.glob("*.png") if wanted else []:
        former.unlink()
    sheets = {}
    for clip in wanted:
        with suppress(OSError, ValueError):
            sheets[clip.recording, clip.trial] = contact_sheet.sheet(clip, folder, likelihood_thr)
    return sheets


def _row(trial: Trial, sheet: Path | None, page: Path) -> list[Cell]:
    mistake = "none"
    if trial.commonest:
        true, pred, frames = trial.commonest
        mistake = f"{true} as {pred}, {frames:,} frames"
    link = Cell("–", "")
    if sheet:
        link = text("look", quote(Path(os.path.relpath(sheet.resolve(), page.resolve().parent)).as_posix()))
    figures = [share(trial.wrong), count(trial.frames), number(trial.macro_f1)]
    return [text(trial.recording), count(trial.trial), *figures, text(mistake), link]
