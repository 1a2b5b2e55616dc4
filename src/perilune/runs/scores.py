"""Compute, write and read the score of one seed of a benchmark."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from perilune.errors import FileFormatError
from perilune.runs import files
from perilune.runs.logs import Run

SCORE_FILE = "score.json"
SCORE_EPISODES = 100


@dataclass(frozen=True)
class Score:
    """The score of one seed.

    Attributes:
        seed: the seed.
        final: mean greedy return of the final weights over 100 fixed episodes.
        best: mean greedy return of the best weights over the same episodes.
        best_env_steps: environment steps at the best evaluation.
        solved_env_steps: environment steps at the first evaluation at or above the reward threshold.
        solved_seconds: training time until that evaluation in seconds, excluding evaluations.
        training_peak: highest mean return of 100 consecutive training episodes (of all episodes if there are fewer).
        env_steps: total environment steps.
        episodes: total training episodes.
        seconds: total training time in seconds, excluding evaluations.
        solved_cpu_seconds: CPU time of training until the first solved evaluation, excluding evaluations. None in
            scores of earlier versions, like ``cpu_seconds``.
        cpu_seconds: total CPU time of training, excluding evaluations.
    """

    seed: int
    final: float
    best: float
    best_env_steps: int
    solved_env_steps: int | None
    solved_seconds: float | None
    training_peak: float | None
    env_steps: int
    episodes: int
    seconds: float
    solved_cpu_seconds: float | None = None
    cpu_seconds: float | None = None


def score(run: Run, final: float, best: float) -> Score:
    """Return the score of a finished run, given the mean returns of its final and best weights over 100 episodes."""
    mark = run.config["reward_threshold"]
    solved = [evaluation for evaluation in run.evaluations if mark is not None and evaluation.mean_return >= mark]
    rewards = [episode.reward for episode in run.episodes if episode.ended != "budget"]
    window = min(100, len(rewards))
    means = [sum(rewards[stop - window : stop]) / window for stop in range(window, len(rewards) + 1) if window]
    return Score(
        seed=run.config["seed"],
        final=final,
        best=best,
        best_env_steps=[evaluation.env_steps for evaluation in run.evaluations if evaluation.best][-1],
        solved_env_steps=solved[0].env_steps if solved else None,
        solved_seconds=solved[0].seconds if solved else None,
        solved_cpu_seconds=solved[0].cpu_seconds if solved else None,
        training_peak=max(means, default=None),
        env_steps=run.evaluations[-1].env_steps,
        episodes=run.evaluations[-1].episodes,
        seconds=run.evaluations[-1].seconds,
        cpu_seconds=run.evaluations[-1].cpu_seconds,
    )


def write_score(score: Score, directory: Path) -> None:
    """Write the score into its run directory, which marks the seed as finished."""
    files.write_json(directory / SCORE_FILE, asdict(score))


def read_score(record: object, path: Path) -> Score:
    """Return the score in a JSON value from the file ``path``."""
    try:
        return msgspec.convert(record, Score)
    except msgspec.ValidationError as error:
        raise FileFormatError(f"{path} is not a valid score: {error}") from error
