"""Prioritized replay: the sum tree, sampling probabilities and importance weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from perilune._utils.arrays import Array
from perilune.errors import DivergenceError, ShapeError
from perilune.replay.prioritized import SMALL, Priorities, SumTree

# Positive numbers of very different sizes.
REAL = st.lists(st.sampled_from([0.0, 1e-300, 1e-9]) | st.floats(0, 1e6), min_size=1, max_size=40).filter(any)
AWKWARD = [1, 2, 3, 5, 7, 8, 9, 31, 33, 100]  # capacities at, below and above powers of two


def tree_of(values: list[float] | Array) -> SumTree:
    tree = SumTree(len(values))
    tree.set(np.arange(len(values)), np.asarray(values, np.float64))
    return tree


def with_errors(td_error: list[float], exponent: float) -> Priorities:
    """Return priorities with one row per error."""
    priorities = Priorities(len(td_error), exponent)
    for slot in range(len(td_error)):
        priorities.add(slot)
    priorities.update(np.arange(len(td_error)), np.array(td_error))
    return priorities


def with_priorities(p: list[float], exponent: float = 1.0) -> Priorities:
    return with_errors([value - SMALL for value in p], exponent)


def drawn(priorities: Priorities, batches: int, batch_size: int, seed: int = 0) -> Array:
    generator = np.random.default_rng(seed)
    return np.concatenate([priorities.sample(batch_size, 0.5, generator)[0] for _ in range(batches)])


def assert_parents_are_exact_sums_of_children(tree: SumTree) -> None:
    parents = np.arange(1, tree.leaves)
    np.testing.assert_array_equal(tree.nodes[parents], tree.nodes[2 * parents] + tree.nodes[2 * parents + 1])
    assert tree.total == tree.nodes[1]
    assert not tree.nodes[tree.leaves + len(tree.values) :].any()


# The tree


def test_sum_tree_layout_matches_hand_computation() -> None:
    #        10
    #     3      7
    #   1   2  7   0        three leaves, and one beyond the capacity
    tree = tree_of([1, 2, 7])
    np.testing.assert_array_equal(tree.nodes[1:], [10, 3, 7, 1, 2, 7, 0])
    assert tree.total == 10
    assert tree.values.tolist() == [1, 2, 7]


@given(values=REAL, shares=st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_find_agrees_with_cumulative_sum(values: list[float], shares: list[float]) -> None:
    tree = tree_of(values)
    mass = np.array(shares) * tree.total
    index = tree.find(mass)
    ends = np.cumsum(values)
    slack = 1e-12 * ends[-1]
    assert (ends[index] - np.array(values)[index] <= mass + slack).all()
    assert (mass <= ends[index] + slack).all()


def test_rounding_never_selects_a_leaf_with_zero_priority() -> None:
    # In floats 1.7 is less than 0.6 + 1.1, but 1.7 - 0.6 is 1.1, the whole value of the third leaf.
    tree, mass = tree_of([0.3, 0.3, 1.1]), 1.7
    assert mass < tree.total
    assert mass - 0.6 >= 1.1
    assert tree.find(np.array([mass])).tolist() == [2]


@pytest.mark.parametrize("capacity", AWKWARD)
def test_parents_are_exact_sums_of_children(capacity: int) -> None:
    tree, plain, generator = SumTree(capacity), np.zeros(capacity), np.random.default_rng(capacity)
    for _ in range(200):
        index = generator.integers(capacity, size=generator.integers(1, 40))
        value = generator.exponential(10.0 ** generator.integers(-12, 12), len(index)) * generator.integers(2)
        tree.set(index, value)
        for one, other in zip(index, value, strict=True):
            plain[one] = other
        slot = int(generator.integers(capacity))
        plain[slot] = generator.random()
        tree.set_one(slot, plain[slot])
        assert_parents_are_exact_sums_of_children(tree)
    np.testing.assert_array_equal(tree.values, plain)


@given(data=st.data(), capacity=st.integers(1, 20))
def test_last_value_of_a_repeated_index_is_kept(data: st.DataObject, capacity: int) -> None:
    index = data.draw(arrays(np.int64, st.integers(1, 60), elements=st.integers(0, capacity - 1)), "index")
    value = np.arange(1.0, len(index) + 1)
    tree = SumTree(capacity)
    tree.set(index, value)
    expected = dict(zip(index.tolist(), value.tolist(), strict=True))  # a dict keeps the last one too
    assert {i: v for i, v in enumerate(tree.values.tolist()) if v} == expected
    assert tree.total == sum(expected.values())
    assert_parents_are_exact_sums_of_children(tree)


@pytest.mark.parametrize("index", [-1, 5, 6, 8])
def test_set_refuses_index_beyond_capacity(index: int) -> None:
    tree = SumTree(5)
    with pytest.raises(ShapeError, match="from 0 to 4"):
        tree.set(np.array([2, index]), np.ones(2))
    assert not tree.nodes.any()


# Priorities


def test_new_transition_gets_greatest_priority_so_far() -> None:
    priorities = Priorities(4, 0.5)
    priorities.add(0)
    assert priorities.tree.values.tolist() == [1, 0, 0, 0]
    priorities.update(np.array([0]), np.array([-(9 - SMALL)]))
    priorities.add(1)
    np.testing.assert_allclose(priorities.tree.values, [3, 3, 0, 0], rtol=1e-15)
    # It is the greatest priority so far, not the greatest current one.
    priorities.update(np.array([0, 1]), np.array([4 - SMALL, 0.25 - SMALL]))
    priorities.add(2)
    np.testing.assert_allclose(priorities.tree.values, [2, 0.5, 3, 0], rtol=1e-15)


@given(
    td_error=arrays(np.float32, st.integers(1, 30), elements=st.floats(-100, 100, width=32)),
    exponent=st.floats(0, 1),
)
def test_priorities_ignore_sign_of_td_error(td_error: Array, exponent: float) -> None:
    priorities = with_errors(td_error.tolist(), exponent)
    expected = [(abs(error) + SMALL) ** exponent for error in td_error.tolist()]
    np.testing.assert_allclose(priorities.tree.values, expected, rtol=1e-12)
    mirrored = with_errors((-td_error).tolist(), exponent)
    np.testing.assert_array_equal(mirrored.tree.nodes, priorities.tree.nodes)
    # An update in float32 is computed in float64.
    priorities.update(np.arange(len(td_error)), td_error)
    np.testing.assert_array_equal(mirrored.tree.nodes, priorities.tree.nodes)


@pytest.mark.parametrize("exponent", [0.0, 0.4, 0.6, 1.0])
@pytest.mark.parametrize("batch_size", [1, 32])
def test_slots_are_sampled_by_priority(exponent: float, batch_size: int) -> None:
    p = [0.05, 0.3, 1, 1, 2.5, 4, 0.7, 8, 0.02, 3]
    share = np.array(p) ** exponent / np.sum(np.array(p) ** exponent)
    draws = 32_000 if batch_size == 32 else 3_000
    counts = np.bincount(drawn(with_priorities(p, exponent), draws // batch_size, batch_size, seed=3), minlength=10)
    # Chi-square with 9 degrees of freedom exceeds 28 once in 1,000 seeds. Strata make it smaller.
    assert float(np.sum((counts - draws * share) ** 2 / (draws * share))) < 28


@given(p=st.lists(st.floats(0.02, 50), min_size=1, max_size=30), batch_size=st.integers(1, 40), seed=st.integers(0, 99))
def test_one_slot_is_drawn_from_each_stratum(p: list[float], batch_size: int, seed: int) -> None:
    priorities = with_priorities(p)
    index, _ = priorities.sample(batch_size, 0.5, np.random.default_rng(seed))
    ends = np.cumsum(priorities.tree.values)
    share, slack = ends[-1] / batch_size, 1e-9 * ends[-1]
    number = np.arange(batch_size)
    assert (ends[index] + slack >= number * share).all()
    assert (ends[index] - priorities.tree.values[index] - slack <= (number + 1) * share).all()


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (0, [1, 1, 1, 1, 1, 1, 1]),
        (0.5, [1, 0.5, 0.5, 0.5, 0.5, 1, 1]),
        (1, [1, 0.25, 0.25, 0.25, 0.25, 1, 1]),
    ],
)
def test_importance_weights_match_hand_computation(beta: float, expected: list[float]) -> None:
    # P = 1/7, 4/7, 1/7, 1/7, and N = 4: (N P)^-1 = 7/4, 7/16, 7/4, 7/4. Divided by the largest: 1, 1/4, 1, 1.
    index, weights = with_priorities([1, 4, 1, 1]).sample(7, beta, np.random.default_rng(0))
    assert index.tolist() == [0, 1, 1, 1, 1, 2, 3]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_weights_are_normalized_by_batch_maximum() -> None:
    # Two draws from 0.02 and 1999.98: the first row is sampled about once in 100,000 draws, so not in this test.
    index, weights = with_priorities([0.02, 999.99, 999.99]).sample(2, 1.0, np.random.default_rng(0))
    assert index.tolist() == [1, 2]
    np.testing.assert_allclose(weights, 1, rtol=1e-6)


@given(
    p=st.lists(st.floats(0.02, 50), min_size=1, max_size=30),
    exponent=st.floats(0, 1),
    beta=st.floats(0, 1),
    seed=st.integers(0, 99),
    spare=st.integers(0, 9),
)
def test_importance_weights_match_paper(p: list[float], exponent: float, beta: float, seed: int, spare: int) -> None:
    priorities = Priorities(len(p) + spare, exponent)
    for slot in range(len(p)):
        priorities.add(slot)
    priorities.update(np.arange(len(p)), np.array(p) - SMALL)
    index, weights = priorities.sample(8, beta, np.random.default_rng(seed))
    probability = np.array(p) ** exponent / np.sum(np.array(p) ** exponent)
    w = (len(p) * probability[index]) ** -beta
    np.testing.assert_allclose(weights, w / w.max(), rtol=1e-5)
    assert weights.max() == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_td_error_changes_nothing(bad: float) -> None:
    priorities = with_errors([1, 2, 3], 0.6)
    before, greatest = priorities.tree.nodes.copy(), priorities.greatest
    with pytest.raises(DivergenceError, match=r"1 of 3 TD errors .* smaller learning_rate"):
        priorities.update(np.arange(3), np.array([0.5, bad, 9], np.float32))
    np.testing.assert_array_equal(priorities.tree.nodes, before)
    assert priorities.greatest == greatest


def test_mismatched_priority_update_changes_nothing() -> None:
    priorities = with_errors([1, 2, 3], 0.6)
    before, greatest = priorities.tree.nodes.copy(), priorities.greatest
    for td_error in (np.full(2, 9.0), np.full((3, 1), 9.0), np.array(9.0)):
        with pytest.raises(ShapeError, match=r"both be \[N\]"):
            priorities.update(np.arange(3), td_error)
    with pytest.raises(ShapeError, match="from 0 to 2"):
        priorities.update(np.array([3]), np.array([9.0]))
    np.testing.assert_array_equal(priorities.tree.nodes, before)
    assert priorities.greatest == greatest


def test_sampling_without_transitions_is_refused() -> None:
    with pytest.raises(ShapeError, match="all values are 0"):
        Priorities(10, 0.6).sample(4, 0.4, np.random.default_rng(0))
