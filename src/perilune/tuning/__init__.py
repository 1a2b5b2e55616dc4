"""Search for settings with Optuna: search spaces, studies that several processes share, and reports."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from perilune._utils.extras import missing

if TYPE_CHECKING:
    from perilune.tuning.result import TuningResult

TRIALS, SEEDS, COMPARISON_SEEDS = 50, 3, 10


def check_available() -> None:
    """Raise MissingDependencyError if a library that a search needs is not installed."""
    if any(find_spec(name) is None for name in ("optuna", "cmaes")):
        raise missing("a search for settings needs Optuna", "tune")


def tune(
    env: str,
    preset: str | None = "recommended",
    *,
    trials: int = TRIALS,
    seeds_per_trial: int = SEEDS,
    first_seed: int = 0,
    jobs: int | None = None,
    cluster: str | None = None,
    objective: Literal["final-iqm", "auc", "cpu-seconds-to-solved"] = "final-iqm",
    search_space: str | Path | Mapping[str, Any] | None = None,
    sampler: Literal["tpe", "cmaes", "random"] = "tpe",
    pruner: Literal["asha", "wilcoxon", "none"] = "asha",
    comparison_seeds: int = COMPARISON_SEEDS,
    seed: int = 0,
    out: str | Path | None = None,
    storage: str | Path | None = None,
    quiet: bool = False,
    **settings: Any,
) -> TuningResult:
    """Search for the settings of an agent with Optuna, and compare the best ones with the starting point.

    Each seed trains in its own run directory, in a worker process. In a program, call this function under
    ``if __name__ == "__main__":``, because worker processes import the program. If the search was interrupted, the
    same call resumes it. Several processes with the same ``out`` share one search.

    Args:
        env: ID of a Gymnasium environment, such as "LunarLander-v3" or "my_module:MyEnv-v0".
        preset: settings to start from, as in ``perilune.DQN``.
        trials: number of trials, including those of interrupted searches.
        seeds_per_trial: number of training seeds of each trial.
        first_seed: first training seed of each trial. The comparison uses the seeds after those of the trials.
        jobs: number of seeds to train at the same time. By default 1, or the number of CPUs of the cluster.
        cluster: address of a Ray cluster, on which the seeds are trained, or "auto" for the running one. ``out`` must
            be a directory that all its machines share.
        objective: "final-iqm" (interquartile mean over seeds of the return of the final weights), "auc" (mean return
            during training), or "cpu-seconds-to-solved".
        search_space: the settings to vary: a TOML file or a dict of the same content. By default, a space around
            the starting point.
        sampler: "tpe", "cmaes" or "random".
        pruner: "asha" stops trials whose seeds together learn slowly, at a quarter and a half of the budget;
            "wilcoxon" stops trials whose finished seeds are worse than those of the best trial; "none".
        comparison_seeds: number of seeds with which the winner and the starting point are trained again. 0 skips this.
        seed: seed of the sampler.
        out: directory of the search. By default, runs/tune/ENV.
        storage: file of the journal, or URL of a database. By default, ``out``/journal.log.
        quiet: do not show progress.
        settings: settings of ``DQNConfig`` and ``TrainConfig`` that replace those of the preset, such as
            ``steps=20_000``. The default search space does not vary them.

    Returns:
        The trials, the best settings and the comparison.

    Raises:
        ConfigError: an option or setting is invalid, the search space contains contradictions, or there is no such
            cluster.
        UsageError: a setting does not exist.
        MissingDependencyError: Optuna or Ray is not installed.
        RunDirectoryError: ``out`` cannot be written, or holds another search.
        FileFormatError: the journal or the search space is damaged.
        TrialError: trials failed, and none is complete.
    """
    check_available()
    from perilune.tuning.search import search, split  # noqa: PLC0415 -- needs Optuna

    agent, train = split(settings)
    return search(
        env,
        preset,
        agent,
        train,
        trials=trials,
        seeds_per_trial=seeds_per_trial,
        first_seed=first_seed,
        jobs=jobs,
        cluster=cluster,
        objective=objective,
        search_space=Path(search_space) if isinstance(search_space, str) else search_space,
        sampler=sampler,
        pruner=pruner,
        comparison_seeds=comparison_seeds,
        seed=seed,
        out=None if out is None else Path(out),
        storage=storage,
        quiet=quiet,
    )
