"""Compute smoothed and thinned curves from the columns of a log."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.statistics import moving_average
from perilune.runs.tables import Table

COLUMNS = {
    "episodes": ("reward", "outcome", "length", "loss", "epsilon", "target_syncs"),
    "metrics": ("mean_q", "mean_td_target", "gradient_norm", "learning_rate"),
    "evaluations": ("mean_return", "std_return", "min_return"),
}


class Curve(NamedTuple):
    """A column of a log: x [N] (sorted), y [N], and the moving average of y [N]."""

    x: Array
    y: Array
    mean: Array

    def between(self, low: float, high: float) -> tuple[int, Curve]:
        """Return the number of rows with ``low`` <= x <= ``high``, and these rows with the neighbors at both ends.

        With the neighbors, lines reach the ends of the range.
        """
        start, stop = np.searchsorted(self.x, [low, np.nextafter(high, np.inf)])
        first, last = max(0, start - 1), stop + 1
        return int(stop - start), Curve(self.x[first:last], self.y[first:last], self.mean[first:last])

    def at(self, rows: Array) -> Curve:
        """Return the rows with the indices ``rows``."""
        return Curve(self.x[rows], self.y[rows], self.mean[rows])


def training_time(env_steps: Array, evaluations: Table) -> Array:
    """Return the seconds of training at each of ``env_steps``, which only evaluations record.

    Interpolate between evaluations, and continue at the latest speed. Return NaN if there are no evaluations.
    """
    steps, seconds = evaluations.columns["env_steps"], evaluations.columns["seconds"]
    steps, rows = np.unique(steps[np.isfinite(seconds)], return_index=True)
    if len(steps) == 0 or steps[-1] <= 0:
        return np.full(len(env_steps), np.nan)
    seconds = np.maximum.accumulate(seconds[np.isfinite(seconds)][rows])
    steps, seconds = (np.append(0.0, known[steps > 0]) for known in (steps, seconds))
    speed = (seconds[-1] - seconds[-2]) / (steps[-1] - steps[-2])
    later = np.maximum(0.0, env_steps - steps[-1])
    with np.errstate(over="ignore"):  # of huge values
        return np.asarray(np.interp(env_steps, steps, seconds) + later * speed)


def curve(
    tables: Mapping[str, Table], log: str, column: str, x: str = "env_steps", window: int = 1, outcome: str = ""
) -> Curve:
    """Return a column of a log over ``x``, with its moving average over ``window`` rows.

    Omit episodes that were cut off when the budget ended.

    Args:
        tables: the log, and "evaluations" if ``x`` is "seconds".
        log: name of the log.
        column: name of the column.
        x: "env_steps", "episode" or "seconds". Metrics have no episodes and use "env_steps" instead.
        window: number of rows.
        outcome: for the column "outcome", which is 1 in episodes with this outcome and 0 in others.
    """
    columns = tables[log].columns
    by = {"episodes": "episode", "evaluations": "episodes"}.get(log, "env_steps") if x == "episode" else "env_steps"
    across, y = columns[by], columns[column]
    if column == "outcome":
        y = (y == outcome).astype(np.float64)
    if log == "episodes":
        is_whole = columns["ended"] != "budget"
        across, y = across[is_whole], y[is_whole]
    if x == "seconds":
        across = training_time(across, tables["evaluations"])
        across, y = across[np.isfinite(across)], y[np.isfinite(across)]
    if np.any(across[1:] < across[:-1]):  # parallel episodes may end in another order than they start
        order = np.argsort(across, kind="stable")
        across, y = across[order], y[order]
    return Curve(across, y, moving_average(y, window))


def thin(x: Array, y: Array, points: int) -> Array:
    """Return the indices of about ``points`` rows whose curve looks like the curve of all rows. ``x`` is sorted.

    Split the range of x into ``points // 4`` equal intervals and keep the first, lowest, highest and last row of each.
    An interval without a finite y keeps one row, so that the gap stays visible.
    """
    if len(x) <= points:
        return np.arange(len(x))
    edges = np.linspace(x[0], x[-1], points // 4 + 1)[1:-1]
    starts = np.concatenate([[0], np.searchsorted(x, edges, "left"), [len(x)]])
    kept: list[int] = []
    for start, stop in pairwise(starts):
        rows = start + np.flatnonzero(np.isfinite(y[start:stop]))
        if len(rows):
            kept += rows[0], rows[y[rows].argmin()], rows[y[rows].argmax()], rows[-1]
        elif start < stop:
            kept.append(start)
    return np.unique(kept)


def spaced(rows: int, points: int) -> Array:
    """Return the indices of at most ``points`` of ``rows`` rows, equally spaced, with the first and the last."""
    return np.unique(np.linspace(0, rows - 1, min(rows, points)).round().astype(np.intp))
