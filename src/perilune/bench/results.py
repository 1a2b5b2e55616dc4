"""Summarize, compare, format, save and load the results of benchmarks."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.statistics import (
    LEAST_SEEDS,
    Estimate,
    estimate,
    interquartile_mean,
    margin,
    probability_of_improvement,
)
from perilune._utils.text import decimals, show_return
from perilune.errors import ConfigError, FileFormatError, RunDirectoryError
from perilune.runs import files
from perilune.runs.files import read_json
from perilune.runs.logs import Run
from perilune.runs.scores import SCORE_EPISODES, Score
from perilune.viz.plots import Band
from perilune.viz.shared import joined

FORMAT = 1
JSON_FILE, CSV_FILE = "scores.json", "scores.csv"
NOTHING = "nothing"  # stands for a setting that one side lacks
LARGEST = 2**26  # bytes of scores.json
FEW = 5  # with fewer seeds, intervals are too narrow
MOST_LISTED = 12  # differing settings in a comparison


@dataclass(frozen=True)
class Result:
    """Scores of one algorithm on one environment, and the reasons for failed seeds."""

    environment: str
    reward_threshold: float | None
    settings: dict[str, Any]
    """Agent and training settings, as in the config.json of each seed."""
    scores: list[Score]
    failures: dict[int, str]


@dataclass(frozen=True)
class Spread:
    """Distribution of the greedy returns of one checkpoint over the seeds."""

    iqm: float
    """Interquartile mean, with the 95 % interval from ``low`` to ``high``, which are NaN if there are too few seeds."""
    low: float
    high: float
    median: float
    worst: float
    worst_seed: int
    solved_share: float | None
    """Share of the seeds at or above the reward threshold."""


@dataclass(frozen=True)
class Summary:
    """Statistics of a result over its seeds."""

    seeds: int
    final: Spread
    best: Spread
    fall: float
    """Median over the seeds of the return of the best checkpoint minus the return of the final checkpoint."""
    solved_env_steps: float | None
    """Median over the seeds of the environment steps until first solved. An unsolved seed counts as infinity."""
    solved_seconds: float | None
    """Median over the seeds of the training time until first solved, in seconds."""
    solved_cpu_seconds: float | None
    """Median over the seeds of the CPU time of training until first solved. None if a seed has no CPU time."""
    never_solved: list[int]
    """Seeds without an evaluation at or above the reward threshold."""


@dataclass(frozen=True)
class Difference:
    """Comparison of A and B by the returns of one checkpoint (final or best) of every seed."""

    returns: tuple[list[float], list[float]]
    """Mean return of every seed of A and of B."""
    a: Estimate
    """Interquartile mean (IQM) of A."""
    b: Estimate
    margin: Estimate
    """IQM of A minus IQM of B."""
    improvement: Estimate
    """Probability that a seed of A is better than a seed of B."""


@dataclass(frozen=True)
class Comparison:
    """Comparison of two results, A and B, on one environment."""

    environment: str
    summaries: tuple[Summary, Summary]
    final: Difference
    best: Difference
    settings: list[tuple[str, Any, Any]]
    """Settings that differ: name, value of A, value of B."""


def summarize(result: Result, generator: np.random.Generator) -> Summary:
    """Summarize a result that has at least one score. ``generator`` draws the bootstrap resamples."""
    scores, threshold = result.scores, result.reward_threshold

    def spread(returns: Sequence[float]) -> Spread:
        worst = int(np.argmin(returns))
        iqm = estimate(interquartile_mean, [returns], generator)
        return Spread(
            iqm=float(iqm.value),
            low=float(iqm.low),
            high=float(iqm.high),
            median=float(np.median(returns)),
            worst=returns[worst],
            worst_seed=scores[worst].seed,
            solved_share=None if threshold is None else float(np.mean([value >= threshold for value in returns])),
        )

    def median(values: Sequence[float | None]) -> float | None:
        finite = [math.inf if value is None else value for value in values]
        return None if threshold is None else float(np.median(finite))

    timed = all(score.cpu_seconds is not None for score in scores)

    return Summary(
        seeds=len(scores),
        final=spread([score.final for score in scores]),
        best=spread([score.best for score in scores]),
        fall=float(np.median([score.best - score.final for score in scores])),
        solved_env_steps=median([score.solved_env_steps for score in scores]),
        solved_seconds=median([score.solved_seconds for score in scores]),
        solved_cpu_seconds=median([score.solved_cpu_seconds for score in scores]) if timed else None,
        never_solved=[score.seed for score in scores if threshold is not None and score.solved_env_steps is None],
    )


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
            returns=(x, y),
            a=estimate(interquartile_mean, [x], generator),
            b=estimate(interquartile_mean, [y], generator),
            margin=estimate(margin, [x, y], generator),
            improvement=estimate(probability_of_improvement, [x, y], generator),
        )

    return Comparison(
        environment=a.environment,
        summaries=(summarize(a, generator), summarize(b, generator)),
        final=difference("final"),
        best=difference("best"),
        settings=list(differences(a.settings, b.settings)),
    )


def to_json(result: Result, summary: Summary) -> dict[str, Any]:
    """Return the content of scores.json. Non-finite numbers become None, such as the interval of two seeds."""
    failures = [{"seed": seed, "reason": reason} for seed, reason in result.failures.items()]
    content = {"format": FORMAT, "episodes": SCORE_EPISODES, "summary": summary, **vars(result), "failures": failures}
    order = ("format", "environment", "reward_threshold", "episodes", "settings", "scores", "failures", "summary")
    found: dict[str, Any] = plain({name: content[name] for name in order})
    return found


def plain(value: Any) -> Any:
    """Convert ``value`` to plain JSON values: dataclasses to dicts, tuples to lists, non-finite numbers to None."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=np.generic.item))


