"""The environments of a training: made before it, closed after it, and timed in between."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from perilune import envs
from perilune._utils.arrays import Array
from perilune.envs.known import KnownEnv, lookup
from perilune.envs.rendering import drawing, frame
from perilune.errors import EnvironmentFaultError, MissingDependencyError, PeriluneWarning
from perilune.training.events import Evaluated, Event
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


def initial_image(env: envs.Env) -> Array | None:
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
