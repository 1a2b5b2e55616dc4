"""Train and score many seeds of one environment, each in its own process and run directory."""

from __future__ import annotations

import itertools
import platform
import time
import warnings
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from perilune import envs
from perilune._utils import statistics
from perilune._utils.text import duration, show_return
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.api import DQN
from perilune.bench import from_repository, results
from perilune.bench.cluster import open_engine
from perilune.bench.pool import Workers
from perilune.bench.results import Result
from perilune.envs.known import presets
from perilune.errors import (
    ConfigError,
    FileFormatError,
    MissingDependencyError,
    PeriluneWarning,
    RunDirectoryError,
    TrialError,
)
from perilune.recording import Callback
from perilune.runs import files, layout, logs
from perilune.runs.files import read_json
from perilune.runs.scores import SCORE_EPISODES, SCORE_FILE, Score, read_score, score, write_score
from perilune.training.checks import check
from perilune.training.evaluation import greedy_limit
from perilune.training.events import Episode, Evaluated
from perilune.viz import plots
from perilune.viz.terminal import Status, board

OWN = "Perilune"
MARK = ".benchmark"  # marks a directory of runs that a benchmark started and may restart


class Peer(Protocol):
    """Settings of an agent of another library: a frozen dataclass with a method that trains and scores the agent."""

    def train_and_score(
        self, environment: str, train: TrainConfig, seed: int, directory: Path, episodes: int
    ) -> tuple[float, float]:
        """Train and record in ``directory``. Return the mean returns of the final and of the best weights."""
        ...


@dataclass(frozen=True)
class Trial:
    """One seed of one experiment."""

    environment: str
    """Gymnasium ID. The process of the trial creates the environment."""
    agent: DQNConfig | Peer
    train: TrainConfig
    seed: int
    directory: Path

    @property
    def title(self) -> str:
        """Name of the trial: the last two parts of its directory, experiment and seed."""
        return "/".join(self.directory.parts[-2:])


