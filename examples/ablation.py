"""Measure what each part of the LunarLander recipe contributes: remove or add one part at a time.

    python examples/ablation.py --seeds 10 --jobs 2

The script trains every variant with the same seeds in runs/ablation/ and reuses existing runs. It prints a table with
the difference between each variant and the recipe, and writes the plot runs/ablation/ablation.png. The results are in
docs/explanation/benchmarks.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from perilune import DQNConfig
from perilune.bench import results
from perilune.bench.learning import Trial, run_trials, settings
from perilune.bench.results import Comparison, Result
from perilune.envs.known.presets import preset

ENVIRONMENT = "LunarLander-v3"
SOLVED = 200.0
STEPS = 100_000
RECIPE = "the recipe"
# Parts of the recipe. Each variant removes one.
WITHOUT: dict[str, dict[str, Any]] = {
    "without Double DQN": {"double": False},
    "without n-step returns (1 instead of 3)": {"n_step": 1},
    "without LayerNorm": {"layer_norm": False},
    "without quantiles (and so without optimism)": {"head": "expected", "optimism": 0.0},
    "without optimism": {"optimism": 0.0},
    "without repeated random actions": {"max_action_repeat": 1},
    "without Munchausen": {"munchausen": 0.0},
    "without averaged weights": {"ema_decay": None},
    "without the mirror": {"mirror": False},
    "without learning-rate decay": {"learning_rate_schedule": "constant"},
}
# Parts that the recipe does not use. Each variant adds or changes one.
WITH: dict[str, dict[str, Any]] = {
    "with a dueling head": {"dueling": True},
    "with prioritized replay (0.6)": {"priority_alpha": 0.6, "priority_beta_steps": STEPS},
    "with noisy layers": {"noisy": True},
    "with AdamW": {"optimizer": "adamw"},
    "with C51 instead of quantiles": {"head": "c51", "value_range": (-500.0, 300.0), "optimism": 0.0},
    "with the averaged network also acting in training": {"ema_acts": True},
    "with 2 updates per time step": {"gradient_steps": 2},
    "with an update every 2 time steps": {"train_freq": 2},
}
PLAIN = "plain DQN: none of the parts"
NOTHING: dict[str, Any] = {name: value for change in WITHOUT.values() for name, value in change.items()}


@dataclass(frozen=True)
class Variant:
    """One row of the table, with its comparison to the recipe."""

    name: str
    result: Result
    comparison: Comparison


def variants() -> dict[str, DQNConfig]:
    """Return the settings of every variant by name, starting with the recipe."""
    recipe = replace(preset(ENVIRONMENT).agent, learning_rate_decay_steps=STEPS, buffer_size=STEPS)
    changes = {RECIPE: {}, **WITHOUT, **WITH, PLAIN: NOTHING}
    return {name: replace(recipe, **change) for name, change in changes.items()}


def run(seeds: Sequence[int], jobs: int, out: Path) -> list[Variant]:
    """Return the result of every variant and its comparison to the recipe. Omit variants that failed."""
    train = replace(preset(ENVIRONMENT).train, steps=STEPS)
    trials = {
        name: [Trial(ENVIRONMENT, agent, train, seed, out / directory(name) / f"seed-{seed}") for seed in seeds]
        for name, agent in variants().items()
    }
    scored, _ = run_trials([trial for group in zip(*trials.values(), strict=True) for trial in group], jobs)
    found: dict[str, Result] = {}
    for name, group in trials.items():
        scores = [scored[trial] for trial in group if trial in scored]
        if scores:
            found[name] = Result(ENVIRONMENT, SOLVED, settings(group[0]), scores, {})
            summed = results.summarize(found[name], np.random.default_rng(0))
            results.save(results.to_json(found[name], summed), out / directory(name))
    return [
        Variant(name, result, results.compare(result, found[RECIPE], np.random.default_rng(0)))
        for name, result in found.items()
    ]


def directory(name: str) -> str:
    """Return the name of the directory of a variant."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name).split())


def table(found: Sequence[Variant]) -> str:
    """Return the results as a Markdown table."""
    lines = [
        "| variant | final weights: IQM | margin over the recipe | worst seed | seeds solved | first solved, median |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for variant in found:
        summed = results.summarize(variant.result, np.random.default_rng(0))
        margin = "" if variant.name == RECIPE else results.format_estimate(variant.comparison.final.margin, 0)
        solved = sum(score.final >= SOLVED for score in variant.result.scores)
        first = results.format_count(summed.solved_env_steps)
        lines.append(
            f"| {variant.name} | {results.format_estimate(variant.comparison.final.a, 0)} | {margin} "
            f"| {summed.final.worst:.0f} | {solved} of {summed.seeds} | {first} |"
        )
    return "\n".join(lines)


def draw(found: Sequence[Variant], path: Path) -> None:
    """Plot the interquartile mean and interval of each variant, with a vertical line at the recipe's mean.

    Outliers would compress the axis. Therefore, cut intervals at the left edge, and write means beyond it as numbers.
    """
    estimates = [variant.comparison.final.a for variant in found]
    recipe = estimates[0].value
    left = recipe - 3 * float(np.median([recipe - estimate.low for estimate in estimates]))
    figure = Figure(figsize=(8, 0.34 * len(found) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.axvline(recipe, color="#1f4e85", linewidth=0.8, linestyle=":", zorder=0)
    for row, final in enumerate(estimates):
        if final.value < left:
            axes.text(left, row, f"\N{LEFTWARDS ARROW} {final.value:.0f}", color="#1f4e85", va="center")
        else:
            low = max(final.low, left)
            if final.low < left:
                axes.plot(left, row, marker="<", color="#3b6ea8", markersize=5, clip_on=False)
            axes.plot([low, final.high], [row, row], color="#3b6ea8", linewidth=5, alpha=0.35, solid_capstyle="butt")
            axes.plot(final.value, row, "o", color="#1f4e85", markersize=5)
    axes.set_xlim(left=left)
    axes.set_yticks(range(len(found)), [variant.name for variant in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    figure.supxlabel(
        f"final return after {STEPS:,} steps: interquartile mean over seeds, 95 % interval", fontsize="medium"
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what each part of the LunarLander recipe contributes.")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds per variant (default: 10)")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, help="number of runs to train in parallel (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="directory of the runs")
    options = parser.parse_args()
    found = run(range(options.first_seed, options.first_seed + options.seeds), options.jobs, options.out)
    print(table(found))
    draw(found, options.out / "ablation.png")


if __name__ == "__main__":
    main()
