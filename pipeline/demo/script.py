"""What happens in a trial, and what a person writes down about it.

Shares and bout lengths are those of von Frey and formalin-like recordings as the reference set-up has them: rest three
quarters of the frames, each answer to pain 1 to 3 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.demo.behaviour import Act
from pipeline.demo.mouse import FPS, Animal
from pipeline.preprocess_settings import REFERENCE_CLASSES

CLASS_NAMES = tuple(REFERENCE_CLASSES.split(","))
TRIAL_FRAMES = 360

# Answers to a touch, weak to strong, and how often each is given.
_ANSWERS: tuple[tuple[tuple[str, ...], float], ...] = (
    ((), 0.22),
    (("flinch",), 0.12),
    (("flinch", "rest", "flinch"), 0.10),
    (("paw_withdraw",), 0.12),
    (("paw_withdraw", "paw_guard"), 0.10),
    (("paw_shake",), 0.05),
    (("paw_withdraw", "paw_shake"), 0.10),
    (("paw_withdraw", "rest", "paw_lick"), 0.05),
    (("flinch", "paw_shake", "paw_lick"), 0.05),
    (("paw_withdraw", "paw_shake", "paw_lick", "paw_shake"), 0.05),
    (("paw_withdraw", "paw_guard", "paw_lick"), 0.04),
)
# Bout lengths in seconds: median, spread of the logarithm, shortest, longest.
_LENGTHS_S: dict[str, tuple[float, float, float, float]] = {
    "flinch": (0.18, 0.35, 0.1, 0.3),
    "paw_withdraw": (0.65, 0.5, 0.3, 2.0),
    "paw_guard": (0.9, 0.5, 0.4, 2.5),
    "paw_shake": (0.45, 0.35, 0.2, 0.8),
    "paw_lick": (1.3, 0.6, 0.5, 4.0),
    "rest": (0.4, 0.6, 0.15, 1.5),
}
_IDLE_LENGTHS_S: dict[str, tuple[float, float, float, float]] = {
    "rest": (2.6, 0.7, 0.5, 9.0),
    "active": (1.3, 0.55, 0.4, 5.0),
    "walk": (0.9, 0.4, 0.4, 2.2),
}


@dataclass(frozen=True)
class Trial:
    """What truly happens in the 360 frames of one trial; `acts` cover them without gaps."""

    acts: tuple[Act, ...]
    stim_frame: int

    @property
    def truth(self) -> np.ndarray:
        """Class ids (T,) int16."""
        return np.concatenate([np.full(a.stop - a.start, CLASS_NAMES.index(a.name), np.int16) for a in self.acts])


def write_trials(animals: Sequence[Animal], rng: np.random.Generator) -> list[Trial]:
    """One trial for each of the animals given (an animal may stand there often).

    Answers are dealt from a deck, so that small data sets have the shares of large ones; animals with more vigour
    tend to get the strong answers.
    """
    n_trials = len(animals)
    deck = np.searchsorted(
        np.cumsum([weight for _, weight in _ANSWERS]), (np.arange(n_trials) + rng.random()) / n_trials
    )
    temper = [animal.vigour + rng.normal(0, 0.45) for animal in animals]
    answers = dict(zip(np.argsort(temper).tolist(), np.minimum(deck, len(_ANSWERS) - 1).tolist(), strict=True))
    # 0.0 the calmest trial, 1.0 the liveliest: many trials are nearly all rest.
    moods = (rng.permutation(n_trials) + 0.5) / n_trials
    return [_write_trial(_ANSWERS[answers[i]][0], moods[i], animals[i], rng) for i in range(n_trials)]


def annotate(trial: Trial, rng: np.random.Generator) -> np.ndarray:
    """A person's labels (T,) int16: borders are off by up to 3 frames, and what is ambiguous is sometimes misjudged."""
    acts = [Act(_judge(act, rng), act.start, act.stop) for act in trial.acts]
    labels = Trial(tuple(acts), trial.stim_frame).truth
    heard = labels.copy()
    for act in acts[1:]:
        shift = int(np.clip(round(rng.normal(0.3, 1.3)), -3, 3))
        shift = min(shift, act.stop - act.start - 1)
        if shift > 0:
            heard[act.start : act.start + shift] = labels[act.start - 1]
        elif shift < 0:
            heard[act.start + shift : act.start] = labels[act.start]
    return heard


def _judge(act: Act, rng: np.random.Generator) -> str:
    n_frames, doubt = act.stop - act.start, rng.random()
    if act.name == "flinch" and doubt < 0.25:
        return "rest" if doubt < 0.08 else "paw_withdraw"
    if act.name == "paw_guard" and doubt < 0.15:
        return "paw_withdraw"
    if act.name == "active" and n_frames < 25 and doubt < 0.12:
        return "rest"
    if act.name == "walk" and n_frames < 22 and doubt < 0.15:
        return "active"
    return act.name


def _write_trial(answer: tuple[str, ...], mood: float, animal: Animal, rng: np.random.Generator) -> Trial:
    """Idles, is touched while it rests, answers after a moment, idles again."""
    stim_frame = int(rng.integers(60, 170))
    acts: list[Act] = []
    _idle(acts, stim_frame - int(rng.integers(8, 30)), mood, rng)
    _add(acts, "rest", stim_frame + int(rng.integers(2, 9)))
    for name in answer:
        n_frames = _length(_LENGTHS_S[name], 1.0 if name == "rest" else np.sqrt(animal.vigour), rng)
        _add(acts, name, acts[-1].stop + n_frames)
    _add(acts, "rest", acts[-1].stop + int(rng.integers(4, 40)))
    _idle(acts, TRIAL_FRAMES, mood, rng)
    return Trial(tuple(_joined(acts)), stim_frame)


def _idle(acts: list[Act], stop: int, mood: float, rng: np.random.Generator) -> None:
    """Rest, with movement in between the more the livelier the mood."""
    at = acts[-1].stop if acts else 0
    while at < stop:
        resting = acts and acts[-1].name == "rest"
        if resting or rng.random() < 0.3 * mood:
            moves = rng.random() < 1.15 * mood
            name = ("active" if rng.random() < 0.68 else "walk") if moves else "rest"
        else:
            name = "rest"
        at += _length(_IDLE_LENGTHS_S[name], 1.0, rng)
        # No movement shorter than 12 frames is squeezed in before the border.
        _add(acts, name if min(at, stop) - (acts[-1].stop if acts else 0) >= 12 else "rest", min(at, stop))


def _add(acts: list[Act], name: str, stop: int) -> None:
    start = acts[-1].stop if acts else 0
    stop = min(stop, TRIAL_FRAMES)
    if stop > start:
        acts.append(Act(name, start, stop))


def _joined(acts: list[Act]) -> list[Act]:
    """Neighbours of one behaviour as one act."""
    joined = acts[:1]
    for act in acts[1:]:
        if act.name == joined[-1].name:
            joined[-1] = Act(act.name, joined[-1].start, act.stop)
        else:
            joined.append(act)
    return joined


def _length(law: tuple[float, float, float, float], scale: float, rng: np.random.Generator) -> int:
    """Frames: log-normal between the shortest and the longest."""
    median, spread, shortest, longest = law
    return round(FPS * float(np.clip(scale * median * np.exp(spread * rng.standard_normal()), shortest, longest)))
