"""The training loop: a generator that plays, lets the agent learn, and yields events for others to read."""

from __future__ import annotations

import time
import warnings
from collections.abc import Generator, Iterator, Sequence

import numpy as np

from perilune import envs
from perilune._utils.arrays import Array
from perilune._utils.seeding import episode_seed
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.envs.known import lookup
from perilune.envs.rendering import drawing, frame
from perilune.errors import DivergenceError, EnvironmentFaultError, MissingDependencyError, PeriluneWarning, located
from perilune.training import health
from perilune.training.checks import check
from perilune.training.evaluation import SELECTION_SEEDS, evaluate, greedy_limit, with_image
from perilune.training.events import (
    Ended,
    Episode,
    Evaluated,
    Event,
    HealthWarning,
    Metrics,
    SafePoint,
    Started,
    Timestep,
)
from perilune.training.progress import EnvSlot, EpisodeState, TrainingProgress
from perilune.training.resume import replay_episode
from perilune.training.warm_up import warm_up

SAFE_POINT_EVERY = 10_000  # steps of an episode between safe points, so that one without an end can be saved


def training_events(
    agent: Agent, env: envs.Env, config: TrainConfig, progress: TrainingProgress | None = None
) -> Iterator[Event]:
    """Train ``agent`` on ``env`` and yield what happens.

    Nothing is written or printed. Between two events the agent does not change: a reader may save or evaluate it. The
    budgets in ``config`` count from this call; an agent that is past its warm-up does not repeat it.

    Args:
        agent: changed in place.
        env: a supported environment (see ``envs.space_sizes``).
        config: budget, evaluations and videos.
        progress: the progress at a ``SafePoint`` of an earlier training, to resume it. The agent must be in the state
            it was in then, and the budgets count from where they began then. By default, a new training starts.

    Raises:
        ConfigError: see ``checks.check``.
        EnvironmentFaultError: the environment raised, or broke the Gymnasium interface.
        DivergenceError: the loss, a gradient or a weight is no longer finite.
    """
    check(agent, env, config, progress)
    progress = TrainingProgress.start(agent) if progress is None else progress.copy()
    progress.finished = False
    slots = [_slot(0, env, render=True)]
    slots += [_slot(index, envs.again(env), render=bool(config.video_every)) for index in range(1, config.num_envs)]
    return _timed(progress, _closing(slots, _training(agent, slots, config, progress)))


def _training(agent: Agent, slots: list[EnvSlot], config: TrainConfig, progress: TrainingProgress) -> Iterator[Event]:
    last_step, last_episode = progress.stop_step(config), progress.stop_episode(config)
    updates_before, resumed = agent.updates, progress.episodes
    best = False  # whether the latest evaluation was the best so far, and no safe point came since
    yield from _warned(agent, progress, health.epsilon_stays(agent.config, config))
    if not agent.warm:
        yield from warm_up(agent, slots[0].env, config)
        progress.last_eval_check = agent.env_steps
    for slot in slots:
        if resumed:
            saved = resumed[slot.index]
            _choose_renderer(slot, progress.is_recorded(saved.number, config), first=False)
            yield from replay_episode(agent, slot, saved)
        else:
            yield from _begin_episode(agent, slot, config, progress)

    while True:
        if any(len(slot.episode.actions) % SAFE_POINT_EVERY == 0 for slot in slots):
            yield _safe_point(progress, slots, best)
            best = False
        actions = agent.act(np.stack([slot.obs for slot in slots]))
        for slot, action in zip(slots, actions, strict=True):
            ended = yield from _step(agent, slot, slots, action, config, progress, last_step)
            if ended is None:
                continue
            yield _end_episode(agent, slot, ended)
            stopping = used_up = agent.env_steps >= last_step or agent.episodes >= last_episode
            if stopping or _crossed(config.eval_every, progress.last_eval_check, agent.env_steps):
                evaluated = _evaluate(agent, slot.env, config, progress)
                yield evaluated
                if evaluated.best:
                    progress.best_return, best = evaluated.mean_return, True
                stopping |= config.stop_at_return is not None and evaluated.mean_return >= config.stop_at_return
            progress.last_eval_check = agent.env_steps
            if stopping:  # episodes under way in the other environments are dropped
                untrained = agent.updates == updates_before and not resumed
                yield from _final_warnings(agent, progress, untrained, used_up)
                progress.finished = True
                yield _safe_point(progress, (), best)
                return
            yield from _begin_episode(agent, slot, config, progress)


