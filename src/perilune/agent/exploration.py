"""Exploration: a multiplicative schedule of epsilon, and how long exploratory actions last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perilune._utils.arrays import Array
from perilune.replay.buffer import NStep


@dataclass
class OngoingEpisode:
    """What the agent keeps about the current episode in one environment.

    Attributes:
        n_step: the steps whose n-step return is not complete.
        action: the latest exploratory action.
        repeats_left: how many more steps that action lasts.
    """

    n_step: NStep
    action: int = 0
    repeats_left: int = 0


def multiplicative_epsilon(start: float, floor: float, decay: float, count: int) -> float:
    """Return epsilon = max(floor, start decay^count).

    Args:
        start, floor: first and last value, in [0, 1].
        decay: factor per count, in (0, 1].
        count: episodes (or updates) so far.
    """
    return max(floor, start * decay**count)


def duration_thresholds(most: int) -> Array:
    """Return P(duration <= n) for n = 1 .. most, with P(duration = n) proportional to 1 / n^2.

    Single random steps cancel out in many environments, such as the engines of a lander; some actions have to last.
    Dabney, Ostrovski and Barreto, Temporally-Extended epsilon-Greedy Exploration, arXiv:2006.01782, with mu = 2.
    """
    weights = 1 / np.arange(1, most + 1) ** 2.0
    thresholds: Array = np.cumsum(weights) / weights.sum()
    return thresholds


def duration(thresholds: Array, draw: float) -> int:
    """Return how many steps an exploratory action lasts, >= 1, for a uniform ``draw`` in [0, 1)."""
    return 1 + int(np.searchsorted(thresholds[:-1], draw, side="right"))
