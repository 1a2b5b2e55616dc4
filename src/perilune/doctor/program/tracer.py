"""The tracer environment: each observation and each reward is unique, so each value shows where it came from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.numbered_env import LARGEST_REWARD, PREPARED, Step, codes, state_numbers
from perilune.doctor.program.torch_hooks import callers

SHORT_EPISODES = 40  # after these, every second pair of episodes is long until the program learns
LONG = 150  # time steps of the first long episodes
LONGER_EVERY = 20  # episodes
TO_THE_LIMIT = 8  # every so many episodes reach the time limit, if the program compares with it
GOAL_EVERY, GOAL_REWARD = 8, 1.0  # so many terminations reach the goal of an environment that rewards nothing else
AGAIN = 5  # time steps from an end that the program ignores to the next one
PICTURE = (400, 600, 3)


class Call(NamedTuple):
    """A call of ``reset`` or ``step``.

    Attributes:
        env: Identifies the environment.
        lines: The running lines of the program, ``file:line``, the innermost first.
        reset: Whether it starts an episode.
        seed: Seed of the episode, or None.
        late: Whether it follows the end of an episode, without a reset.
    """

    env: int
    lines: tuple[str, ...]
    reset: bool
    seed: int | None = None
    late: bool = False


class Log:
    """The time steps of all environments of a program, to look up values in them.

    Attributes:
        steps: All time steps, of all environments.
        calls: All calls of ``reset`` and ``step``.
        first: Numbers of the states that ``reset`` returned.
        begun: Indices of the time steps that begin an episode.
        episodes: Number of episodes that began.
        plain: Number of time steps in environments that are not tracer environments.
        late: Number of time steps after the end of an episode, without a reset.
        size: Number of entries of an observation; for discrete observations, the number of states.
        actions: Number of actions.
        discrete: Whether observations are integers, or vectors that repeat. Then states have no unique numbers, but
            rewards are unique.
        vectors: Whether discrete observations are vectors.
        learning: Whether the program has updated its network. Until then, episodes become long after the first ones,
            because many programs wait for a number of transitions but run a number of episodes.
        compares: Whether the program compares with the time limit. Then only episodes of that length are truncated.
    """

    def __init__(self, on_step: Callable[[], object]) -> None:
        self.on_step = on_step
        self.steps: list[Step] = []
        self.calls: list[Call] = []
        self.first: set[int] = set()
        self.begun: set[int] = set()
        self.episodes = self.plain = self.late = 0
        self.size = self.actions = 0
        self.largest = 0  # discrete observation so far
        self.discrete = self.vectors = False
        self.learning = False
        self.compares: Callable[[int], bool] = lambda limit: False
        self.number = 0  # of the next state
        self.last = -1  # number of the state that an environment returned last
        self._changed: dict[bytes, int] = {}  # changed observations
        self._vectors: dict[bytes, int] = {}  # discrete observations that are vectors
        self._known = 0
        self._sorted = np.zeros(0)
        self._order = np.zeros(0, np.int64)

    @property
    def changes(self) -> bool:
        """Whether the program or its wrappers change the observations."""
        return bool(self._changed)

    def states(self, rows: Array) -> Array:
        """Return the numbers (N,) of the states whose observations are the rows (N, O), or -1.

        For discrete observations, the rows are one-hot, or (N, 1) integers.
        """
        rows = np.asarray(rows, np.float64)
        if self.vectors:
            return np.array([self._vectors.get(row.tobytes(), -1) for row in rows.astype(np.float32)], int)
        if self.discrete:
            return self._integers(rows)
        numbers = state_numbers(rows)
        numbers = np.where(numbers < self.number, numbers, -1)
        if self._changed:
            for row in np.flatnonzero(numbers < 0):
                numbers[row] = self._changed.get(rows[row].astype(np.float32).tobytes(), -1)
        return numbers

    def learn_size(self, array: Array) -> None:
        """Take the number of states, if it is unknown, from an array of one-hot observations."""
        if self.size > 1 or self.vectors or not self.discrete or array.ndim != 2:
            return
        if array.shape[1] in (1, self.actions) or len(array) < 2 or not ((array == 0) | (array == 1)).all():
            return
        if (array.sum(axis=1) == 1).all() and array.shape[1] > self.largest:
            self.size = array.shape[1]

    def numbered(self, obs: Array) -> int:
        """Return the number of a discrete observation."""
        if not self.vectors:
            self.largest = max(self.largest, int(obs))
            return int(obs)
        return self._vectors.setdefault(obs.astype(np.float32).tobytes(), len(self._vectors))

    def _integers(self, rows: Array) -> Array:
        if rows.shape[1] == 1:
            values = rows[:, 0]
            return np.where((values == np.round(values)) & (values >= 0) & (values < self.size), values, -1).astype(int)
        hot = (rows.shape[1] == self.size) & (rows == rows.max(axis=1, keepdims=True)).sum(axis=1) == 1
        return np.where(hot & ((rows != 0).sum(axis=1) == 1), rows.argmax(axis=1), -1)

    def by_reward(self, rewards: Array) -> Array:
        """Return the indices (N,) of the time steps with these rewards (N,), or -1. The goal's reward is not unique."""
        if self._known != len(self.steps):
            values = np.array([step.reward for step in self.steps])
            self._order = np.argsort(values)
            self._sorted, self._known = values[self._order], len(values)
        if not self._known:
            return np.full(len(rewards), -1)
        places = np.searchsorted(self._sorted, rewards)
        best = np.full(len(rewards), -1)
        for near in (np.clip(places - 1, 0, self._known - 1), np.clip(places, 0, self._known - 1)):
            close = np.abs(self._sorted[near] - rewards) < np.maximum(3e-7, 1.2e-7 * np.abs(rewards))
            best = np.where(close & (self._sorted[near] != GOAL_REWARD), self._order[near], best)
        return best

    def seen(self, result: Any) -> None:
        """Take what a call of ``step`` or ``reset`` returned to the program, after its wrappers."""
        many = isinstance(result, tuple)
        obs = result[0] if many and result else result
        if self.last < 0 or self.discrete or not isinstance(obs, np.ndarray) or obs.ndim == 0 or obs.size > 10_000:
            return
        if obs.dtype.kind == "f" and (
            obs.size != self.size or state_numbers(np.asarray(obs, np.float64).reshape(1, -1))[0] < 0
        ):
            self.change(obs, self.last)
        if (
            many
            and len(result) in (4, 5)
            and self.steps
            and self.steps[-1].after == self.last
            and np.ndim(result[2]) == 0
        ):
            self._see_step(result)

    def change(self, obs: Array, number: int) -> None:
        """Remember that the program or its wrappers change the observation of a state into ``obs``."""
        self._changed[obs.astype(np.float32).tobytes()] = number

    def _see_step(self, result: tuple[Any, ...]) -> None:
        last = self.steps[-1]
        reward, ended, truncated = float(result[1]), bool(result[2]), len(result) == 5 and bool(result[3])
        if len(result) == 4:
            truncated = ended and bool(result[3].get("TimeLimit.truncated")) if isinstance(result[3], dict) else False
            ended = ended and not truncated
        unique = reward not in (-1.0, 0.0, 1.0)
        seen = last._replace(reward=reward if unique else last.reward, terminated=ended, truncated=truncated)
        if seen != last:
            self.steps[-1] = seen
            self._known = 0


