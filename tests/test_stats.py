"""The moving average, against numbers worked by hand and a loop that follows the definition."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perilune._utils.stats import moving_average


@pytest.mark.parametrize(
    ("values", "window", "averages"),
    [
        ([1, 2, 3, 4, 5], 1, [1, 2, 3, 4, 5]),
        ([1, 2, 3, 4, 5], 2, [1, 1.5, 2.5, 3.5, 4.5]),
        ([2, 4, 9, 2, -5, 3], 3, [2, 3, 5, 5, 2, 0]),
        ([6, 0, 3], 100, [6, 3, 3]),
        ([7], 1, [7]),
        ([], 4, []),
    ],
)
def test_values_worked_by_hand(values: list[float], window: int, averages: list[float]) -> None:
    np.testing.assert_array_equal(moving_average(values, window), averages)


def test_nan_is_left_out_of_sum_and_count_alike() -> None:
    nan = math.nan
    np.testing.assert_array_equal(moving_average([nan, 4, nan, 6, nan, nan, 1], 2), [nan, 4, 4, 6, 6, nan, 1])
    np.testing.assert_array_equal(moving_average([nan, nan, 3], 3), [nan, nan, 3])
    np.testing.assert_array_equal(moving_average([nan], 1), [nan])


def test_the_result_is_float64_and_the_values_stay_as_they_are() -> None:
    values = np.array([1, 2, 4], np.float32)
    values.setflags(write=False)
    averages = moving_average(values, 2)
    assert averages.dtype == np.float64
    assert averages.shape == (3,)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), max_size=40), st.integers(1, 50))
def test_a_loop_by_the_definition_agrees(values: list[float], window: int) -> None:
    expected = []
    for place in range(len(values)):
        seen = [value for value in values[max(0, place - window + 1) : place + 1] if not math.isnan(value)]
        expected.append(statistics.fmean(seen) if seen else math.nan)
    np.testing.assert_allclose(moving_average(values, window), expected, rtol=1e-9, atol=1e-7)


def test_one_huge_value_does_not_spoil_the_windows_after_it() -> None:
    # A loss that shot up once: windows that no longer hold it must be right again.
    np.testing.assert_allclose(moving_average([1e17, 1.0, 2.0, 3.0], 2)[2:], [1.5, 2.5], rtol=1e-12)


@pytest.mark.parametrize("window", [1, 7, 70_000, 200_000, 10**9])
def test_many_values_in_pieces_are_averaged_as_if_in_one(window: int) -> None:
    values = np.random.default_rng(0).normal(size=150_000)
    values[::1_000] = np.nan
    averages = moving_average(values, window)
    for place in (0, 1, 65_535, 65_536, 65_537, 69_999, 131_072, 149_999):
        expected = np.nanmean(values[max(0, place - window + 1) : place + 1]) if place else np.nan
        assert averages[place] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_huge_values_are_no_error() -> None:
    np.testing.assert_array_equal(moving_average([1.7e308, 1.7e308, 4.0], 2), [1.7e308, np.inf, 8.5e307])
