"""Show training progress on standard error: with Rich in a terminal, else as plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from perilune._utils.console import stderr
from perilune._utils.text import duration, number
from perilune.training.events import Episode, Event
from perilune.viz import notebook
from perilune.viz.summary import RECENT, TrainingSummary

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table

PLAIN_SECONDS = 5.0  # between two plain lines, or a twentieth of the elapsed time if that is longer
REFRESHES = 2  # of the display, per second
BAR = 16  # characters of a progress bar
MAX_WIDTH = 88  # characters of the display
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-:=+*#"


class Status(NamedTuple):
    """State of a training run on a board: title, used share of the budget, and statistics, most important first."""

    title: str
    share: float
    figures: Sequence[str]


class Board(NamedTuple):
    """Functions of a display: ``show(share, words, running)`` updates it, and ``say(line)`` prints a line above it."""

    show: Callable[[float, str, Sequence[Status]], object]
    say: Callable[[str], object]


@contextmanager
def live(title: str, summary: TrainingSummary) -> Iterator[Callable[[Event], None]]:
    """Yield a function that takes each event of a training run and shows progress in a notebook or on stderr."""
    if notebook.in_kernel():
        with notebook.live(title, summary) as read:
            yield read
        return
    console = _console()
    title = title.encode(console.encoding, "replace").decode(console.encoding)
    with (_block if _interactive(console) else _lines)(title, summary, console) as read:
        yield read


@contextmanager
def _block(title: str, summary: TrainingSummary, console: Console) -> Iterator[Callable[[Event], None]]:
    from rich.live import Live  # noqa: PLC0415 -- slow to import

    def draw() -> Group:
        return block(title, summary, min(console.width, MAX_WIDTH), console.options.ascii_only)

    # Live draws in another thread, so that processing an event takes little time.
    with Live(get_renderable=draw, console=console, refresh_per_second=REFRESHES):
        try:
            yield summary.read
        finally:
            summary.finished = True


@contextmanager
def _lines(title: str, summary: TrainingSummary, console: Console) -> Iterator[Callable[[Event], None]]:
    shown = 0.0

    def read(event: Event) -> None:
        nonlocal shown
        summary.read(event)
        if isinstance(event, Episode) and summary.elapsed - shown >= max(PLAIN_SECONDS, summary.elapsed / 20):
            shown = summary.elapsed
            _say(console, f"{title}  {summary.line}")

    yield read
    summary.finished = True
    _say(console, f"{title}  {summary.line}")


def block(title: str, summary: TrainingSummary, width: int, ascii_only: bool = False) -> Group:
    """Return the display of a training run, at most ``width`` wide: progress, returns, statistics and outcomes."""
    from rich.console import Group  # noqa: PLC0415
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    bar = [ProgressBar(1.0, summary.share)] if width >= len(title) + BAR + 28 else []
    head = _grid([[Text(title, "bold"), *bar, f"{summary.share:4.0%}", f"{summary.time:>16}"]], width)
    head.columns[len(bar)].ratio = 1

    means = summary.returns(max(8, width - 36))
    returns = Text(summary.state, "dim italic")
    if means:
        returns = Text(sparkline(means, ascii_only), "cyan")
        returns.append(f"  {number(min(means))} to {number(max(means))}", "dim")
    returns.no_wrap, returns.overflow = True, "crop"

    cells = [Text(cell) for figure in summary.figures.items() for cell in figure]
    row = 6 if width >= 72 else 4 if width >= 48 else 2
    figures = _grid([cells[first : first + row] for first in range(0, len(cells), row)], width)
    for label, value in zip(figures.columns[::2], figures.columns[1::2], strict=True):
        label.style, value.justify, value.min_width = "dim", "right", 9

    table = [("", "so far", f"last {RECENT}")]
    table += [(label, f"{total:,}", f"{last}") for label, total, last in summary.outcomes]
    if width >= 12 + sum(len(label) + 4 for label, *_ in table):
        table = list(zip(*table, strict=True))
    outcomes = _grid([map(Text, line) for line in table])
    for place, column in enumerate(outcomes.columns):
        column.justify, column.style = ("right", "") if place else ("left", "dim")
    return Group(head, returns, figures, *([outcomes] if summary.outcomes else []))


def sparkline(values: Sequence[float], ascii_only: bool = False) -> str:
    """Return one bar character per value, in eight heights. If all values are equal, use a middle height."""
    steps = ASCII_BLOCKS if ascii_only else BLOCKS
    low, high = min(values, default=0.0), max(values, default=0.0)
    if high / 2 - low / 2 <= 1e-9 * max(abs(high), abs(low)):  # equal except for rounding
        return steps[3] * len(values)
    return "".join(steps[min(7, int(8 * (value / 2 - low / 2) / (high / 2 - low / 2)))] for value in values)


@contextmanager
def board(title: str, quiet: bool = False) -> Iterator[Board]:
    """Show several training runs on standard error: one bar per run in a terminal, else plain lines.

    The estimated remaining time counts down from the last progress, so that scoring, which is not part of the budget,
    does not increase it. While all runs have used up their budget, there is no estimate. The bars disappear at the end.
    Lines printed with ``say`` stay.
    """
    if quiet:
        yield Board(lambda share, words, running: None, lambda line: None)
        return
    from rich.live import Live  # noqa: PLC0415

    console, started, shown = _console(), time.perf_counter(), 0.0
    first: float | None = None  # share at the first call; a resumed run does not start at 0
    last = moved = 0.0  # the largest share, and the seconds until it was reached

    def show(share: float, words: str, running: Sequence[Status]) -> None:
        nonlocal first, shown, last, moved
        first = share if first is None else first
        elapsed = time.perf_counter() - started
        if share > last:
            last, moved = share, elapsed
        left = moved * (1 - share) / (share - first) + moved - elapsed if share > first else None
        figures = [f"ETA {'-' if left is None else duration(max(0.0, left))}", words]
        if running and all(run.share == 1 for run in running):
            figures = ["scoring", words]
        if screen is not None:
            screen.update(_rows([*running, Status(title, share, figures)], console.width), refresh=True)
        elif elapsed - shown >= max(PLAIN_SECONDS, elapsed / 20):
            shown = elapsed
            rows = [f"{run.title} {run.share:.0%}" for run in running]
            _say(console, "  ".join([title, f"{share:4.0%}", *figures, *rows]))

    bars = Live(console=console, auto_refresh=False, transient=True) if _interactive(console) else nullcontext()
    with bars as screen:
        yield Board(show, lambda line: _say(console, line))


def _rows(states: Sequence[Status], width: int) -> Table:
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    rows: list[list[Any]] = []
    bars = width >= max(len(state.title) for state in states) + BAR + 40
    for title, share, figures in states:
        bar = [ProgressBar(1.0, share, width=BAR)] if bars else []
        rows.append([Text(title), *bar, Text("  ".join([f"{share:4.0%}", *figures]))])
    rows[-1][0].stylize("bold")
    return _grid(rows)


@contextmanager
def progress_bar(words: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on standard error, or plain lines if it is not a terminal and the work takes long.

    Args:
        words: Text next to the bar.

    Yields:
        A function that takes the completed and the total amount. Before the first call, the bar has no end.
    """
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    console = _console()
    if not _interactive(console):
        yield _plain_progress(words, console)
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(escape(words), total=None)
        yield lambda count, total: bar.update(task, completed=count, total=total)


def _plain_progress(words: str, console: Console) -> Callable[[int, int], None]:
    started, shown = time.perf_counter(), 0.0

    def tell(count: int, total: int) -> None:
        nonlocal shown
        elapsed = time.perf_counter() - started
        if elapsed - shown >= max(PLAIN_SECONDS, elapsed / 20):
            shown = elapsed
            _say(console, f"{words}  {count / total:4.0%}")

    return tell


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415

    return Console(file=stderr(), stderr=True, force_jupyter=False)


def _interactive(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _grid(rows: Iterable[Iterable[Any]], width: int | None = None) -> Table:
    """Return a table without borders, by default as wide as its cells. Text that does not fit is cut off."""
    from rich.table import Table  # noqa: PLC0415

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.width = width
    for row in rows:
        grid.add_row(*row)
    for column in grid.columns:
        column.no_wrap = True
    return grid
