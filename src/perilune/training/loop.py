"""The training loop: a generator that plays episodes, lets the agent learn, and yields events."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np

from perilune import envs
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.envs.pool import send
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
    timed,
    warm_up,
)

SAFE_POINT_EVERY = 10_000  # time steps between safe points of an episode, so that an endless one can be saved


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
    last_step, last_episode = progress.stop_step(config), progress.stop_episode(config)
    updates_before, resumed = agent.updates, progress.episodes
    best = False  # whether the latest evaluation was the best so far, with no safe point since
    slot = slots[0]
    try:
        restore(slots, progress)
        if not agent.env_steps:  # the schedule of epsilon begins with this training run
            yield from health.warned(agent, progress, health.epsilon_stays(agent.config, config))
        if not agent.warm:
            yield from warm_up(agent, slot, config, progress)
            progress.last_eval_check = agent.env_steps
        begin = replay_episode if resumed else begin_episode
        for slot in slots:
            yield from begin(agent, slot, config, progress)

        while True:
            if any(len(slot.episode.actions) % SAFE_POINT_EVERY == 0 for slot in slots):
                yield safe_point(progress, slots, best)
                best = False
            for slot, action in zip(slots, _actions(agent, slots, config), strict=True):
                ended = yield from _step(agent, slot, slots, action, config, progress, last_step)
                if ended is None:
                    continue
                progress.remember(slot.episode, slot.statistics)
                yield slot.result(agent, ended)
                stopping = used_up = agent.env_steps >= last_step or agent.episodes >= last_episode
                if stopping or _crossed(config.eval_every, progress.last_eval_check, agent.env_steps):
                    evaluated = select(agent, env if config.envpool else slot.env, config, progress)
                    yield evaluated
                    if evaluated.best:
                        progress.best_return, best = evaluated.mean_return, True
                    stopping |= config.stop_at_return is not None and evaluated.mean_return >= config.stop_at_return
                progress.last_eval_check = agent.env_steps
                if stopping:  # the episodes of the other environments are dropped
                    untrained = agent.updates == updates_before and not resumed
                    yield from health.final_warnings(agent, progress, untrained, used_up)
                    progress.finished = True
                    yield safe_point(progress, slots, best)
                    return
                yield from begin_episode(agent, slot, config, progress)
    except (EnvironmentFaultError, DivergenceError) as error:
        raise located(error, slot.where(agent.env_steps)) from error
    finally:
        close(slots, env)


def _actions(agent: Agent, slots: Sequence[EnvSlot], config: TrainConfig) -> list[int]:
    """Return the next action of each environment. With EnvPool, step the environments."""
    actions = agent.act(np.stack([slot.obs for slot in slots]))
    if config.envpool:
        send([slot.active for slot in slots], actions)
    return actions


def _step(
    agent: Agent,
    slot: EnvSlot,
    slots: Sequence[EnvSlot],
    action: int,
    config: TrainConfig,
    progress: TrainingProgress,
    last_step: float,
) -> Generator[Event, None, Ended | None]:
    """Take one time step and let the agent learn. Return how the episode ended, or None."""
    episode = slot.episode
    if slot.recorded:
        yield slot.timestep(action)
    episode.actions.append(action)
    next_obs, reward, terminated, truncated = envs.step(slot.active, slot.sizes, action)
    if len(episode.actions) <= MOST_CHECKED:
        episode.checksum = envs.checksum(episode.checksum, next_obs, reward, terminated, truncated)
    slot.episode_return += reward
    progress.largest_reward = max(progress.largest_reward, abs(reward))
    ended: Ended | None = None
    if terminated:
        ended = "terminated"
    elif truncated or len(episode.actions) == config.max_episode_steps:
        ended = "truncated"
    elif agent.env_steps + 1 >= last_step:
        ended = "budget"
    # For the agent, every end except a termination is a truncation, which keeps the bootstrap.
    update = agent.observe(slot.obs, action, reward, next_obs, terminated, ended is not None, slot.index)
    slot.obs = next_obs
    if update is not None:
        for other in slots:
            other.episode.loss_sum += update.loss
            other.episode.updates += 1
        if _crossed(config.metrics_every, agent.env_steps - agent.update_every, agent.env_steps):
            yield Metrics(agent.env_steps, agent.updates, *update, agent.epsilon)
            found = health.beyond_rewards(agent.config, agent.actions, update.mean_q, progress.largest_reward)
            yield from health.warned(agent, progress, found)
    if ended is not None:
        if ended != "budget":
            slot.outcome = slot.known.outcome(next_obs, reward, terminated)
        if slot.recorded:
            yield slot.timestep(None)
    return ended


def _crossed(every: int | None, before: int, now: int) -> bool:
    """Return whether a multiple of ``every`` lies in (before, now]."""
    return every is not None and before // every < now // every
