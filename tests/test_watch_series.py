"""Curves as the page gets them: nothing that could be seen is lost, and averages and bands are what they say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fixtures_runs import episode, evaluated
from perilune.runs import logs
from perilune.runs.logs import LogReader
from perilune.training.events import Episode, Evaluated
from perilune.web.series import BAND_POINTS, Curve, band, curve, thin

numbers = st.one_of(st.floats(-1e6, 1e6), st.just(math.nan), st.sampled_from([0.0, 1e300, -1e300]))
rows = st.lists(st.tuples(st.integers(0, 10**6), numbers), min_size=1, max_size=400)


def columns(points: list[tuple[int, float]]) -> tuple[Any, Any]:
    x, y = zip(*sorted(points, key=lambda point: point[0]), strict=True)
    return np.array(x, np.float64), np.array(y)


@given(rows, st.integers(8, 60))
def test_thinning_keeps_every_extreme_of_every_part(points: list[tuple[int, float]], most: int) -> None:
    x, y = columns(points)
    kept = thin(x, y, most)
    assert (np.diff(kept) > 0).all()
    assert len(kept) <= most
    if len(x) <= most:
        assert len(kept) == len(x)
        return
    parts = most // 4
    edges = [-math.inf, *np.linspace(x[0], x[-1], parts + 1)[1:-1], math.inf]
    assert {0, len(x) - 1} - {row for row in range(len(x)) if math.isnan(y[row])} <= set(kept)
    for part in range(parts):  # by comparing, one after the other
        inside = [row for row in range(len(x)) if edges[part] <= x[row] < edges[part + 1]]
        seen = [y[row] for row in kept if row in inside]
        values = [y[row] for row in inside if not math.isnan(y[row])]
        if values:
            assert min(values) in seen
            assert max(values) in seen
            assert seen[0] == values[0]
            assert seen[-1] == values[-1]
        elif inside:
            assert len(seen) == 1  # a gap, that is not drawn over
            assert math.isnan(seen[0])


def test_one_spike_among_a_million_is_kept() -> None:
    y = np.sin(np.arange(1_000_000) / 1_000)
    y[777_777], y[777_779] = 50.0, -50.0
    kept = thin(np.arange(1_000_000.0), y, 600)
    assert {0, 777_777, 777_779, 999_999} <= set(kept.tolist())
    assert len(kept) <= 600


def test_all_in_one_place_or_without_any_number() -> None:
    assert len(thin(np.full(100, 5.0), np.arange(100.0), 8)) <= 8
    assert thin(np.arange(100.0), np.full(100, np.nan), 8).tolist() == [0, 50]
    assert thin(np.empty(0), np.empty(0), 8).tolist() == []


def written(directory: Path, records: list[Any]) -> Path:
    with logs.open_log(directory) as log:
        for record in records:
            log.write(record)
    return directory


def test_episodes_are_in_order_and_those_cut_off_are_left_out(tmp_path: Path) -> None:
    out_of_order = [episode(2, 4.0, env_steps=10), episode(1, 8.0, env_steps=25), episode(3, 0.0, env_steps=30)]
    written(tmp_path, [*out_of_order, episode(4, 99.0, env_steps=35, ended="budget")])
    table = LogReader(tmp_path / "episodes.jsonl", Episode).read()
    by_steps = curve(table, "episodes", "reward", "env_steps", 2)
    assert by_steps.x.tolist() == [10, 25, 30]
    assert by_steps.y.tolist() == [4, 8, 0]
    assert by_steps.mean.tolist() == [4, 6, 4]
    by_episode = curve(table, "episodes", "reward", "episode", 2)
    assert by_episode.x.tolist() == [1, 2, 3]
    assert by_episode.y.tolist() == [8, 4, 0]
    assert by_episode.mean.tolist() == [8, 6, 2]
    part = by_episode.between(2, 3)
    assert (part.x.tolist(), part.mean.tolist()) == ([2, 3], [6, 2])  # the average knows what came before


def test_evaluations_by_steps_and_by_episodes(tmp_path: Path) -> None:
    written(tmp_path, [evaluated(100, 1.0), evaluated(250, 3.0)])
    table = LogReader(tmp_path / "evaluations.jsonl", Evaluated).read()
    assert curve(table, "evaluations", "mean_return", "env_steps", 1).x.tolist() == [100, 250]
    assert curve(table, "evaluations", "mean_return", "episode", 1).x.tolist() == [10, 25]


def seed(x: Sequence[float], mean: Sequence[float]) -> Curve:
    return Curve(np.array(x, np.float64), np.array(mean), np.array(mean))


def test_a_band_of_three_seeds_worked_by_hand() -> None:
    found = band([seed([0, 100], [0, 10]), seed([40, 150], [20, 20]), seed([50, 400], [-1, -1])])
    assert found.x[0] == 50  # where the last begins
    assert found.x[-1] == 150  # where the last but one ends
    assert len(found.x) == BAND_POINTS
    np.testing.assert_allclose([found.low[0], found.mean[0], found.high[0]], [-1, (5 + 20 - 1) / 3, 20])
    np.testing.assert_allclose([found.low[-1], found.mean[-1], found.high[-1]], [-1, 9.5, 20])


def test_a_band_does_not_jump_where_a_seed_begins() -> None:
    flat = [seed(range(first, 100), [level] * (100 - first)) for first, level in ((3, 0.0), (7, 10.0), (20, 50.0))]
    found = band(flat)
    assert (found.x[0], found.x[-1]) == (20, 99)
    np.testing.assert_allclose(found.mean, 20)


def test_a_band_is_only_where_two_are() -> None:
    apart = band([seed([0, 10], [1, 1]), seed([20, 30], [2, 2])])
    assert [len(values) for values in apart] == [0] * 4
    two_of_three = band([seed([0, 10], [1, 1]), seed([5, 30], [5, 5]), seed([6, 40], [7, 7])])
    assert (two_of_three.x[0], two_of_three.x[-1]) == (6, 30)
    assert two_of_three.mean[-1] == 6
    assert [len(values) for values in band([seed([0, 10], [1, 1])])] == [0] * 4
    one = band([seed([7], [1]), seed([7], [4])])
    assert [values.tolist() for values in one] == [[7], [2.5], [1], [4]]


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=2), min_size=2, max_size=13))
def test_the_middle_is_the_interquartile_mean(ends: list[list[float]]) -> None:
    found = band([seed([0, 1], end) for end in ends])
    for place in (0, -1):
        values = [end[place] for end in ends]
        assert found.low[place] == min(values)
        assert found.high[place] == max(values)
        assert found.mean[place] == pytest.approx(float(stats.trim_mean(values, 0.25)), abs=1e-9)
    if len(ends) < 4:
        assert found.mean[0] == pytest.approx(statistics.fmean(end[0] for end in ends), abs=1e-9)
