"""Heads: the meaning of outputs, targets, losses and axes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perilune._utils.arrays import Array
from perilune.agent.dqn import make_head
from perilune.agent.heads import Categorical, Quantile, categorical_target
from perilune.agent.targets import Head, td_target
from perilune.nn.distributional import cross_entropy, quantile_huber
from perilune.nn.losses import huber, mse
from worlds import small

HEADS: dict[str, Head] = {
    "expected": Head("huber", 1.0),
    "c51": Categorical(3, -10.0, 30.0),
    "qr": Quantile(4, 1.0),
}
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


def drawn(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Outputs


@pytest.mark.parametrize("kind", ["expected", "qr"])
def test_values_and_quantiles_are_read_unchanged(kind: str) -> None:
    outputs = drawn(2, 5, *HEADS[kind].shape)
    np.testing.assert_array_equal(HEADS[kind].read(outputs), outputs)


def test_c51_reads_logits_as_probabilities_of_last_axis() -> None:
    logits = np.log(np.array([[[1, 2, 5], [3, 3, 2]], [[6, 1, 1], [1, 1, 1]]], np.float32))
    expected = [[[1 / 8, 2 / 8, 5 / 8], [3 / 8, 3 / 8, 2 / 8]], [[6 / 8, 1 / 8, 1 / 8], [1 / 3, 1 / 3, 1 / 3]]]
    np.testing.assert_allclose(HEADS["c51"].read(logits), expected, rtol=1e-6)
    np.testing.assert_allclose(HEADS["c51"].read(logits[0, 1]), [3 / 8, 3 / 8, 2 / 8], rtol=1e-6)


def test_large_logits_do_not_overflow() -> None:
    read = HEADS["c51"].read(np.array([[1e4, -1e4, 1e4], [-1e30, 0, 0]], np.float32))
    np.testing.assert_array_equal(read, [[0.5, 0, 0.5], [0, 0.5, 0.5]])


def test_mean_of_c51_is_taken_over_support() -> None:
    # -10 / 4 + 10 / 4 + 30 / 2, and -10 / 2 + 30 / 2
    np.testing.assert_array_equal(HEADS["c51"].mean(np.array([[0.25, 0.25, 0.5], [0.5, 0, 0.5]], np.float32)), [15, 10])


@every_head
def test_head_mean_removes_last_axis(head: Head) -> None:
    for before in ((), (2,), (2, 5)):
        values = head.read(drawn(*before, *head.shape))
        assert np.shape(head.mean(values)) == before
    values = head.read(drawn(4, 4, *head.shape))  # equal numbers of rows, actions and quantiles
    for b, a in np.ndindex(4, 4):
        np.testing.assert_allclose(head.mean(values)[b, a], head.mean(values[b, a]), rtol=1e-5, atol=1e-6)


# Targets and losses


def test_expected_head_uses_td_target_and_losses() -> None:
    reward, discount, next_value, chosen = drawn(4, 6)
    target = HEADS["expected"].target(reward, discount, next_value)
    np.testing.assert_array_equal(target, td_target(reward, discount, next_value))
    for name, delta, loss in (("mse", 1.0, mse(chosen, target)), ("huber", 0.3, huber(chosen, target, 0.3))):
        made = Head(name, delta).loss(chosen, target)  # type: ignore[arg-type]
        assert made[0] == loss[0]
        np.testing.assert_array_equal(made[1], loss[1])


def test_quantile_head_uses_td_target_and_loss() -> None:
    reward, discount = drawn(2, 6)
    next_quantiles, chosen = drawn(2, 6, 4, seed=1)
    head = Quantile(4, 0.3)
    target = head.target(reward, discount, next_quantiles)
    np.testing.assert_array_equal(target, td_target(reward, discount, next_quantiles))
    made, loss = head.loss(chosen, target), quantile_huber(chosen, target, 0.3)
    assert made[0] == loss[0] != quantile_huber(target, chosen, 0.3)[0]
    np.testing.assert_array_equal(made[1], loss[1])


def test_categorical_head_uses_its_target_and_loss() -> None:
    head = Categorical(3, -10.0, 30.0)
    reward, discount = 5 * drawn(6), np.full(6, 0.9, np.float32)
    next_probability, logits = head.read(drawn(6, 3, seed=1)), drawn(6, 3, seed=2)
    target = head.target(reward, discount, next_probability)
    np.testing.assert_array_equal(target, categorical_target(reward, discount, next_probability, head.support))
    made, loss = head.loss(logits, target), cross_entropy(logits, target)
    assert made[0] == loss[0]
    np.testing.assert_array_equal(made[1], loss[1])


@pytest.mark.parametrize(
    ("low", "high", "atoms"),
    [(-1, 1, 1001), (-1e4, 1e4, 10_000), (99.9, 100, 101), (-1e29, 1e29, 51), (-2e-30, 0, 10_000), (0, 1e-29, 2)],
)
def test_projection_without_reward_and_discount_changes_nothing(low: float, high: float, atoms: int) -> None:
    # Across the range that the settings accept, up to supports whose steps are a millionth of their largest return.
    config = small(head="c51", value_range=(low, high), atoms=atoms)
    probability = np.eye(atoms, dtype=np.float32)[:: max(1, atoms // 200)]
    zero, one = np.zeros(len(probability), np.float32), np.ones(len(probability), np.float32)
    np.testing.assert_allclose(make_head(config).target(zero, one, probability), probability, atol=1e-6)


@every_head
@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_mean_of_the_target_equals_target_of_the_means(head: Head, rows: int, seed: int) -> None:
    # reward + discount mean(next): the target of the means is the mean of the target, as long as nothing is clipped.
    generator = np.random.default_rng(seed)
    reward, discount = generator.uniform(0, 3, rows).astype(np.float32), np.full(rows, 0.5, np.float32)
    next_values = head.read(generator.normal(size=(rows, *head.shape)).astype(np.float32))
    target = head.target(reward, discount, next_values)
    assert target.shape == next_values.shape
    assert target.dtype == np.float32
    np.testing.assert_allclose(head.mean(target), reward + 0.5 * head.mean(next_values), rtol=1e-4, atol=1e-4)


@every_head
def test_gradient_step_moves_mean_toward_target(head: Head) -> None:
    # With a wrong sign or swapped roles, the mean would move away.
    outputs = drawn(1, *head.shape)
    target = head.target(np.full(1, 8, np.float32), np.zeros(1, np.float32), head.read(outputs))
    losses, gaps = [], []
    for _ in range(40):
        loss, d_outputs = head.loss(outputs, target)
        assert d_outputs.shape == outputs.shape
        losses.append(loss)
        gaps.append(abs(float(head.mean(head.read(outputs))[0]) - 8))
        outputs = outputs - d_outputs
    assert losses == sorted(losses, reverse=True)
    assert gaps[-1] < 0.5 * gaps[0]


def test_quantile_head_learns_ordered_quantiles() -> None:
    # The return is 10 or 0: the quantiles at 1/8 and 3/8 are 0, those at 5/8 and 7/8 are 10.
    head, outputs = Quantile(4, 0.01), np.zeros((1, 4), np.float32)
    target = np.array([[0, 10]], np.float32)
    for step in range(600):
        outputs -= (1.0 if step < 500 else 0.05) * head.loss(outputs, target)[1]
    np.testing.assert_allclose(outputs, [[0, 0, 10, 10]], atol=0.1)


# Selection by settings


def test_head_setting_selects_head() -> None:
    assert vars(make_head(small(loss="mse", huber_delta=0.5))) == {"name": "mse", "delta": 0.5}
    quantile = make_head(small(head="qr", quantiles=7, huber_delta=0.5))
    assert isinstance(quantile, Quantile)
    assert (quantile.shape, quantile.kappa) == ((7,), 0.5)
    categorical = make_head(small(head="c51", atoms=3, value_range=(-1, 2)))
    assert isinstance(categorical, Categorical)
    assert categorical.support.tolist() == [-1, 0.5, 2]


@pytest.mark.parametrize("settings", [{}, {"head": "qr", "quantiles": 7}, {"head": "c51", "value_range": (0, 1)}])
def test_network_outputs_match_head_shape(settings: dict[str, object]) -> None:
    config = small(**settings)
    assert config.outputs_per_action == math.prod(make_head(config).shape)
