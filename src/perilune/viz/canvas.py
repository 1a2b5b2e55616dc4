"""What the maps are drawn on: figures, panels and the colours of actions, all in one manner."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.text import printable
from perilune.viz.plots import COLOURS, INK, PAPER, grid, matplotlib_figure


def canvas(width: float, height: float, title: str, words: str) -> Any:
    """A figure with a title, and under it what there is to know about the picture."""
    figure = matplotlib_figure(width, height)
    figure.suptitle(printable(title), fontsize=13, fontweight="bold", color=INK, x=0.008, ha="left", parse_math=False)
    lines = "\n".join(textwrap.wrap(words, int(14.5 * width)))
    figure.supxlabel(lines, fontsize=9, color=PAPER, x=0.008, ha="left", parse_math=False)
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    return figure


def over_steps(axis: Any, steps: Array) -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 -- heavy, and optional

    grid(axis)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_xlim(steps[0], max(steps[-1], steps[0] + 1))


def colours(count: int) -> list[Any]:
    """A colour for each of so many actions; they come again after twenty."""
    from matplotlib import colormaps  # noqa: PLC0415

    if count <= len(COLOURS):
        return list(COLOURS[:count])
    return [colormaps["tab20"](number % 20) for number in range(count)]


def ink_on(colour: Any) -> str:
    """The colour of words that are written on ``colour``."""
    from matplotlib.colors import to_rgb  # noqa: PLC0415

    luminance = np.dot(np.array(to_rgb(colour)) ** 2.2, (0.2126, 0.7152, 0.0722))
    return INK if luminance > 0.25 else "white"


def legend(figure: Any, words: Sequence[str]) -> None:
    from matplotlib.patches import Patch  # noqa: PLC0415

    handles = [Patch(color=colour, label=word) for colour, word in zip(colours(len(words)), words, strict=True)]
    figure.legend(
        handles=handles[:20], loc="outside upper right", ncols=min(6, len(handles)), frameon=False, fontsize=9,
        labelcolor=INK, handlelength=1.1, handleheight=1.1,
    )  # fmt: skip
