"""A trained policy as plain data: the entries of an observation, and the layers that compute the Q-values.

Every export target is written from this data. All linear steps after the last activation (the last dense layer, the
dueling streams, the mean over quantiles and all scales) are one dense layer here. Without this, an agent with 25
quantiles per action would need 25 times as many weights in its last layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from perilune import envs
from perilune._utils.arrays import Array
from perilune.agent.dqn import Agent
from perilune.agent.heads import Categorical, Quantile
from perilune.envs.adapter import space_parts
from perilune.envs.known import lookup
from perilune.errors import ExportError
from perilune.nn.base import Activation
from perilune.nn.layers import Dueling, LayerNorm, NoisyDense, Scale, Tanh
from perilune.nn.network import Dense, Network, ReLU


@dataclass(frozen=True)
class Entry:
    """One number of an observation, as the environment returns it.

    Attributes:
        name: its name.
        low: its smallest value. -inf if there is no limit.
        high: its largest value. inf if there is no limit.
        categories: number of values of a category, which the policy encodes as one-hot. 0 for other numbers.
        start: the smallest category.
    """

    name: str
    low: float
    high: float
    categories: int = 0
    start: int = 0


@dataclass(frozen=True)
class Block:
    """One dense layer with what follows it: y = activation(normalize(x W + b)).

    normalize(u) = gain (u - mean(u)) / sqrt(variance(u) + 1e-5) + shift, or u if ``gain`` is None.

    Attributes:
        weight: W, float32 [I, H].
        bias: b, float32 [H].
        gain: float32 [H], or None.
        shift: float32 [H], or None.
        activation: the activation.
    """

    weight: Array
    bias: Array
    gain: Array | None
    shift: Array | None
    activation: Activation


@dataclass(frozen=True)
class Policy:
    """A trained policy.

    Attributes:
        environment: ID of the environment.
        entries: the N numbers of an observation, in order.
        actions: a name for each of the A actions.
        first_action: the smallest action. The others follow.
        blocks: the layers. The last block has A outputs, or A K if there is a ``support``.
        support: for C51, the K returns whose probabilities are the softmax of the outputs of each action; else None.
        sha256: SHA-256 of the weights of the agent's policy network, float32, before they were combined here. Empty if
            the policy does not come from an agent.
    """

    environment: str
    entries: tuple[Entry, ...]
    actions: tuple[str, ...]
    first_action: int
    blocks: tuple[Block, ...]
    support: Array | None
    sha256: str = ""

    @property
    def inputs(self) -> int:
        """O, the size of an encoded observation."""
        return sum(entry.categories or 1 for entry in self.entries)

    @property
    def has_categories(self) -> bool:
        """Whether the policy encodes some numbers of an observation as one-hot."""
        return any(entry.categories for entry in self.entries)

    @property
    def parameters(self) -> int:
        """Number of weights, including biases and the parameters of normalization."""
        arrays = [array for block in self.blocks for array in (block.weight, block.bias, block.gain, block.shift)]
        return sum(array.size for array in arrays if array is not None)


def from_agent(agent: Agent, env: envs.Env) -> Policy:
    """Return the greedy policy of an agent.

    Args:
        agent: the agent.
        env: its environment, with flattened observations.

    Raises:
        ExportError: the noise of the network is active, or its weights are not finite.
    """
    sizes, known = envs.space_sizes(env), lookup(envs.name(env))
    if agent.config.noisy:
        agent.policy_network.silence()  # as in Agent.q_values
    blocks, support = network_blocks(agent)
    return Policy(
        environment=envs.name(env),
        entries=observation_entries(env),
        actions=known.action_names(agent.actions),
        first_action=sizes.first_action,
        blocks=blocks,
        support=support,
        sha256=hashlib.sha256(agent.policy_network.parameters.tobytes()).hexdigest(),
    )


def network_blocks(agent: Agent) -> tuple[tuple[Block, ...], Array | None]:
    """Return the blocks from an encoded observation to the Q-values of an agent, and the support of C51 or None.

    Args:
        agent: the agent. Its reward scale and the mean over its quantiles become part of the last block.

    Raises:
        ExportError: the noise of the network is active, or its weights are not finite.
    """
    network, head = agent.policy_network, agent.head
    if any(array.any() for arrays in network.noise for array in arrays.values()):
        raise ExportError("the network cannot be exported: its noise is active. Call network.silence() first.")
    if not np.isfinite(network.parameters).all():
        raise ExportError("the network cannot be exported: some of its weights are not finite.")
    blocks, weight, bias = _fold(network)
    support = None
    if isinstance(head, Categorical):
        support = (head.support * agent.reward_scale).astype(np.float32)
    else:
        outputs = head.shape[0] if isinstance(head, Quantile) else 1
        mean = np.kron(np.eye(agent.actions), np.full((outputs, 1), agent.reward_scale / outputs))
        weight, bias = weight @ mean, bias @ mean
    return (*blocks, _block(weight, bias)), support


def _fold(network: Network) -> tuple[list[Block], Array, Array]:
    """Return the blocks of a network up to its last activation, and the linear rest as W and b, float64."""
    blocks: list[Block] = []
    weight, bias = np.eye(network.inputs), np.zeros(network.inputs)
    named = network.named_parameters()
    gain: Array | None = None
    shift: Array | None = None

    def close(activation: Activation) -> None:
        nonlocal weight, bias, gain, shift
        blocks.append(_block(weight, bias, gain, shift, activation))
        weight, bias, gain, shift = np.eye(weight.shape[1]), np.zeros(weight.shape[1]), None, None

    for index, layer in enumerate(network.layers):
        found = {
            name.rpartition(".")[2]: value.astype(np.float64)
            for name, value in named.items()
            if name.startswith(f"{index}.")
        }
        if gain is not None and not isinstance(layer, ReLU | Tanh):
            close("linear")
        match layer:
            case Dense() | NoisyDense():
                weight, bias = weight @ found["weight"], bias @ found["weight"] + found["bias"]
            case Scale():
                weight, bias = weight * layer.factor, bias * layer.factor
            case Dueling():
                combine = _dueling(layer)
                weight, bias = weight @ combine, bias @ combine
            case LayerNorm():
                gain, shift = found["gain"], found["bias"]
            case ReLU() | Tanh():
                close("relu" if isinstance(layer, ReLU) else "tanh")
            case _:
                raise ExportError(f"the layer {type(layer).__name__} cannot be exported.")
    return blocks, weight, bias


def _dueling(layer: Dueling) -> Array:
    """Return the matrix of a dueling layer, float64 [(1 + A) K, A K]: y_a = v + u_a - mean over actions of u."""
    actions = layer.actions
    return np.kron(np.vstack([np.ones(actions), np.eye(actions) - 1 / actions]), np.eye(layer.atoms))


def _block(
    weight: Array,
    bias: Array,
    gain: Array | None = None,
    shift: Array | None = None,
    activation: Activation = "linear",
) -> Block:
    arrays = (None if each is None else each.astype(np.float32) for each in (weight, bias, gain, shift))
    kept_weight, kept_bias, kept_gain, kept_shift = arrays
    assert kept_weight is not None
    assert kept_bias is not None
    return Block(kept_weight, kept_bias, kept_gain, kept_shift, activation)


def observation_entries(env: envs.Env) -> tuple[Entry, ...]:
    """Return the numbers of an observation as the environment returns it, in the order of its flattened observation.

    Args:
        env: the environment, with flattened observations.
    """
    space = env.env.observation_space if isinstance(env, gym.wrappers.FlattenObservation) else env.observation_space
    entries = [entry for part, path in space_parts(space) for entry in _entries(part, path)]
    names = lookup(envs.name(env)).observations
    if len(names) != len(entries):
        return tuple(entries)
    return tuple(
        Entry(name, entry.low, entry.high, entry.categories, entry.start)
        for name, entry in zip(names, entries, strict=True)
    )


def _entries(space: spaces.Space[Any], path: Sequence[Any]) -> list[Entry]:
    """Return the entries of one part of an observation space."""
    name = "obs" + "".join(f"[{key!r}]" for key in path)

    def named(index: int, count: int) -> str:
        return name if count == 1 else f"{name}[{index}]"

    match space:
        case spaces.Discrete():
            return [_category(name, int(space.n), int(space.start))]
        case spaces.MultiDiscrete():
            sizes, starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
            pairs = enumerate(zip(sizes, starts, strict=True))
            return [_category(named(i, len(sizes)), size, start) for i, (size, start) in pairs]
        case spaces.Box():
            lows, highs = np.ravel(space.low).tolist(), np.ravel(space.high).tolist()
            pairs = enumerate(zip(lows, highs, strict=True))
            return [Entry(named(i, len(lows)), low + 0.0, high + 0.0) for i, (low, high) in pairs]  # not -0.0
        case _:  # MultiBinary
            count = spaces.flatdim(space)
            return [Entry(named(i, count), 0.0, 1.0) for i in range(count)]


def _category(name: str, count: int, start: int) -> Entry:
    return Entry(name, float(start), float(start + count - 1), count, start)


@dataclass(frozen=True)
class Encoding:
    """How the policy encodes an observation x[N]: e_i = x[index_i], or 1 if x[index_i] = value_i, else 0 (one-hot).

    Attributes:
        index: int64 [O].
        value: float32 [O]. Meaningless where ``one_hot`` is False.
        one_hot: bool [O].
        categories: number of entries of x that are categories.
    """

    index: Array
    value: Array
    one_hot: Array
    categories: int


def encoding(entries: Sequence[Entry]) -> Encoding:
    """Return the encoding of an observation.

    Args:
        entries: the numbers of an observation.
    """
    counts = [entry.categories or 1 for entry in entries]
    one_hot = np.array([entry.categories > 0 for entry in entries])
    value = [np.arange(count, dtype=np.float32) + entry.start for count, entry in zip(counts, entries, strict=True)]
    return Encoding(
        np.repeat(np.arange(len(entries)), counts),
        np.concatenate(value),
        np.repeat(one_hot, counts),
        int(one_hot.sum()),
    )


def unencoded(entries: Sequence[Entry], rows: Array) -> Array:
    """Return observations as the environment returns them, float32 [B, N].

    Args:
        entries: the numbers of an observation.
        rows: flattened observations, float [B, O].
    """
    code = encoding(entries)
    given = np.zeros((len(rows), len(entries)), np.float32)
    columns = np.where(code.one_hot, rows * code.value, rows)
    for column, index in enumerate(code.index):
        given[:, index] += columns[:, column]
    return given


def q_values(policy: Policy, obs: Array, dtype: type[np.float32] | type[np.float64] = np.float32) -> Array:
    """Return Q(obs, a), float [B, A]. All are NaN if an observation is not finite or has an unknown category.

    Args:
        policy: the policy.
        obs: observations as the environment returns them, float [B, N].
        dtype: dtype of the computation.
    """
    code = encoding(policy.entries)
    x = np.asarray(obs, dtype)[:, code.index]
    valid = np.isfinite(x).all(axis=1)
    matches = code.one_hot & (x == code.value)
    valid &= matches.sum(axis=1) == code.categories
    x = np.where(valid[:, None], np.where(code.one_hot, matches, x), 0).astype(dtype)
    for block in policy.blocks:
        x = x @ block.weight.astype(dtype) + block.bias.astype(dtype)
        if block.gain is not None and block.shift is not None:
            x = x - x.mean(axis=1, keepdims=True)
            x = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + dtype(LayerNorm.epsilon))
            x = x * block.gain.astype(dtype) + block.shift.astype(dtype)
        if block.activation != "linear":
            x = np.tanh(x) if block.activation == "tanh" else np.maximum(x, 0)
    if policy.support is not None:
        x = x.reshape(len(x), -1, len(policy.support))
        x = np.exp(x - x.max(axis=2, keepdims=True))
        x = (x / x.sum(axis=2, keepdims=True)) @ policy.support.astype(dtype)
    return np.where(valid[:, None], x, dtype(np.nan))
