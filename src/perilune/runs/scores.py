"""What a seed came to: its score, in a file of its own."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints

from perilune.errors import FileFormatError
from perilune.runs import files
from perilune.runs.runlog import Run

SCORE_FILE = "score.json"
SCORE_EPISODES = 100
# What JSON has for the kinds of a score's fields, where it is not the same.
JSON_KINDS: dict[Any, Any] = {float: int | float, float | None: int | float | None}


@dataclass(frozen=True)
class Score:
    """What a seed came to: greedy returns over 100 fixed episodes, of the final and of the best weights."""

    seed: int
    final: float
    best: float
    best_env_steps: int
    solved_env_steps: int | None
    """Environment steps at the first evaluation at or above the solved mark."""
    solved_seconds: float | None
    """Seconds of training until then, evaluations not counted."""
    training_peak: float | None
    """Highest mean of 100 training episodes in a row (of all, where there are fewer)."""
    env_steps: int
    episodes: int
    seconds: float
    """Training, evaluations not counted."""


def score(run: Run, final: float, best: float) -> Score:
    """The score of a finished run, whose final and best weights had these mean returns over 100 episodes."""
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
        training_peak=max(means, default=None),
        env_steps=run.evaluations[-1].env_steps,
        episodes=run.evaluations[-1].episodes,
        seconds=run.evaluations[-1].seconds,
    )


def write_score(score: Score, directory: Path) -> None:
    """Write the score into its run directory, whole or not at all: it is what says that the seed is done."""
    files.write_json(directory / SCORE_FILE, asdict(score))


def read_score(record: object, path: Path) -> Score:
    """A score from JSON; ``path`` is where it stood, for the error.

    Raises:
        FileFormatError: it is not a score of this version.
    """
    try:
        if not isinstance(record, dict):
            raise TypeError(f"{record!r} is no score")
        score = Score(**record)
        for name, hint in get_type_hints(Score).items():
            value = getattr(score, name)
            if isinstance(value, bool) or not isinstance(value, JSON_KINDS.get(hint, hint)):
                raise TypeError(f"{name} is {value!r}")
    except TypeError as error:
        raise FileFormatError(f"{path} is damaged or of another version: {error}") from error
    return score
