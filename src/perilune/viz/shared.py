"""What figures and the page of ``perilune watch`` share: colors of runs, smoothing, and bands over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.runs.logs import Run
from perilune.runs.manifest import created

# Six colors that color-blind readers can tell apart, each with a contrast of at least 3 to its background. After six
# runs, the colors repeat with the next pattern of dashes and gaps, in pixels.
COLORS = ("#0072b2", "#d55e00", "#009b70", "#c2679a", "#6b4410", "#2b2f7a")
DARK_COLORS = ("#4099dc", "#e8752a", "#2fc79a", "#d07fb8", "#f4e285", "#bfe3ff")  # on a dark background
DASHES: tuple[tuple[int, ...], ...] = ((), (8, 4), (2, 3), (9, 3, 2, 3), (4, 7))
MAX_POINTS = 300  # of a band


def window(episodes: int) -> int:
    """Return the width of the moving average: about a twentieth of ``episodes``, as a multiple of 5 from 5 to 100.

    Args:
        episodes: Number of episodes.
    """
    return int(np.clip(5 * round(episodes / 100), 5, 100))


def by_creation(runs: Sequence[Run]) -> list[Run]:
    """Return the runs in the order of their colors: the oldest first.

    Args:
        runs: The runs.
    """
    return sorted(runs, key=lambda run: (created(run.directory), str(run.directory)))


def joined(curves: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Join the curves of several seeds over the range of x that all of them cover.

    The range starts where the last curve starts and ends where the first curve ends, so that each point is about all
    curves. Its points are those of the curves, or equally spaced if there are more than ``MAX_POINTS``.

    Args:
        curves: For each seed, x (sorted) and y. They have at least one point.

    Returns:
        x [G], and the interpolated y [seeds, G].
    """
    start, stop = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.unique(np.concatenate([x[(start <= x) & (x <= stop)] for x, _ in curves]))
    if start < stop and len(grid) > MAX_POINTS:
        grid = np.linspace(start, stop, MAX_POINTS)
    return grid, np.stack([np.interp(grid, x, y) for x, y in curves])


class Band(NamedTuple):
    """Interquartile mean, minimum and maximum of several seeds along x [G]."""

    x: Array
    mean: Array
    low: Array
    high: Array


def band(curves: Sequence[tuple[Array, Array]]) -> Band:
    """Return the interquartile mean, minimum and maximum of curves, which ``joined`` joins.

    The interquartile mean of n values omits the n // 4 lowest and the n // 4 highest.

    Args:
        curves: For each seed, x (sorted) and y. Points whose y is not finite are ignored.

    Returns:
        The band, without points if fewer than two curves have any.
    """
    finite = [(x[rows], y[rows]) for x, y in curves if (rows := np.isfinite(y)).any()]
    if len(finite) < 2:
        return Band(*np.empty((4, 0)))
    grid, values = joined(finite)
    values.sort(axis=0)
    omitted = len(values) // 4
    with np.errstate(over="ignore", invalid="ignore"):  # the sum of huge values may overflow
        mean = values[omitted : len(values) - omitted].mean(axis=0)
    return Band(grid, mean, values[0], values[-1])


def style_sheet() -> str:
    """Return the colors and dashes as CSS variables: ``--line-0``, ..., ``--dashes-0``, ..."""
    dashes = [f"--dashes-{place}: {' '.join(map(str, pattern)) or 'none'};" for place, pattern in enumerate(DASHES)]
    light, dark = (
        " ".join(f"--line-{place}: {color};" for place, color in enumerate(colors)) for colors in (COLORS, DARK_COLORS)
    )
    numbers = f"--colors: {len(COLORS)}; --patterns: {len(DASHES)};"
    return (
        f":root {{ {numbers} {light} {' '.join(dashes)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )
