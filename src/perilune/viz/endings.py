"""What the episodes of training came to, as it went on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.text import printable
from perilune.envs.known import lookup
from perilune.runs.logs import Run
from perilune.viz.canvas import canvas, colours, legend, over_steps
from perilune.viz.insight import shares
from perilune.viz.plots import Picture, dress

PARTS = 40  # of a run's episodes


def labelled(run: Run) -> tuple[tuple[str, ...], Array]:
    """The labels of the environment's outcomes, and the place in them of every episode's that has one, in order."""
    labels = lookup(run.config["environment"]).outcome_labels
    named = sorted(run.episodes, key=lambda episode: episode.episode)
    return labels, np.array([labels.index(one.outcome) for one in named if one.outcome in labels], np.int64)


def draw(runs: Sequence[Run]) -> Picture | None:
    """The share of each outcome over the episodes, a panel for each run; None where outcomes have no names."""
    shown = [(run, *labelled(run)) for run in runs]
    shown = [(run, labels, outcomes) for run, labels, outcomes in shown if len(outcomes)]
    environments = {run.config["environment"] for run, _, _ in shown}
    if len(environments) != 1:
        return None
    labels = shown[0][1]
    told = f"Share of the episodes, each column about a {PARTS}th of them."
    figure = canvas(11, 1.2 + 2 * len(shown), f"{environments.pop()}: what episodes of training came to", told)
    panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axis, (run, _, outcomes) in zip(panels, shown, strict=True):
        parts = shares(outcomes, len(labels), PARTS)
        at = np.linspace(0, len(outcomes), len(parts) + 1)
        tops = np.cumsum(parts, axis=1)
        for place, colour in enumerate(colours(len(labels))):
            low = tops[:, place - 1] if place else np.zeros(len(parts))
            axis.stairs(tops[:, place], at, baseline=low, fill=True, color=colour, linewidth=0)
        dress(axis, "", "episode" if axis is panels[-1] else "", "share")
        if len(shown) > 1:
            axis.set_title(printable(run.directory.name), loc="left", fontsize=10, parse_math=False)
        over_steps(axis, at)
        axis.set_ylim(0, 1)
    legend(figure, labels)
    return Picture(figure)
