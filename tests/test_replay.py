"""Replay buffer and n-step returns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perilune.errors import ConfigError
from perilune.replay.buffer import Batch, NStep, Replay, Transition
from worlds import RecordedStep, Stored, n_step


def numbered(i: int) -> Transition:
    """Return a transition whose parts all hold its number."""
    return Transition(np.array([i, i + 0.25]), i, i + 0.5, 1 / (i + 1), np.array([-i, -i - 0.25]))


def filled(capacity: int, count: int) -> Replay:
    replay = Replay(capacity, 2)
    for i in range(count):
        replay.add(*numbered(i))
    return replay


def assert_rows_belong_together(batch: Batch) -> None:
    i = batch.action.astype(np.float32)
    np.testing.assert_array_equal(batch.obs, np.stack([i, i + 0.25], axis=1))
    np.testing.assert_array_equal(batch.reward, i + 0.5)
    np.testing.assert_array_equal(batch.discount, (1 / (i.astype(np.float64) + 1)).astype(np.float32))
    np.testing.assert_array_equal(batch.next_obs, -batch.obs)


# Ring buffer


@pytest.mark.parametrize(
    ("count", "held"), [(0, []), (1, [0]), (3, [0, 1, 2]), (4, [1, 2, 3]), (6, [3, 4, 5]), (8, [5, 6, 7])]
)
def test_full_replay_overwrites_oldest(count: int, held: list[int]) -> None:
    replay = filled(3, count)
    assert len(replay) == len(held)
    assert sorted(replay.arrays.action[: len(replay)]) == held


def test_replay_arrays_are_float32_with_int64_actions() -> None:
    replay = filled(3, 2)
    for arrays in (replay.arrays, replay.sample(2, np.random.default_rng(0))):
        assert [array.dtype for array in arrays] == [np.float32, np.int64, np.float32, np.float32, np.float32]


def test_replay_stores_copies() -> None:
    replay = Replay(4, 2)
    obs, action, reward, discount, next_obs = numbered(2)
    replay.add(obs, action, reward, discount, next_obs)
    obs[:] = next_obs[:] = 99
    assert_rows_belong_together(replay.sample(1, np.random.default_rng(0)))


@pytest.mark.parametrize("capacity", [10**15, 2**62, 10**30])
def test_buffer_beyond_memory_is_refused_by_name(capacity: int) -> None:
    with pytest.raises(ConfigError, match=r"buffer_size.*GiB") as caught:
        _ = Replay(capacity, 8).arrays
    assert (caught.value.name, caught.value.value) == ("buffer_size", capacity)


# Sampling


@given(capacity=st.integers(1, 12), count=st.integers(1, 30), batch_size=st.integers(1, 20), seed=st.integers(0, 99))
def test_samples_are_complete_stored_transitions(capacity: int, count: int, batch_size: int, seed: int) -> None:
    batch = filled(capacity, count).sample(batch_size, np.random.default_rng(seed))
    assert [array.shape for array in batch] == [
        (batch_size, 2),
        (batch_size,),
        (batch_size,),
        (batch_size,),
        (batch_size, 2),
    ]
    assert set(batch.action.tolist()) <= set(range(max(0, count - capacity), count))
    assert_rows_belong_together(batch)


@pytest.mark.parametrize(("capacity", "count"), [(10, 10), (10, 17), (1000, 10)])
def test_replay_samples_uniformly(capacity: int, count: int) -> None:
    replay, generator, draws = filled(capacity, count), np.random.default_rng(1), 20_000
    drawn = np.concatenate([replay.sample(100, generator).action.copy() for _ in range(draws // 100)])
    counts = np.bincount(drawn - drawn.min(), minlength=10)
    assert len(counts) == 10
    # Chi-square with 9 degrees of freedom is above 28 once in a thousand seeds.
    assert float(np.sum((counts - draws / 10) ** 2) / (draws / 10)) < 28


def test_batches_never_alias_stored_arrays() -> None:
    replay = filled(5, 5)
    before = [array.copy() for array in replay.arrays]
    batch = replay.sample(5, np.random.default_rng(0))
    for out in batch:
        assert not any(np.shares_memory(out, stored) for stored in replay.arrays)
        out.fill(77)
    for stored, was in zip(replay.arrays, before, strict=True):
        np.testing.assert_array_equal(stored, was)
    assert_rows_belong_together(replay.sample(5, np.random.default_rng(0)))


def test_batches_of_one_size_reuse_arrays() -> None:
    replay, generator = filled(5, 5), np.random.default_rng(0)
    first = replay.sample(4, generator)
    second = replay.sample(4, generator)
    assert all(one is other for one, other in zip(first, second, strict=True))
    assert len(replay.sample(3, generator).action) == 3
    assert len(replay.sample(4, generator).action) == 4


# n-step returns


def push_all(n: int, gamma: float, episode: list[RecordedStep]) -> list[Transition]:
    builder = NStep(n, gamma)
    return [transition for step in episode for transition in builder.push(*step)]


def episode_of(*rewards: float, terminated: bool = False, truncated: bool = False, name: int = 0) -> list[RecordedStep]:
    """Return the steps of an episode with these rewards. Observations are (name, number of the step)."""
    last = len(rewards) - 1
    return [
        RecordedStep(
            np.array([name, i]), i, reward, np.array([name, i + 1]), terminated and i == last, truncated and i == last
        )
        for i, reward in enumerate(rewards)
    ]


def assert_same(found: list[Transition], expected: list[Stored] | list[Transition]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.obs, other.obs)
        assert one.action == other.action
        assert one.reward == pytest.approx(other.reward, rel=1e-12, abs=1e-12)
        assert one.discount == pytest.approx(other.discount, rel=1e-12, abs=1e-12)
        np.testing.assert_array_equal(one.next_obs, other.next_obs)


def row(start: int, reward: float, discount: float, end: int) -> Stored:
    return Stored(np.array([0, start]), start, reward, discount, np.array([0, end]))


def test_termination_flushes_n_step_without_bootstrap() -> None:
    found = push_all(3, 0.5, episode_of(8, 4, 2, 16, terminated=True))
    # 8 + 4/2 + 2/4 up to step 3. Then 4 + 2/2 + 16/4, 2 + 16/2 and 16 up to the end.
    assert_same(found, [row(0, 10.5, 0.125, 3), row(1, 9, 0, 4), row(2, 10, 0, 4), row(3, 16, 0, 4)])


def test_truncation_flushes_n_step_and_keeps_bootstrap() -> None:
    found = push_all(3, 0.5, episode_of(8, 4, 2, 16, truncated=True))
    # The same rewards, with the discounts of 3, 3, 2 and 1 steps.
    assert_same(found, [row(0, 10.5, 0.125, 3), row(1, 9, 0.125, 4), row(2, 10, 0.25, 4), row(3, 16, 0.5, 4)])


def test_terminated_and_truncated_step_counts_as_terminated() -> None:
    assert [row.discount for row in push_all(2, 0.5, episode_of(1, 1, terminated=True, truncated=True))] == [0, 0]


@given(data=st.data(), n=st.integers(1, 6), gamma=st.floats(0, 1))
def test_n_step_returns_do_not_cross_episodes(data: st.DataObject, n: int, gamma: float) -> None:
    builder, found, expected = NStep(n, gamma), list[Transition](), list[Stored]()
    for name in range(data.draw(st.integers(1, 4), "episodes")):
        rewards = data.draw(st.lists(st.floats(-100, 100), min_size=1, max_size=10), "rewards")
        terminated = data.draw(st.booleans(), "terminated")
        truncated = not terminated or data.draw(st.booleans(), "truncated as well")
        episode = episode_of(*rewards, terminated=terminated, truncated=truncated, name=name)
        for step in episode:
            found += builder.push(*step)
        assert not builder.pending
        expected += n_step(episode, n, gamma)
    assert_same(found, expected)
    # Every step is the start of exactly one transition, and no transition ends in another episode.
    assert all(transition.obs[0] == transition.next_obs[0] for transition in found)
