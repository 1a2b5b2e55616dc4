"""Training: a generator that plays, lets the agent learn, and yields what happened for others to read."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from typing import Literal, NamedTuple

from perilune import envs, seeding
from perilune.config import TrainConfig
from perilune.dqn import Agent
from perilune.errors import ConfigError, DivergenceError, MissingDependencyError, PeriluneWarning
from perilune.evaluate import SELECTION_SEEDS, evaluate
from perilune.nn.layers import Array

Ended = Literal["terminated", "truncated", "budget"]


class Started(NamedTuple):
    """The first episode's initial state as a picture, or None where the environment cannot draw."""

    image: Array | None


class Frame(NamedTuple):
    """One picture of an episode that is filmed, uint8 [height, width, 3]."""

    episode: int
    image: Array


class Metrics(NamedTuple):
    """What the latest update saw."""

    env_steps: int
    updates: int
    loss: float
    mean_q: float
    mean_td_target: float
    gradient_norm: float
    learning_rate: float
    epsilon: float


class Episode(NamedTuple):
    """One episode of training. ``reward`` is the sum of its rewards, ``loss`` the mean over its updates."""

    episode: int
    env_steps: int
    reward: float
    length: int
    loss: float | None
    epsilon: float
    target_syncs: int
    ended: Ended


class Evaluated(NamedTuple):
    """A greedy evaluation. ``seconds`` is the training's time so far, evaluations and readers not counted."""

    env_steps: int
    episodes: int
    mean_return: float
    std_return: float
    min_return: float
    best: bool
    seconds: float


Event = Started | Frame | Metrics | Episode | Evaluated


def training(agent: Agent, env: envs.Env, config: TrainConfig) -> Iterator[Event]:
    """Train ``agent`` on ``env`` and yield an event for everything worth telling.

    Nothing is written and nothing printed. Between two events the agent is at rest: a reader may save or evaluate
    it. The budgets in ``config`` count from this call; an agent that is past its warm-up does not repeat it.

    Raises:
        ConfigError: the budget ends before the first update, or the environment cannot draw the videos asked for.
        DivergenceError: the loss is no longer finite.
    """
    check_budget(agent, config)
    check_drawing(env, config)
    stopwatch = _Stopwatch()
    return stopwatch.timing(_training(agent, env, config, stopwatch))


def _training(agent: Agent, env: envs.Env, config: TrainConfig, stopwatch: _Stopwatch) -> Iterator[Event]:
    stop_step = agent.env_steps + config.steps if config.steps is not None else math.inf
    stop_episode = agent.episodes + config.episodes if config.episodes is not None else math.inf
    best = -math.inf

    if not agent.warm:
        _warm_up(agent, env, config)
    first_episode = agent.episodes + 1
    stopping = False
    while not stopping:
        start = agent.env_steps
        yield from _episode(agent, env, config, first_episode, stop_step)
        stopping = agent.env_steps >= stop_step or agent.episodes >= stop_episode
        if stopping or _crossed(config.eval_every, start, agent.env_steps):
            evaluated = _evaluated(agent, env, config, best, stopwatch.seconds)
            best = max(best, evaluated.mean_return)
            yield evaluated
            stopping |= config.stop_at_return is not None and evaluated.mean_return >= config.stop_at_return


def _episode(agent: Agent, env: envs.Env, config: TrainConfig, first_episode: int, stop_step: float) -> Iterator[Event]:
    """Play and learn one episode."""
    size, _, first_action = envs.check(env)
    episode, epsilon = agent.episodes + 1, agent.epsilon
    filmed = config.video_every is not None and (episode == first_episode or episode % config.video_every == 0)
    obs = _reset(agent, env, size)
    if episode == first_episode:
        yield Started(_initial_picture(env))

    total, length, losses, updates = 0.0, 0, 0.0, 0
    ended: Ended | None = None
    while ended is None:
        if filmed:
            yield Frame(episode, envs.frame(env))
        action = agent.act(obs)
        observation, reward, terminated, truncated, _ = env.step(first_action + action)
        next_obs = envs.as_obs(observation, size)
        total += float(reward)
        length += 1
        if terminated:
            ended = "terminated"
        elif truncated or length == config.max_episode_steps:
            ended = "truncated"
        elif agent.env_steps + 1 >= stop_step:
            ended = "budget"
        # Whatever else ends an episode is a truncation to the learner: the future beyond it still counts.
        update = agent.observe(obs, action, float(reward), next_obs, terminated, ended is not None)
        obs = next_obs
        if update is not None:
            losses += update.loss
            updates += 1
            if _crossed(config.metrics_every, agent.env_steps - agent.config.train_every, agent.env_steps):
                yield Metrics(agent.env_steps, agent.updates, *update, agent.epsilon)
    if filmed:
        yield Frame(episode, envs.frame(env))

    loss = losses / updates if updates else None
    yield Episode(episode, agent.env_steps, total, length, loss, epsilon, agent.target_syncs, ended)
    if loss is not None and not math.isfinite(loss):
        raise DivergenceError(
            f"the loss is {loss} in episode {episode}, after {agent.env_steps:,} environment steps: the weights have "
            f"diverged. Try a smaller learning_rate (now {agent.learning_rate:g}), a max_grad_norm such as 10 (now "
            f"{agent.config.max_grad_norm}) or the huber loss (now {agent.config.loss}), and see that the "
            "environment's rewards and observations are finite."
        )


