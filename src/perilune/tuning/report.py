"""Describe the result of a search as text."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perilune._utils.statistics import LEAST_SEEDS
from perilune._utils.text import duration, quoted, show_return
from perilune.bench.results import FEW, comparison_table, format_estimate, markdown
from perilune.errors import MissingDependencyError, PeriluneWarning
from perilune.runs import files
from perilune.runs.search import SEARCH_REPORT
from perilune.tuning import work
from perilune.tuning.result import Gain, TuningResult
from perilune.viz.report.templates import render

MOST_TRIALS = 10  # in the table of the terminal
STATES = {"complete": "complete", "pruned": "stopped early", "failed": "failed", "running": "running"}
NO_GAIN = "No trial was better than the starting point, which is trial 0, so there is nothing to compare."
RUNNING = "The search is running. Reload this page to see new trials."
NOT_COMPARED = "The winner was not compared with the starting point."


def write(result: TuningResult, running: bool = False) -> list[Path]:
    """Write the report of a search as an HTML file. Without the libraries for it, warn and write nothing.

    Args:
        result: the result.
        running: whether the search has not ended.

    Returns:
        The written files.
    """
    path = result.directory / SEARCH_REPORT
    try:
        files.update(path, html(result, running=running).encode())
    except MissingDependencyError as error:
        warnings.warn(f"the report was not written: {error}", PeriluneWarning, stacklevel=2)
        return []
    return [path]


def html(result: TuningResult, page: bool = True, running: bool = False) -> str:
    """Return the report of a search as HTML: the result, figures and all trials.

    Args:
        result: the result.
        page: return a whole page. If False, return a part of a page, for a notebook.
        running: whether the search has not ended.

    Raises:
        MissingDependencyError: Jinja2 or matplotlib is not installed.
    """
    from perilune.tuning import figures  # noqa: PLC0415 -- only here

    found = result.gain
    rows = [
        [
            str(one.number),
            STATES[one.state],
            value(result, one.value),
            duration(one.seconds) if one.seconds is not None else "",
            parameters(one.parameters) + (f" ({one.reason})" if one.reason else ""),
        ]
        for one in (*result.ranked, *(one for one in result.trials if one.value is None))
    ]
    note = "" if result.importances else "There are too few complete trials to compute importances."
    return render(
        "tuning.html" if page else "tuning_part.html",
        title=f"Search for settings: {result.environment}, {result.objective}",
        summary=counts(result),
        objective=result.objective,
        winner=_winner(result).partition("\n")[0],
        verdict=RUNNING if running else verdict(result, found),
        comparison=None if found is None else comparison(result, found),
        command=command(result),
        pictures={title: picture.encoded("png") for title, picture in figures.drawn(result).items()},
        note=note,
        rows=rows,
    )


def comparison(result: TuningResult, found: Gain) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the comparison of the winner with the starting point."""
    a, b = found.comparison.summaries
    header = ["", f"winner (trial {result.best})", "starting point", "difference"]
    values = [value(result, work.combined(result.objective, group), len(group)) for group in groups(found)]
    comparable = len(found.winner) >= LEAST_SEEDS and _all_solved(result, found)
    rows = [[result.objective, *values, format_estimate(found.margin) if comparable else ""]]
    for name, difference in (("final", found.comparison.final), ("best", found.comparison.best)):
        margin = "" if min(a.seeds, b.seeds) < LEAST_SEEDS else format_estimate(difference.margin)
        rows.append(
            [
                f"{name} weights, IQM of returns",
                *(show_return(one.value) for one in (difference.a, difference.b)),
                margin,
            ]
        )
    return header, rows


def groups(found: Gain) -> tuple[list[float], list[float]]:
    """Return the objective values of the winner and of the starting point."""
    return found.winner, found.start


def counts(result: TuningResult) -> str:
    """Return how many trials there are in each state, as words."""
    states = [one.state for one in result.trials]
    seeds = "1 seed" if result.seeds == 1 else f"{result.seeds} seeds"
    words = f"{len(states)} trials with {seeds} each: {states.count('complete')} complete"
    for state in ("pruned", "failed", "running"):
        words += f", {states.count(state)} {STATES[state]}" if state in states else ""
    return words


