"""Score the weights of runs in greedy episodes from start states that training never uses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from perilune._utils import statistics
from perilune._utils.blas import one_blas_thread
from perilune._utils.statistics import Estimate
from perilune.agent.config import TrainConfig
from perilune.agent.settings import build
from perilune.errors import MissingDependencyError, PeriluneError
from perilune.runs import files, manifest, weights
from perilune.runs.layout import WEIGHTS
from perilune.runs.logs import Run
from perilune.runs.scores import SCORE_EPISODES, SCORE_FILE, read_score
from perilune.training.evaluation import Evaluation, evaluate, greedy_limit
from perilune.viz.terminal import progress_bar

MIN_EPISODES = 10  # for an interval; with fewer episodes, the bootstrap interval is far too narrow


@dataclass(frozen=True)
class WeightsScore:
    """The score of one weights file.

    Attributes:
        name: "best", "final", or "best and final" if both are the same.
        mean: Mean return with its 95 % interval over start states; the interval is NaN if it is unknown.
        episodes: Number of episodes.
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
        return _if_possible(share, statistics.share, round(share * self.episodes), self.episodes)

    @property
    def shares(self) -> Mapping[str, float]:
        """Share of episodes with each outcome; empty if they are unknown."""
        return (self.evaluation and self.evaluation.outcome_shares) or {}


@dataclass(frozen=True)
class RunScores:
    """The scores of one run. ``why`` is a sentence that explains missing or limited scores."""

    run: Run
    weights: list[WeightsScore]
    why: str | None = None

    @property
    def best(self) -> WeightsScore | None:
        """The score of the best weights."""
        return next((one for one in self.weights if "best" in one.name), None)


def score_run(run: Run, episodes: int, say: Callable[[str], object], env: str = "") -> RunScores:
    """Score the best and the final weights of ``run``.

    If a benchmark has scored the run since it was last resumed, return the benchmark's means without playing episodes.

    Args:
        run: The run.
        episodes: Number of greedy episodes for each weights file.
        say: Called with a sentence about each weights file before it is scored.
        env: Environment id; by default the run's own environment.

    Returns:
        The scores. If the run cannot be scored, ``why`` contains the reason, and no error is raised.
    """
    if episodes == 0:
        return RunScores(run, [], "Not scored, because --episodes is 0.")
    name, own, why = run.directory.name, run.config["environment"], None
    try:
        if scores := _benchmark_scores(run):
            why = f"{name}: the mean returns come from a benchmark's {SCORE_FILE}, which does not list episodes."
        else:
            scores = _play(run, episodes, say, env)
            if env.rpartition(":")[2] not in ("", own):
                why = f"{name} was trained on {own} and scored on {env}."
        return RunScores(run, scores, why)
    except PeriluneError as error:
        return RunScores(run, [], f"{name} cannot be scored here: {error}")


def _benchmark_scores(run: Run) -> list[WeightsScore]:
    path = run.directory / SCORE_FILE
    if not path.exists():
        return []
    found = read_score(files.read_json(path), path)
    if not run.evaluations or found.env_steps != run.evaluations[-1].env_steps:
        return []
    means = {"best": found.best, "final": found.final}
    return [WeightsScore(name, Estimate(mean, np.nan, np.nan), SCORE_EPISODES) for name, mean in means.items()]


def _play(run: Run, episodes: int, say: Callable[[str], object], env: str) -> list[WeightsScore]:
    paths = {name: run.directory / file for name, file in WEIGHTS.items() if (run.directory / file).exists()}
    if len(paths) == 2 and len({files.digest(path, path.stat().st_size).digest() for path in paths.values()}) == 1:
        paths = {"best and final": paths["best"]}
    scores = []
    for name, path in paths.items():
        agent, _, made = weights.load_with_env(path, env or None)
        say(f"{run.directory.name}: {episodes} greedy episode{'s' if episodes > 1 else ''} of the {name} weights")
        limit = greedy_limit(made, build(TrainConfig, run.config["train"]))
        with one_blas_thread(), progress_bar(f"perilune: scoring {run.directory.name}") as tell:
            evaluation = evaluate(agent.greedy_action, made, episodes, max_episode_steps=limit, tell=tell)
        made.close()
        mean = interval(partial(np.mean, axis=-1), evaluation.returns, MIN_EPISODES)
        scores.append(WeightsScore(name, mean, episodes, evaluation))
    return scores


def interval(statistic: Callable[..., Any], values: Sequence[float], fewest: int) -> Estimate:
    """Return ``statistic`` of ``values`` with its 95 % bootstrap interval.

    The interval is NaN if there are fewer than ``fewest`` values, or if SciPy is not installed.
    """
    known = np.asarray(values, np.float64)
    value = float(statistic(known))
    if len(known) < fewest or not np.ptp(known):
        end = value if len(known) >= fewest else np.nan
        return Estimate(value, end, end)
    return _if_possible(value, statistics.estimate, statistic, [known], np.random.default_rng(0))


def _if_possible(value: float, estimate: Callable[..., Estimate], *arguments: Any) -> Estimate:
    """Return the estimate, or ``value`` without an interval if SciPy is not installed."""
    try:
        return estimate(*arguments)
    except MissingDependencyError:
        return Estimate(value, np.nan, np.nan)


def families(scores: Sequence[RunScores]) -> list[list[RunScores]]:
    """Return the scores in groups. The runs of a group differ only in the seed."""
    found: dict[str, list[RunScores]] = {}
    for one in scores:
        found.setdefault(manifest.family(one.run.config), []).append(one)
    return list(found.values())


def seeds(family: Sequence[RunScores]) -> int:
    """Return the number of different seeds in ``family``."""
    return len({one.run.config["seed"] for one in family})


def winner(scores: Sequence[RunScores]) -> RunScores | None:
    """Return the run whose best weights have the highest mean return. None if the runs cannot be compared."""
    scored = [one for one in scores if one.best is not None]
    if len(scored) < 2 or len({one.run.config["environment"] for one in scores}) > 1:
        return None
    return max(scored, key=lambda one: one.best.mean.value if one.best else 0.0)


class SeedsScore(NamedTuple):
    """Mean returns of several seeds, and their interquartile mean. ``weights`` is "best" or "final"."""

    environment: str
    weights: str
    returns: list[float]
    mean: Estimate

    @property
    def are_few(self) -> bool:
        """Whether there are too few seeds for statistics over seeds."""
        return len(self.returns) < statistics.LEAST_SEEDS


def over_seeds(scores: Sequence[RunScores]) -> list[SeedsScore]:
    """Return a score for each group of runs that differ only in the seed."""
    found = []
    for family in families(scores):
        for name in ("best", "final"):
            means = [one.mean.value for run in family for one in run.weights if name in one.name]
            if seeds(family) > 1 and len(means) > 1:
                mean = interval(statistics.interquartile_mean, means, statistics.LEAST_SEEDS)
                found.append(SeedsScore(family[0].run.config["environment"], name, means, mean))
    return found
