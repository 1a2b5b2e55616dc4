"""The command tune."""

from __future__ import annotations

from argparse import Namespace

from perilune.bench import results
from perilune.cli.runs import show
from perilune.cli.settings import choose_registered
from perilune.runs.search import SEARCH_REPORT
from perilune.tuning import check_available


def run_tune(options: Namespace) -> None:
    """Search for settings with Optuna, and compare the best ones with the starting point."""
    check_available()
    from perilune.tuning import report  # noqa: PLC0415 -- needs Optuna
    from perilune.tuning.search import search  # noqa: PLC0415

    chosen = choose_registered(options)
    result = search(
        chosen.env,
        chosen.preset,
        chosen.agent,
        chosen.train,
        trials=options.trials,
        seeds_per_trial=options.seeds_per_trial,
        first_seed=options.first_seed,
        jobs=options.jobs,
        cluster=options.cluster,
        objective=options.objective,
        search_space=options.search_space,
        sampler=options.sampler,
        pruner=options.pruner,
        comparison_seeds=options.comparison_seeds,
        seed=options.seed,
        out=options.out,
        storage=options.storage,
        quiet=options.quiet,
    )
    written = result.directory / SEARCH_REPORT
    text = "\n".join([report.describe(result), *(["", f"  {written}"] if written.exists() else [])])
    show(options, results.plain(report.to_json(result)), text)
