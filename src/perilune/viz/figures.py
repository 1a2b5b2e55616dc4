"""Shared style and elements of figures. Call these functions inside a function decorated with ``styled``."""

from __future__ import annotations

import inspect
import io
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.extras import missing
from perilune._utils.text import printable
from perilune.runs import files
from perilune.viz.shared import COLORS

INK, PAPER = "#222222", "#666666"
STYLE: Any = {
    "figure.titlesize": 13, "figure.titleweight": "bold", "axes.titlelocation": "left", "axes.titlesize": 11,
    "axes.titleweight": "bold", "axes.titlecolor": INK, "axes.labelsize": 9, "axes.labelcolor": PAPER,
    "axes.edgecolor": "#bbbbbb", "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "grid.color": "#e6e6e6", "grid.linewidth": 0.8, "xtick.color": PAPER, "ytick.color": PAPER, "xtick.labelsize": 8,
    "ytick.labelsize": 8, "legend.frameon": False, "legend.fontsize": 9, "legend.labelcolor": INK,
    "text.parse_math": False,  # a directory may have $ in its name
    "svg.hashsalt": "perilune",  # makes files reproducible
}  # fmt: skip
LARGEST = 1e100  # limit of drawn values; with larger ones, sums in matplotlib would overflow
P = ParamSpec("P")
R = TypeVar("R")


def matplotlib_figure(width: float, height: float) -> Any:
    """Return an empty figure, with its size in inches. Raise MissingDependencyError if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 -- heavy, and optional
    except ImportError as error:
        raise missing("plots need matplotlib", "view") from error
    return _drawn_once(Figure)(figsize=(width, height), layout="constrained")


@cache
def _drawn_once(figure: Any) -> Any:
    """Return a class of figures that ``savefig`` draws once. Otherwise it draws twice: first to place the panels."""

    class DrawnOnce(figure):  # type: ignore[misc]
        def draw(self, renderer: Any) -> None:
            if inspect.ismethod(renderer.open_group):
                super().draw(renderer)
            elif self.axes and (engine := self.get_layout_engine()) is not None:  # the renderer's methods do nothing
                with suppress(ValueError):  # as in Figure.draw
                    engine.execute(self)

    return DrawnOnce


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorate ``draw`` so that ``STYLE`` applies while it runs."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        matplotlib_figure(1, 1)  # raises if matplotlib is missing
        from matplotlib import rc_context  # noqa: PLC0415

        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def save_image(image: Array, path: Path) -> None:
    """Write an image, uint8 [height, width, 3], pixel for pixel, or raise RunDirectoryError."""
    matplotlib_figure(1, 1)  # raises if matplotlib is missing
    from matplotlib.image import imsave  # noqa: PLC0415

    buffer = io.BytesIO()
    imsave(buffer, image, format="png")
    files.write(path, buffer.getvalue())


def marker(points: Sequence[Any] | Array) -> str:
    """Return "o" for a single point, which a line would not show, else ""."""
    return "o" if len(points) == 1 else ""


def clipped(values: Any) -> Array:
    """Return values as numbers that can be drawn: NaN for None, and limited to +/- ``LARGEST``."""
    numbers: Array = np.clip(np.asarray(values, np.float64), -LARGEST, LARGEST)
    return numbers


def shares(values: Array, count: int, parts: int) -> Array:
    """Split values[N] into equal parts. Return the share of each of ``count`` values in each part, [parts, count]."""
    pieces = np.array_split(values, min(parts, len(values)))
    return np.array([np.bincount(piece, minlength=count) / len(piece) for piece in pieces])


def stack(axis: Any, values: Array, count: int, parts: int, first: int = 0) -> Array:
    """Draw the shares of values[N] as stacked columns from ``first`` on. Return the edges of the columns."""
    found = shares(values, count, parts)
    at = first + np.linspace(0, len(values), len(found) + 1)
    tops = np.cumsum(found, axis=1)
    for place, color in enumerate(colors(count)):
        low = tops[:, place - 1] if place else np.zeros(len(found))
        axis.stairs(tops[:, place], at, baseline=low, fill=True, color=color, linewidth=0)
    axis.set_ylim(0, 1)
    return at


def titled(width: float, height: float, title: str) -> Any:
    """Return an empty figure with a title. Width and height are in inches."""
    return parts(width, height, [title])[0]


def add_title(figure: Any, title: str) -> None:
    """Add a title to a figure or to a part of a figure."""
    figure.suptitle(printable(title), color=INK, x=0.008, ha="left", fontsize=13, fontweight="bold")


def parts(width: float, height: float, titles: Sequence[str]) -> tuple[Any, list[Any]]:
    """Return an empty figure and its parts, one below the other, each with its title and its size in inches."""
    figure = matplotlib_figure(width, height * len(titles))
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    found = list(figure.subfigures(len(titles), 1)) if len(titles) > 1 else [figure]
    for part, title in zip(found, titles, strict=True):
        add_title(part, title)
    return figure, found


def fix_layout(figure: Any) -> None:
    """Place the panels for good. The last digits of the layout engine vary, which would change files."""
    figure.get_layout_engine().execute(figure)
    for axis in figure.axes:
        axis.set_position([round(side, 6) for side in axis.get_position().bounds])
    figure.set_layout_engine("none")


def canvas(width: float, height: float, title: str, note: str) -> Any:
    """Return an empty figure with a title above and a note below. Width and height are in inches."""
    figure = titled(width, height, title)
    lines = "\n".join(textwrap.wrap(note, int(14.5 * width)))
    figure.supxlabel(lines, fontsize=9, fontweight="normal", color=PAPER, x=0.008, ha="left")
    return figure


def over_steps(axis: Any, steps: Array) -> None:
    """Let the horizontal axis span ``steps``, and label it with whole numbers."""
    axis.grid(visible=True)
    axis.locator_params(axis="x", nbins=4, integer=True)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_xlim(steps[0], max(steps[-1], steps[0] + 1))


def log_scale(axis: Any) -> None:
    """Set the vertical axis to a logarithmic scale. Values <= 0 become gaps."""
    from matplotlib.ticker import LogLocator, NullLocator  # noqa: PLC0415 -- heavy, and optional

    axis.set_yscale("log", nonpositive="mask")
    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high <= 2e3 * low else (1,), numticks=10))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter("{x:g}")


def colors(count: int) -> list[Any]:
    """Return a color for each of ``count`` labels. Colors repeat after twenty labels."""
    from matplotlib import colormaps  # noqa: PLC0415

    if count <= len(COLORS):
        return list(COLORS[:count])
    return [colormaps["tab20"](number % 20) for number in range(count)]


def legend(figure: Any, labels: Sequence[str]) -> None:
    """Add a legend of ``labels`` and their colors."""
    from matplotlib.patches import Patch  # noqa: PLC0415

    handles = [Patch(color=color, label=label) for color, label in zip(colors(len(labels)), labels, strict=True)]
    shape = {"ncols": min(6, len(handles)), "handlelength": 1.1, "handleheight": 1.1}
    figure.legend(handles=handles[:20], loc="outside upper right", **shape)
