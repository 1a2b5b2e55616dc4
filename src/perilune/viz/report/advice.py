"""What to try next: rules that read a run's numbers. Their texts stand in advice.toml."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from perilune.envs.known import lookup
from perilune.envs.known.presets import preset
from perilune.viz.report.facts import Facts, thirds

MAX_ADVICE = 4  # more would not be followed
TEXTS: dict[str, dict[str, str]] = tomllib.loads((files(__package__) / "advice.toml").read_text(encoding="utf-8"))


class Advice(NamedTuple):
    """What the run shows, with its numbers; what to try; and the command that does it ("" if there is none)."""

    observation: str
    suggestion: str
    command: str


class Match(NamedTuple):
    """A rule that applies: the numbers of its texts, the settings it changes, and which suggestion it makes."""

    numbers: dict[str, Any]
    changes: dict[str, Any] | None = None
    variant: str = "suggestion"


def advise(runs: Sequence[Facts], most: int = MAX_ADVICE) -> list[Advice]:
    """Return the advice of the most important rules that apply, each for the first run that it applies to.

    No two pieces of advice suggest the same command: the more important rule wins.

    Raises:
        ConfigError: A run has settings that do not exist.
    """
    found: dict[tuple[str, ...], Advice] = {}
    for name in TEXTS:
        matches = [(facts, advice) for facts in runs if (advice := check(name, facts)) is not None]
        if not matches:
            continue
        facts, advice = matches[0]
        words = shlex.split(advice.command) or [advice.observation]
        # To resume a run is one thing, however many steps it is given.
        action = tuple(words[:3] if words[1:2] == ["resume"] else words)
        if not facts.made:
            advice = advice._replace(command="")
        if len(runs) > 1:
            others = ("", " This applies to another run too.", f" This applies to {len(matches)} runs.")
            observation = f"{facts.run.directory.name}: {advice.observation}{others[min(len(matches), 3) - 1]}"
            advice = advice._replace(observation=observation)
        found.setdefault(action, advice)
    return list(found.values())[:most]


def check(name: str, facts: Facts) -> Advice | None:
    """Return the advice of the rule ``name``; None if it does not apply.

    An unfinished run is no evidence against its preset's values, which were measured over whole runs.
    """
    match: Match | None = getattr(Rules(**vars(facts)), name)()
    if match is None:
        return None
    numbers, changes, variant = match
    if changes is not None and not facts.is_finished and name != "early":
        default = preset(facts.run.config["environment"])
        own, presets = vars(facts.agent) | vars(facts.train), vars(default.agent) | vars(default.train)
        if any(own[setting] == presets[setting] != value for setting, value in changes.items()):
            return None
    texts = TEXTS[name]
    if name == "one_seed":
        command = facts.training("bench learning", "--seeds", "5", video_every=None)
    elif changes is not None:
        command = facts.training(**changes)
    else:
        command = facts.command(texts["command"].format(**numbers))
    return Advice(texts["observation"].format(**numbers), texts[variant].format(**numbers), command)


class Rules(Facts):
    """The rules, one method each, by their names in advice.toml. A rule that does not apply to the run returns None."""

    def unfinished(self) -> Match | None:
        if self.is_finished:
            return None
        steps, episodes = self.train.steps, self.train.episodes
        if steps is not None:
            return Match({"done": f"{self.env_steps:,} of {steps:,} steps"})
        return Match({"done": f"{self.last_episode:,} of {episodes:,} episodes"})

    def fell(self) -> Match | None:
        if not self.has_dropped:
            return None
        returns, agent = self.returns, self.agent
        numbers = {
            "best": returns.max(),
            "last": returns[-max(2, len(returns) // 5) :].mean(),
            "step": self.evaluations[int(returns.argmax())].env_steps,
            "rate": agent.learning_rate / 2,
        }
        if agent.learning_rate_schedule == "constant":
            decay = {"learning_rate_decay_steps": self.env_steps, "learning_rate_end": agent.learning_rate / 20}
            return Match(numbers, {"learning_rate_schedule": "linear", **decay}, "decay")
        if agent.ema_decay is None:
            return Match(numbers, {"ema_decay": 0.9995}, "average")
        return Match(numbers, self._slower(2), "halve")

    def flat(self) -> Match | None:
        returns = self.returns
        if len(returns) < 4 or self.is_solved or self.threshold is None or self.is_improving or self.has_dropped:
            return None
        first, _, last = thirds(returns)
        gain = returns.max() - returns[0]
        if gain > max(3 * self.noise, 0.02 * abs(returns[0])) or last - first > 2 * self.noise:
            return None
        own, default = vars(self.agent), vars(preset(self.run.config["environment"]).agent)
        if changes := {name: value for name, value in default.items() if value != own[name]}:
            differ = ", ".join([*changes][:4]) + (" and more" if len(changes) > 4 else "")
            return Match({"first": first, "last": last, "differ": differ}, changes, "preset")
        if self.random():  # nearly all actions were random: exploring longer does not help
            return None
        longer = {
            "epsilon_decay_steps": 2 * self.agent.epsilon_decay_steps,
            "max_action_repeat": max(20, self.agent.max_action_repeat),
        }
        return Match({"first": first, "last": last}, longer, "explore")

    def rises(self) -> Match | None:
        if self.is_solved or not self.is_improving or not self.is_finished:
            return None
        _, middle, last = thirds(self.returns)
        by_steps = self.train.steps is not None
        budget = f"--steps {self.env_steps}" if by_steps else f"--episodes {self.train.episodes}"
        return Match({"middle": middle, "last": last, "budget": budget})

    def random(self) -> Match | None:
        agent, last = self.agent, self.episodes[-10:]
        epsilon = float(np.mean([episode.epsilon for episode in last])) if last else 0.0
        if epsilon <= 0.2 or self.is_solved or self.env_steps <= agent.learning_starts:
            return None
        steps = max(1, (self.train.steps or self.env_steps) // 4)
        changes = {"epsilon_decay": None, "epsilon_decay_steps": steps, "epsilon_end": min(agent.epsilon_end, 0.05)}
        return Match({"episodes": len(last), "epsilon": epsilon, "steps": steps}, changes)

    def overestimates(self) -> Match | None:
        q, agent = self.metrics("mean_q"), self.agent
        most = max([*(episode.reward for episode in self.episodes), *self.returns], default=0.0)
        if len(q) < 8 or not 0 < 1.5 * most < (late := float(q[-(len(q) // 4) :].mean())):
            return None
        numbers = {"q": late, "most": most, "rate": agent.learning_rate / 2}
        if not agent.double:
            return Match(numbers, {"double": True}, "double")
        slower = {"tau": min(agent.tau, 0.0025), "target_update_interval": 1}
        return Match(numbers, self._slower(2) | slower, "slower")

    def loss_grows(self) -> Match | None:
        loss, returns = self.metrics("loss"), self.returns
        if len(loss) < 8 or len(returns) < 3 or (self.is_solved and not self.has_dropped):
            return None
        _, early, _, late = (float(np.median(part)) for part in np.array_split(loss, 4))
        _, middle, last = thirds(returns)
        if not 0 < 5 * early < late or last > middle + 2 * self.noise:
            return None
        return Match({"early": early, "late": late, "rate": self.agent.learning_rate / 3}, self._slower(3, ".2g"))

    def time_limit(self) -> Match | None:
        known = lookup(self.run.config["environment"].rpartition(":")[2]).outcomes
        shares = self.best.outcome_shares if self.best else None
        if known is None or shares is None or (share := shares.get(known.unfinished, 0.0)) < 0.2:
            return None
        goal = known.labels[0]
        numbers = {"share": share, "outcome": known.unfinished, "reached": shares.get(goal, 0.0), "goal": goal}
        if self.agent.gamma < 0.995:
            return Match(numbers | {"gamma": self.agent.gamma}, {"gamma": 0.995}, "gamma")
        return Match(numbers | {"steps": self._half})

    def small_buffer(self) -> Match | None:
        size, steps = self.agent.buffer_size, self.env_steps
        if 2 * size >= steps or (self.is_solved and not self.has_dropped):
            return None
        return Match({"size": size, "steps": steps}, {"buffer_size": steps})

    def clipped(self) -> Match | None:
        norms, limit = self.metrics("gradient_norm"), self.agent.max_grad_norm
        if limit is None or len(norms) < 10 or self.is_solved or (share := float((norms > limit).mean())) < 0.9:
            return None
        usual = float(f"{np.median(norms):.2g}")
        return Match({"share": share, "limit": limit, "usual": usual}, {"max_grad_norm": usual})

    def hidden_by_exploration(self) -> Match | None:
        returns, final = self.returns, self.agent.epsilon_end
        late = [episode for episode in self.episodes if episode.env_steps > 0.8 * self.env_steps]
        if not returns.size or len(late) < 5:
            return None
        greedy = float(returns[-max(1, len(returns) // 5) :].mean())
        training = float(np.mean([episode.reward for episode in late]))
        epsilon = float(np.mean([episode.epsilon for episode in late]))
        lowest = min([*returns, *(episode.reward for episode in self.episodes)])
        # A lower final value does not help an epsilon that has not reached it.
        if greedy - training < 0.4 * (returns.max() - lowest) or not final or epsilon > 2 * final:
            return None
        numbers = {"greedy": greedy, "training": training, "epsilon": epsilon}
        return Match(numbers, {"epsilon_end": float(f"{final / 3:.2g}")})

    def some_fail(self) -> Match | None:
        best, failed = self.best, self.failed
        if best is None or not failed:
            return None
        episodes = {"below": len(failed), "episodes": len(best.returns)}
        return Match({"mean": best.mean_return, "worst": best.min_return, "steps": self._half, **episodes})

    def look(self) -> Match | None:
        best, failed, limit = self.best, self.failed, self.train.max_episode_steps
        if best is None or not failed:
            return None
        first = failed[0]
        outcome = f" and {best.outcomes[first]}" if best.outcomes else ""
        # If no episode was longer than the training's limit, that limit may have ended it.
        cut = f"--max-episode-steps {limit}" if limit is not None and max(best.lengths) <= limit else ""
        return Match({"episode": first + 1, "reward": best.returns[first], "outcome": outcome, "limit": cut})

    def one_seed(self) -> Match | None:
        return None if self.seeds > 1 or not self.evaluations else Match({})

    def early(self) -> Match | None:
        threshold, budget = self.threshold, self.train.steps
        if threshold is None or budget is None or not self.is_solved or self.has_dropped or self.failed:
            return None
        first = next((one.env_steps for one in self.evaluations if one.mean_return >= threshold), budget)
        if 2 * first > budget:
            return None
        steps = min(budget - 1, int(1.5 * first))
        changes = {"steps": steps, "learning_rate_decay_steps": min(steps, self.agent.learning_rate_decay_steps)}
        return Match({"first": first, "steps": budget}, changes)

    def solved(self) -> Match | None:
        if not self.is_solved:
            return None
        reached = self.best.mean_return if self.best else float(self.returns.max())
        return Match({"reached": reached, "threshold": self.threshold})

    @property
    def _half(self) -> int:
        return max(1, self.env_steps // 2)

    def _slower(self, factor: float, digits: str = "") -> dict[str, float]:
        rate = float(f"{self.agent.learning_rate / factor:{digits}}")
        return {"learning_rate": rate, "learning_rate_end": min(self.agent.learning_rate_end, rate)}
