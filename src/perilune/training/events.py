"""Events of a training run. Loggers, recorders, progress displays and callbacks read them."""

from __future__ import annotations

from typing import Literal, NamedTuple

from perilune._utils.arrays import Array
from perilune.training.progress import TrainingProgress

Ended = Literal["terminated", "truncated", "budget"]


class Started(NamedTuple):
    """Training has started.

    Attributes:
        image: the initial state, uint8 [height, width, 3], or None if it cannot be rendered.
    """

    image: Array | None


class Timestep(NamedTuple):
    """One time step of an episode. In training, only episodes that are recorded on video emit time steps.

    Attributes:
        episode: number of the episode, counted from 1.
        step: number of environment steps before this state, 0 after the reset.
        obs: the observation, float32 [O].
        action: the action chosen in this state; None in the last state of an episode.
        reward: the return so far (sum of the rewards before this state).
        outcome: how the episode ended; only in its last state, for environments that define outcomes.
        image: the rendered state, uint8 [height, width, 3], or None.
        q_values: Q(obs, a) of the evaluated network, float [A], or None.
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
    """Results of the latest update and current values of schedules, every ``metrics_every`` steps.

    Attributes:
        env_steps: environment steps so far.
        updates: updates so far.
        loss: the loss.
        mean_q: mean of Q(obs, action) over the batch.
        mean_td_target: mean of the TD targets.
        gradient_norm: norm of the gradient before clipping.
        learning_rate: the step size.
        epsilon: probability of exploration.
    """

    env_steps: int
    updates: int
    loss: float
    mean_q: float
    mean_td_target: float
    gradient_norm: float
    learning_rate: float
    epsilon: float


class Episode(NamedTuple):
    """An episode of the training run has ended.

    Attributes:
        episode: its number, in the order in which episodes begin. With several environments, they may end in another
            order.
        env_steps: environment steps so far.
        reward: its return (sum of its rewards).
        length: its number of time steps.
        loss: mean loss of the updates since its beginning, or None without updates.
        epsilon: epsilon at its beginning.
        target_syncs: updates of the target network so far.
        ended: why it ended; "budget" if the budget was used up.
        outcome: how it ended, for environments that define outcomes. None if ``ended`` is "budget".
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
    """A greedy evaluation.

    Attributes:
        env_steps: environment steps so far.
        episodes: episodes so far.
        mean_return: mean of the returns.
        std_return: standard deviation of the returns.
        min_return: smallest return.
        best: whether no earlier evaluation had a larger mean.
        seconds: duration of the training run so far, without evaluations and the code that reads events.
        cpu_seconds: CPU time of the same parts, of all threads of the process, or None in logs of earlier versions.
    """

    env_steps: int
    episodes: int
    mean_return: float
    std_return: float
    min_return: float
    best: bool
    seconds: float
    cpu_seconds: float | None = None


class HealthWarning(NamedTuple):
    """A sign that the agent learns nothing useful, although training can continue.

    Attributes:
        env_steps: environment steps so far.
        what: kind of the warning.
        words: the message, with the likely cause and what to try.
    """

    env_steps: int
    what: str
    words: str


class WarmingUp(NamedTuple):
    """The warm-up continues. You may stop training here, but there is nothing to save yet.

    Attributes:
        env_steps: environment steps so far.
    """

    env_steps: int


class SafePoint(NamedTuple):
    """Training can be saved here and resumed exactly.

    An episode has just begun, or a long one has reached a multiple of 10,000 time steps.

    Attributes:
        progress: the progress. If it is ``finished``, this is the last event.
        best: whether the latest evaluation was the best so far.
    """

    progress: TrainingProgress
    best: bool


Event = Started | Timestep | Metrics | Episode | Evaluated | HealthWarning | WarmingUp | SafePoint
