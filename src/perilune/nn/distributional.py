"""Losses of distributional heads, with their exact derivatives."""

from __future__ import annotations

import numpy as np

from perilune._utils.arrays import Array
from perilune.nn.backend import compiled
from perilune.nn.losses import check_pair


def cross_entropy(logits: Array, target: Array) -> tuple[float, Array]:
    """Compute the cross-entropy: mean over the batch of -sum over n of target log softmax(logits).

    Args:
        logits: float [B, N].
        target: probabilities, float [B, N], a constant. Every row sums to 1.

    Returns:
        The loss, and d loss / d logits = (softmax(logits) - target) / B, float [B, N].
    """
    check_pair(logits, target, ndim=2)
    shifted = logits - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    total = powers.sum(axis=1, keepdims=True)
    loss = float(np.vdot(target, np.log(total) - shifted)) / len(logits)
    return loss, (powers / total - target) * logits.dtype.type(1 / len(logits))


def quantile_huber(
    quantiles: Array, target: Array, kappa: float = 1.0, scratch: Array | None = None
) -> tuple[float, Array]:
    """Compute the quantile regression loss, smoothed near 0 like the Huber loss.

    Mean over the batch of: sum over i of mean over j of abs(tau_i - [u < 0]) L(u) / kappa, with
    u = target_j - quantile_i, tau_i = (2 i + 1) / 2 N for i = 0 .. N - 1, and
    L(u) = u^2 / 2 where abs(u) <= kappa, else kappa (abs(u) - kappa / 2).

    Args:
        quantiles: the prediction, float [B, N].
        target: samples or quantiles of the target distribution, float [B, M], a constant.
        kappa: abs(u) above which L is linear, > 0, in units of the prediction.
        scratch: working memory, float [2, N, M, B]. Allocating it for every update would take longer than the
            arithmetic.

    Returns:
        The loss, and d loss / d quantiles, float [B, N].

    Dabney et al., Distributional Reinforcement Learning with Quantile Regression, arXiv:1710.10044.
    """
    check_pair(quantiles, target, ndim=2, same=False)
    (rows, n), m = quantiles.shape, target.shape[1]
    size = rows * m * kappa
    tau = ((2 * np.arange(n) + 1) / (2 * n)).astype(quantiles.dtype)
    if (fast := compiled()) is not None:
        gradient = np.empty_like(quantiles)
        return fast.quantile_huber(quantiles, target, tau, kappa, 1 / size, gradient), gradient
    # Axes [i, j, B]: NumPy is fastest if the longest axis is the last.
    error, clipped = np.empty((2, n, m, rows), quantiles.dtype) if scratch is None else scratch
    np.subtract(np.ascontiguousarray(target.T)[None, :, :], np.ascontiguousarray(quantiles.T)[:, None, :], out=error)
    # |tau - [u < 0]| is 1 - tau if u < 0, else tau. The weighted sum of x is tau sum(x) + (1 - 2 tau) sum(x if u < 0).
    # With c = clip(u, -kappa, kappa), both branches of L are c (u - c / 2).
    d_quantiles, loss = np.zeros((n, rows), quantiles.dtype), 0.0
    for weight, highest in ((tau, kappa), (1 - 2 * tau, 0.0)):
        np.clip(error, -kappa, highest, out=clipped)
        d_quantiles += weight[:, None] * clipped.sum(axis=1)
        losses = np.einsum("ijb,ijb->i", clipped, error) - np.einsum("ijb,ijb->i", clipped, clipped) / 2
        loss += float(np.dot(weight, losses))
    return loss / size, d_quantiles.T * quantiles.dtype.type(-1 / size)
