"""How well settings learn, over many seeds: each seed a run directory and a score of its own."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from perilune.agent.config import DQNConfig, TrainConfig
from perilune.api import DQN
from perilune.bench import peers, pool, results
from perilune.bench.peers import Peer
from perilune.errors import ConfigError, FileFormatError, PeriluneWarning, RunDirectoryError
from perilune.runs import runlog
from perilune.runs.files import read_json
from perilune.runs.scores import SCORE_EPISODES, SCORE_FILE, Score, read_score, score, write_score
from perilune.training.events import Episode, Evaluated, Metrics
from perilune.training.loop import greedy_limit
from perilune.viz.board import Lane, Standing, board

MARK = ".benchmark"  # in a directory whose runs are a benchmark's, which may begin them anew
TAIL = 4096  # bytes at the end of a log that hold its last line


@dataclass(frozen=True)
class Trial:
    """One seed of one experiment."""

    environment: str
    """Its id, which is made anew in the trial's own process."""
    agent: DQNConfig | Peer
    train: TrainConfig
    seed: int
    directory: Path

    @property
    def title(self) -> str:
        """The end of its directory, which tells experiment and seed."""
        return "/".join(self.directory.parts[-2:])


@dataclass(frozen=True)
class Outcome:
    """The scores of the trials that came to their end, in the order of the trials, and why the others did not."""

    scores: dict[Trial, Score]
    failures: dict[Trial, str]


def run_trials(trials: Sequence[Trial], jobs: int, quiet: bool = False) -> Outcome:
    """Run every trial, ``jobs`` at a time in processes of their own, and show the progress on standard error.

    A trial that has a score is not run again; one that was interrupted goes on where it was; one that fails, or whose
    process dies, leaves the others alone.

    Raises:
        ConfigError: ``jobs`` < 1.
        RunDirectoryError: a trial's directory holds a run with other settings, or one that no benchmark began, and that
            has no score; nothing has been run then.
    """
    if jobs < 1:
        raise ConfigError("jobs", jobs, "a whole number >= 1")
    stored = {trial: stored_score(trial) for trial in trials}
    outcome = Outcome({trial: scored for trial, scored in stored.items() if scored is not None}, {})
    waiting = [trial for trial in trials if trial not in outcome.scores]
    _claim(waiting)
    title = " and ".join(sorted({trial.environment for trial in trials}))
    with board(title, quiet) as screen, closing(pool.each(run_trial, waiting, jobs)) as events:
        if outcome.scores:
            screen.say(f"{len(outcome.scores)} of {len(trials)} have their scores already")
        for event in events:
            if isinstance(event, pool.Running):
                screen.show(_standing(len(trials), outcome, event.items))
                continue
            trial = event.item
            scored = stored_score(trial) if event.reason is None else None
            if scored is not None:
                outcome.scores[trial] = scored
                screen.say(f"{trial.title}: best {scored.best:.1f}, final {scored.final:.1f}")
            else:
                outcome.failures[trial] = event.reason or f"it left no {SCORE_FILE}"
                screen.say(f"{trial.title} failed: {outcome.failures[trial].splitlines()[-1]}")
    return Outcome({trial: outcome.scores[trial] for trial in trials if trial in outcome.scores}, outcome.failures)


def _claim(trials: Sequence[Trial]) -> None:
    """Mark the directories of the trials to come as a benchmark's, so that it may begin them anew if it is stopped."""
    for trial in trials:
        if (trial.directory / "config.json").exists() and not (trial.directory.parent / MARK).exists():
            raise RunDirectoryError(
                f"{trial.directory} holds a run that no benchmark began, and that would be lost. "
                "Choose another directory (--out), or remove that one."
            )
    for parent in {trial.directory.parent for trial in trials}:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            (parent / MARK).touch()
        except OSError as error:
            raise RunDirectoryError(
                f"results cannot be written to {parent}: {error.strerror or error}. Choose another directory."
            ) from error


def run_trial(trial: Trial) -> None:
    """Train and score one seed."""
    if isinstance(trial.agent, Peer):
        final, best = peers.train_and_score(
            trial.environment, trial.agent, trial.train, trial.seed, trial.directory, SCORE_EPISODES
        )
    else:
        dqn = DQN(trial.environment, config=trial.agent, seed=trial.seed)
        _train(dqn, trial)
        limit = greedy_limit(dqn.env, trial.train)
        final = dqn.evaluate(SCORE_EPISODES, limit).mean_return
        best = DQN.load(trial.directory, dqn.env).evaluate(SCORE_EPISODES, limit).mean_return
    write_score(score(runlog.read(trial.directory), final, best), trial.directory)


