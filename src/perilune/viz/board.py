"""What a person sees while several agents train at once: a bar for each in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from perilune._utils.console import stderr
from perilune._utils.text import clock
from perilune.viz.terminal import BAR, PLAIN_SECONDS

if TYPE_CHECKING:
    from rich.table import Table


class Lane(NamedTuple):
    """A training that is running: how much of its budget is used, from 0 to 1, and figures, the most telling first."""

    title: str
    share: float
    figures: Sequence[str]


class Standing(NamedTuple):
    """How far everything is: the share of the whole, from 0 to 1, what there is to say of it, and what is running."""

    share: float
    words: str
    lanes: Sequence[Lane]


class Board(NamedTuple):
    """``show`` draws how things stand; ``say`` tells one thing for good, above what is drawn."""

    show: Callable[[Standing], object]
    say: Callable[[str], object]


class Pace:
    """Time left at the pace since the first look, which may come when much is done already."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._started = now()
        self._first: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._now() - self._started

    def eta(self, share: float) -> str:
        """Time until ``share`` is 1; dashes before there is a pace."""
        if self._first is None:
            self._first = share
        gained = share - self._first
        return clock(self.elapsed * (1 - share) / gained) if gained > 0 else "-:--"


@contextmanager
def board(title: str, quiet: bool = False) -> Iterator[Board]:
    """A board on standard error, that is gone when the block ends; what was said stays.

    Args:
        title: what all the trainings are.
        quiet: show and say nothing.
    """
    if quiet:
        yield Board(lambda standing: None, lambda line: None)
        return
    from rich.console import Console  # noqa: PLC0415 -- a tenth of a second long
    from rich.live import Live  # noqa: PLC0415

    console = Console(file=stderr(), stderr=True, force_jupyter=False)
    pace = Pace()

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    if console.is_terminal and not console.is_dumb_terminal:
        # Drawn when there is news, by nobody else: no thread, and nothing to wait for.
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield Board(lambda standing: live.update(_rows(title, standing, pace, console.width), refresh=True), say)
        return

    shown = 0.0

    def show(standing: Standing) -> None:
        nonlocal shown
        eta = pace.eta(standing.share)
        if pace.elapsed - shown >= max(PLAIN_SECONDS, pace.elapsed / 20):
            shown = pace.elapsed
            running = [f"{lane.title} {lane.share:.0%}" for lane in standing.lanes]
            say("  ".join([title, f"{standing.share:4.0%}", f"ETA {eta}", standing.words, *running]))

    yield Board(show, say)


def fitted(parts: Sequence[str], width: int) -> str:
    """As many of ``parts``, from the first, as go into ``width`` characters."""
    line = parts[0]
    for part in parts[1:]:
        if len(line) + 2 + len(part) > width:
            break
        line += "  " + part
    return line


def _rows(title: str, standing: Standing, pace: Pace, width: int) -> Table:
    """A row for each lane and one for the whole, no wider than ``width``; bars where they leave room for words."""
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    whole = Lane(title, standing.share, [f"ETA {pace.eta(standing.share):>5}", standing.words])
    longest = max(len(lane.title) for lane in (whole, *standing.lanes))
    bars = width >= longest + BAR + 40
    room = width - longest - 2 - bars * (BAR + 2)
    rows = Table.grid(padding=(0, 2, 0, 0))
    for lane in (*standing.lanes, whole):
        bar = [ProgressBar(1.0, lane.share, width=BAR)] if bars else []
        rows.add_row(
            Text(lane.title, style="bold" if lane is whole else ""),
            *bar,
            Text(fitted([f"{lane.share:4.0%}", *lane.figures], room)),
        )
    for column in rows.columns:
        column.no_wrap, column.overflow = True, "ellipsis"
    return rows
