"""Draw the pictures of findings as SVG, in the colors of the page that contains them."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np

from perilune.doctor.report import Points, Spread
from perilune.viz.figures import INK, PAPER, matplotlib_figure, styled
from perilune.viz.shared import COLORS

BINS = 60
GRID = "#bbbbbb"  # also the edges of the axes
# The page defines these variables for light and dark backgrounds.
VARIABLES = {INK: "--ink", PAPER: "--soft", GRID: "--line"}
VARIABLES |= {color: f"--line-{number}" for number, color in enumerate(COLORS)}


@styled
def svg(picture: Points | Spread) -> str:
    """Draw a picture as an SVG element with a transparent background."""
    figure = matplotlib_figure(4.6, 2.8)
    axes = figure.subplots()
    match picture:
        case Points():
            axes.axhline(0, color=GRID, linewidth=0.8)
            axes.axvline(0, color=GRID, linewidth=0.8)
            axes.plot(picture.x, picture.expected, "o", color="none", markeredgecolor=INK, label="expected")
            axes.plot(picture.x, picture.found, "o", color=COLORS[1], markersize=4, alpha=0.8, label="found")
            axes.set_xlabel(picture.x_label)
            axes.set_ylabel(picture.y_label)
        case Spread():
            _draw_histograms(axes, picture)
    axes.set_title(picture.title)
    axes.legend()
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = buffer.getvalue()
    drawn = re.sub(r' id="[a-z0-9]+_\d+"', "", drawn[drawn.index("<svg") :])  # the page may have several pictures
    return re.sub("|".join(VARIABLES), lambda color: f"var({VARIABLES[color[0]]})", drawn)


def _draw_histograms(axes: Any, picture: Spread) -> None:
    """Draw the histogram of each group. If the groups differ in scale, draw absolute values on a logarithmic axis."""
    groups, label = picture.groups, picture.x_label
    sizes = {name: np.abs(group[group != 0]) for name, group in groups.items() if group.any()}
    scales = [np.median(size) for size in sizes.values()]
    if scales and max(size.max() for size in sizes.values()) > BINS * min(scales):
        groups, label = sizes, f"absolute {label}"
        low = min(np.quantile(size, 0.01) for size in sizes.values())  # values near 0 would extend the axis
        edges = np.geomspace(low, max(size.max() for size in sizes.values()), BINS + 1)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        edges = np.histogram_bin_edges(np.concatenate(list(groups.values())), BINS)
    for number, (name, group) in enumerate(groups.items()):
        shares = np.histogram(group, edges)[0] / len(group)
        axes.stairs(shares, edges, linewidth=1.6, color=COLORS[number % len(COLORS)], label=name)
    axes.set_yticks([])
    axes.set_ylabel("share of the values")
    axes.set_xlabel(label)