def _train(dqn: DQN, trial: Trial) -> None:
    """Train one seed, from where it was stopped if it was; what is damaged there is begun anew."""
    if (trial.directory / "config.json").exists():
        try:
            dqn.train(trial.train, resume=True, run_dir=trial.directory, pictures=False, quiet=True)
        except (FileFormatError, RunDirectoryError, ConfigError) as error:
            message = f"{trial.title} is begun anew, for it cannot be gone on with: {error}"
            warnings.warn(message, PeriluneWarning, stacklevel=2)
        else:
            return
    dqn.train(trial.train, run_dir=trial.directory, overwrite=True, pictures=False, quiet=True)


def stored_score(trial: Trial) -> Score | None:
    """The score in the trial's directory, or None where it has yet to be run.

    Raises:
        RunDirectoryError: what is there was run with other settings.
        FileFormatError: a file there is damaged.
    """
    path = trial.directory / SCORE_FILE
    config = _stored_config(trial.directory, path.exists())
    if config and isinstance(trial.agent, DQNConfig):
        config = _completed(config)
    if different := list(results.differences(config, settings(trial))) if config else []:
        told = ", ".join(f"{name} = {there!r} there, {asked!r} asked" for name, there, asked in different)
        raise RunDirectoryError(
            f"{trial.directory} holds a run with other settings: {told}. "
            "Choose another directory (--out), or remove that one."
        )
    if not path.exists():
        return None
    try:
        return read_score(read_json(path), path)
    except FileFormatError as error:
        raise FileFormatError(f"{error}. Remove that file, and its seed is run anew.") from error


def _stored_config(directory: Path, scored: bool) -> dict[str, Any]:
    """config.json of a run, empty where there is none. A run that was broken off may have left half of it."""
    path = directory / "config.json"
    if not scored and not path.exists():
        return {}
    try:
        config = read_json(path)
    except FileFormatError:
        if scored:
            raise
        return {}
    return config


def _completed(config: dict[str, Any]) -> dict[str, Any]:
    """config.json of an older version, with the defaults of the settings that were not there yet."""
    groups: dict[str, type[DQNConfig | TrainConfig]] = {"agent": DQNConfig, "train": TrainConfig}
    return config | {
        name: {field.name: plain(field.default) for field in fields(cls)} | config[name]
        for name, cls in groups.items()
        if isinstance(config.get(name), dict)
    }


def plain(value: Any) -> Any:
    """``value`` as JSON gives it back: a tuple is a list."""
    return json.loads(json.dumps(value))


def settings(trial: Trial) -> dict[str, Any]:
    """What config.json says of a run of the trial, as plain JSON values."""
    found = {
        "environment": trial.environment.rpartition(":")[2],  # which may begin with the module that registers it
        "seed": trial.seed,
        "agent": asdict(trial.agent),
        "train": asdict(trial.train),
    }
    content: dict[str, Any] = plain(found)
    return content


def _standing(trials: int, outcome: Outcome, running: Sequence[Trial]) -> Standing:
    lanes = [_lane(trial) for trial in running]
    ended = len(outcome.scores) + len(outcome.failures)
    words = f"{ended} of {trials} done" + (f", {len(outcome.failures)} failed" if outcome.failures else "")
    return Standing((ended + sum(lane.share for lane in lanes)) / trials, words, lanes)


def _lane(trial: Trial) -> Lane:
    """How far a trial is, read off the ends of its logs."""
    episode, metrics, evaluation = (
        _last_line(trial.directory / runlog.FILES[kind]) for kind in (Episode, Metrics, Evaluated)
    )
    env_steps = max(episode.get("env_steps", 0), metrics.get("env_steps", 0))
    used = ((env_steps, trial.train.steps), (episode.get("episode", 0), trial.train.episodes))
    share = min(1.0, max(count / budget for count, budget in used if budget))
    mean_return = evaluation.get("mean_return")
    figures = ["scoring" if share == 1 else f"{env_steps:,} steps"]
    figures += [] if mean_return is None else [f"evaluation {mean_return:.1f}"]
    return Lane(trial.title, share, figures)


def _last_line(path: Path) -> dict[str, Any]:
    """The newest whole line of JSON lines, empty where there is none: the run is being written."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            line: dict[str, Any] = json.loads(file.read().split(b"\n")[-2])
    except (OSError, IndexError, ValueError):
        return {}
    return line
