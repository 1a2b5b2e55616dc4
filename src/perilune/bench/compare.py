"""Which of two results is better, by how much, and how sure that is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from perilune._utils.statistics import Estimate, estimate, interquartile_mean, margin, probability_of_improvement
from perilune.bench.results import Result, differences, estimate_words, finite, summary, whole
from perilune.errors import ConfigError

FEW = 5  # seeds, below which an interval says little
MOST_TOLD = 12  # settings that differ


@dataclass(frozen=True)
class Difference:
    """One checkpoint of every seed of A against that of B."""

    a: Estimate
    """Interquartile mean of A's returns."""
    b: Estimate
    margin: Estimate
    """The one less the other."""
    improvement: Estimate
    """Probability that a seed of A is better than one of B."""


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
    """Those that differ: name, A's value, B's value."""


def compare(a: Result, b: Result, generator: np.random.Generator) -> Comparison:
    """Compare two results of one environment.

    Raises:
        ConfigError: they are of different environments.
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

    sums = [summary(result, generator) for result in (a, b)]
    return Comparison(
        environment=a.environment,
        seeds=(len(a.scores), len(b.scores)),
        final=difference("final"),
        best=difference("best"),
        solved_env_steps=(sums[0].solved_env_steps, sums[1].solved_env_steps),
        solved_seconds=(sums[0].solved_seconds, sums[1].solved_seconds),
        settings=list(differences(a.settings, b.settings)),
    )


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Plain JSON values; a number that is not finite is None."""
    content = asdict(comparison)
    for checkpoint in ("final", "best"):
        difference = getattr(comparison, checkpoint)
        content[checkpoint] = {name: getattr(difference, name)._asdict() for name in content[checkpoint]}
    plain: dict[str, Any] = finite(content)
    return plain


def table(comparison: Comparison, a: str, b: str) -> str:
    """The comparison as a Markdown table; ``a`` and ``b`` are what the two are called."""
    lines = [
        f"| {comparison.environment} | A: {a} ({comparison.seeds[0]} seeds) | B: {b} ({comparison.seeds[1]} seeds) "
        "| A - B | probability that A is better |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, difference in (("final", comparison.final), ("best", comparison.best)):
        sides = f"{estimate_words(difference.a, 1)} | {estimate_words(difference.b, 1)}"
        sure = f"{estimate_words(difference.margin, 1)} | {estimate_words(difference.improvement, 2)}"
        lines.append(f"| {name}, IQM | {sides} | {sure} |")
    for name, (x, y), unit in (
        ("first solved, median", comparison.solved_env_steps, " steps"),
        ("after training for", comparison.solved_seconds, " s"),
    ):
        if x is not None and y is not None:
            lines.append(f"| {name} | {whole(x, unit)} | {whole(y, unit)} | | |")
    told = "; ".join(f"{name} = {x!r} and {y!r}" for name, x, y in comparison.settings[:MOST_TOLD])
    more = f"; and {len(comparison.settings) - MOST_TOLD} more" if len(comparison.settings) > MOST_TOLD else ""
    lines += ["", f"Settings of A and of B that differ: {told or 'none'}{more}."]
    if min(comparison.seeds) < FEW:
        lines.append(f"With fewer than {FEW} seeds a side, the intervals look surer than anybody can be.")
    return "\n".join(lines)
