"""An environment that numbers its states, so that what an agent stores shows where it was taken from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

from perilune._utils.arrays import Array

UNIT = 1 / 64  # the difference between two states' numbers as they stand in obs
SHIFT = 1 / 128  # which keeps them off whole numbers, and both are exact in float32


@dataclass
class Step:
    """One step as it truly was: the numbers of the states before and after it."""

    before: int
    action: int
    reward: float
    after: int
    terminated: bool
    truncated: bool


@dataclass
class Diary:
    """What the environment saw of the agent that played in it."""

    steps: list[Step] = field(default_factory=list)
    first: set[int] = field(default_factory=set)  # the numbers of the states after a reset
    after_the_end: int = 0  # steps without a reset between


class Numbered(gymnasium.Env[Array, int]):
    """Every state has the next number, in every entry of obs with its own sign. Episodes of 4 to 12 steps end in turn
    by termination and by truncation. ``look`` is called before every step, from within the agent's own loop."""

    def __init__(self, size: int, actions: int, look: Callable[[Array], object]) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(actions)  # type: ignore[assignment]
        self.spec = gymnasium.envs.registration.EnvSpec("Numbered-v0", max_episode_steps=12)
        self.diary = Diary()
        self._look = look
        self._number = -1
        self._episode = 0
        self._left = 0
        self._signs = np.where(np.arange(size) % 2 == 0, 1.0, -1.0)

    def obs(self, number: int) -> Array:
        return (self._signs * (number * UNIT + SHIFT)).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self._number += 1
        self._episode += 1
        self._left = 4 + 3 * self._episode % 9
        self.diary.first.add(self._number)
        return self.obs(self._number), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        if self._left <= 0:
            self.diary.after_the_end += 1
        self._look(self.obs(self._number))
        before = self._number
        self._number += 1
        self._left -= 1
        ended = self._left == 0
        terminated, truncated = ended and self._episode % 2 == 0, ended and self._episode % 2 == 1
        reward = float(self._number % 7) / 4
        self.diary.steps.append(Step(before, int(action), reward, self._number, terminated, truncated))
        return self.obs(self._number), reward, terminated, truncated, {}


def number(obs: Array) -> Array:
    """The numbers of the states in obs[N, O], or -1 where they are of no state of a Numbered environment."""
    signs = np.where(np.arange(obs.shape[1]) % 2 == 0, 1.0, -1.0)
    numbers = (obs.astype(np.float64) * signs - SHIFT) / UNIT
    whole = np.round(numbers[:, 0])
    sound = (np.abs(numbers - whole[:, None]) < 1e-3).all(axis=1) & (whole >= 0)
    return np.where(sound, whole, -1).astype(int)
