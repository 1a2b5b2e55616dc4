"""Compare TPE with random sampling: how many trials does a search need until one solves CartPole?

    python -m benchmarks.samplers --repetitions 20

Each search starts from deliberately bad settings and stops when the return of a trial is at least 475, or after 60
trials. Both samplers get the same seeds. The searches are in runs/bench/samplers and can be resumed.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from perilune import tune
from perilune.envs.known import lookup, register

OUT = Path("runs", "bench", "samplers")
SOLVED, MOST, STRIDE = 475.0, 60, 5
BAD: dict[str, Any] = {
    "learning_rate": 1e-6,
    "learning_rate_end": 0.0,
    "gamma": 0.7,
    "output_scale": 0.1,
    "td_lambda": 0.0,
    "epochs": 1,
}
FIXED: dict[str, Any] = {"steps": 12_288, "eval_every": None, "learning_rate_end": 0.0, "ema_decay": None}
SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-6, "high": 1e-1, "log": True},
    "gamma": {"low": 0.001, "high": 0.5, "log": True, "complement": True},
    "output_scale": {"low": 0.05, "high": 50.0, "log": True},
    "td_lambda": {"low": 0.0, "high": 0.99},
    "epochs": {"low": 1, "high": 4},
}


def trials_until_solved(sampler: Any, seed: int) -> int:
    """Return the number of trials until one is solved, or ``MOST`` + 1 if none is."""
    for trials in range(STRIDE, MOST + 1, STRIDE):
        result = tune(
            "CartPole-v1", "fast", trials=trials, seeds_per_trial=1, first_seed=100 * seed, search_space=SPACE,
            sampler=sampler, pruner="none", comparison_seeds=0, seed=seed, out=OUT / f"{sampler}-{seed}", quiet=True,
            **FIXED,
        )  # fmt: skip
        solved = [one.number for one in result.trials if one.value is not None and one.value >= SOLVED]
        if solved:
            return solved[0] + 1
    return MOST + 1


def main() -> None:
    """Print the number of trials of each search, and the difference with its interval."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=20)
    options = parser.parse_args()
    known = lookup("CartPole-v1")
    assert known.fast is not None
    register(replace(known, fast=replace(known.fast, agent=replace(known.fast.agent, **BAD))))
    found: dict[str, list[int]] = {"tpe": [], "random": []}
    for seed in range(options.repetitions):
        for sampler, counts in found.items():
            counts.append(trials_until_solved(sampler, seed))
            print(sampler, seed, counts[-1], flush=True)
    for sampler, counts in found.items():
        print(f"{sampler}: median {np.median(counts):g} trials, mean {np.mean(counts):.1f}, {sorted(counts)}")
    difference = np.subtract(found["random"], found["tpe"])
    interval = stats.bootstrap((difference,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    print(f"random minus TPE: {difference.mean():.1f} trials ({interval.low:.1f} to {interval.high:.1f})")


if __name__ == "__main__":
    main()
