"""Statistics over seeds, against numbers worked by hand and against plain loops."""

from __future__ import annotations

import itertools
import statistics as stdlib
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perilune._utils.arrays import Array
from perilune._utils.statistics import (
    CONFIDENCE,
    RESAMPLES,
    Estimate,
    estimate,
    interquartile_mean,
    margin,
    probability_of_improvement,
)
from perilune.errors import MissingDependencyError

SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)
A = np.array([231.0, 244.0, 198.0, 251.0, 260.0, 17.0, 239.0])
B = np.array([180.0, 244.0, 150.0, 199.0, -40.0])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("scores", "mean"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 6.0], 3.0),  # a quarter of three is less than one: nothing is left out
        ([-1000.0, 2.0, 4.0, 9999.0], 3.0),
        ([5.0, 1.0, 2.0, 3.0, 1e9], 10 / 3),  # 2, 3 and 5 are left
        ([-1e9, -1e8, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1e8, 1e9], 3.5),
    ],
)
def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end(scores: list[float], mean: float) -> None:
    for order in (scores, scores[::-1]):
        assert interquartile_mean(np.array(order)) == pytest.approx(mean)


@given(SCORES)
def test_the_interquartile_mean_is_that_of_the_sorted_middle(scores: list[float]) -> None:
    cut = len(scores) // 4
    middle = sorted(scores)[cut : len(scores) - cut]
    assert interquartile_mean(np.array(scores)) == pytest.approx(stdlib.fmean(middle), abs=1e-6)


def test_the_interquartile_mean_of_several_strata_is_that_of_all_their_scores() -> None:
    assert interquartile_mean(A, B) == interquartile_mean(np.concatenate([A, B]))


def test_the_margin_is_positive_where_the_first_is_better() -> None:
    # 198, 231, 239, 244 and 251 are left of A; 150, 180 and 199 of B.
    assert margin(A, B) == pytest.approx(1163 / 5 - 529 / 3)
    assert margin(B, A) == pytest.approx(529 / 3 - 1163 / 5)


def test_the_probability_of_improvement_counts_pairs_and_half_of_the_ties() -> None:
    # 3 beats 1, 2 and ties with 3; 2 beats 1 and ties with 2; of the six pairs that makes 3 + 2/2.
    assert probability_of_improvement(np.array([3.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(4 / 6)
    assert probability_of_improvement(np.array([1.0, 2.0]), np.array([3.0])) == 0
    assert probability_of_improvement(np.array([4.0]), np.array([3.0, 1.0])) == 1
    assert probability_of_improvement(np.array([5.0, 5.0]), np.array([5.0])) == 0.5


@given(SCORES, SCORES)
def test_the_probability_of_improvement_is_a_loop_over_pairs(a: list[float], b: list[float]) -> None:
    won = sum((x > y) + 0.5 * (x == y) for x, y in itertools.product(a, b)) / (len(a) * len(b))
    assert probability_of_improvement(np.array(a), np.array(b)) == pytest.approx(won)
    assert probability_of_improvement(np.array(b), np.array(a)) == pytest.approx(1 - won)


def bootstrap(samples: list[Array], statistic: object, generator: np.random.Generator) -> tuple[float, float]:
    """Percentiles of the statistic of resamples, each drawn within its stratum, one after the other in a loop."""
    assert callable(statistic)
    values = [statistic(*(generator.choice(sample, len(sample)) for sample in samples)) for _ in range(1_500)]
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
def test_the_interval_is_that_of_a_loop_that_resamples_each_stratum(
    statistic: object, samples: list[Array], tolerance: float
) -> None:
    assert callable(statistic)
    value, low, high = estimate(statistic, samples, rng())
    assert value == statistic(*samples)
    assert low < value < high
    assert (low, high) == pytest.approx(bootstrap(samples, statistic, rng(1)), abs=tolerance)


def test_a_stratum_keeps_its_share_of_the_whole() -> None:
    # Were all scores resampled together, the 8 zeros could be 7 or 9 and the mean would move.
    value, low, high = estimate(lambda *strata: np.concatenate(strata, -1).mean(-1), [[0.0] * 8, [1.0] * 2], rng())
    assert (value, low, high) == (0.2, 0.2, 0.2)


def test_one_generator_gives_one_interval_and_another_another() -> None:
    assert estimate(margin, [A, B], rng()) == estimate(margin, [A, B], rng())
    assert estimate(margin, [A, B], rng()) != estimate(margin, [A, B], rng(5))
    assert RESAMPLES >= 2_000


def test_equal_scores_leave_no_doubt() -> None:
    assert estimate(interquartile_mean, [[500.0] * 5], rng()) == Estimate(500.0, 500.0, 500.0)


def test_one_seed_has_a_value_and_no_interval() -> None:
    value, low, high = estimate(margin, [[3.0], [1.0, 2.0]], rng())
    assert value == 1.5
    assert np.isnan([low, high]).all()


def test_a_missing_scipy_is_answered_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'perilune\[bench\]'"):
        interquartile_mean(A)


def test_a_curve_is_resampled_as_a_whole() -> None:
    # Two seeds whose curves cross: at each place the mean of both is 0, and a resample of one of them is +-1.
    curves = np.array([[1.0, -1.0], [-1.0, 1.0]])  # [places, seeds]
    value, low, high = estimate(interquartile_mean, [curves], rng())
    assert value.tolist() == [0, 0]
    assert (low.tolist(), high.tolist()) == ([-1, -1], [1, 1])
    # And the sum over places is 0 in every resample, which it would not be if each place drew its own seeds.
    total = estimate(lambda x: interquartile_mean(x).sum(0, keepdims=True), [curves], rng())
    assert (total.low.tolist(), total.high.tolist()) == ([0], [0])
