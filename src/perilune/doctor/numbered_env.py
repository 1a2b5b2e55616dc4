"""An environment with numbered states, so that each stored transition shows its time step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.session import AgentCopy

UNIT = 1 / 64  # difference between the observations of two consecutive states; exact in float32
SHIFT = 1 / 128  # so that no observation is a whole number; exact in float32


class Step(NamedTuple):
    """One time step, from the state numbered ``before`` to the state numbered ``after``."""

    before: int
    action: int
    reward: float
    after: int
    terminated: bool
    truncated: bool

    @property
    def ended(self) -> bool:
        """Whether the episode ended."""
        return self.terminated or self.truncated


class NumberedEnv(gymnasium.Env[Array, int]):
    """An environment whose states are numbered. Each entry of obs encodes the number, with alternating signs.

    Episodes last 4 to 12 time steps. Truncated and terminated episodes alternate. The environment calls
    ``on_step(obs)`` before each time step.

    Attributes:
        steps: All time steps so far.
        first: Numbers of the states that ``reset`` returned.
        late: Number of time steps after the end of an episode, without a reset.
    """

    def __init__(self, size: int, actions: int, on_step: Callable[[Array], object] = lambda obs: None) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(actions)  # type: ignore[assignment]
        self.spec = gymnasium.envs.registration.EnvSpec("Numbered-v0", max_episode_steps=12)
        self.steps: list[Step] = []
        self.first: set[int] = set()
        self.late = 0
        self._on_step = on_step
        self._number = -1
        self._left = 0
        self._signs = np.where(np.arange(size) % 2 == 0, 1.0, -1.0)

    def obs(self) -> Array:
        """Return the observation of the current state."""
        return (self._signs * (self._number * UNIT + SHIFT)).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode in the state with the next number."""
        super().reset(seed=seed)
        self._number += 1
        self.first.add(self._number)
        self._left = 4 + 3 * len(self.first) % 9
        return self.obs(), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Advance to the state with the next number."""
        self.late += self._left <= 0
        self._on_step(self.obs())
        self._number += 1
        self._left -= 1
        ended, odd = self._left == 0, len(self.first) % 2 == 1
        reward = float(self._number % 7) / 4
        terminated, truncated = ended and not odd, ended and odd
        self.steps.append(Step(self._number - 1, int(action), reward, self._number, terminated, truncated))
        return self.obs(), reward, terminated, truncated, {}


def play(agent: AgentCopy, env: NumberedEnv, steps: int) -> None:
    """Take random actions for ``steps`` time steps, and pass the transitions to the agent's ``remember``."""
    obs = None
    for _ in range(steps):
        if obs is None:
            obs, _ = env.reset()
        action = int(env.np_random.integers(agent.session.actions))
        next_obs, reward, terminated, truncated, _ = env.step(action)
        agent.call("remember", obs, action, reward, next_obs, terminated, truncated)
        obs = None if terminated or truncated else next_obs


def state_numbers(obs: Array) -> Array:
    """Return the numbers (N,) of the states in obs (N, O), or -1 for rows that are not from a NumberedEnv."""
    signs = np.where(np.arange(obs.shape[1]) % 2 == 0, 1.0, -1.0)
    numbers = (obs.astype(np.float64) * signs - SHIFT) / UNIT
    whole = np.round(numbers[:, 0])
    sound = (np.abs(numbers - whole[:, None]) < 1e-3).all(axis=1) & (whole >= 0)
    return np.where(sound, whole, -1).astype(int)