def _begin_episode(
    agent: Agent, slot: EnvSlot, config: TrainConfig, progress: TrainingProgress
) -> Generator[Event, None, None]:
    number, first = progress.next_episode, progress.next_episode == progress.start_episodes + 1
    progress.next_episode += 1
    _choose_renderer(slot, progress.is_recorded(number, config), first)
    # Every reset is seeded, so that an evaluation or a video in between changes nothing in the training.
    agent.begin_episode(slot.index)
    seed = episode_seed(agent.generators.environment)
    try:
        slot.obs = envs.reset(slot.active, seed)
    except EnvironmentFaultError as error:
        raise located(
            error, f"at the reset of episode {number:,}, after environment step {agent.env_steps:,}"
        ) from error
    slot.episode = EpisodeState(number=number, seed=seed, epsilon=agent.epsilon)
    slot.episode_return, slot.outcome = 0.0, None
    if first:
        yield Started(None if slot.renderer is None else _initial_image(slot.renderer))
        if not slot.recorded:
            slot.active = slot.env


def _choose_renderer(slot: EnvSlot, recorded: bool, first: bool) -> None:
    """Play the next episode with images only if they are needed, because rendering takes time."""
    slot.recorded = recorded
    slot.active = slot.renderer if slot.renderer is not None and (recorded or first) else slot.env


def _step(
    agent: Agent,
    slot: EnvSlot,
    slots: Sequence[EnvSlot],
    action: int,
    config: TrainConfig,
    progress: TrainingProgress,
    last_step: float,
) -> Generator[Event, None, Ended | None]:
    """Take one step of the environment and let the agent learn. Return how the episode ended, or None."""
    episode = slot.episode
    if slot.recorded:
        yield _timestep(slot, action)
    episode.actions.append(action)
    try:
        next_obs, reward, terminated, truncated = envs.step(slot.active, slot.sizes, action)
    except EnvironmentFaultError as error:
        raise located(error, _where(slot, agent.env_steps + 1)) from error
    slot.episode_return += reward
    progress.largest_reward = max(progress.largest_reward, abs(reward))
    ended: Ended | None = None
    if terminated:
        ended = "terminated"
    elif truncated or len(episode.actions) == config.max_episode_steps:
        ended = "truncated"
    elif agent.env_steps + 1 >= last_step:
        ended = "budget"
    # To the learner, every end other than a termination is a truncation: the future beyond it still counts.
    try:
        update = agent.observe(slot.obs, action, reward, next_obs, terminated, ended is not None, slot.index)
    except DivergenceError as error:
        raise located(error, _where(slot, agent.env_steps)) from error
    slot.obs = next_obs
    if update is not None:
        for other in slots:
            other.episode.loss_sum += update.loss
            other.episode.updates += 1
        if _crossed(config.metrics_every, agent.env_steps - agent.config.train_freq, agent.env_steps):
            yield Metrics(agent.env_steps, agent.updates, *update, agent.epsilon)
            found = health.beyond_rewards(agent.config, agent.actions, update.mean_q, progress.largest_reward)
            yield from _warned(agent, progress, found)
    if ended is not None:
        if slot.known.outcomes is not None and ended != "budget":
            slot.outcome = slot.known.outcomes.label(next_obs, reward, terminated)
        if slot.recorded:
            yield _timestep(slot, None)
    return ended


