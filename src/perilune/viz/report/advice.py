"""What to try next: read off a run's numbers, by rules that give the numbers they go by and a command that does it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.envs.known.presets import preset
from perilune.viz.report.facts import Facts, of_run, seeds_command, train_command

MOST = 4  # pieces of advice: whoever gets more follows none


@dataclass(frozen=True)
class Advice:
    """What was ``seen``, with its numbers; what to ``attempt``; and the ``command`` that does that, "" for none."""

    seen: str
    attempt: str
    command: str


def advice(runs: Sequence[Facts], most: int = MOST) -> list[Advice]:
    """The most telling rules that speak, each for the first run it speaks of; how many others it holds for is said.

    No two ask for the same: the more telling one stays.

    Raises:
        ConfigError: a run has settings that no version of Perilune knows.
    """
    found: dict[tuple[str, ...], Advice] = {}
    for rule in RULES:
        spoken = [(facts, said) for facts in runs if (said := rule(facts)) is not None]
        if spoken:
            facts, said = spoken[0]
            deed = _deed(said)
            if not facts.made:
                said = replace(said, command="")
            if len(runs) > 1:
                others = {1: "", 2: " So it is in another run."}.get(len(spoken), f" So it is in {len(spoken)} runs.")
                said = replace(said, seen=f"{facts.run.directory.name}: {said.seen}{others}")
            found.setdefault(deed, said)
    return list(found.values())[:most]


def _deed(said: Advice) -> tuple[str, ...]:
    """What a piece of advice comes to: to go on with a run is one thing, however many steps it is given."""
    words = shlex.split(said.command) or [said.seen]
    return tuple(words[:3] if words[1:2] == ["resume"] else words)


# What to see in numbers


def _thirds(values: Array) -> tuple[float, float, float]:
    first, middle, last = (part.mean() for part in np.array_split(values, 3))
    return float(first), float(middle), float(last)


def _span(values: Array) -> float:
    return float(np.ptp(values)) if values.size else 0.0


def _fell(facts: Facts) -> bool:
    """Whether the last evaluations are far below the best, which was before them."""
    returns = facts.returns
    last = max(2, len(returns) // 5)
    if len(returns) < 4 or returns.argmax() >= len(returns) - last:
        return False
    return bool(returns.max() - returns[-last:].mean() > max(0.25 * _span(returns), 3 * facts.noise))


def _rises(facts: Facts) -> bool:
    """Whether evaluations are still rising where they end."""
    returns = facts.returns
    if len(returns) < 5 or returns.argmax() < len(returns) * 2 // 3:
        return False
    _, middle, last = _thirds(returns)
    return last - middle > max(0.1 * _span(returns), 2 * facts.noise)


def _below(facts: Facts) -> list[int]:
    """Which greedy episodes are below the solved mark, where the mean is not, and they are more than a few."""
    best = facts.best
    if best is None or not facts.solved or best.solved_share is None or best.solved_share >= 0.9:
        return []
    return [place for place, value in enumerate(best.returns) if value < (best.reward_threshold or 0)]


def _anew(facts: Facts, seen: str, attempt: str, **changes: Any) -> Advice | None:
    """To train anew with ``changes``.

    None where one of them is of the preset's own value, which was measured over whole runs, and this one is not whole.
    """
    if not facts.finished:
        known = preset(facts.run.config["environment"])
        own, presets = vars(facts.agent) | vars(facts.train), vars(known.agent) | vars(known.train)
        if any(own[name] == presets[name] != value for name, value in changes.items()):
            return None
    return Advice(seen, attempt, train_command(facts, **changes))


# The rules, the most telling first


def unfinished(facts: Facts) -> Advice | None:
    if facts.finished:
        return None
    train, had = facts.train, facts.env_steps
    if train.steps is not None:
        came = f"{had:,} of {train.steps:,} steps"
    else:
        came = f"{max((one.episode for one in facts.run.episodes), default=0):,} of {train.episodes:,} episodes"
    return Advice(
        f"It stopped after {came}.",
        "Go on with it: it goes on exactly where it was.",
        of_run(facts, "resume"),
    )


def fell(facts: Facts) -> Advice | None:
    if not _fell(facts):
        return None
    returns, agent = facts.returns, facts.agent
    last, steps = float(returns[-max(2, len(returns) // 5) :].mean()), facts.env_steps
    at = facts.evaluations[int(returns.argmax())].env_steps
    if agent.learning_rate_schedule == "constant":
        how = "let the learning rate fall to the end of the run"
        changes: dict[str, Any] = {
            "learning_rate_schedule": "linear", "learning_rate_decay_steps": steps,
            "learning_rate_end": agent.learning_rate / 20,
        }  # fmt: skip
    elif agent.ema_decay is None:
        how, changes = "evaluate an average of the weights", {"ema_decay": 0.9995}
    else:
        rate = agent.learning_rate / 2
        how = f"halve the learning rate, to {rate:g}"
        changes = {"learning_rate": rate, "learning_rate_end": min(agent.learning_rate_end, rate)}
    return _anew(
        facts,
        f"Greedy evaluation was at {returns.max():.1f} after {at:,} steps, and at {last:.1f} in the end.",
        f"Use the best weights, which are kept, and not the final ones. In a new run, {how}.",
        **changes,
    )


def flat(facts: Facts) -> Advice | None:
    returns = facts.returns
    if (
        len(returns) < 4
        or facts.solved
        or facts.run.config["reward_threshold"] is None
        or _rises(facts)
        or _fell(facts)
    ):
        return None
    first, _, last = _thirds(returns)
    if returns.max() - returns[0] > max(3 * facts.noise, 0.02 * abs(returns[0])) or last - first > 2 * facts.noise:
        return None
    known = preset(facts.run.config["environment"]).agent
    seen = f"Evaluations have not moved: {first:.1f} in the first third of the run, {last:.1f} in the last."
    if facts.agent != known:
        differ = [
            field.name for field in fields(known) if getattr(known, field.name) != getattr(facts.agent, field.name)
        ]
        how = f"Try the preset; this run differs from it in {', '.join(differ[:4])}{' and more' if differ[4:] else ''}."
        changes = {name: getattr(known, name) for name in differ}
        return _anew(facts, seen, how, **changes)
    if random(facts):  # nearly all of it was exploration: more of that is no help
        return None
    how = "It may never have met a reward worth more: explore longer, with random actions that last."
    steps, repeat = 2 * facts.agent.epsilon_decay_steps, max(20, facts.agent.max_action_repeat)
    return _anew(facts, seen, how, epsilon_decay_steps=steps, max_action_repeat=repeat)


def rises(facts: Facts) -> Advice | None:
    if facts.solved or not _rises(facts) or not facts.finished:
        return None
    _, middle, last = _thirds(facts.returns)
    train = facts.train
    more = ("--steps", facts.env_steps) if train.steps is not None else ("--episodes", train.episodes or 1)
    return Advice(
        f"Evaluations were still rising: {middle:.1f} in the middle third of the run, {last:.1f} in the last.",
        "Give it as much again.",
        of_run(facts, "resume", *map(str, more)),
    )


def random(facts: Facts) -> Advice | None:
    agent, last = facts.agent, facts.episodes[-10:]
    epsilon = float(np.mean([episode.epsilon for episode in last])) if last else 0.0
    if epsilon <= 0.2 or facts.solved or facts.env_steps <= agent.learning_starts:
        return None
    steps = max(1, (facts.train.steps or facts.env_steps) // 4)
    return _anew(
        facts,
        f"Epsilon never came down: in the last {len(last)} episodes {epsilon:.0%} of the actions were random.",
        f"Let epsilon reach its floor after a quarter of the run, {steps:,} steps.",
        epsilon_decay=None,
        epsilon_decay_steps=steps,
        epsilon_end=min(agent.epsilon_end, 0.05),
    )


def promises(facts: Facts) -> Advice | None:
    q, rewards = facts.metrics("mean_q"), [episode.reward for episode in facts.episodes]
    most = max([*rewards, *facts.returns], default=0.0)
    late = float(q[-max(1, len(q) // 4) :].mean()) if q.size else 0.0
    if len(q) < 8 or not 0 < 1.5 * most < late:
        return None
    agent = facts.agent
    if not agent.double:
        how = "Let one network choose and the other judge (Double DQN)."
        changes: dict[str, Any] = {"double": True}
    else:
        how = f"Halve the learning rate, to {agent.learning_rate / 2:g}, and let the target network follow more slowly."
        changes = {
            "learning_rate": agent.learning_rate / 2, "tau": min(agent.tau, 0.0025), "target_update_interval": 1,
            "learning_rate_end": min(agent.learning_rate_end, agent.learning_rate / 2),
        }  # fmt: skip
    return _anew(
        facts,
        f"The mean of Q is {late:.1f} in the end, but no episode ever came to more than {most:.1f}: values feed on "
        "each other.",
        how,
        **changes,
    )


def loss_grows(facts: Facts) -> Advice | None:
    loss, returns = facts.metrics("loss"), facts.returns
    if len(loss) < 8 or len(returns) < 3 or (facts.solved and not _fell(facts)):
        return None
    _, early, _, late = (float(np.median(part)) for part in np.array_split(loss, 4))
    _, middle, last = _thirds(returns)
    if not 0 < 5 * early < late or last > middle + 2 * facts.noise:
        return None
    agent = facts.agent
    rate = agent.learning_rate / 3
    return _anew(
        facts,
        f"The loss grew from {early:.3g} in the second quarter of the run to {late:.3g} in the last, and evaluations "
        "did not.",
        f"Learn more slowly: a learning rate of {rate:.2g}.",
        learning_rate=float(f"{rate:.2g}"),
        learning_rate_end=min(agent.learning_rate_end, rate),
    )


def hovers(facts: Facts) -> Advice | None:
    shares = facts.best.outcome_shares if facts.best else None
    if not shares or shares.get("hovered", 0.0) < 0.2:
        return None
    agent, gamma = facts.agent, 0.995
    seen = (
        f"{shares['hovered']:.0%} of the greedy episodes hovered until the time was up, {shares['landed']:.0%} landed."
    )
    if agent.gamma < gamma:
        how = f"What landing is worth is too far off at gamma = {agent.gamma:g}: look further ahead, with {gamma:g}."
        return _anew(facts, seen, how, gamma=gamma)
    how = "To hover is what comes before landing: give it half as much again."
    return Advice(seen, how, of_run(facts, "resume", "--steps", str(max(1, facts.env_steps // 2))))


def forgets(facts: Facts) -> Advice | None:
    agent, had = facts.agent, facts.env_steps
    if 2 * agent.buffer_size >= had or (facts.solved and not _fell(facts)):
        return None
    return _anew(
        facts,
        f"The replay holds {agent.buffer_size:,} transitions of {had:,} steps: what was lived before is forgotten.",
        "Keep all of it; a transition takes some hundred bytes.",
        buffer_size=had,
    )


def clipped(facts: Facts) -> Advice | None:
    norm, longest = facts.metrics("gradient_norm"), facts.agent.max_grad_norm
    if longest is None or len(norm) < 10 or facts.solved or (share := float((norm > longest).mean())) < 0.9:
        return None
    usual = float(f"{np.median(norm):.2g}")
    return _anew(
        facts,
        f"{share:.0%} of the gradients looked at were longer than max_grad_norm = {longest:g} (median {usual:g}): "
        "every update is cut to one length.",
        "Let usual gradients pass, and cut the rest.",
        max_grad_norm=usual,
    )


def hidden_by_exploration(facts: Facts) -> Advice | None:
    returns, had = facts.returns, facts.env_steps
    late = [episode for episode in facts.episodes if episode.env_steps > 0.8 * had]
    if not returns.size or len(late) < 5:
        return None
    greedy = float(returns[-max(1, len(returns) // 5) :].mean())
    training = float(np.mean([episode.reward for episode in late]))
    lowest = min([*returns, *(episode.reward for episode in facts.episodes)])
    floor, epsilon = facts.agent.epsilon_end, float(np.mean([episode.epsilon for episode in late]))
    # A lower floor is no help to an epsilon that has not come down to it.
    if greedy - training < 0.4 * (returns.max() - lowest) or not floor or epsilon > 2 * floor:
        return None
    return _anew(
        facts,
        f"The agent is better than its training looks: greedy {greedy:.1f}, while training {training:.1f}, with its "
        f"random actions (epsilon {epsilon:.2g}).",
        "Judge it by the greedy evaluations. For a training curve that comes near them, explore less in the end.",
        epsilon_end=float(f"{floor / 3:.2g}"),
    )


def some_fail(facts: Facts) -> Advice | None:
    best = facts.best
    if best is None or not (below := _below(facts)):
        return None
    return Advice(
        f"The mean of {best.mean_return:.1f} is beyond the solved mark, but {len(below)} of {len(best.returns)} "
        f"episodes are below it, the worst at {best.min_return:.1f}.",
        "Give it half as much again.",
        of_run(facts, "resume", "--steps", str(max(1, facts.env_steps // 2))),
    )


def look(facts: Facts) -> Advice | None:
    best = facts.best
    if best is None or not (below := _below(facts)):
        return None
    which, limit = below[0], facts.train.max_episode_steps
    outcome = f" and {best.outcomes[which]}" if best.outcomes else ""
    # Where no episode was longer than the training's limit, it may have been that limit.
    cut = ["--max-episode-steps", str(limit)] if limit is not None and max(best.lengths) <= limit else []
    return Advice(
        f"Greedy episode {which + 1} came to {best.returns[which]:.1f}{outcome}.",
        "Look at what went wrong: it is the last one of this film.",
        of_run(facts, "video", "--episodes", str(which + 1), "--overlay", *cut),
    )


def one_seed(facts: Facts) -> Advice | None:
    if facts.seeds > 1 or not facts.evaluations:
        return None
    return Advice(
        "This is one seed. Another one may do much better or worse with the same settings.",
        "Train five, each scored on 100 episodes, before believing a difference.",
        seeds_command(facts, 5),
    )


def early(facts: Facts) -> Advice | None:
    mark, train = facts.run.config["reward_threshold"], facts.train
    first = next((one.env_steps for one in facts.evaluations if mark is not None and one.mean_return >= mark), None)
    if first is None or not facts.solved or _fell(facts) or train.steps is None or 2 * first > train.steps:
        return None
    if some_fail(facts):  # which asks for more
        return None
    steps = min(train.steps - 1, int(1.5 * first))
    return Advice(  # also of a run that is not whole: that it was solved is all the evidence
        f"It was solved after {first:,} of {train.steps:,} steps.",
        "A smaller budget may do.",
        train_command(facts, steps=steps, learning_rate_decay_steps=min(steps, facts.agent.learning_rate_decay_steps)),
    )


def solved(facts: Facts) -> Advice | None:
    if not facts.solved:
        return None
    reached = facts.best.mean_return if facts.best else float(facts.returns.max())
    return Advice(
        f"It is solved: {reached:.1f}, where {facts.run.config['reward_threshold']:g} is asked for.",
        "Look at how it does it.",
        of_run(facts, "video", "--episodes", "5"),
    )


RULES: tuple[Callable[[Facts], Advice | None], ...] = (
    *(unfinished, fell, flat, rises, random, promises, loss_grows, hovers, forgets, clipped),
    *(hidden_by_exploration, some_fail, look, one_seed, early, solved),
)
