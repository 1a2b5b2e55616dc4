"""Symmetries: mirroring a batch, invalid symmetries, and the real environments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perilune import envs
from perilune._utils.arrays import Array
from perilune.envs.known import ENVIRONMENTS
from perilune.errors import ConfigError, ShapeError
from perilune.replay.symmetry import Symmetry

SYMMETRIES = {name: known.symmetry for name, known in ENVIRONMENTS.items() if known.symmetry is not None}


# Mirroring a batch

SWAP = Symmetry(observation_index=(1, 0, 2), observation_sign=(1, 1, -1), action_index=(0, 2, 1))


def test_mirror_changes_rows_in_place() -> None:
    obs = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.float32)
    next_obs, action = -obs, np.array([0, 1, 2])
    SWAP.mirror(obs[::2], action[::2], next_obs[::2])
    assert obs.tolist() == [[2, 1, -3], [4, 5, 6], [8, 7, -9]]
    assert next_obs.tolist() == [[-2, -1, 3], [-4, -5, -6], [-8, -7, 9]]
    assert action.tolist() == [0, 1, 1]
    assert (obs.dtype, next_obs.dtype, action.dtype) == (np.float32, np.float32, np.int64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("env_id", SYMMETRIES)
@given(rows=st.integers(0, 9), seed=st.integers(0, 100))
@settings(max_examples=20)
def test_mirroring_twice_is_identity(env_id: str, dtype: type, rows: int, seed: int) -> None:
    symmetry, generator = SYMMETRIES[env_id], np.random.default_rng(seed)
    obs, next_obs = generator.normal(size=(2, 9, len(symmetry.observation_index))).astype(dtype)
    action = generator.integers(len(symmetry.action_index), size=9)
    arrays = obs.copy(), action.copy(), next_obs.copy()
    first = [array[:rows] for array in arrays]
    symmetry.mirror(*first)
    for array, before in zip(arrays, (obs, action, next_obs), strict=True):
        np.testing.assert_array_equal(array[rows:], before[rows:])
    assert not rows or not np.array_equal(arrays[0], obs)
    symmetry.mirror(*first)
    for array, before in zip(arrays, (obs, action, next_obs), strict=True):
        np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    ("obs", "action", "next_obs"),
    [
        ((4, 2), (4,), (4, 2)),
        ((4, 4), (4,), (4, 4)),
        ((4, 3), (4,), (4, 1)),
        ((4, 3), (4,), (3, 3)),
        ((3, 3), (4,), (3, 3)),
        ((4, 3), (4, 1), (4, 3)),
    ],
)
def test_mirror_refuses_wrong_shapes(obs: Sequence[int], action: Sequence[int], next_obs: Sequence[int]) -> None:
    with pytest.raises(ShapeError, match=r"obs\[B, 3\]"):
        SWAP.mirror(np.zeros(obs), np.zeros(action, np.int64), np.zeros(next_obs))


# Invalid symmetries


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("observation_index", (0, 0, 2), "each number from 0 to 2 once"),
        ("observation_index", (1, 2, 3), "each number from 0 to 2 once"),
        ("observation_index", (1, 2, 0), "its own inverse"),
        ("observation_index", (1, 0), "2 numbers"),
        ("observation_sign", (1, 1), "3 numbers, each 1 or -1"),
        ("observation_sign", (1, 1, 0), "3 numbers, each 1 or -1"),
        ("observation_sign", (1, 1, 0.5), "3 numbers, each 1 or -1"),
        ("observation_sign", (1, 1, math.nan), "each entry is a number"),
        ("observation_sign", (1, -1, 1), "its own inverse"),
        ("action_index", (0, 1, 1), "each number from 0 to 2 once"),
        ("action_index", (1, 2, 0), "its own inverse"),
    ],
)
def test_invalid_symmetry_is_refused(name: str, value: tuple[float, ...], allowed: str) -> None:
    changed: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=allowed) as caught:
        replace(SWAP, **changed)
    assert caught.value.name in (name, "observation_sign")  # which must be as long as observation_index


# Real environments


@pytest.mark.parametrize("env_id", ["LunarLander-v3", "CartPole-v1", "Acrobot-v1"])
def test_symmetry_sizes_match_environment(env_id: str) -> None:
    env = envs.make(env_id)
    sizes, symmetry = envs.space_sizes(env), SYMMETRIES[env_id]
    assert (len(symmetry.observation_index), len(symmetry.action_index)) == (sizes.observation_size, sizes.actions)
    env.close()


def image_of(symmetry: Symmetry, obs: Array, action: Array) -> tuple[Array, Array]:
    """Return the mirror images of obs[N, O] and action[N]."""
    obs, action = obs.copy(), action.copy()
    symmetry.mirror(obs, action, obs.copy())
    return obs, action


def step_from(env: envs.Env, obs: Array, action: int) -> Array:
    """Step the real CartPole or Acrobot from ``obs``. Return (next_obs, reward, terminated) as one array."""
    env.reset(seed=0)
    at: Any = env.unwrapped
    angles = [math.atan2(obs[1], obs[0]), math.atan2(obs[3], obs[2])]
    at.state = obs if len(obs) == 4 else np.array([*angles, *obs[4:]])
    next_obs, reward, terminated, _, _ = at.step(action)
    return np.array([*next_obs, reward, terminated])


def disagreement(env: envs.Env, symmetry: Symmetry, obs: Array, action: int) -> float:
    """Return the largest difference between the mirrored step and the step of the mirror image."""
    step = step_from(env, obs, action)
    (obs,), (image_action,) = image_of(symmetry, obs[None], np.array([action]))
    expected = np.append(image_of(symmetry, step[None, :-2], np.array([action]))[0], step[-2:])
    return float(np.abs(step_from(env, obs, int(image_action)) - expected).max())


def numbers(*largest: float) -> st.SearchStrategy[list[float]]:
    return st.tuples(*(st.floats(-most, most) for most in largest)).map(list)


def seen(first: float, second: float, *velocities: float) -> Array:
    """Return Acrobot's observation for two angles and their velocities."""
    return np.array([math.cos(first), math.sin(first), math.cos(second), math.sin(second), *velocities])


