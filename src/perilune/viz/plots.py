"""Draw figures of runs: learning curves, evaluations of several seeds, and outcomes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.statistics import LEAST_SEEDS, moving_average
from perilune._utils.text import printable
from perilune.envs.known import lookup
from perilune.runs import files
from perilune.runs.logs import Run
from perilune.runs.manifest import family
from perilune.training.events import Episode
from perilune.viz import figures, shared, titles
from perilune.viz.figures import INK, PAPER, STYLE
from perilune.viz.shared import COLORS

Axis = Literal["steps", "episodes"]
"""The horizontal axis of learning curves."""

LABELS: dict[Axis, str] = {"steps": "environment step", "episodes": "episode"}
# The position of an episode or evaluation on each axis.
POSITIONS: dict[Axis, Callable[[Any], int]] = {
    "steps": lambda record: int(record.env_steps),
    "episodes": lambda record: int(record.episode if isinstance(record, Episode) else record.episodes),
}
STYLES: list[Any] = [(0, tuple(length / 2 for length in pattern)) if pattern else "-" for pattern in shared.DASHES]
MARKERS = ("o", "s", "^")  # for evaluations
RAW: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.3}
AVERAGE: dict[str, Any] = {"linewidth": 2.2}
DOTS: dict[str, Any] = {"markersize": 4.5, "markeredgecolor": "white", "markeredgewidth": 0.6}
DASHED: dict[str, Any] = {"color": PAPER, "linewidth": 1, "linestyle": (0, (4, 3))}
MAX_ENVIRONMENTS = 8  # in one figure of curves
MAX_PANELS = 30  # in one figure of outcomes
MAX_SIDE = 2**14  # pixels of a PNG; a larger one takes too much memory
MAX_DOTTED = 30  # episodes of a curve; a longer curve has no dots
PARTS = 40  # columns of the outcome figure; each contains about the same number of episodes
# (title, y label, function that returns the value of an episode)
PANELS: tuple[tuple[str, str, Callable[[Episode], float | None]], ...] = (
    ("Return", "sum of the rewards", lambda episode: episode.reward),
    ("Loss", "mean over updates", lambda episode: episode.loss),
    ("Epsilon", "share of random actions", lambda episode: episode.epsilon),
    ("Episode length", "environment steps", lambda episode: episode.length),
)


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure that notebooks display as an image.

    Attributes:
        figure: The ``matplotlib.figure.Figure``.
    """

    figure: Any

    def _repr_png_(self) -> bytes:
        return self.encoded("png")

    def encoded(self, form: str, dpi: int = 120) -> bytes:
        """Return the figure as the content of an image file.

        Args:
            form: "png" or "svg".
            dpi: Pixels per inch of a PNG; fewer if a side would have more than ``MAX_SIDE`` pixels.
        """
        from matplotlib import rc_context  # noqa: PLC0415 -- heavy, and optional

        buffer = io.BytesIO()
        dpi = min(dpi, int(MAX_SIDE / max(self.figure.get_size_inches())))
        with rc_context(STYLE):  # matplotlib creates ticks while it draws
            metadata = {"Date": None, "Creator": None} if form == "svg" else None
            self.figure.savefig(buffer, format=form, dpi=dpi, metadata=metadata)
        return buffer.getvalue()

    def save(self, directory: Path, name: str) -> list[Path]:
        """Write NAME.png and NAME.svg.

        Args:
            directory: Directory for the files. It is created if it does not exist.
            name: File name without its suffix.

        Returns:
            The paths of both files.

        Raises:
            RunDirectoryError: A file cannot be written.
        """
        paths = [directory / f"{name}.png", directory / f"{name}.svg"]
        with files.reported("written", directory):
            directory.mkdir(parents=True, exist_ok=True)
        for path in paths:
            files.write(path, self.encoded(path.suffix[1:], 150))
        return paths


def pages(runs: Sequence[Run]) -> list[list[Run]]:
    """Split runs into groups for one figure of curves each: at most ``MAX_ENVIRONMENTS`` environments per figure.

    Args:
        runs: The runs.

    Returns:
        The groups, in the order of the runs.
    """
    groups = list(_by_environment(runs).values())
    parts = [groups[first : first + MAX_ENVIRONMENTS] for first in range(0, len(groups), MAX_ENVIRONMENTS)]
    return [[run for group in part for run in group] for part in parts]


