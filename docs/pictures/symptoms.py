"""Make symptoms.png for docs/tutorials/reading-curves.md: python docs/pictures/symptoms.py

The script trains five small agents on CartPole-v1: a healthy one, and four whose settings cause common problems.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from perilune import DQN, History
from perilune._utils.statistics import moving_average
from perilune.viz.figures import log_scale, styled
from perilune.viz.shared import COLORS

STEPS = 12_000
PLAIN: dict[str, Any] = {"preset": "plain", "hidden": (64, 64), "batch_size": 64, "epsilon_decay_steps": 3_000}
CASES: dict[str, dict[str, Any]] = {
    "Healthy": {"seed": 3},
    "Epsilon falls too slowly": {"seed": 1, "epsilon_decay_steps": 1_000_000},
    "Q-values diverge": PLAIN | {"seed": 1, "learning_rate": 0.02, "target_update_interval": 1},
    "Nothing is learned": PLAIN | {"seed": 1, "learning_rate": 1e-3, "target_update_interval": 1_000_000},
    "Returns collapse": PLAIN
    | {
        "seed": 1,
        "learning_rate": 1e-3,
        "target_update_interval": 100,
        "n_step": 3,
        "double": True,
        "buffer_size": 2_000,
    },
}


@styled
def main() -> None:
    figure = Figure(figsize=(10, 2.1 * len(CASES)), layout="constrained")
    for row, (title, settings) in zip(figure.subplots(len(CASES), 3, sharex=True), CASES.items(), strict=True):
        history = DQN("CartPole-v1", **settings).train(steps=STEPS, eval_every=1_000, metrics_every=100, quiet=True)
        draw(row, title, history)
        evaluations = [round(evaluation.mean_return) for evaluation in history.evaluations]
        print(title, evaluations, [warning.what for warning in history.run.notices], flush=True)
    for axis in row:
        axis.set_xlabel("environment steps")
        axis.xaxis.set_major_formatter("{x:,.0f}")
    path = Path(__file__).parent / "symptoms.png"
    figure.savefig(path, dpi=100)
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)  # a third of the size


def draw(row: Any, title: str, history: History) -> None:
    """Draw the return, the mean Q-value and the loss of one run."""
    episodes, evaluations, metrics = history.episodes, history.evaluations, history.run.metrics
    ends, returns = [one.env_steps for one in episodes], [one.reward for one in episodes]
    row[0].plot(ends, returns, color=COLORS[0], linewidth=0.7, alpha=0.3)
    row[0].plot(ends, moving_average(returns, 10), color=COLORS[0], linewidth=2)
    row[0].plot([one.env_steps for one in evaluations], [one.mean_return for one in evaluations], "o", color=COLORS[1])
    row[0].set_ylim(0, 520)
    steps = [one.env_steps for one in metrics]
    row[1].plot(steps, [one.mean_q for one in metrics], color=COLORS[0])
    row[2].plot(steps, [one.loss for one in metrics], color=COLORS[0])
    for axis in row[1:] if metrics[-1].mean_q > 1_000 else row[2:]:
        log_scale(axis)
    for axis, name in zip(row, (f"{title}: return", "mean Q-value", "loss of an update"), strict=True):
        axis.set_title(name)
        axis.grid(visible=True)


if __name__ == "__main__":
    main()
