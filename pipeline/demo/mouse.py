"""A mouse seen from below: the pose that follows from what its muscles are told to do.

Lengths are in body lengths (mouth to tail base of the stretched animal) and angles in radians; points of the picture
are complex numbers (x + iy in pixels, y down) until they leave this module. Seen from below, the animal's left is at
+i times its heading.
"""

from __future__ import annotations

import cmath
import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

FPS = 30
PAWS = ("L_frontpaw", "R_frontpaw", "L_hindpaw", "R_hindpaw")
KEYPOINTS = ("mouth", "tail_base", *PAWS)
SIDES = np.array([1.0, -1.0, 1.0, -1.0])
# Where a paw stands at ease: forward + i * outward of its joint (shoulder or hip).
STANCE = np.array([0.09 + 0.12j, 0.09 + 0.12j, 0.05 + 0.20j, 0.05 + 0.20j])

# Points along the spine, 0: tail base, 1: mouth.
SPINE = np.linspace(0, 1, 11)
HIP, SHOULDER = 0.2, 0.65
_TAIL_POINTS = 12
_SWING = 4  # frames that a stepping paw is in the air; mice swing a paw for 0.1 to 0.15 s


@dataclass(frozen=True)
class Animal:
    """What differs from one animal to the next.

    length: of the body, over the picture's height. fur, skin: luma 0 to 255. tempo: speed of all motion, 1 is usual.
    vigour: size of the answers to pain, 1 is usual. sore: 0 the left hind paw is the treated one, 1 the right.
    """

    name: str
    length: float
    stoutness: float
    paw_size: float
    splay: float
    fur: float
    fur_contrast: float
    skin: float
    tempo: float
    vigour: float
    breaths_per_s: float
    sore: int


@dataclass(frozen=True)
class Motion:
    """What the muscles are told in every frame; behaviours write into these arrays.

    speed: body lengths/s. turn: rad/s. bend, head: curvature of the trunk and of the neck, rad, positive to the left.
    stretch: length of the body as seen, 1 stretched. rear: 0 on all fours, 1 upright. Of each paw (T, 4): hold: 0 it
    stands or steps, 1 it is held at `reach` (forward + i * outward of its joint) or, by at_mouth, at the mouth;
    tremor: a displacement added to that, never smoothed; lift: 0 on the floor, 1 high; curl: of the toes, 0 to 1.
    """

    speed: np.ndarray
    turn: np.ndarray
    bend: np.ndarray
    head: np.ndarray
    stretch: np.ndarray
    rear: np.ndarray
    hold: np.ndarray
    at_mouth: np.ndarray
    lift: np.ndarray
    curl: np.ndarray
    reach: np.ndarray
    tremor: np.ndarray

    @classmethod
    def still(cls, n_frames: int) -> Motion:
        """An animal that stands at ease and does nothing."""
        body = {name: np.zeros(n_frames) for name in ("speed", "turn", "bend", "head", "rear")}
        paws = {name: np.zeros((n_frames, 4)) for name in ("hold", "at_mouth", "lift", "curl")}
        reach = np.tile(STANCE, (n_frames, 1))
        return cls(**body, **paws, stretch=np.full(n_frames, 0.9), reach=reach, tremor=np.zeros_like(reach))


@dataclass(frozen=True)
class Pose:
    """Where every part is, frame by frame, in pixels: (T, points, 2) float64 x, y.

    spine: from the tail base to the mouth. heading: (T,) of the hips, rad. head_heading: of the head. paw_heading,
    lift, curl: (T, 4). girth: (T,) width of the trunk, breathing, 1 is usual. rear: (T,) 0 to 1.
    """

    spine: np.ndarray
    paws: np.ndarray
    tail: np.ndarray
    heading: np.ndarray
    head_heading: np.ndarray
    paw_heading: np.ndarray
    lift: np.ndarray
    curl: np.ndarray
    girth: np.ndarray
    rear: np.ndarray
    body_px: float

    @property
    def keypoints(self) -> np.ndarray:
        """(T, 6, 2) in the order of KEYPOINTS."""
        return np.concatenate([self.spine[:, [-1, 0]], self.paws], axis=1)


