"""Suggest what to try next, with rules that check the results of a run. advice.toml contains their texts."""

from __future__ import annotations

import math
import shlex
import tomllib
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from perilune.envs.known import Preset, lookup
from perilune.envs.known.presets import as_measured, available, for_budget, nearest, preset
from perilune.viz.report.facts import Facts, thirds

MAX_ADVICE = 4  # pieces of advice in a report
TEXTS: dict[str, dict[str, str]] = tomllib.loads((files(__package__) / "advice.toml").read_text(encoding="utf-8"))


class Advice(NamedTuple):
    """An observation, a suggestion, and the command that carries it out ("" if there is none)."""

    observation: str
    suggestion: str
    command: str


class Match(NamedTuple):
    """Result of a rule that applies: numbers for its texts, settings to change, and its suggestion in advice.toml."""

    numbers: dict[str, Any]
    changes: dict[str, Any] | None = None
    variant: str = "suggestion"


def advise(facts: Facts, most: int = MAX_ADVICE) -> list[Advice]:
    """Return advice on a run from the most important rules that apply.

    If two rules suggest the same command, the less important rule is ignored.
    """
    found: dict[tuple[str, ...], Advice] = {}
    for name in TEXTS:
        if (advice := check(name, facts)) is None:
            continue
        words = shlex.split(advice.command) or [advice.observation]
        # Suggest at most one way to resume a run.
        action = tuple(words[:3] if words[1:2] == ["resume"] else words)
        found.setdefault(action, advice if facts.made else advice._replace(command=""))
    return list(found.values())[:most]


def check(name: str, facts: Facts) -> Advice | None:
    """Return the advice of the rule ``name``; None if it does not apply or contradicts the preset."""
    match = RULES[name](facts)
    if match is None:
        return None
    numbers, changes, variant = match
    if changes is not None and _contradicts_preset(name, facts, changes):
        if "tuned" not in TEXTS[name]:
            return None
        changes, variant = None, "tuned"
    texts = TEXTS[name]
    if name == "one_seed":
        command = facts.training("bench learning", "--seeds", "5", video_every=None)
    elif changes is not None:
        command = facts.training(**changes)
    else:
        command = facts.command(texts["command"].format(**numbers))
    return Advice(texts["observation"].format(**numbers), texts[variant].format(**numbers), command)


def _contradicts_preset(name: str, facts: Facts, changes: dict[str, Any]) -> bool:
    """Return whether ``changes`` replace a value of the preset that was measured on complete runs.

    A tuned preset was measured in its environment up to its budget. The default preset was measured in others, so it
    only protects runs that are not finished.
    """
    environment = facts.run.config["environment"]
    default, is_tuned = _preset(facts), lookup(environment.rpartition(":")[2]).preset is not None
    if name == "early":  # the schedules follow the budget, as in the preset
        return is_tuned and facts.train.steps == default.train.steps
    if facts.is_finished and not (is_tuned and facts.env_steps <= (default.train.steps or math.inf)):
        return False
    agent = for_budget(default.agent, default, facts.train.steps)
    own, presets = vars(facts.agent) | vars(facts.train), vars(agent) | vars(default.train)
    return any(own[setting] == presets[setting] != value for setting, value in changes.items())


def _preset(facts: Facts) -> Preset:
    """Return the preset of the environment that the run used, or that is most similar."""
    environment = facts.run.config["environment"]
    return preset(environment, nearest(environment, vars(facts.agent), facts.train.steps))


# The rules, in the order of advice.toml. A rule returns None if it does not apply.


def _unfinished(facts: Facts) -> Match | None:
    if facts.is_finished:
        return None
    steps, episodes = facts.train.steps, facts.train.episodes
    if steps is not None:
        return Match({"done": f"{facts.env_steps:,} of {steps:,} steps"})
    return Match({"done": f"{facts.last_episode:,} of {episodes:,} episodes"})


def _short(facts: Facts) -> Match | None:
    environment = facts.run.config["environment"]
    if environment not in available() or facts.threshold is None:
        return None
    if not facts.is_finished or facts.is_solved or facts.has_dropped:
        return None
    steps, budget = facts.env_steps, _preset(facts).train.steps
    if budget is None or steps >= 0.9 * budget:
        return None
    return Match({"share": steps / budget, "steps": steps, "budget": budget, "rest": budget - steps})


