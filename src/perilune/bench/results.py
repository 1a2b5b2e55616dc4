"""What all seeds came to: a summary, tables for people and files for programs."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.statistics import Estimate, estimate, interquartile_mean
from perilune.errors import FileFormatError, RunDirectoryError
from perilune.runs.files import read_json
from perilune.runs.runlog import Run
from perilune.runs.scores import SCORE_EPISODES, Score, read_score
from perilune.viz.plots import Band

FORMAT = 1
JSON_FILE, CSV_FILE = "scores.json", "scores.csv"
NOTHING = "nothing"  # where settings have no such one
LARGEST = 2**26  # bytes of scores.json


@dataclass(frozen=True)
class Result:
    """The scores of one learner on one environment, seed by seed, and why other seeds have none."""

    environment: str
    reward_threshold: float | None
    settings: dict[str, Any]
    """Of the agent and of the training, as in every seed's config.json."""
    scores: list[Score]
    failures: dict[int, str]


@dataclass(frozen=True)
class Spread:
    """What one checkpoint of every seed came to, in greedy returns. The interval is of 95 %."""

    iqm: float
    low: float
    high: float
    median: float
    worst: float
    worst_seed: int
    solved_share: float | None
    """Share of the seeds at or above the solved mark."""


@dataclass(frozen=True)
class Summary:
    """What the seeds of a result came to."""

    seeds: int
    final: Spread
    best: Spread
    fall: float
    """Median over the seeds of the best checkpoint's return less the final one's."""
    solved_env_steps: float | None
    """Median over the seeds of the environment steps until solved first; never is infinity."""
    solved_seconds: float | None
    """The same of the seconds of training."""
    never_solved: list[int]
    """Seeds without any evaluation at or above the mark."""


def summary(result: Result, generator: np.random.Generator) -> Summary:
    """Sum up a result that has at least one score; ``generator`` draws the bootstrap's resamples."""
    scores = result.scores
    marked = result.reward_threshold is not None
    return Summary(
        seeds=len(scores),
        final=_spread(scores, [score.final for score in scores], result.reward_threshold, generator),
        best=_spread(scores, [score.best for score in scores], result.reward_threshold, generator),
        fall=float(np.median([score.best - score.final for score in scores])),
        solved_env_steps=_median([score.solved_env_steps for score in scores]) if marked else None,
        solved_seconds=_median([score.solved_seconds for score in scores]) if marked else None,
        never_solved=[score.seed for score in scores if marked and score.solved_env_steps is None],
    )


def _spread(
    scores: Sequence[Score], returns: Sequence[float], mark: float | None, generator: np.random.Generator
) -> Spread:
    worst = int(np.argmin(returns))
    iqm, low, high = estimate(interquartile_mean, [returns], generator)
    return Spread(
        iqm=float(iqm),
        low=float(low),
        high=float(high),
        median=float(np.median(returns)),
        worst=returns[worst],
        worst_seed=scores[worst].seed,
        solved_share=None if mark is None else float(np.mean([value >= mark for value in returns])),
    )


def _median(values: Sequence[float | None]) -> float:
    return float(np.median([math.inf if value is None else value for value in values]))


def to_json(result: Result, summed: Summary) -> dict[str, Any]:
    """Plain JSON values; a number that is not finite (an interval of one seed, a median of never) is None."""
    content = {
        "format": FORMAT,
        "environment": result.environment,
        "reward_threshold": result.reward_threshold,
        "episodes": SCORE_EPISODES,
        "settings": result.settings,
        "scores": [asdict(score) for score in result.scores],
        "failures": [{"seed": seed, "reason": reason} for seed, reason in result.failures.items()],
        "summary": asdict(summed),
    }
    plain: dict[str, Any] = finite(content)
    return plain


