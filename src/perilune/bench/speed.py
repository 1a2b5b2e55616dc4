"""How long an update takes against the matrix products in it, and training against Stable-Baselines3.

Timings on shared machines drift, so every figure is a ratio of two things measured in turn in one process, and the
median of several such pairs.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from perilune import envs
from perilune._utils.arrays import Array
from perilune._utils.blas import one_blas_thread
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.dqn import Agent
from perilune.nn.layers import Dense
from perilune.nn.network import Network
from perilune.training.events import Evaluated
from perilune.training.loop import training

LUNAR_LANDER = (8, 4)  # sizes of its observation and action space
WIDTHS = (64, 128, 256)
PEER = "stable_baselines3"


@dataclass(frozen=True)
class UpdateSpeed:
    """One network's update against its floor, in microseconds; ``ratio`` is the median of the paired ratios."""

    hidden: tuple[int, int]
    layer_norm: bool
    floor_us: float
    update_us: float
    ratio: float


@dataclass(frozen=True)
class TrainingSpeed:
    """Whole training of LunarLander-v3 per environment step, in microseconds; ``ratio`` is the peer's over ours."""

    perilune_us: float
    peer_us: float
    ratio: float


def update_speed(width: int, layer_norm: bool, pairs: int = 15, calls: int = 200) -> UpdateSpeed:
    """Time ``Agent.learn`` (sample, double targets, forward, backward, clip, Adam; batch 128) against its floor.

    The floor is the matrix products of that update alone: three forward passes and one backward pass.
    """
    config = DQNConfig(hidden=(width, width), layer_norm=layer_norm, n_step=1, learning_starts=1000, buffer_size=50_000)
    agent = Agent(*LUNAR_LANDER, config, seed=0)
    generator = np.random.default_rng(0)
    for _ in range(20_000):
        obs, next_obs = generator.normal(size=(2, LUNAR_LANDER[0])).astype(np.float32)
        agent.remember(obs, int(generator.integers(LUNAR_LANDER[1])), 0.1, next_obs, False, False)
    products = _products(agent.online, config.batch_size)
    with one_blas_thread():
        times = [(_microseconds(agent.learn, calls), _microseconds(products, calls)) for _ in range(pairs)]
    return UpdateSpeed(
        hidden=(width, width),
        layer_norm=layer_norm,
        floor_us=statistics.median(floor for _, floor in times),
        update_us=statistics.median(update for update, _ in times),
        ratio=statistics.median(update / floor for update, floor in times),
    )


def _products(network: Network, rows: int) -> Callable[[], None]:
    """The matrix products of one Double DQN update of ``network``, on arrays of their own, and nothing else."""
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


def peer_installed() -> bool:
    """Whether Stable-Baselines3 can be measured beside us."""
    return importlib.util.find_spec(PEER) is not None


def training_speed(env_steps: int = 10_000, pairs: int = 3) -> TrainingSpeed:
    """Train LunarLander-v3 here and with Stable-Baselines3's DQN, in turn, with the same settings.

    Hidden 128,128, batch 128, an update every 4 steps, a target copy every 250, plain DQN without LayerNorm.
    """
    times = [(_own_training(env_steps), _peer_training(env_steps)) for _ in range(pairs)]
    return TrainingSpeed(
        perilune_us=statistics.median(own for own, _ in times),
        peer_us=statistics.median(peer for _, peer in times),
        ratio=statistics.median(peer / own for own, peer in times),
    )


def _own_training(env_steps: int) -> float:
    config = DQNConfig(
        hidden=(128, 128), layer_norm=False, double=False, n_step=1, batch_size=128, train_freq=4, tau=1.0,
        target_update_interval=250, learning_rate=6.3e-4, buffer_size=50_000, learning_starts=1000,
        epsilon_end=0.1, epsilon_decay_steps=12_000,
    )  # fmt: skip
    env = envs.make("LunarLander-v3")
    agent = Agent(*LUNAR_LANDER, config, seed=0)
    train = TrainConfig(steps=env_steps, eval_every=None, eval_episodes=1)
    with one_blas_thread():
        events = list(training(agent, env, train))
    env.close()
    return next(event.seconds for event in events if isinstance(event, Evaluated)) / env_steps * 1e6


def _peer_training(env_steps: int) -> float:
    import torch  # noqa: PLC0415 -- a peer, never a dependency
    from stable_baselines3 import DQN  # noqa: PLC0415

    torch.set_num_threads(1)
    env = envs.make("LunarLander-v3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = DQN(
            "MlpPolicy", env, policy_kwargs={"net_arch": [128, 128]}, batch_size=128, train_freq=4, gradient_steps=1,
            target_update_interval=250, learning_rate=6.3e-4, buffer_size=50_000, learning_starts=1000,
            exploration_final_eps=0.1, exploration_fraction=1.0, device="cpu", seed=0,
        )  # fmt: skip
        started = time.perf_counter()
        model.learn(env_steps)
        seconds = time.perf_counter() - started
    env.close()
    return seconds / env_steps * 1e6


def measure(env_steps: int) -> Iterator[UpdateSpeed | TrainingSpeed]:
    """Every figure, as it comes: the updates without LayerNorm, those with it, and the training where a peer is."""
    for layer_norm in (False, True):
        for width in WIDTHS:
            yield update_speed(width, layer_norm)
    if peer_installed():
        yield training_speed(env_steps)
