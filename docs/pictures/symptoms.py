"""Make symptoms.png for docs/tutorials/reading-curves.md: python docs/pictures/symptoms.py

It trains five small agents on CartPole-v1: one with the preset, and four with a setting that causes a typical problem.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from perilune import DQN, History
from perilune._utils.statistics import moving_average
from perilune.viz.figures import COLORS, log_scale, styled

STEPS = 12_000
PLAIN: dict[str, Any] = {"preset": "plain", "hidden": (64, 64), "learning_rate": 1e-3, "epsilon_decay_steps": 3_000}
CASES: dict[str, dict[str, Any]] = {
    "Healthy": {},
    "Epsilon does not fall": {"epsilon_decay_steps": 500_000},
    "Q-values diverge": PLAIN | {"learning_rate": 0.01, "target_update_interval": 1, "loss": "mse", "gamma": 1.0},
    "Nothing is learned": PLAIN | {"target_update_interval": 1_000_000},
    "Forgets after it has learned": PLAIN | {"buffer_size": 1_000, "target_update_interval": 100},
}


@styled
def main() -> None:
    figure = Figure(figsize=(10, 2.1 * len(CASES)), layout="constrained")
    for row, (title, settings) in zip(figure.subplots(len(CASES), 3, sharex=True), CASES.items(), strict=True):
        history = DQN("CartPole-v1", seed=1, **settings).train(
            steps=STEPS, eval_every=1_000, metrics_every=100, quiet=True
        )
        panels(row, title, history)
        print(title, [round(one.mean_return) for one in history.evaluations], [one.what for one in history.run.notices])
    figure.supxlabel("environment step", fontsize=9)
    figure.savefig(Path(__file__).parent / "symptoms.png", dpi=100)


def panels(row: Any, title: str, history: History) -> None:
    """Draw the return, the mean Q-value and the loss of one training."""
    run = history.run
    ends, returns = zip(*((one.env_steps, one.reward) for one in history.episodes), strict=True)
    row[0].plot(ends, returns, color=COLORS[0], linewidth=0.7, alpha=0.3)
    row[0].plot(ends, moving_average(returns, 10), color=COLORS[0], linewidth=2)
    row[0].plot(*zip(*((e.env_steps, e.mean_return) for e in run.evaluations), strict=True), "o", color=COLORS[1])
    row[0].set_ylim(0, 520)
    steps = [one.env_steps for one in run.metrics]
    row[1].plot(steps, [one.mean_q for one in run.metrics], color=COLORS[0])
    row[2].plot(steps, np.maximum([one.loss for one in run.metrics], 1e-9), color=COLORS[0])
    log_scale(row[2])
    for axis, name in zip(row, (title, "mean Q", "loss"), strict=True):
        axis.set_title(name)
        axis.grid(visible=True)
    row[0].set_ylabel("return", fontsize=9)


if __name__ == "__main__":
    main()
