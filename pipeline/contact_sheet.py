"""A clip of the cache as a person can judge it: frames with keypoints and labels, as one sheet and as a video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cache import Clip
from pipeline import bouts
from pipeline.drawing import (
    DEFAULT_FPS,
    SHORTEST_SIDE,
    Points,
    class_handles,
    ink,
    keypoint_handles,
    mark_stimulus,
    shortened,
    show_lanes,
    write_video,
)
from pipeline.overlay import Overlay, chosen_frames

HEADER, FOOTER, LEGEND = 56, 104, 272  # pixels above, below and beside it
_DPI = 100
_COLUMNS, _ROWS = 6, 4  # of the sheet
_ALL = slice(None)
_WORTHWHILE = 0.35  # reach up to which the video shows the square around the animal beside the whole frame

Progress = Callable[[str, int, int], None]


def inspect(
    clip: Clip, out: Path, *, likelihood_thr: float, part: slice = _ALL, progress: Progress | None = None
) -> list[Path]:
    """Writes the contact sheet of a clip, and the video of a part of its frames, into `out`; returns their paths."""
    picture = sheet(clip, out, likelihood_thr)
    video = out / f"{file_stem(clip.recording, clip.trial)}.mp4"
    write_video(video, video_frames(Overlay.of(clip, likelihood_thr), part, progress), clip.fps or DEFAULT_FPS)
    return [picture, video]


def sheet(clip: Clip, out: Path, likelihood_thr: float = 0.9) -> Path:
    """Writes the contact sheet of a clip into `out`; returns its path."""
    overlay = Overlay.of(clip, likelihood_thr)
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{file_stem(clip.recording, clip.trial)}.png"
    sheet_figure(overlay, chosen_frames(overlay.labels, _COLUMNS * _ROWS)).savefig(path, dpi=_DPI)
    return path


def file_stem(recording: str, trial: int) -> str:
    """Name of a clip's files, without the suffix."""
    return f"{recording}_{trial}"


def sheet_figure(overlay: Overlay, chosen: list[int]) -> Figure:
    """The chosen frames with what their keypoints and labels say, over the labels of the whole clip."""
    n_rows = -(-len(chosen) // _COLUMNS)
    figure = Figure(figsize=(2.9 * _COLUMNS, 3.25 * n_rows + 2.1), layout="constrained")
    FigureCanvasAgg(figure)
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=(3.25 * n_rows + 0.4, 1.7))
    above, below = parts[:, 0]
    above.suptitle(_name(overlay.clip), fontsize=13, fontweight="bold")
    cells = above.subplots(n_rows, _COLUMNS, squeeze=False).ravel()
    for axes, t in zip(cells, chosen, strict=False):
        _show_frame(axes, overlay, overlay.stretched(t), t, 34)
        _zoom(axes, overlay, t)
        change = t > 0 and overlay.labels[t] != overlay.labels[t - 1]
        text = f"{overlay.label(t - 1)} → {overlay.label(t)}" if change else overlay.label(t)
        axes.set_title(overlay.title(t), fontsize=8, pad=3)
        face = overlay.label_colour(t)
        axes.set_xlabel(
            text, fontsize=9, fontweight="bold" if change else "normal", color=ink(face),
            bbox={"facecolor": face, "edgecolor": "#999999", "pad": 2.5}, labelpad=5,
        )  # fmt: skip
    for axes in cells[len(chosen) :]:
        axes.remove()
    strip = below.subplots()
    _show_strip(strip, overlay)
    strip.set_xlabel("frame of the trial; lines: the frames above (around the animal, contrast stretched)", fontsize=9)
    for t in chosen:
        strip.axvline(overlay.clip.source["crop_start"] + t, color="black", linewidth=0.8)
    handles = [*keypoint_handles(overlay.clip.keypoint_names), *_class_handles(overlay)]
    below.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 12), frameon=False, fontsize=8)
    return figure


