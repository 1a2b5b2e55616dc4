"""Events of a training. Loggers, recorders and progress displays read them."""

from __future__ import annotations

from typing import Literal, NamedTuple

from perilune._utils.arrays import Array
from perilune.training.progress import TrainingProgress

Ended = Literal["terminated", "truncated", "budget"]


class Started(NamedTuple):
    """The training has started. ``image`` is the initial state, or None if the environment cannot be rendered."""

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
    """What the latest update computed, and the schedules' values. Yielded every ``metrics_every`` steps."""

    env_steps: int
    updates: int
    loss: float
    mean_q: float
    mean_td_target: float
    gradient_norm: float
    learning_rate: float
    epsilon: float


class Episode(NamedTuple):
    """An episode of training has ended.

    Attributes:
        episode: its number, in the order in which episodes begin; with several environments, they may end in another.
        env_steps: environment steps so far.
        reward: its return (sum of its rewards).
        length: its steps.
        loss: mean loss of the updates while it lasted, None without updates.
        epsilon: epsilon at its beginning.
        target_syncs: syncs of the target network so far.
        ended: why it ended; "budget" if the training did.
        outcome: how it ended, for environments that define outcomes; None if ``ended`` is "budget".
    """

    episode: int
    env_steps: int
    reward: float
    length: int
    loss: float | None
    epsilon: float
    target_syncs: int
    ended: Ended
    outcome: str | None = None


class Evaluated(NamedTuple):
    """A greedy evaluation. ``seconds`` is the training's time so far, without evaluations and readers."""

    env_steps: int
    episodes: int
    mean_return: float
    std_return: float
    min_return: float
    best: bool
    seconds: float


class HealthWarning(NamedTuple):
    """A sign that nothing is learned, although the training can continue.

    ``what`` names the kind; ``words`` is the message, with the likely cause and a remedy.
    """

    env_steps: int
    what: str
    words: str


class WarmingUp(NamedTuple):
    """The warm-up continues. A reader may stop the training here, but there is nothing to save yet."""

    env_steps: int


class SafePoint(NamedTuple):
    """The training can be saved here and resumed exactly: an episode has just begun, or is a long one.

    ``best``: the latest evaluation was the best so far. If ``progress.finished``, this is the last event.
    """

    progress: TrainingProgress
    best: bool


Event = Started | Timestep | Metrics | Episode | Evaluated | HealthWarning | WarmingUp | SafePoint