def save(content: dict[str, Any], directory: Path) -> None:
    """Write the result of ``to_json`` to scores.json, and its scores to scores.csv with one row per seed."""
    rows = io.StringIO()
    writer = csv.DictWriter(rows, [field.name for field in fields(Score)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(content["scores"])
    files.write_json(directory / JSON_FILE, content)
    files.write(directory / CSV_FILE, rows.getvalue().encode())


def load(path: Path) -> Result:
    """Read the results in the directory of a benchmark, or in its scores.json.

    Raises:
        RunDirectoryError: the file does not exist.
        FileFormatError: the file is damaged or has another format version.
    """
    file = path / JSON_FILE if path.is_dir() else path
    if not file.is_file():
        raise RunDirectoryError(f"{path} has no {JSON_FILE}. Pass a directory that `perilune bench learning` wrote.")
    content = read_json(file, LARGEST)
    if (found := content.get("format")) != FORMAT:
        raise FileFormatError(f"{file} has format {found!r}; this version of Perilune reads format {FORMAT}.")
    try:
        result = msgspec.convert(content | {"failures": {}}, Result)
    except msgspec.ValidationError as error:
        raise FileFormatError(f"{file} is damaged: {error}") from error
    if not result.scores:
        raise FileFormatError(f"{file} is damaged: it has no scores")
    return result


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, value in ``a``, value in ``b``) for each setting of ``b`` that differs in ``a``, at any depth."""
    for name, value in b.items():
        other = a.get(name, NOTHING)
        if isinstance(value, dict) and isinstance(other, dict):
            yield from differences(other, dict.fromkeys(other, NOTHING) | value)
        elif other != value:
            yield name, other, value


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def table(scores: Sequence[Score]) -> str:
    """Return the scores as a Markdown table."""
    columns: dict[str, Callable[[Score], str]] = {
        "seed": lambda score: str(score.seed),
        "best checkpoint": lambda score: show_return(score.best),
        "at step": lambda score: f"{score.best_env_steps:,}",
        "final": lambda score: show_return(score.final),
        "first solved": lambda score: format_count(score.solved_env_steps),
        "after": lambda score: training_time(score.solved_seconds, score.solved_cpu_seconds),
        "best 100 training episodes": lambda score: (
            "" if score.training_peak is None else show_return(score.training_peak)
        ),
        "in total": lambda score: training_time(score.seconds, score.cpu_seconds),
    }
    return markdown(list(columns), [[column(score) for column in columns.values()] for score in scores])


def training_time(seconds: float | None, cpu_seconds: float | None) -> str:
    """Format the CPU time of training, or its duration if the CPU time is unknown. None and infinity are "never"."""
    return format_count(seconds, " s") if cpu_seconds is None else format_count(cpu_seconds, " CPU s", digits=1)


def describe(result: Result, summary: Summary) -> str:
    """Return the summary of a result as a Markdown list."""
    lines = []
    for name, spread in (("final", summary.final), ("best", summary.best)):
        iqm = format_estimate(Estimate(spread.iqm, spread.low, spread.high))
        median, worst = show_return(spread.median), show_return(spread.worst)
        words = f"IQM {iqm}, median {median}, worst {worst} (seed {spread.worst_seed})"
        if summary.seeds < LEAST_SEEDS:
            words = each_seed([getattr(score, name) for score in result.scores])
        share = spread.solved_share
        solved = "" if share is None else f", {share * summary.seeds:.0f} of {summary.seeds} solved"
        lines.append(f"- {name}: {words}{solved}")
    if result.reward_threshold is not None:
        steps = format_count(summary.solved_env_steps, " steps")
        time = training_time(summary.solved_seconds, summary.solved_cpu_seconds)
        median = steps if steps == time else f"{steps}, {time} of training"
        never = f"; never: seed {', '.join(map(str, summary.never_solved))}" if summary.never_solved else ""
        lines.append(f"- first solved (evaluation at {result.reward_threshold:g} or above): median {median}{never}")
    return "\n".join([*lines, f"- best minus final: median {show_return(summary.fall)}"])


def each_seed(returns: Sequence[float]) -> str:
    """Return the mean return of each seed, which is all that fewer than ``LEAST_SEEDS`` seeds show."""
    return ", ".join(map(show_return, returns))


def few_seeds(seeds: int) -> str:
    """Return the warning above a comparison with too few seeds per side."""
    count = "1 seed" if seeds == 1 else f"{seeds} seeds"
    if seeds < LEAST_SEEDS:
        return f"{count} per side cannot show which side is better, however large the margin. Train at least {FEW}."
    return f"{count} per side are too few: the intervals are too narrow to be reliable. Train at least {FEW}."


def comparison_table(comparison: Comparison, *names: str) -> str:
    """Return the comparison of two results, called ``names``, as a Markdown table.

    If a side has fewer than ``LEAST_SEEDS`` seeds, the table shows the return of each seed instead of statistics.
    """
    a, b = comparison.summaries
    few = min(a.seeds, b.seeds)
    titles = [f"{side}: {name} ({of.seeds} seeds)" for side, name, of in zip("AB", names, (a, b), strict=True)]
    columns = ["A - B", "probability that A is better"] if few >= LEAST_SEEDS else []
    header, empty, rows = [comparison.environment, *titles, *columns], [""] * len(columns), []
    for name, difference in (("final", comparison.final), ("best", comparison.best)):
        if few < LEAST_SEEDS:
            rows.append([f"{name}, each seed", *map(each_seed, difference.returns)])
            continue
        returns = [format_estimate(value) for value in (difference.a, difference.b, difference.margin)]
        rows.append([f"{name}, IQM", *returns, format_estimate(difference.improvement, 2)])
    if a.solved_env_steps is not None:  # the environment has a reward threshold
        steps = [format_count(side.solved_env_steps, " steps") for side in (a, b)]
        times = [training_time(side.solved_seconds, side.solved_cpu_seconds) for side in (a, b)]
        rows += [["first solved, median", *steps, *empty], ["after training for", *times, *empty]]
    listed = [f"{name} ({x!r} and {y!r})" for name, x, y in comparison.settings[:MOST_LISTED]]
    more = len(comparison.settings) - len(listed)
    listed += [f"and {more} more"] if more else []
    lines = [] if few >= FEW else [few_seeds(few), ""]
    lines += [markdown(header, rows), "", f"Settings that differ (A and B): {'; '.join(listed) or 'none'}."]
    return "\n".join(lines)


def format_count(value: float | None, unit: str = "", digits: int = 0) -> str:
    """Format a number with thousands separators, and None and infinity as "never"."""
    return "never" if value is None or math.isinf(value) else f"{value:,.{digits}f}{unit}"


def format_estimate(value: Estimate, digits: int | None = None) -> str:
    """Format a statistic, by default one of returns, with its interval in parentheses if there is one."""
    parts = [value.value] if math.isnan(value.low) else [value.value, value.low, value.high]
    digits = decimals(*parts) if digits is None else digits
    shown, *ends = [f"{part:.{digits}f}" for part in parts]
    return f"{shown} ({' to '.join(ends)})" if ends else shown


def band(name: str, runs: Sequence[Run], generator: np.random.Generator) -> Band:
    """Return the learning curves of several seeds, their interquartile mean and its interval.

    Seeds are evaluated at different steps, because evaluations wait for the end of an episode. Returns are therefore
    interpolated linearly. The mean covers the range of steps that all seeds share.
    """
    curves = [_curve(run) for run in runs]
    grid, returns = joined(curves)
    mean = estimate(interquartile_mean, [returns.T], generator) if grid.size else Estimate(grid, grid, grid)
    return Band(name, curves, grid, mean.value, mean.low, mean.high)


def _curve(run: Run) -> tuple[Array, Array]:
    """Return (environment steps, mean returns) of all evaluations with a finite mean return."""
    points = [(found.env_steps, found.mean_return) for found in run.evaluations if found.mean_return is not None]
    steps, means = np.array(points, np.float64).T
    return steps, means
