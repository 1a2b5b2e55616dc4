"""Measure from which duration of a time step of the environment the setting `workers` pays off.

    python -m benchmarks.workers --workers 1 2 4 8
    python -m benchmarks.workers --workers 1 2 4 8 --cluster auto  # on a Ray cluster, in a clone on all its machines

The environment waits for a given time in each step, like one that asks a simulator. If it computes instead, more
workers than free processor cores do not help. Eight copies of the environment step together, and the agent learns every
8 steps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

from perilune import DQN
from perilune.envs.workers import on_cluster

ENVS = 8


class SlowCartPole(CartPoleEnv):
    """CartPole whose time steps take longer.

    Args:
        milliseconds: duration to add to each time step.
        render_mode: as in CartPole.
    """

    def __init__(self, milliseconds: float = 0.0, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.seconds = milliseconds / 1_000

    def step(self, action: Any) -> Any:
        if self.seconds:
            time.sleep(self.seconds)
        return super().step(action)  # type: ignore[no-untyped-call]


if "SlowCartPole-v0" not in gym.registry:
    gym.register("SlowCartPole-v0", "benchmarks.workers:SlowCartPole", max_episode_steps=500)


def rate(milliseconds: float, workers: int, steps: int) -> float:
    """Return environment steps per second of training, without the start of the processes."""
    env = gym.make("SlowCartPole-v0", milliseconds=milliseconds)
    dqn = DQN(env, None, seed=0, hidden=(64, 64), learning_starts=64, train_freq=ENVS)
    stamps = Stamps()
    train: dict[str, Any] = {"num_envs": ENVS, "workers": workers, "eval_every": None, "eval_episodes": 1}
    dqn.train(steps=steps, **train, max_episode_steps=50, run_dir=None, quiet=True, callback=stamps)
    return stamps.rate


class Stamps:
    """Measure the time from the first to the last record of metrics."""

    def __init__(self) -> None:
        self.found: list[tuple[float, int]] = []

    def __call__(self, event: Any) -> None:
        if hasattr(event, "env_steps"):
            self.found.append((time.perf_counter(), event.env_steps))

    @property
    def rate(self) -> float:
        (start, first), (end, last) = self.found[0], self.found[-2]
        return (last - first) / (end - start)


def main() -> None:
    """Print the results as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--milliseconds", type=float, nargs="+", default=[0.0, 0.3, 1.0, 3.0, 10.0])
    parser.add_argument("--cluster", metavar="ADDRESS", help="address of a Ray cluster that steps the environments")
    options = parser.parse_args()
    with nullcontext() if options.cluster is None else on_cluster(options.cluster):
        measure(options.workers, options.milliseconds)


def measure(workers: Sequence[int], durations: Sequence[float]) -> None:
    """Print a table: a row for each duration of a time step in ms, a column for each number of workers."""
    print(f"| duration of a time step | {' | '.join(f'{count} workers' for count in workers)} |")
    print(f"| --- |{' --- |' * len(workers)}")
    for milliseconds in durations:
        steps = 10_000 if milliseconds < 1 else round(10_000 / milliseconds)
        found = [f"{rate(milliseconds, count, steps):,.0f}" for count in workers]
        print(f"| {milliseconds:g} ms | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
