"""An environment with numbered states, so that each stored transition shows its time step."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.session import AgentCopy

COUNT = 2**18  # number of states; their codes are exact in float32
UNIT = 2 / COUNT  # difference between neighboring codes
LARGEST_REWARD = 1.5
PREPARED = 100  # states whose observations and rewards are computed at once
STORED_AT_ONCE = 500  # calls of remember that are timed together
DECODED_AT_ONCE = 2**16  # entries of observations


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
    """An environment whose states are numbered. Each entry of obs is a code of the number, between -1 and 1.

    Each time step has a different reward. Episodes last 4 to 12 time steps. Truncated and terminated episodes
    alternate. The environment calls ``on_step(obs)`` before each time step.

    Attributes:
        steps: All time steps so far.
        first: Numbers of the states that ``reset`` returned.
        late: Number of time steps after the end of an episode, without a reset.
        number: Number of the current state, or -1 before the first reset.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 30}  # noqa: RUF012 -- as Gymnasium declares it
    # Attributes of other environments that training loops read.
    x_threshold, theta_threshold_radians, _max_episode_steps = 1.0, 1.0, 12

    def __init__(
        self,
        size: int,
        actions: int,
        on_step: Callable[[Array], object] | None = None,
        observation_space: gymnasium.spaces.Box | None = None,
    ) -> None:
        self.observation_space = observation_space or gymnasium.spaces.Box(-1.0, 1.0, (size,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(actions)  # type: ignore[assignment]
        self.spec = gymnasium.envs.registration.EnvSpec("Numbered-v0", reward_threshold=1.0, max_episode_steps=12)
        self.render_mode = "rgb_array"
        self.steps: list[Step] = []
        self.first: set[int] = set()
        self.late = 0
        self.number = -1
        self._size = size
        self._obs = np.zeros(size, np.float32)
        self._reward = 0.0
        self._prepared: list[tuple[Array, float]] = []  # the next observations and rewards, the last one first
        self._on_step = on_step
        self._left = 0
        self._truncates = True  # how the next episode ends, even if the loop resets twice

    @property
    def state(self) -> Array:
        """Return the observation of the current state."""
        return self._obs.copy()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode in the state with the next number."""
        super().reset(seed=seed)
        self._advance()
        self.first.add(self.number)
        self._left = 4 + 3 * len(self.first) % 9
        return self.state, {}

    def step(self, action: int) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Advance to the state with the next number."""
        self.late += self._left <= 0
        if self._on_step is not None:
            self._on_step(self.state)
        self._advance()
        self._left -= 1
        ended = self._left == 0
        terminated, truncated = ended and not self._truncates, ended and self._truncates
        self._truncates ^= ended
        self.steps.append(Step(self.number - 1, int(action), self._reward, self.number, terminated, truncated))
        return self.state, self._reward, terminated, truncated, {}

    def _advance(self) -> None:
        self.number += 1
        if not self._prepared:
            numbers = self.number + np.arange(PREPARED)[::-1]
            rewards = LARGEST_REWARD * codes(5 * numbers + 1, 1)[:, 0]
            self._prepared = list(zip(codes(numbers, self._size).astype(np.float32), rewards.tolist(), strict=True))
        self._obs, self._reward = self._prepared.pop()

    def render(self) -> Array:
        """Return a black picture."""
        return np.zeros((64, 64, 3), np.uint8)


def declared_space(agent: AgentCopy) -> gymnasium.spaces.Box | None:
    """Return the observation space that the agent, or one of its attributes, declares, if its shape fits."""
    for owner in (agent.agent, *getattr(agent.agent, "__dict__", {}).values()):
        space = getattr(owner, "observation_space", None)
        if isinstance(space, gymnasium.spaces.Box) and space.shape == (agent.session.observation_size,):
            return space
    return None


def play(agent: AgentCopy, env: NumberedEnv, steps: int) -> None:
    """Take random actions for ``steps`` time steps, and pass the transitions to the agent's ``remember``."""
    obs = None

    def store(steps: int) -> None:
        nonlocal obs
        for action in env.np_random.integers(agent.session.actions, size=steps).tolist():
            if obs is None:
                obs, _ = env.reset()
            next_obs, reward, terminated, truncated, _ = env.step(action)
            agent.agent.remember(obs, action, reward, next_obs, terminated, truncated)
            obs = None if terminated or truncated else next_obs

    while steps > 0:
        agent.session.timed("remember", store, min(steps, STORED_AT_ONCE))
        steps -= STORED_AT_ONCE


@cache
def _factors(size: int) -> Array:
    return 2 * np.random.default_rng(0).integers(COUNT // 8, COUNT // 2, size=size) + 1


@cache
def _inverse(size: int) -> int:
    """Return the inverse of the factor of the first entry, modulo ``COUNT``."""
    return pow(int(_factors(size)[0]), -1, COUNT)


def codes(numbers: Array, size: int) -> Array:
    """Return the observations (N, size) of the states with these numbers (N,), in float64.

    Each entry is a different permutation of the numbers: multiplication by an odd factor modulo ``COUNT``.
    """
    return (numbers[:, None] * _factors(size) % COUNT + 0.5) * UNIT - 1


def state_numbers(obs: Array) -> Array:
    """Return the numbers (N,) of the states in obs (N, O), or -1 for rows that are not from a NumberedEnv."""
    size = obs.shape[1]
    first = np.fmax(np.fmin(obs[:, 0].astype(np.float64), 2), -2)  # 2 for NaN
    places = np.round((first + 1) / UNIT - 0.5).astype(np.int64)
    numbers = places * _inverse(size) % COUNT
    sound = (np.abs(obs - codes(numbers, size)) < 0.2 * UNIT).all(axis=1)
    return np.where(sound, numbers, -1)


class Decoder:
    """Decodes the observations of many calls at once: to decode each on its own takes longer than a time step."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Array, Array]] = []  # observations and the arrays for their numbers
        self._entries = 0

    def __call__(self, obs: Array) -> Array:
        """Return an array (N,) into which ``finish`` writes the numbers of the states in obs (N, O)."""
        numbers = np.full(len(obs), -1)
        self._waiting.append((np.array(obs, np.float64), numbers))
        self._entries += obs.size
        if self._entries > DECODED_AT_ONCE:
            self.finish()
        return numbers

    def finish(self) -> None:
        """Decode all observations so far."""
        if self._waiting:
            obs, arrays = zip(*self._waiting, strict=True)
            places = np.cumsum([len(numbers) for numbers in arrays])
            for numbers, found in zip(arrays, np.split(state_numbers(np.concatenate(obs)), places[:-1]), strict=True):
                numbers[:] = found
        self._waiting, self._entries = [], 0
