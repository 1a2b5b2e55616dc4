"""Losses: the value and its exact derivative with respect to the prediction."""

from __future__ import annotations

from typing import Literal

import numpy as np

from perilune.errors import ShapeError
from perilune.nn.layers import Array

Loss = Literal["mse", "huber"]


def mse(prediction: Array, target: Array) -> tuple[float, Array]:
    """Mean squared error: mean of e^2 with e = prediction - target.

    Args:
        prediction: [B].
        target: [B], a constant.

    Returns:
        The loss, and d loss / d prediction = 2 e / B, shape [B].
    """
    error = _error(prediction, target)
    return float(np.dot(error, error)) / len(error), error * error.dtype.type(2 / len(error))


def huber(prediction: Array, target: Array, delta: float = 1.0) -> tuple[float, Array]:
    """Huber's loss: mean of e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), with e = prediction - target.

    Args:
        prediction: [B].
        target: [B], a constant.
        delta: where the parabola passes into a line, > 0, in units of the prediction.

    Returns:
        The loss, and d loss / d prediction = clip(e, -delta, delta) / B, shape [B].

    Huber, Robust Estimation of a Location Parameter, 1964.
    """
    error = _error(prediction, target)
    clipped = np.minimum(np.maximum(error, -delta), delta)
    # c (e - c / 2) is both branches at once: c = e inside, c = +-delta outside.
    loss = float(np.dot(clipped, error - clipped / 2)) / len(error)
    return loss, clipped * error.dtype.type(1 / len(error))


def _error(prediction: Array, target: Array) -> Array:
    # (B, 1) - (B,) would broadcast to (B, B) in silence, so the shapes are compared, not combined. The dtypes are
    # too: 1 / B is 0 in integers, and one float64 among float32 makes all that follows float64.
    if prediction.ndim != 1 or prediction.shape != target.shape or not len(target):
        raise ShapeError(
            f"prediction and target must both be [B], got {list(prediction.shape)} and {list(target.shape)}"
        )
    if prediction.dtype != target.dtype or prediction.dtype.kind != "f":
        raise ShapeError(
            f"prediction and target must both be float32 or float64, got {prediction.dtype} and {target.dtype}"
        )
    error: Array = prediction - target
    return error