def _initial_picture(env: envs.Env) -> Array | None:
    """The state now as a picture. Nobody asked for it, so a missing library costs the picture and not the training."""
    if not envs.can_draw(env):
        return None
    try:
        return envs.frame(env)
    except MissingDependencyError as error:
        warnings.warn(f"no picture of the initial state: {error}", PeriluneWarning, stacklevel=2)
        return None


def greedy_limit(env: envs.Env, config: TrainConfig) -> int | None:
    """Steps of a greedy episode: None where the environment has a limit, else the training's limit if it has one."""
    return None if envs.time_limit(env) is not None else config.max_episode_steps


def _evaluated(agent: Agent, env: envs.Env, config: TrainConfig, best: float, seconds: float) -> Evaluated:
    """Score the agent as it is now, on start states that only choose the best checkpoint."""
    result = evaluate(
        agent.greedy_action,
        env,
        config.eval_episodes,
        first_seed=SELECTION_SEEDS,
        max_episode_steps=greedy_limit(env, config),
    )
    return Evaluated(
        env_steps=agent.env_steps,
        episodes=agent.episodes,
        mean_return=result.mean_return,
        std_return=result.std_return,
        min_return=result.min_return,
        best=result.mean_return >= best,  # of equals the later, which has learned from more
        seconds=seconds,
    )


def _reset(agent: Agent, env: envs.Env, size: int) -> Array:
    """Every reset is seeded, so that an evaluation or a video in between changes nothing in the training."""
    agent.n_step.pending.clear()  # of an episode that was broken off: its end was never seen
    observation, _ = env.reset(seed=seeding.episode_seed(agent.generators.environment))
    return envs.as_obs(observation, size)


def _crossed(every: int | None, before: int, now: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, now]."""
    return every is not None and before // every < now // every


def check_budget(agent: Agent, config: TrainConfig) -> None:
    """Refuse a budget that ends before the first update: a training that changes nothing is a mistake."""
    warmup_steps, train_every = agent.config.warmup_steps, agent.config.train_every
    learning_from = agent.env_steps + (0 if agent.warm else warmup_steps)
    needed = (learning_from // train_every + 1) * train_every - agent.env_steps
    if config.steps is not None and config.steps < needed:
        raise ConfigError(
            "steps",
            config.steps,
            f"at least {needed}, or no update would ever happen "
            f"(warmup_steps = {warmup_steps}, train_every = {train_every})",
        )


def check_drawing(env: envs.Env, config: TrainConfig) -> None:
    """Refuse videos of an environment that cannot draw, before anything is trained."""
    if config.video_every is not None and not envs.can_draw(env):
        raise ConfigError(
            "video_every",
            config.video_every,
            f'None, because this {envs.name(env)} cannot draw: make it with render_mode="rgb_array"',
        )


def _warm_up(agent: Agent, env: envs.Env, config: TrainConfig) -> None:
    """Fill the replay with uniformly random play. Its episodes are not counted; the last is cut off (truncated)."""
    size, _, first_action = envs.check(env)
    obs = None
    length = 0
    while not agent.warm:
        if obs is None:
            obs, length = _reset(agent, env, size), 0
        action = agent.random_action()
        observation, reward, terminated, truncated, _ = env.step(first_action + action)
        next_obs = envs.as_obs(observation, size)
        length += 1
        last = len(agent.replay) + len(agent.n_step.pending) + 1 >= agent.config.warmup_steps
        truncated = truncated or last or length == config.max_episode_steps
        agent.remember(obs, action, float(reward), next_obs, terminated, truncated)
        obs = None if terminated or truncated else next_obs


class _Stopwatch:
    """Seconds that a training took itself: its readers' time is left out, and the evaluations'."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timing(self, events: Iterator[Event]) -> Iterator[Event]:
        """The same events; ``seconds`` is up to date at each."""
        while True:
            started = time.perf_counter()
            event = next(events, None)
            if event is None:
                return
            if not isinstance(event, Evaluated):  # before which there is nothing but the evaluation
                self.seconds += time.perf_counter() - started
            yield event
