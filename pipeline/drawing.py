"""What pictures and videos of frames are drawn with: keypoints, labels as a strip, legends; and the video itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from pipeline.pictures import class_colours

DEFAULT_FPS = 30.0
SHORTEST_SIDE = 448  # of a frame in a video, in pixels


class Points:
    """The keypoints of a frame in some axes; size: of a point, in square points (1/72 inch). bones: pairs to join."""

    def __init__(self, axes: Axes, colours: Sequence[str], size: float, bones: Sequence[tuple[int, int]] = ()) -> None:
        nowhere = np.zeros(len(colours))
        self._colours, self._bones = colours, bones
        self._lines = [axes.plot([], [], color="#999999", linewidth=1.5)[0] for _ in bones]
        self._points: Any = axes.scatter(nowhere, nowhere, s=size, linewidths=1)

    @property
    def artists(self) -> list[Any]:
        return [*self._lines, self._points]

    def move(self, xy: np.ndarray, visible: np.ndarray) -> None:
        """To xy (K,2): filled where visible (K,), hollow where not, absent without a place (NaN)."""
        pairs = list(zip(self._colours, visible, strict=True))
        self._points.set_offsets(xy)
        self._points.set_facecolors([colour if seen else "none" for colour, seen in pairs])
        self._points.set_edgecolors(["white" if seen else colour for colour, seen in pairs])
        for line, (a, b) in zip(self._lines, self._bones, strict=True):
            line.set_data(*xy[[a, b]].T)


def point_colours(n: int) -> list[str]:
    """Of keypoints: the palette's but its gray and its black, which no gray picture shows."""
    bright = class_colours(8)[1:]
    return [bright[k % len(bright)] for k in range(n)]


def show_lanes(axes: Axes, lanes: Sequence[np.ndarray], n_classes: int, start: int) -> None:
    """Strips of labels (T,) under each other, -1 white; start: the trial's frame of the first label."""
    colours = class_colours(n_classes)
    left, right = start - 0.5, start + len(lanes[0]) - 0.5
    axes.imshow(
        np.stack(lanes) + 1, cmap=ListedColormap(["#ffffff", *colours]), vmin=-0.5, vmax=n_classes + 0.5,
        aspect="auto", extent=(left, right, len(lanes), 0), interpolation="nearest",
    )  # fmt: skip
    axes.set(yticks=[], xlim=(left, right), ylim=(len(lanes), 0))
    axes.tick_params(labelsize=8)


def mark_stimulus(axes: Axes, stim_frame: int | None) -> None:
    """Above a strip, where the stimulus is known."""
    if stim_frame is not None:
        above: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(stim_frame, 1.1, marker="v", color="black", markersize=6, **above)


def keypoint_handles(names: Sequence[str]) -> list[Any]:
    """Of a legend."""
    style: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 7}
    pairs = zip(point_colours(len(names)), names, strict=True)
    named = [mpl.lines.Line2D([], [], color=colour, label=name, **style) for colour, name in pairs]
    hollow = mpl.lines.Line2D([], [], color="#555555", markerfacecolor="none", label="hollow: unsure", **style)
    return [*named, hollow]


def class_handles(class_names: Sequence[str], present: Sequence[int]) -> list[Any]:
    """Of a legend of these classes."""
    colours = class_colours(len(class_names))
    return [mpl.patches.Patch(color=colours[i], label=class_names[i]) for i in present]


def name_of(label: int, class_names: Sequence[str]) -> tuple[str, str]:
    """What a label is called in a picture, and its colour."""
    if label < 0:
        return "not labelled", "#ffffff"
    return class_names[label], class_colours(len(class_names))[label]


def place_of(video_frame: int, time_s: float, trial_frame: int) -> str:
    """Where a frame is found in the video and in its trial. time_s NaN: there is no video."""
    seconds = "" if np.isnan(time_s) else f" · {time_s:.2f} s"
    return f"frame {video_frame}{seconds} · trial frame {trial_frame}"


def shortened(text: str, width: int) -> str:
    """Small print that fits into a width in pixels: its middle is left out."""
    n = (width - 28) // 7
    return text if len(text) <= n else f"{text[: n // 2 - 1]}…{text[-n // 2 :]}"


def ink(face: str) -> str:
    """Black or white, whichever is read better on the colour."""
    red, green, blue = mpl.colors.to_rgb(face)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def write_video(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    """Pictures (height, width, 3 or 4) in H.264 as yuv420p, which every player shows. Each is used before the next."""
    with av.open(str(path), "w") as container:
        stream: av.VideoStream | None = None
        for picture in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt, stream.options = "yuv420p", {"crf": "20", "preset": "veryfast"}
            layout = "rgba" if picture.shape[2] == 4 else "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format=layout)))
        if stream is not None:
            container.mux(stream.encode(None))
