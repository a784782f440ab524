"""Figures of plotly as plain values. Colours are those of the other pictures; names never reach plotly as markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.pictures import class_colours
from pipeline.report.content import Plot
from pipeline.report.measures import Curve, PlaceError, Reliability

_GRID = "#e5e5e5"
_BLUE, _ORANGE, _GREEN = (class_colours(9)[i] for i in (2, 1, 4))
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_FEW_EPOCHS = 20
_LIGHT, _DARK = "#d9d9d9", "#757575"  # gray of rest is too light for a line


def plain(name: object) -> str:
    """The text as plotly draws it as it stands: it would otherwise take <b> or <a href> in a name as markup."""
    return str(name).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


def short(name: str, most: int = 30) -> str:
    """A long name without its middle."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-most // 2 :]}"


def line_colours(n_classes: int) -> list[str]:
    """Of the classes, dark enough for a line on white."""
    return [_DARK if colour == _LIGHT else colour for colour in class_colours(n_classes)]


def loss_curves(history: pd.DataFrame, best_epoch: int | None, caption: str) -> Plot:
    """Training and validation loss, the gap between them filled."""
    val = _curve(history, "val_loss", "validation", _ORANGE, "dash")
    train = _curve(history, "train_loss", "training", _BLUE, "solid")
    if val:
        train[0] |= {"fill": "tonexty", "fillcolor": "rgba(213,94,0,0.10)"}
    layout = _axes("epoch", "loss, without augmentation") | _best(best_epoch)
    layout["yaxis"]["rangemode"] = "tozero"
    return Plot("Loss", [*val, *train], layout, caption)


def score_curves(history: pd.DataFrame, best_epoch: int | None, caption: str) -> Plot:
    curves = [
        *_curve(history, "train_macro_f1", "training macro F1", _BLUE, "solid"),
        *_curve(history, "val_macro_f1", "validation macro F1", _ORANGE, "dash"),
        *_curve(history, "val_segment_f1", "validation segment F1@0.3", _GREEN, "dot"),
    ]
    layout = _axes("epoch", "score") | _best(best_epoch)
    layout["yaxis"] |= {"range": [0, 1.02]}
    return Plot("Scores", curves, layout, caption)


