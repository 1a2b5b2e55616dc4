"""Pictures of a network's inside: its units, and its weights and gradients as time went on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.agent.dqn import Agent
from perilune.replay.buffer import Batch
from perilune.viz import insight
from perilune.viz.canvas import canvas, colours, legend, over_steps
from perilune.viz.plots import COLOURS, INK, PAPER, Picture, dress

SHOWN = 320  # states in the map of a layer's units


def units(agent: Agent, lived: Batch, env_steps: Array, course: Array, words: Sequence[str], title: str) -> Picture:
    """Units that say nothing, as time went on, and what each says in some states, sorted by what is done there."""
    sample = insight.spread_out(lived, insight.STATES)
    hidden = insight.units(agent, sample.obs)
    activations = {layer.activation for layer in hidden}
    told = (
        "Dead: gives the same in all of the states looked at. "
        + ("Always on: above 0 in all of them, and so linear. " if "relu" in activations else "")
        + ("Saturated: |tanh| near 1 in all of them. " if "tanh" in activations else "")
    )
    figure = canvas(4.4 + 3.6 * len(hidden), 5.4, f"{title}: units", told + "The maps are of the newest snapshot.")
    grid = figure.add_gridspec(2, 1 + len(hidden), width_ratios=(1.15, *(1 for _ in hidden)))
    share, size = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0])
    dead, always, mean = course
    dot = "o" if len(env_steps) == 1 else ""
    for number, layer in enumerate(hidden):
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "linewidth": 2, "marker": dot}
        share.plot(env_steps, dead[:, number], label=f"dead, hidden {number + 1}", **style)
        if layer.activation != "linear":
            word = "always on" if layer.activation == "relu" else "saturated"
            style_of = style | {"linestyle": (0, (2, 1.2))}
            share.plot(env_steps, always[:, number], label=f"{word}, hidden {number + 1}", **style_of)
        size.plot(env_steps, mean[:, number], label=f"hidden {number + 1}", **style)
    dress(share, "Share of the units")
    dress(size, "Mean |output|", "environment step")
    for axis in (share, size):
        over_steps(axis, env_steps)
    share.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    for axis, least in ((share, 0.05), (size, 0.1)):
        top = max(least, axis.get_ylim()[1])
        axis.set_ylim(-0.02 * top, top)  # a line at 0 is a line, not the axis
    share.legend(frameon=False, fontsize=8, labelcolor=INK)
    size.legend(frameon=False, fontsize=8, labelcolor=INK)
    greedy = agent.q_values(sample.obs, agent.online).argmax(axis=1)
    for number, layer in enumerate(hidden):
        _unit_map(figure, figure.add_subplot(grid[:, 1 + number]), layer, f"Hidden {number + 1}", greedy, words)
    legend(figure, words)
    return Picture(figure)


def _unit_map(figure: Any, axis: Any, layer: insight.Units, name: str, greedy: Array, words: Sequence[str]) -> None:
    """Units down, most often active first; states across, those with one best action beside each other."""
    order = np.argsort(greedy, kind="stable")
    order = order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).round().astype(np.int64)]
    signed = layer.activation != "relu"
    often = np.abs(layer.outputs).mean(axis=0) if signed else (layer.outputs > 0).mean(axis=0)
    shown = layer.outputs[order][:, np.argsort(-often, kind="stable")].T
    top = float(np.percentile(np.abs(shown), 99)) or 1.0
    image = axis.imshow(
        shown, aspect="auto", interpolation="nearest", cmap="PuOr_r" if signed else "magma_r",
        vmin=-top if signed else 0, vmax=top,
    )  # fmt: skip
    dress(
        axis,
        f"{name}, {layer.outputs.shape[1]} units",
        "states, by their best action",
        "units, those most often on first",
    )
    axis.xaxis.labelpad = 9
    axis.spines[:].set_visible(False)
    axis.set_xticks([])
    axis.tick_params(length=0)
    counts = np.bincount(greedy[order], minlength=len(words))
    starts = np.cumsum(counts) - counts
    for colour, start, count in zip(colours(len(words)), starts, counts, strict=True):
        if count:  # a strip under the map, in the action's colour
            axis.axvline(start - 0.5, color="white", linewidth=1)
            where = {"transform": axis.get_xaxis_transform(), "clip_on": False, "linewidth": 5, "color": colour}
            axis.plot([start - 0.5, start + count - 0.5], [-0.012, -0.012], solid_capstyle="butt", **where)
    axis.set_xlim(-0.5, len(order) - 0.5)
    bar = figure.colorbar(image, ax=axis, pad=0.02, fraction=0.05, extend="max")
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=PAPER, labelsize=8, length=0)


def weights(course: insight.Course, title: str) -> Picture:
    """How the weights of every layer are spread, and the sizes of their gradients, at each snapshot."""
    count = len(course.layers)
    rows = 1 if course.gradients is None else 2
    told = "Middle line: the median; dark band: the middle half; pale band: from 5 % to 95 %."
    if rows == 2:
        told += (
            " Gradients of one batch of what was lived, the same at all snapshots, before any clipping; those that are "
            "exactly 0 are counted, and not in the bands."
        )
    told = f"{told} {course.outputs}".rstrip()
    figure = canvas(max(3.4 * count, 6.8), 2.9 * rows + 0.7, f"{title}: weights" + " and gradients" * (rows == 2), told)
    panels = figure.subplots(rows, count, sharex=True, squeeze=False, sharey="row")
    for row, spread in enumerate((course.weights, course.gradients)):
        if spread is None:
            continue
        for layer, axis in enumerate(panels[row]):
            quantiles = np.where(np.isfinite(spread[:, layer]), spread[:, layer], np.nan).T
            _band(axis, course.env_steps, quantiles, COLOURS[row])
            name = course.layers[layer] if row == 0 else ""
            what = ("weights", "size of the gradients")[row] if layer == 0 else ""
            dress(axis, name.capitalize(), "environment step" if row == rows - 1 else "", what)
            over_steps(axis, course.env_steps)
            if row == 1 and (quantiles > 0).any():
                axis.set_yscale("log", nonpositive="mask")
            if row == 1 and course.zeros is not None and (share := course.zeros[-1, layer]) > 0:
                words = f"in the end {_share(share)} are 0"
                axis.set_title(words, loc="right", fontsize=9, color=PAPER)
    return Picture(figure)


def _share(share: float) -> str:
    """A share in percent that says neither none nor all where there are some."""
    return f"{share:.0%}" if share in (0, 1) else f"{min(max(share, 0.001), 0.999):.1%}"


def _band(axis: Any, steps: Array, quantiles: Array, colour: str) -> None:
    """Quantiles [LEVELS, S] as bands around the median."""
    lowest, low, middle, high, highest = quantiles
    axis.fill_between(steps, lowest, highest, color=colour, alpha=0.18, linewidth=0)
    axis.fill_between(steps, low, high, color=colour, alpha=0.38, linewidth=0)
    axis.plot(steps, middle, color=colour, linewidth=2, marker="o" if len(steps) == 1 else "")
