"""What was learned, as plain arrays: read off a run's weights on the way and its replay. Nothing is recorded for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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

STATES, TRANSITIONS = 4_096, 1_024  # of those lived, enough for shares and for a gradient
GRID = 96  # cells of a map along each axis
EXTENT = (0.5, 99.5)  # percentiles of the states visited between which a map is drawn
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles that tell a distribution
SATURATED = 0.99  # |tanh| from which on a unit hardly answers any more


class Lived(NamedTuple):
    """The transitions in the newest checkpoint's replay, in the order lived; ``forgotten`` of them came before."""

    transitions: Batch
    forgotten: int
    actions: int


def lived(directory: Path) -> Lived:
    """What the newest checkpoint of a run remembers.

    Raises:
        RunDirectoryError: there is no checkpoint, or no run.
        FileFormatError: none is whole, or nothing is in it.
    """
    if not checkpoint.paths(directory):
        raise RunDirectoryError(f"{directory} has no checkpoint")
    _, agent = checkpoint.latest(directory)
    replay = agent.replay
    if not replay.size:
        raise FileFormatError(f"the newest checkpoint of {directory} was taken before anything was lived")
    order = np.arange(replay.added - replay.size, replay.added) % replay.capacity
    transitions = Batch(*(array[order] for array in replay.arrays))
    return Lived(transitions, replay.added - replay.size, agent.actions)


def best_agent(directory: Path, lived: Batch, actions: int) -> Agent:
    """The agent at its best: of the best weights, else of the final ones, else of the newest snapshot.

    Raises:
        RunDirectoryError: there are no weights.
        FileFormatError: they are damaged, or of another agent than what was ``lived``.
    """
    for path in (*(directory / name for name in layout.WEIGHTS.values()), *reversed(snapshots.paths(directory))):
        if path.exists():
            return agent_of(path, (lived.obs.shape[1], actions))
    raise RunDirectoryError(f"{directory} has no weights yet")


def agent_of(path: Path, sizes: tuple[int, int] | None = None) -> Agent:
    """The agent whose weights are in ``path``.

    Raises:
        FileFormatError: they are damaged, or those of an agent of other ``sizes``, observation and actions.
    """
    agent, _ = load_weights(path)
    if sizes not in (None, (agent.observation_size, agent.actions)):
        raise FileFormatError(f"{path} is of an agent of other sizes than the run's")
    return agent


def spread_out(batch: Batch, most: int) -> Batch:
    """``most`` transitions, spread evenly over all of them; always the same."""
    rows = len(batch.action)
    index = np.linspace(0, rows - 1, min(most, rows)).round().astype(np.int64)
    return Batch(*(array[index] for array in batch))


@dataclass(frozen=True)
class ValueMap:
    """Q over two readings, all others at the median of the states visited.

    ``q``: [GRID, GRID, A], rows along y. ``x_edges``, ``y_edges``: [GRID + 1]. ``seen``: [GRID, GRID], whether
    anything near was visited, whatever the other readings were there; elsewhere Q is extrapolated.
    """

    x_edges: Array
    y_edges: Array
    q: Array
    seen: Array

    @property
    def gap(self) -> Array:
        """By how much the best action is better than the second best: [GRID, GRID]."""
        ordered = np.sort(self.q, axis=-1)
        difference: Array = ordered[..., -1] - ordered[..., -2]
        return difference


def edges(values: Array, cells: int) -> Array:
    """Edges [cells + 1] of equal cells over what ``values`` [N] mostly are."""
    low, high = np.percentile(values.astype(np.float64), EXTENT)
    room = 0.05 * (high - low) or 0.5  # a reading that never changes still gets a map
    return np.linspace(low - room, high + room, cells + 1)


def value_map(agent: Agent, visited: Array, x: int, y: int) -> ValueMap:
    """Q of the network that is evaluated over the readings ``x`` and ``y`` of visited[N, O]."""
    x_edges, y_edges = edges(visited[:, x], GRID), edges(visited[:, y], GRID)
    obs = np.tile(np.median(visited, axis=0), (GRID * GRID, 1))
    across, along = np.meshgrid((x_edges[1:] + x_edges[:-1]) / 2, (y_edges[1:] + y_edges[:-1]) / 2)
    obs[:, x], obs[:, y] = across.ravel(), along.ravel()
    q = agent.q_values(obs).reshape(GRID, GRID, agent.actions)
    coarse = next((cells for cells in (48, 24) if cells * cells <= len(visited)), 12)
    step = GRID // coarse
    counts, _, _ = np.histogram2d(visited[:, y], visited[:, x], (y_edges[::step], x_edges[::step]))
    around = np.lib.stride_tricks.sliding_window_view(np.pad(counts, 1), (3, 3))
    seen = np.kron(around.any(axis=(2, 3)), np.ones((step, step), bool))
    return ValueMap(x_edges, y_edges, q, seen)


def shares(actions: Array, count: int, parts: int) -> Array:
    """Share of each action in ``parts`` equal parts of actions[N], in their order: [parts, count], rows sum to 1."""
    pieces = np.array_split(actions, min(parts, len(actions)))
    return np.array([np.bincount(piece, minlength=count) / len(piece) for piece in pieces])


class Visits(NamedTuple):
    """Share of the states in each cell of a map, [y, x], in the first and in the last third of what was lived."""

    x_edges: Array
    y_edges: Array
    early: Array
    late: Array


