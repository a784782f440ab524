"""The picture that a gray camera below a glass floor takes of the drawn mouse.

What touches the floor is bright and sharp; what is lifted is darker, blurred and a little smaller: this is how a
lifted paw shows from below. Coordinates are pixels, x to the right and y down; luma is 0 to 255.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.special import expit

from pipeline.demo.mouse import Animal, Pose

_CODE_BITS = 16
_CODE_SIDE = 4  # blocks
_CODE_BLOCKS_PER_WIDTH = 24  # a block of 13 px at 320 is 4 px at 96
_FUR_TILE = 256

# Radius of the trunk and head at each point of the spine, in body lengths.
_GIRTH = np.array([0.045, 0.125, 0.17, 0.19, 0.19, 0.175, 0.15, 0.128, 0.11, 0.082, 0.034])

# A paw pointing along +x, in paw lengths: heel to ball, then five toes from the ball.
_TOE_ANGLES = np.radians([-62, -30, 0, 30, 62])
_TOE_LENGTHS = np.array([0.30, 0.44, 0.48, 0.44, 0.30])


@dataclass(frozen=True)
class Scene:
    """Chamber, light and camera of one recording; the maps are (H, W) float32.

    floor: luma of the empty floor. veil: what lies between floor and camera lets so much through. haze: luma added by
    reflections. light: relative brightness, of which `flicker` drifts. grain: tile of unit noise that frames cut
    from. fur: tile of unit noise. blur_px: width of an edge. probe_luma: of the rod that touches the paw.
    """

    floor: np.ndarray
    veil: np.ndarray
    haze: np.ndarray
    grain: np.ndarray
    fur: np.ndarray
    light: float
    flicker: float
    noise: float
    blur_px: float
    exposure: float
    probe_luma: float

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.floor.shape[1], self.floor.shape[0]


def make_scene(size: tuple[int, int], rng: np.random.Generator, *, pale_floor: bool = False) -> Scene:
    """One chamber as it stood on one day: floor, mesh, droppings, reflections, light, camera."""
    width, height = size
    shape = (height, width)
    level = rng.uniform(80, 105) if pale_floor else rng.uniform(16, 58)
    floor = level * (1 + 0.05 * _noise(shape, 1.5, rng) + 0.06 * _noise(shape, 14, rng) + 0.09 * _noise(shape, 50, rng))
    veil = _vignette(shape, rng) * _mesh(shape, rng)
    _scatter_droppings(floor, veil, rng)
    return Scene(
        floor=floor.astype(np.float32),
        veil=veil.astype(np.float32),
        haze=_walls_and_glare(shape, rng).astype(np.float32),
        grain=rng.standard_normal((2 * height, 2 * width), dtype=np.float32),
        fur=_fur(rng),
        light=rng.uniform(0.75, 1.15),
        flicker=rng.uniform(0.01, 0.05),
        noise=rng.uniform(2, 5),
        blur_px=rng.uniform(1.0, 1.9) * height / 240,
        exposure=rng.uniform(0.3, 0.7),
        probe_luma=rng.uniform(90, 190),
    )


def film(
    scene: Scene, animal: Animal, pose: Pose, probe_xy: np.ndarray, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """The frames (H, W) uint8 of a trial, one after the other.

    probe_xy: (T, 2) where the tip of the stimulus rod is, NaN where it is not in the picture.
    """
    n_frames = len(pose.heading)
    light = scene.light * (1 + scene.flicker * _slow(n_frames, rng))
    rod_axis = np.exp(1j * rng.uniform(0, 2 * np.pi))
    paw_speed = np.gradient(pose.paws, axis=0) * scene.exposure
    width, height = scene.size
    for t in range(n_frames):
        image = scene.floor.copy()
        _draw_mouse(image, scene, animal, pose, paw_speed[t], t)
        if not np.isnan(probe_xy[t, 0]):
            far = probe_xy[t] + 2 * width * np.array([rod_axis.real, rod_axis.imag])
            _paint(image, probe_xy[None, t], far[None], [0.005 * width], [0.012 * width], scene.probe_luma, 1.5)
        image *= scene.veil
        image *= light[t]
        image += scene.haze
        top, left = rng.integers(height), rng.integers(width)
        image += scene.grain[top : top + height, left : left + width] * (scene.noise * (0.6 + 0.004 * image))
        yield np.clip(image, 0, 255, out=image).astype(np.uint8)


def code(frame: np.ndarray, number: int) -> None:
    """Writes `number` (0 to 65535) into the top left corner of `frame` (H, W) or (H, W, C), in place.

    Sixteen blocks, 4 by 4, white for 1, the lowest bit first; together a sixth of the width. Raises ValueError
    for a number that doesn't fit.
    """
    if not 0 <= number < 2**_CODE_BITS:
        raise ValueError(f"a frame code holds 0 to {2**_CODE_BITS - 1}, found {number}")
    edges = _code_edges(frame.shape[1])
    for bit in range(_CODE_BITS):
        row, column = divmod(bit, _CODE_SIDE)
        block = (slice(edges[row], edges[row + 1]), slice(edges[column], edges[column + 1]))
        frame[block] = 255 * (number >> bit & 1)


def read_code(frame: np.ndarray) -> int:
    """The number that `code` wrote, also after video compression and after scaling down to 96 px of width.

    `frame` is the whole picture, (H, W) or (H, W, C), without padding.
    """
    gray = frame.astype(np.float32) if frame.ndim == 2 else frame.mean(axis=2)
    edges = np.arange(_CODE_SIDE + 1) * gray.shape[1] / _CODE_BLOCKS_PER_WIDTH
    middles = ((edges[:-1] + edges[1:]) / 2 - 0.5).round().astype(int)
    number = 0
    for bit in range(_CODE_BITS):
        row, column = divmod(bit, _CODE_SIDE)
        number |= int(gray[middles[row], middles[column]] > 127) << bit
    return number


def _code_edges(width: int) -> list[int]:
    return [round(i * width / _CODE_BLOCKS_PER_WIDTH) for i in range(_CODE_SIDE + 1)]


def _draw_mouse(image: np.ndarray, scene: Scene, animal: Animal, pose: Pose, paw_speed: np.ndarray, t: int) -> None:
    """From far to near: ears, trunk and head, snout, legs, tail, paws."""
    body, blur = pose.body_px, scene.blur_px
    spine, rear = pose.spine[t], pose.rear[t]
    head_luma = animal.fur * (1 - 0.4 * rear)
    skin = 0.45 * animal.skin + 0.55 * animal.fur
    axis = np.array([np.cos(pose.head_heading[t]), np.sin(pose.head_heading[t])])
    ears = spine[8] + 0.105 * body * np.array([[-axis[1], axis[0]], [axis[1], -axis[0]]])
    _paint(image, ears, ears - 0.02 * body * axis, [0.05 * body] * 2, [0.04 * body] * 2, 0.8 * skin, blur + 1 + rear)
    _paint_trunk(image, scene, animal, pose, t)
    _paint(image, spine[None, 9], spine[None, 10], [0.05 * body], [0.025 * body], 0.5 * (head_luma + skin), blur + 2)
    _paint(image, spine[None, 10], spine[None, 10], [0.022 * body], [0.022 * body], skin, blur + 1.5 * rear)
    _paint_legs(image, pose, t, 0.7 * animal.fur + 0.3 * skin, blur)
    thickness = np.linspace(0.03, 0.008, pose.tail.shape[1]) * body
    _paint(image, pose.tail[t, :-1], pose.tail[t, 1:], thickness[:-1], thickness[1:], 0.85 * animal.skin, blur)
    for paw in np.argsort(-pose.lift[t]):
        _paint_paw(image, animal, pose, t, int(paw), paw_speed[paw], blur)


def _paint_trunk(image: np.ndarray, scene: Scene, animal: Animal, pose: Pose, t: int) -> None:
    """Belly and head: bright in the middle, darker at the flanks, with fur that moves with the body.

    Drawn at half resolution: it has no fine edges, and this takes a quarter of the time.
    """
    spine = pose.spine[t]
    # A body that is curled up or upright is wider, as its volume stays.
    length = np.linalg.norm(np.diff(spine, axis=0), axis=1).sum() / pose.body_px
    radius = _GIRTH * pose.girth[t] * pose.body_px * length**-0.4
    box = _box(spine, float(radius.max()) + 4, image.shape)
    if box is None:
        return
    x0, y0, x1, y1 = box
    x, y = np.arange(x0, x1 + 2, 2, dtype=np.float32), np.arange(y0, y1 + 2, 2, dtype=np.float32)
    inside = -_distance(x, y, spine[:-1], spine[1:], radius[:-1], radius[1:]).min(axis=0)
    cover = np.clip(0.5 + inside / (2 * scene.blur_px + 1), 0, 1)
    depth = np.clip(inside / (0.8 * radius.max()), 0, 1)
    axis = np.array([np.cos(pose.heading[t]), np.sin(pose.heading[t])], dtype=np.float32)
    along = (x - spine[2, 0])[None] * axis[0] + (y - spine[2, 1])[:, None] * axis[1]
    across = (y - spine[2, 1])[:, None] * axis[0] - (x - spine[2, 0])[None] * axis[1]
    hairs = scene.fur[along.astype(np.int32) % _FUR_TILE, across.astype(np.int32) % _FUR_TILE]
    dim = 1 - 0.55 * pose.rear[t] * np.clip(along / (0.35 * pose.body_px), 0, 1)
    luma = animal.fur * (0.62 + 0.5 * np.sqrt(depth)) * (1 + animal.fur_contrast * hairs) * dim
    view = image[y0:y1, x0:x1]
    view += _double(cover, view.shape) * (_double(luma, view.shape) - view)


def _paint_legs(image: np.ndarray, pose: Pose, t: int, luma: float, blur: float) -> None:
    """Soft, as they lie in the fur above the floor; the ankle alone shows clearly."""
    hip, shoulder, body = pose.spine[t, 2], pose.spine[t, 7], pose.body_px
    joints = np.stack([shoulder, shoulder, hip, hip])
    ways = pose.paws[t] - joints
    thick = np.array([0.03, 0.03, 0.06, 0.06]) * body
    _paint(image, joints + 0.55 * ways, pose.paws[t], thick, np.full(4, 0.02 * body), luma, blur + 0.045 * body)


def _paint_paw(
    image: np.ndarray, animal: Animal, pose: Pose, t: int, paw: int, travel: np.ndarray, blur: float
) -> None:
    """Sole and toes; `travel` is how far (x, y) the paw moves while the shutter is open."""
    lift, curl = pose.lift[t, paw], pose.curl[t, paw]
    hind = paw >= 2
    length = (0.155 if hind else 0.105) * animal.paw_size * pose.body_px * (1 - 0.15 * lift)
    start, stop, thick_start, thick_stop = _paw_shape(curl, hind)
    turn = np.array([[np.cos(a := pose.paw_heading[t, paw]), np.sin(a)], [-np.sin(a), np.cos(a)]])
    start, stop = start @ turn * length + pose.paws[t, paw], stop @ turn * length + pose.paws[t, paw]
    n_shifts = 1 if np.hypot(*travel) < 1.5 else 3
    shifts = (np.linspace(-0.5, 0.5, n_shifts) if n_shifts > 1 else np.zeros(1))[:, None] * travel
    luma = animal.skin * (1 - 0.36 * lift)
    radii = np.stack([thick_start, thick_stop]) * length
    _paint(image, start, stop, radii[0], radii[1], luma, blur + 1.4 * lift, shifts)


def _paw_shape(curl: float, hind: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Capsules (6, 2) from, to and their two radii (6,): the sole, then the toes, which curl in."""
    spread, reach = 1 - 0.6 * curl, 1 - 0.7 * curl
    directions = np.stack([np.cos(_TOE_ANGLES * spread), np.sin(_TOE_ANGLES * spread)], axis=1)
    ball = np.array([0.12, 0.0])
    heel = np.array([-0.62 if hind else -0.3, 0.0])
    roots = ball + 0.16 * directions
    tips = roots + directions * _TOE_LENGTHS[:, None] * reach
    start, stop = np.concatenate([heel[None], roots]), np.concatenate([ball[None], tips])
    thick_start = np.array([0.16, *[0.09] * 5])
    return start, stop, thick_start, np.array([0.25, *[0.055] * 5])


