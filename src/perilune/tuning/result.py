"""The result of a search for settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perilune._utils.statistics import Estimate
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.bench.results import Comparison
from perilune.tuning.work import Objective, maximizes

BEST_FILE = "settings.toml"


@dataclass(frozen=True)
class TrialSummary:
    """One trial of a search.

    Attributes:
        number: number of the trial.
        state: "complete", "pruned", "failed" or "running".
        value: its objective value, if it is complete.
        values: the objective value of each seed, if it is complete.
        parameters: the values that the sampler chose, by name.
        seconds: duration, if it has ended.
        reason: why it was stopped or failed, or "".
        directory: directory of its runs.
    """

    number: int
    state: str
    value: float | None
    values: list[float]
    parameters: dict[str, Any]
    seconds: float | None
    reason: str
    directory: Path


@dataclass(frozen=True)
class Gain:
    """By how much the winner is better than the starting point, on training seeds that the search did not use.

    Attributes:
        winner: objective value of each seed of the winner.
        start: objective value of each seed of the starting point.
        margin: combined value of the winner minus that of the starting point, with its 95 % interval.
        comparison: comparison of the scores, as of ``perilune bench compare``.
    """

    winner: list[float]
    start: list[float]
    margin: Estimate
    comparison: Comparison


@dataclass(frozen=True)
class TuningResult:
    """The result of a search.

    Attributes:
        environment: ID of the environment.
        objective: what was optimized.
        directory: directory of the study.
        trials: all trials, by number.
        best: number of the best trial.
        agent: settings of the agent in the best trial.
        train: training settings of the best trial.
        gain: comparison with the starting point. None if there was none, or if the starting point is the best trial.
        seeds: number of seeds of each trial.
        importances: importance of each parameter, from 0 to 1, the largest first, as Optuna's PED-ANOVA evaluator
            computes it. Empty if there are too few trials.
        log_parameters: names of the parameters on a log scale.
    """

    environment: str
    objective: Objective
    directory: Path
    trials: list[TrialSummary]
    best: int
    agent: DQNConfig
    train: TrainConfig
    gain: Gain | None
    seeds: int
    importances: dict[str, float]
    log_parameters: frozenset[str]

    @property
    def maximizes(self) -> bool:
        """Whether a larger objective value is better."""
        return maximizes(self.objective)

    @property
    def ranked(self) -> list[TrialSummary]:
        """The complete trials, the best first."""
        sign = -1 if self.maximizes else 1
        complete = [one for one in self.trials if one.value is not None]
        return sorted(complete, key=lambda one: (sign * (one.value or 0.0), one.number))

    def _repr_html_(self) -> str:
        from perilune.tuning.report import html  # noqa: PLC0415 -- imports this module

        return html(self, page=False)

    @property
    def settings_file(self) -> Path:
        """The best settings, for ``perilune train --config``."""
        return self.directory / BEST_FILE

    @property
    def best_value(self) -> float:
        """Objective value of the best trial. It is optimistic, because it is the best of many."""
        value = self.trials[self.best].value
        assert value is not None
        return value
