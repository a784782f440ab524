"""Pictures of groups: time in each behaviour, behaviour around the stimulus, transitions; as matplotlib figures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from pipeline.pictures import class_colours
from pipeline.tables.groups import GROUP, Group, of_group

NAMES = ("time_in_behaviour", "around_stimulus", "transitions")
PANEL_COLUMNS = 3
SMALL = 8  # points, of text
OUTLINE = "#404040"


def pictures(tables: Mapping[str, pd.DataFrame], class_names: Sequence[str]) -> dict[str, Figure]:
    """By name, those that the tables hold something for."""
    drawn: dict[str, Figure] = {}
    if "per_group" in tables:
        drawn["time_in_behaviour"] = time_in_behaviour(tables["per_animal"], tables["per_group"], class_names)
        drawn["transitions"] = transitions(tables["transitions"], class_names)
    if "peri_stimulus" in tables:
        drawn["around_stimulus"] = around_stimulus(tables["peri_stimulus"], class_names)
    return drawn


def title_of(group: Group) -> str:
    """`vehicle, day 7`; where nothing was said of groups, all animals."""
    return ", ".join(filter(None, group)) or "all animals"


def groups_of(table: pd.DataFrame) -> list[Group]:
    """The groups of a table in its order."""
    return list(dict.fromkeys(zip(*(table[name] for name in GROUP), strict=True)))


def time_in_behaviour(animals: pd.DataFrame, groups: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """A panel per behaviour: each animal a dot, and each group's mean with its 95 % interval."""
    names = groups_of(groups)
    times = groups[groups["measure"] == "time_s"]
    n_rows = math.ceil(len(class_names) / PANEL_COLUMNS)
    longest = max(len(title_of(group)) for group in names)
    tilted = longest * len(names) > 30
    width = max(2.6, 0.55 * len(names) + 0.9)
    height = 2.2 + (0.055 * min(longest, 30) if tilted else 0)
    figure = Figure(figsize=(PANEL_COLUMNS * width, n_rows * height + 0.3), layout="constrained")
    panels = figure.subplots(n_rows, PANEL_COLUMNS, squeeze=False).ravel()
    for axes, name, colour in zip(panels, class_names, class_colours(len(class_names)), strict=False):
        for place, group in enumerate(names):
            own = animals[of_group(animals, group) & (animals["behaviour"] == name)].sort_values("animal")
            found = times[of_group(times, group) & (times["behaviour"] == name)].iloc[0]
            _dots(axes, place, own["time_s"].to_numpy(float), found, colour)
        axes.set_title(name, fontsize=SMALL + 1)
        _group_axis(axes, [title_of(group) for group in names], tilted)
    for axes in panels[len(class_names) :]:
        axes.remove()
    figure.supylabel("time in behaviour (s per trial)", fontsize=SMALL + 1)
    figure.suptitle(_dots_caption(times), fontsize=SMALL, x=0.01, ha="left")
    return figure


