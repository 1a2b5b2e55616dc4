"""Epsilon, against values worked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perilune.exploration import linear_epsilon, multiplicative_epsilon

SHARES = st.floats(0, 1)


@pytest.mark.parametrize(
    ("count", "epsilon"), [(0, 0.9), (1, 0.89), (20, 0.7), (40, 0.5), (79, 0.11), (80, 0.1), (81, 0.1), (10**9, 0.1)]
)
def test_the_straight_way_falls_by_equal_steps_to_its_floor(count: int, epsilon: float) -> None:
    assert linear_epsilon(0.9, 0.1, 80, count) == pytest.approx(epsilon, abs=1e-12)


def test_the_straight_way_of_one_step_is_at_its_floor_after_one() -> None:
    assert linear_epsilon(1, 0, 1, 0) == 1
    assert linear_epsilon(1, 0, 1, 1) == 0


@pytest.mark.parametrize(
    ("count", "epsilon"), [(0, 0.8), (1, 0.4), (2, 0.2), (3, 0.1), (4, 0.06), (5, 0.06), (10**6, 0.06)]
)
def test_the_multiplied_way_halves_to_its_floor(count: int, epsilon: float) -> None:
    assert multiplicative_epsilon(0.8, 0.06, 0.5, count) == pytest.approx(epsilon, abs=1e-12)


def test_a_factor_of_one_never_falls() -> None:
    assert multiplicative_epsilon(0.8, 0.06, 1, 10**6) == 0.8


@given(
    shares=st.tuples(SHARES, SHARES),
    decay_steps=st.integers(1, 1000),
    decay=st.floats(0.01, 1),
    counts=st.tuples(st.integers(0, 3000), st.integers(0, 3000)),
)
def test_both_ways_only_fall_and_stay_between_start_and_floor(
    shares: tuple[float, float], decay_steps: int, decay: float, counts: tuple[int, int]
) -> None:
    floor, start = sorted(shares)
    sooner, later = sorted(counts)
    for first, second in (
        (linear_epsilon(start, floor, decay_steps, sooner), linear_epsilon(start, floor, decay_steps, later)),
        (multiplicative_epsilon(start, floor, decay, sooner), multiplicative_epsilon(start, floor, decay, later)),
    ):
        assert start + 1e-12 >= first >= second - 1e-12
        assert second >= floor - 1e-12