def finite(value: Any) -> Any:
    """``value`` with None for every number in it that is not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save(content: dict[str, Any], directory: Path) -> None:
    """Write scores.json, and scores.csv with a row for each seed, from what ``to_json`` gave."""
    rows = io.StringIO()
    writer = csv.DictWriter(rows, [field.name for field in fields(Score)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(content["scores"])
    try:
        (directory / JSON_FILE).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (directory / CSV_FILE).write_text(rows.getvalue(), encoding="utf-8")
    except OSError as error:
        raise RunDirectoryError(f"results cannot be written to {directory}: {error.strerror or error}") from error


def load(path: Path) -> Result:
    """Read a result's directory, or its scores.json.

    Raises:
        RunDirectoryError: there is none.
        FileFormatError: it is damaged or of another format.
    """
    file = path / JSON_FILE if path.is_dir() else path
    if not file.is_file():
        raise RunDirectoryError(f"{path} holds no {JSON_FILE}. Give what `perilune bench learning` wrote.")
    content = read_json(file, LARGEST)
    if content.get("format") != FORMAT:
        found = content.get("format")
        raise FileFormatError(f"{file} has format {found!r}; this version of Perilune reads {FORMAT}")
    kinds: dict[str, Any] = {
        "environment": str,
        "reward_threshold": int | float | None,
        "settings": dict,
        "scores": list,
    }
    for key, kind in kinds.items():
        if key not in content or not isinstance(content[key], kind):
            raise FileFormatError(f"{file}: {key} is {content.get(key)!r}, which is not what a result has there")
    if not content["scores"]:
        raise FileFormatError(f"{file} has no scores")
    scores = [read_score(record, file) for record in content["scores"]]
    return Result(content["environment"], content["reward_threshold"], content["settings"], scores, failures={})


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Every setting of ``b`` that is another in ``a``, and within a group of them every one of both: name, a's, b's."""
    for name, value in b.items():
        other = a.get(name, NOTHING)
        if isinstance(value, dict) and isinstance(other, dict):
            yield from differences(other, dict.fromkeys(other, NOTHING) | value)
        elif other != value:
            yield name, other, value


def table(scores: Sequence[Score]) -> str:
    """The scores as a Markdown table."""
    lines = [
        "| seed | best checkpoint | at step | final | first solved | after | best 100 training episodes | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for score in scores:
        lines.append(
            f"| {score.seed} | {score.best:.1f} | {score.best_env_steps:,} | {score.final:.1f} "
            f"| {whole(score.solved_env_steps)} | {whole(score.solved_seconds, ' s')} "
            f"| {'' if score.training_peak is None else f'{score.training_peak:.1f}'} | {score.seconds:.0f} |"
        )
    return "\n".join(lines)


def whole(value: float | None, unit: str = "") -> str:
    """A count in words; None and infinity are never."""
    return "never" if value is None or math.isinf(value) else f"{value:,.0f}{unit}"


def words(result: Result, summed: Summary) -> str:
    """The summary in a few lines of Markdown."""
    mark = result.reward_threshold
    lines = [f"- {name}: {_spread_words(spread, summed.seeds)}"
             for name, spread in (("final", summed.final), ("best", summed.best))]  # fmt: skip
    if mark is not None:
        steps, seconds = whole(summed.solved_env_steps, " steps"), whole(summed.solved_seconds, " s")
        median = steps if steps == seconds else f"{steps}, {seconds} of training"
        never = f"; never: seed {', '.join(map(str, summed.never_solved))}" if summed.never_solved else ""
        lines.append(f"- first solved, an evaluation at {mark:g} or above: median {median}{never}")
    return "\n".join([*lines, f"- best less final: median {summed.fall:.1f}"])


def _spread_words(spread: Spread, seeds: int) -> str:
    mean = estimate_words(Estimate(spread.iqm, spread.low, spread.high), 1)
    solved = "" if spread.solved_share is None else f", {spread.solved_share * seeds:.0f} of {seeds} solved"
    return f"IQM {mean}, median {spread.median:.1f}, worst {spread.worst:.1f} (seed {spread.worst_seed}){solved}"


def estimate_words(value: Estimate, digits: int) -> str:
    """A statistic with its interval in brackets, where it has one."""
    if math.isnan(value.low):
        return f"{value.value:.{digits}f}"
    return f"{value.value:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"


def band(name: str, runs: Sequence[Run], generator: np.random.Generator) -> Band:
    """The evaluations of several seeds over environment steps: each seed's, their interquartile mean, its interval.

    Seeds are evaluated at the ends of episodes, each at steps of its own; between two evaluations the line is straight.
    The mean covers the steps that lie between the first and the last evaluation of every seed.
    """
    curves = [_curve(run) for run in runs]
    start, stop = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    grid = np.linspace(start, stop, max(len(steps) for steps, _ in curves)) if start < stop else np.array([stop])
    returns = np.stack([np.interp(grid, steps, means) for steps, means in curves], axis=-1)
    return Band(name, curves, grid, *estimate(interquartile_mean, [returns], generator))


def _curve(run: Run) -> tuple[Array, Array]:
    """(environment steps, returns) of a run's evaluations; one that was not finite is null in the log and left out."""
    points = [(found.env_steps, found.mean_return) for found in run.evaluations if found.mean_return is not None]
    steps, means = np.array(points, np.float64).T
    return steps, means
