"""The environments of a training and their episodes: how they are made, begin, are reported and are closed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from perilune import envs
from perilune._utils.arrays import Array
from perilune._utils.seeding import episode_seed
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.envs.known import KnownEnv, lookup
from perilune.envs.rendering import drawing, frame
from perilune.errors import EnvironmentFaultError, MissingDependencyError, PeriluneWarning, located
from perilune.training.evaluation import with_image
from perilune.training.events import Ended, Episode, Evaluated, Event, SafePoint, Started, Timestep
from perilune.training.progress import EpisodeState, TrainingProgress


@dataclass
class EnvSlot:
    """One of the environments that are played side by side, and its current episode.

    Attributes:
        index: which of them it is; the agent keeps one n-step accumulator for each.
        env: the environment.
        renderer: the same environment with images, or None if they are not wanted or not possible.
        known: what is known about the environment.
        sizes: its observation size and actions.
        active: ``env`` or ``renderer``: the one that plays the current episode.
        recorded: whether the current episode is recorded on video.
        episode: the current episode.
        obs: the current observation [O].
        episode_return: sum of the rewards of the current episode.
        outcome: how the current episode ended, if it has ended and outcomes are known.
    """

    index: int
    env: envs.Env
    renderer: envs.Env | None
    known: KnownEnv
    sizes: envs.Spaces
    active: envs.Env
    episode: EpisodeState
    obs: Array
    recorded: bool = False
    episode_return: float = 0.0
    outcome: str | None = None

    def choose_renderer(self, recorded: bool, first: bool = False) -> None:
        """Play the next episode with images only if they are needed, because rendering takes time."""
        self.recorded = recorded
        self.active = self.renderer if self.renderer is not None and (recorded or first) else self.env

    def timestep(self, action: int | None) -> Timestep:
        """Return the current state with its image."""
        number, step = self.episode.number, len(self.episode.actions)
        return with_image(Timestep(number, step, self.obs, action, self.episode_return, self.outcome), self.active)

    def result(self, agent: Agent, ended: Ended) -> Episode:
        """Return the event that the current episode has ended."""
        episode = self.episode
        return Episode(
            episode=episode.number,
            env_steps=agent.env_steps,
            reward=self.episode_return,
            length=len(episode.actions),
            loss=episode.loss_sum / episode.updates if episode.updates else None,
            epsilon=episode.epsilon,
            target_syncs=agent.target_syncs,
            ended=ended,
            outcome=self.outcome,
        )

    def where(self, env_step: int) -> str:
        """Return where the current episode is, for errors."""
        episode = self.episode
        return f"at step {len(episode.actions):,} of episode {episode.number:,}, environment step {env_step:,}"


def make_slot(index: int, env: envs.Env, render: bool) -> EnvSlot:
    """Return a slot for ``env``, with a renderer if it is wanted and possible."""
    return EnvSlot(
        index=index,
        env=env,
        renderer=drawing(env) if render else None,
        known=lookup(envs.name(env)),
        sizes=envs.space_sizes(env),
        active=env,
        episode=EpisodeState(number=1, seed=0, epsilon=1.0),  # until the first episode begins
        obs=np.empty(0, np.float32),
    )


def begin_episode(agent: Agent, slot: EnvSlot, config: TrainConfig, progress: TrainingProgress) -> Iterator[Started]:
    """Reset the environment for the next episode; yield ``Started`` if it is the first of the training."""
    number, first = progress.next_episode, progress.next_episode == progress.start_episodes + 1
    progress.next_episode += 1
    slot.choose_renderer(progress.is_recorded(number, config), first)
    # Every reset is seeded, so that an evaluation or a video in between changes nothing in the training.
    agent.begin_episode(slot.index)
    seed = episode_seed(agent.generators.environment)
    try:
        slot.obs = envs.reset(slot.active, seed)
    except EnvironmentFaultError as error:
        where = f"at the reset of episode {number:,}, after environment step {agent.env_steps:,}"
        raise located(error, where) from error
    slot.episode = EpisodeState(number=number, seed=seed, epsilon=agent.epsilon)
    slot.episode_return, slot.outcome = 0.0, None
    if first:
        yield Started(None if slot.renderer is None else _initial_image(slot.renderer))
        if not slot.recorded:
            slot.active = slot.env


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


def safe_point(progress: TrainingProgress, slots: Sequence[EnvSlot], best: bool) -> SafePoint:
    """Return the event that the training can be saved, with the episodes under way in ``slots``."""
    for slot in slots:
        slot.episode.obs = tuple(slot.obs.tolist())
    progress.episodes = tuple(slot.episode for slot in slots)
    return SafePoint(progress, best)


def _initial_image(env: envs.Env) -> Array | None:
    """Return an image of the state, or None with a warning: an optional image must not end a training."""
    try:
        return frame(env)
    except (MissingDependencyError, EnvironmentFaultError) as error:
        warnings.warn(f"no picture of the initial state: {error}", PeriluneWarning, stacklevel=2)
        return None


def closing(slots: list[EnvSlot], events: Iterator[Event]) -> Iterator[Event]:
    """Yield the same events, then close every environment except the one that was given."""
    given = slots[0].env
    try:
        yield from events
    finally:
        for slot in slots:
            for made in (slot.env, slot.renderer):
                if made is not None and made is not given:
                    envs.close(made)


def timed(progress: TrainingProgress, events: Iterator[Event]) -> Iterator[Event]:
    """Yield the same events and count the seconds that the training takes, without readers and evaluations."""
    while True:
        started = time.perf_counter()
        event = next(events, None)
        if event is None:
            return
        if not isinstance(event, Evaluated):  # directly before it, there is nothing but the evaluation
            progress.seconds += time.perf_counter() - started
        yield event
