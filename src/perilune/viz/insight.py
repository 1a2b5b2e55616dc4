"""The data of the maps, as arrays: from a run's weights and snapshots and from its replay buffer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array, Arrays
from perilune.agent.dqn import Agent
from perilune.errors import DivergenceError, FileFormatError, RunDirectoryError
from perilune.nn.layers import NoisyDense, Tanh
from perilune.nn.network import Dense, ReLU
from perilune.replay.buffer import Batch
from perilune.runs import checkpoint, layout, snapshots
from perilune.runs.weights import load_weights

STATES, TRANSITIONS = 4_096, 1_024  # from the replay buffer; enough for shares and for a gradient
GRID = 96  # cells of a map along each axis
EXTENT = (0.5, 99.5)  # percentiles of the visited states that a map spans
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles of a distribution
SATURATED = 0.99  # |tanh| of a unit that hardly changes any more


def replay(directory: Path) -> tuple[Batch, int, tuple[int, int]]:
    """Read the replay buffer in a run's newest checkpoint.

    Returns:
        The transitions, the oldest first; the number of earlier ones, which are lost; observation size and actions.

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
    """Return the agent of the best weights, else of the final ones, else of the newest snapshot. See ``load_agent``."""
    for path in (*(directory / name for name in layout.WEIGHTS.values()), *reversed(snapshots.paths(directory))):
        if path.exists():
            return load_agent(path, sizes)
    raise RunDirectoryError(f"{directory} has no weights yet")


def load_agent(path: Path, sizes: tuple[int, int] | None = None) -> Agent:
    """Return the agent of a weights file.

    Raises:
        FileFormatError: The file is damaged, or of an agent with other ``sizes`` (observation size, actions).
    """
    agent, _ = load_weights(path)
    if sizes not in (None, (agent.observation_size, agent.actions)):
        raise FileFormatError(f"{path} is of an agent with other sizes than the run's")
    return agent


def spread(count: int, most: int) -> Array:
    """Return at most ``most`` evenly spaced indices of ``count`` things."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)


def spread_out(batch: Batch, most: int) -> Batch:
    """Return at most ``most`` evenly spaced transitions of ``batch``."""
    index = spread(len(batch.action), most)
    return Batch(*(array[index] for array in batch))


def _edges(values: Array, cells: int) -> Array:
    """Return the edges [cells + 1] of equal cells over most of ``values`` [N]."""
    low, high = np.percentile(values.astype(np.float64), EXTENT)
    margin = 0.05 * (high - low) or 0.5  # a constant entry still gets a map
    return np.linspace(low - margin, high + margin, cells + 1)


def value_map(agent: Agent, visited: Array, x: int, y: int) -> tuple[Array, Array, Array, Array]:
    """Evaluate the evaluation network over the entries ``x`` and ``y`` of visited[N, O], the others at their medians.

    Returns:
        Edges of the cells along x and y, [GRID + 1] each; Q, [GRID, GRID, A], rows along y; and whether a state nearby
        was visited, with any other entries, [GRID, GRID]. Elsewhere Q is extrapolated.
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
    """Count obs[N, O], the oldest first, in cells over the entries ``x`` and ``y``.

    Returns:
        Edges along x and y, [cells + 1] each, and the share of the states in each cell, [y, x], in the first and in the
        last third.
    """
    x_edges, y_edges = _edges(obs[:, x], cells), _edges(obs[:, y], cells)
    third = max(1, len(obs) // 3)
    early, late = (
        np.histogram2d(part[:, y], part[:, x], (y_edges, x_edges))[0] / len(part)
        for part in (obs[:third], obs[-third:])
    )
    return x_edges, y_edges, early, late


class Units(NamedTuple):
    """The units of a hidden layer in some states.

    Attributes:
        activation: "relu", "tanh" or "linear".
        outputs: [N, U].
        dead: Whether a ReLU is never above 0, or another unit always gives the same, [U].
        always: Whether a ReLU is always above 0, or a tanh is saturated in all states, [U].
    """

    activation: str
    outputs: Array
    dead: Array
    always: Array


def units(agent: Agent, obs: Array) -> list[Units]:
    """Return the units of each hidden layer of the online network for obs[N, O]."""
    network = agent.online
    network.silence()
    hidden = []
    for (layer, outputs), (above, _) in pairwise(network.activations(np.ascontiguousarray(obs, np.float32))):
        if not isinstance(above, Dense | NoisyDense):  # the outputs come after the last of these
            continue
        y = outputs.copy()  # of working memory
        if isinstance(layer, ReLU):
            hidden.append(Units("relu", y, y.max(axis=0) <= 0, y.min(axis=0) > 0))
            continue
        stuck, tanh = np.ptp(y, axis=0) <= 1e-6, isinstance(layer, Tanh)
        always = np.abs(y).min(axis=0) > (SATURATED if tanh else np.inf)
        hidden.append(Units("tanh" if tanh else "linear", y, stuck, always & ~stuck))
    return hidden


class LayerHistory(NamedTuple):
    """The layers at each of S snapshots: L weight matrices and H hidden layers.

    Attributes:
        env_steps: Of the snapshots, [S].
        layers: Name and size of each weight matrix, L of them.
        outputs: A sentence on the network's outputs, "" if there is one for each action.
        weights: Quantiles, [S, L, LEVELS].
        gradients: Quantiles of the absolute gradients that are not 0, before clipping; not finite if all are 0.
        zeros: Share of the gradients that are exactly 0, [S, L].
        units: Share of dead units, share of always active units, and mean |output|, [3, S, H]; empty without a batch.
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
    """Return the layers at each of the snapshots ``paths``; units and gradients only if there is a ``batch``."""
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
    """Return the gradients of ``batch`` by name, with the agent as its own target; NaN if they are not finite."""
    with np.errstate(all="ignore"):
        try:
            agent.differentiate(batch)
        except DivergenceError:
            agent.online.gradients.fill(np.nan)
    return agent.online.named_gradients()


def _sizes(gradient: Array) -> Array:
    """Return quantiles of the absolute values that are not 0; NaN if all are 0."""
    sizes = np.abs(gradient[gradient != 0])
    return np.quantile(sizes, LEVELS) if sizes.size else np.full(len(LEVELS), np.nan)


def _outputs(agent: Agent) -> str:
    """Return a sentence on the outputs of the network, unless there is one for each action."""
    config, actions = agent.config, agent.actions
    count = (actions + config.dueling) * int(np.prod(agent.head.shape))
    parts = f"a value and the advantages of {actions} actions" if config.dueling else f"{actions} actions"
    if agent.head.shape:
        parts += f", each of {agent.head.shape[0]} {'quantiles' if config.head == 'qr' else 'probabilities'}"
    return "" if count == actions else f"The {count} outputs are {parts}."
