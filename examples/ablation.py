"""Measure what each part of the LunarLander recipe contributes: remove or add one part at a time.

    python examples/ablation.py --seeds 10 --jobs 2
    python examples/ablation.py --scores docs/results/LunarLander-v3_ablation.csv --out docs/pictures

The first command trains every variant with the same seeds in runs/ablation/ and reuses existing runs. It prints a table
with the difference between each variant and the recipe, and writes the plot runs/ablation/ablation.png. The second
command prints the table and writes the plot from the scores in a CSV file. The results are in
docs/explanation/benchmarks.md.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from perilune import DQNConfig
from perilune.bench import results
from perilune.bench.learning import Trial, run_trials, settings
from perilune.bench.results import Comparison, Result
from perilune.envs.known.presets import preset
from perilune.runs.scores import Score
from perilune.viz import figures
from perilune.viz.figures import COLORS

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


def run(seeds: Sequence[int], jobs: int, out: Path) -> dict[str, Result]:
    """Train every variant. Return the results by name, without variants that failed."""
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
    return found


def read(path: Path) -> dict[str, Result]:
    """Return the result of every variant by name from a CSV file with one row per variant and seed."""
    scores: dict[str, list[Score]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            values = {name: value or None for name, value in row.items()}
            scores.setdefault(row["variant"], []).append(msgspec.convert(values, Score, strict=False))
    return {name: Result(ENVIRONMENT, SOLVED, {}, group, {}) for name, group in scores.items()}


def compare(found: dict[str, Result]) -> list[Variant]:
    """Return the comparison of every variant to the recipe."""
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


@figures.styled
def draw(found: Sequence[Variant], path: Path) -> None:
    """Plot the interquartile mean and interval of each variant, with a vertical line at the recipe's mean.

    Outliers would compress the axis. Therefore, cut intervals at the left edge, and write means beyond it as numbers.
    """
    estimates = [variant.comparison.final.a for variant in found]
    recipe = estimates[0].value
    left = recipe - 3 * float(np.median([recipe - estimate.low for estimate in estimates]))
    figure = figures.titled(8, 0.3 * len(found) + 1.2, f"{ENVIRONMENT}: return of the final weights")
    axes = figure.subplots()
    axes.axvline(recipe, color=COLORS[0], linewidth=1, linestyle=":", zorder=0)
    for row, final in enumerate(estimates):
        if final.value < left:
            axes.text(left, row, f"\N{LEFTWARDS ARROW} {final.value:.0f}", color=COLORS[0], fontsize=9, va="center")
        else:
            low = max(final.low, left)
            if final.low < left:
                axes.plot(left, row, marker="<", color=COLORS[0], markersize=5, clip_on=False)
            axes.plot([low, final.high], [row, row], color=COLORS[0], linewidth=5, alpha=0.3, solid_capstyle="butt")
            axes.plot(final.value, row, "o", color=COLORS[0], markersize=5)
    axes.set_xlim(left=left)
    axes.set_yticks(range(len(found)), [variant.name for variant in found], fontsize=9, color=figures.INK)
    axes.set_ylim(len(found) - 0.5, -0.5)
    seeds = len(found[0].result.scores)
    axes.set_xlabel(f"interquartile mean and 95 % interval over {seeds} seeds, after {STEPS:,} time steps")
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", left=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what each part of the LunarLander recipe contributes.")
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds per variant (default: 10)")
    parser.add_argument("--first-seed", type=int, default=0, help="first seed (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, help="number of runs to train in parallel (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="directory of the runs and the plot")
    parser.add_argument("--scores", type=Path, help="CSV file of scores to plot instead of training")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    found = compare(read(options.scores) if options.scores else run(seeds, options.jobs, options.out))
    print(table(found))
    draw(found, options.out / "ablation.png")


if __name__ == "__main__":
    main()
