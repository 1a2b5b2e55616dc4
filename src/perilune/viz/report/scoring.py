"""Scores of a run's weights: greedy episodes from start states that training never uses, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perilune._utils import statistics
from perilune._utils.arrays import Array
from perilune._utils.blas import one_blas_thread
from perilune._utils.statistics import Estimate
from perilune.agent.config import TrainConfig, build
from perilune.errors import MissingDependencyError, PeriluneError
from perilune.runs import files, manifest, weights
from perilune.runs.layout import WEIGHTS
from perilune.runs.logs import Run
from perilune.runs.scores import SCORE_EPISODES, SCORE_FILE, read_score
from perilune.training.evaluation import Evaluation, evaluate, greedy_limit

MIN_EPISODES = 10  # for an interval; with fewer episodes, the bootstrap interval is far too narrow


@dataclass(frozen=True)
class WeightsScore:
    """The score of one weights file.

    Attributes:
        name: "best", "final", or "best and final" if both are the same.
        mean: Mean return with its 95 % interval over start states, which is NaN if it is not known.
        episodes: How many episodes were played.
        evaluation: The episodes; None if the mean is from a benchmark's score.json.
    """

    name: str
    mean: Estimate
    episodes: int
    evaluation: Evaluation | None = None

    @property
    def solved(self) -> Estimate | None:
        """Share of episodes at or above the reward threshold, with Wilson's interval if SciPy is installed."""
        share = None if self.evaluation is None else self.evaluation.solved_share
        if share is None:
            return None
        try:
            return statistics.share(round(share * self.episodes), self.episodes)
        except MissingDependencyError:
            return Estimate(share, np.nan, np.nan)


@dataclass(frozen=True)
class RunScores:
    """The scores of one run, and a sentence if some or all of them are missing."""

    weights: list[WeightsScore] = field(default_factory=list)
    why: str | None = None

    @property
    def best(self) -> WeightsScore | None:
        """The score of the best weights."""
        return next((one for one in self.weights if "best" in one.name), None)


def score_run(run: Run, episodes: int, say: Callable[[str], object], env: str = "") -> RunScores:
    """Score the best and the final weights of ``run``.

    If a benchmark scored the run and it was not resumed since, return the benchmark's means and play nothing.

    Args:
        run: The run.
        episodes: Greedy episodes of each weights file.
        say: Called with a sentence about each file that is scored.
        env: Environment id; by default the run's own environment.

    Returns:
        The scores. ``why`` says what is missing; nothing is raised for that.
    """
    if episodes == 0:
        return RunScores(why="No episodes were asked for.")
    try:
        if (found := _benchmark_scores(run)) is not None:
            return found
        own, why = run.config["environment"], None
        if env.rpartition(":")[2] not in ("", own):
            why = f"{run.directory.name} was trained on {own} and scored on {env}."
        return RunScores(_play(run, episodes, say, env), why)
    except PeriluneError as error:
        return RunScores(why=f"{run.directory.name} cannot be scored here: {error}")


def _benchmark_scores(run: Run) -> RunScores | None:
    path = run.directory / SCORE_FILE
    if not path.exists():
        return None
    found = read_score(files.read_json(path), path)
    if not run.evaluations or found.env_steps != run.evaluations[-1].env_steps:
        return None
    means = (("best", found.best), ("final", found.final))
    scores = [WeightsScore(name, Estimate(mean, np.nan, np.nan), SCORE_EPISODES) for name, mean in means]
    return RunScores(scores, f"{run.directory.name}: means from a benchmark's {SCORE_FILE}, without single episodes.")


def _play(run: Run, episodes: int, say: Callable[[str], object], env: str) -> list[WeightsScore]:
    paths = {name: run.directory / file for name, file in WEIGHTS.items() if (run.directory / file).exists()}
    if len(paths) == 2 and len({files.digest(path, path.stat().st_size).digest() for path in paths.values()}) == 1:
        paths = {"best and final": paths["best"]}
    scores = []
    for name, path in paths.items():
        agent, _, made = weights.load_with_env(path, env or None)
        say(f"{run.directory.name}: {episodes} greedy episode{'s' if episodes > 1 else ''} of the {name} weights")
        limit = greedy_limit(made, build(TrainConfig, run.config["train"]))
        with one_blas_thread():
            evaluation = evaluate(agent.greedy_action, made, episodes, max_episode_steps=limit)
        made.close()
        scores.append(WeightsScore(name, interval(_mean, evaluation.returns, MIN_EPISODES), episodes, evaluation))
    return scores


def _mean(values: Array) -> Any:
    return values.mean(axis=-1)


def interval(statistic: Callable[..., Any], values: Sequence[float], fewest: int = 2) -> Estimate:
    """Return ``statistic`` of ``values`` with its 95 % bootstrap interval.

    The interval is NaN if there are fewer than ``fewest`` values, or if SciPy is not installed.
    """
    known = np.asarray(values, np.float64)
    if len(known) < fewest or not np.ptp(known):
        value = float(statistic(known))
        end = value if len(known) >= fewest else np.nan
        return Estimate(value, end, end)
    try:
        return statistics.estimate(statistic, [known], np.random.default_rng(0))
    except MissingDependencyError:
        return Estimate(float(statistic(known)), np.nan, np.nan)


def families(runs: Sequence[Run]) -> list[list[int]]:
    """Return the indices of the runs, grouped by runs that differ in their seed alone."""
    found: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        found.setdefault(manifest.family(run.config), []).append(place)
    return list(found.values())


def seeds(runs: Sequence[Run], places: Sequence[int]) -> int:
    """Return how many seeds the runs at the indices ``places`` have."""
    return len({runs[place].config["seed"] for place in places})


def over_seeds(scores: Sequence[WeightsScore]) -> Estimate | None:
    """Return the interquartile mean of the seeds' mean returns with its interval; None without SciPy."""
    try:
        return interval(statistics.interquartile_mean, [one.mean.value for one in scores])
    except MissingDependencyError:
        return None
