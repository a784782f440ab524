"""A trial as a video: the original's frames with keypoints, labels, and probabilities as a strip with a cursor.

Frame t of it is frame t of the trial's labels. Axes: T frames, K keypoints; pictures are (height, width, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cache import Clip
from pipeline.drawing import (
    DEFAULT_FPS,
    SHORTEST_SIDE,
    Points,
    class_handles,
    ink,
    keypoint_handles,
    mark_stimulus,
    name_of,
    place_of,
    point_colours,
    shortened,
    show_lanes,
    write_video,
)
from pipeline.export.recordings import ExportError, Keypoints, Recording, Said
from pipeline.pictures import class_colours
from pipeline.preprocess.decode import pictures

Progress = Callable[[str, float, int], None]

HEADER, LEGEND = 56, 272  # pixels above and beside the picture
LANE, PROBABILITIES, MARGIN, AXIS = 22, 84, 12, 40  # pixels of the strips below it, and of what is around them
_LEFT = 74  # pixels left of the strips, for their names
_DPI = 100
_BLOCK = 60  # cached frames that are read at once


@dataclass(frozen=True)
class Layout:
    """Pixels. width, height: of the picture, `scale` times its own; total_width, total_height: of the video, even."""

    width: int
    height: int
    scale: int
    n_lanes: int
    with_probabilities: bool

    @property
    def footer(self) -> int:
        return MARGIN + self.with_probabilities * (PROBABILITIES + MARGIN) + self.n_lanes * LANE + AXIS

    @property
    def total_width(self) -> int:
        return self.width + LEGEND + self.width % 2

    @property
    def total_height(self) -> int:
        height = HEADER + self.height + self.footer
        return height + height % 2

    def axes(self, figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
        """Axes at a place in pixels from the top left corner."""
        bottom = self.total_height - top - height
        w, h = self.total_width, self.total_height
        return figure.add_axes((left / w, bottom / h, width / w, height / h))

    @classmethod
    def of(cls, said: Said, width: int, height: int) -> Layout:
        """For a picture of this size."""
        scale = -(-SHORTEST_SIDE // max(width, height))
        n_lanes = 1 + (said.trial.true is not None)
        return cls(width * scale, height * scale, scale, n_lanes, said.probabilities is not None)


def write_videos(
    recording: Recording, paths: Mapping[int, Path], likelihood_thr: float, progress: Progress | None = None
) -> None:
    """A video of each trial whose number is in paths, written beside and moved into place; decodes the original once.

    Raises ExportError, VideoError or CacheError.
    """
    trials = [said for said in recording.trials if said.trial.trial in paths]
    for said, size, frames in _reels(recording, trials):
        path = paths[said.trial.trial]
        beside = path.with_name(f".tmp-{path.name}")
        try:
            drawn = drawn_frames(recording, said, size, frames, likelihood_thr, progress)
            write_video(beside, drawn, recording.fps or DEFAULT_FPS)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def drawn_frames(
    recording: Recording,
    said: Said,
    size: tuple[int, int],
    frames: Iterator[np.ndarray | None],
    likelihood_thr: float,
    progress: Progress | None = None,
) -> Iterator[np.ndarray]:
    """The video's frames (total_height, total_width, 4): one buffer, to be used before the next is asked for.

    frames: pictures of this size (width, height), None where one is damaged.
    """
    layout = Layout.of(said, *size)
    figure = Figure(figsize=(layout.total_width / _DPI, layout.total_height / _DPI), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    picture_axes = layout.axes(figure, 0, HEADER, layout.width, layout.height)
    picture_axes.set_axis_off()
    picture_axes.set(xlim=(0, layout.width), ylim=(layout.height, 0))
    keypoints = _scaled(recording, said.keypoints, layout)
    points = Points(picture_axes, point_colours(keypoints.xy_px.shape[1]), 34) if keypoints else None
    cursors = _strips(figure, layout, recording, said)
    texts = _Texts(figure, layout, recording, said)
    _legends(figure, layout, recording, said)
    moving = [*(points.artists if points else []), *cursors, *texts.artists]
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    shown = np.asarray(canvas.buffer_rgba())
    window = shown[HEADER : HEADER + layout.height, : layout.width, :3]
    n_frames = len(said.trial.labels)
    n_done = 0
    for t, picture in enumerate(islice(frames, n_frames)):
        canvas.restore_region(still)
        window[:] = 0 if picture is None else _larger(picture, layout.scale)
        if points and keypoints:
            points.move(keypoints.xy_px[t], _visible(keypoints, t, likelihood_thr))
        for cursor in cursors:
            cursor.set_xdata([said.trial.first + t] * 2)
        texts.move(t, damaged=picture is None)
        for artist in moving:
            figure.draw_artist(artist)
        yield shown
        n_done = t + 1
        if progress:
            progress(f"{recording.name} trial {said.trial.trial}", n_done, n_frames)
    if n_done < n_frames:
        raise ExportError(f"trial {said.trial.trial}: the video ends {n_frames - n_done} frames before the trial does")


def _larger(picture: np.ndarray, scale: int) -> np.ndarray:
    return picture if scale == 1 else picture.repeat(scale, 0).repeat(scale, 1)


class _Texts:
    """What is written over the picture and beside it: where the frame is found, and what its labels are."""

    def __init__(self, figure: Figure, layout: Layout, recording: Recording, said: Said) -> None:
        width, height = layout.total_width, layout.total_height
        self._said, self._names, self._start = said, recording.class_names, said.start
        name = shortened(f"{recording.name}  trial {said.trial.trial}", width)
        place: dict[str, Any] = {"x": MARGIN / width, "va": "top"}
        figure.text(**place, y=1 - 6 / height, s=name, fontsize=9, color="#555555")
        self._title = figure.text(**place, y=1 - 24 / height, s="", fontsize=13, fontweight="bold")
        self._damaged = figure.text(
            layout.width / 2 / width, 1 - (HEADER + layout.height / 2) / height, "", color="white", ha="center"
        )
        self._chips = []
        for i, (who, labels) in enumerate(_lanes(said)):
            y = 1 - (HEADER + 8 + 26 * i) / height
            figure.text((layout.width + 10) / width, y, who, fontsize=9, va="top", color="#555555")
            box = {"edgecolor": "#999999", "facecolor": "white", "pad": 2}
            x = (layout.width + 10 + _LEFT) / width
            chip = figure.text(x, y, "", fontsize=10, va="top", fontweight="bold", bbox=box)
            self._chips.append((labels, chip))

    @property
    def artists(self) -> list[Any]:
        return [self._title, self._damaged, *(chip for _, chip in self._chips)]

    def move(self, t: int, *, damaged: bool) -> None:
        """To frame t of the labels."""
        said = self._said
        self._title.set_text(place_of(self._start + t, said.time_s[t], said.trial.first + t))
        self._damaged.set_text("no picture: the frame is damaged" if damaged else "")
        for labels, chip in self._chips:
            text, colour = name_of(labels[t], self._names)
            if labels is said.trial.labels and said.probabilities is not None and labels[t] >= 0:
                text += f" {said.probabilities[t, labels[t]]:.2f}"
            chip.set_text(text)
            chip.set_color(ink(colour))
            chip.get_bbox_patch().set_facecolor(colour)  # type: ignore[union-attr]


def _lanes(said: Said) -> list[tuple[str, np.ndarray]]:
    """Whose labels are shown, people's first."""
    own = ("people" if said.probabilities is None else "predicted", said.trial.labels)
    return [own] if said.trial.true is None else [("people", said.trial.true), own]


