"""Comparison of two benchmark results: which is better, by how much, and how certain that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from perilune._utils.statistics import Estimate, estimate, interquartile_mean, margin, probability_of_improvement
from perilune.bench.results import Result, differences, format_count, format_estimate, markdown, summarize
from perilune.errors import ConfigError

FEW = 5  # seeds, below which intervals are too narrow
MOST_LISTED = 12  # settings that differ


@dataclass(frozen=True)
class Difference:
    """One checkpoint of every seed of A against that of B."""

    a: Estimate
    """Interquartile mean of A's returns."""
    b: Estimate
    margin: Estimate
    """IQM of A minus IQM of B."""
    improvement: Estimate
    """Probability that a seed of A is better than a seed of B."""


@dataclass(frozen=True)
class Comparison:
    """A against B."""

    environment: str
    seeds: tuple[int, int]
    final: Difference
    best: Difference
    solved_env_steps: tuple[float | None, float | None]
    """Medians over the seeds, of A and of B."""
    solved_seconds: tuple[float | None, float | None]
    settings: list[tuple[str, Any, Any]]
    """Settings that differ: name, A's value, B's value."""


def compare(a: Result, b: Result, generator: np.random.Generator) -> Comparison:
    """Compare two results of one environment.

    Raises:
        ConfigError: their environments differ.
    """
    if a.environment != b.environment:
        raise ConfigError("B", b.environment, f"the environment of A, {a.environment}")

    def difference(checkpoint: str) -> Difference:
        x, y = ([getattr(score, checkpoint) for score in result.scores] for result in (a, b))
        return Difference(
            a=estimate(interquartile_mean, [x], generator),
            b=estimate(interquartile_mean, [y], generator),
            margin=estimate(margin, [x, y], generator),
            improvement=estimate(probability_of_improvement, [x, y], generator),
        )

    summaries = [summarize(result, generator) for result in (a, b)]
    return Comparison(
        environment=a.environment,
        seeds=(len(a.scores), len(b.scores)),
        final=difference("final"),
        best=difference("best"),
        solved_env_steps=(summaries[0].solved_env_steps, summaries[1].solved_env_steps),
        solved_seconds=(summaries[0].solved_seconds, summaries[1].solved_seconds),
        settings=list(differences(a.settings, b.settings)),
    )


def table(comparison: Comparison, a: str, b: str) -> str:
    """Return the comparison as a Markdown table; ``a`` and ``b`` name the two results."""
    header = [
        comparison.environment,
        f"A: {a} ({comparison.seeds[0]} seeds)",
        f"B: {b} ({comparison.seeds[1]} seeds)",
        "A - B",
        "probability that A is better",
    ]
    rows = []
    for name, difference in (("final", comparison.final), ("best", comparison.best)):
        returns = [format_estimate(value, 1) for value in (difference.a, difference.b, difference.margin)]
        rows.append([f"{name}, IQM", *returns, format_estimate(difference.improvement, 2)])
    for name, (x, y), unit in (
        ("first solved, median", comparison.solved_env_steps, " steps"),
        ("after training for", comparison.solved_seconds, " s"),
    ):
        if x is not None and y is not None:
            rows.append([name, format_count(x, unit), format_count(y, unit), "", ""])
    listed = "; ".join(f"{name} = {x!r} and {y!r}" for name, x, y in comparison.settings[:MOST_LISTED])
    more = f"; and {len(comparison.settings) - MOST_LISTED} more" if len(comparison.settings) > MOST_LISTED else ""
    lines = [markdown(header, rows), "", f"Settings of A and B that differ: {listed or 'none'}{more}."]
    if min(comparison.seeds) < FEW:
        lines.append(f"With fewer than {FEW} seeds per side the intervals are too narrow to be trusted.")
    return "\n".join(lines)
