"""What a person sees while an agent trains: one live line in a terminal or a notebook, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perilune.config import TrainConfig
from perilune.train import Episode, Evaluated, Event

PLAIN_SECONDS = 5.0  # between two plain lines


class Summary:
    """The newest figures of a training in words."""

    def __init__(self, config: TrainConfig, env_steps: int, episodes: int) -> None:
        self._config = config
        self._first = (env_steps, episodes)
        self._now = (env_steps, episodes)
        self._rewards: deque[float] = deque(maxlen=100)
        self._epsilon = 1.0
        self._best: float | None = None
        self._started = time.perf_counter()

    def read(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, Episode):
            self._now = (event.env_steps, event.episode)
            self._epsilon = event.epsilon
            if event.ended != "budget":
                self._rewards.append(event.reward)
        if isinstance(event, Evaluated) and event.best:
            self._best = event.mean_return

    @property
    def share(self) -> float:
        """How much of the budget is used, from 0 to 1."""
        used = [now - first for now, first in zip(self._now, self._first, strict=True)]
        budgets = (self._config.steps, self._config.episodes)
        return max(share / budget for share, budget in zip(used, budgets, strict=True) if budget is not None)

    @property
    def eta(self) -> float | None:
        """Seconds to the end of the budget at the pace so far, or None before there is one."""
        elapsed = time.perf_counter() - self._started
        return elapsed * (1 - self.share) / self.share if self.share > 0 else None

    def __str__(self) -> str:
        env_steps, episodes = self._now
        pace = (env_steps - self._first[0]) / max(1e-9, time.perf_counter() - self._started)
        reward = f"{sum(self._rewards) / len(self._rewards):7.1f}" if self._rewards else "      -"
        best = f"{self._best:.1f}" if self._best is not None else "-"
        return (
            f"episode {episodes:,}  reward (last {len(self._rewards)}) {reward}  best greedy {best}  "
            f"epsilon {self._epsilon:.2f}  {env_steps:,} steps, {pace:,.0f}/s"
        )


@contextmanager
def live(
    title: str, config: TrainConfig, env_steps: int, episodes: int, quiet: bool = False
) -> Iterator[Callable[[Event], None]]:
    """A function that takes every event of a training and shows the progress on standard error.

    Args:
        title: what is trained.
        config: for the budget.
        env_steps, episodes: the agent's counters at the start.
        quiet: show nothing.
    """
    if quiet:
        yield lambda event: None
        return
    # Not needed by those who only import the library, and a tenth of a second long.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    summary = Summary(config, env_steps, episodes)
    console = Console(stderr=True)
    if console.is_terminal or console.is_jupyter:
        columns = (
            TextColumn("[bold]{task.description}"), BarColumn(bar_width=24), TaskProgressColumn(), TimeElapsedColumn(),
            TextColumn("ETA"), TimeRemainingColumn(elapsed_when_finished=False), TextColumn("{task.fields[words]}"),
        )  # fmt: skip
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(title, total=1.0, words="filling the replay")

            def show(event: Event) -> None:
                summary.read(event)
                if isinstance(event, Episode | Evaluated):
                    bar.update(task, completed=summary.share, words=str(summary))

            yield show
        return

    shown = time.perf_counter()

    def tell(event: Event) -> None:
        nonlocal shown
        summary.read(event)
        if isinstance(event, Episode) and (time.perf_counter() - shown >= PLAIN_SECONDS or summary.share >= 1):
            shown = time.perf_counter()
            eta = f"{summary.eta:.0f} s" if summary.eta is not None else "unknown"
            console.print(f"{title}  {summary.share:4.0%}  ETA {eta}  {summary}", highlight=False, soft_wrap=True)

    yield tell
