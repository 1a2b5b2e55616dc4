"""Schedules, compared with hand computations."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perilune.nn.adam import Schedule, scheduled

SQRT_HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        # From 0.5 to 0.1 in 200 steps: at the start, a quarter, half, three quarters, the end, and beyond.
        ("constant", [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]),
        ("linear", [0.5, 0.4, 0.3, 0.2, 0.1, 0.1]),
        ("cosine", [0.5, 0.3 + 0.2 * SQRT_HALF, 0.3, 0.3 - 0.2 * SQRT_HALF, 0.1, 0.1]),
    ],
)
def test_schedules_match_hand_computation(schedule: Schedule, values: list[float]) -> None:
    counts = [0, 50, 100, 150, 200, 1000]
    assert [scheduled(schedule, 0.5, 0.1, count, 200) for count in counts] == pytest.approx(values, rel=1e-12)


def test_linear_schedule_can_increase() -> None:
    assert [scheduled("linear", 0.4, 1.0, count, 3) for count in (0, 1, 2, 3, 4)] == pytest.approx(
        [0.4, 0.6, 0.8, 1, 1]
    )


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedule_reaches_zero_exactly(schedule: Schedule) -> None:
    assert [scheduled(schedule, 3e-4, 0.0, count, 7) for count in (7, 8, 70)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
@settings(deadline=None)
@given(st.floats(1e-6, 1.0), st.floats(0.0, 1.0), st.integers(0, 10**7), st.integers(0, 10**7), st.integers(1, 10**6))
def test_schedule_is_monotonic_and_bounded(
    schedule: Schedule, start: float, share: float, one: int, other: int, span: int
) -> None:
    floor = start * share
    early, late = (scheduled(schedule, start, floor, count, span) for count in sorted((one, other)))
    rounding = 1e-15
    assert start + rounding >= early >= late - rounding
    assert late >= floor - rounding
