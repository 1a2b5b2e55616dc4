"""Read off how a program begins its episodes: missing resets, equal seeds, and evaluations in between."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from perilune.doctor.program.observed import observed
from perilune.doctor.program.tracer import Call
from perilune.doctor.report import Finding, Passed

CHECK = "training loop"
LATE = 3  # time steps after an end from which on a missing reset is proven
FEWEST = 10  # episodes with equal seeds

Lines = tuple[str, ...]


def check_episodes(trace: Any) -> Iterator[Finding | Passed]:
    """Check that each episode begins with a reset, with a seed of its own, and that only one loop plays it.

    Args:
        trace: The finished trace of the program.
    """
    yield from _ends(trace.log)
    yield from _mixed(trace.log.calls)
    yield from _seeds(trace)


def _ends(log: Any) -> Iterator[Finding | Passed]:
    """Check that the loop resets the environment at the end of each episode."""
    late = {"terminated": 0, "truncated": 0}
    ends = 0
    for one, following in zip(log.steps[:-1], log.steps[1:], strict=True):
        if one.terminated or one.truncated:
            ends += 1
            if following.before == one.after:
                late["terminated" if one.terminated else "truncated"] += 1
    for how, count in late.items():
        if count >= LATE and log.late >= LATE:
            line = next(call.lines[0] for call in log.calls if call.late and call.lines)
            evidence = f"After {count} of {ends} ends, the loop took further time steps. These episodes were {how}."
            yield observed("environment.no_reset", evidence, line)
    if ends >= 20 and not log.late:
        yield Passed(CHECK, f"the environment is reset after each of {ends} episodes")


def _begins(calls: list[Call]) -> tuple[dict[Lines, set[Lines]], list[tuple[Lines, Lines, Lines]]]:
    """Read which lines begin and continue episodes.

    Returns:
        For the lines of each step, the lines of the resets after which it is the first step; and the steps that
        return to an environment in which other lines began an episode: its lines, those of that reset, and those of
        the first step after it.
    """
    begins: dict[Lines, set[Lines]] = defaultdict(set)
    returns: list[tuple[Lines, Lines, Lines]] = []
    episodes: dict[int, tuple[Lines, list[Lines]]] = {}  # env -> lines of the reset, of the steps since then
    before: set[tuple[int, Lines]] = set()  # steps of earlier episodes
    for call in calls:
        if call.reset:
            before |= {(call.env, lines) for lines in episodes.get(call.env, ((), []))[1]}
            episodes[call.env] = call.lines, []
        elif call.env in episodes and call.lines not in (steps := episodes[call.env][1]):
            reset = episodes[call.env][0]
            if not steps:
                begins[call.lines].add(reset)
            elif (call.env, call.lines) in before:
                returns.append((call.lines, reset, steps[0]))
            steps.append(call.lines)
    return begins, returns


def _mixed(calls: list[Call]) -> Iterator[Finding]:
    """Check that no evaluation leaves its episode to the training loop."""
    begins, returns = _begins(calls)
    mixed = [one for one in returns if begins[one[0]] and one[1] not in begins[one[0]]]
    if len(mixed) < 2:
        return
    training, _, evaluation = Counter(mixed).most_common(1)[0][0]
    pairs = zip(reversed(evaluation), reversed(training), strict=False)
    line = next((one for one, other in pairs if one != other), evaluation[0])
    evidence = (
        f"{len(mixed)} times, the training loop took a time step in an episode that other code had begun in the same "
        "environment. The state from which the training loop continued was no longer the current one."
    )
    yield observed("environment.evaluation_interferes", evidence, line)


def _seeds(trace: Any) -> Iterator[Finding]:
    """Check that the training episodes do not all have the same seed."""
    calls = trace.log.calls
    first = next((call.env for call in calls if not call.reset), None)
    calls = [call for call in calls if call.env == first]
    steps = Counter(call.lines for call in calls if not call.reset)
    if not steps:
        return
    resets = _begins(calls)[0][steps.most_common(1)[0][0]]
    seeds = [call.seed for call in calls if call.reset and call.lines in resets]
    seed, count = Counter(seeds).most_common(1)[0] if seeds else (None, 0)
    if seed is None or count < FEWEST or count < 0.9 * len(seeds) or _fixed(trace.envs[0].original):
        return
    line = next(call.lines[0] for call in calls if call.reset and call.lines in resets and call.seed == seed)
    evidence = f"{count} of {len(seeds)} episodes begin with seed {seed}."
    yield observed("environment.same_seed", evidence, line)


def _fixed(env: Any) -> bool:
    """Return whether all episodes of an environment begin in the same state."""
    return env is not None and all(
        np.array_equal(env.reset(seed=1)[0], env.reset(seed=seed)[0]) for seed in range(2, 6)
    )
