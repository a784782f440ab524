"""What a mouse does when it rests, walks, moves about, or answers pain: each writes its motion over some frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.demo.mouse import FPS, SIDES, STANCE, Animal, Motion, drift

Rng = np.random.Generator


@dataclass(frozen=True)
class Act:
    """What the animal truly does in frames [start, stop) of a trial; names are those of the reference class list."""

    name: str
    start: int
    stop: int


def perform(acts: Sequence[Act], n_frames: int, animal: Animal, rng: Rng) -> Motion:
    """The motion of a trial's acts, one after the other."""
    motion = Motion.still(n_frames)
    motion.bend[:] = 0.12 * rng.standard_normal() + 0.06 * drift(rng, n_frames, 60)
    for act in acts:
        _BEHAVIOURS[act.name](motion, slice(act.start, act.stop), animal, rng)
    return motion


def _rest(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    """Stands and breathes; now and then shifts its weight or lifts a paw a little, which is still rest."""
    n_frames = at.stop - at.start
    motion.stretch[at] = rng.uniform(0.8, 0.95)
    motion.head[at] += 0.15 * rng.standard_normal() + 0.05 * drift(rng, n_frames, 15)
    motion.bend[at] += 0.1 * rng.standard_normal()
    for start in _events(at, 0.12, rng):
        motion.turn[start : min(start + 8, at.stop)] += rng.normal(0, 0.6)
    for start in _events(at, 0.18, rng):
        paw = int(rng.integers(4))
        frames = slice(start, min(start + int(rng.integers(3, 14)), at.stop))
        _hold_paw(motion, frames, paw, size=rng.uniform(0.1, 0.5), curl=rng.uniform(0, 0.6), rng=rng)
    for start in _events(at, 0.12, rng):
        motion.head[start : min(start + int(rng.integers(8, 25)), at.stop)] += rng.normal(0, 0.3)


def _walk(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    n_frames = at.stop - at.start
    pace = rng.uniform(0.7, 1.8) * animal.tempo
    motion.speed[at] = pace * (1 + 0.2 * drift(rng, n_frames, 8))
    motion.turn[at] = rng.normal(0, 0.5) + 0.7 * drift(rng, n_frames, 12)
    motion.bend[at] += 0.25 * np.clip(motion.turn[at], -2, 2)
    motion.head[at] += 0.12 * drift(rng, n_frames, 5)
    motion.stretch[at] = rng.uniform(0.93, 1.02)


def _active(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    """One or several kinds of movement in place, each for up to about 1.5 s."""
    start = at.start
    while start < at.stop:
        stop = min(start + int(rng.integers(18, 50)), at.stop)
        stop = at.stop if at.stop - stop < 12 else stop
        kind = rng.choice(len(_ACTIVE), p=[weight for _, weight in _ACTIVE])
        _ACTIVE[kind][0](motion, slice(start, stop), animal, rng)
        start = stop


def _sniff(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    seconds = _seconds(at)
    sweep = np.sin(2 * np.pi * rng.uniform(0.6, 1.6) * animal.tempo * seconds + rng.uniform(0, 6))
    motion.head[at] += rng.uniform(0.15, 0.5) * sweep
    motion.bend[at] += rng.uniform(0.05, 0.35) * sweep
    motion.stretch[at] = rng.uniform(0.9, 1.0) + 0.03 * np.sin(2 * np.pi * 5 * seconds)
    motion.turn[at] = 0.3 * drift(rng, len(seconds), 10)


def _rear(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    motion.rear[at] = rng.uniform(0.6, 1)
    motion.head[at] += 0.25 * drift(rng, at.stop - at.start, 8)
    for paw in (0, 1):
        _hold_paw(motion, at, paw, size=rng.uniform(0.8, 1.1), curl=0.4, rng=rng)


def _turn(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    way = rng.choice([-1, 1])
    motion.turn[at] = way * rng.uniform(1.2, 3.0) * animal.tempo
    motion.bend[at] += way * rng.uniform(0.3, 0.8)
    motion.head[at] += way * rng.uniform(0.1, 0.4)
    motion.stretch[at] = rng.uniform(0.82, 0.95)


def _shuffle(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    """A step or two: what one person calls active, another calls walk."""
    motion.speed[at] = rng.uniform(-0.2, 0.7) * animal.tempo
    motion.turn[at] = rng.normal(0, 0.8)
    motion.head[at] += 0.25 * drift(rng, at.stop - at.start, 8)


def _groom_face(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    stroke = np.sin(2 * np.pi * rng.uniform(4, 7) * animal.tempo * _seconds(at))
    motion.stretch[at] = rng.uniform(0.7, 0.78)
    motion.head[at] += 0.06 * stroke
    for paw in (0, 1):
        motion.hold[at, paw], motion.at_mouth[at, paw], motion.lift[at, paw] = 1, 0.8, 0.75
        motion.tremor[at, paw] = 0.045 * stroke


def _groom_flank(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    """Like a lick, but the hind paw stays on the floor."""
    _curl_up(motion, at, rng.choice([-1, 1]), rng.uniform(0.6, 0.95), rng.uniform(4, 6), animal)


def _scratch(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    """A hind paw beats at the shoulder; as fast as a shake, but not one."""
    paw = int(rng.integers(2, 4))
    motion.hold[at, paw], motion.lift[at, paw] = 1, 0.7
    motion.reach[at, paw] = 0.34 + 0.17j
    motion.tremor[at, paw] = rng.uniform(0.04, 0.08) * _beat(at, rng.uniform(7, 12))
    motion.stretch[at] = 0.8
    motion.bend[at] += 0.5 * SIDES[paw]


def _withdraw(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    size = np.clip(rng.lognormal(-0.3, 0.4) * animal.vigour, 0.25, 1.2)
    _answer(motion, at, animal, size=size, curl=rng.uniform(0, 0.5), rng=rng)
    recoil = slice(at.start, min(at.start + 5, at.stop))
    motion.speed[recoil] += rng.normal(0, 0.5) * size
    motion.turn[recoil] += rng.normal(0, 0.7) * size
    if rng.random() < 0.4:
        motion.head[at] += rng.uniform(0.1, 0.6) * SIDES[2 + animal.sore]


def _guard(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    size = rng.uniform(0.45, 0.9) * animal.vigour
    _answer(motion, at, animal, size=size, curl=rng.uniform(0.7, 1), rng=rng)
    motion.tremor[at, 2 + animal.sore] += 0.006 * drift(rng, at.stop - at.start, 2)


def _flinch(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    size = np.clip(rng.lognormal(-0.4, 0.35) * animal.vigour, 0.25, 1.1)
    _answer(motion, at, animal, size=size, curl=0.2, rng=rng)
    motion.turn[at] += rng.normal(0, 0.8)


def _shake(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    paw = 2 + animal.sore
    _answer(motion, at, animal, size=rng.uniform(0.6, 1), curl=0.3, rng=rng)
    width = rng.uniform(0.035, 0.1) * animal.vigour
    motion.tremor[at, paw] += width * np.exp(1j * rng.uniform(0.5, 2.2)) * _beat(at, rng.uniform(8, 15))


def _lick(motion: Motion, at: slice, animal: Animal, rng: Rng) -> None:
    paw = 2 + animal.sore
    _curl_up(motion, at, SIDES[paw], rng.uniform(0.85, 1.05), rng.uniform(4, 6.5), animal)
    motion.hold[at, paw], motion.lift[at, paw] = 1, rng.uniform(0.4, 0.7)
    motion.at_mouth[at, paw] = rng.uniform(0.6, 0.85)
    motion.curl[at, paw] = rng.uniform(0, 0.5)


def _answer(motion: Motion, at: slice, animal: Animal, *, size: float, curl: float, rng: Rng) -> None:
    """The sore paw goes up at the start and is down again at the end of `at`."""
    falling = 3 if at.stop - at.start > 8 else 1
    _hold_paw(motion, slice(at.start, at.stop - falling), 2 + animal.sore, size=size, curl=curl, rng=rng)
    motion.lift[at, 2 + animal.sore] = motion.lift[at.start, 2 + animal.sore]


def _hold_paw(motion: Motion, at: slice, paw: int, *, size: float, curl: float, rng: Rng) -> None:
    """A paw off the floor and drawn to the body, the farther the larger `size`."""
    motion.hold[at, paw] = 1
    motion.lift[at, paw] = np.clip(size, 0, 1)
    motion.curl[at, paw] = curl
    motion.reach[at, paw] = STANCE[paw] + size * (rng.uniform(0.0, 0.11) - 1j * rng.uniform(0.02, 0.09))


def _curl_up(motion: Motion, at: slice, way: float, depth: float, beats_per_s: float, animal: Animal) -> None:
    """The head goes back to the hind paw of side `way` and moves there with each stroke of the tongue."""
    stroke = np.sin(2 * np.pi * beats_per_s * animal.tempo * _seconds(at))
    motion.bend[at] = way * 1.6 * depth
    motion.head[at] = way * (1.35 * depth + 0.16 * stroke)
    motion.stretch[at] = 0.9 - 0.17 * depth


def _beat(at: slice, per_s: float) -> np.ndarray:
    """An oscillation that starts and ends smoothly."""
    seconds = _seconds(at)
    envelope = np.minimum(1, (1 + np.minimum(np.arange(len(seconds)), np.arange(len(seconds))[::-1])) / 3)
    return envelope * np.sin(2 * np.pi * per_s * seconds)


def _seconds(at: slice) -> np.ndarray:
    return np.arange(at.stop - at.start) / FPS


def _events(at: slice, per_s: float, rng: Rng) -> list[int]:
    """Frames at which something that happens so often does happen."""
    n = rng.poisson(per_s * (at.stop - at.start) / FPS)
    return sorted(rng.integers(at.start, at.stop, n).tolist())


_Behaviour = Callable[[Motion, slice, Animal, Rng], None]
_ACTIVE: list[tuple[_Behaviour, float]] = [
    (_sniff, 0.34),
    (_rear, 0.12),
    (_turn, 0.18),
    (_shuffle, 0.12),
    (_groom_face, 0.13),
    (_groom_flank, 0.06),
    (_scratch, 0.05),
]
_BEHAVIOURS: dict[str, _Behaviour] = {
    "rest": _rest,
    "paw_withdraw": _withdraw,
    "paw_lick": _lick,
    "paw_guard": _guard,
    "paw_shake": _shake,
    "flinch": _flinch,
    "walk": _walk,
    "active": _active,
}