def make_animal(name: str, rng: np.random.Generator) -> Animal:
    """An individual: size, colour, temperament."""
    white = rng.random() < 0.3
    return Animal(
        name=name,
        length=rng.uniform(0.46, 0.6),
        stoutness=rng.uniform(0.88, 1.2),
        paw_size=rng.uniform(0.88, 1.15),
        splay=rng.uniform(0.15, 0.6),
        fur=rng.uniform(115, 150) if white else rng.uniform(52, 92),
        fur_contrast=rng.uniform(0.06, 0.22),
        skin=rng.uniform(150, 215),
        tempo=rng.uniform(0.75, 1.3),
        vigour=rng.uniform(0.65, 1.25),
        breaths_per_s=rng.uniform(1.8, 3.2),
        sore=int(rng.integers(2)),
    )


def move(motion: Motion, animal: Animal, size: tuple[int, int], rng: np.random.Generator) -> Pose:
    """The pose of `animal` in a picture of `size` (width, height), from a random place and heading on."""
    motion = _muscles(motion, animal.tempo)
    body_px = animal.length * size[1]
    centre, heading = _wander(motion, body_px, size, rng)
    spine, angle = _bend_spine(centre, heading, motion, body_px)
    joint, limb_heading = _limb_joints(spine, angle)
    limb_axis = np.exp(1j * limb_heading)
    standing, step_lift = _steps(joint + _local(STANCE, limb_axis) * body_px, body_px)
    held = joint + _local(motion.reach, limb_axis) * body_px
    held += motion.at_mouth * (spine[:, -1:] - held)
    held += _local(motion.tremor, limb_axis) * body_px
    lift = np.maximum(step_lift * (1 - motion.hold), motion.hold * motion.lift)
    seconds = np.arange(len(heading)) / FPS
    return Pose(
        spine=_xy(spine),
        paws=_xy(standing + motion.hold * (held - standing)),
        tail=_xy(_tail(spine[:, 0], heading, motion.turn, body_px, rng)),
        heading=heading,
        head_heading=angle[:, -1],
        paw_heading=limb_heading + SIDES * animal.splay * (1 + 0.5 * lift),
        lift=lift,
        curl=np.clip(motion.curl * motion.hold, 0, 1),
        girth=animal.stoutness * (1 + 0.03 * np.sin(2 * np.pi * animal.breaths_per_s * seconds)),
        rear=motion.rear,
        body_px=body_px,
    )


def drift(rng: np.random.Generator, n_frames: int, frames: float) -> np.ndarray:
    """Smooth noise (n_frames,) with standard deviation 1 that changes within about `frames` frames."""
    pad = math.ceil(4 * frames)
    noise = gaussian_filter1d(rng.standard_normal(n_frames + 2 * pad), frames)
    # A white noise of variance 1 has variance 1 / (2 sqrt(pi) sigma) after a Gaussian filter of width sigma.
    return noise[pad : pad + n_frames] * math.sqrt(2 * math.sqrt(math.pi) * frames)


def _muscles(motion: Motion, tempo: float) -> Motion:
    """Commands as muscles follow them: postures change over some frames, a paw rises in 2 frames and falls in 4."""
    slow = dict.fromkeys(("speed", "turn", "bend", "head", "stretch", "rear"), 2.2 / tempo)
    fast = dict.fromkeys(("at_mouth", "lift", "curl", "reach"), 1.0)
    smooth = {name: gaussian_filter1d(getattr(motion, name), s, axis=0) for name, s in (slow | fast).items()}
    return dataclasses.replace(motion, **smooth, hold=_slew(motion.hold, 0.5 * tempo, 0.25 * tempo))


def _slew(target: np.ndarray, up: float, down: float) -> np.ndarray:
    followed = np.empty_like(target)
    value = target[0]
    for t, wanted in enumerate(target):
        value = value + np.clip(wanted - value, -down, up)
        followed[t] = value
    return followed