def _end_episode(agent: Agent, slot: EnvSlot, ended: Ended) -> Episode:
    episode = slot.episode
    return Episode(
        episode=episode.number,
        env_steps=agent.env_steps,
        reward=slot.episode_return,
        length=len(episode.actions),
        loss=episode.loss_sum / episode.updates if episode.updates else None,
        epsilon=episode.epsilon,
        target_syncs=agent.target_syncs,
        ended=ended,
        outcome=slot.outcome,
    )


def _evaluate(agent: Agent, env: envs.Env, config: TrainConfig, progress: TrainingProgress) -> Evaluated:
    """Score the agent on the start states that choose the best checkpoint."""
    try:
        result = evaluate(
            agent.greedy_action,
            env,
            config.eval_episodes,
            first_seed=SELECTION_SEEDS,
            max_episode_steps=greedy_limit(env, config),
        )
    except EnvironmentFaultError as error:
        raise located(error, f"in the evaluation after {agent.env_steps:,} environment steps") from error
    return Evaluated(
        env_steps=agent.env_steps,
        episodes=agent.episodes,
        mean_return=result.mean_return,
        std_return=result.std_return,
        min_return=result.min_return,
        # of equal ones the later, which has learned from more
        best=progress.best_return is None or result.mean_return >= progress.best_return,
        seconds=progress.seconds,
    )


def _safe_point(progress: TrainingProgress, slots: Sequence[EnvSlot], best: bool) -> SafePoint:
    for slot in slots:
        slot.episode.obs = tuple(slot.obs.tolist())
    progress.episodes = tuple(slot.episode for slot in slots)
    return SafePoint(progress, best)


def _warned(agent: Agent, progress: TrainingProgress, found: health.Notice | None) -> Iterator[Event]:
    """Yield a health warning, once in a run."""
    if found is not None and found.what not in progress.warned:
        progress.warned += (found.what,)
        yield HealthWarning(agent.env_steps, *found)


def _final_warnings(agent: Agent, progress: TrainingProgress, untrained: bool, used_up: bool) -> Iterator[Event]:
    if untrained:
        yield from _warned(agent, progress, health.no_update(agent.config))
    if used_up:
        episodes = agent.episodes - progress.start_episodes
        yield from _warned(agent, progress, health.epsilon_stayed(agent.config, agent.epsilon, episodes))


def _timestep(slot: EnvSlot, action: int | None) -> Timestep:
    episode = slot.episode
    step = Timestep(episode.number, len(episode.actions), slot.obs, action, slot.episode_return, slot.outcome)
    return with_image(step, slot.active)


def _where(slot: EnvSlot, env_step: int) -> str:
    episode = slot.episode
    return f"at step {len(episode.actions):,} of episode {episode.number:,}, environment step {env_step:,}"


def _crossed(every: int | None, before: int, now: int) -> bool:
    """Return whether a multiple of ``every`` lies in (before, now]."""
    return every is not None and before // every < now // every


def _slot(index: int, env: envs.Env, render: bool) -> EnvSlot:
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


def _initial_image(env: envs.Env) -> Array | None:
    """Return an image of the state, or None with a warning: an optional image must not end a training."""
    try:
        return frame(env)
    except (MissingDependencyError, EnvironmentFaultError) as error:
        warnings.warn(f"no picture of the initial state: {error}", PeriluneWarning, stacklevel=2)
        return None


def _closing(slots: list[EnvSlot], events: Iterator[Event]) -> Iterator[Event]:
    """Yield the same events, then close every environment except the one that was given."""
    given = slots[0].env
    try:
        yield from events
    finally:
        for slot in slots:
            for made in (slot.env, slot.renderer):
                if made is not None and made is not given:
                    envs.close(made)


def _timed(progress: TrainingProgress, events: Iterator[Event]) -> Iterator[Event]:
    """Yield the same events and count the seconds that the training takes, without readers and evaluations."""
    while True:
        started = time.perf_counter()
        event = next(events, None)
        if event is None:
            return
        if not isinstance(event, Evaluated):  # directly before it, there is nothing but the evaluation
            progress.seconds += time.perf_counter() - started
        yield event
