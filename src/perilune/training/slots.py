"""Environment slots and their episodes: warm-up, beginning, replay of a saved episode, and events."""

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
from perilune.envs import workers
from perilune.envs.known import lookup
from perilune.envs.pool import members, send
from perilune.envs.rendering import drawing, frame
from perilune.errors import EnvironmentFaultError, MissingDependencyError, PeriluneWarning
from perilune.training.events import Ended, Episode, Evaluated, Event, SafePoint, Started, Timestep, WarmingUp
from perilune.training.progress import MOST_CHECKED, EpisodeState, TrainingProgress

WARMING_EVERY = 1_000  # steps between two WarmingUp events


class EnvSlot:
    """One of the environments that are played side by side, and its current episode.

    Attributes:
        index: number of the slot. The agent has one n-step accumulator per slot.
        env: the environment.
        renderer: the same environment with images, or None. For a member of a pool or of a worker process, a different
            environment.
        active: ``env`` or ``renderer``, the one that plays the current episode.
        recorded: whether the current episode is recorded on video.
        episode: the current episode. In the warm-up, its number is 0.
        obs: the current observation [O].
        episode_return: sum of the rewards so far.
        outcome: how the current episode ended, if it has ended and outcomes are known.
        statistics: running statistics of the wrappers before the current episode.
    """

    def __init__(self, index: int, env: envs.Env, renderer: envs.Env | None) -> None:
        self.index = index
        self.env = env
        self.renderer = renderer
        self.known = lookup(envs.name(env))
        self.sizes = envs.space_sizes(env)
        self.active = env
        self.recorded = False
        self.episode = EpisodeState(number=0, seed=0, epsilon=1.0)
        self.obs: Array = np.empty(0, np.float32)
        self.episode_return = 0.0
        self.outcome: str | None = None
        self.statistics: envs.Statistics = ()

    def begin(self, episode: EpisodeState) -> None:
        """Reset the environment for ``episode``."""
        self.episode, self.episode_return, self.outcome = episode, 0.0, None
        self.statistics = envs.read_statistics(self.env)
        self.obs = envs.reset(self.active, episode.seed)
        episode.checksum = envs.checksum(0, self.obs, 0.0, False, False)

    def step(self, action: int) -> tuple[Array, float, bool, bool]:
        """Take one time step that is not trained on, and return next_obs, float32 [O], reward, and both flags."""
        episode = self.episode
        episode.actions.append(action)
        send([self.active], [action])
        next_obs, reward, terminated, truncated = envs.step(self.active, self.sizes, action)
        self.episode_return += reward
        if len(episode.actions) <= MOST_CHECKED:
            episode.checksum = envs.checksum(episode.checksum, next_obs, reward, terminated, truncated)
        return next_obs, reward, terminated, truncated

    def choose_renderer(self, recorded: bool, first: bool = False) -> None:
        """Select whether to render the next episode. Rendering is slow, so do it only if necessary."""
        self.recorded = recorded
        self.active = self.renderer if self.renderer is not None and (recorded or first) else self.env

    def timestep(self, action: int | None) -> Timestep:
        """Return the current state with its image."""
        number, step, image = self.episode.number, len(self.episode.actions), frame(self.active)
        return Timestep(number, step, self.obs, action, self.episode_return, self.outcome, image)

    def result(self, agent: Agent, ended: Ended) -> Episode:
        """Return the event for the end of the current episode."""
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
        """Return the current episode and step as text, for error messages."""
        number, step = self.episode.number, len(self.episode.actions)
        episode = f"episode {number:,}" if number else "an episode in the warm-up"
        return f"{f'step {step:,}' if step else 'reset'} of {episode}, after {env_steps:,} environment steps"


def plays_apart(config: TrainConfig) -> bool:
    """Return whether no slot plays the environment that the caller passed."""
    return config.envpool or config.workers > 1


def send_actions(slots: Sequence[EnvSlot], actions: Sequence[int]) -> None:
    """Begin the time steps of environments that step together or in other processes."""
    send([slot.active for slot in slots], actions)
    workers.send([slot.active for slot in slots], actions)


def make_slots(agent: Agent, env: envs.Env, config: TrainConfig) -> list[EnvSlot]:
    """Return a slot for each environment. The first one has ``env`` itself, except with EnvPool and with workers."""
    played: Sequence[envs.Env]
    if config.envpool:
        played = members(env, [episode_seed(agent.generators.environment) for _ in range(config.num_envs)])
    elif config.workers > 1:
        played = workers.members(env, config.num_envs, config.workers)
    else:
        played = [env, *(envs.again(env) for _ in range(1, config.num_envs))]

    def renderer(index: int) -> envs.Env | None:
        if index and not config.video_every:
            return None
        return drawing(envs.again(env) if plays_apart(config) else played[index])

    return [EnvSlot(index, one, renderer(index)) for index, one in enumerate(played)]


def warm_up(agent: Agent, slot: EnvSlot, config: TrainConfig, progress: TrainingProgress) -> Iterator[WarmingUp]:
    """Fill the replay buffer by playing random actions. Truncate the last episode. These episodes are not counted."""
    over = True
    while not agent.warm:
        if over:
            agent.begin_episode()
            slot.begin(EpisodeState(number=0, seed=episode_seed(agent.generators.environment), epsilon=1.0))
        action = agent.explore()
        next_obs, reward, terminated, truncated = slot.step(action)
        stored = len(agent.replay) + len(agent.ongoing[0].n_step.pending) + 1
        truncated |= stored >= agent.config.learning_starts or len(slot.episode.actions) == config.max_episode_steps
        agent.remember(slot.obs, action, reward, next_obs, terminated, truncated)
        slot.obs, over = next_obs, terminated or truncated
        if over:
            progress.remember(slot.episode, slot.statistics)
        if agent.env_steps % WARMING_EVERY == 0:
            yield WarmingUp(agent.env_steps)


