"""Pictures of a run: ethograms, confusion matrix, learning curves (PNG), in colours that all eyes can tell apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cache import Clip

# Okabe & Ito 2008, rest in light gray so that the behaviours stand out; repeated where there are more classes.
_COLOURS = ("#d9d9d9", "#d55e00", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#f0e442", "#000000")
_ROWS_PER_PICTURE = 40
_FEW_EPOCHS = 20
mpl.rcParams["svg.fonttype"] = "none"


@dataclass(frozen=True)
class Strip:
    """One trial of an ethogram: its title, predicted labels (T,) and, where people labelled it, theirs (-1: not).

    start: the trial's frame that the labels begin at (15 for the crop [15:360]).
    """

    title: str
    pred: np.ndarray
    true: np.ndarray | None = None
    start: int = 0


def class_colours(n_classes: int) -> list[str]:
    """A colour per class, in the order of the class list."""
    return [_COLOURS[i % len(_COLOURS)] for i in range(n_classes)]


def ethograms(strips: Iterable[Strip], class_names: Sequence[str], folder: Path, fps: float = 30.0) -> list[Path]:
    """A strip per trial (true over predicted), 40 trials a picture: ethogram_1.png and so on; returns the paths.

    No more strips than those of a picture are held at a time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left, paths = iter(strips), list[Path]()
    while page := list(islice(left, _ROWS_PER_PICTURE)):
        path = folder / f"ethogram_{len(paths) + 1}.png"
        ethogram_figure(page, class_names, fps).savefig(path, dpi=130)
        paths.append(path)
    return paths


def confusion_picture(confusion: np.ndarray, class_names: Sequence[str], path: Path) -> Path:
    """`confusion_figure` as a file."""
    confusion_figure(confusion, class_names).savefig(path, dpi=130)
    return path


def confusion_figure(confusion: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Confusion matrix in frames (rows: true), coloured by the share of the true class."""
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    side = 1.6 + 0.75 * len(class_names)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
    for row, column in np.ndindex(*confusion.shape):
        colour = "black" if share[row, column] > 0.5 else "white"
        axes.text(column, row, f"{confusion[row, column]:,}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right")
    axes.set_yticks(range(len(class_names)), class_names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def learning_curves(history: pd.DataFrame, path: Path) -> Path:
    """Loss of train and validation (computed alike) and the validation scores over the epochs."""
    _learning_curves(history).savefig(path, dpi=130)
    return path


def _learning_curves(history: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, score = figure.subplots(1, 2)
    _curve(loss, history, "train_loss", color=_COLOURS[2], label="train")
    _curve(loss, history, "val_loss", color=_COLOURS[1], linestyle="--", label="validation")
    loss.set_ylabel("loss (without augmentation)")
    loss.set_ylim(0, 1.08 * np.nanmax(history[["train_loss", "val_loss"]].to_numpy(float)))
    _curve(score, history, "val_macro_f1", color=_COLOURS[1], label="macro F1")
    _curve(score, history, "val_segment_f1", color=_COLOURS[4], linestyle="--", label="segment F1@0.3")
    score.set_ylabel("validation score")
    score.set_ylim(0, 1)
    for axes in (loss, score):
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, history["epoch"].max() + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.spines[["top", "right"]].set_visible(False)
        if axes.lines:
            axes.legend(frameon=False)
        else:
            axes.text(0.5, 0.5, "nothing was held out", ha="center", transform=axes.transAxes)
    return figure


def _curve(axes: Axes, history: pd.DataFrame, column: str, **style: Any) -> None:
    """A column over the epochs, with its points where these are few: one alone makes no line. No figures, no curve."""
    if history[column].notna().any():
        marker = "o" if len(history) <= _FEW_EPOCHS else None
        axes.plot(history["epoch"], history[column], marker=marker, markersize=4, clip_on=False, **style)


def ethogram_figure(strips: Sequence[Strip], class_names: Sequence[str], fps: float) -> Figure:
    """A row per trial, people's labels over predicted ones."""
    longest = max(strip.start + len(strip.pred) for strip in strips)
    colours = class_colours(len(class_names))
    colour_map = ListedColormap(["#ffffff", *colours])
    figure = Figure(figsize=(11, 1.2 + 0.42 * len(strips)), layout="constrained")
    axes = figure.subplots()
    for row, strip in enumerate(strips):
        lanes = [(strip.pred, row + 0.45, 0.35)]
        if strip.true is not None:
            lanes = [(strip.true, row + 0.1, 0.35), (strip.pred, row + 0.47, 0.35)]
        for labels, top, height in lanes:
            extent = (strip.start / fps, (strip.start + len(labels)) / fps, top + height, top)
            axes.imshow(
                labels[None] + 1, cmap=colour_map, vmin=-0.5, vmax=len(colours) + 0.5, aspect="auto", extent=extent,
                interpolation="nearest",
            )  # fmt: skip
    axes.set_xlim(0, longest / fps)
    axes.set_ylim(len(strips), 0)
    axes.set_yticks([row + 0.5 for row in range(len(strips))], [strip.title for strip in strips], fontsize=7)
    axes.set_xlabel("time in the trial (s)")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if any(strip.true is not None for strip in strips):
        axes.set_title("upper half of a row: labelled by people; lower half: predicted", fontsize=9, loc="left")
    handles = [mpl.patches.Patch(color=colour, label=name) for colour, name in zip(colours, class_names, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), frameon=False, fontsize=8)
    return figure


def title_of(clip: Clip) -> str:
    """What a trial is called in a picture."""
    return f"{clip.recording} {clip.trial}"


def fps_of(clips: list[Clip]) -> float:
    """Frame rate for the time axis; 30 where the recordings have no video."""
    return next((clip.fps for clip in clips if clip.fps), 30.0)
