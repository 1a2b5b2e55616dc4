"""Exploration: the multiplicative schedule of epsilon, and the duration of exploratory actions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perilune._utils.arrays import Array
from perilune.replay.buffer import NStep


@dataclass
class OngoingEpisode:
    """State of the current episode of one environment.

    Attributes:
        n_step: the time steps whose n-step return is not yet complete.
        action: the latest exploratory action.
        repeats_left: number of time steps for which to repeat the action.
    """

    n_step: NStep
    action: int = 0
    repeats_left: int = 0


def multiplicative_epsilon(start: float, floor: float, decay: float, count: int) -> float:
    """Return epsilon = max(floor, start decay^count).

    Args:
        start: first value, in [0, 1].
        floor: last value, in [0, 1].
        decay: factor, in (0, 1].
        count: number of episodes or updates so far.
    """
    return max(floor, start * decay**count)


def duration_thresholds(most: int) -> Array:
    """Return P(duration <= n) for n = 1 .. most, float [most], with P(duration = n) proportional to 1 / n^2.

    In many environments, single random actions cancel each other out. Repeated actions explore more.

    Args:
        most: the longest duration in time steps, >= 1.

    Dabney, Ostrovski and Barreto, Temporally-Extended epsilon-Greedy Exploration, arXiv:2006.01782, with mu = 2.
    """
    weights = 1 / np.arange(1, most + 1) ** 2.0
    thresholds: Array = np.cumsum(weights) / weights.sum()
    return thresholds


def duration(thresholds: Array, draw: float) -> int:
    """Return the duration of an exploratory action in time steps, >= 1.

    Args:
        thresholds: result of ``duration_thresholds``.
        draw: uniform random number in [0, 1).
    """
    return 1 + int(np.searchsorted(thresholds[:-1], draw, side="right"))
