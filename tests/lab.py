"""Small real recordings whose frames, keypoints and labels all carry the number of their frame."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from cache import Geometry

WIDTH, HEIGHT = 128, 96
N_BITS, GRID = 16, 4
X_STEP = 0.0625  # pixels by which the first keypoint moves from frame to frame
PARTS = ("mouth", "tail_base", "paw")
NETWORK = "DLC_resnet50_testMay7shuffle1_500"


class Lab:
    """Writes a lab's files into one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def video(
        self,
        name: str,
        n_frames: int,
        *,
        size: tuple[int, int] = (WIDTH, HEIGHT),
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        options: dict[str, str] | None = None,
        times_ms: Sequence[int] | None = None,
        container: dict[str, str] | None = None,
    ) -> Path:
        """A video whose frame i shows the number i; times_ms: when each frame is shown (variable frame rate)."""
        path = self.folder / name
        default = {"crf": "23", "bf": "2", "g": "48", "preset": "veryfast"} if codec == "libx264" else {}
        with av.open(str(path), "w", options=container or {}) as out:
            stream = out.add_stream(codec, rate=30, options=default | (options or {}))
            stream.width, stream.height = size
            stream.pix_fmt = pix_fmt
            if times_ms is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            for i in range(n_frames):
                frame = av.VideoFrame.from_ndarray(picture(i, *size), format="rgb24")
                if times_ms is not None:
                    frame.pts, frame.time_base = int(times_ms[i]), Fraction(1, 1000)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        return path

    def cut(self, source: Path, name: str, n_hidden: int) -> Path:
        """What `ffmpeg -ss -c copy` leaves: all packets are kept, an edit list hides the first n_hidden frames."""
        path = self.folder / name
        with av.open(str(source)) as given, av.open(str(path), "w") as out:
            stream = given.streams.video[0]
            copy = out.add_stream_from_template(stream)
            offset = int(Fraction(n_hidden, 30) / stream.time_base)
            for packet in given.demux(stream):
                if packet.size:
                    packet.pts -= offset
                    packet.dts -= offset
                    packet.stream = copy
                    out.mux(packet)
        return path

    def drop(self, source: Path, name: str, dropped: set[int]) -> Path:
        """What Xvid and DivX write for frames that they drop: a packet of MPEG-4 that says "no picture here"."""
        path = self.folder / name
        with av.open(str(source)) as given, av.open(str(path), "w") as out:
            stream = given.streams.video[0]
            copy = out.add_stream_from_template(stream)
            for i, packet in enumerate(packet for packet in given.demux(stream) if packet.size):
                if i in dropped:
                    stub = av.Packet(not_coded(bytes(packet)))
                    stub.pts, stub.dts, stub.time_base = packet.pts, packet.dts, packet.time_base
                    packet = stub
                packet.stream = copy
                out.mux(packet)
        return path

    def dlc(
        self,
        stem: str,
        frames: int | Iterable[int],
        *,
        suffix: str = NETWORK,
        likelihood: bool = True,
        empty: Iterable[int] = (),
    ) -> Path:
        """A DLC table; the x of its first keypoint is X_STEP times the frame. empty: frames with an empty row."""
        path = self.folder / f"{stem}{suffix}.csv"
        coords = ("x", "y", "likelihood")[: 3 if likelihood else 2]
        frames = range(frames) if isinstance(frames, int) else frames
        columns = [(part, coord) for part in PARTS for coord in coords]
        with path.open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["scorer", *(NETWORK for _ in columns)])
            out.writerow(["bodyparts", *(part for part, _ in columns)])
            out.writerow(["coords", *(coord for _, coord in columns)])
            for i in frames:
                values = [{"x": i * X_STEP, "y": 10 + k, "likelihood": 0.99}[c] for k in range(3) for c in coords]
                out.writerow([i, *(("" for _ in columns) if i in set(empty) else values)])
        return path

    def annotation(
        self,
        name: str,
        labels: Iterable[object],
        *,
        first: int = 0,
        header: str = "Frame,Action",
        rows: Iterable[str] | None = None,
    ) -> Path:
        """`prediction_<name>.csv`; first: where its Frame column starts. rows: instead of `i,label`."""
        path = self.folder / f"prediction_{name}.csv"
        lines = rows if rows is not None else (f"{first + i},{label}" for i, label in enumerate(labels))
        path.write_text("\n".join([header, *lines]) + "\n")
        return path

    def recording(self, name: str, n_frames: int, **kwargs: object) -> Path:
        """A video and its DLC table."""
        self.dlc(Path(name).stem, n_frames)
        return self.video(name, n_frames, **kwargs)  # type: ignore[arg-type]

    @staticmethod
    def numbers(frames: np.ndarray, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
        """The numbers that cached frames (T, S, S, C) show, (T,); asserts that none is in doubt."""
        geometry = Geometry.fit(width, height, frames.shape[1])
        step_y, step_x = geometry.content_height / GRID, geometry.content_width / (2 * GRID)
        numbers = np.zeros(len(frames), int)
        for bit in range(N_BITS):
            y = geometry.top + int((bit // GRID + 0.5) * step_y)
            x = geometry.left + int((bit % GRID + 0.5) * step_x)
            block = frames[:, y - 1 : y + 1, x - 1 : x + 1].mean(axis=(1, 2, 3))
            assert ((block > 170) | (block < 85)).all(), f"block {bit} is neither white nor black"
            numbers |= (block > 127).astype(int) << bit
        return numbers


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(height, width, 3) uint8: the number as a grid of white and black blocks on the left, colours on the right."""
    frame = np.full((height, width, 3), 90, np.uint8)
    block_h, block_w = height // GRID, width // (2 * GRID)
    for bit in range(N_BITS):
        top, left = bit // GRID * block_h, bit % GRID * block_w
        frame[top : top + block_h, left : left + block_w] = 225 if number >> bit & 1 else 30
    frame[: height // 2, width * 3 // 4 :] = (200, 60, 40)
    frame[height // 2 :, width * 3 // 4 :] = (40, 60, 200)
    return frame


def not_coded(packet: bytes) -> bytes:
    """The head of an MPEG-4 picture (start code, type, time) with its bit `vop_coded` set to 0, at 30 frames/s."""
    bits = "".join(f"{byte:08b}" for byte in packet[4:8])
    end_of_time = bits.index("0", 2) + 1 + 1 + 5 + 1  # seconds as ones and a zero, marker, 5 bits of time, marker
    head = "01" + bits[2:end_of_time] + "0"
    head += "0" + "1" * (-(len(head) + 1) % 8)
    return packet[:4] + int(head, 2).to_bytes(len(head) // 8, "big")
