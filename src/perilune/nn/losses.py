"""Losses: the value and its exact derivative with respect to the prediction."""

from __future__ import annotations

from typing import Literal

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import ShapeError

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


def cross_entropy(logits: Array, target: Array) -> tuple[float, Array]:
    """Cross-entropy: mean over the batch of -sum over n of target log softmax(logits).

    Args:
        logits: [B, N].
        target: probability[B, N], a constant; every row sums to 1.

    Returns:
        The loss, and d loss / d logits = (softmax(logits) - target) / B, shape [B, N].
    """
    _check(logits, target, ndim=2)
    shifted = logits - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    total = powers.sum(axis=1, keepdims=True)
    loss = float(np.vdot(target, np.log(total) - shifted)) / len(logits)
    return loss, (powers / total - target) * logits.dtype.type(1 / len(logits))


def quantile_huber(
    quantiles: Array, target: Array, kappa: float = 1.0, scratch: Array | None = None
) -> tuple[float, Array]:
    """Quantile regression with Huber's parabola at the bottom.

    Mean over the batch of sum over i of mean over j of |tau_i - [u < 0]| L(u) / kappa, with u = target_j - quantile_i,
    tau_i = (2 i + 1) / 2 N, and L(u) = u^2 / 2 where |u| <= kappa, else kappa (|u| - kappa / 2).

    Args:
        quantiles: [B, N], the prediction.
        target: [B, M], samples or quantiles of what is predicted, a constant.
        kappa: where the parabola passes into a line, > 0, in units of the prediction.
        scratch: [2, N, M, B] to work in, of the same dtype. Arrays of this size anew for every update would cost more
            than the arithmetic: the system hands out their memory page by page.

    Returns:
        The loss, and d loss / d quantiles, shape [B, N].

    Dabney et al., Distributional Reinforcement Learning with Quantile Regression, arXiv:1710.10044.
    """
    _check(quantiles, target, ndim=2, same=False)
    (rows, n), m = quantiles.shape, target.shape[1]
    # Axes [i, j, B]: the longest one is the innermost, which NumPy is fastest on.
    error, clipped = np.empty((2, n, m, rows), quantiles.dtype) if scratch is None else scratch
    np.subtract(np.ascontiguousarray(target.T)[None, :, :], np.ascontiguousarray(quantiles.T)[:, None, :], out=error)
    # |tau - [u < 0]| is tau above 0 and 1 - tau below, so a weighted sum of x is tau sum(x) + (1 - 2 tau) sum(x below).
    # c (u - c / 2) is both of L's branches at once: c = u inside, c = +-kappa outside.
    tau = ((2 * np.arange(n) + 1) / (2 * n)).astype(quantiles.dtype)
    d_quantiles, loss = np.zeros((n, rows), quantiles.dtype), 0.0
    for weight, highest in ((tau, kappa), (1 - 2 * tau, 0.0)):
        np.clip(error, -kappa, highest, out=clipped)
        d_quantiles += weight[:, None] * clipped.sum(axis=1)
        losses = np.einsum("ijb,ijb->i", clipped, error) - np.einsum("ijb,ijb->i", clipped, clipped) / 2
        loss += float(np.dot(weight, losses))
    size = rows * m * kappa
    return loss / size, d_quantiles.T * quantiles.dtype.type(-1 / size)


def _error(prediction: Array, target: Array) -> Array:
    _check(prediction, target, ndim=1)
    error: Array = prediction - target
    return error


def _check(prediction: Array, target: Array, ndim: int, same: bool = True) -> None:
    # (B, 1) - (B,) would broadcast to (B, B) in silence, so the shapes are compared, not combined. The dtypes are
    # too: 1 / B is 0 in integers, and one float64 among float32 makes all that follows float64.
    fits = prediction.shape == target.shape if same else prediction.shape[:1] == target.shape[:1]
    if not fits or prediction.ndim != ndim or target.ndim != ndim or not prediction.size or not target.size:
        axes = "both be [B]" if ndim == 1 else "both be [B, N]" if same else "be [B, N] and [B, M]"
        raise ShapeError(f"prediction and target must {axes}, got {list(prediction.shape)} and {list(target.shape)}")
    if prediction.dtype != target.dtype or prediction.dtype.kind != "f":
        raise ShapeError(
            f"prediction and target must both be float32 or float64, got {prediction.dtype} and {target.dtype}"
        )
