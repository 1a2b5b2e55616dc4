"""Training: a generator that plays, lets the agent learn, and yields what happened for others to read."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from perilune import envs, seeding
from perilune.config import TrainConfig
from perilune.dqn import Agent
from perilune.errors import (
    ConfigError,
    DivergenceError,
    EnvironmentFaultError,
    MissingDependencyError,
    PeriluneWarning,
    UnsupportedEnvironmentError,
)
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
    """One episode of training. ``reward`` is the sum of its rewards, ``loss`` the mean of the updates while it lasted.

    ``episode`` is its number in the order of beginning; of several environments, who begins first need not end first.
    """

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
        ConfigError: see ``check``.
        DivergenceError: the loss is no longer finite.
    """
    check(agent, env, config)
    every = [env, *(envs.again(env) for _ in range(config.environments - 1))]
    # The first episode's start is pictured in any case; else an environment draws for films alone, for it takes time.
    lanes = [_Lane(one, envs.drawing(one) if one is env or config.video_every else None) for one in every]
    stopwatch = _Stopwatch()
    return stopwatch.timing(_closing(lanes, _training(agent, lanes, config, stopwatch)))


class _Lane(NamedTuple):
    """One of the environments side by side, and the same one with pictures, where they are wanted and possible."""

    env: envs.Env
    camera: envs.Env | None


@dataclass
class _Flight:
    """An episode under way. ``losses`` and ``updates`` are the sum and number of all updates' since it began."""

    env: envs.Env
    spaces: envs.Spaces
    number: int
    filmed: bool
    epsilon: float
    obs: Array
    reward: float = 0.0
    length: int = 0
    losses: float = 0.0
    updates: int = 0


def _training(agent: Agent, lanes: list[_Lane], config: TrainConfig, stopwatch: _Stopwatch) -> Iterator[Event]:
    stop_step = agent.env_steps + config.steps if config.steps is not None else math.inf
    stop_episode = agent.episodes + config.episodes if config.episodes is not None else math.inf
    best = -math.inf
    if not agent.warm:
        _warm_up(agent, lanes[0].env, config)
    first = agent.episodes + 1
    numbers = itertools.count(first)
    flights: list[_Flight] = []
    for lane in range(len(lanes)):
        flight = yield from _take_off(agent, lanes, lane, next(numbers), first, config)
        flights.append(flight)
    looked = agent.env_steps  # when it was last seen whether an evaluation is due

    while True:
        actions = agent.act(np.stack([flight.obs for flight in flights]))
        for lane, action in enumerate(actions):
            ended = yield from _fly(agent, flights, lane, action, config, stop_step)
            if ended is None:
                continue
            yield from _landed(agent, flights[lane], ended)
            stopping = agent.env_steps >= stop_step or agent.episodes >= stop_episode
            if stopping or _crossed(config.eval_every, looked, agent.env_steps):
                evaluated = _evaluated(agent, lanes[lane].env, config, best, stopwatch.seconds)
                best = max(best, evaluated.mean_return)
                yield evaluated
                stopping |= config.stop_at_return is not None and evaluated.mean_return >= config.stop_at_return
            if stopping:  # what is still under way in the other lanes is broken off, and nobody hears of it
                return
            looked = agent.env_steps
            flights[lane] = yield from _take_off(agent, lanes, lane, next(numbers), first, config)


def _take_off(
    agent: Agent, lanes: list[_Lane], lane: int, number: int, first: int, config: TrainConfig
) -> Generator[Event, None, _Flight]:
    """Begin an episode: before its camera where it is filmed, and the first one so that its start can be pictured."""
    env, camera = lanes[lane]
    filmed = config.video_every is not None and (number == first or number % config.video_every == 0)
    seen = camera if camera is not None and (filmed or number == first) else env
    obs = _reset(agent, seen, lane)
    if number == first:
        yield Started(None if camera is None else _picture(camera))
    if filmed:
        yield Frame(number, envs.frame(seen))
    return _Flight(seen if filmed else env, envs.check(env), number, filmed, agent.epsilon, obs)


