"""Measure the time of one update relative to the time of its matrix products, with each backend.

Timings on shared machines drift. Each ratio is therefore the median over pairs of CPU times, which are measured
alternately in one process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.blas import one_blas_thread
from perilune.agent.config import DQNConfig
from perilune.agent.dqn import Agent
from perilune.envs.known import lookup
from perilune.envs.known.presets import preset
from perilune.nn.backend import Backend, installed, using
from perilune.nn.network import Dense, Network

ENVIRONMENT = "LunarLander-v3"
OBSERVATION_SIZE, ACTIONS = 8, 4
WIDTHS = (64, 128, 256)
PLAIN = DQNConfig(n_step=1, learning_starts=1000, buffer_size=50_000)
UPDATES = {
    f"hidden {width},{width}{', LayerNorm' if layer_norm else ''}": replace(
        PLAIN, hidden=(width, width), layer_norm=layer_norm
    )
    for layer_norm in (False, True)
    for width in WIDTHS
} | {"recommended preset": replace(preset(ENVIRONMENT).agent, buffer_size=50_000)}


@dataclass(frozen=True)
class UpdateSpeed:
    """CPU time of an update and of its matrix products in microseconds. ``ratio`` is the median of paired ratios."""

    update: str
    backend: Backend
    floor_us: float
    update_us: float
    ratio: float

    def __str__(self) -> str:
        return (
            f"update, {self.update}, {self.backend}: {self.update_us:.0f} us, its matrix products {self.floor_us:.0f} "
            f"us, ratio {self.ratio:.2f}"
        )


def update_speed(name: str, config: DQNConfig, pairs: int = 15, calls: int = 100) -> list[UpdateSpeed]:
    """Compare the time of an update with its lower bound, for each backend.

    An update samples a batch, computes Double DQN targets, runs forward and backward passes, clips gradients, applies
    Adam and, if it is due after every step, updates the target network. Its lower bound is the time of its matrix
    products: three forward passes (with Munchausen, four) and one backward pass.

    Args:
        name: name of the update.
        config: its settings.
        pairs: number of measurements of each backend and of the products.
        calls: updates per measurement.
    """
    agents: dict[Backend, Agent] = {}
    for backend in installed():
        with using(backend):
            agents[backend] = _agent(config)
    products = _matrix_products(agents["numpy"].online, config.batch_size, 4 if config.munchausen else 3)
    times: dict[Backend, list[tuple[float, float]]] = {backend: [] for backend in agents}
    with one_blas_thread():
        for _ in range(pairs):
            floor = _microseconds(products, calls)
            for backend, agent in agents.items():
                with using(backend):
                    times[backend].append((_microseconds(_update(agent), calls), floor))
    return [
        UpdateSpeed(
            update=name,
            backend=backend,
            floor_us=statistics.median(floor for _, floor in measured),
            update_us=statistics.median(update for update, _ in measured),
            ratio=statistics.median(update / floor for update, floor in measured),
        )
        for backend, measured in times.items()
    ]


def _agent(config: DQNConfig) -> Agent:
    agent = Agent(OBSERVATION_SIZE, ACTIONS, config, seed=0, symmetry=lookup(ENVIRONMENT).symmetry)
    generator = np.random.default_rng(0)
    for _ in range(20_000):
        obs, next_obs = generator.normal(size=(2, OBSERVATION_SIZE)).astype(np.float32)
        agent.remember(obs, int(generator.integers(ACTIONS)), 0.1, next_obs, False, False)
    return agent


def _update(agent: Agent) -> Callable[[], object]:
    """Return a function that runs one update of ``agent``, with that of the target network if it is due each time."""

    def run() -> None:
        agent.learn()
        agent.sync_target()

    return run if agent.config.target_update_interval == 1 else agent.learn


def _matrix_products(network: Network, rows: int, passes: int) -> Callable[[], None]:
    """Return a function that computes only the matrix products of ``passes`` forward passes and one backward pass."""
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
        for _ in range(passes):
            for layer in layers:
                np.matmul(x[layer], weight[layer], out=y[layer])
        for layer in reversed(layers):
            np.matmul(x[layer].T, y[layer], out=d_weight[layer])
            if layer:
                np.matmul(y[layer], weight[layer].T, out=dx[layer])

    return run


def _microseconds(call: Callable[[], object], calls: int) -> float:
    call()
    started = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - started) / calls * 1e6
