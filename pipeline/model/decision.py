"""From the probabilities of every frame to its behaviour: one bias and one cost of beginning for each class.

Axes: R trials, T frames, N classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

# A probability below this counts as this: no frame alone is so sure that no other may outweigh it.
LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is said of a trial's frames, float32. log_p_TN: see `log_probabilities`.

    log_begin_T: log-probability that a bout begins at the frame, none below log(LEAST); 0 of a model that does not say.
    """

    log_p_TN: np.ndarray
    log_begin_T: np.ndarray

    def __len__(self) -> int:
        return len(self.log_p_TN)


@dataclass(frozen=True)
class Decision:
    """bias (N): added to the log-probabilities. begin (N): what it costs to begin a bout of the class.

    boundary: a bout that begins at frame t costs so many times -log_begin_T[t] more, of whatever class: the less, the
    surer the network is of a boundary there.
    The labels are those of the largest sum of log-probabilities and biases less the costs of all changes (Viterbi 1967,
    https://doi.org/10.1109/TIT.1967.1054010, with the same cost from whatever class): a bout must be worth its begin,
    so a class that costs c has no bout whose frames' log-odds over those of its surroundings sum up to less than c.
    """

    bias: tuple[float, ...]
    begin: tuple[float, ...]
    boundary: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, to keep; without a boundary's weight of 0, as before there was one."""
        return {name: value for name, value in asdict(self).items() if name != "boundary" or value}

    def labels(self, trial: Evidence) -> np.ndarray:
        """Class ids (T,) int64 of one trial."""
        return self.labels_of([trial])[0]

    def labels_of(self, trials: Sequence[Evidence]) -> list[np.ndarray]:
        """Class ids of several trials; those of like lengths together, which is as many times as fast."""
        decided = [np.zeros(0, np.int64)] * len(trials)
        for alike in _of_like_length([len(trial) for trial in trials]):
            for i, ids_T in zip(alike, self._together([trials[i] for i in alike]), strict=True):
                decided[i] = ids_T
        return decided

    def _together(self, trials: Sequence[Evidence]) -> list[np.ndarray]:
        padded_RTN = np.zeros((len(trials), max(len(t) for t in trials), len(self.bias)), np.float32)
        dearer_RT = np.zeros(padded_RTN.shape[:2], np.float32)
        for padded_TN, dearer_T, trial in zip(padded_RTN, dearer_RT, trials, strict=True):
            log_p_TN = trial.log_p_TN
            speaks_T1 = (log_p_TN != 0).any(-1, keepdims=True)  # a damaged frame does not, nor does its bias
            padded_TN[: len(trial)] = log_p_TN + np.asarray(self.bias, np.float32) * speaks_T1
            dearer_T[: len(trial)] = -self.boundary * trial.log_begin_T
        lengths_R = np.array([len(t) for t in trials], np.int64)
        ids_RT = _best_path(padded_RTN, lengths_R, np.asarray(self.begin, np.float32), dearer_RT)
        return [ids_T[:n] for ids_T, n in zip(ids_RT, lengths_R, strict=True)]


def undecided(n_classes: int) -> Decision:
    """The arg-max of each frame alone."""
    return Decision((0.0,) * n_classes, (0.0,) * n_classes)


def evidence(logits_TN: np.ndarray, intact_T: np.ndarray, boundary_T: np.ndarray | None = None) -> Evidence:
    """Of what a network says. boundary: logits that a bout begins, None without a boundary head.

    A frame that is not intact says nothing of a boundary: it has the mean of the others.
    """
    log_begin_T = np.zeros(len(logits_TN), np.float32)
    if boundary_T is not None and intact_T.any():
        log_begin_T = np.maximum(-np.logaddexp(0, -boundary_T), np.log(LEAST)).astype(np.float32)
        log_begin_T = np.where(intact_T, log_begin_T, log_begin_T[intact_T].mean())
    return Evidence(log_probabilities(logits_TN, intact_T), log_begin_T)


def log_probabilities(logits_TN: np.ndarray, intact_T: np.ndarray) -> np.ndarray:
    """float32 (T,N), none below log(LEAST); 0 of a frame that is not intact, which then speaks for no class."""
    shifted_TN = logits_TN - logits_TN.max(-1, keepdims=True)
    log_p_TN = shifted_TN - np.log(np.exp(shifted_TN).sum(-1, keepdims=True))
    return np.where(intact_T[:, None], np.maximum(log_p_TN, np.log(LEAST)), 0.0).astype(np.float32)


def _of_like_length(lengths: Sequence[int]) -> list[list[int]]:
    """Indices in groups in which none is more than twice as long as another: they are padded to the longest."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if groups and lengths[i] <= 2 * lengths[groups[-1][0]]:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _best_path(score_RTN: np.ndarray, lengths_R: np.ndarray, begin_N: np.ndarray, dearer_RT: np.ndarray) -> np.ndarray:
    """Ids (R,T) of the best path through each trial's frames; behind its length they mean nothing.

    To begin a bout of class n at frame t costs begin_N[n] + dearer_RT[:, t].
    """
    R, T, N = score_RTN.shape
    trials_R = np.arange(R)
    before_RT, changes_RTN = np.zeros((R, T), np.int16), np.zeros((R, T, N), bool)
    total_RN = np.zeros((R, N))
    totals_at_end_RN = np.zeros((R, N))
    for t in range(T):
        best_R = total_RN.argmax(1)
        changed_RN = total_RN[trials_R, best_R][:, None] - begin_N - dearer_RT[:, t, None]
        changes_RTN[:, t], before_RT[:, t] = (changed_RN > total_RN) & (t > 0), best_R
        total_RN = (np.maximum(changed_RN, total_RN) if t else total_RN) + score_RTN[:, t]
        ends_R = lengths_R == t + 1
        totals_at_end_RN[ends_R] = total_RN[ends_R]
    ids_RT = np.zeros((R, T), np.int64)
    current_R = totals_at_end_RN.argmax(1)
    for t in range(T - 1, -1, -1):
        current_R = np.where(lengths_R == t + 1, totals_at_end_RN.argmax(1), current_R)
        ids_RT[:, t] = current_R
        current_R = np.where(changes_RTN[trials_R, t, current_R], before_RT[:, t], current_R)
    return ids_RT