class TracerEnv(gymnasium.Env[Any, int]):
    """An environment with the spaces of another one, without its time limit.

    Attributes:
        log: Receives the time steps.
        number: Number of the current state, or -1 before the first reset.
        state: The current observation.
        original: The environment whose other attributes this one has, or None.
        info: What ``reset`` and ``step`` return as info: that of the original environment at the start of an episode,
            where masks allow all actions.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 30}  # noqa: RUF012 -- as Gymnasium declares it

    def __init__(
        self, log: Log, observation_space: Any, action_space: Any, spec: Any, original: Any, render_mode: str | None
    ) -> None:
        self.log, self.observation_space, self.action_space = log, observation_space, action_space
        self.spec, self.original, self.render_mode = spec, original, render_mode
        info: dict[str, Any] = {} if original is None else original.reset(seed=0)[1]
        self.info = {name: np.ones_like(one) if "mask" in name else one for name, one in info.items()}
        self.discrete = isinstance(observation_space, gymnasium.spaces.Discrete)
        self.limit = getattr(spec, "max_episode_steps", None)
        self.number = -1
        self.state: Any = None
        self._random = np.random.default_rng(0)
        self._prepared: list[tuple[int, Any, float]] = []  # the next numbers, observations and rewards, the last first
        self._reward = 0.0
        self._left = 0
        self._truncates = False
        self._seed: int | None = None  # of the next episode
        threshold = getattr(spec, "reward_threshold", None)
        self._goal = 0 < (threshold or 0.0) <= 1  # such as FrozenLake. Programs wait for the first success
        self._bias = min(threshold or 0.0, 0.0) / 4  # so that short episodes do not solve the task
        if not log.size:
            log.discrete = self.discrete
            log.size = int(observation_space.n) if self.discrete else observation_space.shape[0]
            log.actions = int(action_space.n)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "original" or self.original is None:
            raise AttributeError(name)
        return getattr(self.original.unwrapped, name)

    def begin(self, limited: bool, kept: Array | None = None) -> Any:
        """Start an episode.

        Args:
            limited: Whether the episode may be truncated.
            kept: The observation, or None for a unique one.
        """
        log = self.log
        log.on_step()
        self._advance(kept)
        log.calls.append(Call(id(self), tuple(callers()), True, self._seed))
        self._seed = None
        log.first.add(self.number)
        log.begun.add(len(log.steps))
        log.episodes += 1
        episode = log.episodes
        self._left = 4 + 3 * episode % 9
        if episode > SHORT_EPISODES and not log.learning and episode % 4 < 2:
            longest = LONG * (1 + (episode - SHORT_EPISODES) // LONGER_EVERY)
            self._left += min(longest, (self.limit or 1000) - 13)
        self._truncates = limited and episode % 2 == 0
        if limited and self.limit and log.compares(self.limit):
            self._truncates = episode % TO_THE_LIMIT == 0
            self._left = self.limit if self._truncates else min(self._left, self.limit - 1)
        return self.state

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode that is not truncated."""
        super().reset(seed=seed)
        self.seed(seed)
        return self.begin(limited=False), dict(self.info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance to another state."""
        taken = self.take(int(action))
        return self.state, taken.reward, taken.terminated, taken.truncated, dict(self.info)

    def take(self, action: int, terminated: bool = False, truncated: bool = False, kept: Array | None = None) -> Step:
        """Log a time step.

        Args:
            action: The action.
            terminated: Whether the episode is terminated in any case.
            truncated: Whether the episode is truncated in any case.
            kept: The next observation, or None for a unique one.
        """
        log, before = self.log, self.number
        late = self._left <= 0
        log.calls.append(Call(id(self), tuple(callers()), False, late=late))
        if late:  # as in other environments, the episode continues, and ends again
            log.late += 1
            self._left, self._truncates = AGAIN, False
        log.on_step()
        self._advance(kept)
        self._left = 0 if terminated or truncated else self._left - 1
        ended = self._left == 0 and not truncated
        terminated, truncated = terminated or (ended and not self._truncates), truncated or (ended and self._truncates)
        if terminated and self._goal and log.episodes % GOAL_EVERY == 1:
            self._reward = GOAL_REWARD
        log.steps.append(Step(before, action, self._reward, self.number, terminated, truncated))
        return log.steps[-1]

    def endless(self) -> None:
        """Do not end this episode."""
        self._left = sys.maxsize

    def _advance(self, kept: Array | None = None) -> None:
        if not self._prepared:
            numbers = self.log.number + np.arange(PREPARED)[::-1]
            self.log.number += PREPARED
            rewards = self._bias + LARGEST_REWARD * codes(5 * numbers + 1, 1)[:, 0]
            space: Any = self.observation_space
            if self.discrete:
                states = self._random.integers(int(space.n), size=PREPARED).tolist()
                self._prepared = [(s, int(space.start) + s, r) for s, r in zip(states, rewards.tolist(), strict=True)]
            else:
                obs = codes(numbers, space.shape[0]).astype(space.dtype)
                self._prepared = list(zip(numbers.tolist(), obs, rewards.tolist(), strict=True))
        self.number, state, self._reward = self._prepared.pop()
        self.state = state if self.discrete else state.copy()
        if kept is not None:
            self.number = self.log.numbered(kept)
        self.log.last = self.number

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Remember the seed. The values of the environment do not depend on it."""
        self._seed = self._seed if seed is None else seed
        return [seed]

    def render(self, *_: Any, **__: Any) -> Any:
        """Return a black picture, or None if a window would show it."""
        return None if self.render_mode == "human" else np.zeros(PICTURE, np.uint8)


class Limited(gymnasium.Wrapper[Any, int, Any, int]):
    """A tracer environment with a time limit."""

    env: TracerEnv

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "env":
            raise AttributeError(name)
        return self.env.limit if name == "_max_episode_steps" else getattr(self.env, name)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        gymnasium.Env.reset(self.env, seed=seed, options=options)
        self.env.seed(seed)
        return self.env.begin(limited=True), dict(self.env.info)


class Plain(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment that cannot be replaced. Its values are not unique."""

    def __init__(self, env: Any, log: Log) -> None:
        super().__init__(env)
        self.log = log

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "env":
            raise AttributeError(name)
        return getattr(self.env, name) if hasattr(self.env, name) else getattr(self.env.unwrapped, name)

    def step(self, action: Any) -> Any:
        """Take a time step."""
        self.log.plain += 1
        self.log.on_step()
        return self.env.step(action)


def replaceable(env: Any) -> bool:
    """Return whether a tracer environment can replace an environment."""
    space = env.observation_space
    vector = isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1 and space.dtype.kind == "f"
    return isinstance(env.action_space, gymnasium.spaces.Discrete) and (
        vector or isinstance(space, gymnasium.spaces.Discrete)
    )


def unobservable(env: Any) -> str:
    """Return why the transitions of an environment cannot be observed, or ""."""
    if not isinstance(env.action_space, gymnasium.spaces.Discrete):
        return f"its action space is {env.action_space}, but DQN chooses among a finite number of actions"
    shape = getattr(env.observation_space, "shape", None)
    return f"its observations have shape {shape}, but the doctor reads vectors" if shape and len(shape) > 1 else ""
