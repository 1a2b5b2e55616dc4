"""Search for the settings of an agent: the whole search, from the options to the result."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from perilune import envs
from perilune._utils import statistics
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.settings import check_names
from perilune.api import DQN
from perilune.bench.cluster import open_engine
from perilune.envs.known import lookup, presets
from perilune.errors import ConfigError
from perilune.runs import files
from perilune.runs.search import SEARCH_SPACE
from perilune.training.checks import check
from perilune.tuning import report, samplers, space, work
from perilune.tuning.comparison import compare
from perilune.tuning.defaults import default_space
from perilune.tuning.plan import Plan, check_plan, settings_toml
from perilune.tuning.result import BEST_FILE, Gain, TrialSummary, TuningResult
from perilune.tuning.samplers import PrunerName, SamplerName
from perilune.tuning.space import Base, Space
from perilune.tuning.study import Study
from perilune.tuning.work import Objective

JOURNAL = "journal.log"
REPORT_SECONDS = 10.0  # between two reports of a running search
LEAST_TRIALS = 10  # complete trials for importances


def search(
    env: str,
    preset: str | None,
    agent: Mapping[str, Any],
    train: Mapping[str, Any],
    *,
    trials: int,
    seeds_per_trial: int,
    first_seed: int,
    jobs: int | None,
    cluster: str | None,
    objective: Objective,
    search_space: Path | Mapping[str, Any] | None,
    sampler: SamplerName,
    pruner: PrunerName,
    comparison_seeds: int,
    seed: int,
    out: Path | None,
    storage: Path | str | None,
    quiet: bool,
) -> TuningResult:
    """Search for settings. ``perilune.tune`` documents the arguments and errors."""
    statistics.check_available()
    for name, value, low in (
        ("trials", trials, 1),
        ("seeds_per_trial", seeds_per_trial, 1),
        ("first_seed", first_seed, 0),
        ("comparison_seeds", comparison_seeds, 0),
        ("seed", seed, 0),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ConfigError(name, value, f"a whole number >= {low}")
    names: list[tuple[str, str, tuple[str, ...]]] = [
        ("objective", objective, work.OBJECTIVES),
        ("sampler", sampler, samplers.SAMPLERS),
        ("pruner", pruner, samplers.PRUNERS),
    ]
    for option, word, known in names:
        if word not in known:
            raise ConfigError(option, word, f"one of {', '.join(known)}")
    base = Base(*presets.resolve(env, preset, agent, train))
    dqn = DQN(env, config=base.agent)
    base = Base(dqn.config, base.train)  # with measured settings
    check(dqn.agent, dqn.env, base.train)
    environment = envs.name(dqn.env)
    plan = Plan(
        environment=":".join([*env.split(":")[:-1], environment]),
        name=environment,
        base=base,
        space=_space(search_space, base, lookup(environment).symmetry is not None, [*agent, *train]),
        objective=objective,
        seeds=tuple(range(first_seed, first_seed + seeds_per_trial)),
        sampler=sampler,
        pruner=pruner,
        seed=seed,
    )
    check_plan(plan, envs.reward_threshold(dqn.env))
    named = f"{environment}-{preset}" if preset not in (None, presets.RECOMMENDED) else environment
    out = out or Path("runs", "tune", named)
    if cluster is not None:
        out = out.absolute()
    gain = None
    start = plan.space.start(base)
    with closing(open_engine(jobs, cluster, reuse=True)) as engine:
        study = Study(plan, out, storage or out / JOURNAL)
        files.update(out / SEARCH_SPACE, plan.space.to_toml().encode())
        study.run(trials, engine, quiet, Reporter(study, start))
        best = study.best()
        if best is not None and comparison_seeds and study.settings(best) != base:
            first = first_seed + seeds_per_trial
            seeds, threshold = range(first, first + comparison_seeds), envs.reward_threshold(dqn.env)
            gain = compare(study, seeds, engine, threshold, quiet)
    result = _result(study, start, gain)
    report.write(result)
    return result


class Reporter:
    """Write the report of a running search, for ``perilune watch``. It takes at most 2 % of the time.

    Args:
        study: the study.
        start: parameters of the starting point, if the search space has it.
    """

    def __init__(self, study: Study, start: Mapping[str, Any] | None) -> None:
        self._study, self._start = study, start
        self._next = 0.0

    def __call__(self) -> None:
        """Write the report if a trial is complete and the last report is old enough."""
        before = time.monotonic()
        if before < self._next or self._study.best() is None:
            return
        report.write(_result(self._study, self._start, None), running=True)
        now = time.monotonic()
        self._next = now + max(REPORT_SECONDS, 50 * (now - before))


def _space(given: Path | Mapping[str, Any] | None, base: Base, symmetric: bool, chosen: list[str]) -> Space:
    """Return the search space: the given one, or the default one without the settings that the user has chosen."""
    if given is None:
        return default_space(base, symmetric, chosen)
    found = space.load(given) if isinstance(given, Path) else space.from_dict(given)
    for name in found.parameters.keys() & set(chosen):
        raise ConfigError(name, base.settings[name], f"no value, because the search space varies {name}")
    return found


def _result(study: Study, start: Mapping[str, Any] | None, gain: Gain | None) -> TuningResult:
    names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    summaries = [
        TrialSummary(
            number=one.number,
            state=names.get(one.state, "running"),
            value=one.value if one.state == TrialState.COMPLETE else None,
            values=list(one.user_attrs.get("values", [])),
            parameters=dict(one.params),
            seconds=None if one.duration is None else one.duration.total_seconds(),
            reason=str(one.user_attrs.get("reason", "")),
            directory=study.directory(one.number),
        )
        for one in study.trials()
    ]
    best = study.best()
    if best is None:
        raise study.no_winner()
    settings = study.settings(best)
    files.update(study.out / BEST_FILE, settings_toml(study.plan, settings).encode())
    return TuningResult(
        environment=study.plan.name,
        objective=study.plan.objective,
        directory=study.out,
        trials=summaries,
        best=best.number,
        agent=settings.agent,
        train=settings.train,
        gain=gain,
        seeds=len(study.plan.seeds),
        importances=_importances(study),
        log_parameters=frozenset(
            study.plan.space.label(name) for name, one in study.plan.space.parameters.items() if one.log
        ),
    )


def _importances(study: Study) -> dict[str, float]:
    """Return the importance of each parameter, or nothing if there are too few trials."""
    complete = [one for one in study.trials() if one.state == TrialState.COMPLETE]
    if len(complete) < LEAST_TRIALS or len({one.value for one in complete}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Optuna, about parameters with one value
        return optuna.importance.get_param_importances(study.optuna)


def split(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split keyword arguments into agent and training settings.

    Raises:
        UsageError: a setting does not exist.
    """
    training = {field.name for field in fields(TrainConfig)}
    train = {name: value for name, value in settings.items() if name in training}
    agent = {name: value for name, value in settings.items() if name not in training}
    check_names(DQNConfig, agent)
    return agent, train
