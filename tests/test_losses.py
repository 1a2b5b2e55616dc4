"""Losses: values and gradients, compared with hand computations and PyTorch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from perilune._utils.arrays import Array
from perilune.errors import ShapeError
from perilune.nn import huber, mse
from perilune.nn.distributional import cross_entropy, quantile_huber

pytestmark = pytest.mark.usefixtures("backend")
ORACLES = json.loads((Path(__file__).parent / "oracles" / "literals.json").read_text(encoding="utf-8"))
LITERALS, ROW_LITERALS = ORACLES["losses"], ORACLES["row_losses"]
LOSSES = {"mse": mse, "huber": huber}
ROW_LOSSES = {"cross_entropy": cross_entropy, "quantile_huber": quantile_huber}  # of [B, N]
every_loss = pytest.mark.parametrize(
    ("loss", "shape"), [*((loss, (4,)) for loss in LOSSES.values()), *((loss, (2, 2)) for loss in ROW_LOSSES.values())]
)

Loss = Callable[[Array, Array], tuple[float, Array]]
errors = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("case", list(LITERALS["cases"]))
def test_loss_and_gradient_match_pytorch(case: str, dtype: type) -> None:
    prediction: Array = np.array(LITERALS["prediction"], dtype)
    target: Array = np.array(LITERALS["target"], dtype)
    if case == "mse":
        loss, gradient = mse(prediction, target)
    else:
        delta = float(case.removeprefix("huber_"))
        # An error must lie on the kink.
        assert delta == 100 or {-delta, delta} & set(prediction - target)
        loss, gradient = huber(prediction, target, delta)
    tolerance = 1e-14 if dtype == np.float64 else 1e-6
    assert loss == pytest.approx(LITERALS["cases"][case]["loss"], rel=tolerance)
    np.testing.assert_allclose(gradient, LITERALS["cases"][case]["gradient"], rtol=tolerance)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("case", list(ROW_LITERALS))
def test_row_loss_and_gradient_match_pytorch(case: str, dtype: type) -> None:
    literals = ROW_LITERALS[case]
    prediction, target = np.array(literals["prediction"], dtype), np.array(literals["target"], dtype)
    if case == "cross_entropy":
        loss, gradient = cross_entropy(prediction, target)
    else:
        loss, gradient = quantile_huber(prediction, target, float(case.removeprefix("quantile_huber_")))
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert loss == pytest.approx(literals["loss"], rel=tolerance)
    np.testing.assert_allclose(gradient, literals["gradient"], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("error", "loss", "gradient"),
    [([3], 9, [6]), ([1, 3], 5, [1, 3]), ([-2, 0, 0, 0], 1, [-1, 0, 0, 0])],
)
def test_mse_matches_hand_computation(error: list[float], loss: float, gradient: list[float]) -> None:
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
        # 1/4 (1 - 1/8), for one element
        (0.25, [-1], 0.21875, [-0.25]),
    ],
)
def test_huber_matches_hand_computation(delta: float, error: list[float], loss: float, gradient: list[float]) -> None:
    made = huber(np.array(error, float), np.zeros(len(error)), delta)
    assert made[0] == loss
    np.testing.assert_array_equal(made[1], gradient)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_non_finite_prediction_gives_non_finite_loss(loss: Loss, bad: float) -> None:
    value, gradient = loss(np.array([0.0, bad]), np.zeros(2))
    assert not np.isfinite(value)
    assert gradient[0] == 0
    assert not np.isnan(bad) or np.isnan(gradient[1])


# Cross-entropy


def test_cross_entropy_matches_hand_computation() -> None:
    # softmax is 1/4, 3/4 and 1/2, 1/2: the mean of -(1/2 ln 1/4 + 1/2 ln 3/4) and -ln 1/2; gradient (p - target) / 2
    logits = np.log(np.array([[1.0, 3.0], [5.0, 5.0]]))
    loss, gradient = cross_entropy(logits, np.array([[0.5, 0.5], [1.0, 0.0]]))
    assert loss == pytest.approx((-0.5 * math.log(3 / 16) + math.log(2)) / 2, rel=1e-14)
    np.testing.assert_allclose(gradient, [[-0.125, 0.125], [-0.25, 0.25]], rtol=1e-13)


def test_cross_entropy_is_finite_for_large_logits() -> None:
    loss, gradient = cross_entropy(np.array([[1e4, -1e4]], np.float32), np.array([[0, 1]], np.float32))
    assert loss == 2e4
    np.testing.assert_array_equal(gradient, [[1, -1]])


# Quantile regression


def test_quantile_huber_matches_hand_computation() -> None:
    # tau = 1/4, 3/4; quantiles 0, 10; one target, 4: u = 4 and -6, L = 3.5 and 5.5, weights 1/4 and |3/4 - 1| = 1/4.
    loss, gradient = quantile_huber(np.array([[0.0, 10.0]]), np.array([[4.0]]))
    assert loss == 0.25 * 3.5 + 0.25 * 5.5
    np.testing.assert_array_equal(gradient, [[-0.25, 0.25]])
    # Swapped, both have the larger weight: u = -6 with 1 - 1/4, u = 4 with 3/4.
    loss, gradient = quantile_huber(np.array([[10.0, 0.0]]), np.array([[4.0]]))
    assert loss == 0.75 * 5.5 + 0.75 * 3.5
    np.testing.assert_array_equal(gradient, [[0.75, -0.75]])


def test_quantile_huber_ignores_content_of_scratch_array() -> None:
    generator = np.random.default_rng(0)
    quantiles, target = generator.normal(size=(5, 3)), generator.normal(size=(5, 4))
    loss, gradient = quantile_huber(quantiles, target, 0.5)
    used = np.full((2, 3, 4, 5), np.nan)
    for _ in range(2):
        again, gradient_again = quantile_huber(quantiles, target, 0.5, used)
        assert again == loss
        np.testing.assert_array_equal(gradient_again, gradient)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@every_loss
def test_losses_keep_dtype_and_arguments(loss: Loss, shape: tuple[int, ...], dtype: type) -> None:
    prediction, target = (np.array(values, dtype).reshape(shape) for values in ([1, 5, 2, 2], [0.5, 0.5, 0, 1]))
    for array in (prediction, target):
        array.setflags(write=False)
    value, gradient = loss(prediction, target)
    assert type(value) is float
    assert (gradient.dtype, gradient.shape) == (dtype, shape)
    assert not np.shares_memory(gradient, prediction)
    assert not np.shares_memory(gradient, target)


OTHER_SHAPES = [((4, 1), (4,)), ((4,), (4, 1)), ((4, 1), (4, 1)), ((4,), (3,)), ((4,), (1,)), ((), ())]
OTHER_ROWS = [((4,), (4,)), ((4, 2), (4,)), ((4, 2), (1, 2)), ((4, 2, 1), (4, 2, 1)), ((0, 2), (0, 2)), ((), ())]


@pytest.mark.parametrize(
    ("loss", "prediction", "target"),
    [
        *((loss, *shapes) for loss in LOSSES.values() for shapes in OTHER_SHAPES),
        *((loss, *shapes) for loss in ROW_LOSSES.values() for shapes in OTHER_ROWS),
    ],
)
def test_losses_refuse_wrong_shapes(loss: Loss, prediction: tuple[int, ...], target: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        loss(np.zeros(prediction), np.zeros(target))
    assert str(list(prediction)) in str(caught.value)
    assert str(list(target)) in str(caught.value)


def test_only_quantile_loss_allows_different_numbers_of_predictions_and_targets() -> None:
    with pytest.raises(ShapeError, match=r"\[2, 3\] and \[2, 1\]"):
        cross_entropy(np.zeros((2, 3)), np.ones((2, 1)))
    assert quantile_huber(np.zeros((2, 3)), np.ones((2, 1)))[1].shape == (2, 3)


@every_loss
def test_losses_refuse_integers_and_mixed_dtypes(loss: Loss, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="float32 and float64"):
        loss(np.zeros(shape, np.float32), np.zeros(shape))
    with pytest.raises(ShapeError, match="int64"):
        loss(np.zeros(shape, np.int64), np.zeros(shape, np.int64))
