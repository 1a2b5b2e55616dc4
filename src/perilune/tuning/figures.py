"""Draw a search: its history, its parameters side by side, and their importances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perilune._utils.text import printable
from perilune.tuning.result import TrialSummary, TuningResult
from perilune.viz import figures
from perilune.viz.figures import PAPER
from perilune.viz.plots import Picture
from perilune.viz.shared import COLORS

MOST_AXES = 14  # parameters side by side
MOST_LINES = 300  # trials side by side; the best ones
LABEL = 22  # characters of a label


@figures.styled
def history(result: TuningResult) -> Picture:
    """Draw the value of each complete trial, and the best value so far.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure = figures.titled(9, 3.6, "History")
    axis = figure.subplots()
    complete = [one for one in result.trials if one.value is not None]
    numbers, values = [one.number for one in complete], figures.clipped([one.value for one in complete])
    axis.plot(numbers, values, "o", color=COLORS[0], markersize=5, alpha=0.7, label="complete trial")
    best = np.maximum.accumulate(values) if result.maximizes else np.minimum.accumulate(values)
    axis.step(numbers, best, where="post", color=COLORS[1], linewidth=2, label="best so far")
    for state, marker in (("pruned", "|"), ("failed", "x")):
        found = [one.number for one in result.trials if one.state == state]
        if found:
            axis.plot(
                found, np.zeros(len(found)) + 0.02, marker, transform=axis.get_xaxis_transform(), color=PAPER,
                markersize=7, label={"pruned": "stopped early", "failed": "failed"}[state],
            )  # fmt: skip
    if not result.maximizes and len(values) and values.min() > 0:
        figures.log_scale(axis)
    axis.grid(visible=True)
    axis.locator_params(axis="x", integer=True, min_n_ticks=1)
    axis.set(xlabel="trial", ylabel=result.objective)
    figure.legend(loc="outside upper right", ncols=4)
    return Picture(figure)


@figures.styled
def parallel(result: TuningResult) -> Picture | None:
    """Draw each complete trial as a line through its parameters. Better trials are darker.

    The parameters with the largest importance are shown. None if no trial is complete.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    trials = result.ranked[:MOST_LINES]
    names = [*result.importances, *dict.fromkeys(name for one in trials for name in one.parameters)]
    names = list(dict.fromkeys(names))[:MOST_AXES]
    if len(trials) < 2 or not names:
        return None
    figure = figures.titled(9, 5, "Parameters of the complete trials")
    axis = figure.subplots()
    columns = [_column(name, trials, name in result.log_parameters) for name in names]
    shades = np.linspace(1.0, 0.12, len(trials))
    for place in reversed(range(len(trials))):  # the best one on top
        heights = [column.heights[place] for column in columns]
        color = COLORS[1] if place == 0 else COLORS[0]
        axis.plot(
            range(len(names)), heights, color=color, alpha=float(shades[place]), linewidth=2.2 if not place else 1
        )
        axis.plot(range(len(names)), heights, ".", color=color, alpha=float(shades[place]), markersize=5)
    for place, column in enumerate(columns):
        axis.axvline(place, color="#bbbbbb", linewidth=0.8, zorder=0)
        for height, label in column.ticks:
            axis.annotate(
                label, (place, height), (3, 0), textcoords="offset points", fontsize=7, color=PAPER, va="center"
            )
    axis.set_xticks(range(len(names)), [_short(name) for name in names], rotation=30, ha="right")
    axis.set_yticks([])
    axis.set_ylim(-0.05, 1.05)
    axis.set_xlim(-0.2, len(names) - 0.4)
    for side in ("left", "bottom"):
        axis.spines[side].set_visible(False)
    return Picture(figure)


@figures.styled
def importances(result: TuningResult) -> Picture | None:
    """Draw the importance of each parameter. None if there are too few trials to compute it.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    if not result.importances:
        return None
    names, shares = list(result.importances)[::-1], list(result.importances.values())[::-1]
    figure = figures.titled(9, 1.2 + 0.26 * len(names), "Importance of the parameters")
    axis = figure.subplots()
    axis.barh([_short(name) for name in names], shares, color=COLORS[0])
    axis.grid(visible=True, axis="x")
    axis.set_xlabel("share of the variation of the objective (PED-ANOVA)")
    return Picture(figure)


class _Column:
    """One parameter: the height of each trial from 0 to 1, NaN without the parameter, and labels at heights."""

    def __init__(self, heights: Sequence[float], ticks: Sequence[tuple[float, str]]) -> None:
        self.heights, self.ticks = heights, ticks


def _column(name: str, trials: Sequence[TrialSummary], log: bool) -> _Column:
    found = [one.parameters.get(name) for one in trials]
    known = [value for value in found if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        scaled = [math.nan if value is None else math.log(value) if log else float(value) for value in found]
        low, high = np.nanmin(scaled), np.nanmax(scaled)
        width = high - low or 1.0
        heights = [(value - low) / width if high > low else 0.5 + 0 * value for value in scaled]
        ends = {0.0: min(known), 1.0: max(known)} if high > low else {0.5: known[0]}
        return _Column(heights, [(height, _tick(value)) for height, value in ends.items()])
    words = sorted({str(value) for value in known})
    places = {word: place / max(1, len(words) - 1) if len(words) > 1 else 0.5 for place, word in enumerate(words)}
    heights = [math.nan if value is None else places[str(value)] for value in found]
    return _Column(heights, [(height, _short(word)) for word, height in places.items()])


def _tick(value: float) -> str:
    """Format the end of an axis."""
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:.3g}"


def _short(text: str) -> str:
    text = printable(text)
    return text if len(text) <= LABEL else f"{text[: LABEL - 3]}..."


def drawn(result: TuningResult) -> Mapping[str, Any]:
    """Return the figures of a search by title."""
    found = {
        "History": history(result),
        "Parameters": parallel(result),
        "Importances": importances(result),
    }
    return {title: picture for title, picture in found.items() if picture is not None}
