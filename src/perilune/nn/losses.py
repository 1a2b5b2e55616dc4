"""Losses of one prediction per transition, with their exact derivatives."""

from __future__ import annotations

from typing import Literal

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import ShapeError
from perilune.nn.backend import compiled

Loss = Literal["mse", "huber"]


def mse(prediction: Array, target: Array) -> tuple[float, Array]:
    """Compute the mean squared error: mean of e^2, with e = prediction - target.

    Args:
        prediction: float [B].
        target: float [B], a constant.

    Returns:
        The loss, and d loss / d prediction = 2 e / B, float [B].
    """
    error = _error(prediction, target)
    return float(np.dot(error, error)) / len(error), error * error.dtype.type(2 / len(error))


def huber(prediction: Array, target: Array, delta: float = 1.0) -> tuple[float, Array]:
    """Compute the Huber loss: mean of e^2 / 2 where abs(e) <= delta, else of delta (abs(e) - delta / 2).

    Args:
        prediction: float [B].
        target: float [B], a constant. e = prediction - target.
        delta: abs(e) above which the loss is linear, > 0, in units of the prediction.

    Returns:
        The loss, and d loss / d prediction = clip(e, -delta, delta) / B, float [B].

    Huber, Robust Estimation of a Location Parameter, 1964.
    """
    if (fast := compiled()) is not None:
        check_pair(prediction, target, ndim=1)
        gradient = np.empty_like(prediction)
        return fast.huber(prediction, target, delta, gradient), gradient
    error = _error(prediction, target)
    clipped = np.minimum(np.maximum(error, -delta), delta)
    # With c = clip(e, -delta, delta), both branches are c (e - c / 2).
    loss = float(np.dot(clipped, error - clipped / 2)) / len(error)
    return loss, clipped * error.dtype.type(1 / len(error))


def _error(prediction: Array, target: Array) -> Array:
    check_pair(prediction, target, ndim=1)
    error: Array = prediction - target
    return error


def check_pair(prediction: Array, target: Array, ndim: int, same: bool = True) -> None:
    """Raise ShapeError unless the shapes and dtypes of a prediction and its target match.

    Without this check, (B, 1) - (B,) would silently broadcast to (B, B), 1 / B would round to 0 in integer arrays, and
    one float64 array would make all results float64.

    Args:
        prediction: an array.
        target: another array.
        ndim: the number of axes that both must have.
        same: whether both must have the same shape, not only the same number of rows.
    """
    fits = prediction.shape == target.shape if same else prediction.shape[:1] == target.shape[:1]
    if not fits or prediction.ndim != ndim or target.ndim != ndim or not prediction.size or not target.size:
        axes = "both be [B]" if ndim == 1 else "both be [B, N]" if same else "be [B, N] and [B, M]"
        raise ShapeError(f"prediction and target must {axes}, got {list(prediction.shape)} and {list(target.shape)}")
    if prediction.dtype != target.dtype or prediction.dtype.kind != "f":
        raise ShapeError(
            f"prediction and target must both be float32 or float64, got {prediction.dtype} and {target.dtype}"
        )
