"""What a study searches for, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perilune._utils import toml
from perilune.agent.config import DQNConfig, TrainConfig
from perilune.bench import results
from perilune.errors import ConfigError
from perilune.tuning import samplers
from perilune.tuning.samplers import PrunerName, SamplerName
from perilune.tuning.space import Base, Space
from perilune.tuning.work import Objective

FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """What a study searches for, and how. A study keeps its plan when it is resumed.

    Attributes:
        environment: Gymnasium ID, with the module that registers it, if any.
        name: ID of the environment without that module.
        base: the starting point.
        space: the settings to vary.
        objective: what to optimize.
        seeds: training seeds of each trial.
        sampler: name of the sampler.
        pruner: name of the pruner.
        seed: seed of the sampler.
    """

    environment: str
    name: str
    base: Base
    space: Space
    objective: Objective
    seeds: tuple[int, ...]
    sampler: SamplerName
    pruner: PrunerName
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        content = {name: getattr(self, name) for name in ("objective", "seeds", "sampler", "pruner", "seed")}
        content |= {"format": FORMAT, "environment": self.name, "search_space": self.space.to_dict()}
        found: dict[str, Any] = results.plain(content | vars(self.base))
        return found

    @property
    def rungs(self) -> list[int]:
        """Environment steps at which the pruner compares trials."""
        return samplers.rungs(self.base.train.steps) if self.pruner == "asha" else []


def settings_toml(plan: Plan, settings: Base) -> str:
    """Return settings as the content of a file for ``perilune train --config``."""
    lines = [f"# To train with these settings: perilune train {plan.environment} --config FILE"]
    lines.append(toml.entry("env", plan.name))
    tables: dict[str, DQNConfig | TrainConfig] = {"train": settings.train, "agent": settings.agent}
    for table, config in tables.items():
        lines += ["", f"[{table}]", *(toml.entry(name, value) for name, value in vars(config).items())]
    return "\n".join(lines) + "\n"


def check_plan(plan: Plan, threshold: float | None) -> None:
    """Check a plan before anything is trained.

    Raises:
        ConfigError: an option is invalid, or the options contradict each other.
    """
    if plan.objective == "cpu-seconds-to-solved" and threshold is None:
        raise ConfigError("objective", plan.objective, f"final-iqm or auc, because {plan.name} has no reward threshold")
    steps, every = plan.base.train.steps, plan.base.train.eval_every
    if plan.pruner == "asha":
        if steps is None or steps < 2**samplers.RUNGS:
            raise ConfigError(
                "pruner",
                plan.pruner,
                f"wilcoxon or none, because asha needs a budget of at least {2**samplers.RUNGS} steps (--steps)",
            )
        if every is None or every > plan.rungs[0]:
            raise ConfigError(
                "eval_every", every, f"at most {plan.rungs[0]}, because the pruner asha compares trials at that step"
            )
        if len(plan.seeds) < 2:
            expected = "at least 2 with the pruner asha. With one seed, use --pruner none"
            raise ConfigError("seeds_per_trial", len(plan.seeds), expected)
    if plan.pruner == "wilcoxon" and len(plan.seeds) < 5:
        raise ConfigError(
            "seeds_per_trial", len(plan.seeds), "at least 5 with the pruner wilcoxon, which needs 4 seeds to decide"
        )
    plan.space.check(plan.base, plan.name)
