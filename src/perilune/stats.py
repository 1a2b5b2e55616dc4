"""Small statistics on plain arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from perilune.nn.layers import Array


def moving_average(values: ArrayLike, window: int) -> Array:
    """Mean of the last ``window`` values at each place, of fewer at the start; NaN and infinity are left out.

    Args:
        values: [N].
        window: >= 1.

    Returns:
        [N] in float64; NaN where a window holds no number.
    """
    numbers = np.asarray(values, np.float64)
    there = np.isfinite(numbers)
    count = _window_sums(there.astype(np.float64), window)
    with np.errstate(over="ignore", invalid="ignore"):  # huge values may add up to infinity
        sums = _window_sums(np.where(there, numbers, 0.0), window)
    average: Array = np.divide(sums, count, out=np.full(len(numbers), np.nan), where=count > 0)
    return average


def _window_sums(numbers: Array, window: int) -> Array:
    """Sum of the last ``window`` numbers at each place: the end of one block and the beginning of the next.

    So each has but its own numbers in it (a running sum would lose what follows a huge one), in time that does not
    depend on ``window``.
    """
    window = min(window, max(1, len(numbers)))
    blocks = np.zeros((-(-len(numbers) // window), window))
    blocks.flat[: len(numbers)] = numbers
    sums = blocks.cumsum(axis=1)  # from each block's beginning
    sums[1:, :-1] += blocks[:-1, :0:-1].cumsum(axis=1)[:, ::-1]  # to its end
    window_sums: Array = sums.ravel()[: len(numbers)]
    return window_sums
