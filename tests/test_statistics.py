"""Statistics, compared with numbers computed by hand and with loops that follow the definitions."""

from __future__ import annotations

import itertools
import math
import statistics as stdlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perilune._utils.arrays import Array
from perilune._utils.statistics import (
    CONFIDENCE,
    Estimate,
    estimate,
    interquartile_mean,
    margin,
    moving_average,
    probability_of_improvement,
)
from perilune.errors import MissingDependencyError

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)
A = np.array([231.0, 244.0, 198.0, 251.0, 260.0, 17.0, 239.0])
B = np.array([180.0, 244.0, 150.0, 199.0, -40.0])
NAN = math.nan


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(SCORES)
def test_interquartile_mean_omits_a_quarter_at_either_end(scores: list[float]) -> None:
    cut = len(scores) // 4
    middle = sorted(scores)[cut : len(scores) - cut]
    assert interquartile_mean(np.array(scores)) == pytest.approx(stdlib.fmean(middle), abs=1e-6)


def test_margin_is_positive_if_the_first_is_better() -> None:
    # The mean keeps 198, 231, 239, 244 and 251 of A, and 150, 180 and 199 of B.
    assert margin(A, B) == pytest.approx(1163 / 5 - 529 / 3)
    assert margin(B, A) == pytest.approx(529 / 3 - 1163 / 5)


@given(SCORES, SCORES)
def test_probability_of_improvement_matches_loop_over_pairs(a: list[float], b: list[float]) -> None:
    won = sum((x > y) + 0.5 * (x == y) for x, y in itertools.product(a, b)) / (len(a) * len(b))
    assert probability_of_improvement(np.array(a), np.array(b)) == pytest.approx(won)
    assert probability_of_improvement(np.array(b), np.array(a)) == pytest.approx(1 - won)


def bootstrap(
    samples: list[Array], statistic: Callable[..., Any], generator: np.random.Generator
) -> tuple[float, float]:
    """Resample each stratum within itself, one resample after the other, and return the percentiles."""
    values = [statistic(*(generator.choice(sample, len(sample)) for sample in samples)) for _ in range(600)]
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


@pytest.mark.parametrize(
    ("statistic", "samples", "tolerance"),
    [
        (interquartile_mean, [A], 6.0),
        (interquartile_mean, [A, 10 * B], 60.0),  # two environments
        (margin, [A, B], 12.0),
        (probability_of_improvement, [A, B], 0.03),
    ],
)
def test_interval_matches_bootstrap_loop(statistic: Callable[..., Any], samples: list[Array], tolerance: float) -> None:
    found = estimate(statistic, samples, rng())
    assert found == estimate(statistic, samples, rng())
    assert found.value == statistic(*samples)
    assert found.low < found.value < found.high
    assert (found.low, found.high) == pytest.approx(bootstrap(samples, statistic, rng(1)), abs=tolerance)


def test_bootstrap_resamples_within_strata() -> None:
    # Resampling all scores together could draw 8 or 10 of the 9 zeros, and the mean would vary.
    found = estimate(lambda *strata: np.concatenate(strata, -1).mean(-1), [[0.0] * 9, [1.0] * 3], rng())
    assert found == Estimate(0.25, 0.25, 0.25)


def test_two_seeds_have_a_value_and_no_interval() -> None:
    found = estimate(margin, [[3.0, 4.0], [1.0, 2.0, 3.0]], rng())
    assert found.value == 1.5
    assert np.isnan([found.low, found.high]).all()


def test_bootstrap_resamples_whole_curves() -> None:
    # Two equal pairs of seeds whose curves cross: at each position the mean is 0, and a resample of one pair is +-1.
    curves = np.array([[1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, 1.0]])  # [positions, seeds]
    found = estimate(interquartile_mean, [curves], rng())
    assert (found.value.tolist(), found.low.tolist(), found.high.tolist()) == ([0, 0], [-1, -1], [1, 1])
    # The sum over positions is 0 in every resample, because all positions draw the same seeds.
    total = estimate(lambda x: interquartile_mean(x).sum(0, keepdims=True), [curves], rng())
    assert (total.low.tolist(), total.high.tolist()) == ([0], [0])


def test_missing_scipy_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[bench\]"):
        estimate(interquartile_mean, [A], rng())


@pytest.mark.parametrize(
    ("values", "window", "averages"),
    [
        ([1, 2, 3, 4, 5], 1, [1, 2, 3, 4, 5]),
        ([2, 4, 9, 2, -5, 3], 3, [2, 3, 5, 5, 2, 0]),
        ([6, 0, 3], 100, [6, 3, 3]),
        ([], 4, []),
        ([NAN, 4, NAN, 6, NAN, NAN, 1], 2, [NAN, 4, 4, 6, 6, NAN, 1]),
        ([1e17, 1.0, 2.0, 3.0], 2, [1e17, 5e16, 1.5, 2.5]),  # a huge value affects its own windows only
        ([1.7e308, 1.7e308, 4.0], 2, [1.7e308, np.inf, 8.5e307]),
    ],
)
def test_moving_average_matches_hand_computation(values: list[float], window: int, averages: list[float]) -> None:
    found = moving_average(np.array(values, np.float32 if max(values, default=0) < 10 else np.float64), window)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, averages)


@given(st.lists(st.floats(-1e6, 1e6) | st.just(NAN), max_size=40), st.integers(1, 50))
def test_moving_average_matches_loop_over_windows(values: list[float], window: int) -> None:
    expected = []
    for place in range(len(values)):
        seen = [value for value in values[max(0, place - window + 1) : place + 1] if not math.isnan(value)]
        expected.append(stdlib.fmean(seen) if seen else NAN)
    np.testing.assert_allclose(moving_average(values, window), expected, rtol=1e-9, atol=1e-7)
