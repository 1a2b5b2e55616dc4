"""All that an agent is, as plain values and arrays, so that it can be written down and go on exactly where it was.

The replay's transitions are not among them: there may be gigabytes, so ``checkpoint`` writes what is new of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perilune._utils.arrays import Array, Arrays
from perilune._utils.seeding import GeneratorState, generator_state, set_generator_state
from perilune._utils.validation import Natural, Positive, check_fields
from perilune.agent.dqn import Agent, Lane
from perilune.errors import ConfigError, ShapeError
from perilune.replay.buffer import NStep
from perilune.replay.prioritized import Priorities


@dataclass(frozen=True, kw_only=True)
class PendingStep:
    """A step whose n-step return is not complete."""

    obs: tuple[float, ...]
    action: Natural
    reward: float

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class LaneState:
    """What the agent keeps of one environment's running episode."""

    action: Natural
    left: Natural
    pending: tuple[PendingStep, ...]

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class AgentState:
    """The values of an agent. ``greatest`` is that of its priorities, or None; ``added`` that of its replay."""

    env_steps: Natural
    updates: Natural
    episodes: Natural
    target_syncs: Natural
    optimizer_updates: Natural
    added: Natural
    greatest: Positive | None
    network: GeneratorState
    exploration: GeneratorState
    replay: GeneratorState
    environment: GeneratorState
    lanes: tuple[LaneState, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        if self.added > self.env_steps:
            raise ConfigError("added", self.added, f"at most env_steps = {self.env_steps}")


GENERATORS = ("network", "exploration", "replay", "environment")
COUNTERS = ("env_steps", "updates", "episodes", "target_syncs")


def arrays(agent: Agent) -> Arrays:
    """The agent's arrays by name, live: weights, the optimiser's moments, and the priorities of the slots in use."""
    named = {"online": agent.online.parameters, "target": agent.target.parameters}
    if agent.average is not None:
        named["average"] = agent.average.parameters
    named |= {f"optimizer.{name}": array for name, array in agent.optimizer.arrays.items()}
    if agent.priorities is not None:
        named["priorities"] = agent.priorities.tree.values[: len(agent.replay)]
    return named


def values(agent: Agent) -> AgentState:
    """The agent's values: counters, generators, and what is pending in its lanes."""
    return AgentState(
        **{name: getattr(agent, name) for name in COUNTERS},
        optimizer_updates=agent.optimizer.updates,
        added=agent.replay.added,
        greatest=None if agent.priorities is None else agent.priorities.greatest,
        network=generator_state(agent.generators.network),
        exploration=generator_state(agent.generators.exploration),
        replay=generator_state(agent.generators.replay),
        environment=generator_state(agent.generators.environment),
        lanes=tuple(
            LaneState(
                action=lane.action,
                left=lane.left,
                pending=tuple(
                    PendingStep(obs=tuple(obs.tolist()), action=action, reward=float(reward))
                    for obs, action, reward in lane.n_step.pending
                ),
            )
            for lane in agent.lanes
        ),
    )


def restore(agent: Agent, saved: AgentState, stored: Arrays) -> None:
    """Put an agent with the same settings into a state that was saved, but for the transitions of its replay.

    Raises:
        ConfigError, ShapeError: the state does not fit the agent's settings. The agent may be half changed then.
    """
    agent.replay.added = saved.added
    if (agent.priorities is None) != (saved.greatest is None):
        raise ConfigError("greatest", saved.greatest, "a number where the replay is prioritised, else null")
    fill(arrays(agent), stored)
    for name in COUNTERS:
        setattr(agent, name, getattr(saved, name))
    agent.optimizer.updates = saved.optimizer_updates
    if agent.priorities is not None and saved.greatest is not None:
        agent.priorities.greatest = saved.greatest
        _set_priorities(agent.priorities, stored["priorities"])
    for name in GENERATORS:
        set_generator_state(getattr(agent.generators, name), getattr(saved, name))
    agent.lanes = [_lane(agent, lane) for lane in saved.lanes]


def fill(arrays: Arrays, stored: Arrays) -> None:
    """Copy arrays that were read from a file, as many as it pleases, into those that they are meant for.

    Raises:
        ShapeError: there are others by name, shape or dtype.
    """
    if stored.keys() != arrays.keys():
        raise ShapeError(f"it has arrays {sorted(stored)}, but its settings ask for {sorted(arrays)}")
    for name, array in arrays.items():
        found = stored[name]
        if (found.shape, found.dtype) != (array.shape, array.dtype):
            raise ShapeError(
                f"{name} is {found.dtype}{list(found.shape)}, but must be {array.dtype}{list(array.shape)}"
            )
        array[...] = found


def _set_priorities(priorities: Priorities, stored: Array) -> None:
    if len(stored) and stored.min() <= 0:
        raise ConfigError("priorities", float(stored.min()), "numbers > 0")
    priorities.tree.set(np.arange(len(stored)), stored)


def _lane(agent: Agent, saved: LaneState) -> Lane:
    lane = Lane(NStep(agent.config.n_step, agent.config.gamma), saved.action, saved.left)
    if len(saved.pending) >= agent.config.n_step:
        raise ConfigError("pending", len(saved.pending), f"fewer than n_step = {agent.config.n_step}")
    for step in saved.pending:
        if len(step.obs) != agent.observation_size or step.action >= agent.actions:
            raise ConfigError("pending", (len(step.obs), step.action), "observations and actions of the environment")
        lane.n_step.pending.append((np.array(step.obs, np.float32), step.action, step.reward))
    if saved.action >= agent.actions or saved.left >= agent.config.max_action_repeat:
        raise ConfigError("lane", (saved.action, saved.left), "an action of the environment, and steps that it lasts")
    return lane
