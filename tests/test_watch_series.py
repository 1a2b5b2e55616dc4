"""Curves of the page: thinning keeps extremes, and averages and bands match their definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures_runs import episode, evaluated
from perilune._utils.arrays import Array
from perilune.runs import logs, tables
from perilune.training.events import Episode, Evaluated
from perilune.viz.shared import MAX_POINTS, band
from perilune.web.series import curve, spaced, thin, training_time

numbers = st.one_of(st.floats(-1e6, 1e6), st.just(math.nan), st.sampled_from([0.0, 1e300, -1e300]))
rows = st.lists(st.tuples(st.integers(0, 10**6), numbers), min_size=1, max_size=400)


@given(rows, st.integers(8, 60))
def test_thinning_keeps_the_extremes_of_every_interval(points: list[tuple[int, float]], most: int) -> None:
    points.sort(key=lambda point: point[0])
    x, y = np.array([x for x, _ in points], np.float64), np.array([y for _, y in points])
    kept = thin(x, y, most)
    assert (np.diff(kept) > 0).all()
    assert len(kept) <= most
    if len(x) <= most:
        assert len(kept) == len(x)
        return
    edges = [-math.inf, *np.linspace(x[0], x[-1], most // 4 + 1)[1:-1], math.inf]
    for low, high in pairwise(edges):
        inside = [row for row in range(len(x)) if low <= x[row] < high]
        seen = [y[row] for row in kept if row in inside]
        values = [y[row] for row in inside if not math.isnan(y[row])]
        if values:
            assert {min(values), max(values)} <= set(seen)
            assert (seen[0], seen[-1]) == (values[0], values[-1])
        elif inside:  # a gap stays visible
            assert len(seen) == 1
            assert math.isnan(seen[0])


def test_thinning_keeps_spikes_and_handles_degenerate_series() -> None:
    y = np.sin(np.arange(1_000_000) / 1_000)
    y[777_777], y[777_779] = 50.0, -50.0
    kept = thin(np.arange(1_000_000.0), y, 600)
    assert {0, 777_777, 777_779, 999_999} <= set(kept.tolist())
    assert len(kept) <= 600
    assert len(thin(np.full(100, 5.0), np.arange(100.0), 8)) <= 8
    assert thin(np.arange(100.0), np.full(100, np.nan), 8).tolist() == [0, 50]
    assert thin(np.empty(0), np.empty(0), 8).tolist() == []


def test_curves_are_sorted_and_omit_episodes_cut_off_by_the_budget(tmp_path: Path) -> None:
    records: list[Any] = [episode(2, 4.0, env_steps=10), episode(1, 8.0, env_steps=25), episode(3, 0.0, env_steps=30)]
    records += [episode(4, 99.0, env_steps=35, ended="budget"), evaluated(100, 1.0), evaluated(250, 3.0)]
    with logs.LogWriter(tmp_path) as log:
        for record in records:
            log.write(record)
    read = {"episodes": tables.LogReader(tmp_path / "episodes.jsonl", Episode).read()}
    by_steps = curve(read, "episodes", "reward", "env_steps", 2)
    assert [array.tolist() for array in by_steps] == [[10, 25, 30], [4, 8, 0], [4, 6, 4]]
    by_episode = curve(read, "episodes", "reward", "episode", 2)
    assert [array.tolist() for array in by_episode] == [[1, 2, 3], [8, 4, 0], [8, 6, 2]]
    count, part = by_episode.between(2.5, 3)
    assert (count, part.x.tolist(), part.mean.tolist()) == (1, [2, 3], [6, 2])  # averages include earlier rows
    assert by_episode.between(2.2, 2.8)[0] == by_episode.between(5, 6)[0] == 0
    assert by_episode.between(2.2, 2.8)[1].x.tolist() == [2, 3]  # so that a line crosses the range
    read["evaluations"] = tables.LogReader(tmp_path / "evaluations.jsonl", Evaluated).read()
    assert curve(read, "evaluations", "mean_return").x.tolist() == [100, 250]
    assert curve(read, "evaluations", "mean_return", "episode").x.tolist() == [10, 25]


@pytest.mark.parametrize(
    ("evaluations", "expected"),
    [
        ([], [math.nan] * 4),
        ([(0, 0.5)], [math.nan] * 4),  # of the untrained agent
        ([(100, 1.0)], [0, 0.5, 1, 3]),
        ([(0, 0.5), (100, 1.0), (200, 4.0)], [0, 0.5, 1, 7]),
        ([(100, 2.0), (200, 1.0)], [0, 1, 2, 2]),  # a changed clock
        ([(100, math.nan), (200, 2.0)], [0, 0.5, 1, 3]),
        ([(99, 0.0), (100, 1e308)], [0, 0, 1e308, math.inf]),
    ],
)
def test_training_time_is_interpolated_between_evaluations(
    evaluations: list[tuple[int, float]], expected: list[float]
) -> None:
    columns = np.array(evaluations or np.empty((0, 2)), np.float64).T
    table = tables.Table((0, 0), {"env_steps": columns[0], "seconds": columns[1]}, None)
    times = training_time(np.array([0.0, 50, 100, 300]), table)
    np.testing.assert_allclose(times, expected)


def test_spaced_rows_include_both_ends() -> None:
    assert spaced(0, 8).tolist() == []
    assert spaced(3, 8).tolist() == [0, 1, 2]
    kept = spaced(1_000, 8)
    assert (len(kept), kept[0], kept[-1]) == (8, 0, 999)


def seed(x: Sequence[float], mean: Sequence[float]) -> tuple[Array, Array]:
    return np.array(x, np.float64), np.array(mean)


def test_band_covers_the_range_in_which_all_seeds_have_data() -> None:
    found = band([seed([0, 100], [0, 10]), seed([40, 150], [20, 20]), seed([50, 400], [-1, -1])])
    assert found.x.tolist() == [50, 100]  # the points of the seeds
    many = np.linspace(0, 1, MAX_POINTS)
    assert np.array_equal(band([seed(many, many), seed(many, many)]).x, many)
    found = band([seed(many, many), seed(many**2, many)])
    assert (found.x[0], found.x[-1], len(found.x)) == (0, 1, MAX_POINTS)
    found = band([seed([0, 100], [0, 10]), seed([40, 150], [20, 20]), seed([50, 400], [-1, -1])])
    np.testing.assert_allclose([found.low[0], found.mean[0], found.high[0]], [-1, (5 + 20 - 1) / 3, 20])
    np.testing.assert_allclose([found.low[-1], found.mean[-1], found.high[-1]], [-1, (10 + 20 - 1) / 3, 20])
    flat = [seed(range(first, 100), [level] * (100 - first)) for first, level in ((3, 0.0), (7, 10.0), (20, 50.0))]
    np.testing.assert_allclose(band(flat).mean, 20)
    for apart in ([seed([0, 10], [1, 1]), seed([20, 30], [2, 2])], [seed([0, 10], [1, 1])]):
        assert [len(values) for values in band(apart)] == [0] * 4
    assert [values.tolist() for values in band([seed([7], [1]), seed([7], [4])])] == [[7], [2.5], [1], [4]]


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=2), min_size=2, max_size=13))
def test_band_is_interquartile_mean_minimum_and_maximum(ends: list[list[float]]) -> None:
    from scipy import stats  # noqa: PLC0415 -- heavy, and only one test process needs it

    found = band([seed([0, 1], end) for end in ends])
    for place in (0, -1):
        values = [end[place] for end in ends]
        assert (found.low[place], found.high[place]) == (min(values), max(values))
        assert found.mean[place] == pytest.approx(float(stats.trim_mean(values, 0.25)), abs=1e-9)
