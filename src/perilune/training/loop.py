"""Training: a generator that plays, lets the agent learn, and yields what happened for others to read."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np

from perilune import envs
from perilune._utils import seeding
from perilune._utils.arrays import Array
from perilune.agent.config import TrainConfig
from perilune.agent.dqn import Agent
from perilune.envs.known import lookup
from perilune.envs.rendering import can_draw, drawing, frame
from perilune.errors import (
    ConfigError,
    DivergenceError,
    EnvironmentFaultError,
    MissingDependencyError,
    PeriluneWarning,
    UnsupportedEnvironmentError,
    located,
)
from perilune.training import health
from perilune.training.evaluation import SELECTION_SEEDS, evaluate
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
    WarmingUp,
)
from perilune.training.progress import Course, Flight, FlightState, TrainingState, beginning, stop_episode, stop_step

REST_EVERY = 10_000  # steps of an episode; or one that never ends could never be saved
WARMING_EVERY = 1_000  # steps of the warm-up, after which it may be broken off


def training(agent: Agent, env: envs.Env, config: TrainConfig, state: TrainingState | None = None) -> Iterator[Event]:
    """Train ``agent`` on ``env`` and yield an event for everything worth telling.

    Nothing is written and nothing printed. Between two events the agent is at rest: a reader may save or evaluate
    it. The budgets in ``config`` count from this call; an agent that is past its warm-up does not repeat it.

    Args:
        agent: it is changed.
        env: a supported environment, which ``check`` looks at.
        config: how long, and what to look at on the way.
        state: the state in a ``SafePoint`` of an earlier training, to continue from it. The agent must be in the state
            it was in then, and the budgets count from where they began then. If omitted, a new training starts.

    Raises:
        ConfigError: see ``check``.
        EnvironmentFaultError: the environment raised, or broke the Gymnasium interface.
        DivergenceError: the loss or a gradient is no longer finite.
    """
    check(agent, env, config, state)
    every = [env, *(envs.again(env) for _ in range(config.num_envs - 1))]
    # The first episode's start is pictured in any case; else an environment draws for films alone, for it takes time.
    lanes = [_Lane(one, drawing(one) if one is env or config.video_every else None) for one in every]
    if state is None:
        state = beginning(agent)
    plain = {field.name: getattr(state, field.name) for field in fields(state)}
    course = Course(**plain | {"over": False, "flights": []})
    return _timing(course, _closing(lanes, _training(agent, lanes, config, course, state.flights)))


class _Lane(NamedTuple):
    """One of the environments side by side, and the same one with pictures, where they are wanted and possible."""

    env: envs.Env
    camera: envs.Env | None


def _training(
    agent: Agent, lanes: list[_Lane], config: TrainConfig, course: Course, saved: Sequence[FlightState]
) -> Iterator[Event]:
    last_step = stop_step(config, course.start_steps)
    last_episode = stop_episode(config, course.start_episodes)
    flights, best, updates = course.flights, False, agent.updates
    yield from _noticed(agent, course, health.epsilon_stays(agent.config, config))
    if not agent.warm:
        yield from _warm_up(agent, lanes[0].env, config)
        course.looked = agent.env_steps
    for lane in range(len(lanes)):
        begin = _take_up(agent, lanes, lane, saved[lane], course, config) if saved else None
        flights.append((yield from begin or _take_off(agent, lanes, lane, course, config)))

    while True:
        if any(flight.length % REST_EVERY == 0 for flight in flights):
            yield SafePoint(course, best)
            best = False
        actions = agent.act(np.stack([flight.obs for flight in flights]))
        for lane, action in enumerate(actions):
            ended = yield from _fly(agent, course, lane, action, config, last_step)
            if ended is None:
                continue
            yield from _landed(agent, flights[lane], ended)
            stopping = used_up = agent.env_steps >= last_step or agent.episodes >= last_episode
            if stopping or _crossed(config.eval_every, course.looked, agent.env_steps):
                evaluated = _evaluated(agent, lanes[lane].env, config, course)
                yield evaluated
                if evaluated.best:
                    course.best, best = evaluated.mean_return, True
                stopping |= config.stop_at_return is not None and evaluated.mean_return >= config.stop_at_return
            course.looked = agent.env_steps
            if stopping:  # what is still under way in the other lanes is broken off, and nobody hears of it
                flights.clear()
                course.over = True
                if agent.updates == updates and not saved:
                    yield from _noticed(agent, course, health.no_update(agent.config))
                if used_up:
                    had = agent.episodes - course.start_episodes
                    yield from _noticed(agent, course, health.epsilon_stayed(agent.config, agent.epsilon, had))
                yield SafePoint(course, best)
                return
            flights[lane] = yield from _take_off(agent, lanes, lane, course, config)


def _take_off(
    agent: Agent, lanes: list[_Lane], lane: int, course: Course, config: TrainConfig
) -> Generator[Event, None, Flight]:
    """Begin an episode: before its camera where it is filmed, and the first one so that its start can be pictured."""
    env, camera = lanes[lane]
    number = course.next_number()
    filmed = _is_filmed(number, course, config)
    seen = camera if camera is not None and (filmed or number == course.first) else env
    try:
        seed, obs = _reset(agent, seen, lane)
    except EnvironmentFaultError as error:
        where = f"the reset of episode {number:,}, after environment step {agent.env_steps:,}"
        raise located(error, f". It is {where}") from error
    if number == course.first:
        yield Started(None if camera is None else _picture(camera))
    return Flight(seen if filmed else env, envs.check(env), number, filmed, seed, agent.epsilon, obs, [])


def _is_filmed(number: int, course: Course, config: TrainConfig) -> bool:
    return config.video_every is not None and (number == course.first or number % config.video_every == 0)


def _take_up(
    agent: Agent, lanes: list[_Lane], lane: int, saved: FlightState, course: Course, config: TrainConfig
) -> Generator[Event, None, Flight]:
    """Bring an episode to where it was: no environment can be saved inside one, but the same actions lead there again.

    The agent remembers it already. Where the environment goes another way, the episode begins anew, with a warning.
    """
    env, camera = lanes[lane]
    filmed = _is_filmed(saved.number, course, config)
    seen = camera if camera is not None and filmed else env
    spaces = envs.check(env)
    obs = _reset_again(seen, saved)
    flight = Flight(seen, spaces, saved.number, filmed, saved.seed, saved.epsilon, obs, [])
    flight.losses, flight.updates = saved.losses, saved.updates
    for action in saved.actions:
        if filmed:
            yield _frame(agent, flight, action)
        flight.actions.append(action)
        try:
            flight.obs, reward, terminated, truncated = envs.step(seen, spaces, action)
        except EnvironmentFaultError as error:
            where = f"step {flight.length:,} of episode {flight.number:,}, played again to go on from there"
            raise located(error, f". It is {where}") from error
        flight.reward += reward
        if terminated or truncated:
            break
    if flight.obs.tolist() != list(saved.obs):
        warnings.warn(
            f"{envs.name(env)} does not lead where it did with the same seed and actions, so that this run goes on, "
            "but not exactly as it would have done: not everything in it follows from the seed of its reset, or it is "
            "another version.",
            PeriluneWarning,
            stacklevel=2,
        )
        agent.begin_episode(lane)
        flight.obs, flight.reward = _reset_again(seen, saved), 0.0
        flight.actions.clear()
    return flight


def _reset_again(env: envs.Env, saved: FlightState) -> Array:
    try:
        return envs.reset(env, saved.seed)
    except EnvironmentFaultError as error:
        raise located(error, f". It is the reset of episode {saved.number:,}, to play it again") from error


def _fly(
    agent: Agent, course: Course, lane: int, action: int, config: TrainConfig, last_step: float
) -> Generator[Event, None, Ended | None]:
    """One step of an episode: the environment's, and what the agent learns from it. How it ended, if it did."""
    flights, flight = course.flights, course.flights[lane]
    if flight.filmed:
        yield _frame(agent, flight, action)
    flight.actions.append(action)
    try:
        next_obs, reward, terminated, truncated = envs.step(flight.env, flight.spaces, action)
    except EnvironmentFaultError as error:
        raise located(error, _where(flight, agent.env_steps + 1)) from error
    flight.reward += reward
    course.greatest_reward = max(course.greatest_reward, abs(reward))
    ended: Ended | None = None
    if terminated:
        ended = "terminated"
    elif truncated or flight.length == config.max_episode_steps:
        ended = "truncated"
    elif agent.env_steps + 1 >= last_step:
        ended = "budget"
    # Whatever else ends an episode is a truncation to the learner: the future beyond it still counts.
    try:
        update = agent.observe(flight.obs, action, reward, next_obs, terminated, ended is not None, lane)
    except DivergenceError as error:
        raise located(error, _where(flight, agent.env_steps)) from error
    flight.obs = next_obs
    if update is not None:
        for lasting in flights:
            lasting.losses += update.loss
            lasting.updates += 1
        if _crossed(config.metrics_every, agent.env_steps - agent.config.train_freq, agent.env_steps):
            yield Metrics(agent.env_steps, agent.updates, *update, agent.epsilon)
            found = health.beyond_rewards(agent.config, agent.actions, update.mean_q, course.greatest_reward)
            yield from _noticed(agent, course, found)
    if ended is not None:
        known = lookup(envs.name(flight.env)).outcomes
        if known is not None and ended != "budget":
            flight.outcome = known.label(next_obs, reward, terminated)
        if flight.filmed:
            yield _frame(agent, flight, None)
    return ended


