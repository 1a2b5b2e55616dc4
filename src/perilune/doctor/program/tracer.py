"""The tracer environment: each observation and each reward is unique, so each value shows where it came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.numbered_env import NumberedEnv, state_numbers

SHORT_EPISODES = 40  # after these, episodes are long until the program learns
LONG = 150  # time steps of a long episode


class TracerEnv(NumberedEnv):
    """A NumberedEnv with the spaces of another environment.

    Attributes:
        learning: Whether the program has updated its network. Until then, episodes become long after the first ones,
            because many programs wait for a number of transitions but run a number of episodes.
    """

    def __init__(self, original: gymnasium.Env[Any, Any], on_step: Callable[[], object]) -> None:
        space = original.observation_space
        super().__init__(space.shape[0], int(original.action_space.n), lambda obs: on_step(), space)
        self.spec = original.spec
        self.learning = False
        self.on_reset: Callable[[], object] = lambda: None

    def reset(self, **options: Any) -> tuple[Array, dict[str, Any]]:
        """Start an episode."""
        self.on_reset()
        obs, info = super().reset(**options)
        if len(self.first) > SHORT_EPISODES and not self.learning:
            self._left += LONG
        return obs, info

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class Log:
    """The time steps of an environment, to look up values in them."""

    def __init__(self, env: TracerEnv) -> None:
        self.env = env
        self.size = env.observation_space.shape[0]
        self.actions = int(env.action_space.n)
        self._known = 0
        self._sorted = np.zeros(0)
        self._order = np.zeros(0, np.int64)

    def states(self, rows: Array) -> Array:
        """Return the numbers (N,) of the states whose observations are the rows (N, O), or -1."""
        return state_numbers(np.asarray(rows, np.float64))

    def by_reward(self, rewards: Array) -> Array:
        """Return the indices (N,) of the time steps with these rewards (N,), or -1."""
        if self._known != len(self.env.steps):
            values = np.array([step.reward for step in self.env.steps])
            self._order = np.argsort(values)
            self._sorted, self._known = values[self._order], len(values)
        if not self._known:
            return np.full(len(rewards), -1)
        places = np.searchsorted(self._sorted, rewards)
        best = np.full(len(rewards), -1)
        for near in (np.clip(places - 1, 0, self._known - 1), np.clip(places, 0, self._known - 1)):
            close = np.abs(self._sorted[near] - rewards) < 3e-7
            best = np.where(close, self._order[near], best)
        return best

    @property
    def steps(self) -> list[Any]:
        """The time steps of the environment."""
        return self.env.steps