def _paint(
    image: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    radius_start: np.ndarray | list[float],
    radius_stop: np.ndarray | list[float],
    luma: float,
    softness: float,
    shifts: np.ndarray | None = None,
) -> None:
    """Tapered capsules (n, 2) to (n, 2) in one luma with edges `softness` px wide, averaged over `shifts` (m, 2)."""
    shifts = np.zeros((1, 2)) if shifts is None else shifts
    margin = float(np.max([np.max(radius_start), np.max(radius_stop)])) + softness
    box = _box(np.concatenate([start + shifts[:1], stop + shifts[:1], start + shifts[-1:], stop + shifts[-1:]]),
               margin, image.shape)  # fmt: skip
    if box is None:
        return
    x0, y0, x1, y1 = box
    x, y = np.arange(x0, x1, dtype=np.float32), np.arange(y0, y1, dtype=np.float32)
    cover = np.zeros((y1 - y0, x1 - x0), np.float32)
    for shift in shifts:
        away = _distance(x, y, start + shift, stop + shift, radius_start, radius_stop).min(axis=0)
        cover += np.clip(0.5 - away / softness, 0, 1)
    view = image[y0:y1, x0:x1]
    view += cover / len(shifts) * (luma - view)


def _distance(
    x: np.ndarray,
    y: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    radius_start: np.ndarray | list[float],
    radius_stop: np.ndarray | list[float],
) -> np.ndarray:
    """Signed distance in px (n, len(y), len(x)) to each tapered capsule, negative inside."""
    a, ab = start.astype(np.float32)[:, :, None, None], (stop - start).astype(np.float32)[:, :, None, None]
    r0 = np.asarray(radius_start, np.float32)[:, None, None]
    r1 = np.asarray(radius_stop, np.float32)[:, None, None]
    px, py = x[None, None, :] - a[:, 0], y[None, :, None] - a[:, 1]
    along = px * ab[:, 0] + py * ab[:, 1]
    along /= ab[:, 0] ** 2 + ab[:, 1] ** 2 + 1e-6
    np.clip(along, 0, 1, out=along)
    px, py = px - along * ab[:, 0], py - along * ab[:, 1]
    away = np.sqrt(px * px + py * py)
    away -= r0 + along * (r1 - r0)
    return away


