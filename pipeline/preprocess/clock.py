"""When the frames of a recording were shown: what times in seconds, as event loggers write them, are counted by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Clock:
    """fps: frames/s, or None where nothing tells. time_s: (n_frames,) when each frame is shown, where that is known."""

    n_frames: int
    fps: float | None = None
    time_s: np.ndarray | None = None

    def with_rate(self, fps: float | None) -> Clock:
        """The same recording at a rate that is said elsewhere, if this one knows none."""
        return self if self.fps or not fps else Clock(self.n_frames, fps)

    def frame_at(self, time_s: float) -> int:
        """The frame that is shown next to that time, also beyond the ends: at 30 frames/s 0.999 s is frame 30.

        By the times of the frames, so that a variable frame rate counts. Raises ValueError without a rate.
        """
        if not self.fps:
            raise ValueError("no frame rate is known")
        times = self.time_s
        if times is None or len(times) < 2 or time_s < times[0]:
            return math.floor(time_s * self.fps + 0.5)
        if time_s > times[-1]:
            return len(times) - 1 + math.floor((time_s - float(times[-1])) * self.fps + 0.5)
        after = int(np.searchsorted(times, time_s))
        return after if after == 0 or times[after] - time_s <= time_s - times[after - 1] else after - 1
