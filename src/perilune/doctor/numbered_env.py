"""An environment with numbered states, so that every stored transition shows which step it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from perilune._utils.arrays import Array

UNIT = 1 / 64  # difference between the observations of two consecutive states; exact in float32
SHIFT = 1 / 128  # keeps observations off whole numbers; exact in float32


class Step(NamedTuple):
    """One step of the environment; ``before`` and ``after`` are the numbers of its states."""

    before: int
    action: int
    reward: float
    after: int
    terminated: bool
    truncated: bool

    @property
    def ended(self) -> bool:
        return self.terminated or self.truncated


@dataclass
class Record:
    """Everything that happened in the environment.

    ``first``: states returned by ``reset``. ``late``: number of steps taken after an episode had ended.
    """

    steps: list[Step] = field(default_factory=list)
    first: set[int] = field(default_factory=set)
    late: int = 0


class NumberedEnv(gymnasium.Env[Array, int]):
    """Each new state has the next number, encoded in every entry of obs with alternating sign.

    Episodes last 4 to 12 steps and end by termination and by truncation in turn. ``on_step(obs)`` is called before
    every step, from within the agent's loop.
    """

    def __init__(self, size: int, actions: int, on_step: Callable[[Array], object]) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(actions)  # type: ignore[assignment]
        self.spec = gymnasium.envs.registration.EnvSpec("Numbered-v0", max_episode_steps=12)
        self.record = Record()
        self._on_step = on_step
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
        self.record.first.add(self._number)
        return self.obs(self._number), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        if self._left <= 0:
            self.record.late += 1
        self._on_step(self.obs(self._number))
        before = self._number
        self._number += 1
        self._left -= 1
        ended = self._left == 0
        terminated, truncated = ended and self._episode % 2 == 0, ended and self._episode % 2 == 1
        reward = float(self._number % 7) / 4
        self.record.steps.append(Step(before, int(action), reward, self._number, terminated, truncated))
        return self.obs(self._number), reward, terminated, truncated, {}


def state_numbers(obs: Array) -> Array:
    """Return the numbers of the states in obs (N, O), or -1 if obs is not a state of a NumberedEnv."""
    signs = np.where(np.arange(obs.shape[1]) % 2 == 0, 1.0, -1.0)
    numbers = (obs.astype(np.float64) * signs - SHIFT) / UNIT
    whole = np.round(numbers[:, 0])
    sound = (np.abs(numbers - whole[:, None]) < 1e-3).all(axis=1) & (whole >= 0)
    return np.where(sound, whole, -1).astype(int)