def around_stimulus(table: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """A row per behaviour, a column per group: the share of trials with its interval, by time from the stimulus."""
    names = groups_of(table)
    figure = Figure(figsize=(2.0 * len(names) + 1.6, 0.95 * len(class_names) + 0.9), layout="constrained")
    panels = figure.subplots(len(class_names), len(names), squeeze=False, sharex=True, sharey="row")
    colours = class_colours(len(class_names))
    for (row, column), axes in np.ndenumerate(panels):
        own = table[of_group(table, names[column]) & (table["behaviour"] == class_names[row])]
        _course(axes, own, colours[row])
        if row == 0:
            most = f"{own['n_animals'].max()} animals, {own['n_trials'].max()} trials"
            axes.set_title(f"{_wrapped(names[column])}\n{most}", fontsize=SMALL)
        if column == 0:
            axes.set_ylabel(class_names[row], fontsize=SMALL, rotation=0, ha="right", va="center")
    figure.supxlabel("time from the stimulus (s)", fontsize=SMALL + 1)
    figure.supylabel("share of trials, with 95 % bootstrap interval", fontsize=SMALL + 1)
    return figure


def transitions(table: pd.DataFrame, class_names: Sequence[str]) -> Figure:
    """A matrix per group: probability of the next behaviour, and how often it was seen."""
    own = table[table["level"] == "group"]
    names = groups_of(own)
    n_columns = min(len(names), PANEL_COLUMNS)
    n_rows = math.ceil(len(names) / n_columns)
    side = 1.2 + 0.48 * len(class_names)
    figure = Figure(figsize=(side * n_columns + 0.9, (side + 0.2) * n_rows), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes, group in zip(panels, names, strict=False):
        image = _matrix(axes, own[of_group(own, group)], class_names)
        axes.set_title(_wrapped(group), fontsize=SMALL + 1)
    for axes in panels[len(names) :]:
        axes.remove()
    bar = figure.colorbar(image, ax=list(panels[: len(names)]), label="probability (number: transitions)", shrink=0.8)
    bar.ax.tick_params(labelsize=SMALL)
    figure.supxlabel("next behaviour", fontsize=SMALL + 1)
    figure.supylabel("behaviour", fontsize=SMALL + 1)
    return figure


def _wrapped(group: Group) -> str:
    """Its title in lines that fit over a panel."""
    return textwrap.fill(title_of(group), 24)


def _dots(axes: Axes, place: int, values: np.ndarray, found: pd.Series, colour: str) -> None:
    """values (U,) of animals beside the mean of their group and its interval."""
    values = values[np.isfinite(values)]
    aside = place - 0.15 + np.linspace(-0.09, 0.09, len(values)) if len(values) > 1 else np.array([place - 0.15])
    axes.scatter(
        aside[: len(values)], values, s=22, color=colour, edgecolor=OUTLINE, linewidth=0.6, zorder=3, clip_on=False
    )
    axes.plot([place + 0.08, place + 0.32], [found["mean"]] * 2, color="black", linewidth=1.6)
    axes.plot([place + 0.2] * 2, [found["low"], found["high"]], color="black", linewidth=1)


def _dots_caption(times: pd.DataFrame) -> str:
    bar = "bar: mean of animals, line: its 95 % bootstrap interval"
    without = times[times["low"].isna()]
    return f"dot: an animal (mean of its trials); {bar}" + ("; no line: too few animals" if len(without) else "")


def _group_axis(axes: Axes, titles: Sequence[str], tilted: bool) -> None:
    how: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if tilted else {}
    axes.set_xticks(range(len(titles)), titles, fontsize=SMALL, **how)
    axes.set_xlim(-0.5, len(titles) - 0.5)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.1)
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)


def _course(axes: Axes, own: pd.DataFrame, colour: str) -> None:
    """Where at least half of the trials are scored; at the ends there are few."""
    shown = own[own["n_trials"] >= own["n_trials"].max() / 2]
    time = shown["time_from_stimulus_s"].to_numpy(float)
    mean, low, high = (shown[name].to_numpy(float) for name in ("share_of_trials", "low", "high"))
    axes.fill_between(time, low, high, color=colour, alpha=0.35, linewidth=0)
    axes.plot(time, mean, color=colour, linewidth=1.8)
    axes.plot(time, mean, color=OUTLINE, linewidth=0.6)  # light colours are seen too
    axes.axvline(0, color=OUTLINE, linewidth=0.8, linestyle=":")
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)


def _matrix(axes: Axes, own: pd.DataFrame, class_names: Sequence[str]) -> AxesImage:
    """own: the rows of one group. Gray: the diagonal, and rows without a transition."""
    ids = {name: i for i, name in enumerate(class_names)}
    share = np.full((len(ids), len(ids)), np.nan)
    cells = own[["from_behaviour", "to_behaviour", "count", "probability"]]
    for before, after, count, probability in cells.itertuples(index=False):
        i, j = ids[before], ids[after]
        share[i, j] = probability
        if count:
            colour = "black" if probability > 0.5 else "white"
            axes.text(j, i, f"{count}", ha="center", va="center", fontsize=7, color=colour)
    image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
    axes.set_xticks(range(len(ids)), class_names, rotation=45, ha="right", rotation_mode="anchor", fontsize=SMALL)
    axes.set_yticks(range(len(ids)), class_names, fontsize=SMALL)
    axes.set_facecolor("#eeeeee")
    return image
