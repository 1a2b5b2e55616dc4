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
    padded = np.concatenate([np.full(window, np.nan), np.where(np.isfinite(numbers), numbers, np.nan)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)[1:]
    count = np.isfinite(windows).sum(axis=1)
    sums = np.nansum(windows, axis=1)  # each window by itself: a running sum would lose what follows a huge value
    average: Array = np.divide(sums, count, out=np.full(len(numbers), np.nan), where=count > 0)
    return average
