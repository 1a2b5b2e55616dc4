"""How far a training is, beside its agent: what changes while it goes on, and the same in plain values to be saved."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from perilune import envs
from perilune._utils.arrays import Array
from perilune._utils.validation import Count, Natural, NonNegative, Share, check_fields
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent


@dataclass(frozen=True, kw_only=True)
class FlightState:
    """An episode under way: its number, what it was reset with, and every action since. ``obs`` is where that led."""

    number: Count
    seed: Natural
    epsilon: Share
    losses: NonNegative
    updates: Natural
    actions: tuple[Natural, ...]
    obs: tuple[float, ...]

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """What a training is beside its agent, in plain values.

    ``start_steps`` and ``start_episodes`` are the agent's counters where its budget began, ``number`` is that of the
    next episode to begin, ``looked`` the environment steps when it was last seen whether an evaluation is due,
    ``greatest_reward`` the greatest size of a reward so far.
    """

    start_steps: Natural
    start_episodes: Natural
    number: Count
    looked: Natural
    best: float | None
    seconds: NonNegative
    greatest_reward: NonNegative
    noticed: tuple[str, ...]
    over: bool
    flights: tuple[FlightState, ...]

    def __post_init__(self) -> None:
        check_fields(self)


def beginning(agent: Agent) -> TrainingState:
    """Where a training begins whose budget counts from now."""
    return TrainingState(
        start_steps=agent.env_steps,
        start_episodes=agent.episodes,
        number=agent.episodes + 1,
        looked=agent.env_steps,
        best=None,
        seconds=0.0,
        greatest_reward=0.0,
        noticed=(),
        over=False,
        flights=(),
    )


@dataclass
class Flight:
    """An episode under way. ``losses`` and ``updates`` are the sum and number of all updates' since it began."""

    env: envs.Env
    spaces: envs.Spaces
    number: int
    filmed: bool
    seed: int
    epsilon: float
    obs: Array
    actions: list[int]
    reward: float = 0.0
    losses: float = 0.0
    updates: int = 0
    outcome: str | None = None

    @property
    def length(self) -> int:
        """Steps so far."""
        return len(self.actions)

    def state(self) -> FlightState:
        """All that is needed to be here again."""
        return FlightState(
            number=self.number,
            seed=self.seed,
            epsilon=self.epsilon,
            losses=self.losses,
            updates=self.updates,
            actions=tuple(self.actions),
            obs=tuple(self.obs.tolist()),
        )


@dataclass
class Course:
    """A training under way: what ``TrainingState`` says of it, changing."""

    start_steps: int
    start_episodes: int
    number: int
    looked: int
    best: float | None
    seconds: float
    greatest_reward: float
    noticed: tuple[str, ...]
    over: bool
    flights: list[Flight]

    def state(self) -> TrainingState:
        """As it is now, in plain values."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return TrainingState(**plain | {"flights": tuple(flight.state() for flight in self.flights)})

    def next_number(self) -> int:
        """The number of an episode that begins now."""
        self.number += 1
        return self.number - 1

    @property
    def first(self) -> int:
        """The number of the first episode."""
        return self.start_episodes + 1


def stop_step(config: TrainConfig, start_steps: int) -> float:
    """The environment step at which the budget ends."""
    return math.inf if config.steps is None else start_steps + config.steps


def stop_episode(config: TrainConfig, start_episodes: int) -> float:
    """The number of episodes with which the budget ends."""
    return math.inf if config.episodes is None else start_episodes + config.episodes