CART, ACROBOT = envs.make("CartPole-v1"), envs.make("Acrobot-v1")


@given(obs=numbers(2.5, 4, 0.25, 4), action=st.integers(0, 1))
def test_cart_pole_is_symmetric(obs: list[float], action: int) -> None:
    assert disagreement(CART, SYMMETRIES["CartPole-v1"], np.array(obs), action) < 1e-6


@given(state=numbers(math.pi, math.pi, 12, 28), action=st.integers(0, 2))
def test_acrobot_is_symmetric(state: list[float], action: int) -> None:
    assert disagreement(ACROBOT, SYMMETRIES["Acrobot-v1"], seen(*state), action) < 1e-4


@pytest.mark.parametrize(
    ("env_id", "wrong"),
    [
        ("CartPole-v1", {"action_index": (0, 1)}),
        ("CartPole-v1", {"observation_sign": (-1, -1, 1, 1)}),
        ("CartPole-v1", {"observation_sign": (-1, 1, -1, -1)}),
        ("Acrobot-v1", {"action_index": (0, 1, 2)}),
        ("Acrobot-v1", {"action_index": (1, 0, 2)}),
        ("Acrobot-v1", {"observation_sign": (-1, -1, 1, -1, -1, -1)}),
        ("Acrobot-v1", {"observation_sign": (1, -1, 1, -1, -1, 1)}),
    ],
    ids=str,
)
def test_wrong_symmetry_is_detected(env_id: str, wrong: dict[str, Any]) -> None:
    symmetry = replace(SYMMETRIES[env_id], **wrong)
    states = np.random.default_rng(0).uniform(-0.2, 0.2, (20, 4))
    if env_id == "CartPole-v1":
        worst = max(disagreement(CART, symmetry, state, action) for state in states for action in (0, 1))
    else:
        worst = max(disagreement(ACROBOT, symmetry, seen(*state), action) for state in states for action in (0, 1, 2))
    assert worst > 0.05