def _by_environment(runs: Sequence[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.config["environment"], []).append(run)
    return groups


@figures.styled
def curves(runs: Sequence[Run], x: Axis = "steps") -> Picture:
    """Draw greedy evaluations, return, loss, epsilon and episode length of one or several runs.

    The title reports the outcome. Runs of several environments have separate panels. The figure omits episodes that
    were cut off when the budget ended. The moving average has the same width for all runs of an environment.

    Args:
        runs: The runs. Each has its own color and line style, in the order of creation. Use ``pages`` to split runs of
            many environments.
        x: Horizontal axis, "steps" or "episodes".

    Returns:
        A figure of five panels for each environment.

    Raises:
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> from pathlib import Path
        >>> from perilune.runs.logs import read_run
        >>> from perilune.viz.plots import curves
        >>> curves([read_run(Path("runs/moon"))]).save(Path("plots"), "curves")  # doctest: +SKIP
        [PosixPath('plots/curves.png'), PosixPath('plots/curves.svg')]
    """
    runs = shared.by_creation(runs)
    groups = _by_environment(runs)
    places = {id(run): place for place, run in enumerate(runs)}
    headlines = [f"{titles.named(group)}: {titles.outcome(group)}" for group in groups.values()]
    figure, parts = figures.parts(11, 9, headlines)
    for part, group in zip(parts, groups.values(), strict=True):
        _draw_curves(part, group, [places[id(run)] for run in group], x)
    figures.fix_layout(figure)
    return Picture(figure)


def _draw_curves(figure: Any, runs: Sequence[Run], places: Sequence[int], x: Axis) -> None:
    """Draw the panels of runs of one environment. ``places`` determine their colors."""
    cells = figure.add_gridspec(3, 2, height_ratios=(1.2, 1, 1))
    axes = [figure.add_subplot(cells[1 + number // 2, number % 2]) for number in range(len(PANELS))]
    greedy = figure.add_subplot(cells[0, :])
    at = POSITIONS[x]
    episodes = [sorted((one for one in run.episodes if one.ended != "budget"), key=at) for run in runs]
    smooth = shared.window(max(map(len, episodes), default=0))
    faint = RAW if len(runs) == 1 else RAW | {"alpha": RAW["alpha"] / 2}
    for axis, (name, label, value) in zip(axes, PANELS, strict=True):
        for place, played in zip(places, episodes, strict=True):
            positions = [at(episode) for episode in played]
            y = figures.clipped([value(episode) for episode in played])
            style = AVERAGE | _look(place) | {"marker": figures.marker(played)}
            if name == "Epsilon":  # not smoothed, because it has no noise
                axis.plot(positions, y, **style)
                continue
            dots = "o" if len(played) <= MAX_DOTTED else ""
            axis.plot(positions, y, color=style["color"], **faint, marker=dots, markersize=3)
            first = max(0, min(smooth, len(played) // 2) - 1)  # means of fewer episodes are too noisy
            axis.plot(positions[first:], moving_average(y, smooth)[first:], **style)
        note = f"faint: each episode, strong: mean of the last {smooth}" if name == "Return" else ""
        _finish(axis, name, label, LABELS[x], note)
    _finish(greedy, "Greedy evaluation", "mean return", LABELS[x], note=_draw_evaluations(greedy, runs, places, at))
    _draw_threshold(greedy, runs, label=True)
    _draw_threshold(axes[0], runs)
    limits = np.array([axis.get_xlim() for axis in (greedy, *axes)])
    greedy.set_xlim(limits[:, 0].min(), limits[:, 1].max())
    for axis in (greedy, *axes):
        axis.set_xlim(greedy.get_xlim())
        axis.xaxis.set_major_formatter("{x:,.0f}")
    if len(runs) > 1:
        _name_runs(figure, axes[2].get_lines(), runs)


def _draw_evaluations(axis: Any, runs: Sequence[Run], places: Sequence[int], at: Callable[[Any], int]) -> str:
    """Draw the evaluations of each run, and the mean over seeds. Return a sentence that explains the bands."""
    families: dict[str, list[tuple[Array, Array]]] = {}
    for place, run in zip(places, runs, strict=True):
        scored = titles.scored(run)
        positions = np.array([at(one) for one in scored])
        means = figures.clipped([one.mean_return for one in scored])
        spread = figures.clipped([one.std_return for one in scored])
        again = place // len(COLORS)
        style = DOTS | _look(place) | {"marker": MARKERS[again % len(MARKERS)], "linewidth": 1.6}
        axis.plot(positions, means, **style, zorder=3, label="greedy evaluation")
        if len(runs) == 1:
            axis.fill_between(positions, means - spread, means + spread, color=style["color"], alpha=0.18, linewidth=0)
        if scored:
            families.setdefault(family(run.config), []).append((positions, means))
    if len(runs) == 1:
        return "band: standard deviation over the episodes of an evaluation"
    several = [seeds for seeds in families.values() if len(seeds) > 1]
    for number, seeds in enumerate(several):
        band = shared.band(seeds)
        axis.fill_between(band.x, band.low, band.high, color=INK, alpha=0.1, linewidth=0)
        axis.plot(band.x, band.mean, color=INK, linewidth=2.6, linestyle=STYLES[number % len(STYLES)])
    mean = "interquartile mean" if max(map(len, several), default=0) > 3 else "mean"  # equal for up to three seeds
    return f"black: {mean} over seeds, band: lowest to highest seed" if several else ""


def _look(place: int) -> dict[str, Any]:
    """Return the color and the line style of the run at a place."""
    return {"color": COLORS[place % len(COLORS)], "linestyle": STYLES[place // len(COLORS) % len(STYLES)]}


@dataclass(frozen=True)
class Band:
    """Evaluations of several seeds of one learner.

    Attributes:
        name: Name of the learner.
        seeds: For each seed, the environment steps and mean returns of its evaluations.
        env_steps: Environment steps at which the mean over seeds is known, [G].
        mean: Interquartile mean over seeds, [G].
        low: Lower end of its 95 % interval, [G].
        high: Upper end of its 95 % interval, [G].
    """

    name: str
    seeds: Sequence[tuple[Array, Array]]
    env_steps: Array
    mean: Array
    low: Array
    high: Array


@figures.styled
def bands(title: str, learners: Sequence[Band], reward_threshold: float | None) -> Picture:
    """Draw evaluations over environment steps: a thin line per seed, and the interquartile mean with its interval.

    Args:
        title: Title of the figure.
        learners: Evaluations of each learner. Each has its own color.
        reward_threshold: Mean return at which the environment counts as solved; None if the environment defines none.

    Returns:
        A figure of one panel.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure = figures.titled(9, 5.4, title)
    axis = figure.subplots()
    for number, learner in enumerate(learners):
        color = COLORS[number % len(COLORS)]
        for steps, returns in learner.seeds:
            axis.plot(steps, returns, color=color, **RAW, marker=figures.marker(steps), markersize=3)
        axis.fill_between(learner.env_steps, learner.low, learner.high, color=color, alpha=0.2, linewidth=0)
        label = f"{learner.name}, {len(learner.seeds)} seed{'s' if len(learner.seeds) > 1 else ''}"
        style = AVERAGE | {"color": color, "marker": figures.marker(learner.env_steps), "label": label}
        axis.plot(learner.env_steps, learner.mean, **style)
    if reward_threshold is not None:
        axis.axhline(reward_threshold, **DASHED, label=f"solved at {reward_threshold:g}")
    most = max(len(learner.seeds) for learner in learners)
    strong = "interquartile mean and 95 % interval" if most >= LEAST_SEEDS else "mean"
    words = f": {strong} over seeds (faint: each seed)" if most > 1 else ""
    _finish(axis, f"Greedy evaluation{words}", "return", "environment step")
    axis.set_xlim(left=0)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    figure.legend(loc="outside upper right", ncols=len(learners) + 1)
    return Picture(figure)


@figures.styled
def outcomes(runs: Sequence[Run]) -> Picture | None:
    """Draw the share of each outcome over the training episodes.

    Args:
        runs: Runs of one environment. Each of the first ``MAX_PANELS`` has its own panel.

    Returns:
        The figure; None if the environment defines no outcomes, or if there are several environments.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    shown = [(run, labels, found) for run in runs for labels, found in [episode_outcomes(run)] if len(found)]
    environments = {run.config["environment"] for run, _, _ in shown}
    if len(environments) != 1:
        return None
    labels = shown[0][1]
    note = "Share of episodes with each outcome. Each column contains about the same number of episodes."
    if len(shown) > MAX_PANELS:
        note += f" The figure shows the first {MAX_PANELS} of {len(shown)} runs."
        shown = shown[:MAX_PANELS]
    figure = figures.canvas(11, 1.2 + 2 * len(shown), f"{environments.pop()}: outcomes of training episodes", note)
    panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axis, (run, _, found) in zip(panels, shown, strict=True):
        at = figures.stack(axis, found, len(labels), PARTS)
        axis.set(xlabel="episode" if axis is panels[-1] else "", ylabel="share")
        if len(shown) > 1:
            axis.set_title(printable(run.directory.name), fontsize=10, fontweight="normal")
        figures.over_steps(axis, at)
    figures.legend(figure, labels)
    return Picture(figure)


def episode_outcomes(run: Run) -> tuple[tuple[str, ...], Array]:
    """Return the outcomes of a run's episodes.

    Args:
        run: The run.

    Returns:
        The labels of the environment's outcomes, and the index of each episode's label, ordered by episode. Episodes
        without an outcome are skipped.
    """
    labels = lookup(run.config["environment"]).outcome_labels
    episodes = sorted(run.episodes, key=lambda episode: episode.episode)
    return labels, np.array([labels.index(one.outcome) for one in episodes if one.outcome in labels], np.int64)


def _finish(axis: Any, title: str, label: str, x_label: str, note: str = "") -> None:
    """Set title, note, labels, ticks and scale of a panel whose lines have been drawn."""
    axis.set(title=title, xlabel=x_label, ylabel=label)
    axis.set_title(note, loc="right", fontsize=8, fontweight="normal", color=PAPER)
    axis.grid(visible=True)
    axis.margins(x=0.01)
    axis.locator_params(axis="x", integer=True, min_n_ticks=1)
    y = np.concatenate([[], *(line.get_ydata() for line in axis.get_lines())])
    y = y[np.isfinite(y)]
    if not y.size:
        axis.text(0.5, 0.6, "no data yet", transform=axis.transAxes, ha="center", fontsize=9, color=PAPER)
        axis.set(xticks=[], yticks=[])
    elif title == "Episode length":
        axis.locator_params(axis="y", integer=True, min_n_ticks=1)
    elif title == "Epsilon":
        axis.set_ylim(-0.03, 1.03)
    elif title == "Loss" and (positive := y[y > 0]).size and positive.max() >= 10 * positive.min():
        axis.set_ylim(max(positive.min(), 1e-9 * positive.max()) / 1.3, positive.max() * 1.3)
        figures.log_scale(axis)


def _draw_threshold(axis: Any, runs: Sequence[Run], label: bool = False) -> None:
    """Draw the reward threshold that all runs share, if any, unless the panel is empty."""
    thresholds = {run.config.get("reward_threshold") for run in runs}
    if len(thresholds) != 1 or None in thresholds or not axis.get_yticks().size:
        return
    (threshold,) = thresholds
    height = figures.clipped(threshold)
    axis.axhline(height, **DASHED)
    if label:
        where = {"xycoords": ("axes fraction", "data"), "xytext": (0, -3), "textcoords": "offset points"}
        axis.annotate(f"solved at {threshold:g}", (0.006, height), **where, va="top", fontsize=8, color=PAPER)


def _name_runs(figure: Any, lines: Sequence[Any], runs: Sequence[Run]) -> None:
    """Add a legend of the runs by directory name, or by path if two have the same name."""
    paths = [run.directory for run in runs]
    names = [path.resolve().name for path in paths]
    names = [printable(name) for name in (names if len(set(names)) == len(runs) else map(str, paths))]
    columns = int(np.clip(110 // (max(map(len, names)) + 8), 1, min(6, len(runs))))
    figure.legend(lines, names, loc="outside lower center", ncols=columns)