def _frame(agent: Agent, flight: Flight, action: int | None) -> Timestep:
    try:
        image = frame(flight.env)
    except EnvironmentFaultError as error:
        raise located(error, _where(flight, agent.env_steps)) from error
    return Timestep(flight.number, flight.length, flight.obs, action, flight.reward, flight.outcome, image)


def _noticed(agent: Agent, course: Course, found: health.Notice | None) -> Iterator[Event]:
    """Tell of what is off, once in a run."""
    if found is not None and found.what not in course.noticed:
        course.noticed += (found.what,)
        yield HealthWarning(agent.env_steps, *found)


def _where(flight: Flight, env_step: int) -> str:
    return f". It is step {flight.length:,} of episode {flight.number:,}, environment step {env_step:,}"


def _landed(agent: Agent, flight: Flight, ended: Ended) -> Iterator[Event]:
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
        flight.outcome,
    )


def _picture(env: envs.Env) -> Array | None:
    """The state now as a picture. Nobody asked for it, so what goes wrong costs the picture and not the training."""
    try:
        return frame(env)
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
                envs.close(made)


def greedy_limit(env: envs.Env, config: TrainConfig) -> int | None:
    """Steps of a greedy episode: None where the environment has a limit, else the training's limit if it has one."""
    return None if envs.time_limit(env) is not None else config.max_episode_steps


