"""What the rules of the advice read of a run, and the commands that they suggest."""

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
from perilune.envs.known.presets import for_budget, preset
from perilune.runs.logs import Run
from perilune.training.evaluation import Evaluation
from perilune.training.events import Episode, Evaluated
from perilune.viz.summary import finite

ENVIRONMENT_ID = r"[A-Za-z0-9_][\w./:-]*"  # that may stand in a command


@dataclass(frozen=True)
class Facts:
    """A run, and what else is known about it.

    Attributes:
        run: The run.
        best: Greedy episodes of its best weights from start states that training never uses, if they were played.
        seeds: How many runs have the same settings, this one included.
        made: Whether the environment can be made by an id, as every command that trains or plays needs.
        env: That id, if it is not the run's own.
    """

    run: Run
    best: Evaluation | None = None
    seeds: int = 1
    made: bool = True
    env: str = ""

    @property
    def agent(self) -> DQNConfig:
        """Settings of the agent."""
        return build(DQNConfig, self.run.config.get("agent", {}))

    @property
    def train(self) -> TrainConfig:
        """Settings of the training."""
        return build(TrainConfig, self.run.config.get("train") or {"steps": 1})

    @property
    def evaluations(self) -> list[Evaluated]:
        """Evaluations with a finite return."""
        return [one for one in self.run.evaluations if finite(one.mean_return) and finite(one.std_return)]

    @property
    def episodes(self) -> list[Episode]:
        """Complete episodes with a finite return."""
        return [
            one for one in self.run.episodes if one.ended != "budget" and finite(one.reward) and finite(one.epsilon)
        ]

    @property
    def returns(self) -> Array:
        """Mean return of each evaluation, in order."""
        return np.array([evaluation.mean_return for evaluation in self.evaluations], np.float64)

    @property
    def noise(self) -> float:
        """Standard error of an evaluation's mean return, averaged over the evaluations."""
        spread = [evaluation.std_return for evaluation in self.evaluations]
        return float(np.mean(spread)) / math.sqrt(self.train.eval_episodes) if spread else 0.0

    @property
    def env_steps(self) -> int:
        """Environment steps so far."""
        logs: tuple[Sequence[Any], ...] = (self.run.episodes, self.run.metrics, self.run.evaluations)
        return max((record.env_steps for log in logs for record in log), default=0)

    @property
    def last_episode(self) -> int:
        """Number of the last episode."""
        return max((one.episode for one in self.run.episodes), default=0)

    @property
    def finished(self) -> bool:
        """Whether the budget is used up, or an evaluation reached ``stop_at_return``."""
        train, returns = self.train, self.returns
        if train.stop_at_return is not None and returns.size and returns[-1] >= train.stop_at_return:
            return True
        budgets = ((train.steps, self.env_steps), (train.episodes, self.last_episode))
        return any(budget is not None and had >= budget for budget, had in budgets)

    @property
    def solved(self) -> bool:
        """Whether the best weights reach the reward threshold, by their score if there is one."""
        threshold = self.run.config["reward_threshold"]
        reached = self.best.mean_return if self.best else self.returns.max(initial=-np.inf)
        return threshold is not None and reached >= threshold

    def metrics(self, name: str) -> Array:
        """Return the finite values of one column of the metrics."""
        values = np.array([getattr(line, name) for line in self.run.metrics], np.float64)
        return values[np.isfinite(values)]


def train_command(facts: Facts, **changes: Any) -> str:
    """Return the command that repeats the training with ``changes`` of settings; "" if the id cannot be in one."""
    seed = facts.run.config["seed"]
    return _command(facts, ["train"], ["--seed", str(seed)] if seed else [], changes)


def seeds_command(facts: Facts, seeds: int) -> str:
    """Return the command that trains and scores several seeds of the run; "" if the id cannot be in one."""
    first = ["--first-seed", str(seed)] if (seed := facts.run.config["seed"]) else []
    return _command(facts, ["bench", "learning"], ["--seeds", str(seeds), *first], {"video_every": None})


def of_run(facts: Facts, command: str, *options: str) -> str:
    """Return a command about the run itself."""
    env = ["--env", facts.env] if facts.env else []
    return shlex.join(["perilune", command, str(facts.run.directory), *options, *env])


def _command(facts: Facts, words: Sequence[str], options: Sequence[str], changes: dict[str, Any]) -> str:
    environment = facts.env or facts.run.config["environment"]
    if not re.fullmatch(ENVIRONMENT_ID, environment):
        return ""
    base = preset(environment)
    names = {field.name for field in fields(DQNConfig)}
    agent = replace(facts.agent, **{name: value for name, value in changes.items() if name in names})
    train = replace(facts.train, **{name: value for name, value in changes.items() if name not in names})
    # A budget in episodes replaces the preset's budget of steps.
    base_train = base.train if train.episodes is None else replace(base.train, steps=None, episodes=1)
    options = ["perilune", *words, environment, *options]
    for config, default in ((train, base_train), (agent, for_budget(base.agent, base, train.steps))):
        for field in fields(config):
            if (value := getattr(config, field.name)) != getattr(default, field.name):
                options += option(field.name, value)
    return shlex.join(options)


def option(name: str, value: Any) -> list[str]:
    """Return a setting as command-line words."""
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    if isinstance(value, list | tuple):
        flat = [part for item in value for part in (item if isinstance(item, list | tuple) else (item,))]
        return [f"--{dashed}", *map(str, flat)]
    return [f"--{dashed}", str(value)]
