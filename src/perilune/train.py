"""Training: a generator that plays, lets the agent learn, and yields what happened for others to read."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Literal, NamedTuple

from perilune import envs, seeding
from perilune.config import TrainConfig
from perilune.dqn import Agent
from perilune.errors import ConfigError, DivergenceError
from perilune.evaluate import SELECTION_SEEDS, evaluate
from perilune.nn.layers import Array


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
    ended: Literal["terminated", "truncated", "budget"]


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
    size, _, first_action = envs.check(env)
    clock = _Clock()
    eval_limit = config.max_episode_steps if envs.time_limit(env) is None else None
    stop_step = agent.env_steps + config.steps if config.steps is not None else math.inf
    stop_episode = agent.episodes + config.episodes if config.episodes is not None else math.inf
    eval_every = config.eval_every if config.eval_every is not None else math.inf
    next_eval = agent.env_steps + eval_every
    next_metrics = agent.env_steps + config.metrics_every
    best = -math.inf

    if not agent.warm:
        _warm_up(agent, env, config)

    first_episode = agent.episodes + 1
    stopping = False
    while not stopping:
        episode = agent.episodes + 1
        filmed = config.video_every is not None and (episode == first_episode or episode % config.video_every == 0)
        observation, _ = env.reset(seed=seeding.episode_seed(agent.generators.environment))
        obs = envs.as_obs(observation, size)
        if episode == first_episode:
            yield from clock.pausing(Started(envs.frame(env) if envs.can_draw(env) else None))

        total, length, losses, updates = 0.0, 0, 0.0, 0
        epsilon = agent.epsilon
        ended = None
        while ended is None:
            if filmed:
                yield from clock.pausing(Frame(episode, envs.frame(env)))
            action = agent.act(obs)
            observation, reward, terminated, truncated, _ = env.step(first_action + action)
            next_obs = envs.as_obs(observation, size)
            length += 1
            total += float(reward)
            if terminated:
                ended = "terminated"
            elif truncated or length == config.max_episode_steps:
                ended = "truncated"
            elif agent.env_steps + 1 >= stop_step:
                ended = "budget"
            update = agent.observe(obs, action, float(reward), next_obs, terminated, ended is not None)
            obs = next_obs
            if update is not None:
                losses += update.loss
                updates += 1
                if agent.env_steps >= next_metrics:
                    next_metrics += config.metrics_every
                    yield from clock.pausing(Metrics(agent.env_steps, agent.updates, *update, agent.epsilon))
        if filmed:
            yield from clock.pausing(Frame(episode, envs.frame(env)))

        mean_loss = losses / updates if updates else None
        yield from clock.pausing(
            Episode(episode, agent.env_steps, total, length, mean_loss, epsilon, agent.target_syncs, ended)
        )
        if mean_loss is not None and not math.isfinite(mean_loss):
            raise DivergenceError(
                f"the loss is {mean_loss} in episode {episode}, after {agent.env_steps:,} environment steps: the "
                f"weights have diverged. Try a smaller learning_rate (now {agent.learning_rate:g}), "
                f"max_grad_norm = 10 (now {agent.config.max_grad_norm}) or loss = 'huber' "
                f"(now {agent.config.loss!r}), and check that rewards and observations are finite."
            )

        stopping = agent.env_steps >= stop_step or agent.episodes >= stop_episode
        if agent.env_steps >= next_eval or stopping:
            while next_eval <= agent.env_steps:
                next_eval += eval_every
            clock.stop()
            scored = evaluate(
                agent.greedy_action,
                env,
                config.eval_episodes,
                first_seed=SELECTION_SEEDS,
                max_episode_steps=eval_limit,
            )
            improved = scored.mean_return > best
            best = max(best, scored.mean_return)
            yield Evaluated(
                agent.env_steps,
                agent.episodes,
                scored.mean_return,
                scored.std_return,
                scored.min_return,
                improved,
                clock.seconds,
            )
            clock.start()
            if config.stop_at_return is not None and scored.mean_return >= config.stop_at_return:
                stopping = True


def check_budget(agent: Agent, config: TrainConfig) -> None:
    """Refuse a budget that ends before the first update: a training that changes nothing is a mistake."""
    warmup_steps, train_every = agent.config.warmup_steps, agent.config.train_every
    needed = train_every + (0 if agent.warm else warmup_steps)
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
            observation, _ = env.reset(seed=seeding.episode_seed(agent.generators.environment))
            obs, length = envs.as_obs(observation, size), 0
        action = agent.random_action()
        observation, reward, terminated, truncated, _ = env.step(first_action + action)
        next_obs = envs.as_obs(observation, size)
        length += 1
        last = len(agent.replay) + len(agent.n_step.pending) + 1 >= agent.config.warmup_steps
        truncated = truncated or last or length == config.max_episode_steps
        agent.remember(obs, action, float(reward), next_obs, terminated, truncated)
        obs = None if terminated or truncated else next_obs


class _Clock:
    """Seconds of training, with the readers' and the evaluations' time left out."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.start()

    def start(self) -> None:
        self._since = time.perf_counter()

    def stop(self) -> None:
        self.seconds += time.perf_counter() - self._since

    def pausing(self, event: Event) -> Iterator[Event]:
        self.stop()
        yield event
        self.start()