def _wander(
    motion: Motion, body_px: float, size: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Centre of the body (T,) complex and heading (T,): a walker turns before a wall and never leaves the picture."""
    margin = min(0.55 * body_px, 0.49 * min(size))
    low, high = complex(margin, margin), complex(size[0] - margin, size[1] - margin)
    middle = complex(size[0] / 2, size[1] / 2)
    at = complex(rng.uniform(low.real, high.real), rng.uniform(low.imag, high.imag))
    angle = rng.uniform(-math.pi, math.pi)
    centres, headings = np.empty(len(motion.speed), complex), np.empty(len(motion.speed))
    for t, (speed, turn) in enumerate(zip(motion.speed.tolist(), motion.turn.tolist(), strict=True)):
        axis = cmath.rect(1, angle)
        near_wall = min(1.0, abs(_outside(at + 0.35 * body_px * axis, low, high)) / (0.3 * body_px))
        away = math.copysign(1, cmath.phase((middle - at + 1e-6) / axis))
        angle += (turn + 3.5 * near_wall * away * min(1, abs(speed))) / FPS
        at += speed * (1 - 0.5 * near_wall) * body_px / FPS * axis
        at -= _outside(at, low, high)
        centres[t], headings[t] = at, angle
    return centres, headings


def _outside(at: complex, low: complex, high: complex) -> complex:
    return complex(at.real - min(max(at.real, low.real), high.real), at.imag - min(max(at.imag, low.imag), high.imag))


def _bend_spine(
    centre: np.ndarray, heading: np.ndarray, motion: Motion, body_px: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points (T, len(SPINE)) complex, and the direction (T, len(SPINE)) of the spine at them."""
    trunk = np.clip((SPINE - HIP) / (SHOULDER - HIP), 0, 1)
    neck = np.clip((SPINE - SHOULDER) / (1 - SHOULDER), 0, 1)
    angle = heading[:, None] + motion.bend[:, None] * trunk + motion.head[:, None] * neck
    # An upright animal hides its front half behind its belly.
    shrink = motion.stretch[:, None] * (1 - 0.45 * motion.rear[:, None] * (SPINE > HIP))
    steps = np.exp(1j * (angle[:, 1:] + angle[:, :-1]) / 2) * np.diff(SPINE) * shrink[:, 1:]
    along = np.concatenate([np.zeros((len(heading), 1)), np.cumsum(steps, axis=1)], axis=1)
    hip = np.searchsorted(SPINE, HIP - 1e-9)
    pelvis = centre - 0.3 * body_px * np.exp(1j * heading)
    return pelvis[:, None] + (along - along[:, [hip]]) * body_px, angle


def _limb_joints(spine: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hip, shoulder = np.searchsorted(SPINE, [HIP - 1e-9, SHOULDER - 1e-9])
    at = [shoulder, shoulder, hip, hip]
    return spine[:, at], angle[:, at]


def _local(offset: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """forward + i * outward, (4,) or (T, 4), turned into the picture's axes."""
    return axis * (offset.real + 1j * SIDES * offset.imag)


def _steps(homes: np.ndarray, body_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Feet (T, 4) complex that stay where they stand until their place at ease is too far, and their lift (T, 4).

    A paw steps with the one diagonal to it, not with the others; it lands where it will soon be at ease.
    """
    n_frames = len(homes)
    feet, lift = np.empty_like(homes), np.zeros(homes.shape)
    rows = homes.tolist()
    foot, start, left = list(rows[0]), list(rows[0]), [0, 0, 0, 0]
    for t, row in enumerate(rows):
        for k in range(4):
            far = abs(row[k] - foot[k]) / body_px
            others = left[(k + 1) % 4 if k % 2 == 0 else k - 1] + left[(k + 2) % 4]
            if left[k] == 0 and (far > 0.3 or (far > 0.13 and not others)):
                left[k], start[k] = _SWING, foot[k]
            if left[k]:
                left[k] -= 1
                phase = 1 - left[k] / _SWING
                land = rows[min(t + left[k] + 3, n_frames - 1)][k]
                foot[k] = start[k] + (land - start[k]) * phase * phase * (3 - 2 * phase)
                lift[t, k] = 0.6 * math.sin(math.pi * phase)
        feet[t] = foot
    return feet, lift


def _tail(
    base: np.ndarray, heading: np.ndarray, turn: np.ndarray, body_px: float, rng: np.random.Generator
) -> np.ndarray:
    n_frames = len(base)
    along = np.arange(_TAIL_POINTS) / (_TAIL_POINTS - 1)
    curl = rng.normal(0, 0.9) + 0.35 * drift(rng, n_frames, 45) - 0.25 * gaussian_filter1d(turn, 6)
    wave = 0.25 * drift(rng, n_frames, 20)
    root = heading + math.pi + 0.3 * drift(rng, n_frames, 60)
    angle = root[:, None] + curl[:, None] * along + wave[:, None] * np.sin(4 * along)
    return base[:, None] + np.cumsum(np.exp(1j * angle) * (along > 0), axis=1) * (0.85 * body_px / _TAIL_POINTS)


def _xy(points: np.ndarray) -> np.ndarray:
    return np.stack([points.real, points.imag], axis=-1)