def _strips(figure: Figure, layout: Layout, recording: Recording, said: Said) -> list[Any]:
    """Probabilities, stacked, over the lanes of labels; returns their cursors."""
    top, width = HEADER + layout.height + MARGIN, layout.total_width - _LEFT - 2 * MARGIN
    first, n_classes = said.trial.first, len(recording.class_names)
    shown = []
    if said.probabilities is not None:
        axes = layout.axes(figure, _LEFT, top, width, PROBABILITIES)
        frames = first + np.arange(len(said.probabilities))
        colours = class_colours(n_classes)
        axes.stackplot(frames, said.probabilities.T, colors=colours, step="mid", linewidth=0)
        axes.set(xlim=(first - 0.5, first + len(frames) - 0.5), ylim=(0, 1), xticks=[], yticks=[0, 1])
        axes.tick_params(labelsize=8)
        axes.set_ylabel("probability", fontsize=8)
        shown.append(axes)
        top += PROBABILITIES + MARGIN
    lanes = _lanes(said)
    axes = layout.axes(figure, _LEFT, top, width, LANE * len(lanes))
    show_lanes(axes, [labels for _, labels in lanes], n_classes, first)
    axes.set_yticks([i + 0.5 for i in range(len(lanes))], [who for who, _ in lanes])
    mark_stimulus(axes, said.trial.stim_frame)
    axes.set_xlabel("frame of the trial", fontsize=8, labelpad=1)
    return [axes.axvline(first, color="black", linewidth=2) for axes in [*shown, axes]]


