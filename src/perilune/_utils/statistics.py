"""What few seeds can tell: the interquartile mean, a bootstrap interval, and which of two learners is better.

Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", arXiv:2108.13264.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.errors import MissingDependencyError

CONFIDENCE = 0.95
RESAMPLES = 10_000
BATCH = 100  # resamples at a time: all pairs of many seeds would not fit into memory at once


class Estimate(NamedTuple):
    """A statistic of the seeds and its 95 % interval, numbers or arrays; NaN where one seed gives no interval."""

    value: Any
    low: Any
    high: Any


def check_available() -> Any:
    """SciPy's statistics.

    Raises:
        MissingDependencyError: SciPy is not installed.
    """
    try:
        from scipy import stats  # noqa: PLC0415 -- heavy, and optional
    except ImportError as error:
        raise MissingDependencyError("statistics over seeds need SciPy: pip install 'perilune[bench]'") from error
    return stats


def interquartile_mean(*strata: Array) -> Any:
    """Mean of the middle half of all scores: of n, the n // 4 lowest and as many of the highest are left out.

    Args:
        strata: scores [..., N] of every seed, a stratum for each environment.
    """
    return check_available().trim_mean(np.concatenate(strata, axis=-1), 0.25, axis=-1)


def margin(a: Array, b: Array) -> Any:
    """Interquartile mean of a[..., N] less that of b[..., M]."""
    return interquartile_mean(a) - interquartile_mean(b)


def probability_of_improvement(a: Array, b: Array) -> Any:
    """P(A > B) + P(A = B) / 2 over all pairs of a seed of a[..., N] and a seed of b[..., M]."""
    x, y = a[..., :, None], b[..., None, :]
    return np.mean((x > y) + (x == y) / 2, axis=(-2, -1))


def estimate(statistic: Callable[..., Any], samples: Sequence[Any], generator: np.random.Generator) -> Estimate:
    """``statistic(*samples)`` with its percentile bootstrap interval.

    Stratified: every sample is a stratum (the seeds of one environment, or of one learner) and is resampled with
    replacement within itself, so that each keeps its share of the whole.

    Args:
        statistic: takes the samples and works on their last axis.
        samples: scores [..., N], the seeds last. A seed of more dimensions (a curve) is resampled as a whole.
        generator: draws the resamples.
    """
    strata = [np.asarray(sample, np.float64) for sample in samples]
    value = statistic(*strata)
    if min(stratum.shape[-1] for stratum in strata) < 2:
        return Estimate(value, value * np.nan, value * np.nan)

    def resampled(*samples: Any, axis: int) -> Any:  # always the last
        return statistic(*samples)

    interval = check_available().bootstrap(
        strata, resampled, n_resamples=RESAMPLES, batch=BATCH, vectorized=True, axis=-1,
        confidence_level=CONFIDENCE, method="percentile", rng=generator,
    ).confidence_interval  # fmt: skip
    return Estimate(value, interval.low, interval.high)


def share(count: int, of: int) -> Estimate:
    """``count`` of so many, as a share, with Wilson's 95 % interval."""
    interval = check_available().binomtest(count, of).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(count / of, float(interval.low), float(interval.high))
