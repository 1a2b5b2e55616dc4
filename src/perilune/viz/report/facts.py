"""What is known of a run, for rules that say what to try next, and the commands that do it."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.agent.config import DQNConfig, TrainConfig, build
from perilune.envs.known.presets import preset
from perilune.runs.runlog import Run
from perilune.training.evaluation import Evaluation
from perilune.training.events import Episode, Evaluated
from perilune.viz.summary import finite

ENVIRONMENT_ID = r"[A-Za-z0-9_][\w./:-]*"  # what may stand in a command


@dataclass(frozen=True)
class Facts:
    """What the rules go by: a run, and what is known of it besides.

    ``best``: greedy episodes of its best weights on start states that no training sees, None where they were not
    played. ``seeds``: how many runs of the same settings there are, this one included. ``made``: whether its
    environment can be made here by an id, as every command that trains or plays has to: by ``env``, or where that is
    empty by its own.
    """

    run: Run
    best: Evaluation | None = None
    seeds: int = 1
    made: bool = True
    env: str = ""

    @property
    def agent(self) -> DQNConfig:
        return build(DQNConfig, self.run.config.get("agent", {}))

    @property
    def train(self) -> TrainConfig:
        return build(TrainConfig, self.run.config.get("train") or {"steps": 1})

    @property
    def evaluations(self) -> list[Evaluated]:
        """The evaluations, but for one that came to no number."""
        return [one for one in self.run.evaluations if finite(one.mean_return) and finite(one.std_return)]

    @property
    def episodes(self) -> list[Episode]:
        """The episodes that came to their end, and to a number."""
        return [
            one for one in self.run.episodes if one.ended != "budget" and finite(one.reward) and finite(one.epsilon)
        ]

    @property
    def returns(self) -> Array:
        """Mean return of every evaluation, in their order."""
        return np.array([evaluation.mean_return for evaluation in self.evaluations], np.float64)

    @property
    def noise(self) -> float:
        """By how much an evaluation's mean return is off by chance: its standard error, on the mean."""
        spread = [evaluation.std_return for evaluation in self.evaluations]
        return float(np.mean(spread)) / math.sqrt(self.train.eval_episodes) if spread else 0.0

    @property
    def env_steps(self) -> int:
        """How far the run is."""
        logs: tuple[Sequence[Any], ...] = (self.run.episodes, self.run.metrics, self.run.evaluations)
        return max((record.env_steps for log in logs for record in log), default=0)

    @property
    def finished(self) -> bool:
        """Whether its budget is used up, or an evaluation came to what it was to stop at."""
        train, returns = self.train, self.returns
        if train.stop_at_return is not None and returns.size and returns[-1] >= train.stop_at_return:
            return True
        episodes = max((one.episode for one in self.run.episodes), default=0)
        budgets = ((train.steps, self.env_steps), (train.episodes, episodes))
        return any(budget is not None and had >= budget for budget, had in budgets)

    @property
    def solved(self) -> bool:
        """Whether the best weights reach the solved mark, by their score where there is one."""
        mark = self.run.config["reward_threshold"]
        reached = self.best.mean_return if self.best else self.returns.max(initial=-np.inf)
        return mark is not None and reached >= mark

    def metrics(self, name: str) -> Array:
        """One number of every line of metrics, those that are not finite left out."""
        values = np.array([getattr(line, name) for line in self.run.metrics], np.float64)
        return values[np.isfinite(values)]


def train_command(facts: Facts, **changes: Any) -> str:
    """The command that trains what the run trained, but for ``changes`` of settings by name; "" where there is none."""
    seed = facts.run.config["seed"]
    return _command(facts, ["train"], ["--seed", str(seed)] if seed else [], changes)


def seeds_command(facts: Facts, seeds: int) -> str:
    """The command that trains so many seeds of what the run trained, and scores them; "" where there is none."""
    first = ["--first-seed", str(seed)] if (seed := facts.run.config["seed"]) else []
    return _command(facts, ["bench", "learning"], ["--seeds", str(seeds), *first], {"video_every": None})


def _command(facts: Facts, words: Sequence[str], options: Sequence[str], changes: dict[str, Any]) -> str:
    environment = facts.env or facts.run.config["environment"]
    if not re.fullmatch(ENVIRONMENT_ID, environment):
        return ""
    base = preset(environment)
    names = {field.name for field in fields(DQNConfig)}
    agent = replace(facts.agent, **{name: value for name, value in changes.items() if name in names})
    train = replace(facts.train, **{name: value for name, value in changes.items() if name not in names})
    options = ["perilune", *words, environment, *options]
    for config, known in ((train, base.train), (agent, base.agent)):
        for field in fields(config):
            if (value := getattr(config, field.name)) != getattr(known, field.name):
                options += option(field.name, value)
    return shlex.join(options)


def option(name: str, value: Any) -> list[str]:
    """A setting as the command line takes it."""
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    if isinstance(value, list | tuple):
        flat = [part for item in value for part in (item if isinstance(item, list | tuple) else (item,))]
        return [f"--{dashed}", *map(str, flat)]
    return [f"--{dashed}", str(value)]


def of_run(facts: Facts, command: str, *options: str) -> str:
    """A command about the run itself."""
    env = ["--env", facts.env] if facts.env else []
    return shlex.join(["perilune", command, str(facts.run.directory), *options, *env])