@dataclass(frozen=True)
class Report:
    """The result of a benchmark."""

    content: dict[str, Any]
    """Content of scores.json. With peers, also the content of the scores.json of each (``peers``) and its
    ``comparisons``, by name."""
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
    jobs: int | None = None,
    cluster: str | None = None,
    against: str | None = None,
    quiet: bool = False,
) -> Report:
    """Train and score each seed that has no score in ``out``/seed-S, and write the results into ``out``.

    Args:
        environment: Gymnasium ID.
        agent: settings of the agent.
        train: training settings of each seed.
        seeds: one or more seeds.
        out: directory of the runs, scores.json, scores.csv, learning_curves.png and learning_curves.svg.
        jobs: number of seeds to train at the same time. By default 1, or the number of CPUs of the cluster.
        cluster: address of a Ray cluster, on which the seeds are trained, or "auto" for the running one. ``out`` must
            be a directory that all its machines share.
        against: comma-separated names of other libraries to train on the same seeds, each into ``out``/NAME. The
            libraries take turns, so that all run under the same load. Requires a clone of the repository.
        quiet: do not show progress.

    Returns:
        The results and the files that were written.

    Raises:
        ConfigError: the settings are invalid. No seed has run.
        MissingDependencyError: a required library is not installed. No seed has run.
        RunDirectoryError: ``out`` cannot be written, or holds runs with other settings.
        TrialError: all seeds failed.
    """
    statistics.check_available()
    if cluster is not None:
        out = out.absolute()
    dqn = DQN(environment, config=agent)
    agent = dqn.config  # with measured settings
    check(dqn.agent, dqn.env, train)
    name, threshold = envs.name(dqn.env), envs.reward_threshold(dqn.env)
    # Worker processes make the environment from its full ID: the module that registers it, the name and the version.
    made = ":".join([*environment.split(":")[:-1], name])
    trials = {OWN: [Trial(made, agent, train, seed, out / f"seed-{seed}") for seed in seeds]}
    titles = {OWN: OWN}
    if against is not None:
        peers = from_repository("peers", f"--against {against}")
        for peer_name, peer in peers.find(against, name).items():
            titles[peer_name], budget = peers.title(peer_name), peers.budget(peer, train)
            trials[peer_name] = [
                Trial(made, peer, budget, trial.seed, out / peer_name / trial.directory.name) for trial in trials[OWN]
            ]
    if (out / "config.json").exists():
        raise RunDirectoryError(f"{out} is a run directory. Choose another directory for the benchmark.")
    scores, failures = run_trials(_in_turn(trials.values()), jobs, cluster, quiet)
    if not any(trial in scores for trial in trials[OWN]):
        raise TrialError(failed(failures))

    found: dict[str, Result] = {}
    contents: dict[str, dict[str, Any]] = {}
    texts, curves = [], []
    for learner, group in trials.items():
        scored = [trial for trial in group if trial in scores]
        if not scored:
            continue
        reasons = {trial.seed: failures[trial] for trial in group if trial in failures}
        config = settings(group[0])
        chosen = {"agent": config["agent"], "train": config["train"]}
        result = Result(name, threshold, chosen, [scores[trial] for trial in scored], reasons)
        summary = results.summarize(result, np.random.default_rng(0))
        found[learner], contents[learner] = result, results.to_json(result, summary)
        directory = group[0].directory.parent
        results.save(contents[learner], directory)
        heading = f"{name}, {titles[learner]}: {len(scored)} seeds, means of {SCORE_EPISODES} greedy episodes"
        texts += [heading, results.table(result.scores), results.describe(result, summary)]
        if others := _other_seeds(directory, group):
            texts.append(f"Seeds in {directory} that are not included: {', '.join(others)}.")
        runs = [logs.read_run(trial.directory) for trial in scored]
        curves.append(results.band(titles[learner], runs, np.random.default_rng(0)))
    own = found.pop(OWN)
    comparisons = {learner: results.compare(own, peer, np.random.default_rng(0)) for learner, peer in found.items()}
    texts += [results.comparison_table(one, OWN, titles[learner]) for learner, one in comparisons.items()]
    content = contents.pop(OWN)
    if contents:
        content |= {"peers": contents, "comparisons": results.plain(comparisons)}
    written = [out / results.JSON_FILE, out / results.CSV_FILE, *_plot(name, curves, threshold, out)]
    return Report(content, "\n\n".join(texts), written, failures)


def _plot(name: str, curves: Sequence[plots.Band], threshold: float | None, out: Path) -> list[Path]:
    """Plot learning curves and return the files. Without matplotlib, warn."""
    try:
        return plots.bands(name, curves, threshold).save(out, "learning_curves")
    except MissingDependencyError as error:
        warnings.warn(f"learning curves were not plotted: {error}", PeriluneWarning, stacklevel=2)
        return []


def _in_turn(groups: Iterable[Sequence[Trial]]) -> list[Trial]:
    """Return the trials of all learners, seed by seed."""
    return sorted(itertools.chain(*groups), key=lambda trial: trial.seed)


def _other_seeds(directory: Path, trials: Sequence[Trial]) -> list[str]:
    """Return the names of the scored seeds in ``directory`` that are not in ``trials``."""
    requested = {trial.directory for trial in trials}
    found = [path.parent for path in directory.glob(f"seed-*/{SCORE_FILE}") if path.parent not in requested]
    return [path.name for path in sorted(found, key=lambda path: (len(path.name), path.name))]


def failed(failures: dict[Trial, str]) -> str:
    """Return a message that lists the trials that failed, grouped by reason."""
    titles: dict[str, list[str]] = {}
    for trial, reason in failures.items():
        titles.setdefault(reason, []).append(trial.title)
    reasons = [f"  {', '.join(group)}: {reason}" for reason, group in titles.items()]
    count = "1 seed" if len(failures) == 1 else f"{len(failures)} seeds"
    return "\n".join([f"{count} failed. Run the same command again to retry.", *reasons])


