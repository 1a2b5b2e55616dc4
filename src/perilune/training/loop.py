"""The training loop: a generator that plays episodes, lets the agent learn, and yields events."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from perilune import envs
from perilune._utils.arrays import Array
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.envs.pool import PoolMember
from perilune.errors import DivergenceError, EnvironmentFaultError, located
from perilune.training import health
from perilune.training.checks import check
from perilune.training.evaluation import select
from perilune.training.events import Ended, Event, Metrics
from perilune.training.progress import MOST_CHECKED, TrainingProgress
from perilune.training.slots import (
    EnvSlot,
    begin_episode,
    close,
    forget_episodes,
    make_slots,
    replay_episode,
    restore,
    safe_point,
    send_actions,
    timed,
    warm_up,
)

SAFE_POINT_EVERY = 10_000  # time steps between safe points of an episode, so that an endless one can be saved


class Step(NamedTuple):
    """What one environment returned for one action.

    Attributes:
        next_obs: the next observation, float32 [O].
        reward: the reward.
        terminated: whether the task has ended.
        ended: how the episode ended, or None if it continues.
    """

    next_obs: Array
    reward: float
    terminated: bool
    ended: Ended | None


def training_events(
    agent: Agent, env: envs.Env, config: TrainConfig, progress: TrainingProgress | None = None
) -> Iterator[Event]:
    """Train an agent and yield the training events.

    The loop writes and prints nothing. While you handle an event, the agent does not change, so you may save or
    evaluate it. Budgets count from this call. An agent that has completed its warm-up does not repeat it.

    Args:
        agent: the agent, which is changed in place.
        env: a supported environment (see ``envs.space_sizes``).
        config: budget, evaluations and videos.
        progress: progress at a ``SafePoint`` of an earlier training run, to resume that run. The agent must be in the
            state of that safe point. Budgets then count from the start of that run.

    Returns:
        An iterator over the events. Training begins when you request the first event.

    Raises:
        ConfigError: the settings cannot be used for this training run.
        EnvironmentFaultError: the environment raised an exception or violated the Gymnasium interface.
        DivergenceError: the loss, a gradient or a weight is not finite.
    """
    check(agent, env, config, progress)
    progress = TrainingProgress.start(agent) if progress is None else progress.copy()
    progress.finished = False
    if config.envpool:
        forget_episodes(progress)
    if not progress.episodes:
        agent.begin_training(config.num_envs)
    return timed(progress, _training(agent, env, make_slots(agent, env, config), config, progress))


def _training(
    agent: Agent, env: envs.Env, slots: list[EnvSlot], config: TrainConfig, progress: TrainingProgress
) -> Iterator[Event]:
    """Yield the events of a training run, add the location to its errors, and close the environments that it made."""
    stop = progress.stop_step(config), progress.stop_episode(config)
    updates_before, resumed = agent.updates, progress.episodes
    best = False  # whether the latest evaluation was the best so far, with no safe point since
    try:
        restore(slots, progress)
        if not agent.env_steps:  # the schedule of epsilon begins with this training run
            yield from health.warned(agent, progress, health.epsilon_stays(agent.config, config))
        if not agent.warm:
            with _located(agent, slots[0]):
                yield from warm_up(agent, slots[0], config, progress)
            progress.last_eval_check = agent.env_steps
        begin = replay_episode if resumed else begin_episode
        for slot in slots:
            with _located(agent, slot):
                yield from begin(agent, slot, config, progress)

        while not progress.finished:
            if any(len(slot.episode.actions) % SAFE_POINT_EVERY == 0 for slot in slots):
                yield safe_point(progress, slots, best)
                best = False
            ends = yield from _step(agent, slots, config, progress, stop)
            used_up = agent.env_steps >= stop[0] or agent.episodes >= stop[1]
            for slot, step in ends:
                with _located(agent, slot):
                    yield from _end_episode(agent, slot, step, progress)
                    stopping, is_last = used_up, slot is ends[-1][0]
                    if is_last and (used_up or _crossed(config.eval_every, progress.last_eval_check, agent.env_steps)):
                        evaluated = select(agent, slot.env if slots[0].env is env else env, config, progress)
                        yield evaluated
                        if evaluated.best:
                            progress.best_return, best = evaluated.mean_return, True
                        stopping |= config.stop_at_return is not None and evaluated.mean_return >= config.stop_at_return
                    if not stopping:
                        yield from begin_episode(agent, slot, config, progress)
                progress.finished = stopping  # the episodes of the other environments are dropped
            if ends:
                progress.last_eval_check = agent.env_steps
        untrained = agent.updates == updates_before and not resumed
        yield from health.final_warnings(agent, progress, untrained, used_up)
        yield safe_point(progress, slots, best)
    finally:
        close(slots, env)


@contextmanager
def _located(agent: Agent, slot: EnvSlot) -> Iterator[None]:
    """Add the current episode and time step of a slot to errors."""
    try:
        yield
    except (EnvironmentFaultError, DivergenceError) as error:
        raise located(error, slot.where(agent.env_steps)) from error


def _step(
    agent: Agent, slots: Sequence[EnvSlot], config: TrainConfig, progress: TrainingProgress, stop: tuple[float, float]
) -> Generator[Event, None, list[tuple[EnvSlot, Step]]]:
    """Take one time step in each environment and let the agent learn. Return the slots whose episode ended."""
    steps_left = max(1, stop[0] - agent.env_steps)  # the reader of the events may have stored other steps
    episodes_left = stop[1] - agent.episodes
    playing = slots[: int(min(len(slots), steps_left))]
    obs = np.stack([slot.obs for slot in playing])
    actions = agent.act(obs)
    steps: list[Step] = []
    try:
        for slot, action in zip(playing, actions, strict=True):
            if slot.recorded:
                yield slot.timestep(action)
        if config.envpool or config.workers > 1:
            send_actions(playing, actions)
        for slot, action in zip(playing, actions, strict=True):
            step = _take(slot, action, config.max_episode_steps)
            if len(steps) + 1 >= steps_left and step.ended is None:
                step = step._replace(ended="budget")
            steps.append(step)
            slot.obs = step.next_obs
            episodes_left -= step.ended is not None
            if episodes_left <= 0:  # the steps of the other environments are dropped
                break
        yield from _learn(agent, slots, obs[: len(steps)], actions[: len(steps)], steps, config, progress)
    except (EnvironmentFaultError, DivergenceError) as error:
        raise located(error, slot.where(agent.env_steps)) from error
    return [(slot, step) for slot, step in zip(playing, steps, strict=False) if step.ended is not None]


def _take(slot: EnvSlot, action: int, limit: int | None) -> Step:
    """Take one time step in one environment. A member of a pool has already been stepped."""
    episode = slot.episode
    episode.actions.append(action)
    if isinstance(slot.active, PoolMember):
        next_obs, reward, terminated, truncated = slot.active.result()
    else:
        next_obs, reward, terminated, truncated = envs.step(slot.active, slot.sizes, action)
        if len(episode.actions) <= MOST_CHECKED:
            episode.checksum = envs.checksum(episode.checksum, next_obs, reward, terminated, truncated)
    slot.episode_return += reward
    cut = truncated or len(episode.actions) == limit
    return Step(next_obs, reward, terminated, "terminated" if terminated else "truncated" if cut else None)


def _learn(
    agent: Agent,
    slots: Sequence[EnvSlot],
    obs: Array,
    actions: Sequence[int],
    steps: Sequence[Step],
    config: TrainConfig,
    progress: TrainingProgress,
) -> Iterator[Event]:
    """Let the agent observe one time step of each environment and learn. Yield metrics and health warnings."""
    next_obs, reward, terminated, ended = zip(*steps, strict=True)
    progress.largest_reward = max(progress.largest_reward, *map(abs, reward))
    # For the agent, every end except a termination is a truncation, which keeps the bootstrap.
    truncated = [end is not None for end in ended]
    update = agent.observe(obs, actions, reward, np.stack(next_obs), terminated, truncated)
    if update is None:
        return
    for slot in slots:
        slot.episode.loss_sum += update.loss
        slot.episode.updates += 1
    if _crossed(config.metrics_every, agent.env_steps - max(agent.update_every, len(steps)), agent.env_steps):
        yield Metrics(agent.env_steps, agent.updates, *update, agent.epsilon)
        found = health.beyond_rewards(agent.config, agent.actions, update.mean_q, progress.largest_reward)
        yield from health.warned(agent, progress, found)


def _end_episode(agent: Agent, slot: EnvSlot, step: Step, progress: TrainingProgress) -> Iterator[Event]:
    """Yield the events at the end of an episode, and keep the episode to check later that a run resumes exactly."""
    next_obs, reward, terminated, ended = step
    assert ended is not None
    if ended != "budget":
        slot.outcome = slot.known.outcome(next_obs, reward, terminated)
    if slot.recorded:
        yield slot.timestep(None)
    progress.remember(slot.episode, slot.statistics)
    yield slot.result(agent, ended)


def _crossed(every: int | None, before: int, now: int) -> bool:
    """Return whether a multiple of ``every`` lies in (before, now]."""
    return every is not None and before // every < now // every
