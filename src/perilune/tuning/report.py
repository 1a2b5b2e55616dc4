"""Describe the result of a search as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perilune._utils.statistics import LEAST_SEEDS
from perilune._utils.text import duration, quoted
from perilune.bench.results import comparison_table, format_estimate, markdown
from perilune.tuning import work
from perilune.tuning.result import Gain, TrialSummary, TuningResult

MOST_TRIALS = 10  # in the table of the terminal


def describe(result: TuningResult) -> str:
    """Return the result of a search as text: the best trials, the winner, and how much better it is."""
    counts = {state: sum(one.state == state for one in result.trials) for state in ("complete", "pruned", "failed")}
    words = f"{len(result.trials)} trials of {result.seeds} seeds: {counts['complete']} complete"
    words += f", {counts['pruned']} stopped early" if counts["pruned"] else ""
    words += f", {counts['failed']} failed" if counts["failed"] else ""
    parts = [f"{result.environment}, {result.objective}: {words}", table(result), _winner(result), gain(result)]
    return "\n\n".join(part for part in parts if part)


def value(result: TuningResult, number: float | None) -> str:
    """Format an objective value."""
    if number is None:
        return ""
    if not work.maximizes(result.objective):
        return "not always solved" if number >= work.UNSOLVED / result.seeds else f"{number:.1f} s"
    return f"{number:.1f}"


def ranked(result: TuningResult) -> list[TrialSummary]:
    """Return the complete trials, the best first."""
    sign = -1 if work.maximizes(result.objective) else 1
    complete = [one for one in result.trials if one.value is not None]
    return sorted(complete, key=lambda one: (sign * (one.value or 0.0), one.number))


def table(result: TuningResult) -> str:
    """Return the best trials as a Markdown table."""
    rows = [
        [str(one.number), value(result, one.value), parameters(one.parameters), duration(one.seconds or 0.0)]
        for one in ranked(result)[:MOST_TRIALS]
    ]
    return markdown(["trial", result.objective, "settings", "time"], rows)


def parameters(found: Mapping[str, Any]) -> str:
    """Return parameters as text."""
    return ", ".join(f"{name} {number(one)}" for name, one in found.items())


def number(one: Any) -> str:
    """Format the value of a parameter."""
    return f"{one:.4g}" if isinstance(one, float) else str(one)


def _winner(result: TuningResult) -> str:
    return (
        f"Best: trial {result.best}, {result.objective} {value(result, result.best_value)}. This figure is optimistic, "
        f"because it is the best of {sum(one.value is not None for one in result.trials)}.\n"
        f"Train with its settings: perilune train {result.environment} --config {quoted([str(result.settings_file)])}"
    )


def gain(result: TuningResult) -> str:
    """Return how much better the winner is than the starting point, on seeds that the search did not use."""
    found = result.gain
    if found is None:
        return "The winner was not compared with the starting point." if result.best else NO_GAIN
    names = (f"trial {result.best}", "starting point")
    return f"{verdict(result, found)}\n\n{comparison_table(found.comparison, *names)}"


NO_GAIN = "No trial was better than the starting point."


def verdict(result: TuningResult, found: Gain) -> str:
    """Return the margin of the winner as a sentence."""
    seeds = len(found.winner)
    if seeds < LEAST_SEEDS:
        return f"{seeds} fresh seeds cannot show whether the winner is better. Compare at least {LEAST_SEEDS}."
    sign = 1 if work.maximizes(result.objective) else -1
    low, high = sorted((sign * found.margin.low, sign * found.margin.high))
    what = "better than" if low > 0 else "worse than" if high < 0 else "not distinguishable from"
    return (
        f"On {seeds} fresh seeds, the winner is {what} the starting point: {result.objective} differs by "
        f"{format_estimate(found.margin, 1)}."
    )


def to_json(result: TuningResult) -> dict[str, Any]:
    """Return the result as plain values."""
    trials: Sequence[dict[str, Any]] = [vars(one) | {"directory": str(one.directory)} for one in result.trials]
    content = vars(result) | {"directory": str(result.directory), "trials": trials}
    return content | {"best_value": result.best_value, "settings": str(result.settings_file)}