def _fell(facts: Facts) -> Match | None:
    if not facts.has_dropped:
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
    return Match(numbers, facts.slower(2), "halve")


def _flat(facts: Facts) -> Match | None:
    returns = facts.returns
    if len(returns) < 4 or facts.is_solved or facts.threshold is None or facts.is_improving or facts.has_dropped:
        return None
    first, _, last = thirds(returns)
    gain = returns.max() - returns[0]
    if gain > max(3 * facts.noise, 0.02 * abs(returns[0])) or last - first > 2 * facts.noise:
        return None
    own = vars(facts.agent)
    default = as_measured(preset(facts.run.config["environment"]).agent, own)
    if changes := {name: value for name, value in default.items() if value != own[name]}:
        differ = ", ".join([*changes][:4]) + (" and more" if len(changes) > 4 else "")
        return Match({"first": first, "last": last, "differ": differ}, changes, "preset")
    if _random(facts):  # many actions were random, so exploring longer does not help
        return None
    longer = {
        "epsilon_decay_steps": 2 * facts.agent.epsilon_decay_steps,
        "max_action_repeat": max(20, facts.agent.max_action_repeat),
    }
    return Match({"first": first, "last": last}, longer, "explore")


def _rises(facts: Facts) -> Match | None:
    if facts.is_solved or not facts.is_improving or not facts.is_finished:
        return None
    _, middle, last = thirds(facts.returns)
    by_steps = facts.train.steps is not None
    budget = f"--steps {facts.env_steps}" if by_steps else f"--episodes {facts.train.episodes}"
    return Match({"middle": middle, "last": last, "budget": budget})


