"""Curves out of columns: in their order, smoothed, thinned to what can be seen, and bands over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.statistics import moving_average
from perilune.web.logs import Table

NAMES = {
    "episodes": ("reward", "length", "loss", "epsilon", "target_syncs"),
    "metrics": ("loss", "mean_q", "mean_td_target", "gradient_norm", "learning_rate", "epsilon"),
    "evaluations": ("mean_return", "std_return", "min_return"),
}
GRID = 300  # places along a band


class Curve(NamedTuple):
    """Every row of a column: x[N] in rising order, y[N], and the moving average of y, [N]."""

    x: Array
    y: Array
    mean: Array

    def between(self, low: float, high: float) -> Curve:
        """Those rows whose x is from ``low`` to ``high``."""
        start, stop = np.searchsorted(self.x, low, "left"), np.searchsorted(self.x, high, "right")
        return Curve(self.x[start:stop], self.y[start:stop], self.mean[start:stop])

    def at(self, rows: Array) -> Curve:
        return Curve(self.x[rows], self.y[rows], self.mean[rows])


def curve(table: Table, log: str, column: str, x: str, smooth: int) -> Curve:
    """A column of a log over ``x``, "env_steps" or "episode". An episode that the budget cut off is left out."""
    by = {"episodes": "episode", "evaluations": "episodes"}.get(log, "env_steps") if x == "episode" else "env_steps"
    across, y = table.columns[by], table.columns[column]
    if log == "episodes" and (cut_off := table.code("ended", "budget")) >= 0:
        whole = table.columns["ended"] != cut_off
        across, y = across[whole], y[whole]
    if np.any(across[1:] < across[:-1]):  # side by side, who begins first need not end first
        order = np.argsort(across, kind="stable")
        across, y = across[order], y[order]
    return Curve(across, y, moving_average(y, smooth))


def thin(x: Array, y: Array, points: int) -> Array:
    """Which rows to draw, so that the line looks as if all were: about ``points`` of them.

    The range is cut into equal parts, narrower than what can be told apart; of each the first, the lowest, the highest
    and the last row are kept. A part without a number keeps a row all the same, so that the gap can be seen.

    Args:
        x: [N], rising.
        y: [N].
        points: >= 4.

    Returns:
        Numbers of rows, [M], rising.
    """
    if len(x) <= points:
        return np.arange(len(x))
    edges = np.linspace(x[0], x[-1], points // 4 + 1)[1:-1]
    parts = np.concatenate([[0], np.searchsorted(x, edges, "left"), [len(x)]])
    numbers = np.flatnonzero(np.isfinite(y))
    values, bounds = y[numbers], np.searchsorted(numbers, parts)  # where the parts begin among the numbers
    kept: list[int] = []
    gaps: list[int] = []
    for (row, behind), (start, stop) in zip(pairwise(parts.tolist()), pairwise(bounds.tolist()), strict=True):
        if start < stop:
            part = values[start:stop]
            kept += start, start + int(part.argmin()), start + int(part.argmax()), stop - 1
        elif row < behind:
            gaps.append(row)
    return np.unique(np.concatenate([numbers[np.array(kept, np.int64)], np.array(gaps, np.int64)]))


class Band(NamedTuple):
    """What several seeds do together, along x[G]."""

    x: Array
    mean: Array
    low: Array
    high: Array


def band(curves: Sequence[Curve]) -> Band:
    """The middle of the curves' moving averages, the lowest and the highest.

    It begins where all curves have begun, or each that begins would make it jump, and goes as far as at least two. The
    middle is the mean of the middle half: of n, the n // 4 lowest and as many of the highest are left out.
    """
    known = [(one.x[there], one.mean[there]) for one in curves if (there := np.isfinite(one.mean)).any()]
    if len(known) < 2:
        return Band(*np.empty((4, 0)))
    start = max(x[0] for x, _ in known)
    stop = sorted(x[-1] for x, _ in known)[-2]
    grid = np.linspace(start, stop, GRID) if stop > start else np.array([start] if stop == start else [])
    values = np.array([np.interp(grid, x, mean, np.nan, np.nan) for x, mean in known])  # [seeds, G]
    count = np.isfinite(values).sum(axis=0)
    grid, values, count = grid[count >= 2], np.sort(values[:, count >= 2], axis=0), count[count >= 2]  # NaN comes last
    place, cut = np.arange(len(known))[:, None], count // 4
    middle = (place >= cut) & (place < count - cut)
    with np.errstate(over="ignore", invalid="ignore"):  # huge values may add up to infinity
        mean = np.where(middle, values, 0.0).sum(axis=0) / middle.sum(axis=0)
    high = np.take_along_axis(values, count[None] - 1, axis=0)[0] if len(grid) else np.empty(0)
    return Band(grid, mean, values[0], high)
