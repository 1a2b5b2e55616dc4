"""What a person sees while an agent trains: one calm block in a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perilune._utils.console import stderr
from perilune._utils.text import WIDTH, number
from perilune.agent.config import TrainConfig
from perilune.training.events import Episode, Event
from perilune.viz import notebook
from perilune.viz.summary import RECENT, Figure, Summary

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

PLAIN_SECONDS = 5.0  # between two plain lines; more in a long training, a twentieth of the time so far
REFRESHES = 2  # of the block, per second: calm, and a quarter of a percent of the time
BAR = 16  # characters of a bar beside words
WIDEST = 88  # columns of the block: wider, and what belongs together would be far apart
BLOCKS, PLAIN_BLOCKS = "▁▂▃▄▅▆▇█", "_.-:=+*#"  # for terminals that know no others

Line = list[tuple[str, str]]
"""A line in pieces: words, and how rich is to style them."""


@contextmanager
def live(
    title: str,
    config: TrainConfig,
    env_steps: int,
    episodes: int,
    quiet: bool = False,
    *,
    began: tuple[int, int] | None = None,
    outcomes: Sequence[str] = (),
    earlier: Iterable[Event] = (),
) -> Iterator[Callable[[Event], None]]:
    """A function that takes every event of a training and shows the progress: in a notebook there, else on stderr.

    Args:
        title: what is trained.
        config, env_steps, episodes, began, outcomes, earlier: as ``summary.Summary`` has them.
        quiet: show nothing.
    """
    if quiet:
        yield lambda event: None
        return
    summary = Summary(config, env_steps, episodes, began=began, outcomes=outcomes, earlier=earlier)
    if notebook.in_kernel():
        with notebook.live(title, summary) as tell:
            yield tell
        return
    # Not needed by those who only import the library, and a tenth of a second long.
    from rich.console import Console  # noqa: PLC0415

    console = Console(file=stderr(), stderr=True, force_jupyter=False)
    title = title.encode(console.encoding, "replace").decode(console.encoding)
    with (_block if console.is_terminal and not console.is_dumb_terminal else _lines)(title, summary, console) as tell:
        yield tell


@contextmanager
def _block(title: str, summary: Summary, console: Console) -> Iterator[Callable[[Event], None]]:
    """In a terminal: a block that is drawn over, and stays where it is when the training is over."""
    from rich.control import Control  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.segment import ControlType  # noqa: PLC0415

    lengths: list[int] = []  # of the lines on the screen

    def draw() -> Text:
        nonlocal lengths
        width, height = console.size
        # A terminal that has become narrower has broken them: so many rows more are to be wiped away.
        broken = sum(max(0, length - 1) // width for length in lengths)
        console.control(Control(*[(ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)] * broken))
        lines = block(title, summary, width, height, console.options.ascii_only)
        lengths = [min(width, _length(line)) for line in lines]
        return styled(lines)

    # Drawn by a thread of its own now and then: an event costs no more than its reading.
    with Live(get_renderable=draw, console=console, refresh_per_second=REFRESHES):
        try:
            yield summary.read
        finally:
            summary.over = True


@contextmanager
def _lines(title: str, summary: Summary, console: Console) -> Iterator[Callable[[Event], None]]:
    """Elsewhere: a line now and then, and one at the end."""
    shown = 0.0

    def say() -> None:
        console.print("  ".join([title, *summary.words]), highlight=False, markup=False, soft_wrap=True)

    def tell(event: Event) -> None:
        nonlocal shown
        summary.read(event)
        if isinstance(event, Episode) and summary.elapsed - shown >= max(PLAIN_SECONDS, summary.elapsed / 20):
            shown = summary.elapsed
            say()

    yield tell
    summary.over = True
    say()


@contextmanager
def done(doing: str) -> Iterator[Callable[[int, int], None]]:
    """A function that takes how much is done, and of how much, and shows it on stderr: ``doing`` in words and a bar.

    The bar is gone in the end. Where there is no terminal the words are told once, when something is done.
    """
    from rich.console import Console  # noqa: PLC0415 -- a tenth of a second long
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(file=stderr(), stderr=True, force_jupyter=False)
    if not console.is_terminal or console.is_dumb_terminal:
        told = False

        def tell(count: int, whole: int) -> None:
            nonlocal told
            if not told:
                console.print(doing, highlight=False, markup=False, soft_wrap=True)
            told = True

        yield tell
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(escape(doing), total=None)
        yield lambda count, whole: bar.update(task, completed=count, total=whole)


def block(title: str, summary: Summary, width: int, height: int, ascii_only: bool = False) -> list[Line]:
    """The lines of the block, none wider than ``width``; the least telling ones go where ``height`` is too small."""
    width = min(width, WIDEST)
    head, bar = _head(title, summary, width, ascii_only)
    figures = _grid(summary.figures, width)
    outcomes = _outcomes(summary.came_to, width)
    # With how soon each has to go: 0 last.
    lines = [(0, head), *([(6, bar)] if bar else []), (1, _returns(summary, width, ascii_only))]
    lines += [((2, 4, 5)[min(2, place)], line) for place, line in enumerate(figures)]
    lines += [(3, line) for line in outcomes]
    room = max(1, height - 1)  # the cursor stands below in the end
    kept = sorted(sorted(range(len(lines)), key=lambda place: (lines[place][0], place))[:room])
    return [lines[place][1] for place in kept]


def styled(lines: Sequence[Line]) -> Text:
    """The lines as rich draws them."""
    from rich.text import Text  # noqa: PLC0415

    text = Text(no_wrap=True, overflow="crop", end="")
    for place, line in enumerate(lines):
        text.append("\n" if place else "")
        for words, style in line:
            text.append(words, style or None)
    return text


def sparkline(values: Sequence[float], ascii_only: bool = False) -> str:
    """A character per value, from the lowest to the highest of them in eight steps; all equal ones in the middle."""
    steps = PLAIN_BLOCKS if ascii_only else BLOCKS
    low, high = min(values, default=0.0), max(values, default=0.0)
    if high / 2 - low / 2 <= 1e-9 * max(abs(high), abs(low)):  # what rounding makes of equal ones is equal
        return steps[3] * len(values)
    return "".join(steps[min(7, int(8 * (value / 2 - low / 2) / (high / 2 - low / 2)))] for value in values)


def _length(line: Line) -> int:
    return sum(len(words) for words, _ in line)


def _head(title: str, summary: Summary, width: int, ascii_only: bool) -> tuple[Line, Line]:
    """Title, bar, share, time; and the bar by itself where it does not fit in beside them."""
    right = f"{summary.share:4.0%}  {summary.time}"
    room = width - len(right) - 1  # the share mostly begins with a space
    if room < 4:
        return [(right[:width], "")], []
    if len(title) > room:
        title = title[: room - 1] + ("~" if ascii_only else "…")
    beside = room - len(title) - 2
    if beside >= BAR:
        return [(title, "bold"), ("  ", ""), *_bar(summary.share, beside, ascii_only), (f" {right}", "")], []
    return [(title.ljust(room), "bold"), (f" {right}", "")], _bar(summary.share, width, ascii_only)


def _bar(share: float, width: int, ascii_only: bool) -> Line:
    done, left = "=-" if ascii_only else "━─"
    full = int(share * width)
    return [(done * full, "cyan"), (left * (width - full), "dim")]


def _returns(summary: Summary, width: int, ascii_only: bool) -> Line:
    """The course of the returns, and from where to where its scale goes; before there are any, what is going on."""
    wide = width >= 60
    label = f"{'returns':<{WIDTH}}" if wide else ""
    scale = 25 if wide else 18
    means = summary.returns.means(max(8, width - len(label) - scale - 2))
    if not means:
        return [(label, "dim"), (summary.state[:width], "dim italic")]
    line: Line = [(label, "dim"), (sparkline(means, ascii_only), "cyan")]
    if width - len(label) - scale - 2 >= 8:
        words = f"{number(min(means), 1)} to {number(max(means), 1)}"
        line.append((f"from {words}" if wide else words, "dim"))
        line.insert(2, (" " * (width - _length(line)), ""))
    return line


def _grid(figures: Sequence[Figure], width: int) -> list[Line]:
    """The figures in three columns, in two with short labels, or in one: as the width allows."""
    labels = [max(len(figure.label) for figure in figures[place::3]) for place in range(3)]
    room = width - sum(labels) - 3 * (1 + WIDTH)
    long = room >= 6
    gaps = [room // 2, room - room // 2]
    if not long:
        labels = [WIDTH] * (2 if width >= 40 else 1)
        gaps = [min(8, width - 2 * (2 * WIDTH + 1))]
    lines: list[Line] = []
    for place, figure in enumerate(figures):
        column = place % len(labels)
        if column == 0:
            lines.append([])
        else:
            lines[-1].append((" " * gaps[column - 1], ""))
        label = figure.label if long else figure.short
        lines[-1] += [(label.ljust(labels[column]), "dim"), (figure.value.rjust(1 + WIDTH), "")]
    return lines


def _outcomes(came_to: Sequence[tuple[str, int, int]], width: int) -> list[Line]:
    """What the episodes came to, so far and lately; only lately where the width does not allow more."""
    if not came_to:
        return []
    room = width - WIDTH - sum(len(label) + 8 for label, _, _ in came_to)
    gap = room // max(1, len(came_to) - 1)
    if gap < 2:
        lines: list[Line] = [[]]
        cells: list[Line] = [[(label, "dim"), (f" {recent:>3}", "")] for label, _, recent in came_to]
        for cell in [[(f"last {RECENT}", "dim")], *cells]:
            if not lines[-1] or _length(lines[-1]) + 2 + _length(cell) <= width:
                lines[-1] += [("  " if lines[-1] else "", ""), *cell]
            else:
                lines.append(cell)
        return lines
    gaps = [" " * min(6, gap)] * (len(came_to) - 1) + [""]
    so_far: Line = [("so far".ljust(WIDTH), "dim")]
    lately: Line = [(f"last {RECENT}".ljust(WIDTH), "dim")]
    for (label, total, recent), space in zip(came_to, gaps, strict=True):
        so_far += [(label, "dim"), (f" {total:>7,}{space}", "")]
        lately.append((f"{' ' * len(label)} {recent:>7}{space}", ""))
    return [so_far, lately]