def run_trials(
    trials: Sequence[Trial], jobs: int | None = None, cluster: str | None = None, quiet: bool = False
) -> tuple[dict[Trial, Score], dict[Trial, str]]:
    """Run each trial in its own process, ``jobs`` at a time, and show progress on standard error.

    Trials that have a score are skipped, and interrupted trials resume. If a trial fails or its process dies, the
    other trials continue.

    Returns:
        The scores of the finished trials in the order of ``trials``, and the reasons for failed trials.

    Raises:
        ConfigError: ``jobs`` < 1, or there is no such cluster.
        RunDirectoryError: the directory of a trial holds a run with other settings, or a run without a score that no
            benchmark started. No trial has run.
    """
    scores = {trial: found for trial in trials if (found := stored_score(trial)) is not None}
    failures: dict[Trial, str] = {}
    waiting = [trial for trial in trials if trial not in scores]
    title = " and ".join(sorted({trial.environment for trial in trials}))
    with closing(open_engine(jobs, cluster)) as engine, board(title, quiet) as screen:
        prepare(waiting)
        workers = Workers(_run, engine, lambda trial, reason: screen.say(continued(trial.title, reason)))
        workers.submit(waiting)
        if scores:
            screen.say(f"{len(scores)} of {len(trials)} seeds already have a score")
        while len(workers):
            for trial, reason in workers.wait().items():
                score = None if reason else stored_score(trial)
                if score is not None:
                    scores[trial] = score
                    screen.say(f"{trial.title}: best {show_return(score.best)}, final {show_return(score.final)}")
                else:
                    failures[trial] = reason or f"{SCORE_FILE} was not written"
                    screen.say(f"{trial.title} failed: {failures[trial].splitlines()[-1]}")
            if quiet:
                continue
            done, states = len(scores) + len(failures), [progress(trial) for trial in workers.running()]
            words = f"{done} of {len(trials)} done" + (f", {len(failures)} failed" if failures else "")
            screen.show((done + sum(state.share for state in states)) / len(trials), words, states)
    return {trial: scores[trial] for trial in trials if trial in scores}, failures


def continued(title: str, reason: str) -> str:
    """Return the message that a seed is trained again, because its process died."""
    return f"{title} continues from its checkpoint: {reason}"


def prepare(trials: Sequence[Trial]) -> None:
    """Create the parent directories of ``trials`` and mark them, which allows the benchmark to restart their runs.

    Raises:
        RunDirectoryError: a directory cannot be written, or holds a run that no benchmark started.
    """
    for trial in trials:
        if (trial.directory / "config.json").exists() and not (trial.directory.parent / MARK).exists():
            raise RunDirectoryError(
                f"{trial.directory} holds a run that no benchmark started, and the benchmark would overwrite it. "
                "Choose another directory (--out), or remove this run."
            )
    for parent in {trial.directory.parent for trial in trials}:
        with files.reported("written", parent):
            parent.mkdir(parents=True, exist_ok=True)
        if not (parent / MARK).exists():
            files.write(parent / MARK)


def _run(trial: Trial) -> None:
    """Train and score one seed."""
    check_shared(trial)
    if isinstance(trial.agent, DQNConfig):
        dqn = DQN(trial.environment, config=trial.agent, seed=trial.seed)
        train_seed(dqn, trial)
        final, best = greedy_returns(dqn, trial)
    else:
        final, best = trial.agent.train_and_score(
            trial.environment, trial.train, trial.seed, trial.directory, SCORE_EPISODES
        )
    write_score(score(logs.read_run(trial.directory), final, best), trial.directory)


def check_shared(trial: Trial) -> None:
    """Raise RunDirectoryError if this machine lacks the directory that the benchmark has created for a trial."""
    if not (trial.directory.parent / MARK).exists():
        raise RunDirectoryError(
            f"{trial.directory.parent} does not exist on {platform.node()}. On a cluster, --out must be in a directory "
            "that all machines share, such as a network drive."
        )


