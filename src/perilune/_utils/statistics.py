"""Compute moving averages, interquartile means, bootstrap intervals and probabilities of improvement.

The statistics over seeds follow Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
arXiv:2108.13264. Only their intervals require SciPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from perilune._utils.arrays import Array
from perilune._utils.extras import missing

CONFIDENCE = 0.95
LEAST_SEEDS = 3  # with fewer, no interval is computed: equal algorithms often differ in every seed
RESAMPLES = 10_000
BATCH = 100  # resamples per batch, to limit memory


@dataclass(frozen=True)
class Estimate:
    """A statistic over seeds and its 95 % interval, as numbers or arrays. With too few seeds, the interval is NaN."""

    value: Any
    low: Any
    high: Any


def check_available() -> Any:
    """Return ``scipy.stats``.

    Raises:
        MissingDependencyError: SciPy is not installed.
    """
    try:
        from scipy import stats  # noqa: PLC0415 -- heavy, and optional
    except ImportError as error:
        raise missing("statistics over seeds need SciPy", "bench") from error
    return stats


def interquartile_mean(*strata: Array) -> Any:
    """Return the mean of n scores without the n // 4 lowest and the n // 4 highest.

    Args:
        strata: scores [..., N] of the seeds, one stratum per environment.
    """
    scores = np.concatenate(strata, axis=-1)
    cut, end = scores.shape[-1] // 4, scores.shape[-1] - scores.shape[-1] // 4
    return np.partition(scores, (cut, end - 1), axis=-1)[..., cut:end].mean(axis=-1)


def margin(a: Array, b: Array) -> Any:
    """Return IQM(a) - IQM(b) of scores a [..., N] and b [..., M]."""
    return interquartile_mean(a) - interquartile_mean(b)


def probability_of_improvement(a: Array, b: Array) -> Any:
    """Return P(A > B) + P(A = B) / 2 over all pairs of scores, A from a [..., N] and B from b [..., M]."""
    x, y = a[..., :, None], b[..., None, :]
    return np.mean((x > y) + (x == y) / 2, axis=(-2, -1))


def estimate(statistic: Callable[..., Any], samples: Sequence[Any], generator: np.random.Generator) -> Estimate:
    """Return ``statistic(*samples)`` with its stratified percentile bootstrap interval.

    Each sample is a stratum, such as the seeds of one environment. Resampling (with replacement) stays within strata.
    If a stratum has fewer than ``LEAST_SEEDS`` scores, the interval is NaN.

    Args:
        statistic: function of the samples that reduces their last axis.
        samples: scores [..., N] with the seeds on the last axis. A curve is resampled as a whole.
        generator: random generator that draws the resamples.
    """
    strata = [np.asarray(sample, np.float64) for sample in samples]
    value = statistic(*strata)
    if min(stratum.shape[-1] for stratum in strata) < LEAST_SEEDS:
        return Estimate(value, value * np.nan, value * np.nan)

    def resampled(*samples: Any, axis: int) -> Any:  # SciPy passes the last axis
        return statistic(*samples)

    interval = check_available().bootstrap(
        strata, resampled, n_resamples=RESAMPLES, batch=BATCH, vectorized=True, axis=-1,
        confidence_level=CONFIDENCE, method="percentile", rng=generator,
    ).confidence_interval  # fmt: skip
    return Estimate(value, interval.low, interval.high)


def share(count: int, of: int) -> Estimate:
    """Return ``count`` / ``of`` with its 95 % Wilson interval."""
    interval = check_available().binomtest(count, of).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(count / of, float(interval.low), float(interval.high))


def moving_average(values: ArrayLike, window: int) -> Array:
    """Return the mean of the last ``window`` finite values at each position. The first windows are shorter.

    Args:
        values: array [N]. NaN and infinity are ignored.
        window: number of values (>= 1).

    Returns:
        float64 [N], NaN where a window has no finite value.
    """
    numbers = np.asarray(values, np.float64)
    finite = np.isfinite(numbers)
    size = max(1, min(window, len(numbers)))
    with np.errstate(over="ignore", invalid="ignore"):  # sums of huge values overflow to infinity
        sums = _window_sums(np.where(finite, numbers, 0.0), size)
    count = _window_sums(finite.astype(np.float64), size)
    means: Array = np.divide(sums, count, out=np.full(len(numbers), np.nan), where=count > 0)
    return means


def _window_sums(numbers: Array, window: int) -> Array:
    """Return the sum of the last ``window`` numbers at each position.

    A window consists of the start of one block of ``window`` numbers and the end of the previous block. Unlike with a
    running sum, a huge value affects only the windows that contain it. The time does not depend on ``window``.
    """
    blocks = np.zeros((-(-len(numbers) // window), window))
    blocks.flat[: len(numbers)] = numbers
    sums = blocks.cumsum(axis=1)
    sums[1:, :-1] += blocks[:-1, :0:-1].cumsum(axis=1)[:, ::-1]
    found: Array = sums.ravel()[: len(numbers)]
    return found
