"""The figures of a training while it runs, for whoever shows them: a terminal, a notebook."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from perilune._utils.text import clock, number, whole
from perilune.agent.config import TrainConfig
from perilune.training.events import Episode, Evaluated, Event, Metrics, Started

RECENT = 100  # episodes in the mean, and in the recent outcomes
BUCKETS = 512  # a curve keeps at least as many, and at most twice as many, once there are enough values


class Curve:
    """The course of a value over a whole training in little memory: means of equally many neighbours.

    One thread may add while another one reads.
    """

    def __init__(self) -> None:
        self._each = 1
        self._buckets: list[tuple[float, int]] = []  # sum and number

    def add(self, value: float) -> None:
        """Take note of the next value."""
        if self._buckets and self._buckets[-1][1] < self._each:
            total, number = self._buckets[-1]
            self._buckets[-1] = (total + value, number + 1)
            return
        if len(self._buckets) == 2 * BUCKETS:
            self._each *= 2
            self._buckets = _merged(self._buckets, 2)
        self._buckets.append((value, 1))

    def means(self, most: int) -> list[float]:
        """The means of at most ``most`` buckets, equally wide but for the last one, which may not be full yet.

        More values lead to other buckets only when they do not fit any more, so that a picture of them stands still.
        """
        buckets = list(self._buckets)
        return [total / number for total, number in _merged(buckets, max(1, math.ceil(len(buckets) / most)))]


def _merged(buckets: Sequence[tuple[float, int]], each: int) -> list[tuple[float, int]]:
    groups = (buckets[first : first + each] for first in range(0, len(buckets), each))
    return [(sum(total for total, _ in group), sum(number for _, number in group)) for group in groups]


class Figure(NamedTuple):
    """A number to be shown: what it is, the same in at most 9 characters, and the number, as long at most."""

    label: str
    short: str
    value: str


class Summary:
    """The newest figures of a training. It only reads events: the clock is the one thing it asks for.

    Args:
        config: for the budget.
        env_steps, episodes: the agent's counters now.
        now: the clock, in seconds.
        began: what the counters were where the budget began, if that was earlier.
        outcomes: what an episode can come to, where that has names.
        earlier: what happened before, in a training that goes on.
    """

    def __init__(
        self,
        config: TrainConfig,
        env_steps: int,
        episodes: int,
        now: Callable[[], float] = time.perf_counter,
        *,
        began: tuple[int, int] | None = None,
        outcomes: Sequence[str] = (),
        earlier: Iterable[Event] = (),
    ) -> None:
        self._budgets = (config.steps, config.episodes)
        self._first = self._counts = (env_steps, episodes)
        self._began = began or self._first
        self._share_before = self.share
        self._rewards: deque[float] = deque(maxlen=RECENT)
        self._recent: deque[str | None] = deque(maxlen=RECENT)
        self._so_far: Counter[str | None] = Counter()
        self._best: float | None = None
        self._epsilon: float | None = None
        self._loss: float | None = None
        self._metrics: Metrics | None = None
        self.outcomes = tuple(outcomes)
        self.returns = Curve()
        self.state = "filling the replay" if began is None else "going on"
        self.over = False
        for event in earlier:
            self._note(event)
        self._now = now
        self._started = self._read_at = now()

    def read(self, event: Event) -> None:
        """Take note of an event."""
        self._note(event)
        if isinstance(event, Episode | Metrics):
            # Of several environments, the episode that began first may be the last to end.
            number = event.episode if isinstance(event, Episode) else 0
            self._counts = (event.env_steps, max(self._counts[1], number))
            self._read_at = self._now()
        elif isinstance(event, Started):
            self.state = "first episode"

    def _note(self, event: Event) -> None:
        """What an event says for itself, whenever it was."""
        if isinstance(event, Episode):
            self._epsilon = event.epsilon
            self._loss = self._loss if event.loss is None else event.loss
            if event.ended == "budget" or not finite(event.reward):
                return
            self._rewards.append(event.reward)
            self.returns.add(event.reward)
            self._recent.append(event.outcome)
            self._so_far[event.outcome] += 1
        elif isinstance(event, Metrics):
            self._metrics = event
        elif isinstance(event, Evaluated) and event.best:
            self._best = event.mean_return

    @property
    def share(self) -> float:
        """How much of the budget is used, from 0 to 1."""
        used = (count - began for count, began in zip(self._counts, self._began, strict=True))
        return min(1.0, max(n / budget for n, budget in zip(used, self._budgets, strict=True) if budget))

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._now() - self._started

    @property
    def eta(self) -> str:
        """Time to the end of the budget at the pace so far; dashes before there is a pace."""
        done = self.share - self._share_before
        if done <= 0:
            return "-:--"
        end = self._started + (self._read_at - self._started) * (1 - self._share_before) / done
        return clock(max(0.0, end - self._now()))

    @property
    def time(self) -> str:
        """The time left, or at the end the time it took; equally long texts, below ten hours."""
        return f"took {clock(self.elapsed):>6}" if self.over else f"ETA {self.eta:>7}"

    @property
    def figures(self) -> list[Figure]:
        """What can be told in a number: how good the agent is, how far the training, and how its network does."""
        env_steps, episodes = self._counts
        seconds = self._read_at - self._started
        pace = (env_steps - self._first[0]) / seconds if seconds > 0 else None
        mean = sum(rewards) / len(rewards) if (rewards := list(self._rewards)) else None
        metrics = self._metrics
        return [
            Figure(f"mean of {RECENT}", f"mean {RECENT}", number(mean, 1)),
            Figure("best evaluation", "best eval", number(self._best, 1)),
            Figure("epsilon", "epsilon", number(self._epsilon, 3)),
            Figure("episode", "episode", whole(episodes)),
            Figure("steps", "steps", whole(env_steps)),
            Figure("steps/s", "steps/s", "-" if pace is None else whole(round(pace))),
            Figure("loss", "loss", number(self._loss)),
            Figure("mean Q", "mean Q", number(metrics and metrics.mean_q)),
            Figure("gradient norm", "grad norm", number(metrics and metrics.gradient_norm)),
        ]

    @property
    def words(self) -> list[str]:
        """All of it in words, for a line."""
        figures = [f"{figure.label} {figure.value}" for figure in self.figures]
        came_to = [f"{label} {recent}" for label, _, recent in self.came_to]
        return [f"{self.share:4.0%}", " ".join(self.time.split()), *figures, *came_to]

    @property
    def came_to(self) -> list[tuple[str, int, int]]:
        """Every outcome that has a name, how often it was so far, and among the last hundred episodes."""
        recent = Counter(list(self._recent))
        return [(label, self._so_far[label], recent[label]) for label in self.outcomes]


def finite(value: float | None) -> bool:
    """Whether there is a number: in a log there is none where it was not finite."""
    return value is not None and math.isfinite(value)
