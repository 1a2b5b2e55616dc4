"""Pictures of what was learned: values and actions over two readings, visited states, units, weights and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.agent.dqn import Agent
from perilune.envs.known import lookup
from perilune.errors import ConfigError, PeriluneError, RunDirectoryError
from perilune.replay.buffer import Batch
from perilune.runs import layout, manifest, snapshots
from perilune.viz import insight, layers
from perilune.viz.canvas import canvas, colours, ink_on, legend, over_steps
from perilune.viz.plots import INK, PAPER, Picture, dress

MOST_NAMED = 8  # readings whose medians are told
PARTS = 60  # of what was lived, in the picture of action use


@dataclass(frozen=True)
class Maps:
    """The pictures by name, in their order, and a sentence for each that cannot be drawn."""

    pictures: dict[str, Picture]
    left_out: list[str]


def draw(
    directory: Path,
    x: str | int | None = None,
    y: str | int | None = None,
    say: Callable[[str], object] = lambda words: None,
) -> Maps:
    """Draw what the run in ``directory`` has learned, from its weights on the way and its newest checkpoint's replay.

    Args:
        directory: a run.
        x, y: the readings that maps are drawn over, by name or by place; a telling pair where left out.
        say: is told what takes its time.

    Raises:
        ConfigError: there is no such reading, or both are one.
        RunDirectoryError: there is no run, or nothing of it that could be drawn.
        FileFormatError: its weights are damaged, or not its own.
        MissingDependencyError: matplotlib is not installed.
    """
    config = manifest.read_config(directory)
    environment = config["environment"]
    title = f"{environment}, seed {config['seed']}"
    pictures: dict[str, Picture] = {}
    left_out: list[str] = []
    lived, actions = None, 0
    try:
        lived, forgotten, actions = insight.lived(directory)
    except PeriluneError as error:
        left_out.append(f"Values, actions, visited states, units and gradients need what was lived: {error}")
    else:
        known = lookup(environment)
        words = known.action_names(actions)
        agent = insight.best_agent(directory, lived, actions)
        if not (directory / layout.WEIGHTS["best"]).exists():
            left_out.append(
                f"The best weights are not there: values and actions are those after {agent.env_steps:,} steps."
            )
        size = lived.obs.shape[1]
        flat = size == 1 or bool(np.isin(lived.obs, (0, 1)).all())
        if flat:
            left_out.append("Maps of values and of visited states need two readings that are more than yes or no.")
        else:
            pair = known.map_axes
            pair = (
                known.observation_index(size, pair[0] if x is None else x, "x"),
                known.observation_index(size, pair[1] if y is None else y, "y"),
            )
            readings = known.observation_names(size)
            if pair[0] == pair[1]:
                name, value = ("y", y) if y is not None else ("x", x)
                raise ConfigError(name, value, f"another reading than {readings[pair[0]]!r}, which is the other axis")
            say("drawing values")
            pictures["values"] = _values(agent, lived.obs, pair, readings, words, title)
        say("drawing actions")
        pictures["actions"] = _actions(agent, lived, forgotten, words, title)
        if not flat:
            say("drawing visited states")
            pictures["visited"] = _visited(lived.obs, pair, readings, title)
    paths = snapshots.paths(directory)
    if not paths:
        left_out.append(f"Units, weights and gradients over time need snapshots, and {directory} has none.")
        if not pictures:
            raise RunDirectoryError("\n  ".join(["nothing can be drawn", *left_out]))
        return Maps(pictures, left_out)
    say("drawing units, weights and gradients over time")
    course = insight.course(paths, lived, actions)
    if lived is not None and course.units is not None:
        newest = insight.agent_of(paths[-1])
        pictures["units"] = layers.units(newest, lived, course.env_steps, course.units, words, title)
    pictures["weights"] = layers.weights(course, title)
    return Maps(pictures, left_out)


def _values(
    agent: Agent, obs: Array, pair: tuple[int, int], readings: Sequence[str], words: Sequence[str], title: str
) -> Picture:
    """The best action's value, which one it is, and by how much it is better than the next."""
    from matplotlib.colors import ListedColormap  # noqa: PLC0415

    found = insight.value_map(agent, obs, *pair)
    others = {name: np.median(obs[:, index]) for index, name in enumerate(readings) if index not in pair}
    told = "Pale: nothing near was visited, and what the network says there is extrapolated."
    if 0 < len(others) <= MOST_NAMED:
        listed = ", ".join(f"{name} {value:.2f}" for name, value in others.items())
        told = f"All other readings at the median of the states visited: {listed}. {told}".replace("-0.00", "0.00")
    elif others:
        told = f"All other readings at the median of the states visited. {told}"
    figure = canvas(13, 4.6, f"{title}: values and actions after {agent.env_steps:,} steps", told)
    panels = figure.subplots(1, 3 if len(words) > 1 else 2, sharex=True, sharey=True)
    extent = (found.x_edges[0], found.x_edges[-1], found.y_edges[0], found.y_edges[-1])
    shown: dict[str, Any] = {"extent": extent, "origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    within = found.seen if found.seen.any() else ~found.seen  # colours are for what was visited
    value, greedy = found.q.max(axis=-1), found.q.argmax(axis=-1)
    scale = {"vmin": value[within].min(), "vmax": value[within].max()}
    panes = [
        ("Value of the best action", value, {"cmap": "viridis", **scale}),
        (
            "Best action",
            greedy,
            {"cmap": ListedColormap(colours(len(words))), "vmin": -0.5, "vmax": len(words) - 0.5},
        ),
    ]
    if len(words) > 1:
        panes.append(
            ("Lead over the second best", found.gap, {"cmap": "cividis", "vmin": 0, "vmax": found.gap[within].max()})
        )
    pale = np.zeros((*found.seen.shape, 4))
    pale[..., :3], pale[..., 3] = 1, np.where(found.seen, 0, 0.62)
    for axis, (name, pane, scheme) in zip(panels, panes, strict=True):
        image = axis.imshow(pane, **shown, **scheme)
        axis.imshow(pale, **shown)
        if found.seen.any() and not found.seen.all():
            axis.contour(found.seen, levels=[0.5], extent=extent, colors=INK, linewidths=0.7)
        dress(axis, name, readings[pair[0]], readings[pair[1]] if axis is panels[0] else "")
        if axis is not panels[1]:
            bar = figure.colorbar(image, ax=axis, pad=0.02, fraction=0.06)
            bar.outline.set_visible(False)
            bar.ax.tick_params(colors=PAPER, labelsize=8, length=0)
    legend(figure, words)
    return Picture(figure)


def _actions(agent: Agent, lived: Batch, forgotten: int, words: Sequence[str], title: str) -> Picture:
    """What was done as time went on, and what the best agent would do in the same states."""
    count, steps = len(words), len(lived.action)
    told = "Exploration and warm-up included" + (f"; the first {forgotten:,} are forgotten." if forgotten else ".")
    figure = canvas(11, 4.2, f"{title}: use of actions", told)
    over_time, beside = figure.subplots(1, 2, width_ratios=(3.4, 1))
    parts = insight.shares(lived.action, count, PARTS)
    at = forgotten + np.linspace(0, steps, len(parts) + 1)
    tops = np.cumsum(parts, axis=1)
    for action, colour in enumerate(colours(count)):
        low = tops[:, action - 1] if action else np.zeros(len(parts))
        over_time.stairs(tops[:, action], at, baseline=low, fill=True, color=colour, linewidth=0)
    dress(over_time, "Actions taken", "transition in the order lived", "share")
    over_steps(over_time, at)
    over_time.set_ylim(0, 1)
    sample = insight.spread_out(lived, insight.STATES)
    greedy = agent.q_values(sample.obs).argmax(axis=1)
    bars = np.concatenate([insight.shares(sample.action, count, 1), insight.shares(greedy, count, 1)])
    for action, colour in enumerate(colours(count)):
        bottom = bars[:, :action].sum(axis=1)
        beside.bar(("taken", "best"), bars[:, action], bottom=bottom, color=colour, width=0.72)
        for place, share in enumerate(bars[:, action]):
            if share >= 0.06:
                beside.text(
                    place, bottom[place] + share / 2, f"{share:.0%}", ha="center", va="center", fontsize=8,
                    color=ink_on(colour), fontweight="bold",
                )  # fmt: skip
    dress(beside, "In the same states")
    beside.set_ylim(0, 1)
    beside.set_yticks([])
    beside.spines["left"].set_visible(False)
    legend(figure, words)
    return Picture(figure)


def _visited(obs: Array, pair: tuple[int, int], readings: Sequence[str], title: str) -> Picture:
    """Where it was early in the run and late."""
    from matplotlib.colors import LogNorm  # noqa: PLC0415
    from matplotlib.ticker import LogLocator, NullLocator  # noqa: PLC0415

    found = insight.visits(obs, *pair)
    figure = canvas(10, 4.6, f"{title}: states visited", "Share of the states in a cell; white: never there.")
    largest = max(found.early.max(), found.late.max())
    smallest = min(share[share > 0].min(initial=largest) for share in (found.early, found.late))
    norm = LogNorm(smallest, max(largest, 1.01 * smallest))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, name, share in zip(panels, ("First third", "Last third"), (found.early, found.late), strict=True):
        seen = np.where(share > 0, share, np.nan)
        mesh = axis.pcolormesh(found.x_edges, found.y_edges, seen, cmap="viridis_r", norm=norm, rasterized=True)
        dress(axis, name, readings[pair[0]], readings[pair[1]] if axis is panels[0] else "")
        axis.grid(visible=True, color="#eeeeee", linewidth=0.8)
        axis.set_axisbelow(True)
    bar = figure.colorbar(mesh, ax=panels, pad=0.015, fraction=0.035, format=lambda value, _: f"{100 * value:.3g} %")
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=PAPER, labelsize=8, length=0)
    return Picture(figure)
