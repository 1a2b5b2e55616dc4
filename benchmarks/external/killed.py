"""Train mutants of Stable-Baselines3's DQN on CartPole-v1, and test which ones perform worse than the original agent.

muPRL's criterion: a mutant is killed if it has fewer successful test episodes than the original agent with the same
seed, by Fisher's exact test (p < 0.05), for at least half of the seeds. A mutant that is not killed is equivalent. An
episode is successful if the pole does not fall. Each training run writes one JSON file. If
you stop the command, it resumes on the next call.

    python -m benchmarks.external.killed --out DIR --seeds 3
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import gymnasium

from benchmarks.external.mutants import AGENTS

ORIGINAL = "control-CartPole-v1"
OPERATORS = ("muPRL", "settings")
EPISODES = 50


def successes(make: Callable[..., Any], env_steps: int, seed: int) -> int:
    """Train a model and return in how many greedy test episodes the pole does not fall."""
    model = make(seed=seed)
    model.learn(env_steps)
    env, count = gymnasium.make("CartPole-v1"), 0
    for episode in range(EPISODES):
        obs, _ = env.reset(seed=1000 + episode)
        terminated = truncated = False
        while not (terminated or truncated):
            obs, _, terminated, truncated, _ = env.step(int(model.predict(obs, deterministic=True)[0]))
        count += truncated
    return count


def p_value(original: int, mutant: int) -> float:
    """Return the two-sided p-value of Fisher's exact test for two numbers of successes in ``EPISODES`` episodes."""
    total = original + mutant
    ways = [comb(EPISODES, k) * comb(EPISODES, total - k) for k in range(max(0, total - EPISODES), total + 1)]
    observed = comb(EPISODES, original) * comb(EPISODES, mutant)
    return sum(one for one in ways if one <= observed) / comb(2 * EPISODES, total)


def is_killed(original: list[int], mutant: list[int]) -> bool:
    """Return whether the mutant has significantly fewer successes for at least half of the seeds."""
    pairs = list(zip(original, mutant, strict=True))
    return 2 * sum(after < before and p_value(before, after) < 0.05 for before, after in pairs) >= len(pairs)


def main(arguments: list[str] | None = None) -> int:
    """Train the mutants that have no result in ``--out`` yet, and print which ones are killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory for the results, one JSON file per training")
    parser.add_argument("--seeds", type=int, default=10, help="number of trainings of each mutant (default: 10)")
    parser.add_argument("--only", default="", help="train only the mutants whose name contains this text")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    agents = importlib.import_module(AGENTS)
    names = [
        name for name, one in agents.MUTANTS.items() if one.operator.startswith(OPERATORS) and options.only in name
    ]
    counts: dict[str, list[int]] = {}
    for name in (ORIGINAL, *names):
        for seed in range(options.seeds):
            file = options.out / f"{name}-{seed}.json"
            if not file.exists():
                file.write_text(json.dumps(successes(agents.MUTANTS[name].make, agents.TRAINING, seed)) + "\n")
            counts.setdefault(name, []).append(json.loads(file.read_text()))
        print(name, counts[name], "killed" if is_killed(counts[ORIGINAL], counts[name]) else "not killed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