def greedy_returns(dqn: DQN, trial: Trial) -> tuple[float, float]:
    """Return the mean returns of the final weights, which ``dqn`` has, and of the best weights of a finished seed."""
    limit = greedy_limit(dqn.env, trial.train)
    final = dqn.evaluate(SCORE_EPISODES, limit).mean_return
    return final, DQN.load(trial.directory, dqn.env).evaluate(SCORE_EPISODES, limit).mean_return


def train_seed(dqn: DQN, trial: Trial, callback: Callback | None = None) -> None:
    """Train one seed. Resume an interrupted run, or restart a damaged run.

    Args:
        dqn: a new agent with the settings and the seed of the trial.
        trial: the trial.
        callback: function that receives each event, as in ``DQN.train``.
    """
    options: dict[str, Any] = {"run_dir": trial.directory, "callback": callback, "pictures": False, "quiet": True}
    if (trial.directory / "config.json").exists():
        try:
            dqn.train(trial.train, resume=True, **options)
        except (FileFormatError, RunDirectoryError, ConfigError) as error:
            warnings.warn(
                f"{trial.title} restarts because it cannot be resumed: {error}", PeriluneWarning, stacklevel=2
            )
        else:
            return
    dqn.train(trial.train, overwrite=True, **options)


def stored_score(trial: Trial) -> Score | None:
    """Return the score in the directory of a trial, or None if there is no score.

    Raises:
        RunDirectoryError: the directory holds a run with other settings.
        FileFormatError: a file in the directory is damaged.
    """
    path, config_path = trial.directory / SCORE_FILE, trial.directory / "config.json"
    config: dict[str, Any] = {}
    if path.exists():
        config = read_json(config_path)
    elif config_path.exists():
        with suppress(FileFormatError):  # an interrupted run may have left a damaged file
            config = read_json(config_path)
    if different := list(results.differences(config, _requested(trial, config))) if config else []:
        listed = ", ".join(f"{name} = {found!r} there, {wanted!r} requested" for name, found, wanted in different)
        raise RunDirectoryError(
            f"{trial.directory} holds a run with other settings: {listed}. "
            "Choose another directory (--out), or remove this run."
        )
    if not path.exists():
        return None
    try:
        return read_score(read_json(path), path)
    except FileFormatError as error:
        raise FileFormatError(f"{error}. Remove this file to run its seed again.") from error


def _requested(trial: Trial, config: dict[str, Any]) -> dict[str, Any]:
    """Return the content of config.json for ``trial``, with the numbers that the run measured."""
    found = settings(trial)
    if isinstance(trial.agent, DQNConfig) and isinstance(config.get("agent"), dict):
        found["agent"] = results.plain(presets.as_measured(trial.agent, config["agent"]))
    return found


def settings(trial: Trial) -> dict[str, Any]:
    """Return the content of config.json for ``trial``."""
    environment = trial.environment.rpartition(":")[2]  # without the module that registers it
    content = {"environment": environment, "seed": trial.seed, "agent": trial.agent, "train": trial.train}
    found: dict[str, Any] = results.plain(content)
    return found


def progress(trial: Trial) -> Status:
    """Return the progress of a trial, from the last lines of its logs."""
    episode = logs.last_record(trial.directory, Episode)
    evaluation = logs.last_record(trial.directory, Evaluated)
    env_steps = logs.env_steps(trial.directory)
    used = ((env_steps, trial.train.steps), (episode.episode if episode else 0, trial.train.episodes))
    share = min(1.0, max(count / budget for count, budget in used if budget))
    figures = [_scoring(trial) if share == 1 else f"{env_steps:,} steps" if env_steps else "not started"]
    if evaluation and evaluation.mean_return is not None:
        figures.append(f"evaluation {show_return(evaluation.mean_return)}")
    return Status(trial.title, share, figures)


def _scoring(trial: Trial) -> str:
    """Return how long the trial has been scored: since training wrote its last evaluation."""
    last = trial.directory / layout.FILES[Evaluated]
    return f"scoring for {duration(max(0.0, time.time() - last.stat().st_mtime))}" if last.exists() else "scoring"
