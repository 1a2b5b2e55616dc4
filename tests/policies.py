"""Random agents of every architecture, with their environments, for tests of exports."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from hypothesis import strategies as st

from perilune import envs
from perilune._utils.arrays import Array
from perilune.agent.config import DQNConfig
from perilune.agent.dqn import Agent
from perilune.export.policy import Policy, encoding
from perilune.nn.network import Network

SPACES: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(-np.inf, np.inf, (3,), np.float32),
    "discrete": spaces.Discrete(7, start=-2),
    "tuple": spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32), spaces.MultiDiscrete([2, 4]))),
    "dict": spaces.Dict({"on": spaces.MultiBinary(2), "at": spaces.Discrete(4, start=1)}),
}


class Sampled(gym.Env[Any, int]):
    """An environment with any observation space, whose observations are drawn from it."""

    def __init__(self, space: spaces.Space[Any], actions: int, first_action: int = 0) -> None:
        self.observation_space = space
        self.action_space = spaces.Discrete(actions, start=first_action)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.observation_space.sample(), 1.0, self.steps == 20, False, {}


@st.composite
def agents(draw: st.DrawFn) -> tuple[Agent, envs.Env]:
    """Return an agent with random settings and weights, and its environment with flattened observations."""
    space = SPACES[draw(st.sampled_from(sorted(SPACES)))]
    actions = draw(st.integers(1, 4))
    env = envs.flattened(Sampled(space, actions, draw(st.sampled_from([0, -3, 5]))))
    size = envs.space_sizes(env).observation_size
    layer = st.tuples(st.integers(1, 9), st.sampled_from(["relu", "tanh", "linear"]))
    settings: dict[str, Any] = {
        "hidden": draw(st.lists(layer, min_size=1, max_size=3).map(tuple)),
        "layer_norm": draw(st.booleans()),
        "dueling": draw(st.booleans()),
        "noisy": draw(st.booleans()),
        "output_scale": draw(st.sampled_from([1.0, 10.0])),
        "reward_scale": draw(st.sampled_from([1.0, 30.0])),
        "observation_scale": draw(st.sampled_from([None, tuple(np.linspace(0.5, 20, size).tolist())])),
        "ema_decay": draw(st.sampled_from([None, 0.99])),
    }
    match draw(st.sampled_from(["expected", "qr", "c51"])):
        case "qr":
            settings |= {"head": "qr", "quantiles": draw(st.integers(1, 5))}
        case "c51":
            settings |= {"head": "c51", "atoms": draw(st.integers(2, 5)), "value_range": (-10.0, 30.0)}
    agent = Agent(size, actions, DQNConfig(**settings), seed=draw(st.integers(0, 100)))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    agent.policy_network.parameters[:] = generator.normal(0, 1, agent.policy_network.parameters.shape)
    return agent, env


def observations(policy: Policy, count: int, seed: int = 0) -> tuple[Array, Array]:
    """Return observations flattened [count, O] and as the environment returns them [count, N].

    Numbers without limits are random, zero, tiny, denormal or as large as 1e6.
    """
    generator = np.random.default_rng(seed)
    raw = np.empty((count, len(policy.entries)), np.float32)
    for column, entry in enumerate(policy.entries):
        if entry.categories:
            raw[:, column] = generator.integers(entry.start, entry.start + entry.categories, count)
        elif np.isfinite(entry.high):
            raw[:, column] = generator.uniform(entry.low, entry.high, count).round(generator.integers(0, 2))
        else:
            scale = generator.choice([0, 1e-40, 1e-3, 1, 1e3, 1e6], count)
            raw[:, column] = generator.normal(0, 1, count).clip(-1, 1) * scale
    flat = []
    for row in raw:
        parts = [
            np.arange(entry.start, entry.start + entry.categories) == value if entry.categories else [value]
            for entry, value in zip(policy.entries, row, strict=True)
        ]
        flat.append(np.concatenate(parts))
    return np.array(flat, np.float32), raw


def invalid_observations(policy: Policy, row: Array) -> Array:
    """Return copies of an observation [N] with one number that is not finite, or one category that does not exist."""
    rows = []
    for column, entry in enumerate(policy.entries):
        wrong = [np.nan, np.inf, -np.inf]
        if entry.categories:
            wrong += [entry.start - 1, entry.start + entry.categories, entry.start + 0.5]
        for value in wrong:
            rows.append(row.copy())
            rows[-1][column] = value
    return np.array(rows, np.float32)


def rounding_errors(policy: Policy, raw: Array) -> Array:
    """Return an estimate of the rounding errors of Q(obs, a) in float32, [B]. It is large where terms cancel.

    Errors are treated as independent: a layer turns the errors e of its input into sqrt(sum of (W e)^2), and a sum of
    n terms adds sqrt(n) 2^-24 of the root of the sum of their squares.
    """
    code = encoding(policy.entries)
    x = raw.astype(np.float64)[:, code.index]
    x = np.where(code.one_hot, x == code.value, x)
    square = np.zeros_like(x)  # of the error
    unit = 2.0**-24
    for block in policy.blocks:
        weight, bias = block.weight.astype(np.float64), block.bias.astype(np.float64)
        terms = np.square(x) @ np.square(weight) + np.square(bias)
        square = square @ np.square(weight) + (len(weight) + 2) * unit**2 * terms
        x = x @ weight + bias
        if block.gain is not None and block.shift is not None:
            square += square.mean(axis=1, keepdims=True) + unit**2 * np.square(x).sum(axis=1, keepdims=True)
            z = x - x.mean(axis=1, keepdims=True)
            variance = np.square(z).mean(axis=1, keepdims=True) + 1e-5
            z /= np.sqrt(variance)
            relative = square.mean(axis=1, keepdims=True) / variance + x.shape[1] * unit**2
            square = np.square(block.gain) * (square / variance + np.square(z) * relative)
            x = z * block.gain + block.shift
            square += unit**2 * (np.square(x) + np.square(block.shift))
        if block.activation != "linear":
            x = np.tanh(x) if block.activation == "tanh" else np.maximum(x, 0)
    worst: Array = np.sqrt(square.max(axis=1))
    if policy.support is not None:
        worst = np.expm1(np.minimum(2 * worst, 50)) * abs(policy.support).max()
    return worst


def exact_q_values(agent: Agent, flat: Array) -> Array:
    """Return Q(obs, a), computed by the layers of an agent in float64, [B, A]."""
    network = agent.policy_network
    network.silence()
    wide = Network(network.inputs, network.layers, np.float64)
    wide.parameters[:] = network.parameters
    outputs = wide.forward(flat.astype(np.float64)).reshape(len(flat), agent.actions, *agent.head.shape)
    return agent.head.mean(agent.head.read(outputs)) * agent.reward_scale


def check_agreement(policy: Policy, raw: Array, values: Array, action: Array, exact: Array) -> None:
    """Compare float32 Q-values and actions with the exact Q-values.

    The Q-values must agree within 1e-5 of the largest one (or of 1), unless ten times the expected rounding error is
    larger. The actions must be the same wherever the two best Q-values differ by more than twice that.
    """
    allowed = np.maximum(1e-5 * np.maximum(abs(exact).max(axis=1), 1), 10 * rounding_errors(policy, raw))
    assert (abs(values - exact).max(axis=1) <= allowed).all()
    best = np.sort(exact, axis=1)
    clear = np.ones(len(best), bool) if best.shape[1] == 1 else best[:, -1] - best[:, -2] > 2 * allowed
    assert (action == policy.first_action + exact.argmax(axis=1))[clear].all()
