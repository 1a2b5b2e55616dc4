"""Small statistics on plain arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from perilune.nn.layers import Array


def moving_average(values: ArrayLike, window: int) -> Array:
    """Mean of the last ``window`` values at each place, of fewer at the start; values that are NaN are left out.

    Args:
        values: [N].
        window: >= 1.

    Returns:
        [N] in float64; NaN where a window holds no number.
    """
    numbers = np.asarray(values, np.float64)
    known = np.isfinite(numbers)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, numbers, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    stop = np.arange(1, len(numbers) + 1)
    start = np.maximum(0, stop - window)
    count = counts[stop] - counts[start]
    average: Array = np.where(count > 0, (sums[stop] - sums[start]) / np.maximum(count, 1), np.nan)
    return average
