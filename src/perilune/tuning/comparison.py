"""Compare the winner of a study with the starting point, on training seeds that its trials did not use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perilune._utils import statistics
from perilune.bench import learning, results
from perilune.bench.learning import Trial
from perilune.bench.pool import Engine
from perilune.bench.results import Result
from perilune.errors import TrialError
from perilune.runs import files
from perilune.runs.files import read_json
from perilune.runs.scores import SCORE_FILE, read_score
from perilune.tuning import work
from perilune.tuning.result import Gain
from perilune.tuning.storage import locked
from perilune.tuning.study import Study
from perilune.tuning.work import Job
from perilune.viz.terminal import board


def compare(study: Study, seeds: Sequence[int], engine: Engine, threshold: float | None, quiet: bool = False) -> Gain:
    """Train with the best settings and with those of the starting point, and compare the scores.

    Args:
        study: the study.
        seeds: training seeds.
        engine: where worker processes run.
        threshold: reward threshold of the environment, or None.
        quiet: do not show progress.

    Returns:
        The objective values of both, their margin, and the comparison of their scores.

    Raises:
        TrialError: no trial is complete, or a seed failed.
    """
    best = study.best()
    if best is None:
        raise study.no_winner()
    base = study.out / "comparison"
    with files.reported("written", base):
        base.mkdir(exist_ok=True)
    winner = study.seeds(study.settings(best), base / f"trial-{best.number}", seeds)
    start = study.seeds(study.plan.base, base / "start", seeds)
    with locked(base):  # another process may be doing the same
        _train(study, [seed for pair in zip(winner, start, strict=True) for seed in pair], engine, quiet)
    (values, result), (start_values, start_result) = _read(study, winner, threshold), _read(study, start, threshold)
    statistic = statistics.margin if work.maximizes(study.plan.objective) else _mean_margin
    margin = statistics.estimate(statistic, [values, start_values], np.random.default_rng(0))
    return Gain(values, start_values, margin, results.compare(result, start_result, np.random.default_rng(0)))


def _train(study: Study, seeds: Sequence[Trial], engine: Engine, quiet: bool) -> None:
    """Train and score the seeds that have no score."""
    for seed in seeds:
        work.forget_other(seed)
    learning.prepare(seeds)
    waiting = [Job(seed, study.name, None, study.plan.objective) for seed in seeds if work.value(seed) is None]
    failures: dict[Trial, str] = {}
    with board(f"tuning {study.plan.name}", quiet) as screen:
        workers = work.start(engine, screen)
        workers.submit(waiting)
        while len(workers):
            failures |= {job.seed: reason for job, reason in workers.wait().items() if reason is not None}
            if quiet:
                continue
            states = [learning.progress(job.seed) for job in workers.running()]
            done = len(seeds) - len(workers)
            words = f"comparing the winner with the starting point: {done} of {len(seeds)} seeds"
            screen.show((done + sum(state.share for state in states)) / len(seeds), words, states)
    if failures:
        raise TrialError(learning.failed(failures))


def _read(study: Study, seeds: Sequence[Trial], threshold: float | None) -> tuple[list[float], Result]:
    """Return the objective values and the scores of trained seeds."""
    values = [value for seed in seeds if (value := work.value(seed)) is not None]
    scores = [read_score(read_json(path), path) for path in (seed.directory / SCORE_FILE for seed in seeds)]
    content = results.plain({"agent": seeds[0].agent, "train": seeds[0].train})
    return values, Result(study.plan.name, threshold, content, scores, {})


def _mean_margin(a: Any, b: Any) -> Any:
    return a.mean(axis=-1) - b.mean(axis=-1)
