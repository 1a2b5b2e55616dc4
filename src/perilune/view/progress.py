"""What a person sees while an agent trains: one calm live line in a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perilune.config import TrainConfig
from perilune.events import Episode, Evaluated, Event, Started

if TYPE_CHECKING:
    from rich.table import Table

PLAIN_SECONDS = 5.0  # between two plain lines; more in a long training, a twentieth of the time so far
REFRESHES = 4  # of the live line, per second
BAR = 16  # characters; drawn where the line has room for it beside all its figures
FIGURES = 97


class Summary:
    """The newest figures of a training in words. It only reads events: the clock is the one thing it asks for."""

    def __init__(
        self,
        config: TrainConfig,
        env_steps: int,
        episodes: int,
        now: Callable[[], float] = time.perf_counter,
        *,
        began: tuple[int, int] | None = None,
    ) -> None:
        self._budgets = (config.steps, config.episodes)
        self._first = self._counts = (env_steps, episodes)
        self._began = began or self._first
        self._share_before = self.share
        self._rewards: deque[float] = deque(maxlen=100)
        self._reward: float | None = None
        self._state = "filling the replay" if began is None else "going on"
        self._epsilon = 1.0
        self._best: float | None = None
        self._now = now
        self._started = now()
        self._read_at = self._started

    def read(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, Episode):
            # Of several environments, the episode that began first may be the last to end.
            self._counts = (event.env_steps, max(self._counts[1], event.episode))
            self._epsilon = event.epsilon
            if event.ended != "budget":
                self._rewards.append(event.reward)
                self._reward = sum(self._rewards) / len(self._rewards)
            self._read_at = self._now()
        elif isinstance(event, Evaluated) and event.best:
            self._best = event.mean_return
        elif isinstance(event, Started):
            self._state = "first episode"

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
    def words(self) -> list[str]:
        """The figures, the most telling first, each as wide at the end of a training as at its start."""
        if not self._counts[1] - self._first[1]:
            return [self._state]
        env_steps, episode = self._counts
        pace = (env_steps - self._first[0]) / max(1e-9, self._read_at - self._started)
        figures = [
            f"reward {self._reward:6.1f}" if self._reward is not None else "reward      -",
            f"best {self._best:6.1f}" if self._best is not None else "best      -",
            f"episode {episode:5,}",
            f"epsilon {self._epsilon:.2f}",
        ]
        return [*figures, f"{env_steps:7,} steps", f"{pace:5,.0f}/s"]


def clock(seconds: float) -> str:
    """Seconds as M:SS, or H:MM:SS from an hour on."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def fitted(parts: Sequence[str], width: int) -> str:
    """As many of ``parts``, from the first, as go into ``width`` characters."""
    line = parts[0]
    for part in parts[1:]:
        if len(line) + 2 + len(part) > width:
            break
        line += "  " + part
    return line


@contextmanager
def live(
    title: str,
    config: TrainConfig,
    env_steps: int,
    episodes: int,
    quiet: bool = False,
    *,
    began: tuple[int, int] | None = None,
) -> Iterator[Callable[[Event], None]]:
    """A function that takes every event of a training and shows the progress on standard error.

    ``reward`` is the mean of the last 100 episodes, ``best`` that of the best greedy evaluation.

    Args:
        title: what is trained.
        config: for the budget.
        env_steps, episodes: the agent's counters at the start.
        quiet: show nothing.
        began: what they were where the budget began, if that was earlier.
    """
    if quiet:
        yield lambda event: None
        return
    # Not needed by those who only import the library, and a tenth of a second long.
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    summary = Summary(config, env_steps, episodes, began=began)
    console = Console(stderr=True, force_jupyter=False)
    if console.is_terminal and not console.is_dumb_terminal:
        # Drawn by a thread of its own a few times a second: an event costs no more than its reading.
        with Live(
            get_renderable=lambda: _row(title, summary, console.width), console=console, refresh_per_second=REFRESHES
        ):
            yield summary.read
        return

    shown = 0.0

    def say() -> None:
        parts = [title, f"{summary.share:4.0%}", f"ETA {summary.eta}", *summary.words]
        console.print("  ".join(parts), highlight=False, markup=False, soft_wrap=True)

    def tell(event: Event) -> None:
        nonlocal shown
        summary.read(event)
        if isinstance(event, Episode) and summary.elapsed - shown >= max(PLAIN_SECONDS, summary.elapsed / 20):
            shown = summary.elapsed
            say()

    yield tell
    say()


def _row(title: str, summary: Summary, width: int) -> Table:
    """One row that fits into ``width``: title, bar where there is room for it, share, time left, figures."""
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    bar = [ProgressBar(1.0, summary.share, width=BAR)] if width >= len(title) + BAR + FIGURES + 4 else []
    room = width - len(title) - 2 - len(bar) * (BAR + 2)
    figures = fitted([f"{summary.share:4.0%}", f"ETA {summary.eta:>5}", *summary.words], room)
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_row(Text(title, style="bold"), *bar, Text(figures))
    for column in row.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    return row
