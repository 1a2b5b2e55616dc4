"""How well settings learn, over many seeds: each seed a run directory and a score of its own."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from perilune import runlog
from perilune.api import DQN
from perilune.config import DQNConfig, TrainConfig
from perilune.errors import ConfigError

SCORE_FILE = "score.json"
SCORE_EPISODES = 100


@dataclass(frozen=True)
class Trial:
    """One seed of one experiment."""

    environment: str
    agent: DQNConfig
    train: TrainConfig
    seed: int
    directory: Path


@dataclass(frozen=True)
class Score:
    """What a seed came to: greedy returns over 100 fixed episodes, of the final and of the best weights."""

    seed: int
    final: float
    best: float
    best_env_steps: int
    solved_env_steps: int | None
    """Environment steps at the first evaluation at or above the solved mark."""
    training_peak: float
    """Highest mean of 100 training episodes in a row (of all, where there are fewer)."""
    env_steps: int
    episodes: int
    seconds: float
    """Training, evaluations not counted."""


def run_trials(
    trials: Sequence[Trial], jobs: int, done: Callable[[Trial, Score], object] = lambda trial, score: None
) -> list[Score]:
    """Run every trial, ``jobs`` at a time in processes of their own, and give the scores in the order of the trials.

    A trial that already has a score is not run again; one that was interrupted starts anew.

    Args:
        trials: what to run.
        jobs: processes (>= 1).
        done: told of each score as it comes.
    """
    if jobs < 1:
        raise ConfigError("jobs", jobs, "a whole number >= 1")
    scores: dict[Trial, Score] = {}
    # spawn, because a fork would inherit the threads and the locks of whatever runs here.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(run_trial, trial): trial for trial in trials}
        for future in as_completed(waiting):
            trial = waiting[future]
            scores[trial] = future.result()
            done(trial, scores[trial])
    return [scores[trial] for trial in trials]


def run_trial(trial: Trial) -> Score:
    """Train and score one seed, or read its score where it already has one."""
    path = trial.directory / SCORE_FILE
    if path.is_file():
        return Score(**json.loads(path.read_text(encoding="utf-8")))
    dqn = DQN(trial.environment, trial.agent, seed=trial.seed)
    dqn.train(trial.train, out=trial.directory, overwrite=True, pictures=False, quiet=True)
    score = _score(trial, dqn)
    path.write_text(json.dumps(asdict(score), indent=2) + "\n", encoding="utf-8")
    return score


def _score(trial: Trial, dqn: DQN) -> Score:
    run = runlog.read(trial.directory)
    mark = run.config["solved_mark"]
    solved = [
        evaluation.env_steps for evaluation in run.evaluations if mark is not None and evaluation.mean_return >= mark
    ]
    rewards = [episode.reward for episode in run.episodes if episode.ended != "budget"]
    window = min(100, len(rewards))
    means = [sum(rewards[stop - window : stop]) / window for stop in range(window, len(rewards) + 1)]
    return Score(
        seed=trial.seed,
        final=dqn.evaluate(SCORE_EPISODES).mean_return,
        best=DQN.load(trial.directory, dqn.env).evaluate(SCORE_EPISODES).mean_return,
        best_env_steps=[evaluation.env_steps for evaluation in run.evaluations if evaluation.best][-1],
        solved_env_steps=solved[0] if solved else None,
        training_peak=max(means),
        env_steps=dqn.agent.env_steps,
        episodes=dqn.agent.episodes,
        seconds=run.evaluations[-1].seconds,
    )


def table(scores: Sequence[Score]) -> str:
    """The scores as a Markdown table."""
    lines = [
        "| seed | best checkpoint | at step | final | first solved | best 100 training episodes | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for score in scores:
        solved = f"{score.solved_env_steps:,}" if score.solved_env_steps is not None else "never"
        lines.append(
            f"| {score.seed} | {score.best:.1f} | {score.best_env_steps:,} | {score.final:.1f} | {solved} "
            f"| {score.training_peak:.1f} | {score.seconds:.0f} |"
        )
    return "\n".join(lines)
