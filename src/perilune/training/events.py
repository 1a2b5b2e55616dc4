"""What happens in a training, for others to read."""

from __future__ import annotations

from typing import Literal, NamedTuple

from perilune._utils.arrays import Array
from perilune.training.progress import TrainingProgress

Ended = Literal["terminated", "truncated", "budget"]


class Started(NamedTuple):
    """The first episode's initial state as a picture, or None where the environment cannot draw."""

    image: Array | None


class Timestep(NamedTuple):
    """One time step of an episode: a state, and what is known about it.

    In training, these events are only emitted for episodes that are recorded on video.

    Attributes:
        episode: number of the episode, counted from 1.
        step: number of environment steps that the episode has had before this state, 0 at its reset.
        obs: the observation, float [O].
        action: the action chosen in this state, None in an episode's last state.
        reward: the episode's return so far (sum of its rewards before this state).
        outcome: how the episode ended, in its last state and only for environments that define outcomes.
        image: the rendered state, uint8 [height, width, 3], or None if it was not rendered.
        q_values: Q(obs, a) of the evaluated network, float [A], or None if they were not computed.
    """

    episode: int
    step: int
    obs: Array
    action: int | None
    reward: float
    outcome: str | None = None
    image: Array | None = None
    q_values: Array | None = None


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
    ``outcome`` is what it came to, None where that has no name or the budget cut it off.
    """

    episode: int
    env_steps: int
    reward: float
    length: int
    loss: float | None
    epsilon: float
    target_syncs: int
    ended: Ended
    outcome: str | None = None  # which runs of earlier versions do not have


class Evaluated(NamedTuple):
    """A greedy evaluation. ``seconds`` is the training's time so far, evaluations and readers not counted."""

    env_steps: int
    episodes: int
    mean_return: float
    std_return: float
    min_return: float
    best: bool
    seconds: float


class HealthWarning(NamedTuple):
    """Something is off, though the training can go on: what, and in words with the likely cause and the remedy."""

    env_steps: int
    what: str
    words: str


class WarmingUp(NamedTuple):
    """The warm-up is going on. Whoever reads may break it off, but not save it: it would be begun anew."""

    env_steps: int


class SafePoint(NamedTuple):
    """The training can be saved here and resumed exactly: an episode has just begun, or is a long one.

    ``best``: the latest evaluation was the best so far. If ``progress.finished``, this is the last event.
    """

    progress: TrainingProgress
    best: bool


Event = Started | Timestep | Metrics | Episode | Evaluated | HealthWarning | WarmingUp | SafePoint