def command(result: TuningResult) -> str:
    """Return the command that trains with the best settings."""
    return quoted(["perilune", "train", result.environment, "--config", str(result.settings_file)])


def describe(result: TuningResult) -> str:
    """Return the result of a search as text: the best trials, the winner, and how much better it is."""
    parts = [
        f"{result.environment}, {result.objective}: {counts(result)}",
        table(result),
        _winner(result),
        gain(result),
    ]
    return "\n\n".join(part for part in parts if part)


def _all_solved(result: TuningResult, found: Gain) -> bool:
    """Return whether the objective values contain no unsolved seed, which counts as a million seconds."""
    return work.maximizes(result.objective) or max(*found.winner, *found.start) < work.UNSOLVED


def value(result: TuningResult, number: float | None, seeds: int | None = None) -> str:
    """Format an objective value of a number of seeds, by default those of a trial."""
    if number is None:
        return ""
    if not work.maximizes(result.objective):
        return "not always solved" if number >= work.UNSOLVED / (seeds or result.seeds) else f"{number:.1f} s"
    return show_return(number)


def table(result: TuningResult) -> str:
    """Return the best trials as a Markdown table."""
    rows = [
        [str(one.number), value(result, one.value), parameters(one.parameters), duration(one.seconds or 0.0)]
        for one in result.ranked[:MOST_TRIALS]
    ]
    return markdown(["trial", result.objective, "settings", "time"], rows)


def parameters(found: Mapping[str, Any]) -> str:
    """Return parameters as text."""
    return ", ".join(f"{name} {number(one)}" for name, one in found.items())


def number(one: Any) -> str:
    """Format the value of a parameter."""
    return f"{one:.4g}" if isinstance(one, float) else str(one)


def _winner(result: TuningResult) -> str:
    complete = len(result.ranked)
    optimistic = f" This figure is optimistic, because it is the best of {complete}." if complete > 1 else ""
    return (
        f"Best: trial {result.best}, {result.objective} {value(result, result.best_value)}.{optimistic}\n"
        f"Train with its settings: {command(result)}"
    )


def gain(result: TuningResult) -> str:
    """Return how much better the winner is than the starting point, on seeds that the search did not use."""
    found = result.gain
    if found is None:
        return verdict(result, found)
    compared = comparison_table(found.comparison, f"trial {result.best}", "starting point")
    # With too few seeds, the table reports it.
    return compared if len(found.winner) < LEAST_SEEDS else f"{verdict(result, found)}\n\n{compared}"


def verdict(result: TuningResult, found: Gain | None) -> str:
    """Return the margin of the winner as a sentence."""
    if found is None:
        return NOT_COMPARED if result.best else NO_GAIN
    seeds = len(found.winner)
    if seeds < LEAST_SEEDS:
        count = "1 fresh seed" if seeds == 1 else f"{seeds} fresh seeds"
        return f"{count} cannot show whether the winner is better. Pass --comparison-seeds {FEW} or more."
    sign = 1 if work.maximizes(result.objective) else -1
    low, high = sorted((sign * found.margin.low, sign * found.margin.high))
    advice = " Keep the settings of the starting point, or search with more seeds per trial." if high < 0 else ""
    what = "better than" if low > 0 else "worse than" if high < 0 else "not distinguishable from"
    if _all_solved(result, found):
        why = f"{result.objective} differs by {format_estimate(found.margin)}"
    else:
        solved = [sum(one < work.UNSOLVED for one in group) for group in groups(found)]
        why = f"the winner solves {result.environment} with {solved[0]} seeds, the starting point with {solved[1]}"
    return f"On {seeds} fresh seeds, the winner is {what} the starting point: {why}.{advice}"


def to_json(result: TuningResult) -> dict[str, Any]:
    """Return the result as plain values."""
    trials: Sequence[dict[str, Any]] = [vars(one) | {"directory": str(one.directory)} for one in result.trials]
    content = vars(result) | {
        "log_parameters": sorted(result.log_parameters),
        "directory": str(result.directory),
        "trials": trials,
    }
    return content | {"best_value": result.best_value, "settings": str(result.settings_file)}
