"""Resume an episode: no environment can be saved inside one, but the same seed and actions lead to the same state."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from perilune import envs
from perilune._utils.arrays import Array
from perilune.agent.dqn import Agent
from perilune.errors import EnvironmentFaultError, PeriluneWarning, located
from perilune.training.evaluation import with_image
from perilune.training.events import Timestep
from perilune.training.progress import EpisodeState
from perilune.training.slots import EnvSlot


def replay_episode(agent: Agent, slot: EnvSlot, saved: EpisodeState) -> Iterator[Timestep]:
    """Play the saved episode again in ``slot`` up to where it was.

    The agent remembers it already. If the environment takes another way, warn and begin the episode again.

    Args:
        agent: as it was at the safe point.
        slot: its ``active`` environment plays; if it is ``recorded``, the time steps are yielded.
        saved: the episode at the safe point.

    Raises:
        EnvironmentFaultError: the environment raised, or broke the Gymnasium interface.
    """
    slot.episode = saved
    slot.obs, slot.episode_return = _reset(slot.active, saved), 0.0
    for step, action in enumerate(saved.actions):
        if slot.recorded:
            yield with_image(Timestep(saved.number, step, slot.obs, action, slot.episode_return), slot.active)
        try:
            slot.obs, reward, terminated, truncated = envs.step(slot.active, slot.sizes, action)
        except EnvironmentFaultError as error:
            raise located(error, f"at step {step + 1:,} of episode {saved.number:,}, played again to resume") from error
        slot.episode_return += reward
        if terminated or truncated:
            break
    if slot.obs.tolist() != list(saved.obs):
        warnings.warn(
            f"{envs.name(slot.env)} did not reach the same state from the same seed and actions. The run is resumed, "
            "but not exactly: either not everything in the environment follows from the seed of its reset, or it is "
            "another version.",
            PeriluneWarning,
            stacklevel=2,
        )
        agent.begin_episode(slot.index)
        slot.obs, slot.episode_return = _reset(slot.active, saved), 0.0
        saved.actions.clear()


def _reset(env: envs.Env, saved: EpisodeState) -> Array:
    try:
        return envs.reset(env, saved.seed)
    except EnvironmentFaultError as error:
        raise located(error, f"at the reset of episode {saved.number:,}, played again to resume") from error
