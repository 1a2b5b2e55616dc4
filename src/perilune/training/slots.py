"""The environments of a training and their episodes: warm-up, beginning, replay of a saved episode, and reports."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from perilune import envs
from perilune._utils.arrays import Array
from perilune._utils.seeding import episode_seed
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.envs.known import lookup
from perilune.envs.rendering import drawing, frame
from perilune.errors import EnvironmentFaultError, MissingDependencyError, PeriluneWarning
from perilune.training.events import Ended, Episode, Evaluated, Event, SafePoint, Started, Timestep, WarmingUp
from perilune.training.progress import EpisodeState, TrainingProgress

WARMING_EVERY = 1_000  # steps between two WarmingUp events


class EnvSlot:
    """One of the environments that are played side by side, and its current episode.

    Attributes:
        index: which of them it is; the agent keeps one n-step accumulator for each.
        env: the environment.
        renderer: the same environment with images, or None if they are not wanted or not possible.
        active: ``env`` or ``renderer``: the one that plays the current episode.
        recorded: whether the current episode is recorded on video.
        episode: the current episode; in the warm-up its number is 0.
        obs: the current observation [O].
        episode_return: sum of the rewards of the current episode.
        outcome: how the current episode ended, if it has ended and outcomes are known.
    """

    def __init__(self, index: int, env: envs.Env, render: bool) -> None:
        self.index = index
        self.env = env
        self.renderer = drawing(env) if render else None
        self.known = lookup(envs.name(env))
        self.sizes = envs.space_sizes(env)
        self.active = env
        self.recorded = False
        self.episode = EpisodeState(number=0, seed=0, epsilon=1.0)
        self.obs: Array = np.empty(0, np.float32)
        self.episode_return = 0.0
        self.outcome: str | None = None

    def begin(self, episode: EpisodeState) -> None:
        """Reset the environment for ``episode``."""
        self.episode, self.episode_return, self.outcome = episode, 0.0, None
        self.obs = envs.reset(self.active, episode.seed)

    def choose_renderer(self, recorded: bool, first: bool = False) -> None:
        """Play the next episode with images only if they are needed, because rendering takes time."""
        self.recorded = recorded
        self.active = self.renderer if self.renderer is not None and (recorded or first) else self.env

    def timestep(self, action: int | None) -> Timestep:
        """Return the current state with its image."""
        number, step, image = self.episode.number, len(self.episode.actions), frame(self.active)
        return Timestep(number, step, self.obs, action, self.episode_return, self.outcome, image)

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

    def where(self, env_steps: int) -> str:
        """Return where the current episode is, for errors."""
        number, step = self.episode.number, len(self.episode.actions)
        episode = f"episode {number:,}" if number else "an episode in the warm-up"
        return f"at {f'step {step:,}' if step else 'the reset'} of {episode}, after {env_steps:,} environment steps"


def warm_up(agent: Agent, slot: EnvSlot, config: TrainConfig) -> Iterator[WarmingUp]:
    """Fill the replay buffer with uniformly random actions. The last episode is truncated; none is counted."""
    over = True
    while not agent.warm:
        if over:
            agent.begin_episode()
            slot.begin(EpisodeState(number=0, seed=episode_seed(agent.generators.environment), epsilon=1.0))
        action = agent.explore()
        slot.episode.actions.append(action)
        next_obs, reward, terminated, truncated = envs.step(slot.env, slot.sizes, action)
        stored = len(agent.replay) + len(agent.ongoing[0].n_step.pending) + 1
        truncated |= stored >= agent.config.learning_starts or len(slot.episode.actions) == config.max_episode_steps
        agent.remember(slot.obs, action, reward, next_obs, terminated, truncated)
        slot.obs, over = next_obs, terminated or truncated
        if agent.env_steps % WARMING_EVERY == 0:
            yield WarmingUp(agent.env_steps)


def begin_episode(agent: Agent, slot: EnvSlot, config: TrainConfig, progress: TrainingProgress) -> Iterator[Started]:
    """Reset the environment for the next episode; yield ``Started`` if it is the first of the training."""
    number, first = progress.next_episode, progress.next_episode == progress.start_episodes + 1
    progress.next_episode += 1
    slot.choose_renderer(progress.is_recorded(number, config), first)
    # Every reset is seeded, so that an evaluation or a video in between changes nothing in the training.
    agent.begin_episode(slot.index)
    slot.begin(EpisodeState(number=number, seed=episode_seed(agent.generators.environment), epsilon=agent.epsilon))
    if first:
        yield Started(None if slot.renderer is None else _initial_image(slot.renderer))
        if not slot.recorded:
            slot.active = slot.env


def replay_episode(agent: Agent, slot: EnvSlot, config: TrainConfig, progress: TrainingProgress) -> Iterator[Timestep]:
    """Play the saved episode again up to its safe point, and yield its time steps if it is recorded.

    The agent, which is as it was then, remembers them already. If the environment does not reach the same state, warn
    and begin the episode again.
    """
    saved = progress.episodes[slot.index]
    slot.choose_renderer(progress.is_recorded(saved.number, config))
    slot.begin(msgspec.structs.replace(saved, actions=[]))
    for action in saved.actions:
        if slot.recorded:
            yield slot.timestep(action)
        slot.episode.actions.append(action)
        slot.obs, reward, terminated, truncated = envs.step(slot.active, slot.sizes, action)
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
        slot.begin(msgspec.structs.replace(saved, actions=[]))


def safe_point(progress: TrainingProgress, slots: Sequence[EnvSlot], best: bool) -> SafePoint:
    """Return the event that the training can be saved, with the episodes under way in ``slots``."""
    for slot in slots:
        slot.episode.obs = tuple(slot.obs.tolist())
    progress.episodes = tuple(slot.episode for slot in slots)
    return SafePoint(progress, best)


def close(slots: Sequence[EnvSlot]) -> None:
    """Close every environment except the one that was given."""
    for slot in slots:
        for made in (slot.env, slot.renderer):
            if made is not None and made is not slots[0].env:
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


def _initial_image(env: envs.Env) -> Array | None:
    """Return an image of the state, or None with a warning: an optional image must not end a training."""
    try:
        return frame(env)
    except (MissingDependencyError, EnvironmentFaultError) as error:
        warnings.warn(f"no picture of the initial state: {error}", PeriluneWarning, stacklevel=2)
        return None
