"""Answer a common question: does a correct DQN learn with the settings that many failing programs use?

    python examples/as_asked.py --seeds 5 --jobs 2
    python examples/as_asked.py --seeds 5 --jobs 2 --changes

The first command trains each experiment with several seeds in runs/as_asked/ and reuses existing runs. It prints a
table and writes the plot runs/as_asked/as_asked.png. The second command changes one setting at a time. The results are
in docs/explanation/small-networks.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from perilune import DQNConfig, TrainConfig
from perilune._utils.statistics import estimate, interquartile_mean, moving_average
from perilune.bench.learning import Trial, failed, run_trials
from perilune.bench.results import format_estimate
from perilune.runs import logs
from perilune.runs.scores import Score

WINDOW = 100  # episodes in the moving average


@dataclass(frozen=True)
class Experiment:
    """One row of the table."""

    name: str
    environment: str
    agent: DQNConfig
    train: TrainConfig


def as_asked(hidden: tuple[int, ...]) -> DQNConfig:
    """Return the settings of the question (plain DQN) with the given hidden layers."""
    return DQNConfig(
        hidden=hidden, activation="relu", layer_norm=False,
        optimizer="adam", learning_rate=1e-4, loss="huber", max_grad_norm=None,
        gamma=0.999, n_step=1, double=False,
        buffer_size=10_000, learning_starts=10_000, batch_size=128, train_freq=1,
        tau=1.0, target_update_interval=1_000,
        epsilon_start=1.0, epsilon_decay=0.9925, epsilon_end=0.1,
    )  # fmt: skip


# "Solving the Lunar Lander Problem under Uncertainty using Reinforcement Learning", arXiv:2011.11850. The values are
# from its authors' code, which has no target network. A target network that is copied at every step is equivalent.
PAPER = DQNConfig(
    hidden=(128, 128), activation="relu", layer_norm=False,
    optimizer="adam", learning_rate=1e-3, loss="mse", max_grad_norm=None,
    gamma=0.99, n_step=1, double=False,
    buffer_size=1_000_000, learning_starts=64, batch_size=64, train_freq=1,
    tau=1.0, target_update_interval=1,
    epsilon_start=1.0, epsilon_decay=0.996, epsilon_decay_per="update", epsilon_end=0.01,
)  # fmt: skip

ASKED = TrainConfig(episodes=600, max_episode_steps=500, eval_every=10_000)
NETWORKS = ((32,), (32, 64, 64), (128, 128))
EXPERIMENTS = [
    *(
        Experiment(f"{environment} {','.join(map(str, hidden))}", environment, as_asked(hidden), ASKED)
        for environment in ("LunarLander-v3", "CartPole-v1")
        for hidden in NETWORKS
    ),
    Experiment("LunarLander-v3 paper", "LunarLander-v3", PAPER, TrainConfig(episodes=600, eval_every=10_000)),
]

# Each variation changes one setting, with hidden layers 128,128. The last variation combines all changes.
CHANGES: dict[str, dict[str, Any]] = {
    "gamma 0.99": {"gamma": 0.99},
    "learning rate 1e-3": {"learning_rate": 1e-3},
    "buffer 100,000": {"buffer_size": 100_000},
    "target copy every 100": {"target_update_interval": 100},
    "3-step returns": {"n_step": 3},
}
CHANGES["all five"] = {name: value for change in CHANGES.values() for name, value in change.items()}
VARIATIONS = [
    Experiment(name, "LunarLander-v3", replace(as_asked((128, 128)), **change), ASKED)
    for name, change in CHANGES.items()
]


def directory(out: Path, experiment: Experiment) -> Path:
    return out / experiment.name.replace(" ", "-").replace(",", "-")


def run(experiments: Sequence[Experiment], seeds: int, jobs: int, out: Path) -> dict[str, list[Score]]:
    """Return the scores of every experiment by name, one per seed."""
    trials = {
        Trial(e.environment, e.agent, e.train, seed, directory(out, e) / f"seed-{seed}"): e.name
        for seed in range(seeds)
        for e in experiments
    }

    found, failures = run_trials(list(trials), jobs)
    if failures:
        sys.exit(failed(failures))
    scores: dict[str, list[Score]] = {experiment.name: [] for experiment in experiments}
    for trial, name in trials.items():
        scores[name].append(found[trial])
    return scores


def highest_q(run: Path) -> float:
    """Return the highest mean of Q over a batch that a run recorded."""
    return max(metrics.mean_q for metrics in logs.read_run(run).metrics)


def table(scores: dict[str, list[Score]], highest: dict[str, list[float]]) -> str:
    """Return a Markdown table with the interquartile mean over the seeds and its 95 % interval.

    Args:
        scores: scores of each experiment, by name.
        highest: highest mean Q of each seed of each experiment, by name.
    """
    generator = np.random.default_rng(0)

    def spread(values: Sequence[float]) -> str:
        return format_estimate(estimate(interquartile_mean, [values], generator), 0)

    lines = [
        "| experiment | best 100 training episodes | greedy, final | greedy, best checkpoint | solved, first at "
        "| highest mean Q | time steps |",
        f"|{' --- |' * 7}",
    ]
    for name, seeds in scores.items():
        first = sorted(score.solved_env_steps for score in seeds if score.solved_env_steps is not None)
        middle = len(seeds) // 2
        median = f", {first[middle] / 1000:.0f}k" if len(first) > middle else ""
        lines.append(
            f"| {name} | {spread([s.training_peak for s in seeds])} | {spread([s.final for s in seeds])} "
            f"| {spread([s.best for s in seeds])} | {len(first)} of {len(seeds)}{median} "
            f"| {min(highest[name]):,.0f} to {max(highest[name]):,.0f} "
            f"| {statistics.median(s.env_steps for s in seeds) / 1000:.0f}k |"
        )
    return "\n".join(lines)


def draw(experiments: Sequence[Experiment], seeds: int, path: Path) -> Path:
    """Plot one panel per experiment, with the moving average of each seed and their median. Return ``path``."""
    columns = min(3, len(experiments))
    rows = -(-len(experiments) // columns)
    figure = Figure(figsize=(3.7 * columns, 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis in axes[len(experiments) :]:
        axis.set_visible(False)
    for axis, experiment in zip(axes, experiments, strict=False):
        runs = [logs.read_run(directory(path.parent, experiment) / f"seed-{seed}") for seed in range(seeds)]
        smooth = [moving_average([episode.reward for episode in run.episodes], WINDOW) for run in runs]
        for curve in smooth:
            axis.plot(range(1, len(curve) + 1), curve, color="#0072B2", alpha=0.3, linewidth=0.8)
        length = min(map(len, smooth))
        median = np.median([curve[:length] for curve in smooth], axis=0)
        axis.plot(range(1, length + 1), median, color="#0072B2", linewidth=2.2)
        mark = runs[0].config["reward_threshold"]
        axis.axhline(mark, color="#666666", linewidth=1, linestyle=(0, (4, 3)))
        axis.annotate(f"solved: {mark:g}", (0.02, mark), xycoords=("axes fraction", "data"), xytext=(0, 3),
                      textcoords="offset points", fontsize=7, color="#666666")  # fmt: skip
        axis.set_ylim((-450, 300) if mark < 300 else (0, 520))
        axis.set_title(experiment.name, loc="left", fontsize=9, fontweight="bold")
        axis.grid(visible=True, color="#e6e6e6", linewidth=0.8)
        axis.tick_params(labelsize=7, colors="#666666")
        axis.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("episode", fontsize=8, color="#666666")
    figure.supylabel(f"training reward, mean of {WINDOW} episodes", fontsize=8, color="#666666")
    figure.savefig(path, dpi=110)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Train plain DQN with settings that often fail.")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds per experiment (default: 3)")
    parser.add_argument("--jobs", type=int, default=1, help="number of runs to train in parallel (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("runs/as_asked"), help="directory of the runs")
    parser.add_argument("--changes", action="store_true", help="change one setting at a time (layers 128,128)")
    options = parser.parse_args()
    experiments = VARIATIONS if options.changes else EXPERIMENTS
    scores = run(experiments, options.seeds, options.jobs, options.out)
    result = {name: [asdict(score) for score in seeds] for name, seeds in scores.items()}
    (options.out / ("changes.json" if options.changes else "scores.json")).write_text(
        json.dumps(result, indent=2) + "\n", encoding="utf-8"
    )
    highest = {
        e.name: [highest_q(directory(options.out, e) / f"seed-{seed}") for seed in range(options.seeds)]
        for e in experiments
    }
    print(table(scores, highest))
    print(draw(experiments, options.seeds, options.out / ("changes.png" if options.changes else "as_asked.png")))


if __name__ == "__main__":
    main()
