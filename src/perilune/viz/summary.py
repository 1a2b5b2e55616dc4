"""Compute statistics of a training run while it runs, for the terminal and the notebook."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from perilune._utils.text import duration, number, whole
from perilune.agent.config import TrainConfig
from perilune.training.events import Episode, Evaluated, Event, Metrics, Started

RECENT = 100  # episodes in the mean return and in the recent outcomes


class TrainingSummary:
    """Current statistics of a training run. One thread may call ``read`` while another one reads the properties.

    Args:
        config: Training settings, which contain the budget.
        env_steps, episodes: The agent's counters.
        now: A clock, in seconds.
        began: The counters at the start of the budget; by default, the current ones.
        outcomes: Labels of the outcomes that the environment defines.
        earlier: Earlier events of a resumed run.
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
        self._returns: list[float] = []
        self._recent: deque[str | None] = deque(maxlen=RECENT)
        self._outcomes: Counter[str | None] = Counter()
        self._best: float | None = None
        self._epsilon: float | None = None
        self._loss: float | None = None
        self._metrics: Metrics | None = None
        self._labels = tuple(outcomes)
        self.state = "filling the replay buffer" if began is None else "resuming"
        self.finished = False
        for event in earlier:
            self._note(event)
        self._now = now
        self._started = self._read_at = now()

    def read(self, event: Event) -> None:
        """Process an event."""
        self._note(event)
        if isinstance(event, Episode | Metrics):
            self._counts = (event.env_steps, self._counts[1] + isinstance(event, Episode))
            self._read_at = self._now()
        elif isinstance(event, Started):
            self.state = "first episode"

    def _note(self, event: Event) -> None:
        if isinstance(event, Episode):
            if self._metrics is None:  # the value at the beginning of the episode, so metrics are more recent
                self._epsilon = event.epsilon
            self._loss = self._loss if event.loss is None else event.loss
            if event.ended == "budget" or not finite(event.reward):
                return
            self._returns.append(event.reward)
            self._recent.append(event.outcome)
            self._outcomes[event.outcome] += 1
        elif isinstance(event, Metrics):
            self._metrics, self._epsilon = event, event.epsilon
        elif isinstance(event, Evaluated) and event.best:
            self._best = event.mean_return

    def returns(self, most: int) -> list[float]:
        """Return at most ``most`` mean returns, each over the same number of consecutive episodes.

        The last mean may include fewer episodes. A new episode changes only the last mean, until this number increases.
        """
        values = np.array(self._returns)
        if not values.size:
            return []
        starts = np.arange(0, len(values), math.ceil(len(values) / most))
        sums = np.add.reduceat(values, starts)
        return [float(mean) for mean in sums / np.diff(starts, append=len(values))]

    @property
    def share(self) -> float:
        """Used share of the budget, from 0 to 1."""
        used = (count - began for count, began in zip(self._counts, self._began, strict=True))
        return min(1.0, max(n / budget for n, budget in zip(used, self._budgets, strict=True) if budget))

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._now() - self._started

    @property
    def eta(self) -> str:
        """Estimated remaining time as text; a dash if it is not known yet."""
        done = self.share - self._share_before
        if done <= 0:
            return "-"
        end = self._started + (self._read_at - self._started) * (1 - self._share_before) / done
        return duration(max(0.0, end - self._now()))

    @property
    def time(self) -> str:
        """Remaining time as text, or the duration of a finished training run."""
        return f"took {duration(self.elapsed)}" if self.finished else f"ETA {self.eta}"

    @property
    def figures(self) -> dict[str, str]:
        """Nine statistics as text, by label: returns and epsilon, progress, and updates.

        A value has at most 9 characters.
        """
        env_steps, episodes = self._counts
        seconds = self._read_at - self._started
        pace = (env_steps - self._first[0]) / seconds if seconds > 0 else None
        last = self._returns[-RECENT:]
        metrics = self._metrics
        return {
            f"mean of {RECENT}": number(sum(last) / len(last) if last else None, 1),
            "best evaluation": number(self._best, 1),
            "epsilon": number(self._epsilon, 3),
            "episode": whole(episodes),
            "steps": whole(env_steps),
            "steps/s": "-" if pace is None else whole(round(pace)),
            "loss": number(self._loss),
            "mean Q": number(metrics and metrics.mean_q),
            "gradient norm": number(metrics and metrics.gradient_norm),
        }

    @property
    def outcomes(self) -> list[tuple[str, int, int]]:
        """Label and counts of each outcome that the environment defines: in all and in the last ``RECENT`` episodes."""
        recent = Counter(list(self._recent))
        return [(label, self._outcomes[label], recent[label]) for label in self._labels]

    @property
    def line(self) -> str:
        """Progress, statistics and outcomes in one line."""
        figures = [f"{label} {value}" for label, value in self.figures.items()]
        outcomes = [f"{label} {recent}" for label, _, recent in self.outcomes]
        return "  ".join([f"{self.share:4.0%}", self.time, *figures, *outcomes])


def finite(value: float | None) -> bool:
    """Return whether ``value`` is a finite number. Logs contain None for a number that is not finite."""
    return value is not None and math.isfinite(value)
