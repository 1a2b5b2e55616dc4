"""What a run's weights are worth: greedy episodes from start states that no training sees, and how sure that is."""

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
from perilune.runs import files, runlog, weights
from perilune.runs.runlog import WEIGHTS, Run
from perilune.runs.scores import SCORE_EPISODES, SCORE_FILE, read_score
from perilune.training.evaluation import Evaluation, evaluate
from perilune.training.loop import greedy_limit

FEWEST = 10  # episodes, or a resampled interval would be far too narrow


@dataclass(frozen=True)
class Scored:
    """The score of one file of weights.

    ``name``: "best", "final", or both in one. ``mean`` has its 95 % interval over start states, NaN where too few were
    played or nothing can tell it. ``evaluation``: the episodes, None where a benchmark's score.json tells the mean.
    """

    name: str
    mean: Estimate
    episodes: int
    evaluation: Evaluation | None = None

    @property
    def solved(self) -> Estimate | None:
        """Share of episodes at or above the solved mark, with Wilson's interval where that can be told."""
        share = None if self.evaluation is None else self.evaluation.solved_share
        if share is None:
            return None
        try:
            return statistics.share(round(share * self.episodes), self.episodes)
        except MissingDependencyError:
            return Estimate(share, np.nan, np.nan)


@dataclass(frozen=True)
class Scores:
    """The scores of one run; a sentence where there are none, or not all that there could be."""

    scored: list[Scored] = field(default_factory=list)
    why: str | None = None

    @property
    def best(self) -> Scored | None:
        return next((one for one in self.scored if "best" in one.name), None)


def score(run: Run, episodes: int, say: Callable[[str], object], env: str = "") -> Scores:
    """Score the best and the final weights of ``run`` on ``episodes`` episodes; ``say`` is told what is under way.

    They are played in ``env``, or where that is empty in the run's own environment. Where a benchmark has scored the
    run as it is, its score is taken. What stands in the way is told in ``why``.
    """
    if episodes == 0:
        return Scores(why="No episodes were asked for.")
    try:
        if (known := _benchmark(run)) is not None:
            return known
        own = run.config["environment"]
        why = None if env.rpartition(":")[2] in ("", own) else f"{run.directory.name} is of {own}, and played {env}."
        return Scores(_scored(run, episodes, say, env), why)
    except PeriluneError as error:
        return Scores(why=f"{run.directory.name} cannot be scored here: {error}")


def _benchmark(run: Run) -> Scores | None:
    """What score.json says, unless the run has gone on since."""
    path = run.directory / SCORE_FILE
    if not path.exists():
        return None
    found = read_score(files.read_json(path), path)
    if not run.evaluations or found.env_steps != run.evaluations[-1].env_steps:
        return None
    means = (("best", found.best), ("final", found.final))
    scored = [Scored(name, Estimate(mean, np.nan, np.nan), SCORE_EPISODES) for name, mean in means]
    return Scores(scored, f"{run.directory.name}: means of a benchmark's {SCORE_FILE}, which keeps no single episodes.")


def _scored(run: Run, episodes: int, say: Callable[[str], object], env: str) -> list[Scored]:
    paths = {name: run.directory / file for name, file in WEIGHTS.items() if (run.directory / file).exists()}
    if len(paths) == 2 and len({files.digest(path, path.stat().st_size)[0] for path in paths.values()}) == 1:
        paths = {"best and final": paths["best"]}
    found = []
    for name, path in paths.items():
        agent, _, made = weights.load_with_env(path, env or None)
        say(f"{run.directory.name}: {episodes} greedy episode{'s' if episodes > 1 else ''} of the {name} weights")
        train = build(TrainConfig, run.config["train"])
        with one_blas_thread():
            limit = greedy_limit(made, train)
            evaluation = evaluate(agent.greedy_action, made, episodes, max_episode_steps=limit)
        made.close()
        found.append(Scored(name, interval(_mean, evaluation.returns, FEWEST), episodes, evaluation))
    return found


def _mean(values: Array) -> Any:
    return values.mean(axis=-1)


def interval(statistic: Callable[..., Any], values: Sequence[float], fewest: int = 2) -> Estimate:
    """``statistic`` of the values with its interval, which is NaN for fewer than ``fewest``, or without SciPy."""
    known = np.asarray(values, np.float64)
    if len(known) < fewest or not np.ptp(known):
        value = float(statistic(known))
        same = value if len(known) >= fewest else np.nan
        return Estimate(value, same, same)
    try:
        return statistics.estimate(statistic, [known], np.random.default_rng(0))
    except MissingDependencyError:
        return Estimate(float(statistic(known)), np.nan, np.nan)


def families(runs: Sequence[Run]) -> list[list[int]]:
    """The places of the runs, those together that differ in their seed alone."""
    found: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        found.setdefault(runlog.family(run.config), []).append(place)
    return list(found.values())


def seeds(runs: Sequence[Run], places: Sequence[int]) -> int:
    """How many seeds there are among the runs at ``places``."""
    return len({runs[place].config["seed"] for place in places})


def over_seeds(scores: Sequence[Scored]) -> Estimate | None:
    """Interquartile mean of the seeds' mean returns, with its interval; None where SciPy is not installed."""
    try:
        return interval(statistics.interquartile_mean, [one.mean.value for one in scores])
    except MissingDependencyError:
        return None
