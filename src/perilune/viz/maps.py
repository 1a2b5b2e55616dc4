"""Draw what an agent learned: values, actions, visited states, hidden units, weights and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.agent.dqn import Agent
from perilune.envs.known import KnownEnv, lookup
from perilune.envs.known.record import Scene
from perilune.errors import ConfigError, PeriluneError, RunDirectoryError
from perilune.replay.buffer import Batch
from perilune.runs import layout, manifest, snapshots
from perilune.viz import figures, insight
from perilune.viz.figures import INK, PAPER
from perilune.viz.insight import LayerHistory
from perilune.viz.plots import Picture
from perilune.viz.shared import COLORS

MAX_NAMED = 8  # observation entries whose medians are listed
PARTS = 60  # columns of the action figure; each contains about the same number of transitions
MEANINGS = {
    "values": "Left: the return that the agent expects. Middle: the action that it prefers. Right: how clearly.",
    "actions": "Left: how often training took each action. Right: all actions taken, and what the best weights prefer.",
    "visited": "Where the agent was early and late in the run. It cannot learn about other states.",
    "units": "Whether the hidden units are in use, and how each responds to states with different best actions.",
    "weights": "How far the weights of each layer spread, and how large their gradients are.",
}
"""A sentence below each figure that explains it."""
SHOWN_STATES = 320  # columns of the map of a layer's units


@dataclass(frozen=True)
class Maps:
    """Figures of what an agent learned.

    Attributes:
        pictures: The figures by name: "values", "actions", "visited", "units" and "weights", in this order.
        skipped: A sentence about each figure that is missing, incomplete or drawn from other weights.
    """

    pictures: dict[str, Picture]
    skipped: list[str]


@figures.styled
def draw(
    directory: Path,
    x: str | int | None = None,
    y: str | int | None = None,
    say: Callable[[str], object] = lambda words: None,
) -> Maps:
    """Draw what the agent of a run learned, from its snapshots and the replay buffer in its newest checkpoint.

    Args:
        directory: The run directory.
        x: Entry of the observation on the horizontal axis of maps, by name or index; by default from the environment's
            ``map_axes``.
        y: Entry of the observation on the vertical axis, by name or index; by default from ``map_axes``.
        say: Called with a short description of each figure before it is drawn.

    Returns:
        The figures, and sentences about missing ones.

    Raises:
        ConfigError: ``x`` or ``y`` is not an entry of the observation, or both are the same entry.
        RunDirectoryError: There is no run, or nothing can be drawn.
        FileFormatError: The weights are damaged, or belong to another agent.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> from pathlib import Path
        >>> from perilune.viz import maps
        >>> drawn = maps.draw(Path("runs/moon"), x="angle", y="x velocity")  # doctest: +SKIP
        >>> drawn.pictures["values"].save(Path("maps"), "values")  # doctest: +SKIP
        [PosixPath('maps/values.png'), PosixPath('maps/values.svg')]
    """
    config = manifest.read_config(directory)
    known = lookup(config["environment"])
    title = f"{config['environment']}, seed {config['seed']}"
    pictures: dict[str, Picture] = {}
    skipped: list[str] = []
    batch, sizes = None, None
    try:
        batch, overwritten, sizes = insight.replay(directory)
    except PeriluneError as error:
        skipped.append(f"Values, actions, visited states, units and gradients need the replay buffer: {error}")
    else:
        entries, names = known.observation_names(sizes[0]), known.action_names(sizes[1])
        agent = insight.best_agent(directory, sizes)
        if not (directory / layout.WEIGHTS["best"]).exists():
            skipped.append(
                f"There are no best weights, so values and actions show the agent after {agent.env_steps:,} steps."
            )
        flat = len(entries) == 1 or bool(np.isin(batch.obs, (0, 1)).all())
        if flat:
            skipped.append(
                "Maps of values and visited states need two observation entries with values other than 0 and 1."
            )
        else:
            axes = _axes(known, entries, x, y)
            say("drawing values")
            scene = known.scene if axes == known.map_axes else None
            pictures["values"] = _values(agent, batch.obs, axes, entries, names, title, scene)
        say("drawing actions")
        pictures["actions"] = _actions(agent, batch, overwritten, names, title)
        if not flat:
            say("drawing visited states")
            pictures["visited"] = _visited(batch.obs, axes, entries, title, scene)
    paths = snapshots.paths(directory)
    if not paths:
        skipped.append(f"Units, weights and gradients over time need snapshots, and {directory} has none.")
        if not pictures:
            raise RunDirectoryError("\n  ".join(["nothing can be drawn", *skipped]))
        return Maps(pictures, skipped)
    say("drawing units, weights and gradients over time")
    history = insight.layers_over_time(paths, batch, sizes)
    if batch is not None:
        pictures["units"] = _units(insight.load_agent(paths[-1]), batch, history, names, title)
    pictures["weights"] = _weights(history, title)
    return Maps(pictures, skipped)


def _axes(known: KnownEnv, entries: Sequence[str], x: str | int | None, y: str | int | None) -> tuple[int, int]:
    default_x, default_y = known.map_axes
    across = known.observation_index(len(entries), default_x if x is None else x, "x")
    along = known.observation_index(len(entries), default_y if y is None else y, "y")
    if across == along:
        name, value = ("y", y) if y is not None else ("x", x)
        raise ConfigError(name, value, f"an entry other than {entries[across]!r}, which is the other axis")
    return across, along


def _values(
    agent: Agent,
    obs: Array,
    axes: tuple[int, int],
    entries: Sequence[str],
    names: Sequence[str],
    title: str,
    scene: Scene | None,
) -> Picture:
    """Draw the value of the best action, the best action, and its lead over the second-best action."""
    from matplotlib.colors import ListedColormap  # noqa: PLC0415 -- heavy, and optional

    x_edges, y_edges, q, seen = insight.value_map(agent, obs, *axes)
    others = {name: np.median(obs[:, index]) for index, name in enumerate(entries) if index not in axes}
    listed = ", ".join(f"{name} {value:.2f}" for name, value in others.items()).replace("-0.00", "0.00")
    note = "Pale: no state nearby was visited, so the network extrapolates."
    if others:
        medians = f": {listed}" if len(others) <= MAX_NAMED else ""
        note = f"All other entries are at the median of the visited states{medians}. {note}"
    note = f"{MEANINGS['values']} {note}"
    figure = figures.canvas(13, 4.8, f"{title}: values and actions after {agent.env_steps:,} steps", note)
    panels = figure.subplots(1, 3 if len(names) > 1 else 2, sharex=True, sharey=True)
    extent = (x_edges[0], x_edges[-1], y_edges[0], y_edges[-1])
    shown: dict[str, Any] = {"extent": extent, "origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    within = seen if seen.any() else ~seen  # cells that determine the color limits
    value = q.max(axis=-1)
    limits = {"vmin": value[within].min(), "vmax": value[within].max()}
    best = {"cmap": ListedColormap(figures.colors(len(names))), "vmin": -0.5, "vmax": len(names) - 0.5}
    panes = [("Value of the best action", value, {"cmap": "viridis", **limits}), ("Best action", q.argmax(-1), best)]
    if len(names) > 1:
        second, first = np.sort(q, axis=-1)[..., -2:].transpose(2, 0, 1)
        lead = first - second
        panes.append(
            ("Lead over the second-best action", lead, {"cmap": "cividis", "vmin": 0, "vmax": lead[within].max()})
        )
    pale = np.ones((*seen.shape, 4))
    pale[..., 3] = np.where(seen, 0, 0.62)
    for axis, (name, pane, scheme) in zip(panels, panes, strict=True):
        image = axis.imshow(pane, **shown, **scheme)
        axis.imshow(pale, **shown)
        if seen.any() and not seen.all():
            axis.contour(seen, levels=[0.5], extent=extent, colors=INK, linewidths=0.7)
        axis.set(title=name, xlabel=entries[axes[0]], ylabel=entries[axes[1]] if axis is panels[0] else "")
        _draw_scene(axis, scene)
        if axis is not panels[1]:
            _color_bar(figure, image, axis, pad=0.02, fraction=0.06)
    figures.legend(figure, names)
    return Picture(figure)


def _actions(agent: Agent, batch: Batch, overwritten: int, names: Sequence[str], title: str) -> Picture:
    """Draw the actions taken over time, and the actions of the best weights in the same states."""
    from matplotlib.colors import to_rgb  # noqa: PLC0415

    count = len(names)
    lost = f"; the first {overwritten:,} transitions were overwritten" if overwritten else ""
    note = f"{MEANINGS['actions']} Includes exploration and warm-up{lost}."
    figure = figures.canvas(11, 4.4, f"{title}: actions", note)
    over_time, beside = figure.subplots(1, 2, width_ratios=(3.4, 1))
    at = figures.stack(over_time, batch.action, count, PARTS, overwritten)
    over_time.set(title="Actions taken", xlabel="transition", ylabel="share")
    figures.over_steps(over_time, at)
    sample = insight.spread_out(batch, insight.STATES)
    greedy = agent.q_values(sample.obs).argmax(axis=1)
    bars = np.concatenate([figures.shares(sample.action, count, 1), figures.shares(greedy, count, 1)])
    for action, color in enumerate(figures.colors(count)):
        bottom = bars[:, :action].sum(axis=1)
        drawn = beside.bar(("taken", "best"), bars[:, action], bottom=bottom, color=color, width=0.72)
        words = [f"{share:.0%}" if share >= 0.06 else "" for share in bars[:, action]]
        luminance = np.dot(np.array(to_rgb(color)) ** 2.2, (0.2126, 0.7152, 0.0722))
        ink = INK if luminance > 0.25 else "white"
        beside.bar_label(drawn, words, label_type="center", color=ink, fontsize=8, fontweight="bold")
    beside.set(title="Taken vs. best", ylim=(0, 1), yticks=[])
    beside.spines["left"].set_visible(False)
    figures.legend(figure, names)
    return Picture(figure)


def _visited(obs: Array, axes: tuple[int, int], entries: Sequence[str], title: str, scene: Scene | None) -> Picture:
    """Draw the states visited early and late in the run."""
    from matplotlib.colors import LogNorm  # noqa: PLC0415
    from matplotlib.ticker import LogLocator, NullLocator  # noqa: PLC0415

    x_edges, y_edges, *thirds = insight.visits(obs, *axes)
    note = f"{MEANINGS['visited']} Color: share of the states in a cell. White: never visited."
    figure = figures.canvas(10, 4.8, f"{title}: states visited", note)
    largest = np.max(thirds)
    smallest = min(share[share > 0].min(initial=largest) for share in thirds)
    norm = LogNorm(smallest, max(largest, 1.01 * smallest))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, name, share in zip(panels, ("First third", "Last third"), thirds, strict=True):
        seen = np.where(share > 0, share, np.nan)
        mesh = axis.pcolormesh(x_edges, y_edges, seen, cmap="viridis_r", norm=norm, rasterized=True)
        axis.set(title=name, xlabel=entries[axes[0]], ylabel=entries[axes[1]] if axis is panels[0] else "")
        axis.grid(visible=True)
        _draw_scene(axis, scene)
    percent = {"format": lambda value, _: f"{100 * value:.3g}%"}
    bar = _color_bar(figure, mesh, panels, pad=0.015, fraction=0.035, **percent)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    return Picture(figure)


def _draw_scene(axis: Any, scene: Scene | None) -> None:
    """Draw the terrain and the pad below a map, so that a reader sees where is up."""
    if scene is None:
        return
    left, right = axis.get_xlim()
    bottom, top = min(axis.get_ylim()[0], scene.terrain - 0.14), axis.get_ylim()[1]
    axis.fill_between([left, right], bottom, scene.terrain, color="#8a8378", alpha=0.75, linewidth=0, zorder=3)
    axis.plot(scene.pad, [scene.terrain] * 2, color="#ffb000", linewidth=4, solid_capstyle="butt", zorder=4)
    words = {"ha": "center", "va": "center", "fontsize": 7, "color": INK, "zorder": 5, "clip_on": True}
    height = (bottom + scene.terrain) / 2
    axis.text(sum(scene.pad) / 2, height, "pad", **words)
    axis.text(left + 0.03 * (right - left), height, "terrain", **words | {"ha": "left"})
    axis.set(xlim=(left, right), ylim=(bottom, top))


def _units(agent: Agent, batch: Batch, history: LayerHistory, names: Sequence[str], title: str) -> Picture:
    """Draw the shares of dead and always active units over time, and the output of each unit in some states."""
    sample = insight.spread_out(batch, insight.STATES)
    hidden = insight.units(agent, sample.obs)
    activations = {layer.activation for layer in hidden}
    note = f"{MEANINGS['units']} Dead: same output in all states. "
    note += "Always active: above 0 in all states, so the unit is linear. " if "relu" in activations else ""
    note += "Saturated: |tanh| near 1 in all states. " if "tanh" in activations else ""
    note += "The maps show the newest snapshot."
    figure = figures.canvas(4.4 + 3.6 * len(hidden), 5.4, f"{title}: units", note)
    cells = figure.add_gridspec(2, 1 + len(hidden), width_ratios=(1.15, *(1 for _ in hidden)))
    share, size = figure.add_subplot(cells[0, 0]), figure.add_subplot(cells[1, 0])
    dead, always, mean = history.units
    steps = history.env_steps
    for number, (layer, color) in enumerate(zip(hidden, figures.colors(len(hidden)), strict=True)):
        style: dict[str, Any] = {"color": color, "linewidth": 2, "marker": figures.marker(steps)}
        share.plot(steps, dead[:, number], label=f"dead, hidden {number + 1}", **style)
        if layer.activation != "linear":
            word = "always active" if layer.activation == "relu" else "saturated"
            share.plot(steps, always[:, number], label=f"{word}, hidden {number + 1}", **style, linestyle=(0, (2, 1.2)))
        size.plot(steps, mean[:, number], label=f"hidden {number + 1}", **style)
    for axis, name, least in ((share, "Share of the units", 0.05), (size, "Mean |output|", 0.1)):
        axis.set(title=name, xlabel="environment step" if axis is size else "")
        figures.over_steps(axis, steps)
        top = max(least, axis.get_ylim()[1])
        axis.set_ylim(-0.02 * top, top)  # keep a line at 0 visible above the frame
        axis.legend(fontsize=8)
    share.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    greedy = agent.q_values(sample.obs, agent.online).argmax(axis=1)
    for number, layer in enumerate(hidden):
        _unit_map(figure, figure.add_subplot(cells[:, 1 + number]), layer, f"Hidden {number + 1}", greedy, names)
    figures.legend(figure, names)
    return Picture(figure)


def _unit_map(figure: Any, axis: Any, layer: insight.Units, name: str, greedy: Array, names: Sequence[str]) -> None:
    """Draw the output of each unit (rows, most active first) in some states (columns, sorted by best action)."""
    order = np.argsort(greedy, kind="stable")
    order = order[insight.spread(len(order), SHOWN_STATES)]
    signed = layer.activation != "relu"
    often = np.abs(layer.outputs).mean(axis=0) if signed else (layer.outputs > 0).mean(axis=0)
    shown = layer.outputs[order][:, np.argsort(-often, kind="stable")].T
    top = float(np.percentile(np.abs(shown), 99)) or 1.0
    scheme = {"cmap": "PuOr_r" if signed else "magma_r", "vmin": -top if signed else 0, "vmax": top}
    image = axis.imshow(shown, aspect="auto", interpolation="nearest", **scheme)
    axis.set(title=f"{name}, {layer.outputs.shape[1]} units", ylabel="units, most active first", xticks=[])
    axis.set_xlabel("states, sorted by best action", labelpad=9)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    ends = np.cumsum(np.bincount(greedy[order], minlength=len(names))) - 0.5
    for color, start, end in zip(figures.colors(len(names)), [-0.5, *ends], ends, strict=False):
        if end > start:  # a strip in the action's color below its states
            axis.axvline(start, color="white", linewidth=1)
            where = {"transform": axis.get_xaxis_transform(), "clip_on": False, "linewidth": 5, "color": color}
            axis.plot([start, end], [-0.012, -0.012], solid_capstyle="butt", **where)
    axis.set_xlim(-0.5, len(order) - 0.5)
    _color_bar(figure, image, axis, pad=0.02, fraction=0.05, extend="max")


def _weights(history: LayerHistory, title: str) -> Picture:
    """Draw the distribution of each layer's weights, and of the sizes of their gradients, at each snapshot."""
    count, steps = len(history.layers), history.env_steps
    spreads = [history.weights] if history.gradients is None else [history.weights, history.gradients]
    what, note = "weights", f"{MEANINGS['weights']} Line: median. Dark: middle half. Pale: 5 % to 95 %."
    if history.gradients is not None:
        what = "weights and gradients"
        note += (
            " Gradients are computed before clipping, for the same batch from the replay buffer at every snapshot. "
            "Lines and bands exclude gradients that are exactly 0."
        )
    note = f"{note} {history.outputs}".rstrip()
    figure = figures.canvas(max(3.4 * count, 6.8), 2.9 * len(spreads) + 0.7, f"{title}: {what}", note)
    panels = figure.subplots(len(spreads), count, sharex=True, squeeze=False, sharey="row")
    panels[0, 0].set_ylabel("weights")
    for row, spread in enumerate(spreads):
        for layer, axis in enumerate(panels[row]):
            quantiles = np.where(np.isfinite(spread[:, layer]), spread[:, layer], np.nan).T
            lowest, low, middle, high, highest = quantiles
            for bottom, top, alpha in ((lowest, highest, 0.18), (low, high, 0.38)):
                axis.fill_between(steps, bottom, top, color=COLORS[row], alpha=alpha, linewidth=0)
            axis.plot(steps, middle, color=COLORS[row], linewidth=2, marker=figures.marker(steps))
            figures.over_steps(axis, steps)
            if row == 1 and (quantiles > 0).any():
                figures.log_scale(axis)
    for axis, name in zip(panels[0], history.layers, strict=True):
        axis.set_title(name.capitalize())
    for axis in panels[-1]:
        axis.set_xlabel("environment step")
    if history.zeros is not None:
        panels[1, 0].set_ylabel("absolute gradients")
        for axis, share in zip(panels[1], history.zeros[-1], strict=True):
            if share > 0:  # rounded to 100 % only if it is exact
                words = f"{share:.0%}" if share == 1 else f"{min(max(share, 0.001), 0.999):.1%}"
                style = {"fontsize": 9, "fontweight": "normal", "color": PAPER}
                axis.set_title(f"{words} are 0 at the end", loc="right", **style)
    return Picture(figure)


def _color_bar(figure: Any, image: Any, axis: Any, **options: Any) -> Any:
    bar = figure.colorbar(image, ax=axis, **options)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
    return bar
