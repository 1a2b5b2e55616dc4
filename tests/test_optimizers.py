"""Optimizers compared with PyTorch and closed forms, and gradient clipping."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from perilune._utils.arrays import Array
from perilune.nn import SGD, Adam, AdamW, RMSProp, clip_by_global_norm
from perilune.nn.base import Optimizer

pytestmark = pytest.mark.usefixtures("backend")
LITERALS = json.loads((Path(__file__).parent / "oracles" / "literals.json").read_text(encoding="utf-8"))["optimizers"]
MAKERS: dict[str, Callable[..., Optimizer]] = {"sgd": SGD, "rmsprop": RMSProp, "adam": Adam, "adamw": AdamW}


def walk(optimizer: Optimizer, start: list[float], gradients: object, rates: list[float], dtype: DTypeLike) -> Array:
    """Return the parameters after every step, [steps, P]. The gradients are read-only."""
    parameters = np.array(start, dtype)
    given_gradients = np.array(gradients, dtype)
    given_gradients.setflags(write=False)
    after = []
    for gradient, rate in zip(given_gradients, rates, strict=True):
        optimizer.step(parameters, gradient, rate)
        after.append(parameters.copy())
    return np.array(after)


def walk_literal(case: str, dtype: DTypeLike) -> Array:
    options: dict[str, Any] = LITERALS["cases"][case]["options"]
    optimizer = MAKERS[case.partition("_")[0]](len(LITERALS["start"]), dtype, **options)
    return walk(optimizer, LITERALS["start"], LITERALS["gradients"], LITERALS["learning_rates"], dtype)


@pytest.mark.parametrize("case", list(LITERALS["cases"]))
def test_fourteen_steps_match_pytorch_in_float64(case: str) -> None:
    expected = np.array(LITERALS["cases"][case]["after"])
    assert len(expected) == 14
    np.testing.assert_allclose(walk_literal(case, np.float64), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("case", list(LITERALS["cases"]))
def test_fourteen_steps_match_pytorch_in_float32(case: str) -> None:
    expected = np.array(LITERALS["cases"][case]["after"])
    after = walk_literal(case, np.float32)
    assert after.dtype == np.float32
    largest = np.abs(expected).max(axis=0)  # rounding is relative to the largest value of each parameter
    assert (np.abs(after - expected) <= 2e-6 * largest).all()


def test_reference_values_distinguish_large_epsilon() -> None:
    # If these were equal within the tolerance, the cases with a large epsilon would test nothing.
    cases = {name: np.array(case["after"]) for name, case in LITERALS["cases"].items()}
    for name in ("adam", "rmsprop"):
        assert (np.abs(cases[name] - cases[f"{name}_large_epsilon"])[-1] > 1e-3).sum() >= 4


# In closed form


def test_momentum_matches_hand_computation() -> None:
    # v = 1, 3/2, 7/4, then 7/8 - 2 = -9/8 against the new gradient.
    after = walk(SGD(1, np.float64, momentum=0.5), [0.0], [[1], [1], [1], [-2]], [1.0] * 4, np.float64)
    np.testing.assert_array_equal(after[:, 0], [-1, -2.5, -4.25, -3.125])


def test_rmsprop_adds_epsilon_to_the_root() -> None:
    # v = 4/4 = 1, then 3/4 + 9.25/4 = 49/16: the roots are 1 and 7/4.
    gradient = math.sqrt(9.25)
    after = walk(RMSProp(1, np.float64, rho=0.75, epsilon=0.25), [0.0], [[2], [gradient]], [1.0, 1.0], np.float64)
    np.testing.assert_allclose(after[:, 0], [-2 / 1.25, -2 / 1.25 - gradient / 2], rtol=1e-14)


@settings(deadline=None)
@given(
    gradient=st.floats(-1e3, 1e3).filter(lambda g: abs(g) > 1e-6),
    beta1=st.floats(0.0, 0.99),
    beta2=st.floats(0.0, 0.9999),
    epsilon=st.floats(1e-10, 10.0),
    steps=st.integers(1, 30),
)
def test_constant_gradient_gives_constant_adam_step(
    gradient: float, beta1: float, beta2: float, epsilon: float, steps: int
) -> None:
    # Both corrected moments are then g and g^2 from the first step, for any betas. Each of these faults changes the
    # result: a step counter that is off by one, a missing correction, or an epsilon inside the root or before the
    # correction.
    adam = Adam(1, np.float64, beta1, beta2, epsilon)
    after = walk(adam, [0.0], [[gradient]] * steps, [1.0] * steps, np.float64)
    step = gradient / (abs(gradient) + epsilon)
    np.testing.assert_allclose(after[:, 0], -step * np.arange(1, steps + 1), rtol=1e-9)


def test_adam_and_adamw_use_defaults_of_papers() -> None:
    adam, adamw = Adam(1), AdamW(1)
    assert (adam.beta1, adam.beta2, adam.epsilon) == (0.9, 0.999, 1e-8)
    assert adamw.weight_decay == 0.01


# All optimizers


@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_zero_gradient_changes_no_parameter(maker: Callable[..., Optimizer]) -> None:
    options = {"weight_decay": 0.0} if maker is AdamW else {}
    after = walk(maker(3, **options), [1.0, -2.0, 0.0], np.zeros((4, 3)), [0.1] * 4, np.float32)
    np.testing.assert_array_equal(after, np.tile(np.array([1.0, -2.0, 0.0], np.float32), (4, 1)))


@pytest.mark.parametrize("rate", [1e-3, np.float64(1e-3)], ids=["float", "np.float64"])
@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)
def test_optimizer_steps_in_place_in_float32(maker: Callable[..., Optimizer], rate: float) -> None:
    optimizer = maker(4)
    parameters = np.ones(4, np.float32)
    view, states = parameters[1:3], dict(optimizer.arrays)
    assert optimizer.updates == 0
    for count in (1, 2, 3):
        optimizer.step(parameters, np.full(4, 0.5, np.float32), rate)
        assert optimizer.updates == count
    assert parameters.dtype == np.float32
    assert (view < 1).all()
    for name, state in optimizer.arrays.items():
        assert state is states[name]
        assert state.dtype == np.float32
        assert state.all()


@pytest.mark.parametrize("maker", [SGD, RMSProp, Adam])
def test_optimizer_continues_from_copied_arrays_and_update_count(maker: type[SGD | RMSProp | Adam]) -> None:
    generator = np.random.default_rng(3)
    first, second = maker(5), maker(5)
    parameters = generator.normal(size=5).astype(np.float32)
    for gradient in generator.normal(size=(6, 5)).astype(np.float32):
        first.step(parameters, gradient, 0.01)
    for name, state in first.arrays.items():
        second.arrays[name][:] = state
    second.updates = first.updates
    restored = parameters.copy()
    for gradient in generator.normal(size=(6, 5)).astype(np.float32):
        first.step(parameters, gradient, 0.01)
        second.step(restored, gradient, 0.01)
    np.testing.assert_array_equal(restored, parameters)


# Clipping


def test_clipping_matches_hand_computation() -> None:
    gradients = np.array([3.0, -4.0])
    assert clip_by_global_norm(gradients, 1.0) == 5.0
    np.testing.assert_allclose(gradients, [0.6, -0.8], rtol=1e-15)


@pytest.mark.parametrize("max_norm", [5.0, 5.1, 1e9, math.inf])
def test_clipping_leaves_small_gradients_unchanged(max_norm: float) -> None:
    gradients = np.array([3.0, -4.0])
    gradients.setflags(write=False)
    assert clip_by_global_norm(gradients, max_norm) == 5.0


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30), st.floats(1e-3, 1e3))
def test_clipping_keeps_direction_and_returns_norm(values: list[float], max_norm: float) -> None:
    gradients = np.array(values)
    norm = clip_by_global_norm(gradients, max_norm)
    assert norm == pytest.approx(math.hypot(*values), rel=1e-12, abs=1e-150)
    assert math.hypot(*gradients) == pytest.approx(min(norm, max_norm), rel=1e-12, abs=1e-150)
    np.testing.assert_allclose(gradients * norm, np.array(values) * min(norm, max_norm), rtol=1e-9, atol=1e-150)


@pytest.mark.parametrize(("size", "dtype"), [(1e20, "f4"), (1e-30, "f4"), (1e200, "f8"), (1e-200, "f8")])
def test_norms_whose_squares_are_not_representable(size: float, dtype: str) -> None:
    gradients = np.array([3 * size, -4 * size], dtype)
    assert clip_by_global_norm(gradients, size) == pytest.approx(5 * size, rel=1e-6)
    np.testing.assert_allclose(gradients, [0.6 * size, -0.8 * size], rtol=1e-6)


def test_clipping_nan_gradient_returns_nan() -> None:
    assert math.isnan(clip_by_global_norm(np.array([1.0, math.nan]), 1.0))