def _box(points: np.ndarray, margin: float, shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 (half open) around the points, cut to the picture; None if nothing of it is inside."""
    x0, y0 = np.maximum(np.floor(points.min(axis=0) - margin), 0).astype(int).tolist()
    x1, y1 = np.minimum(np.ceil(points.max(axis=0) + margin) + 1, shape[1::-1]).astype(int).tolist()
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _double(half: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Twice the resolution by linear interpolation, cut to `shape`."""
    rows = np.empty((2 * half.shape[0] - 1, half.shape[1]), np.float32)
    rows[::2], rows[1::2] = half, (half[1:] + half[:-1]) / 2
    full = np.empty((rows.shape[0], 2 * rows.shape[1] - 1), np.float32)
    full[:, ::2], full[:, 1::2] = rows, (rows[:, 1:] + rows[:, :-1]) / 2
    return full[: shape[0], : shape[1]]


def _noise(shape: tuple[int, int], scale_px: float, rng: np.random.Generator) -> np.ndarray:
    smooth = gaussian_filter(rng.standard_normal(shape), scale_px, mode="wrap")
    return smooth / smooth.std()


def _slow(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    walk = gaussian_filter1d(rng.standard_normal(n_frames), 60, mode="reflect")
    return (walk - walk.mean()) / (walk.std() + 1e-9)


def _fur(rng: np.random.Generator) -> np.ndarray:
    """Hairs lie along the body (the first axis)."""
    square = (_FUR_TILE, _FUR_TILE)
    hairs = gaussian_filter(rng.standard_normal(square), (4, 1.2), mode="wrap")
    return (0.7 * hairs / hairs.std() + 0.6 * _noise(square, 9, rng)).astype(np.float32)


def _vignette(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Darker away from a centre of light that is not the middle of the picture."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    y0, x0 = shape[0] * rng.uniform(0.3, 0.7), shape[1] * rng.uniform(0.3, 0.7)
    away = np.hypot(y - y0, x - x0) / np.hypot(*shape)
    return 1.1 - rng.uniform(0.5, 1.3) * away**2


def _mesh(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The wire grid that the animal stands on, a little out of focus, in front of it."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]] * (240 / shape[0])
    turn = rng.normal(0, 0.04)
    pitch, strength = rng.uniform(13, 24), rng.uniform(0.04, 0.28)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    wires = [np.exp(-(((w + rng.uniform(0, pitch)) % pitch - pitch / 2) ** 2) / 2.0) for w in (u, v)]
    return 1 - strength * np.maximum(*wires)


def _scatter_droppings(floor: np.ndarray, veil: np.ndarray, rng: np.random.Generator) -> None:
    """Droppings hide what is above them (veil); dried spots only change the floor. In place."""
    height, width = floor.shape
    y, x = np.mgrid[0:height, 0:width]
    for _ in range(rng.integers(2, 9)):
        at, turn = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0, np.pi)
        u = (x - at[0]) * np.cos(turn) + (y - at[1]) * np.sin(turn)
        v = (y - at[1]) * np.cos(turn) - (x - at[0]) * np.sin(turn)
        long = rng.uniform(0.012, 0.022) * height
        veil *= 1 - rng.uniform(0.4, 0.7) * expit(8 * (1 - np.hypot(u / long, 2 * v / long)))
    for _ in range(rng.integers(1, 6)):
        at, radius = rng.uniform(0, 1, 2) * (width, height), rng.uniform(0.03, 0.12) * height
        floor *= 1 + rng.normal(0, 0.15) * expit((radius - np.hypot(x - at[0], y - at[1])) / 2)


def _walls_and_glare(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The lit edges of the chamber's walls, and a faint reflection in the glass."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    haze = np.zeros(shape)
    for distance in (x, shape[1] - 1 - x, y, shape[0] - 1 - y):
        inset, bright = rng.uniform(0.0, 0.05) * shape[0], rng.uniform(10, 90)
        haze += bright * np.exp(-(((distance - inset) / (0.008 * shape[0])) ** 2)) * (1 + 0.3 * _noise(shape, 8, rng))
    at = rng.uniform(0, 1, 2) * (shape[1], shape[0])
    return haze + rng.uniform(0, 14) * np.exp(-(((x - at[0]) / 60) ** 2 + ((y - at[1]) / 25) ** 2))