def visits(obs: Array, x: int, y: int, cells: int = 48) -> Visits:
    """Where obs[N, O], in the order lived, was in the readings ``x`` and ``y``."""
    x_edges, y_edges = edges(obs[:, x], cells), edges(obs[:, y], cells)
    third = max(1, len(obs) // 3)
    early, late = (
        np.histogram2d(part[:, y], part[:, x], (y_edges, x_edges))[0] / len(part)
        for part in (obs[:third], obs[-third:])
    )
    return Visits(x_edges, y_edges, early, late)


class Units(NamedTuple):
    """What the units of a hidden layer give for some states.

    ``outputs``: [N, U]. ``dead``, ``always``, [U]: a ReLU that is never, or always, above 0; of tanh and linear units,
    ``dead`` is one that gives the same for all states, and ``always`` a tanh that is saturated in all of them.
    """

    activation: str
    outputs: Array
    dead: Array
    always: Array


def units(agent: Agent, obs: Array) -> list[Units]:
    """The units of every hidden layer of the online network for obs[N, O]."""
    network = agent.online
    network.silence()
    hidden = []
    passed = network.activations(np.ascontiguousarray(obs, np.float32))
    for (layer, y), (above, _) in pairwise(passed):
        if not isinstance(above, Dense | NoisyDense):  # the outputs come after the last of these
            continue
        y = y.copy()  # noqa: PLW2901 -- working memory
        if isinstance(layer, ReLU):
            hidden.append(Units("relu", y, y.max(axis=0) <= 0, y.min(axis=0) > 0))
            continue
        stuck = np.ptp(y, axis=0) <= 1e-6
        tanh = isinstance(layer, Tanh)
        always = np.abs(y).min(axis=0) > (SATURATED if tanh else np.inf)
        hidden.append(Units("tanh" if tanh else "linear", y, stuck, always & ~stuck))
    return hidden


class Course(NamedTuple):
    """How the layers were at each snapshot, S of them, L weight matrices and H hidden layers.

    ``weights`` and ``gradients`` (sizes, before any clipping, of those that are not exactly 0): quantiles
    [S, L, LEVELS], not finite where a gradient was not, or all are 0. ``zeros``: share of the gradients that are 0,
    [S, L]. ``outputs``: what the network's outputs are, in a sentence, "" for one an action. ``units``: share of the
    units that are dead, share of those always on, and their mean |output|, [3, S, H]. Without anything lived there are
    neither gradients nor units.
    """

    env_steps: Array
    layers: list[str]
    outputs: str
    weights: Array
    gradients: Array | None
    zeros: Array | None
    units: Array | None


def course(paths: Sequence[Path], lived: Batch | None, actions: int) -> Course:
    """The layers at each of the snapshots ``paths``; of units and gradients nothing where nothing was ``lived``."""
    steps, weights, gradients, zeros, alive = [], [], [], [], []
    layers: list[str] = []
    outputs = ""
    for path in paths:
        agent = agent_of(path, None if lived is None else (lived.obs.shape[1], actions))
        named = {name: array for name, array in agent.online.named_parameters().items() if name.endswith(".weight")}
        layers = [_layer(place, array, len(named)) for place, array in enumerate(named.values())]
        outputs = _outputs(agent)
        steps.append(agent.env_steps)
        weights.append([np.quantile(array, LEVELS) for array in named.values()])
        if lived is not None:
            hidden = units(agent, spread_out(lived, STATES).obs)
            alive.append([(unit.dead.mean(), unit.always.mean(), np.abs(unit.outputs).mean()) for unit in hidden])
            found = _gradients(agent, spread_out(lived, TRANSITIONS))
            gradients.append([_sizes(found[name]) for name in named])
            zeros.append([(found[name] == 0).mean() for name in named])
    return Course(
        np.array(steps),
        layers,
        outputs,
        np.array(weights),
        np.array(gradients) if gradients else None,
        np.array(zeros) if zeros else None,
        np.array(alive).transpose(2, 0, 1) if alive else None,
    )


def _gradients(agent: Agent, batch: Batch) -> Arrays:
    """The gradients of ``batch`` by name, where the agent is its own target; not finite where they cannot be told."""
    with np.errstate(all="ignore"):
        try:
            agent.differentiate(batch)
        except DivergenceError:
            agent.online.gradients.fill(np.nan)
    return agent.online.named_gradients()


def _sizes(gradient: Array) -> Array:
    """Quantiles of the sizes of what is not 0, as most is where a reading was never other than 0; NaN where all is."""
    sizes = np.abs(gradient[gradient != 0])
    return np.quantile(sizes, LEVELS) if sizes.size else np.full(len(LEVELS), np.nan)


def _outputs(agent: Agent) -> str:
    """What the outputs of the network are, where they are not one for each action."""
    config, actions = agent.config, agent.actions
    count = (actions + config.dueling) * int(np.prod(agent.head.shape))
    parts = f"a value and the advantages of {actions} actions" if config.dueling else f"{actions} actions"
    if agent.head.shape:
        parts += f", each of {agent.head.shape[0]} {'quantiles' if config.head == 'qr' else 'probabilities'}"
    return "" if count == actions else f"The {count} outputs are {parts}."


def _layer(place: int, weight: Array, layers: int) -> str:
    name = "output" if place == layers - 1 else f"hidden {place + 1}"
    return f"{name}, {weight.shape[0]} x {weight.shape[1]}"