def _fly(
    agent: Agent, flights: list[_Flight], lane: int, action: int, config: TrainConfig, stop_step: float
) -> Generator[Event, None, Ended | None]:
    """One step of an episode: the environment's, and what the agent learns from it. How it ended, if it did."""
    flight = flights[lane]
    size, _, first_action = flight.spaces
    observation, reward, terminated, truncated, _ = flight.env.step(first_action + action)
    next_obs = envs.as_obs(observation, size)
    flight.reward += float(reward)
    flight.length += 1
    ended: Ended | None = None
    if terminated:
        ended = "terminated"
    elif truncated or flight.length == config.max_episode_steps:
        ended = "truncated"
    elif agent.env_steps + 1 >= stop_step:
        ended = "budget"
    # Whatever else ends an episode is a truncation to the learner: the future beyond it still counts.
    update = agent.observe(flight.obs, action, float(reward), next_obs, terminated, ended is not None, lane)
    flight.obs = next_obs
    if update is not None:
        for lasting in flights:
            lasting.losses += update.loss
            lasting.updates += 1
        if _crossed(config.metrics_every, agent.env_steps - agent.config.train_every, agent.env_steps):
            yield Metrics(agent.env_steps, agent.updates, *update, agent.epsilon)
    if flight.filmed:
        yield Frame(flight.number, envs.frame(flight.env))
    return ended


def _landed(agent: Agent, flight: _Flight, ended: Ended) -> Iterator[Event]:
    """Tell of an episode that is over."""
    loss = flight.losses / flight.updates if flight.updates else None
    yield Episode(
        flight.number,
        agent.env_steps,
        flight.reward,
        flight.length,
        loss,
        flight.epsilon,
        agent.target_syncs,
        ended,
    )
    if loss is not None and not math.isfinite(loss):
        raise DivergenceError(
            f"the loss is {loss} in episode {flight.number}, after {agent.env_steps:,} environment steps: the weights "
            f"have diverged. Try a smaller learning_rate (now {agent.learning_rate:g}), a max_grad_norm such as 10 "
            f"(now {agent.config.max_grad_norm}) or the huber loss (now {agent.config.loss}), and see that the "
            "environment's rewards and observations are finite."
        )


def _picture(env: envs.Env) -> Array | None:
    """The state now as a picture. Nobody asked for it, so what goes wrong costs the picture and not the training."""
    try:
        return envs.frame(env)
    except (MissingDependencyError, EnvironmentFaultError) as error:
        warnings.warn(f"no picture of the initial state: {error}", PeriluneWarning, stacklevel=2)
        return None


def _closing(lanes: list[_Lane], events: Iterator[Event]) -> Iterator[Event]:
    """The same events; at their end, whatever it is, all environments are closed but the one that was given."""
    try:
        yield from events
    finally:
        given = lanes[0].env
        for made in itertools.chain(*lanes):
            if made is not None and made is not given:
                made.close()


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


def _reset(agent: Agent, env: envs.Env, lane: int = 0) -> Array:
    """Every reset is seeded, so that an evaluation or a video in between changes nothing in the training."""
    agent.begin_episode(lane)
    size = envs.check(env).observation_size
    observation, _ = env.reset(seed=seeding.episode_seed(agent.generators.environment))
    return envs.as_obs(observation, size)


def _crossed(every: int | None, before: int, now: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, now]."""
    return every is not None and before // every < now // every


def check(agent: Agent, env: envs.Env, config: TrainConfig) -> None:
    """Refuse what cannot be done, before anything is trained.

    Raises:
        ConfigError: the budget ends before the first update, the environment cannot draw the videos asked for, or
            cannot be made again where several are asked for.
    """
    _check_budget(agent, config)
    if config.video_every is not None and not envs.can_draw(env):
        raise ConfigError(
            "video_every",
            config.video_every,
            f'None, because this {envs.name(env)} cannot draw: give its id, or make it with render_mode="rgb_array"',
        )
    if config.environments > 1:
        try:
            envs.again(env).close()
        except UnsupportedEnvironmentError as error:
            raise ConfigError("environments", config.environments, f"1, because {error}") from error


def _check_budget(agent: Agent, config: TrainConfig) -> None:
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


def _warm_up(agent: Agent, env: envs.Env, config: TrainConfig) -> None:
    """Fill the replay with uniformly random play. Its episodes are not counted; the last is cut off (truncated)."""
    size, _, first_action = envs.check(env)
    obs = None
    length = 0
    while not agent.warm:
        if obs is None:
            obs, length = _reset(agent, env), 0
        action = agent.explore()
        observation, reward, terminated, truncated, _ = env.step(first_action + action)
        next_obs = envs.as_obs(observation, size)
        length += 1
        last = len(agent.replay) + len(agent.lanes[0].n_step.pending) + 1 >= agent.config.warmup_steps
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
