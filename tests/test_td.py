"""Test TD targets and policies against hand computations and plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perilune._utils.arrays import Array
from perilune.agent.heads import categorical_target, upper_mean
from perilune.agent.munchausen import log_softmax, munchausen_reward
from perilune.agent.targets import expected_value, greedy, td_target
from perilune.errors import ShapeError

# Three rows and two actions, so that swapped axes do not go unnoticed.
REWARD = np.array([1, 2, -4], np.float32)
DISCOUNT = np.array([0.5, 0, 0.25], np.float32)
# The online network prefers the actions 0, 1, 0, the target network 1, 0, 1.
NEXT_Q_ONLINE = np.array([[7, 3], [5, 6], [9, 8]], np.float32)
NEXT_Q_TARGET = np.array([[10, 20], [40, 30], [-8, 16]], np.float32)
COLUMN = (slice(None), None)


def target_of(reward: Array, discount: Array, next_q: Array, next_values: Array) -> Array:
    """Return the target as the agent computes it: ``next_q`` selects, ``next_values`` evaluates."""
    return td_target(reward, discount, expected_value(greedy(next_q), next_values))


# One value per action


def test_plain_target_uses_best_next_value() -> None:
    # 1 + 0.5 * 20, 2 + 0 * 40, -4 + 0.25 * 16
    np.testing.assert_array_equal(target_of(REWARD, DISCOUNT, NEXT_Q_TARGET, NEXT_Q_TARGET), [11, 2, 0])


def test_double_target_selects_with_online_and_evaluates_with_target_network() -> None:
    # 1 + 0.5 * 10, 2 + 0 * 30, -4 + 0.25 * -8; with the roles swapped: 2.5, 2, -2
    np.testing.assert_array_equal(target_of(REWARD, DISCOUNT, NEXT_Q_ONLINE, NEXT_Q_TARGET), [6, 2, -6])


def test_terminated_target_is_reward() -> None:
    huge = np.full((3, 2), 1e30, np.float32)
    np.testing.assert_array_equal(target_of(REWARD, np.zeros(3, np.float32), huge, huge), REWARD)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_targets_keep_the_dtype(dtype: type) -> None:
    reward, discount, online, target = (a.astype(dtype) for a in (REWARD, DISCOUNT, NEXT_Q_ONLINE, NEXT_Q_TARGET))
    assert target_of(reward, discount, online, target).dtype == dtype
    log_policy = log_softmax(online, 0.03)
    assert log_policy.dtype == dtype
    assert expected_value(np.exp(log_policy), target).dtype == dtype
    assert upper_mean(online[:, :, None], 0.5).dtype == dtype
    probability = np.full((3, 2), 0.5, dtype)
    assert categorical_target(reward, discount, probability, np.array([0, 1], dtype)).dtype == dtype
    own = {"share": 0.9, "temperature": 0.03, "floor": -1.0}
    assert munchausen_reward(reward, discount, log_policy[:, 0], log_policy, **own).dtype == dtype


# Values under a policy


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_expected_value_matches_loop(rows: int, actions: int, n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    policy, values = generator.dirichlet(np.ones(actions), rows), generator.normal(size=(rows, actions, n))
    plain = [[sum(policy[b, a] * values[b, a, i] for a in range(actions)) for i in range(n)] for b in range(rows)]
    np.testing.assert_allclose(expected_value(policy, values), plain, rtol=1e-12, atol=1e-14)
    greedy_actions = policy.argmax(axis=1)
    one_hot = np.eye(actions)[greedy_actions]
    np.testing.assert_array_equal(expected_value(one_hot, values), expected_value(greedy_actions, values))
    np.testing.assert_array_equal(
        expected_value(one_hot, values[..., 0]), expected_value(greedy_actions, values[..., 0])
    )


@pytest.mark.parametrize(
    ("policy", "values", "shape"),
    [
        ((3,), (2, 3), "[3]"),
        ((2, 1), (2, 3), "[2, 1]"),
        ((3, 2), (2, 3), "[3, 2]"),
        ((1,), (2, 3), "[1]"),
        ((), (2, 3), "[]"),
        ((2, 3, 4), (2, 3, 4), "[2, 3, 4]"),
        ((2,), (2,), "[2]"),
        ((2,), (2, 3, 4, 5), "[2, 3, 4, 5]"),
    ],
)
def test_policy_of_wrong_shape_raises(policy: tuple[int, ...], values: tuple[int, ...], shape: str) -> None:
    with pytest.raises(ShapeError) as caught:
        expected_value(np.zeros(policy, np.int64), np.zeros(values))
    assert shape in str(caught.value)


# Softmax policy


def test_log_softmax_matches_hand_computation() -> None:
    # exp(Q / 2) is [1, 3] and [4, 4]; the sums over the actions are 4 and 8.
    q_values = 2 * np.log(np.array([[1.0, 3.0], [4.0, 4.0]]))
    np.testing.assert_allclose(np.exp(log_softmax(q_values, 2.0)), [[0.25, 0.75], [0.5, 0.5]], rtol=1e-14)


@given(st.integers(1, 4), st.integers(1, 5), st.floats(0.01, 100), st.floats(-1e4, 1e4), st.integers(0, 2**32 - 1))
def test_softmax_sums_to_one_and_ignores_a_common_offset(
    rows: int, actions: int, temperature: float, common: float, seed: int
) -> None:
    q_values = np.random.default_rng(seed).normal(0, 10, (rows, actions))
    log_policy = log_softmax(q_values, temperature)
    np.testing.assert_allclose(np.exp(log_policy).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(log_policy.argmax(axis=1), q_values.argmax(axis=1))
    np.testing.assert_allclose(log_softmax(q_values + common, temperature), log_policy, atol=1e-7 / temperature)
    # Log-probabilities of two actions differ by the difference of their values over the temperature.
    difference = temperature * (log_policy - log_policy[:, :1])
    np.testing.assert_allclose(difference, q_values - q_values[:, :1], rtol=1e-9, atol=1e-9)


def test_log_softmax_does_not_overflow() -> None:
    log_policy = log_softmax(np.array([[3e4, -3e4], [-1e30, -1e30]], np.float32), 0.03)
    np.testing.assert_allclose(log_policy, [[0, -2e6], [-math.log(2)] * 2], rtol=1e-6)


# Optimism


@pytest.mark.parametrize(
    ("omitted", "best"),
    [(0, [2.5, 30]), (0.25, [3, 40]), (0.49, [3, 40]), (0.5, [3.5, 60]), (0.75, [4, 120]), (0.99, [4, 120])],
)
def test_upper_mean_omits_lowest_quantiles(omitted: float, best: list[float]) -> None:
    # Two actions with four quantiles; 0.49 * 4 = 1.96, so 1 is omitted.
    quantiles = np.array([[[1, 2, 3, 4], [0, 0, 0, 120]]], np.float32)
    np.testing.assert_array_equal(upper_mean(quantiles, omitted), [best])


# Several quantiles per action


def test_rewards_and_discounts_apply_to_rows_and_not_to_quantiles() -> None:
    next_value = np.array([[1, 2], [3, 4]], np.float32)
    made = td_target(np.array([10, 20], np.float32), np.array([1, 2], np.float32), next_value)
    np.testing.assert_array_equal(made, [[11, 12], [26, 28]])


BAD_ROWS: dict[str, tuple[Array, Array, Array, str]] = {
    # Each of these would broadcast without an error to an array that is not a target.
    "reward (B, 1)": (REWARD[COLUMN], DISCOUNT, NEXT_Q_TARGET, "[3, 1]"),
    "discount (B, 1)": (REWARD, DISCOUNT[COLUMN], NEXT_Q_TARGET, "[3, 1]"),
    "both (B, 1)": (REWARD[COLUMN], DISCOUNT[COLUMN], NEXT_Q_TARGET, "[3, 1]"),
    "one discount for all": (REWARD, DISCOUNT[:1], NEXT_Q_TARGET, "[1]"),
    "discount without an axis": (REWARD, DISCOUNT[0], NEXT_Q_TARGET, "[]"),
    "reward without an axis": (REWARD[0], DISCOUNT[0], NEXT_Q_TARGET, "[]"),
    "one row of next values": (REWARD, DISCOUNT, NEXT_Q_TARGET[:1], "[1, 2]"),
    "next values transposed": (REWARD, DISCOUNT, NEXT_Q_TARGET.T, "[2, 3]"),
    "a next value without an axis": (REWARD, DISCOUNT, NEXT_Q_TARGET[0, 0], "[]"),
}


@pytest.mark.parametrize(("reward", "discount", "next_value", "shape"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_shapes_that_would_broadcast_raise(reward: Array, discount: Array, next_value: Array, shape: str) -> None:
    support = np.arange(2, dtype=np.float32)
    with pytest.raises(ShapeError) as caught:
        td_target(reward, discount, next_value)
    assert shape in str(caught.value)
    with pytest.raises(ShapeError):
        categorical_target(reward, discount, next_value, support)
    with pytest.raises(ShapeError):
        munchausen_reward(reward, discount, REWARD, next_value, share=1, temperature=1, floor=-1)


# A distribution over the atoms -2, -1, 0, 1, 2

SUPPORT = np.array([-2, -1, 0, 1, 2], np.float64)
CERTAIN_ONE = np.array([[0, 0, 0, 1, 0]], np.float64)


def projected(reward: float, discount: float, next_probability: Any, support: Array = SUPPORT) -> list[float]:
    """Return the projection of a single row."""
    one_row = np.atleast_2d(np.asarray(next_probability, np.float64))
    made = categorical_target(np.array([reward]), np.array([discount]), one_row, support)
    return [float(value) for value in made[0]]


@pytest.mark.parametrize(
    ("reward", "discount", "probability"),
    [
        (0.0, 1.0, [0, 0, 0, 1, 0]),  # does not move
        (-2.0, 1.0, [0, 1, 0, 0, 0]),  # 1 - 2 = -1, exactly an atom
        (0.25, 0.5, [0, 0, 0.25, 0.75, 0]),  # 3/4 is three times as close to 1 as to 0
        (-1.75, 0.5, [0.25, 0.75, 0, 0, 0]),  # -5/4 is closer to -1
        (1.0, 1.0, [0, 0, 0, 0, 1]),  # 2, the upper limit
        (5.0, 1.0, [0, 0, 0, 0, 1]),  # 6, above the upper limit
        (-3.0, 1.0, [1, 0, 0, 0, 0]),  # -2, the lower limit
        (-9.0, 1.0, [1, 0, 0, 0, 0]),  # -8, below the lower limit
    ],
)
def test_certain_return_is_split_between_neighboring_atoms(
    reward: float, discount: float, probability: list[float]
) -> None:
    assert projected(reward, discount, CERTAIN_ONE) == pytest.approx(probability, abs=1e-15)


def plain_projection(reward: float, discount: float, probability: Array, support: Array) -> list[float]:
    """Return the projection as a double sum over atoms, with triangular weights."""
    step = support[1] - support[0]
    made = []
    for z in support:
        share = 0.0
        for z_next, p in zip(support, probability, strict=True):
            moved = min(max(reward + discount * z_next, support[0]), support[-1])
            share += p * max(0.0, 1 - abs(moved - z) / step)
        made.append(share)
    return made


@given(
    st.integers(2, 13),
    st.floats(-50, 50),
    st.floats(0.1, 100),
    st.lists(st.tuples(st.floats(-120, 120), st.floats(0, 1)), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_projection_matches_loop_and_is_a_distribution(
    atoms: int, low: float, width: float, steps: list[tuple[float, float]], seed: int
) -> None:
    support = np.linspace(low, low + width, atoms)
    next_probability = np.random.default_rng(seed).dirichlet(np.ones(atoms), len(steps))
    reward, discount = (np.array(column) for column in zip(*steps, strict=True))
    made = categorical_target(reward, discount, next_probability, support)
    assert made.min() >= 0
    np.testing.assert_allclose(made.sum(axis=1), 1, rtol=1e-12)
    for b, row in enumerate(made):
        np.testing.assert_allclose(
            row, plain_projection(reward[b], discount[b], next_probability[b], support), atol=1e-10
        )


@pytest.mark.parametrize("shape", [(4,), (1,), (5, 1), ()])
def test_support_of_wrong_size_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        categorical_target(np.zeros(1), np.zeros(1), CERTAIN_ONE, np.zeros(shape))
    assert str(list(shape)) in str(caught.value)
    assert "[1, 5]" in str(caught.value)


# Munchausen


def own(reward: float, discount: float, log_policy: float, next_log_policy: list[float], **settings: float) -> float:
    """Return the Munchausen reward of a single row."""
    defaults = {"share": 0.5, "temperature": 2.0, "floor": -10.0}
    arrays = (np.array([reward]), np.array([discount]), np.array([log_policy]), np.array([next_log_policy]))
    return float(munchausen_reward(*arrays, **defaults | settings)[0])


EVEN = [math.log(0.5)] * 2  # entropy: ln 2


def test_munchausen_reward_matches_hand_computation() -> None:
    # 3 + 0.5 * 2 ln(1/4) + 0.9 * 2 ln 2 = 3 - 2 ln 2 + 1.8 ln 2
    assert own(3, 0.9, math.log(0.25), EVEN) == pytest.approx(3 - 0.2 * math.log(2), rel=1e-14)
    # The floor limits 2 ln(1/4) to -1.
    assert own(3, 0.9, math.log(0.25), EVEN, floor=-1.0) == pytest.approx(2.5 + 1.8 * math.log(2), rel=1e-14)


def test_munchausen_target_matches_the_paper() -> None:
    # Equation (2): r + alpha tau ln pi(a|s) + gamma sum over a' of pi(a'|s') (q(s', a') - tau ln pi(a'|s')).
    tau, q, next_q = 0.5, np.array([[1.0, 0.5, 0.0]]), np.array([[2.0, 1.0, -1.0]])
    log_policy, next_log_policy = log_softmax(q, tau), log_softmax(next_q, tau)
    settings = {"share": 0.9, "temperature": tau, "floor": -100.0}
    paid = munchausen_reward(np.array([3.0]), np.array([0.8]), log_policy[:, 1], next_log_policy, **settings)
    made = td_target(paid, np.array([0.8]), expected_value(np.exp(next_log_policy), next_q))
    # For a softmax policy, the sum of pi (q - tau ln pi) is tau ln(sum of exp(q / tau)).
    soft_value = tau * math.log(sum(math.exp(value / tau) for value in next_q[0]))
    log_pi = 0.5 / tau - math.log(sum(math.exp(value / tau) for value in q[0]))
    assert made[0] == pytest.approx(3 + 0.9 * tau * log_pi + 0.8 * soft_value, rel=1e-12)


@pytest.mark.parametrize("shape", [(3, 1), (1,), ()])
def test_log_policy_of_wrong_shape_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        munchausen_reward(REWARD, DISCOUNT, np.zeros(shape), NEXT_Q_TARGET, share=1, temperature=1, floor=-1)
    assert str(list(shape)) in str(caught.value)
