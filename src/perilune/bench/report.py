"""A whole benchmark of learning: run the seeds, write the results, draw the curves, say what came out."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perilune import envs
from perilune._utils import statistics
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.api import DQN
from perilune.bench import compare, peers, results
from perilune.bench.learning import Outcome, Trial, run_trials, settings
from perilune.bench.results import Result
from perilune.errors import MissingDependencyError, PeriluneWarning, RunDirectoryError, TrialError
from perilune.runs import runlog
from perilune.runs.scores import SCORE_EPISODES, SCORE_FILE
from perilune.training.loop import check
from perilune.viz import plots

OWN, PEER_DIRECTORY = "Perilune", "sb3"


@dataclass(frozen=True)
class Report:
    """What a benchmark came to."""

    content: dict[str, Any]
    """As in scores.json; with a peer also ``peer``, its scores.json, and ``comparison``."""
    text: str
    files: list[Path]
    failures: dict[Trial, str]


def benchmark(
    environment: str,
    agent: DQNConfig,
    train: TrainConfig,
    *,
    seeds: Iterable[int],
    out: Path,
    jobs: int = 1,
    against: bool = False,
    quiet: bool = False,
) -> Report:
    """Train and score every seed into ``out``/seed-S, those that have no score yet, and write the results into ``out``.

    Args:
        seeds: at least one.
        out: gets scores.json, scores.csv and learning_curves.png and .svg too.
        jobs: seeds trained at the same time.
        against: train Stable-Baselines3 on the same seeds too, into ``out``/sb3, in turn with ours: so both meet the
            same machine.
        quiet: show no progress.

    Raises:
        ConfigError, MissingDependencyError: settings that could not be run, before anything is.
        RunDirectoryError: ``out`` cannot be written, or holds runs with other settings.
        TrialError: no seed came to a score.
    """
    statistics.check_available()
    dqn = DQN(environment, config=agent)
    check(dqn.agent, dqn.env, train)
    name, mark = envs.name(dqn.env), envs.reward_threshold(dqn.env)
    # Made again in processes of their own: with the version that it has here, and by the module that registers it.
    made = ":".join([*environment.split(":")[:-1], name])
    peer = peers.zoo(name) if against else None
    trials = {OWN: [Trial(made, agent, train, seed, out / f"seed-{seed}") for seed in seeds]}
    if peer is not None:
        peer_train = peers.budget(peer, train)
        trials[peers.NAME] = [
            Trial(made, peer, peer_train, trial.seed, out / PEER_DIRECTORY / trial.directory.name)
            for trial in trials[OWN]
        ]
    _make(out)
    in_turn = sorted(itertools.chain(*trials.values()), key=lambda trial: trial.seed)
    outcome = run_trials(in_turn, jobs, quiet)
    if not any(trial in outcome.scores for trial in trials[OWN]):
        raise TrialError(failed(outcome.failures))

    found = {learner: _result(name, mark, group, outcome) for learner, group in trials.items()}
    found = {learner: result for learner, result in found.items() if result.scores}
    contents, texts, curves = [], [], []
    for learner, result in found.items():
        summed = results.summary(result, np.random.default_rng(0))
        contents.append(results.to_json(result, summed))
        directory = out if learner == OWN else out / PEER_DIRECTORY
        results.save(contents[-1], directory)
        heading = f"{name}, {learner}: {len(result.scores)} seeds, means of {SCORE_EPISODES} greedy episodes"
        texts.append("\n\n".join([heading, results.table(result.scores), results.words(result, summed)]))
        if others := _others(directory, {trial.directory for trial in trials[learner]}):
            texts.append(f"Left out, because they were not asked for, though they are there: {', '.join(others)}.")
        runs = [runlog.read(trial.directory) for trial in trials[learner] if trial in outcome.scores]
        curves.append(results.band(learner, runs, np.random.default_rng(0)))
    content = contents[0]
    if len(found) == 2:
        comparison = compare.compare(found[OWN], found[peers.NAME], np.random.default_rng(0))
        content |= {"peer": contents[1], "comparison": compare.to_json(comparison)}
        texts.append(compare.table(comparison, OWN, peers.NAME))
    files = [out / results.JSON_FILE, out / results.CSV_FILE, *_draw(curves, name, mark, out)]
    return Report(content, "\n\n".join(texts), files, outcome.failures)


def failed(failures: dict[Trial, str]) -> str:
    """Which trials failed and why; those that failed for one reason together."""
    titles: dict[str, list[str]] = {}
    for trial, reason in failures.items():
        titles.setdefault(reason, []).append(trial.title)
    reasons = [f"  {', '.join(together)}: {reason}" for reason, together in titles.items()]
    return "\n".join([f"{len(failures)} failed, and will be tried again by the same command:", *reasons])


def _result(environment: str, mark: float | None, trials: list[Trial], outcome: Outcome) -> Result:
    scores = [outcome.scores[trial] for trial in trials if trial in outcome.scores]
    failures = {trial.seed: outcome.failures[trial] for trial in trials if trial in outcome.failures}
    shared = {name: settings(trials[0])[name] for name in ("agent", "train")}
    return Result(environment, mark, shared, scores, failures)


def _others(out: Path, asked: Collection[Path]) -> list[str]:
    """Seeds that are scored in ``out`` and not among those asked for."""
    found = [path.parent for path in out.glob(f"seed-*/{SCORE_FILE}") if path.parent not in asked]
    return [path.name for path in sorted(found, key=lambda path: (len(path.name), path.name))]


def _make(out: Path) -> None:
    if (out / "config.json").exists():
        raise RunDirectoryError(f"{out} is the directory of one run. Choose another one for a benchmark's results.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(
            f"results cannot be written to {out}: {error.strerror or error}. Choose another directory."
        ) from error


def _draw(curves: list[plots.Band], title: str, mark: float | None, out: Path) -> list[Path]:
    """A missing library costs the picture, not the figures."""
    try:
        return plots.bands(title, curves, mark).save(out, "learning_curves")
    except MissingDependencyError as error:
        warnings.warn(f"left out: {error}", PeriluneWarning, stacklevel=2)
        return []