def fold_curves(histories: Mapping[int, pd.DataFrame], column: str, title: str, caption: str) -> Plot:
    """One column of every fold's history."""
    data = []
    for i, (fold, history) in enumerate(histories.items()):
        colour = line_colours(9)[1 + i % 8]
        data += _curve(history, column, f"fold {fold}", colour, _DASHES[i // 8 % len(_DASHES)])
    layout = _axes("epoch", title)
    layout["yaxis"]["rangemode"] = "tozero"
    return Plot(title, data, layout, caption)


def confusion(table: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str, caption: str) -> Plot:
    """Counts, coloured by the share of their row, white in a row of nothing; rows: true, columns: predicted."""
    total = table.sum(1, keepdims=True)
    shares = np.where(total > 0, table / np.maximum(total, 1), np.nan)
    texts = [[f"{int(n):,}" for n in row] for row in table]
    hover = [
        [
            f"true {plain(rows[i])}, predicted {plain(columns[j])}: {int(n):,}"
            + (f" ({shares[i, j]:.1%} of the row)" if total[i, 0] else "")
            for j, n in enumerate(row)
        ]
        for i, row in enumerate(table)
    ]
    heat = {
        "type": "heatmap", "z": _plain_numbers(shares), "colorscale": "Cividis", "zmin": 0, "zmax": 1,
        "text": texts, "texttemplate": "%{text}", "hovertext": hover, "hoverinfo": "text", "xgap": 1, "ygap": 1,
        "colorbar": {"title": {"text": "share of the row", "side": "right"}, "thickness": 12, "outlinewidth": 0},
    }  # fmt: skip
    layout = _axes("predicted", "true")
    # Categories would be sorted or merged where names are alike; places with texts are neither.
    layout["xaxis"] |= _named(columns) | {"tickangle": -40}
    layout["yaxis"] |= _named(rows) | {"autorange": "reversed"}
    layout["height"] = 190 + 38 * len(rows)
    return Plot(title, [heat], layout, caption)


def precision_recall(curves: Mapping[str, Curve | None], caption: str) -> Plot:
    colours = line_colours(len(curves))
    data = []
    for i, (name, curve) in enumerate(curves.items()):
        if curve is None:
            continue
        data.append(
            {
                "type": "scatter", "mode": "lines", "x": _plain_numbers(curve.recall),
                "y": _plain_numbers(curve.precision), "name": f"{plain(short(name))} ({curve.average_precision:.2f})",
                "line": {"color": colours[i], "width": 2, "dash": _DASHES[i % len(_DASHES)]},
                "hovertemplate": "recall %{x:.2f}, precision %{y:.2f}<extra></extra>",
            }
        )  # fmt: skip
    layout = _axes("recall: share of the true frames that are found", "precision: share of the found that are true")
    for axis in ("xaxis", "yaxis"):
        layout[axis]["range"] = [0, 1.02]
    layout["height"] += _legend_height(len(data))
    return Plot("Precision and recall", data, layout, caption)


def calibration(overall: Reliability, per_class: Mapping[str, Reliability], caption: str) -> Plot:
    """Correct over certain; the diagonal is perfect. Classes are there, and shown when their names are clicked."""
    data: list[dict[str, Any]] = [
        {
            "type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "name": "perfect", "hoverinfo": "skip",
            "line": {"color": "#999999", "width": 1, "dash": "dot"},
        },
        _reliability("all classes", overall, "#000000"),
    ]  # fmt: skip
    colours = line_colours(len(per_class))
    for i, (name, found) in enumerate(per_class.items()):
        data.append(_reliability(plain(short(name)), found, colours[i]) | {"visible": "legendonly"})
    layout = _axes("certainty (probability that the model gives)", "share that is correct")
    layout["height"] += _legend_height(len(data))
    for axis in ("xaxis", "yaxis"):
        layout[axis]["range"] = [-0.02, 1.05]
    return Plot("Calibration", data, layout, caption)


def place_errors(found: Sequence[PlaceError], caption: str) -> Plot:
    """A bar per body part: the median distance, with whiskers that hold the middle 80 % of the frames."""
    seen = [error for error in found if error.frames]
    bars = {
        "type": "bar", "y": [error.median for error in seen], "x": list(range(len(seen))),
        "marker": {"color": class_colours(9)[6]},
        "error_y": {
            "type": "data", "symmetric": False, "array": [error.high - error.median for error in seen],
            "arrayminus": [error.median - error.low for error in seen], "color": "#333333", "thickness": 1.5,
        },
        "hovertemplate": "%{y:.2f} px<extra></extra>",
    }  # fmt: skip
    layout = _axes("", "distance (px of the video)")
    layout["xaxis"] |= _named([error.name for error in seen])
    layout["yaxis"]["rangemode"] = "tozero"
    return Plot("Error of the keypoints", [bars], layout, caption)


def _curve(history: pd.DataFrame, column: str, name: str, colour: str, dash: str) -> list[dict[str, Any]]:
    """A column over the epochs, with its points where these are few; nothing of a column without figures."""
    if column not in history or not history[column].notna().any():
        return []
    line = {"color": colour, "dash": dash, "width": 2}
    mode = "lines+markers" if len(history) <= _FEW_EPOCHS else "lines"
    values = {"x": history["epoch"].tolist(), "y": _plain_numbers(history[column].to_numpy(float))}
    return [{"type": "scatter", "mode": mode, **values, "name": name, "line": line, "marker": {"size": 5}}]


def _best(epoch: int | None) -> dict[str, Any]:
    """A line at the epoch whose model is kept."""
    if epoch is None:
        return {}
    line = {"type": "line", "x0": epoch, "x1": epoch, "y0": 0, "y1": 1, "yref": "paper"}
    note = {"x": epoch, "y": 1, "yref": "paper", "yanchor": "bottom", "showarrow": False, "text": f"kept: {epoch}"}
    return {
        "shapes": [line | {"line": {"color": "#555555", "width": 1, "dash": "dot"}}],
        "annotations": [note | {"font": {"size": 11, "color": "#555555"}}],
    }


def _reliability(name: str, found: Reliability, colour: str) -> dict[str, Any]:
    sizes = 5 + 9 * np.sqrt(found.frames / max(found.frames.sum(), 1))
    return {
        "type": "scatter", "mode": "lines+markers", "name": f"{name} (ECE {found.error:.3f})",
        "x": _plain_numbers(found.certainty), "y": _plain_numbers(found.correct), "customdata": found.frames.tolist(),
        "line": {"color": colour, "width": 2}, "marker": {"size": _plain_numbers(sizes)},
        "hovertemplate": "certainty %{x:.2f}: %{y:.1%} correct, %{customdata} frames<extra></extra>",
    }  # fmt: skip


def _legend_height(n_names: int) -> int:
    """Pixels for the lines of a legend above the picture, beyond the first two; two names fit a line."""
    return 20 * max(0, -(-n_names // 2) - 2)


def _named(names: Sequence[str]) -> dict[str, Any]:
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": [plain(short(n)) for n in names]}
    return ticks | {"showgrid": False, "zeroline": False}


def _axes(x: str, y: str) -> dict[str, Any]:
    def axis(title: str) -> dict[str, Any]:
        shown = {"gridcolor": _GRID, "zerolinecolor": _GRID, "linecolor": "#555555", "automargin": True}
        return shown | {"title": {"text": title, "standoff": 8}}

    below = {"orientation": "h", "x": 0, "y": 1.06, "yanchor": "bottom", "xanchor": "left"}
    return {"xaxis": axis(x), "yaxis": axis(y), "legend": below, "height": 360}


def _plain_numbers(values: np.ndarray) -> Any:
    """As JSON has them, to four digits."""
    return [_plain_numbers(row) for row in values] if values.ndim > 1 else [_rounded(value) for value in values]


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None
