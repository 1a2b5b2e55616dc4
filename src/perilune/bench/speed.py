"""Measure the time of one update relative to the time of its matrix products.

Timings on shared machines drift. Each ratio is therefore the median over pairs of durations, which are measured
alternately in one process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.blas import one_blas_thread
from perilune.agent.config import DQNConfig
from perilune.agent.dqn import Agent
from perilune.nn.network import Dense, Network

LUNAR_LANDER = (8, 4)  # observation size and number of actions
WIDTHS = (64, 128, 256)
LAYER_NORM = (False, True)


@dataclass(frozen=True)
class UpdateSpeed:
    """Time of an update and of its matrix products in microseconds. ``ratio`` is the median of paired ratios."""

    hidden: tuple[int, int]
    layer_norm: bool
    floor_us: float
    update_us: float
    ratio: float

    def __str__(self) -> str:
        return (
            f"update, hidden {self.hidden[0]},{self.hidden[1]}{', LayerNorm' if self.layer_norm else ''}: "
            f"{self.update_us:.0f} us, its matrix products {self.floor_us:.0f} us, ratio {self.ratio:.2f}"
        )


def update_speeds() -> Iterator[UpdateSpeed]:
    """Measure each width, first without and then with LayerNorm."""
    for layer_norm in LAYER_NORM:
        for width in WIDTHS:
            yield update_speed(width, layer_norm)


def update_speed(width: int, layer_norm: bool, pairs: int = 15, calls: int = 200) -> UpdateSpeed:
    """Compare the time of ``Agent.learn`` with its lower bound, for batches of 128 transitions.

    An update samples a batch, computes Double DQN targets, runs forward and backward passes, clips gradients and
    applies Adam. Its lower bound is the time of its matrix products: three forward passes and one backward pass.
    """
    config = DQNConfig(hidden=(width, width), layer_norm=layer_norm, n_step=1, learning_starts=1000, buffer_size=50_000)
    agent = Agent(*LUNAR_LANDER, config, seed=0)
    generator = np.random.default_rng(0)
    for _ in range(20_000):
        obs, next_obs = generator.normal(size=(2, LUNAR_LANDER[0])).astype(np.float32)
        agent.remember(obs, int(generator.integers(LUNAR_LANDER[1])), 0.1, next_obs, False, False)
    products = _matrix_products(agent.online, config.batch_size)
    with one_blas_thread():
        times = [(_microseconds(agent.learn, calls), _microseconds(products, calls)) for _ in range(pairs)]
    return UpdateSpeed(
        hidden=(width, width),
        layer_norm=layer_norm,
        floor_us=statistics.median(floor for _, floor in times),
        update_us=statistics.median(update for update, _ in times),
        ratio=statistics.median(update / floor for update, floor in times),
    )


def _matrix_products(network: Network, rows: int) -> Callable[[], None]:
    """Return a function that computes only the matrix products of one Double DQN update."""
    generator = np.random.default_rng(0)

    def array(*shape: int) -> Array:
        return generator.normal(size=shape).astype(np.float32)

    shapes = [(layer.inputs, layer.outputs) for layer in network.layers if isinstance(layer, Dense)]
    x = [array(rows, inputs) for inputs, _ in shapes]
    weight = [array(*shape) for shape in shapes]
    y = [array(rows, outputs) for _, outputs in shapes]
    d_weight, dx = [array(*shape) for shape in shapes], [array(rows, inputs) for inputs, _ in shapes]
    layers = range(len(shapes))

    def run() -> None:
        for _ in range(3):
            for layer in layers:
                np.matmul(x[layer], weight[layer], out=y[layer])
        for layer in reversed(layers):
            np.matmul(x[layer].T, y[layer], out=d_weight[layer])
            if layer:
                np.matmul(y[layer], weight[layer].T, out=dx[layer])

    return run


def _microseconds(call: Callable[[], object], calls: int) -> float:
    call()
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - started) / calls * 1e6