def _evaluated(agent: Agent, env: envs.Env, config: TrainConfig, course: Course) -> Evaluated:
    """Score the agent as it is now, on start states that only choose the best checkpoint."""
    try:
        result = evaluate(
            agent.greedy_action,
            env,
            config.eval_episodes,
            first_seed=SELECTION_SEEDS,
            max_episode_steps=greedy_limit(env, config),
        )
    except EnvironmentFaultError as error:
        raise located(error, f", in the evaluation after {agent.env_steps:,} environment steps") from error
    return Evaluated(
        env_steps=agent.env_steps,
        episodes=agent.episodes,
        mean_return=result.mean_return,
        std_return=result.std_return,
        min_return=result.min_return,
        # of equals the later, which has learned from more
        best=course.best is None or result.mean_return >= course.best,
        seconds=course.seconds,
    )


def _reset(agent: Agent, env: envs.Env, lane: int = 0) -> tuple[int, Array]:
    """Every reset is seeded, so that an evaluation or a video in between changes nothing in the training."""
    agent.begin_episode(lane)
    seed = seeding.episode_seed(agent.generators.environment)
    return seed, envs.reset(env, seed)


def _crossed(every: int | None, before: int, now: int) -> bool:
    """Whether a multiple of ``every`` lies in (before, now]."""
    return every is not None and before // every < now // every


