"""The numbers that the advice rules use, and the commands that they suggest."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune._utils.text import quoted
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.agent.settings import build
from perilune.envs.known.presets import RECOMMENDED, as_measured, for_budget, nearest, preset
from perilune.runs.logs import Run
from perilune.training.evaluation import Evaluation
from perilune.viz.summary import finite

ENVIRONMENT_ID = r"[A-Za-z0-9_][\w./:-]*"  # allowed in a command


@dataclass
class Facts:
    """Numbers of a run. Records with values that are not finite are ignored.

    Attributes:
        run: The run.
        best: Evaluation of its best weights on start states that training never uses; None if there is none.
        seeds: Number of runs with the same settings, including this one.
        made: Whether the environment can be made from an id, so that commands can train or play.
        env: This id, if it differs from the run's; else "".
        agent, train: Its agent and training settings.
        threshold: Mean return at which the environment counts as solved.
        evaluations, episodes: Its evaluations and complete episodes.
        returns: Mean return of each evaluation, in order.
        noise: Standard error of an evaluation's mean return, averaged over the evaluations.
        env_steps, last_episode: Environment steps so far, and the number of the last episode.
    """

    run: Run
    best: Evaluation | None = None
    seeds: int = 1
    made: bool = True
    env: str = ""

    def __post_init__(self) -> None:
        run = self.run
        self.agent = build(DQNConfig, run.config.get("agent", {}))
        self.train = build(TrainConfig, run.config.get("train") or {"steps": 1})
        self.threshold: float | None = run.config["reward_threshold"]
        self.evaluations = [one for one in run.evaluations if finite(one.mean_return) and finite(one.std_return)]
        complete = [one for one in run.episodes if one.ended != "budget"]
        self.episodes = [one for one in complete if finite(one.reward) and finite(one.epsilon)]
        self.returns = np.array([evaluation.mean_return for evaluation in self.evaluations], np.float64)
        spread = [evaluation.std_return for evaluation in self.evaluations]
        self.noise = float(np.mean(spread)) / math.sqrt(self.train.eval_episodes) if spread else 0.0
        records: list[Any] = [*run.episodes, *run.metrics, *run.evaluations]
        self.env_steps: int = max((record.env_steps for record in records), default=0)
        self.last_episode = max((one.episode for one in run.episodes), default=0)

    @property
    def is_finished(self) -> bool:
        """Whether the budget is used up, or an evaluation reached ``stop_at_return``."""
        train, returns = self.train, self.returns
        if train.stop_at_return is not None and returns.size and returns[-1] >= train.stop_at_return:
            return True
        budgets = ((train.steps, self.env_steps), (train.episodes, self.last_episode))
        return any(budget is not None and used >= budget for budget, used in budgets)

    @property
    def is_solved(self) -> bool:
        """Whether the best weights reach the reward threshold: in ``best``, else in an evaluation during training."""
        reached = self.best.mean_return if self.best else self.returns.max(initial=-np.inf)
        return self.threshold is not None and reached >= self.threshold

    @property
    def has_dropped(self) -> bool:
        """Whether the last evaluations are far below the best evaluation, which came earlier."""
        returns = self.returns
        last = max(2, len(returns) // 5)
        if len(returns) < 4 or returns.argmax() >= len(returns) - last:
            return False
        return bool(returns.max() - returns[-last:].mean() > max(0.25 * np.ptp(returns), 3 * self.noise))

    @property
    def is_improving(self) -> bool:
        """Whether evaluations are still improving at the end."""
        returns = self.returns
        if len(returns) < 5 or returns.argmax() < len(returns) * 2 // 3:
            return False
        _, middle, last = thirds(returns)
        return bool(last - middle > max(0.1 * np.ptp(returns), 2 * self.noise))

    @property
    def failed(self) -> list[int]:
        """Indices of the greedy episodes below the reward threshold.

        Empty unless the mean return reaches the threshold and more than 10 % of the episodes do not.
        """
        best = self.best
        if best is None or not self.is_solved or best.solved_share is None or best.solved_share >= 0.9:
            return []
        return [place for place, value in enumerate(best.returns) if value < (best.reward_threshold or 0)]

    def metrics(self, name: str) -> Array:
        """Return the finite values of one field of the metrics."""
        values = np.array([getattr(line, name) for line in self.run.metrics], np.float64)
        return values[np.isfinite(values)]

    @property
    def half(self) -> int:
        """Half of the environment steps."""
        return max(1, self.env_steps // 2)

    def slower(self, factor: float, digits: str = "") -> dict[str, float]:
        """Return settings that divide the learning rate by ``factor``. The format ``digits`` rounds it."""
        rate = float(f"{self.agent.learning_rate / factor:{digits}}")
        return {"learning_rate": rate, "learning_rate_end": min(self.agent.learning_rate_end, rate)}

    def command(self, words: str) -> str:
        """Return a command about the run itself, for example "video --episodes 5"."""
        name, *options = words.split()
        env = ["--env", self.env] if self.env else []
        return quoted(["perilune", name, str(self.run.directory), *options, *env])

    def training(self, command: str = "train", *options: str, **changes: Any) -> str:
        """Return a command that trains with the run's settings and ``changes``; "" if a command cannot use the id."""
        environment, seed = self.env or self.run.config["environment"], self.run.config["seed"]
        if not re.fullmatch(ENVIRONMENT_ID, environment):
            return ""
        words = ["perilune", *command.split(), environment, *options]
        if seed:
            words += ["--seed" if command == "train" else "--first-seed", str(seed)]
        agent = replace(self.agent, **{name: value for name, value in changes.items() if hasattr(self.agent, name)})
        train = replace(self.train, **{name: value for name, value in changes.items() if hasattr(self.train, name)})
        name = nearest(environment, vars(agent), train.steps)
        words += [] if name == RECOMMENDED else ["--preset", name]
        base = preset(environment, name)
        # Only other values than the defaults can be measured numbers, which the command measures again.
        other = {name: value for name, value in vars(agent).items() if value != getattr(DQNConfig(), name)}
        base_agent = as_measured(for_budget(base.agent, base, train.steps), other)
        # A budget in episodes replaces the preset's budget of steps.
        base_train = base.train if train.episodes is None else replace(base.train, steps=None, episodes=1)
        for config, default in ((train, vars(base_train)), (agent, base_agent)):
            for field in fields(config):
                if (value := getattr(config, field.name)) != default[field.name]:
                    words += option(field.name, value)
        return quoted(words)


def thirds(values: Array) -> list[float]:
    """Return the means of the first, the middle and the last third."""
    return [float(part.mean()) for part in np.array_split(values, 3)]


def option(name: str, value: Any) -> list[str]:
    """Return a setting as command-line arguments."""
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    if isinstance(value, list | tuple):
        flat = [part for item in value for part in (item if isinstance(item, list | tuple) else (item,))]
        return [f"--{dashed}", *map(str, flat)]
    return [f"--{dashed}", str(value)]
