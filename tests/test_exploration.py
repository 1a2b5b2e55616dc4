"""Epsilon and the duration of exploratory actions, compared with hand computations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perilune.agent.exploration import duration, duration_thresholds, multiplicative_epsilon

SHARES = st.floats(0, 1)


@pytest.mark.parametrize(
    ("count", "epsilon"), [(0, 0.8), (1, 0.4), (2, 0.2), (3, 0.1), (4, 0.06), (5, 0.06), (10**6, 0.06)]
)
def test_multiplicative_epsilon_stops_at_floor(count: int, epsilon: float) -> None:
    assert multiplicative_epsilon(0.8, 0.06, 0.5, count) == pytest.approx(epsilon, abs=1e-12)


@given(
    shares=st.tuples(SHARES, SHARES),
    decay=st.floats(0.01, 1),
    counts=st.tuples(st.integers(0, 3000), st.integers(0, 3000)),
)
def test_multiplicative_epsilon_is_monotonic_and_bounded(
    shares: tuple[float, float], decay: float, counts: tuple[int, int]
) -> None:
    floor, start = sorted(shares)
    sooner, later = sorted(counts)
    first, second = (multiplicative_epsilon(start, floor, decay, count) for count in (sooner, later))
    assert start + 1e-12 >= first >= second - 1e-12
    assert second >= floor - 1e-12


# Durations


def test_duration_thresholds_match_hand_computation() -> None:
    # Weights 1, 1/4 and 1/9 give the probabilities 36/49, 9/49 and 4/49.
    np.testing.assert_allclose(duration_thresholds(3), [36 / 49, 45 / 49, 1], rtol=1e-15)


@pytest.mark.parametrize(
    ("draw", "steps"), [(0, 1), (0.5, 1), (0.734, 1), (0.735, 2), (0.918, 2), (0.919, 3), (1 - 2**-53, 3)]
)
def test_duration_is_selected_by_thresholds_of_the_draw(draw: float, steps: int) -> None:
    assert duration(duration_thresholds(3), draw) == steps


def test_duration_is_always_one_if_the_limit_is_one() -> None:
    assert {duration(duration_thresholds(1), draw) for draw in (0, 0.5, 1 - 2**-53)} == {1}
