"""Tiny environments with known Q-values, and the transitions that a replay buffer must store from their episodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from perilune._utils.arrays import Array
from perilune._utils.seeding import TRAINING_SEEDS
from perilune.agent.config import DQNConfig


class RecordedStep(NamedTuple):
    """One step that the environment recorded, with its own copies of the arrays."""

    obs: Array
    action: int
    reward: float
    next_obs: Array
    terminated: bool
    truncated: bool


class World(gym.Env[Array, int], ABC):
    """Records the seed of every reset (``seeds``) and the steps after it (``recorded``, one list per reset).

    It fails on an action outside its space, on a step after an episode's end and on an endless episode. Real
    environments do not always check these. Subclasses define ``begin`` and ``move``.
    """

    def __init__(self, observation_size: int, actions: int, *, first_action: int = 0, draws: bool = False) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (observation_size,), np.float32)
        self.action_space: spaces.Discrete = spaces.Discrete(actions, start=first_action)
        self.render_mode = "rgb_array" if draws else None
        self.seeds: list[int | None] = []
        self.recorded: list[list[RecordedStep]] = []
        self.steps = 0
        self.over = True

    @abstractmethod
    def begin(self) -> Sequence[float]:
        """Return the first observation of an episode."""

    @abstractmethod
    def move(self, action: int) -> tuple[Sequence[float], float, bool, bool]:
        """Return observation, reward, terminated and truncated of the step number ``self.steps``, counted from 1."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.recorded.append([])
        self.steps, self.over = 0, False
        self.now = np.array(self.begin(), np.float32)
        return self.hand_out(self.now), {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        assert not self.over, "step after the end of the episode"
        assert self.steps < 10_000, "endless episode"
        assert self.action_space.contains(action), f"no such action: {action}"
        self.steps += 1
        values, reward, terminated, truncated = self.move(action)
        before, self.now = self.now, np.array(values, np.float32)
        self.over = terminated or truncated
        self.recorded[-1].append(RecordedStep(before, action, reward, self.now, terminated, truncated))
        return self.hand_out(self.now), reward, terminated, truncated, {}

    def hand_out(self, obs: Array) -> Array:
        """Return the array that the caller receives."""
        return obs.copy()

    def render(self) -> Array:
        """Return an image whose pixels all hold the number of the step."""
        return np.full((2, 3, 3), self.steps, np.uint8)

    def trained(self) -> list[list[RecordedStep]]:
        """Return the episodes of training and warm-up, without evaluation episodes."""
        return [
            steps
            for seed, steps in zip(self.seeds, self.recorded, strict=True)
            if seed is not None and seed < TRAINING_SEEDS and steps
        ]

    def scored(self) -> list[list[RecordedStep]]:
        """Return the episodes of evaluations."""
        return [
            steps
            for seed, steps in zip(self.seeds, self.recorded, strict=True)
            if seed is not None and seed >= TRAINING_SEEDS
        ]


class Numbered(World):
    """The observation is (number of the episode, number of the step), which identifies every step.

    Args:
        lengths: steps of the first, second, ... episode, repeated in a cycle; empty for endless episodes.
        ends: "terminated" or "truncated" for each episode, repeated in a cycle.
        reward: of a step, given the world and the action; by default different for every step and action.
        reuses_buffer: return the same array at every step, overwritten.
    """

    def __init__(
        self,
        lengths: Sequence[int] = (4,),
        ends: Sequence[str] = ("terminated",),
        *,
        reward: Callable[[Numbered, int], float] | None = None,
        actions: int = 3,
        first_action: int = 0,
        reuses_buffer: bool = False,
        draws: bool = False,
    ) -> None:
        super().__init__(2, actions, first_action=first_action, draws=draws)
        self.lengths, self.ends = lengths, ends
        self.reward = reward
        self.buffer = np.zeros(2, np.float32) if reuses_buffer else None

    def begin(self) -> Sequence[float]:
        return len(self.seeds), 0

    def move(self, action: int) -> tuple[Sequence[float], float, bool, bool]:
        number = len(self.seeds) - 1
        # Eighths and small whole numbers are exact in float32.
        reward = self.reward(self, action) if self.reward else 10 * number + self.steps + action / 8
        over = bool(self.lengths) and self.steps == self.lengths[number % len(self.lengths)]
        end = self.ends[number % len(self.ends)]
        return (number + 1, self.steps), reward, over and end == "terminated", over and end == "truncated"

    def hand_out(self, obs: Array) -> Array:
        if self.buffer is None:
            return obs.copy()
        self.buffer[:] = obs
        return self.buffer


class Timeless(World):
    """Constant observation and reward; every episode is truncated after ``length`` steps.

    Truncation does not end the return: Q = reward / (1 - gamma) for every action.
    """

    def __init__(self, reward: float, length: int) -> None:
        super().__init__(1, 2)
        self.reward, self.length = reward, length

    def begin(self) -> Sequence[float]:
        return (1,)

    def move(self, action: int) -> tuple[Sequence[float], float, bool, bool]:
        return (1,), self.reward, False, self.steps == self.length


class Countdown(World):
    """The observation is the one-hot number of steps left of ``length``; then the episode terminates.

    With k steps left, Q = reward (1 + gamma + ... + gamma^(k - 1)) for every action, unless ``last_only``: then only
    the last step has a reward, and Q = reward gamma^(k - 1).
    """

    def __init__(self, reward: float, length: int, *, last_only: bool = False) -> None:
        super().__init__(length, 2)
        self.reward, self.length, self.last_only = reward, length, last_only

    def shown(self) -> Sequence[float]:
        return [float(self.length - self.steps == left) for left in range(1, self.length + 1)]

    def begin(self) -> Sequence[float]:
        return self.shown()

    def move(self, action: int) -> tuple[Sequence[float], float, bool, bool]:
        last = self.steps == self.length
        return self.shown(), 0.0 if self.last_only and not last else self.reward, last, False


class Bandit(World):
    """One step per episode, with a context of -1 or 1 drawn from the seed and a reward per context and action.

    Q(context, action) is that reward.
    """

    def __init__(self, rewards: dict[int, Sequence[float]], *, first_action: int = 0) -> None:
        super().__init__(1, len(rewards[1]), first_action=first_action)
        self.rewards = rewards
        self.first_action = first_action

    def begin(self) -> Sequence[float]:
        self.context = int(self.np_random.choice((-1, 1)))
        return (self.context,)

    def move(self, action: int) -> tuple[Sequence[float], float, bool, bool]:
        return (self.context,), self.rewards[self.context][action - self.first_action], True, False


class Walk(World):
    """Left, stay or right on a line; the start is drawn from the seed, and each step costs the distance from 0.

    An episode depends on its seed and actions only, not on earlier episodes.
    """

    def __init__(self, length: int = 6, *, draws: bool = False) -> None:
        super().__init__(1, 3, draws=draws)
        self.length = length

    def begin(self) -> Sequence[float]:
        self.place = float(self.np_random.uniform(-1, 1))
        return (self.place,)

    def move(self, action: int) -> tuple[Sequence[float], float, bool, bool]:
        self.place += 0.3 * (action - 1) + float(self.np_random.normal(0, 0.05))
        return (self.place,), -abs(self.place), abs(self.place) > 1.5, self.steps == self.length


class Slot(Numbered):
    """A Numbered world for one environment slot. Adds 1,000 times its number to episode numbers and rewards."""

    def __init__(self, number: int, lengths: Sequence[int], ends: Sequence[str] = ("terminated",)) -> None:
        super().__init__(lengths, ends)
        self.thousands = 1_000 * number
        self.closed = False

    def begin(self) -> Sequence[float]:
        episode, step = super().begin()
        return self.thousands + episode, step

    def move(self, action: int) -> tuple[Sequence[float], float, bool, bool]:
        (episode, step), reward, terminated, truncated = super().move(action)
        return (self.thousands + episode, step), self.thousands + reward, terminated, truncated

    def close(self) -> None:
        self.closed = True


W = TypeVar("W", bound=World)


@contextmanager
def registered(world: Callable[[int], W]) -> Iterator[list[W]]:
    """Register World-v0 with Gymnasium. ``world(k)`` makes the k-th environment; the yielded list collects them."""
    made: list[W] = []

    def entry_point() -> W:
        made.append(world(len(made)))
        return made[-1]

    gym.register(id="World-v0", entry_point=entry_point)
    try:
        yield made
    finally:
        del gym.registry["World-v0"]


class Stored(NamedTuple):
    """A transition that a replay buffer must store."""

    obs: Array
    action: int
    reward: float
    discount: float
    next_obs: Array


def n_step(episode: Sequence[RecordedStep], n: int, gamma: float) -> list[Stored]:
    """Return the n-step transitions of a finished episode, by recursion on n.

    One step has reward, discount gamma (0 if it terminated) and next_obs. n steps are one step, then n - 1 steps from
    its next_obs.
    """

    def ahead(at: int, steps: int) -> tuple[float, float, Array]:
        step = episode[at]
        if step.terminated:
            return step.reward, 0.0, step.next_obs
        if steps == 1 or at == len(episode) - 1:
            return step.reward, gamma, step.next_obs
        reward, discount, last = ahead(at + 1, steps - 1)
        return step.reward + gamma * reward, gamma * discount, last

    return [Stored(step.obs, step.action, *ahead(at, n)) for at, step in enumerate(episode)]


def small(**settings: Any) -> DQNConfig:
    """Return settings for these worlds: a small network, a short warm-up, one-step returns."""
    defaults: dict[str, Any] = {
        "hidden": (8,),
        "layer_norm": False,
        "batch_size": 4,
        "buffer_size": 1_000,
        "learning_starts": 8,
        "n_step": 1,
        "epsilon_decay_steps": 50,
    }
    return DQNConfig(**defaults | settings)