def _legends(figure: Figure, layout: Layout, recording: Recording, said: Said) -> None:
    """Beside the picture: the classes, below them the keypoints, in as many columns as they need."""
    top, left = HEADER + 16 + 26 * layout.n_lanes, layout.width + 4
    groups = [class_handles(recording.class_names, range(len(recording.class_names)))]
    if said.keypoints:
        groups.append(keypoint_handles(said.keypoints.names))
    room = max(1, (HEADER + layout.height + layout.footer - AXIS - top) // len(groups) // 18)
    for handles in groups:
        n_columns = min(3, -(-len(handles) // room))
        place = (left / layout.total_width, 1 - top / layout.total_height)
        legend: dict[str, Any] = {"frameon": False, "columnspacing": 0.8, "handletextpad": 0.3, "labelspacing": 0.4}
        font = 9 if n_columns == 1 else 6
        figure.legend(handles=handles, loc="upper left", bbox_to_anchor=place, fontsize=font, ncols=n_columns, **legend)
        top += 18 * -(-len(handles) // n_columns) + MARGIN


def _reels(
    recording: Recording, trials: list[Said]
) -> Iterator[tuple[Said, tuple[int, int], Iterator[np.ndarray | None]]]:
    """Each trial with the size (width, height) of its pictures and these: original ones, or the cache's, or white."""
    video = recording.video
    if trials and video and video.facts:
        frames, n_read = pictures(video.path, video.facts, trials[-1].stop), 0
        for said in trials:
            for _ in islice(frames, said.start - n_read):
                pass
            yield said, video.size, islice(frames, said.stop - said.start)
            n_read = said.stop
        return
    for said in trials:
        if said.clip is None:
            raise ExportError("neither its video nor a cache that holds it is known; give --cache or --videos")
        geometry = said.clip.geometry
        if said.clip.has_frames:
            yield said, (geometry.content_width, geometry.content_height), _cached(said.clip, said.start, said.stop)
        else:
            white = np.full((geometry.height, geometry.width, 3), 255, np.uint8)
            yield said, (geometry.width, geometry.height), iter([white] * (said.stop - said.start))


def _cached(clip: Clip, start: int, stop: int) -> Iterator[np.ndarray | None]:
    """Frames [start, stop) of the video, without the padding; None where the cache has none, or a damaged one."""
    geometry, first = clip.geometry, int(clip.frame_index[0])
    rows, columns = (
        slice(low, low + n)
        for low, n in ((geometry.top, geometry.content_height), (geometry.left, geometry.content_width))
    )
    for block_start in range(start, stop, _BLOCK):
        block_stop = min(block_start + _BLOCK, stop)
        low, high = max(block_start, first), min(block_stop, first + len(clip))
        block = clip.frames[low - first : high - first] if low < high else []
        for frame in range(block_start, block_stop):
            if low <= frame < high and clip.intact[frame - first]:
                picture = block[frame - low][rows, columns]
                yield np.broadcast_to(picture, (*picture.shape[:2], 3))
            else:
                yield None


def _scaled(recording: Recording, keypoints: Keypoints | None, layout: Layout) -> Keypoints | None:
    """In pixels of the shown picture."""
    if keypoints is None:
        return None
    clip = next((said.clip for said in recording.trials if said.clip), None)
    size = recording.video.size if recording.video else (clip.geometry.width, clip.geometry.height) if clip else None
    assert size is not None  # without either there are no pictures
    scale = np.array([layout.width, layout.height]) / size
    return Keypoints(keypoints.names, keypoints.xy_px * scale, keypoints.likelihood, keypoints.what)


def _visible(keypoints: Keypoints, t: int, likelihood_thr: float) -> np.ndarray:
    """(K,); all, where no likelihoods are known."""
    if keypoints.likelihood is None:
        return np.ones(len(keypoints.names), bool)
    return keypoints.likelihood[t] >= likelihood_thr