class Reflected(np.random.Generator):
    """A generator that returns the mirror image of what LunarLander would draw from the same seed.

    LunarLander draws 12 heights of the terrain, of which the last is next to both ends; then the initial force along
    x and y; then in every step the noise of an engine, along the body and across it.
    """

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        drawn = super().uniform(low, high, size)
        if size is not None:
            self.drawn = 0
            return np.append(drawn[-2::-1], drawn[-1])
        self.drawn += 1
        across = self.drawn == 1 or (self.drawn > 2 and self.drawn % 2 == 0)
        return -drawn if across else drawn


class Played(NamedTuple):
    """An episode: obs[N, 8], the first before any action, action[N - 1] and reward[N - 1]."""

    obs: Array
    action: Array
    reward: Array


def play(env: envs.Env, generator: np.random.Generator, actions: Array) -> Played:
    """Play an episode of LunarLander with all randomness from ``generator``."""
    env.unwrapped.np_random = generator
    observations, rewards = [env.reset()[0]], []
    for action in actions:
        next_obs, reward, terminated, *_ = env.step(int(action))
        observations.append(next_obs)
        rewards.append(float(reward))
        if terminated:
            break
    return Played(np.array(observations), actions[: len(rewards)], np.array(rewards))


class Gaps(NamedTuple):
    """Largest differences, in the air, between mirrored episodes and episodes of the mirror image."""

    obs: float
    reward: float
    legs: float
    """Fraction of the steps on one leg in which the lander of the mirrored episode stands on the other leg."""


def gaps(symmetry: Symmetry) -> Gaps:
    env = envs.make("LunarLander-v3")
    of_obs, of_reward, same_legs = [], [], []
    for seed in range(12):
        actions = np.random.default_rng(seed).integers(4, size=500)
        _, image_actions = image_of(symmetry, np.zeros((500, 8)), actions)
        one = play(env, np.random.Generator(np.random.PCG64(seed)), actions)
        other = play(env, Reflected(np.random.PCG64(seed)), image_actions)
        steps = min(len(one.reward), len(other.reward))
        expected, _ = image_of(symmetry, one.obs[:steps], one.action[:steps])
        found = other.obs[:steps]
        landed = (expected[:, 6:] + found[:, 6:]).any(axis=1)
        air = int(landed.argmax()) if landed.any() else steps
        of_obs.append(np.abs(found - expected)[:air].max())
        of_reward.append(np.abs(one.reward[: air - 1] - other.reward[: air - 1]).max())
        on_one_leg = expected[:, 6] != expected[:, 7]
        same_legs += (expected[:, 6:] == found[:, 6:]).all(axis=1)[on_one_leg].tolist()
    env.close()
    assert len(same_legs) >= 10
    return Gaps(float(max(of_obs)), float(max(of_reward)), float(np.mean(same_legs)))


def test_lander_is_symmetric() -> None:
    # Equal up to rounding, which grows over a hundred steps in single precision and at the impact.
    found = gaps(SYMMETRIES["LunarLander-v3"])
    assert found.obs < 0.002
    assert found.reward < 0.1
    assert found.legs > 0.8


@pytest.mark.parametrize("at", range(6))
def test_lander_symmetry_with_wrong_sign_is_detected(at: int) -> None:
    right = SYMMETRIES["LunarLander-v3"]
    sign = tuple(-sign if i == at else sign for i, sign in enumerate(right.observation_sign))
    assert gaps(replace(right, observation_sign=sign)).obs > 0.5


@pytest.mark.parametrize("action_index", [(0, 1, 2, 3), (0, 2, 1, 3), (3, 1, 2, 0)])
def test_lander_symmetry_needs_swapped_engines(action_index: tuple[int, ...]) -> None:
    assert gaps(replace(SYMMETRIES["LunarLander-v3"], action_index=action_index)).obs > 0.5
