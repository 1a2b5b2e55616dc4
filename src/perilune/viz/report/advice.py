"""What to try next: rules that read a run's numbers. Their texts stand in advice.toml."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.envs.known.presets import preset
from perilune.viz.report.facts import Facts, of_run, seeds_command, train_command

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
        said = [(facts, advice) for facts in runs if (advice := check(name, facts)) is not None]
        if not said:
            continue
        facts, advice = said[0]
        words = shlex.split(advice.command) or [advice.observation]
        # To resume a run is one thing, however many steps it is given.
        action = tuple(words[:3] if words[1:2] == ["resume"] else words)
        if not facts.made:
            advice = advice._replace(command="")
        if len(runs) > 1:
            others = {1: "", 2: " This applies to another run too."}.get(
                len(said), f" This applies to {len(said)} runs."
            )
            advice = advice._replace(observation=f"{facts.run.directory.name}: {advice.observation}{others}")
        found.setdefault(action, advice)
    return list(found.values())[:most]


def check(name: str, facts: Facts) -> Advice | None:
    """Return the advice of the rule ``name``; None if it does not apply.

    A run that is not finished says nothing against its preset's values, which were measured over whole runs.
    """
    match = RULES[name](facts)
    if match is None:
        return None
    numbers, changes, variant = match
    if changes is not None and not facts.finished and name != "early":
        default = preset(facts.run.config["environment"])
        own, presets = vars(facts.agent) | vars(facts.train), vars(default.agent) | vars(default.train)
        if any(own[setting] == presets[setting] != value for setting, value in changes.items()):
            return None
    texts = TEXTS[name]
    if name == "one_seed":
        command = seeds_command(facts, 5)
    elif changes is not None:
        command = train_command(facts, **changes)
    else:
        command = of_run(facts, *texts["command"].format(**numbers).split())
    return Advice(texts["observation"].format(**numbers), texts[variant].format(**numbers), command)


# Measures


def _thirds(values: Array) -> tuple[float, float, float]:
    first, middle, last = (part.mean() for part in np.array_split(values, 3))
    return float(first), float(middle), float(last)


def _span(values: Array) -> float:
    return float(np.ptp(values)) if values.size else 0.0


def _fell(facts: Facts) -> bool:
    """Return whether the last evaluations are far below the best one, which came before them."""
    returns = facts.returns
    last = max(2, len(returns) // 5)
    if len(returns) < 4 or returns.argmax() >= len(returns) - last:
        return False
    return bool(returns.max() - returns[-last:].mean() > max(0.25 * _span(returns), 3 * facts.noise))


def _rises(facts: Facts) -> bool:
    """Return whether evaluations are still improving at the end."""
    returns = facts.returns
    if len(returns) < 5 or returns.argmax() < len(returns) * 2 // 3:
        return False
    _, middle, last = _thirds(returns)
    return last - middle > max(0.1 * _span(returns), 2 * facts.noise)


def _below(facts: Facts) -> list[int]:
    """Return the greedy episodes below the reward threshold, if their mean is not and they are more than a few."""
    best = facts.best
    if best is None or not facts.solved or best.solved_share is None or best.solved_share >= 0.9:
        return []
    return [place for place, value in enumerate(best.returns) if value < (best.reward_threshold or 0)]


def _slower(facts: Facts, factor: float, digits: str = "") -> dict[str, float]:
    rate = float(f"{facts.agent.learning_rate / factor:{digits}}")
    return {"learning_rate": rate, "learning_rate_end": min(facts.agent.learning_rate_end, rate)}


def _half(facts: Facts) -> int:
    return max(1, facts.env_steps // 2)


# Rules


def _unfinished(facts: Facts) -> Match | None:
    if facts.finished:
        return None
    train = facts.train
    if train.steps is not None:
        return Match({"done": f"{facts.env_steps:,} of {train.steps:,} steps"})
    return Match({"done": f"{facts.last_episode:,} of {train.episodes:,} episodes"})


def _fell_after_best(facts: Facts) -> Match | None:
    if not _fell(facts):
        return None
    returns, agent = facts.returns, facts.agent
    numbers = {
        "best": returns.max(),
        "last": returns[-max(2, len(returns) // 5) :].mean(),
        "step": facts.evaluations[int(returns.argmax())].env_steps,
        "rate": agent.learning_rate / 2,
    }
    if agent.learning_rate_schedule == "constant":
        decay = {"learning_rate_decay_steps": facts.env_steps, "learning_rate_end": agent.learning_rate / 20}
        return Match(numbers, {"learning_rate_schedule": "linear", **decay}, "decay")
    if agent.ema_decay is None:
        return Match(numbers, {"ema_decay": 0.9995}, "average")
    return Match(numbers, _slower(facts, 2), "halve")


def _flat(facts: Facts) -> Match | None:
    returns = facts.returns
    threshold = facts.run.config["reward_threshold"]
    if len(returns) < 4 or facts.solved or threshold is None or _rises(facts) or _fell(facts):
        return None
    first, _, last = _thirds(returns)
    if returns.max() - returns[0] > max(3 * facts.noise, 0.02 * abs(returns[0])) or last - first > 2 * facts.noise:
        return None
    default, agent = preset(facts.run.config["environment"]).agent, facts.agent
    if agent != default:
        names = [field.name for field in fields(default)]
        changes = {name: getattr(default, name) for name in names if getattr(default, name) != getattr(agent, name)}
        differ = ", ".join([*changes][:4]) + (" and more" if len(changes) > 4 else "")
        return Match({"first": first, "last": last, "differ": differ}, changes, "preset")
    if _random(facts):  # nearly all actions were random: exploring longer does not help
        return None
    longer = {
        "epsilon_decay_steps": 2 * agent.epsilon_decay_steps,
        "max_action_repeat": max(20, agent.max_action_repeat),
    }
    return Match({"first": first, "last": last}, longer, "explore")


def _still_rises(facts: Facts) -> Match | None:
    if facts.solved or not _rises(facts) or not facts.finished:
        return None
    _, middle, last = _thirds(facts.returns)
    train = facts.train
    budget = f"--steps {facts.env_steps}" if train.steps is not None else f"--episodes {train.episodes or 1}"
    return Match({"middle": middle, "last": last, "budget": budget})


def _random(facts: Facts) -> Match | None:
    agent, last = facts.agent, facts.episodes[-10:]
    epsilon = float(np.mean([episode.epsilon for episode in last])) if last else 0.0
    if epsilon <= 0.2 or facts.solved or facts.env_steps <= agent.learning_starts:
        return None
    steps = max(1, (facts.train.steps or facts.env_steps) // 4)
    changes = {"epsilon_decay": None, "epsilon_decay_steps": steps, "epsilon_end": min(agent.epsilon_end, 0.05)}
    return Match({"episodes": len(last), "epsilon": epsilon, "steps": steps}, changes)


def _overestimates(facts: Facts) -> Match | None:
    q = facts.metrics("mean_q")
    most = max([*(episode.reward for episode in facts.episodes), *facts.returns], default=0.0)
    late = float(q[-max(1, len(q) // 4) :].mean()) if q.size else 0.0
    if len(q) < 8 or not 0 < 1.5 * most < late:
        return None
    agent = facts.agent
    numbers = {"q": late, "most": most, "rate": agent.learning_rate / 2}
    if not agent.double:
        return Match(numbers, {"double": True}, "double")
    slower = {"tau": min(agent.tau, 0.0025), "target_update_interval": 1}
    return Match(numbers, _slower(facts, 2) | slower, "slower")


def _loss_grows(facts: Facts) -> Match | None:
    loss, returns = facts.metrics("loss"), facts.returns
    if len(loss) < 8 or len(returns) < 3 or (facts.solved and not _fell(facts)):
        return None
    _, early, _, late = (float(np.median(part)) for part in np.array_split(loss, 4))
    _, middle, last = _thirds(returns)
    if not 0 < 5 * early < late or last > middle + 2 * facts.noise:
        return None
    return Match({"early": early, "late": late, "rate": facts.agent.learning_rate / 3}, _slower(facts, 3, ".2g"))


def _hovers(facts: Facts) -> Match | None:
    shares = facts.best.outcome_shares if facts.best else None
    if not shares or shares.get("hovered", 0.0) < 0.2:
        return None
    numbers = {"hovered": shares["hovered"], "landed": shares["landed"], "gamma": facts.agent.gamma}
    if facts.agent.gamma < 0.995:
        return Match(numbers, {"gamma": 0.995}, "gamma")
    return Match(numbers | {"steps": _half(facts)})


def _small_buffer(facts: Facts) -> Match | None:
    size, steps = facts.agent.buffer_size, facts.env_steps
    if 2 * size >= steps or (facts.solved and not _fell(facts)):
        return None
    return Match({"size": size, "steps": steps}, {"buffer_size": steps})


def _clipped(facts: Facts) -> Match | None:
    norms, limit = facts.metrics("gradient_norm"), facts.agent.max_grad_norm
    if limit is None or len(norms) < 10 or facts.solved or (share := float((norms > limit).mean())) < 0.9:
        return None
    usual = float(f"{np.median(norms):.2g}")
    return Match({"share": share, "limit": limit, "usual": usual}, {"max_grad_norm": usual})


def _hidden_by_exploration(facts: Facts) -> Match | None:
    returns = facts.returns
    late = [episode for episode in facts.episodes if episode.env_steps > 0.8 * facts.env_steps]
    if not returns.size or len(late) < 5:
        return None
    greedy = float(returns[-max(1, len(returns) // 5) :].mean())
    training = float(np.mean([episode.reward for episode in late]))
    lowest = min([*returns, *(episode.reward for episode in facts.episodes)])
    final, epsilon = facts.agent.epsilon_end, float(np.mean([episode.epsilon for episode in late]))
    # A lower final value does not help an epsilon that has not reached it.
    if greedy - training < 0.4 * (returns.max() - lowest) or not final or epsilon > 2 * final:
        return None
    numbers = {"greedy": greedy, "training": training, "epsilon": epsilon}
    return Match(numbers, {"epsilon_end": float(f"{final / 3:.2g}")})


def _some_fail(facts: Facts) -> Match | None:
    best, below = facts.best, _below(facts)
    if best is None or not below:
        return None
    episodes = {"below": len(below), "episodes": len(best.returns)}
    return Match({"mean": best.mean_return, "worst": best.min_return, "steps": _half(facts), **episodes})


def _look(facts: Facts) -> Match | None:
    best, below = facts.best, _below(facts)
    if best is None or not below:
        return None
    first, limit = below[0], facts.train.max_episode_steps
    outcome = f" and {best.outcomes[first]}" if best.outcomes else ""
    # If no episode was longer than the training's limit, that limit may have ended it.
    cut = f"--max-episode-steps {limit}" if limit is not None and max(best.lengths) <= limit else ""
    return Match({"episode": first + 1, "reward": best.returns[first], "outcome": outcome, "limit": cut})


def _one_seed(facts: Facts) -> Match | None:
    return None if facts.seeds > 1 or not facts.evaluations else Match({})


def _early(facts: Facts) -> Match | None:
    threshold, budget = facts.run.config["reward_threshold"], facts.train.steps
    if threshold is None or budget is None or not facts.solved or _fell(facts) or _below(facts):
        return None
    first = next((one.env_steps for one in facts.evaluations if one.mean_return >= threshold), budget)
    if 2 * first > budget:
        return None
    steps = min(budget - 1, int(1.5 * first))
    changes = {"steps": steps, "learning_rate_decay_steps": min(steps, facts.agent.learning_rate_decay_steps)}
    return Match({"first": first, "steps": budget}, changes)


def _solved(facts: Facts) -> Match | None:
    if not facts.solved:
        return None
    reached = facts.best.mean_return if facts.best else float(facts.returns.max())
    return Match({"reached": reached, "threshold": facts.run.config["reward_threshold"]})


RULES: dict[str, Callable[[Facts], Match | None]] = {
    "unfinished": _unfinished,
    "fell": _fell_after_best,
    "flat": _flat,
    "rises": _still_rises,
    "random": _random,
    "overestimates": _overestimates,
    "loss_grows": _loss_grows,
    "hovers": _hovers,
    "small_buffer": _small_buffer,
    "clipped": _clipped,
    "hidden_by_exploration": _hidden_by_exploration,
    "some_fail": _some_fail,
    "look": _look,
    "one_seed": _one_seed,
    "early": _early,
    "solved": _solved,
}