def video_frames(overlay: Overlay, part: slice = _ALL, progress: Progress | None = None) -> Iterator[np.ndarray]:
    """Every frame of the part (height, width, 3) uint8, both even: header, picture with keypoints, legend, labels."""
    side = _shown_side(overlay.clip)
    width, height = side + LEGEND, HEADER + side + FOOTER
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, FOOTER / height, side / width, side / height))
    whole = _show_frame(axes, overlay, overlay.picture(0), 0, 30)
    moving = list(whole.artists)
    near = None
    if overlay.reach < _WORTHWHILE:
        inset_side = LEGEND - 8
        inset = figure.add_axes(((side + 4) / width, FOOTER / height, inset_side / width, inset_side / height))
        near = _show_frame(inset, overlay, overlay.stretched(0), 0, 40)
    strip = figure.add_axes((14 / width, 40 / height, (width - 28) / width, 34 / height))
    _show_strip(strip, overlay)
    cursor = strip.axvline(0, color="black", linewidth=2)
    places: dict[str, Any] = {"x": 14 / width, "va": "top"}
    figure.text(**places, y=1 - 6 / height, s=shortened(_name(overlay.clip), width), fontsize=9, color="#555555")
    title = figure.text(**places, y=1 - 24 / height, s="", fontsize=13, fontweight="bold")
    box = {"edgecolor": "#999999", "facecolor": "white", "pad": 2}
    label = figure.text(18 / width, (FOOTER - 7) / height, "", fontsize=10, va="top", fontweight="bold", bbox=box)
    _legends(figure, overlay, side, (HEADER + side - (LEGEND if near else 0)) // 12)
    moving += [cursor, title, label]
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    times = range(len(overlay.clip))[part]
    for n_done, t in enumerate(times, 1):
        whole.move(overlay, overlay.picture(t), t)
        if near:
            near.move(overlay, overlay.stretched(t), t)
            _zoom(near.image.axes, overlay, t)
        cursor.set_xdata([overlay.clip.source["crop_start"] + t] * 2)
        title.set_text(overlay.title(t))
        label.set_text(overlay.label(t))
        label.set_color(ink(overlay.label_colour(t)))
        label.get_bbox_patch().set_facecolor(overlay.label_colour(t))  # type: ignore[union-attr]
        canvas.restore_region(still)
        for artist in moving:
            figure.draw_artist(artist)
        if near:
            figure.draw_artist(near.image.axes)
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()
        if progress:
            progress(_name(overlay.clip), n_done, len(times))


def _shown_side(clip: Clip) -> int:
    """Pixels of a shown frame: a whole multiple of the cached side, even."""
    side = clip.geometry.img_size or SHORTEST_SIDE
    shown = side * -(-SHORTEST_SIDE // side)
    return shown + shown % 2


@dataclass(frozen=True)
class _Shown:
    """What is drawn of a frame in some axes of [0, 1], to be moved on to another frame."""

    image: Any
    points: Points

    @property
    def artists(self) -> list[Any]:
        return [self.image, *self.points.artists]

    def move(self, overlay: Overlay, picture: np.ndarray, t: int) -> None:
        self.image.set_data(picture)
        self.points.move(overlay.xy[t], overlay.visible[t])


def _show_frame(axes: Axes, overlay: Overlay, picture: np.ndarray, t: int, size: float) -> _Shown:
    """A frame with its keypoints; size: of a point, in square points (1/72 inch)."""
    image = axes.imshow(picture, extent=(0, 1, 1, 0), interpolation="nearest")
    shown = _Shown(image, Points(axes, overlay.colours, size, overlay.bones))
    shown.move(overlay, picture, t)
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    return shown


def _zoom(axes: Axes, overlay: Overlay, t: int) -> None:
    """Show the square around the animal alone."""
    (left, top), (right, bottom) = overlay.centre[t] - overlay.reach, overlay.centre[t] + overlay.reach
    axes.set(xlim=(left, right), ylim=(bottom, top))


def _show_strip(axes: Axes, overlay: Overlay) -> None:
    """The labels of the whole clip over the frames of its trial, and the stimulus where it is known."""
    start = overlay.clip.source["crop_start"]
    show_lanes(axes, [overlay.labels], len(overlay.clip.class_names), start)
    mark_stimulus(axes, overlay.clip.stim_frame)


def _legends(figure: Figure, overlay: Overlay, side: int, n_lines: int) -> None:
    """Of the keypoints, in the n_lines of small print beside the frame, and of the classes above their strip."""
    width, height = side + LEGEND, HEADER + side + FOOTER
    points, classes = keypoint_handles(overlay.clip.keypoint_names), _class_handles(overlay)
    few = len(points) <= n_lines // 2
    tight: dict[str, Any] = {"frameon": False, "columnspacing": 0.8, "handletextpad": 0.3, "labelspacing": 0.4}
    corner = ((side + 2) / width, 1 - (HEADER - 8) / height)
    n_columns = 1 if few else -(-len(points) // n_lines)
    figure.legend(
        handles=points, loc="upper left", bbox_to_anchor=corner, fontsize=9 if few else 6, ncols=n_columns, **tight
    )
    corner = (1 - 6 / width, (FOOTER - 2) / height)
    if classes:
        figure.legend(
            handles=classes, loc="upper right", bbox_to_anchor=corner, fontsize=8, ncols=len(classes), **tight
        )


def _class_handles(overlay: Overlay) -> list[Any]:
    """Of the classes that occur in the clip."""
    return class_handles(overlay.clip.class_names, sorted({bout.class_id for bout in bouts.find(overlay.labels)}))


def _name(clip: Clip) -> str:
    return f"{clip.recording}  trial {clip.trial}"
