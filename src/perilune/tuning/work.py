"""Train one seed of a trial in a worker process, and compute its objective value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from perilune import envs
from perilune._utils.blas import one_blas_thread
from perilune._utils.statistics import interquartile_mean
from perilune.agent.dqn import Agent
from perilune.api import DQN
from perilune.bench import learning, results
from perilune.bench.learning import Trial, check_shared, greedy_returns, train_seed
from perilune.bench.pool import Engine, Workers
from perilune.errors import FileFormatError
from perilune.runs import files, logs, snapshots, weights
from perilune.runs.layout import TRIAL
from perilune.runs.scores import SCORE_EPISODES, SCORE_FILE, score, write_score
from perilune.training.evaluation import SCORE_SEEDS, TUNING_SEEDS, evaluate, greedy_limit
from perilune.training.events import Evaluated, Event
from perilune.viz.terminal import Board

Objective = Literal["final-iqm", "auc", "cpu-seconds-to-solved"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
CURVE_EPISODES = 20  # per snapshot, for the area under the learning curve
UNSOLVED = 1e6  # seconds, for a seed that was never solved: settings that solve more seeds always rank first


class SeedResult(msgspec.Struct, frozen=True, kw_only=True):
    """Content of trial.json: the trial that a run belongs to, and its objective value.

    Attributes:
        study: name of the study.
        trial: number of the trial in Optuna, or None for a run that compares the winner with the starting point.
        objective: name of the objective.
        value: objective value of this seed. None while it is training.
        final: mean greedy return of the final weights, on the start states of the objective.
    """

    study: str
    trial: int | None
    objective: Objective
    value: float | None = None
    final: float | None = None


@dataclass(frozen=True)
class Job:
    """One seed of a trial, to be trained up to a number of steps or to the end of its budget.

    Attributes:
        seed: the seed, with its settings and run directory.
        study: name of the study.
        trial: number of the trial in Optuna, or None for a run that compares the winner with the starting point.
        objective: name of the objective.
        until: environment steps after which training pauses at the next evaluation, or None for the whole budget.
    """

    seed: Trial
    study: str
    trial: int | None
    objective: Objective
    until: int | None = None

    @property
    def title(self) -> str:
        """Name of the job in the progress display."""
        return self.seed.title


def maximizes(objective: Objective) -> bool:
    """Return whether a larger value is better."""
    return objective != "cpu-seconds-to-solved"


def combined(objective: Objective, values: Sequence[float]) -> float:
    """Return the objective value of a trial from the values of its seeds.

    It is the interquartile mean of returns, and the mean of CPU times, which counts every unsolved seed.
    """
    return float(interquartile_mean(np.array(values)) if maximizes(objective) else np.mean(values))


def result(directory: Path) -> SeedResult | None:
    """Return the content of trial.json in a run directory, or None if there is none.

    Raises:
        FileFormatError: the file is damaged.
    """
    path = directory / TRIAL
    if not path.exists():
        return None
    try:
        return msgspec.convert(files.read_json(path), SeedResult)
    except msgspec.ValidationError as error:
        raise FileFormatError(f"{path} is damaged: {error}. Remove this file to score its seed again.") from error


def value(seed: Trial) -> float | None:
    """Return the objective value of a seed, or None if it has none so far."""
    found = result(seed.directory)
    return None if found is None else found.value


def forget_other(seed: Trial) -> None:
    """Remove the result of a seed if its run has other settings. A damaged storage can leave such a result behind."""
    config, path = seed.directory / "config.json", seed.directory / TRIAL
    if not path.exists():
        return
    try:
        other = not config.exists() or any(results.differences(files.read_json(config), learning.settings(seed)))
    except FileFormatError:
        other = True
    if other:
        with files.reported("written", path):
            path.unlink(missing_ok=True)
            (seed.directory / SCORE_FILE).unlink(missing_ok=True)


def start(engine: Engine, screen: Board) -> Workers[Job]:
    """Return worker processes that train seeds. If a process dies, report its seed on ``screen``."""
    return Workers(run, engine, lambda job, reason: screen.say(learning.continued(job.title, reason)))


def return_at(directory: Path, steps: int) -> float | None:
    """Return the mean return of the first evaluation of a run at or after ``steps``, or None before it."""
    found = [one for one in logs.read_log(directory, Evaluated) if one.env_steps >= steps]
    return None if not found else found[0].mean_return


def run(job: Job) -> None:
    """Train one seed. At the end of its budget, write its objective value into trial.json."""
    trial, pausing = job.seed, False
    check_shared(trial)
    agent = trial.agent
    dqn = DQN(trial.environment, config=agent, seed=trial.seed)  # type: ignore[arg-type]
    started = SeedResult(study=job.study, trial=job.trial, objective=job.objective)

    def read(event: Event) -> bool:
        nonlocal pausing
        if not (trial.directory / TRIAL).exists():
            _write(started, trial.directory)
        pausing |= isinstance(event, Evaluated) and job.until is not None and event.env_steps >= job.until
        return not pausing

    train_seed(dqn, trial, read)
    if pausing:
        return
    if job.trial is None:
        final, best = greedy_returns(dqn, trial)
        write_score(score(logs.read_run(trial.directory), final, best), trial.directory)
    value, final = objective_value(job, dqn)
    _write(msgspec.structs.replace(started, value=value, final=final), trial.directory)


def _write(content: SeedResult, directory: Path) -> None:
    files.write_json(directory / TRIAL, msgspec.to_builtins(content))


def objective_value(job: Job, dqn: DQN) -> tuple[float, float]:
    """Return the objective value of a finished seed, and the mean return of its final weights.

    The start states are those of ``TUNING_SEEDS``, which training and the selection of the best checkpoint never use.
    The comparison of the winner uses ``SCORE_SEEDS``, which the search never uses.

    Args:
        job: the job.
        dqn: the agent with the final weights.
    """
    first = SCORE_SEEDS if job.trial is None else TUNING_SEEDS
    directory, limit = job.seed.directory, greedy_limit(dqn.env, job.seed.train)
    run = logs.read_run(directory)

    def mean_return(agent: Agent, episodes: int) -> float:
        return evaluate(
            agent.greedy_action, dqn.env, episodes, first_seed=first, max_episode_steps=limit
        ).mean_return  # fmt: skip

    def kept() -> list[tuple[int, Any]]:
        return [(int(path.stem), path) for path in snapshots.paths(directory)]

    with one_blas_thread():
        final = mean_return(dqn.agent, SCORE_EPISODES)
        if job.objective == "final-iqm":
            return final, final
        if job.objective == "auc":
            steps = {0: 0} | {number: one.env_steps for number, one in enumerate(run.evaluations, 1)}
            points = [
                (steps[number], mean_return(weights.load_weights(path)[0], CURVE_EPISODES))
                for number, path in kept()
                if number in steps
            ]
            return area(*zip(*points, (run.evaluations[-1].env_steps, final), strict=False)), final
        threshold = envs.reward_threshold(dqn.env)
        assert threshold is not None
        assert run.evaluations[-1].cpu_seconds is not None
        for number, path in kept():
            evaluated = run.evaluations[number - 1] if 0 < number <= len(run.evaluations) else None
            if evaluated is None or evaluated.cpu_seconds is None or not evaluated.mean_return >= threshold:
                continue
            if mean_return(weights.load_weights(path)[0], SCORE_EPISODES) >= threshold:
                return evaluated.cpu_seconds, final
        if final >= threshold:
            return run.evaluations[-1].cpu_seconds, final
    return unsolved(final, threshold), final


def area(steps: Sequence[float], returns: Sequence[float]) -> float:
    """Return the area under a learning curve divided by its length: the mean return during training.

    Args:
        steps: environment steps of the points, in increasing order.
        returns: mean return at each point.
    """
    x, y = np.asarray(steps, np.float64), np.asarray(returns, np.float64)
    if x[-1] == x[0]:
        return float(y[-1])
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) / (x[-1] - x[0]))


def unsolved(final: float, threshold: float) -> float:
    """Return the seconds that an unsolved seed counts as. Of two unsolved seeds, the higher return counts as less."""
    shortfall = max(0.0, threshold - final) / (1 + max(0.0, threshold - final))  # from 0 to 1
    return UNSOLVED * (1 + shortfall)