def begin_episode(agent: Agent, slot: EnvSlot, config: TrainConfig, progress: TrainingProgress) -> Iterator[Started]:
    """Reset the environment for the next episode. Yield ``Started`` before the first episode of the training run."""
    number, first = progress.next_episode, progress.next_episode == progress.start_episodes + 1
    progress.next_episode += 1
    slot.choose_renderer(progress.is_recorded(number, config), first)
    # Every reset is seeded, so evaluations and videos between episodes do not change training.
    agent.begin_episode(slot.index)
    slot.begin(EpisodeState(number=number, seed=episode_seed(agent.generators.environment), epsilon=agent.epsilon))
    if first:
        yield Started(None if slot.renderer is None else _initial_image(slot.renderer))
        if not slot.recorded:
            slot.active = slot.env
            if plays_apart(config):
                slot.begin(slot.episode)


def forget_episodes(progress: TrainingProgress) -> None:
    """Warn and forget the running episodes of a saved run, because EnvPool cannot play them again."""
    if progress.episodes:
        warnings.warn(
            "this run does not resume exactly: EnvPool cannot repeat an episode, so new episodes begin.",
            PeriluneWarning,
            stacklevel=2,
        )
    progress.episodes = progress.played = ()


def restore(slots: Sequence[EnvSlot], progress: TrainingProgress) -> None:
    """Restore the statistics of wrappers. Before that, check that the environment repeats the last episodes."""
    _check_replay(slots[0], progress)
    for slot, statistics in zip(slots, progress.statistics, strict=False):
        envs.write_statistics(slot.env, statistics)


def _check_replay(slot: EnvSlot, progress: TrainingProgress) -> None:
    """Play the last episodes that ended again. Warn if the environment does not return the same as before."""
    for played in progress.played:
        envs.write_statistics(slot.env, played.statistics)
        slot.begin(EpisodeState(number=played.number, seed=played.seed, epsilon=1.0))
        over = False
        for action in played.actions:
            if over:
                break
            *_, terminated, truncated = slot.step(action)
            over = terminated or truncated
        if slot.episode.checksum != played.checksum:
            _warn_inexact(slot)
            return


def replay_episode(agent: Agent, slot: EnvSlot, config: TrainConfig, progress: TrainingProgress) -> Iterator[Timestep]:
    """Play the saved episode again up to its safe point. Yield its time steps if it is recorded.

    The agent must be in the state of the safe point. If the environment does not return the same as before, warn and
    begin the episode again.
    """
    saved = progress.episodes[slot.index]
    slot.choose_renderer(progress.is_recorded(saved.number, config))
    slot.begin(msgspec.structs.replace(saved, actions=[]))
    for action in saved.actions:
        if slot.recorded:
            yield slot.timestep(action)
        slot.obs, _, terminated, truncated = slot.step(action)
        if terminated or truncated:
            break
    if slot.obs.tolist() != list(saved.obs) or saved.checksum not in (0, slot.episode.checksum):
        _warn_inexact(slot)
        agent.begin_episode(slot.index)
        slot.begin(msgspec.structs.replace(saved, actions=[]))


def _warn_inexact(slot: EnvSlot) -> None:
    """Warn that the environment did not repeat an episode."""
    names = envs.unsaved_wrappers(slot.env)
    wrappers = f" Perilune does not save the state of {' and '.join(names)}." if names else ""
    warnings.warn(
        f"this run does not resume exactly: from the same seed and actions, {envs.name(slot.env)} returns other "
        "observations or rewards than before. Either the environment or a wrapper has changed, or not all of its state "
        f"and random numbers depend on the seed of reset.{wrappers}",
        PeriluneWarning,
        stacklevel=2,
    )


def safe_point(progress: TrainingProgress, slots: Sequence[EnvSlot], best: bool) -> SafePoint:
    """Return the safe point with the current episodes of ``slots``, which are over if training is finished."""
    for slot in slots:
        slot.episode.obs = tuple(slot.obs.tolist())
    if progress.finished:
        progress.episodes = ()
        progress.statistics = tuple(envs.read_statistics(slot.env) for slot in slots)
    else:
        progress.episodes = tuple(slot.episode for slot in slots)
        progress.statistics = tuple(slot.statistics for slot in slots)
    return SafePoint(progress, best)


def close(slots: Sequence[EnvSlot], env: envs.Env) -> None:
    """Close every environment except ``env``, which the caller passed."""
    for slot in slots:
        for made in (slot.env, slot.renderer):
            if made is not None and made is not env:
                envs.close(made)


def timed(progress: TrainingProgress, events: Iterator[Event]) -> Iterator[Event]:
    """Yield the same events, and measure the training time without evaluations and the code that reads events."""
    while True:
        started, cpu_started = time.perf_counter(), time.process_time()
        event = next(events, None)
        if event is None:
            return
        if not isinstance(event, Evaluated):  # only the evaluation ran since the previous event
            progress.seconds += time.perf_counter() - started
            progress.cpu_seconds += time.process_time() - cpu_started
        yield event


def _initial_image(env: envs.Env) -> Array | None:
    """Return an image of the initial state. If rendering fails, warn and return None."""
    try:
        return frame(env)
    except (MissingDependencyError, EnvironmentFaultError) as error:
        warnings.warn(f"no image of the initial state: {error}", PeriluneWarning, stacklevel=2)
        return None