def _random(facts: Facts) -> Match | None:
    agent, last = facts.agent, facts.episodes[-10:]
    epsilon = float(np.mean([episode.epsilon for episode in last])) if last else 0.0
    if epsilon <= 0.2 or facts.is_solved or facts.env_steps <= agent.warm_up_steps:
        return None
    steps = max(1, (facts.train.steps or facts.env_steps) // 4)
    changes = {"epsilon_decay": None, "epsilon_decay_steps": steps, "epsilon_end": min(agent.epsilon_end, 0.05)}
    return Match({"episodes": len(last), "epsilon": epsilon, "steps": steps}, changes)


def _overestimates(facts: Facts) -> Match | None:
    q, agent = facts.metrics("mean_q"), facts.agent
    most = max([*(episode.reward for episode in facts.episodes), *facts.returns], default=0.0)
    if len(q) < 8 or not 0 < 1.5 * most < (late := float(q[-(len(q) // 4) :].mean())):
        return None
    numbers = {"q": late, "most": most, "rate": agent.learning_rate / 2}
    if not agent.double:
        return Match(numbers, {"double": True}, "double")
    slower = {"tau": min(agent.tau, 0.0025), "target_update_interval": 1}
    return Match(numbers, facts.slower(2) | slower, "slower")


def _loss_grows(facts: Facts) -> Match | None:
    loss, returns = facts.metrics("loss"), facts.returns
    if len(loss) < 8 or len(returns) < 3 or (facts.is_solved and not facts.has_dropped):
        return None
    _, early, _, late = (float(np.median(part)) for part in np.array_split(loss, 4))
    _, middle, last = thirds(returns)
    if not 0 < 5 * early < late or last > middle + 2 * facts.noise:
        return None
    return Match({"early": early, "late": late, "rate": facts.agent.learning_rate / 3}, facts.slower(3, ".2g"))


def _time_limit(facts: Facts) -> Match | None:
    known = lookup(facts.run.config["environment"].rpartition(":")[2]).outcomes
    shares = facts.best.outcome_shares if facts.best else None
    if known is None or shares is None or (share := shares.get(known.unfinished, 0.0)) < 0.2:
        return None
    goal = known.labels[0]
    numbers = {"share": share, "outcome": known.unfinished, "reached": shares.get(goal, 0.0), "goal": goal}
    if facts.agent.gamma < 0.995:
        return Match(numbers | {"gamma": facts.agent.gamma}, {"gamma": 0.995}, "gamma")
    return Match(numbers | {"steps": facts.half})


def _small_buffer(facts: Facts) -> Match | None:
    size, steps = facts.agent.buffer_size, facts.env_steps
    if 2 * size >= steps or (facts.is_solved and not facts.has_dropped):
        return None
    return Match({"size": size, "steps": steps}, {"buffer_size": steps})


def _clipped(facts: Facts) -> Match | None:
    norms, limit = facts.metrics("gradient_norm"), facts.agent.max_grad_norm
    if limit is None or len(norms) < 10 or facts.is_solved or (share := float((norms > limit).mean())) < 0.9:
        return None
    usual = float(f"{np.median(norms):.2g}")
    return Match({"share": share, "limit": limit, "usual": usual}, {"max_grad_norm": usual})


def _hidden_by_exploration(facts: Facts) -> Match | None:
    returns, final = facts.returns, facts.agent.epsilon_end
    late = [episode for episode in facts.episodes if episode.env_steps > 0.8 * facts.env_steps]
    if not returns.size or len(late) < 5:
        return None
    greedy = float(returns[-max(1, len(returns) // 5) :].mean())
    training = float(np.mean([episode.reward for episode in late]))
    epsilon = float(np.mean([episode.epsilon for episode in late]))
    lowest = min([*returns, *(episode.reward for episode in facts.episodes)])
    # A lower epsilon_end has no effect on a run whose epsilon did not reach it.
    if greedy - training < 0.4 * (returns.max() - lowest) or not final or epsilon > 2 * final:
        return None
    numbers = {"greedy": greedy, "training": training, "epsilon": epsilon}
    return Match(numbers, {"epsilon_end": float(f"{final / 3:.2g}")})


def _some_fail(facts: Facts) -> Match | None:
    best, failed = facts.best, facts.failed
    if best is None or not failed:
        return None
    episodes = {"below": len(failed), "episodes": len(best.returns)}
    return Match({"mean": best.mean_return, "worst": best.min_return, "steps": facts.half, **episodes})


def _look(facts: Facts) -> Match | None:
    best, failed, limit = facts.best, facts.failed, facts.train.max_episode_steps
    if best is None or not failed:
        return None
    first = failed[0]
    outcome = f" and {best.outcomes[first]}" if best.outcomes else ""
    # If no episode was longer than the step limit of training, the failed episode may have ended at this limit.
    cut = f"--max-episode-steps {limit}" if limit is not None and max(best.lengths) <= limit else ""
    return Match({"episode": first + 1, "reward": best.returns[first], "outcome": outcome, "limit": cut})


def _one_seed(facts: Facts) -> Match | None:
    if facts.seeds > 1 or not facts.evaluations or _short(facts):  # more seeds would repeat a budget that is too small
        return None
    return Match({})


def _early(facts: Facts) -> Match | None:
    threshold, budget = facts.threshold, facts.train.steps
    if threshold is None or budget is None or not facts.is_solved or facts.has_dropped or facts.failed:
        return None
    first = next((one.env_steps for one in facts.evaluations if one.mean_return >= threshold), budget)
    if 2 * first > budget:
        return None
    steps = min(budget - 1, int(1.5 * first))
    changes = {"steps": steps, "learning_rate_decay_steps": min(steps, facts.agent.learning_rate_decay_steps)}
    return Match({"first": first, "steps": budget}, changes)


def _solved(facts: Facts) -> Match | None:
    if not facts.is_solved:
        return None
    reached = facts.best.mean_return if facts.best else float(facts.returns.max())
    return Match({"reached": reached, "threshold": facts.threshold})


RULES = {
    rule.__name__[1:]: rule
    for rule in (
        _unfinished, _short, _fell, _flat, _rises, _random, _overestimates, _loss_grows, _time_limit, _small_buffer,
        _clipped, _hidden_by_exploration, _some_fail, _look, _one_seed, _early, _solved,
    )
}  # fmt: skip
