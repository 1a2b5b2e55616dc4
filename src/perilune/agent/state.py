"""The complete state of an agent as plain values and arrays, to save it and restore it exactly."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from perilune._utils.arrays import Arrays
from perilune._utils.seeding import GeneratorState, generator_state, set_generator_state
from perilune._utils.validation import Natural, Positive
from perilune.agent.dqn import Agent
from perilune.agent.exploration import OngoingEpisode
from perilune.errors import ConfigError, ShapeError
from perilune.replay.buffer import NStep

GENERATORS = ("network", "exploration", "replay", "environment")
COUNTERS = ("env_steps", "updates", "episodes", "target_syncs")
AVERAGE = "average."  # prefix of the names of the averaged weights
REPLAY = "replay."  # prefix of the names of the replay buffer's arrays


PendingStep = tuple[tuple[float, ...], Natural, float]
"""A time step whose n-step return is not yet complete: obs[O], action and reward."""


class OngoingEpisodeState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State of the current episode of one environment."""

    action: Natural
    repeats_left: Natural
    pending: tuple[PendingStep, ...]


class AgentState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The state of an agent that is not in arrays.

    Attributes:
        env_steps: environment steps so far.
        updates: updates so far.
        episodes: episodes so far, without those of the warm-up.
        target_syncs: updates of the target network so far.
        optimizer_updates: steps of the optimizer so far.
        added: transitions added to the replay buffer so far.
        greatest: greatest priority so far, or None with uniform replay.
        network: state of the random generator of that name.
        exploration: state of the random generator of that name.
        replay: state of the random generator of that name.
        environment: state of the random generator of that name.
        ongoing: the current episode of each environment.
    """

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
    ongoing: tuple[OngoingEpisodeState, ...]

    def __post_init__(self) -> None:
        if self.added > self.env_steps:
            raise ConfigError("added", self.added, f"at most env_steps={self.env_steps}")


def arrays(agent: Agent) -> Arrays:
    """Return the arrays of an agent by name, without copies: weights, moments, priorities and transitions."""
    named = {"online": agent.online.parameters, "target": agent.target.parameters}
    if agent.average is not None:
        named["average"] = agent.average.parameters
    named |= {f"optimizer.{name}": array for name, array in agent.optimizer.arrays.items()}
    if agent.priorities is not None:
        named["priorities"] = agent.priorities.tree.values[: len(agent.replay)]
    if len(agent.replay):  # the buffer is allocated when it is first used
        rows = agent.replay.arrays._asdict().items()
        named |= {f"{REPLAY}{name}": array[: len(agent.replay)] for name, array in rows}
        if agent.rollout is not None:
            named[f"{REPLAY}trace"] = agent.rollout.trace[: len(agent.replay)]
    return named


def named_weights(agent: Agent) -> Arrays:
    """Return views of all learned weights by name: those of the online network, then those of the average."""
    weights = agent.online.named_parameters()
    if agent.average is not None:
        weights |= {f"{AVERAGE}{name}": view for name, view in agent.average.named_parameters().items()}
    return weights


def values(agent: Agent) -> AgentState:
    """Return the counters, generators and incomplete n-step returns of an agent."""
    counters: dict[str, Any] = {name: getattr(agent, name) for name in COUNTERS}
    generators: dict[str, Any] = {name: generator_state(getattr(agent.generators, name)) for name in GENERATORS}
    return AgentState(
        **counters,
        **generators,
        optimizer_updates=agent.optimizer.updates,
        added=agent.replay.added,
        greatest=None if agent.priorities is None else agent.priorities.greatest,
        ongoing=tuple(
            OngoingEpisodeState(
                action=episode.action,
                repeats_left=episode.repeats_left,
                pending=tuple((tuple(obs.tolist()), action, float(r)) for obs, action, r in episode.n_step.pending),
            )
            for episode in agent.ongoing
        ),
    )


def restore(agent: Agent, saved: AgentState, stored: Arrays) -> None:
    """Restore a saved state. The agent must have the settings of the saved one.

    Raises:
        ConfigError, ShapeError: the state does not fit the settings. The agent may then be partly restored.
    """
    if (agent.priorities is None) != (saved.greatest is None):
        raise ConfigError("greatest", saved.greatest, "a number with prioritized replay, else None")
    agent.replay.added = saved.added
    fill(arrays(agent), stored)
    _check_replay(agent, stored)
    for name in COUNTERS:
        setattr(agent, name, getattr(saved, name))
    agent.optimizer.updates = saved.optimizer_updates
    if agent.priorities is not None and saved.greatest is not None:
        agent.priorities.greatest = saved.greatest
        agent.priorities.tree.set(np.arange(len(agent.replay)), stored["priorities"])
    for name in GENERATORS:
        set_generator_state(getattr(agent.generators, name), getattr(saved, name))
    agent.ongoing = [_ongoing(agent, episode) for episode in saved.ongoing]


def fill(arrays: Arrays, stored: Arrays) -> None:
    """Copy arrays from a file into the arrays of the same names.

    Raises:
        ShapeError: the names, shapes or dtypes differ.
    """
    if stored.keys() != arrays.keys():
        raise ShapeError(f"its arrays are {sorted(stored)}: expected {sorted(arrays)}, as its settings require")
    for name, array in arrays.items():
        found = stored[name]
        if (found.shape, found.dtype) != (array.shape, array.dtype):
            raise ShapeError(f"{name} is {found.dtype}{list(found.shape)}: expected {array.dtype}{list(array.shape)}")
    for name, array in arrays.items():
        array[...] = stored[name]


def _check_replay(agent: Agent, stored: Arrays) -> None:
    if not len(agent.replay):
        return
    action, discount = stored[f"{REPLAY}action"], stored[f"{REPLAY}discount"]
    if action.min() < 0 or action.max() >= agent.actions:
        raise ConfigError("replay.action", int(action.max()), f"actions from 0 to {agent.actions - 1}")
    if discount.min() < 0 or discount.max() > 1:
        raise ConfigError("replay.discount", float(discount.max()), "discounts from 0 to 1")
    if "priorities" in stored and stored["priorities"].min() <= 0:
        raise ConfigError("priorities", float(stored["priorities"].min()), "numbers > 0")


def _ongoing(agent: Agent, saved: OngoingEpisodeState) -> OngoingEpisode:
    ongoing = OngoingEpisode(NStep(agent.config.n_step, agent.config.gamma), saved.action, saved.repeats_left)
    if len(saved.pending) >= agent.config.n_step:
        raise ConfigError("pending", len(saved.pending), f"fewer than n_step={agent.config.n_step} steps")
    for obs, action, reward in saved.pending:
        if len(obs) != agent.observation_size or action >= agent.actions:
            raise ConfigError("pending", (len(obs), action), "observations and actions of the environment")
        ongoing.n_step.pending.append((np.array(obs, np.float32), action, reward))
    if saved.action >= agent.actions or saved.repeats_left >= agent.config.max_action_repeat:
        raise ConfigError(
            "action", (saved.action, saved.repeats_left), "an action of the environment and its remaining steps"
        )
    return ongoing
