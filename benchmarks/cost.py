"""Measure whether the cost of a time step grows with the length of a run: after 10,000 to 10,000,000 steps.

    python -m benchmarks.cost

At each length, an agent with a replay buffer of a million steps is compared with one that has just taken 10,000 steps.
The two take turns, in blocks of 200 time steps (act, observe and one update each), and the result is the median of the
ratios of their CPU times. The observations are random numbers, because the cost of the environment is not that of the
agent. Between two lengths, the agent stores time steps without learning.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from statistics import median, quantiles

import numpy as np

from perilune import DQNConfig
from perilune._utils.blas import one_blas_thread
from perilune.agent.dqn import Agent
from perilune.envs.known import presets

YOUNG = 10_000
OBSERVATIONS, ACTIONS = 8, 4
EPISODE = 250  # time steps


class Player:
    """An agent and random observations."""

    def __init__(self, config: DQNConfig) -> None:
        self.agent = Agent(OBSERVATIONS, ACTIONS, config, 0)
        generator = np.random.default_rng(0)
        self.obs = generator.normal(size=(4096, 1, OBSERVATIONS)).astype(np.float32)
        self.reward = generator.normal(size=4096).tolist()

    def store(self, until: int) -> None:
        """Store time steps without learning until the agent has taken ``until`` steps."""
        agent, obs, reward = self.agent, self.obs, self.reward
        for count in range(agent.env_steps, until):
            place = count % 4095
            agent.remember(
                obs[place, 0], count % ACTIONS, reward[place], obs[place + 1, 0], False, count % EPISODE == 0
            )

    def play(self, steps: int) -> float:
        """Take time steps with learning, and return their CPU time."""
        agent, obs, reward = self.agent, self.obs, self.reward
        start = time.process_time()
        for count in range(steps):
            place = count % 4095
            agent.observe(obs[place], agent.act(obs[place]), [reward[place]], obs[place + 1], [False], [False])
        return time.process_time() - start


def main() -> None:
    """Print the results as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--blocks", type=int, default=31)
    options = parser.parse_args()
    recommended = replace(presets.preset("LunarLander-v3").agent, mirror=False)
    variants = {"recommended": recommended, "with priorities": replace(recommended, priority_alpha=0.6)}
    print("| settings | steps | cost of a time step, relative to 10,000 steps | middle half of the ratios |")
    print("| --- | --- | --- | --- |")
    for name, config in variants.items():
        sized = replace(config, buffer_size=1_000_000, learning_starts=1_000)
        old, young = Player(sized), Player(sized)
        young.store(YOUNG)
        for length in options.lengths:
            old.store(length)
            for one in (old, young):
                one.play(200)  # not measured
            ratios = []
            for block in range(options.blocks):
                players = (old, young) if block % 2 else (young, old)
                seconds = {player: player.play(200) for player in players}
                ratios.append(seconds[old] / seconds[young])
            low, _, high = quantiles(ratios)
            print(f"| {name} | {length:,} | {median(ratios):.3f} | {low:.3f} to {high:.3f} |", flush=True)


if __name__ == "__main__":
    with one_blas_thread():
        main()