def check(agent: Agent, env: envs.Env, config: TrainConfig, state: TrainingState | None = None) -> None:
    """Refuse what cannot be done, before anything is trained.

    Raises:
        ConfigError: the budget ends before the first update, or nothing is left of it; the replay does not fit into
            memory; the environment cannot draw the videos asked for, or cannot be made again where several are asked
            for; or the state is of another number of environments.
    """
    _check_budget(agent, config, state)
    agent.take_memory()
    if config.video_every is not None and not can_draw(env):
        raise ConfigError(
            "video_every",
            config.video_every,
            f'None, because this {envs.name(env)} cannot draw: give its id, or make it with render_mode="rgb_array"',
        )
    if config.num_envs > 1:
        try:
            envs.close(envs.again(env))
        except UnsupportedEnvironmentError as error:
            raise ConfigError("num_envs", config.num_envs, f"1, because {error}") from error


def _check_budget(agent: Agent, config: TrainConfig, state: TrainingState | None) -> None:
    """Refuse a budget that ends before the first update: a training that changes nothing is a mistake."""
    if state is not None:
        left = stop_step(config, state.start_steps) - agent.env_steps
        more = stop_episode(config, state.start_episodes) - agent.episodes
        if min(left, more) <= 0:
            name = "steps" if left <= 0 else "episodes"
            raise ConfigError(name, getattr(config, name), "more than this run has already had")
        if state.flights and len(state.flights) != config.num_envs:
            raise ConfigError("num_envs", config.num_envs, f"{len(state.flights)}, as many as are under way")
        return
    learning_starts, train_freq = agent.config.learning_starts, agent.config.train_freq
    learning_from = agent.env_steps + (0 if agent.warm else learning_starts)
    needed = (learning_from // train_freq + 1) * train_freq - agent.env_steps
    if config.steps is not None and config.steps < needed:
        raise ConfigError(
            "steps",
            config.steps,
            f"at least {needed}, or no update would ever happen "
            f"(learning_starts = {learning_starts}, train_freq = {train_freq})",
        )


def _warm_up(agent: Agent, env: envs.Env, config: TrainConfig) -> Iterator[Event]:
    """Fill the replay with uniformly random play. Its episodes are not counted; the last is cut off (truncated)."""
    spaces = envs.check(env)
    obs = None
    length = 0
    while not agent.warm:
        length += 1
        try:
            if obs is None:
                obs, length = _reset(agent, env)[1], 1
            action = agent.explore()
            next_obs, reward, terminated, truncated = envs.step(env, spaces, action)
            last = len(agent.replay) + len(agent.lanes[0].n_step.pending) + 1 >= agent.config.learning_starts
            truncated = truncated or last or length == config.max_episode_steps
            agent.remember(obs, action, reward, next_obs, terminated, truncated)
        except EnvironmentFaultError as error:
            what = "a reset in the warm-up, before" if obs is None else f"step {length:,} of an episode in the warm-up,"
            raise located(error, f". It is {what} environment step {agent.env_steps + 1:,}") from error
        except DivergenceError as error:
            where = f"step {length:,} of an episode in the warm-up, environment step {agent.env_steps:,}"
            raise located(error, f". It is {where}") from error
        obs = None if terminated or truncated else next_obs
        if agent.env_steps % WARMING_EVERY == 0:
            yield WarmingUp(agent.env_steps)


def _timing(course: Course, events: Iterator[Event]) -> Iterator[Event]:
    """The same events; ``course.seconds`` is what the training took itself, without its readers and evaluations."""
    while True:
        started = time.perf_counter()
        event = next(events, None)
        if event is None:
            return
        if not isinstance(event, Evaluated):  # before which there is nothing but the evaluation
            course.seconds += time.perf_counter() - started
        yield event
