"""Small statistics on plain arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from perilune._utils.arrays import Array

PIECE = 2**16  # places averaged at a time, which fit into the processor's cache


def moving_average(values: ArrayLike, window: int) -> Array:
    """Mean of the last ``window`` values at each place, of fewer at the start; NaN and infinity are left out.

    Args:
        values: [N].
        window: >= 1.

    Returns:
        [N] in float64; NaN where a window holds no number.
    """
    numbers = np.asarray(values, np.float64)
    average = np.empty(len(numbers))
    step = max(PIECE, window)
    for start in range(0, len(numbers), step):
        before = min(start, window - 1)
        piece = numbers[start - before : start + step]
        average[start : start + step] = _averages(piece, min(window, len(piece)))[before:]
    return average


def _averages(numbers: Array, window: int) -> Array:
    there = np.isfinite(numbers)
    if there.all():
        count = np.minimum(np.arange(1.0, len(numbers) + 1), window)
    else:
        count = _sums(there.astype(np.float64), window)
    with np.errstate(over="ignore", invalid="ignore"):  # huge values may add up to infinity
        sums = _sums(np.where(there, numbers, 0.0), window)
    averages: Array = np.divide(sums, count, out=np.full(len(numbers), np.nan), where=count > 0)
    return averages


def _sums(numbers: Array, window: int) -> Array:
    """Sum of the last ``window`` numbers at each place: the end of one block of as many, and the beginning of the next.

    So each has but its own numbers in it (a running sum would lose what follows a huge one), and takes equally long
    for every window.
    """
    blocks = np.zeros((-(-len(numbers) // window), window))
    blocks.flat[: len(numbers)] = numbers
    sums = blocks.cumsum(axis=1)  # from each block's beginning
    sums[1:, :-1] += blocks[:-1, :0:-1].cumsum(axis=1)[:, ::-1]  # to the end of the one before
    found: Array = sums.ravel()[: len(numbers)]
    return found
