"""Samplers, which choose the settings of the next trial, and pruners, which stop bad trials early."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

SamplerName = Literal["tpe", "cmaes", "random"]
PrunerName = Literal["asha", "wilcoxon", "none"]
SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
PRUNERS: tuple[PrunerName, ...] = get_args(PrunerName)

REDUCTION = 2  # of ASHA: about one of this many trials passes each rung
RUNGS = 2  # rungs of ASHA, at a quarter and a half of the budget
P_VALUE = 0.1  # below which the Wilcoxon test stops a trial; 4 seeds are the fewest that can reach it


def sampler(name: SamplerName, seed: int, trial: int) -> BaseSampler:
    """Return a new sampler for one trial. Its random numbers depend only on the seed of the study and the trial.

    Several processes can therefore share a study, and never draw the same random settings.

    Args:
        name: "tpe", "cmaes" or "random".
        seed: seed of the study.
        trial: number of the trial.
    """
    own = int(np.random.SeedSequence([seed, trial]).generate_state(1)[0])
    if name == "random":
        return RandomSampler(seed=own)
    if name == "cmaes":
        return _CmaEs(seed=own, warn_independent_sampling=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=own, multivariate=True, group=True)  # groups: parameters of the same conditions


def pruner(name: PrunerName, steps: int | None) -> optuna.pruners.BasePruner:
    """Return a pruner.

    Args:
        name: "asha", "wilcoxon" or "none".
        steps: the budget of a seed, for ASHA.
    """
    if name == "asha":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=rungs(steps)[0], reduction_factor=REDUCTION)
    if name == "wilcoxon":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return optuna.pruners.WilcoxonPruner(p_threshold=P_VALUE)
    return optuna.pruners.NopPruner()


def rungs(steps: int | None) -> list[int]:
    """Return the environment steps at which ASHA compares trials.

    Args:
        steps: the budget of a seed, at least 2^RUNGS.
    """
    assert steps is not None
    first = steps // REDUCTION**RUNGS
    return [first * REDUCTION**number for number in range(RUNGS)]


class _CmaEs(CmaEsSampler):
    """CMA-ES that computes its state again from the finished trials.

    Optuna's sampler stores its state as a pickle, and loading the pickle of a shared journal would run code from it.
    """

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        self._completed = completed_trials

    def _split_optimizer_str(self, optimizer_str: str) -> dict[str, str]:
        return {}

    def _init_optimizer(self, trans: Any, direction: optuna.study.StudyDirection) -> Any:
        optimizer = super()._init_optimizer(trans, direction)
        sign = 1 if direction == optuna.study.StudyDirection.MINIMIZE else -1
        while True:
            told = self._get_solution_trials(self._completed, optimizer.generation)[: optimizer.population_size]
            following = self._get_solution_trials(self._completed, optimizer.generation + 1)
            if len(told) < optimizer.population_size or not following:
                return optimizer  # the base class tells a complete last generation
            optimizer.tell(_solutions(told, trans, sign))


def _solutions(trials: Sequence[FrozenTrial], trans: Any, sign: int) -> list[tuple[Any, float]]:
    return [(trans.transform(trial.params), sign * (trial.value or 0.0)) for trial in trials]
