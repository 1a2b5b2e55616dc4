"""Compute the data for maps from a run's weights, snapshots and replay buffer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array, Arrays
from perilune.agent.dqn import Agent
from perilune.errors import DivergenceError, FileFormatError, RunDirectoryError
from perilune.nn.layers import NoisyDense, Scale, Tanh
from perilune.nn.network import Dense, ReLU
from perilune.replay.buffer import Batch
from perilune.runs import checkpoint, layout, snapshots
from perilune.runs.weights import load_weights

STATES, TRANSITIONS = 4_096, 1_024  # sample sizes from the replay buffer: for unit outputs, and for gradients
GRID = 96  # cells of a map along each axis
EXTENT = (0.5, 99.5)  # percentiles of the visited states that a map spans
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles of a distribution
SATURATED = 0.99  # a unit is saturated if |tanh| is above this


def replay(directory: Path) -> tuple[Batch, int, tuple[int, int]]:
    """Read the replay buffer in a run's newest checkpoint.

    Args:
        directory: The run directory.

    Returns:
        The transitions, oldest first; the number of earlier transitions that were overwritten; and a pair of the
        observation size and the number of actions.

    Raises:
        RunDirectoryError: There is no run, or it has no checkpoint.
        FileFormatError: The checkpoint is damaged, or its buffer is empty.
    """
    if not checkpoint.paths(directory):
        raise RunDirectoryError(f"{directory} has no checkpoint")
    _, agent = checkpoint.latest(directory)
    buffer = agent.replay
    if not len(buffer):
        raise FileFormatError(f"the newest checkpoint of {directory} has an empty replay buffer")
    order = np.arange(buffer.added - len(buffer), buffer.added) % buffer.capacity
    transitions = Batch(*(array[order] for array in buffer.arrays))
    return transitions, buffer.added - len(buffer), (agent.observation_size, agent.actions)


def best_agent(directory: Path, sizes: tuple[int, int]) -> Agent:
    """Return an agent with the best weights, else the final weights, else the newest snapshot's weights.

    Args:
        directory: The run directory.
        sizes: Observation size and number of actions that the agent must have.

    Raises:
        RunDirectoryError: The run has no weights yet.
        FileFormatError: The weights are damaged, or belong to an agent of another size.
    """
    for path in (*(directory / name for name in layout.WEIGHTS.values()), *reversed(snapshots.paths(directory))):
        if path.exists():
            return load_agent(path, sizes)
    raise RunDirectoryError(f"{directory} has no weights yet")


def load_agent(path: Path, sizes: tuple[int, int] | None = None) -> Agent:
    """Return the agent that a weights file contains.

    Args:
        path: The file.
        sizes: Observation size and number of actions that the agent must have; by default they are not checked.

    Raises:
        FileFormatError: The file is damaged, or belongs to an agent of another size.
    """
    agent, _ = load_weights(path)
    if sizes not in (None, (agent.observation_size, agent.actions)):
        raise FileFormatError(f"{path} belongs to an agent with another observation size or number of actions")
    return agent


def spread(count: int, most: int) -> Array:
    """Return evenly spaced indices of items, int64.

    Args:
        count: Number of items.
        most: Maximum number of indices.
    """
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)


def spread_out(batch: Batch, most: int) -> Batch:
    """Return evenly spaced transitions.

    Args:
        batch: Transitions to choose from.
        most: Maximum number of transitions to return.
    """
    index = spread(len(batch.action), most)
    return Batch(*(array[index] for array in batch))


def _edges(values: Array, cells: int) -> Array:
    """Return the edges [cells + 1] of equal cells that span most of ``values`` [N]."""
    low, high = np.percentile(values.astype(np.float64), EXTENT)
    margin = 0.05 * (high - low) or 0.5  # so that the range of a constant entry is not empty
    return np.linspace(low - margin, high + margin, cells + 1)


def value_map(agent: Agent, visited: Array, x: int, y: int) -> tuple[Array, Array, Array, Array]:
    """Return the Q-values over a grid of two observation entries, with all other entries at their medians.

    Args:
        agent: The agent. Its ``policy_network`` computes the Q-values.
        visited: Visited states, [N, O]. They determine the extent of the grid and the medians.
        x: Index of the entry on the horizontal axis.
        y: Index of the entry on the vertical axis.

    Returns:
        Edges of the cells along x and along y, [GRID + 1] each; Q-values, [GRID, GRID, A], with rows along y; and
        whether a state near the cell was visited, bool [GRID, GRID]. Elsewhere the network extrapolates.
    """
    x_edges, y_edges = _edges(visited[:, x], GRID), _edges(visited[:, y], GRID)
    obs = np.tile(np.median(visited, axis=0), (GRID * GRID, 1))
    across, along = np.meshgrid((x_edges[1:] + x_edges[:-1]) / 2, (y_edges[1:] + y_edges[:-1]) / 2)
    obs[:, x], obs[:, y] = across.ravel(), along.ravel()
    q = agent.q_values(obs).reshape(GRID, GRID, agent.actions)
    coarse = next((cells for cells in (48, 24) if cells * cells <= len(visited)), 12)
    step = GRID // coarse
    counts, _, _ = np.histogram2d(visited[:, y], visited[:, x], (y_edges[::step], x_edges[::step]))
    around = np.lib.stride_tricks.sliding_window_view(np.pad(counts, 1), (3, 3))
    seen = np.kron(around.any(axis=(2, 3)), np.ones((step, step), bool))
    return x_edges, y_edges, q, seen


def visits(obs: Array, x: int, y: int, cells: int = 48) -> tuple[Array, Array, Array, Array]:
    """Return how often each cell of a grid over two observation entries was visited, early and late in the run.

    Args:
        obs: States, [N, O], oldest first.
        x: Index of the entry on the horizontal axis.
        y: Index of the entry on the vertical axis.
        cells: Number of cells along each axis.

    Returns:
        Edges along x and along y, [cells + 1] each, and the share of the states in each cell, [y, x], in the first
        third and in the last third of the states.
    """
    x_edges, y_edges = _edges(obs[:, x], cells), _edges(obs[:, y], cells)
    third = max(1, len(obs) // 3)
    early, late = (
        np.histogram2d(part[:, y], part[:, x], (y_edges, x_edges))[0] / len(part)
        for part in (obs[:third], obs[-third:])
    )
    return x_edges, y_edges, early, late


class Units(NamedTuple):
    """Outputs of a hidden layer for N states.

    Attributes:
        activation: "relu", "tanh" or "linear".
        outputs: Outputs of the U units, [N, U].
        dead: Whether a ReLU unit is 0 in all states, or a unit with another activation is constant, [U].
        always: Whether a ReLU unit is above 0, or a tanh unit is saturated, in all states, [U].
    """

    activation: str
    outputs: Array
    dead: Array
    always: Array


def units(agent: Agent, obs: Array) -> list[Units]:
    """Return the outputs of the units in each hidden layer of the online network.

    Args:
        agent: The agent.
        obs: States, [N, O].

    Returns:
        One record per hidden layer, from input to output.
    """
    network = agent.online
    network.silence()
    hidden = []
    for (layer, outputs), (above, _) in pairwise(network.activations(np.ascontiguousarray(obs, np.float32))):
        # Only the input of a dense layer is the output of a hidden layer, or the scaled observation.
        if not isinstance(above, Dense | NoisyDense) or isinstance(layer, Scale):
            continue
        y = outputs.copy()  # the network reuses the array
        if isinstance(layer, ReLU):
            hidden.append(Units("relu", y, y.max(axis=0) <= 0, y.min(axis=0) > 0))
            continue
        stuck, tanh = np.ptp(y, axis=0) <= 1e-6, isinstance(layer, Tanh)
        always = np.abs(y).min(axis=0) > (SATURATED if tanh else np.inf)
        hidden.append(Units("tanh" if tanh else "linear", y, stuck, always & ~stuck))
    return hidden


class LayerHistory(NamedTuple):
    """Statistics of the network at each of S snapshots: L weight matrices and H hidden layers.

    Attributes:
        env_steps: Environment steps at the snapshots, [S].
        layers: Name and size of each weight matrix.
        outputs: A sentence that explains the network's outputs; "" if there is one output per action.
        weights: Quantiles ``LEVELS`` of the weights, [S, L, 5].
        gradients: Quantiles ``LEVELS`` of the absolute gradients before clipping, excluding zeros, [S, L, 5]; NaN if
            all are 0. None without a batch.
        zeros: Share of the gradients that are exactly 0, [S, L]; None without a batch.
        units: Share of dead units, share of always active units, and mean absolute output, [3, S, H]; empty without a
            batch.
    """

    env_steps: Array
    layers: list[str]
    outputs: str
    weights: Array
    gradients: Array | None
    zeros: Array | None
    units: Array


def layers_over_time(
    paths: Sequence[Path], batch: Batch | None = None, sizes: tuple[int, int] | None = None
) -> LayerHistory:
    """Return statistics of weights, gradients and units at each snapshot.

    Args:
        paths: Weights files of the snapshots, in order.
        batch: Transitions for which units and gradients are computed; without it, both are omitted.
        sizes: Observation size and number of actions that the agents must have; by default they are not checked.

    Raises:
        FileFormatError: A file is damaged, or belongs to an agent of another size.
    """
    steps, weights, gradients, zeros, alive = [], [], [], [], []
    for path in paths:
        agent = load_agent(path, sizes)
        named = {name: array for name, array in agent.online.named_parameters().items() if name.endswith(".weight")}
        steps.append(agent.env_steps)
        weights.append([np.quantile(array, LEVELS) for array in named.values()])
        if batch is not None:
            hidden = units(agent, spread_out(batch, STATES).obs)
            alive.append([(unit.dead.mean(), unit.always.mean(), np.abs(unit.outputs).mean()) for unit in hidden])
            found = _gradients(agent, spread_out(batch, TRANSITIONS))
            gradients.append([_sizes(found[name]) for name in named])
            zeros.append([(found[name] == 0).mean() for name in named])
    names = [*(f"hidden {place + 1}" for place in range(len(named) - 1)), "output"]
    return LayerHistory(
        np.array(steps),
        [f"{name}, {array.shape[0]} x {array.shape[1]}" for name, array in zip(names, named.values(), strict=True)],
        _outputs(agent),
        np.array(weights),
        np.array(gradients) if gradients else None,
        np.array(zeros) if zeros else None,
        np.array(alive).transpose(2, 0, 1) if alive else np.empty((3, 0, 0)),
    )


def _gradients(agent: Agent, batch: Batch) -> Arrays:
    """Return the gradients for ``batch`` by name, with targets from the same weights; NaN if they are not finite."""
    with np.errstate(all="ignore"):
        try:
            agent.differentiate(batch)
        except DivergenceError:
            agent.online.gradients.fill(np.nan)
    return agent.online.named_gradients()


def _sizes(gradient: Array) -> Array:
    """Return quantiles of the nonzero absolute values; NaN if all are 0."""
    sizes = np.abs(gradient[gradient != 0])
    return np.quantile(sizes, LEVELS) if sizes.size else np.full(len(LEVELS), np.nan)


def _outputs(agent: Agent) -> str:
    """Return a sentence that explains the network's outputs; "" if there is one output per action."""
    config, actions = agent.config, agent.actions
    count = (actions + config.dueling) * int(np.prod(agent.head.shape))
    parts = f"a value and the advantages of {actions} actions" if config.dueling else f"{actions} actions"
    if agent.head.shape:
        parts += f", with {agent.head.shape[0]} {'quantiles' if config.head == 'qr' else 'probabilities'} each"
    return "" if count == actions else f"The {count} outputs represent {parts}."
