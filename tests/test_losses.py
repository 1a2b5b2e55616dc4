"""Losses: value and gradient by hand, by PyTorch, and by what must hold for every error."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perilune.errors import ShapeError
from perilune.nn import huber, mse
from perilune.nn.layers import Array

LITERALS = json.loads((Path(__file__).parent / "oracles" / "literals.json").read_text(encoding="utf-8"))["losses"]
LOSSES = {"mse": mse, "huber": huber}

Loss = Callable[[Array, Array], tuple[float, Array]]
errors = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12)
deltas = st.floats(0.01, 100)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("case", list(LITERALS["cases"]))
def test_value_and_gradient_are_what_pytorch_gives_also_on_the_kink(case: str, dtype: type) -> None:
    prediction: Array = np.array(LITERALS["prediction"], dtype)
    target: Array = np.array(LITERALS["target"], dtype)
    if case == "mse":
        loss, gradient = mse(prediction, target)
    else:
        delta = float(case.removeprefix("huber_"))
        # Otherwise this would not test the kink.
        assert delta == 100 or {-delta, delta} & set(prediction - target)
        loss, gradient = huber(prediction, target, delta)
    tolerance = 1e-14 if dtype == np.float64 else 1e-6
    assert loss == pytest.approx(LITERALS["cases"][case]["loss"], rel=tolerance)
    np.testing.assert_allclose(gradient, LITERALS["cases"][case]["gradient"], rtol=tolerance)


@pytest.mark.parametrize(
    ("error", "loss", "gradient"),
    [([3], 9, [6]), ([1, 3], 5, [1, 3]), ([-2, 0, 0, 0], 1, [-1, 0, 0, 0])],
)
def test_mse_worked_by_hand_has_the_factor_two_over_b(error: list[float], loss: float, gradient: list[float]) -> None:
    made = mse(np.array(error, float), np.zeros(len(error)))
    assert made[0] == loss
    np.testing.assert_array_equal(made[1], gradient)


@pytest.mark.parametrize(
    ("delta", "error", "loss", "gradient"),
    [
        # 1/8 + 5/2 + 3/2 + 1/2, over 4
        (1.0, [0.5, 3, -2, 1], 1.15625, [0.125, 0.25, -0.25, 0.25]),
        # 1/2 + 2 (4 - 1) + 2 + 2, over 4: the last two are on the kink
        (2.0, [1, -4, 2, -2], 2.625, [0.25, -0.5, 0.5, -0.5]),
        # 1/4 (1 - 1/8), alone
        (0.25, [-1], 0.21875, [-0.25]),
    ],
)
def test_huber_worked_by_hand(delta: float, error: list[float], loss: float, gradient: list[float]) -> None:
    made = huber(np.array(error, float), np.zeros(len(error)), delta)
    assert made[0] == loss
    np.testing.assert_array_equal(made[1], gradient)


def test_huber_without_a_delta_has_its_kink_at_one() -> None:
    error = np.array([0.9, 1.1, -5.0])
    loss, gradient = huber(error, np.zeros(3))
    assert loss == pytest.approx((0.405 + 0.6 + 4.5) / 3, rel=1e-15)
    np.testing.assert_allclose(gradient, [0.3, 1 / 3, -1 / 3], rtol=1e-15)


@settings(deadline=None)
@given(errors, deltas)
def test_huber_is_half_the_mse_while_every_error_is_within_delta(error: list[float], delta: float) -> None:
    e = np.array(error) * delta / 1e4
    (huber_loss, huber_gradient), (mse_loss, mse_gradient) = huber(e, np.zeros_like(e), delta), mse(e, np.zeros_like(e))
    assert 2 * huber_loss == pytest.approx(mse_loss, rel=1e-12, abs=1e-300)
    np.testing.assert_allclose(2 * huber_gradient, mse_gradient, rtol=1e-12, atol=1e-300)


@settings(deadline=None)
@given(errors, deltas)
def test_huber_grows_with_slope_delta_beyond_delta(error: list[float], delta: float) -> None:
    e = np.array([np.copysign(abs(value) + delta, value) for value in error])
    loss, gradient = huber(e, np.zeros_like(e), delta)
    further, same_gradient = huber(e + 3 * np.sign(e), np.zeros_like(e), delta)
    assert further - loss == pytest.approx(3 * delta, rel=1e-6)
    np.testing.assert_allclose(gradient * len(e), np.sign(e) * delta, rtol=1e-12)
    np.testing.assert_array_equal(gradient, same_gradient)


@pytest.mark.parametrize("delta", [0.3, 1.0, 7.0])
def test_huber_has_neither_a_jump_nor_a_bend_at_the_kink(delta: float) -> None:
    (below, slope_below), (at, slope_at), (above, slope_above) = (
        huber(np.array([delta + step]), np.zeros(1), delta) for step in (-1e-9, 0, 1e-9)
    )
    assert below == pytest.approx(at, abs=1e-8)
    assert above == pytest.approx(at, abs=1e-8)
    assert slope_at[0] == pytest.approx(delta, rel=1e-15)
    np.testing.assert_allclose([slope_below, slope_above], [slope_at, slope_at], atol=1e-8)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@settings(deadline=None)
@given(errors, st.integers(0, 2**32 - 1))
def test_only_the_difference_counts_and_its_sign_turns_the_gradient(loss: Loss, error: list[float], seed: int) -> None:
    e = np.round(np.array(error) * 1024) / 1024  # exact in binary, also after adding a target
    target = np.round(np.random.default_rng(seed).normal(0, 100, len(e)))
    value, gradient = loss(target + e, target)
    mirrored, turned = loss(target - e, target)
    swapped, _ = loss(target, target + e)
    assert value == loss(e, np.zeros_like(e))[0] == mirrored == swapped
    np.testing.assert_array_equal(turned, -gradient)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_gradient_keeps_the_dtype_and_the_value_is_a_float(loss: Loss, dtype: type) -> None:
    value, gradient = loss(np.array([0.5, 3, 9], dtype), np.zeros(3, dtype))
    assert type(value) is float
    assert gradient.dtype == dtype
    assert gradient.shape == (3,)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_prediction_and_target_stay_as_they_are(loss: Loss) -> None:
    prediction, target = np.array([1.0, 5.0]), np.array([2.0, -5.0])
    prediction.setflags(write=False)
    target.setflags(write=False)
    _, gradient = loss(prediction, target)
    assert not np.shares_memory(gradient, prediction)
    assert not np.shares_memory(gradient, target)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_prediction_that_is_not_finite_shows_in_the_loss(loss: Loss, bad: float) -> None:
    value, gradient = loss(np.array([0.0, bad]), np.zeros(2))
    assert not np.isfinite(value)
    assert gradient[0] == 0
    assert not np.isnan(bad) or np.isnan(gradient[1])


@pytest.mark.parametrize(
    ("prediction", "target"),
    [((4, 1), (4,)), ((4,), (4, 1)), ((4, 1), (4, 1)), ((4,), (3,)), ((4,), (1,)), ((), ())],
    ids=str,
)
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_shapes_that_would_broadcast_are_refused(
    loss: Loss, prediction: tuple[int, ...], target: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError) as caught:
        loss(np.zeros(prediction), np.zeros(target))
    assert str(list(prediction)) in str(caught.value)
    assert str(list(target)) in str(caught.value)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_integers_are_refused_because_one_over_b_would_round_to_zero(loss: Loss) -> None:
    with pytest.raises(ShapeError, match="int64"):
        loss(np.array([5, 0, 0, 0]), np.array([0, 0, 0, 0]))
