"""Temporal-difference targets, against values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from perilune.errors import ShapeError
from perilune.nn.layers import Array
from perilune.td import double_q_target, q_learning_target

# Three rows and two actions, so that an axis taken for the other cannot go unseen.
REWARD = np.array([1, 2, -4], np.float32)
DISCOUNT = np.array([0.5, 0, 0.25], np.float32)
# The online network prefers the actions 0, 1, 0, the target network 1, 0, 1.
NEXT_Q_ONLINE = np.array([[7, 3], [5, 6], [9, 8]], np.float32)
NEXT_Q_TARGET = np.array([[10, 20], [40, 30], [-8, 16]], np.float32)


def test_q_learning_target_is_reward_plus_discounted_best_next_value() -> None:
    # 1 + 0.5 * 20, 2 + 0 * 40, -4 + 0.25 * 16
    np.testing.assert_array_equal(q_learning_target(REWARD, DISCOUNT, NEXT_Q_TARGET), [11, 2, 0])


def test_double_target_lets_the_online_network_choose_and_the_target_network_judge() -> None:
    # 1 + 0.5 * 10, 2 + 0 * 30, -4 + 0.25 * -8; with the roles swapped: 2.5, 2, -2
    np.testing.assert_array_equal(double_q_target(REWARD, DISCOUNT, NEXT_Q_ONLINE, NEXT_Q_TARGET), [6, 2, -6])


def test_double_target_of_one_network_twice_is_the_plain_target() -> None:
    np.testing.assert_array_equal(double_q_target(REWARD, DISCOUNT, NEXT_Q_TARGET, NEXT_Q_TARGET), [11, 2, 0])


def test_terminated_rows_are_their_reward_however_large_the_next_values() -> None:
    next_q = np.full((3, 2), 1e30, np.float32)
    np.testing.assert_array_equal(q_learning_target(REWARD, np.zeros(3, np.float32), next_q), REWARD)


def test_every_row_uses_its_own_discount() -> None:
    next_q = np.ones((3, 2), np.float32)
    discount = np.array([0.25, 0.5, 0.75], np.float32)
    np.testing.assert_array_equal(q_learning_target(np.zeros(3, np.float32), discount, next_q), discount)


def test_max_is_over_actions_even_where_rows_and_actions_are_as_many() -> None:
    next_q = np.array([[1, 2], [30, 40]], np.float32)
    one = np.ones(2, np.float32)
    np.testing.assert_array_equal(q_learning_target(0 * one, one, next_q), [2, 40])  # over rows: 30, 40


def test_a_single_row_and_a_single_action_are_allowed() -> None:
    one = np.ones(1, np.float32)
    np.testing.assert_array_equal(q_learning_target(one, one, np.full((1, 1), 5, np.float32)), [6])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_targets_keep_the_dtype(dtype: type) -> None:
    reward, discount, online, target = (a.astype(dtype) for a in (REWARD, DISCOUNT, NEXT_Q_ONLINE, NEXT_Q_TARGET))
    assert q_learning_target(reward, discount, target).dtype == dtype
    assert double_q_target(reward, discount, online, target).dtype == dtype


def test_targets_leave_their_arguments_alone() -> None:
    arguments = [a.copy() for a in (REWARD, DISCOUNT, NEXT_Q_ONLINE, NEXT_Q_TARGET)]
    td_target = double_q_target(*arguments)
    td_target += 1
    for given, original in zip(arguments, (REWARD, DISCOUNT, NEXT_Q_ONLINE, NEXT_Q_TARGET), strict=True):
        np.testing.assert_array_equal(given, original)


COLUMN = (slice(None), None)


@pytest.mark.parametrize(
    ("reward", "discount", "next_q", "shape"),
    [
        # Each of these would broadcast in silence to something that is no target.
        pytest.param(REWARD[COLUMN], DISCOUNT, NEXT_Q_TARGET, "[3, 1]", id="reward (B, 1)"),
        pytest.param(REWARD, DISCOUNT[COLUMN], NEXT_Q_TARGET, "[3, 1]", id="discount (B, 1)"),
        pytest.param(REWARD[COLUMN], DISCOUNT[COLUMN], NEXT_Q_TARGET, "[3, 1]", id="both (B, 1)"),
        pytest.param(REWARD, DISCOUNT[:1], NEXT_Q_TARGET, "[1]", id="one discount for all"),
        pytest.param(REWARD, DISCOUNT[0], NEXT_Q_TARGET, "[]", id="discount without an axis"),
        pytest.param(REWARD[0], DISCOUNT[0], NEXT_Q_TARGET, "[]", id="reward without an axis"),
        pytest.param(REWARD, DISCOUNT, NEXT_Q_TARGET[:1], "[1, 2]", id="one row of next values"),
        pytest.param(REWARD, DISCOUNT, NEXT_Q_TARGET.T, "[2, 3]", id="next values transposed"),
        pytest.param(REWARD, DISCOUNT, NEXT_Q_TARGET[:, 0], "[3]", id="next values without actions"),
        pytest.param(REWARD, DISCOUNT, NEXT_Q_TARGET[:, :, None], "[3, 2, 1]", id="next values with an axis more"),
    ],
)
def test_shapes_that_would_broadcast_are_refused(reward: Array, discount: Array, next_q: Array, shape: str) -> None:
    with pytest.raises(ShapeError) as plain:
        q_learning_target(reward, discount, next_q)
    assert shape in str(plain.value)
    with pytest.raises(ShapeError):
        double_q_target(reward, discount, next_q, next_q)


@pytest.mark.parametrize(
    "next_q_online", [NEXT_Q_ONLINE[:1], NEXT_Q_ONLINE[:, :1], NEXT_Q_ONLINE.T, NEXT_Q_ONLINE[:, 0]]
)
def test_both_networks_must_value_the_same_rows_and_actions(next_q_online: Array) -> None:
    with pytest.raises(ShapeError, match="both networks"):
        double_q_target(REWARD, DISCOUNT, next_q_online, NEXT_Q_TARGET)
