"""Read off how a program chooses its actions: from the Q-values of which state, and with which epsilon."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.program.epsilon import DRAW, FEWEST_ROWS, Burst, Draw, Epsilon, check_schedule
from perilune.doctor.program.instrument import ORDER
from perilune.doctor.program.observed import likely, observed
from perilune.doctor.program.pairs import Forward, network, read
from perilune.doctor.program.recorder import Value, Window
from perilune.doctor.report import Finding, NotRun, Passed

CHECK = "actions"
ENOUGH = 400  # choices
ENOUGH_STEPS = 3000
FEWEST = 40  # choices from which on a share is judged
BY_CHANCE = re.compile(r"softmax|multinomial|Categorical|noisy|noise|gumbel|choice\(.*\bp *=", re.IGNORECASE)
DRAWN = re.compile(r"(randint|randrange|choice|integers|action_space\.sample)\(")
UNIFORM = re.compile(r"(randint|randrange|integers|action_space\.sample)\(")  # `choice` may break ties of Q-values
CERTAIN = 1e-9  # probability of a result by chance, below which it is not by chance


class Choice(NamedTuple):
    """How one action was chosen.

    Attributes:
        step: Index of the time step.
        action: The action that the environment executed.
        asked: Number of the state whose Q-values the program computed last, or -1 if it computed none.
        current: Number of the current state.
        q: Q-values (A,) of the state asked, or None.
        networks: Number of networks that were asked about this state.
        outcomes: Results of the comparisons of random numbers, by node.
        line: ``file:line`` where the Q-values were computed, or "".
        numbers: Integers that the program computed from then on, by node, in the order of the first ones.
    """

    step: int
    action: int
    asked: int
    current: int
    q: Array | None
    networks: int
    outcomes: dict[int, bool]
    line: str
    numbers: dict[int, int]

    @property
    def clear(self) -> bool:
        """Whether the Q-values of the current state are known, and one of them is clearly the largest."""
        if self.q is None or self.asked != self.current or self.networks != 1 or not np.isfinite(self.q).all():
            return False
        best = np.sort(self.q)
        return bool(min(best[-1] - best[-2], best[1] - best[0]) > 1e-5 * (np.abs(best).max() + 1e-9))

    @property
    def greedy(self) -> bool:
        """Whether the action has the largest Q of the state asked."""
        return self.q is not None and int(self.q.argmax()) == self.action


class Acting:
    """Reads how actions are chosen."""

    def __init__(self) -> None:
        self.choices: list[Choice] = []
        self.draws: dict[int, list[Draw]] = defaultdict(list)
        self.bursts: list[Burst] = []
        self.steps = 0
        self.learned = 0  # number of time steps before the latest update
        self.random: dict[int, list[tuple[int, int]]] = defaultdict(list)  # node -> time step, integer drawn before it
        self._pending: tuple[int, Forward | None, int, dict[int, bool], dict[int, int]] | None = None
        self._drawn: set[str] | None = None

    @property
    def done(self) -> bool:
        """Whether enough choices were read."""
        return len(self.choices) >= ENOUGH and self.steps >= ENOUGH_STEPS

    def window(self, trace: Any, window: Window) -> None:
        """Read the values of a window. The action that they lead to is known one window later."""
        log = trace.log
        if log is None:
            return
        self.steps = len(log.steps)
        self._resolve(log)
        if not trace.recorder.on:
            return
        reading = read(trace, window)
        if window.updates or reading.pairs:
            self.learned = self.steps
        last = max((pair.place for pair in reading.pairs), default=-1)
        inside = {id(pair.forward) for pair in reading.pairs}
        single = [
            one
            for one in reading.forwards
            if len(one.states) == 1
            and id(one) not in inside
            and one.place > last
            and not (log.discrete and _coded(one.q))
        ]
        asked = single[-1] if single else None
        networks = len({network(one.key) for one in single if asked is not None and one.states[0] == asked.states[0]})
        if asked is not None and any(len(pair.forward.states) == 1 for pair in reading.pairs):
            asked, networks = (asked, networks) if asked.states[0] == log.last else (None, 0)
        numbers = {} if asked is None else _integers(window.values[asked.place + 1 :])
        self._pending = len(log.steps), asked, networks, self._compared(trace, window, len(log.steps)), numbers
        self._changes(trace, window, sum(len(pair.prediction) for pair in reading.pairs))

    def findings(self, trace: Any) -> Iterator[Finding | Passed | NotRun]:
        """Return what the choices show."""
        if trace.log is None:
            return
        self._resolve(trace.log)
        yield from _range(trace)
        if len(self.choices) < FEWEST:
            yield NotRun(CHECK, "the program took too few actions, or its states cannot be distinguished")
            return
        draw = self._epsilon()
        yield from _states(trace, self.choices)
        yield from _greedy(trace, self.choices, draw)
        yield from _random(trace, self.choices, draw, self._drawn_actions(trace.log))
        if draw is not None:
            yield from check_schedule(trace, draw, self.draws[draw.node], self.learned, self.bursts)

    def _resolve(self, log: Any) -> None:
        if self._pending is None or self._pending[0] >= len(log.steps):
            return
        index, forward, networks, outcomes, numbers = self._pending
        self._pending = None
        step = log.steps[index]
        asked, q, line = (-1, None, "") if forward is None else (int(forward.states[0]), forward.q[0], forward.line)
        self.choices.append(Choice(index, step.action, asked, step.before, q, networks, outcomes, line, numbers))

    def _compared(self, trace: Any, window: Window, step: int) -> dict[int, bool]:
        """Read the comparisons of random numbers with thresholds."""
        latest: dict[int, float] = {}
        found: dict[int, Draw] = {}
        for value in window.values:
            if value.kind != "value" or value.array is None or value.array.size != 1:
                continue
            node = trace.nodes[value.node]
            number = float(value.array.reshape(()))
            latest[value.node] = number
            if node.operator == "Call" and value.array.dtype.kind in "iu" and UNIFORM.search(node.text):
                self.random[value.node].append((step, int(number)))
            if node.operator in ORDER and all(child in latest for child in node.children):
                texts = [trace.nodes[child].text for child in node.children]
                drawn = [bool(DRAW.search(text)) or text in self._names(trace) for text in texts]
                if sum(drawn) == 1:
                    place = drawn.index(True)
                    operands = [latest[child] for child in node.children]
                    found[value.node] = Draw(step, operands[place], operands[1 - place], bool(number))
        for node, draw in found.items():
            self.draws[node].append(draw)
        return {node: draw.outcome for node, draw in found.items()}

    def _changes(self, trace: Any, window: Window, rows: int) -> None:
        """Remember which variables changed many times in a window."""
        changes: dict[str, set[float]] = defaultdict(set)
        for value in window.values if rows >= FEWEST_ROWS else ():
            node = trace.nodes[value.node]
            name = (
                node.text if node.kind == "variable" and node.operator not in ("Before", "Item", "") else node.assigned
            )
            if value.kind == "value" and name and value.array is not None and value.array.size == 1:
                changes[name].add(float(value.array.reshape(())))
        self.bursts += [Burst(name, len(one), rows) for name, one in changes.items() if len(one) >= FEWEST_ROWS]

    def _drawn_actions(self, log: Any) -> list[int]:
        """Return the actions that the program drew at random and executed, if one expression draws them."""
        for draws in self.random.values():
            executed = [log.steps[step].action == number for step, number in draws if step < len(log.steps)]
            if len(executed) >= FEWEST and np.mean(executed) > 0.99:
                return [number for _, number in draws]
        return []

    def _names(self, trace: Any) -> set[str]:
        """Return the variables to which the program assigns random numbers."""
        if self._drawn is None:
            nodes = trace.nodes
            self._drawn = {one.assigned for one in nodes if one.operator == "Call" and DRAW.search(one.text)} - {""}
        return self._drawn

    def _epsilon(self) -> Epsilon | None:
        """Return the comparison that decides between a random action and the best one, or None."""
        for node in self.draws:
            sides = {side: [one for one in self.choices if one.outcomes.get(node) is side] for side in (True, False)}
            asks = {
                side: float(np.mean([one.asked == one.current and one.greedy for one in group])) if group else None
                for side, group in sides.items()
            }
            numbers = np.array([draw.number for draw in self.draws[node]])
            if len(numbers) < FEWEST or len(set(numbers.tolist())) < 0.9 * len(numbers):
                continue
            for side in (True, False):
                random, greedy = asks[side], asks[not side]
                if random is not None and len(sides[side]) >= 10 and random < 0.75 and (greedy is None or greedy > 0.9):
                    return Epsilon(node, side)
        return None


def _range(trace: Any) -> Iterator[Finding]:
    """Check that the actions exist."""
    log = trace.log
    outside = [step.action for step in log.steps if not 0 <= step.action < log.actions]
    if outside:
        evidence = (
            f"{len(outside)} of {len(log.steps)} actions are outside 0 to {log.actions - 1}, such as {outside[0]}."
        )
        yield observed("exploration.out_of_range", evidence, _drawn_at(trace))


def _states(trace: Any, choices: list[Choice]) -> Iterator[Finding | Passed]:
    """Check which state the program asks about before it acts."""
    log = trace.log
    stale = [one for one in choices if one.asked >= 0 and one.asked != one.current and one.greedy]
    right = [one for one in choices if one.asked == one.current]
    others = [one for one in choices if one.asked >= 0 and one.asked != one.current]
    starts = sorted(log.begun)
    chance = 1 / log.actions
    if len(others) >= 12 and len(stale) > 0.9 * len(others) and chance ** len(stale) < CERTAIN:
        first = [one for one in stale if _is_first(log, starts, one)]
        evidence = (
            f"Before {len(others)} of {len(others) + len(right)} actions, the program computed the Q-values of a state "
            "other than the current one, and took the action with the largest."
        )
        begun = [one for one in stale if one.step in log.begun]
        if len(begun) > 0.9 * len(stale):
            evidence += " Each of them was the first action of an episode."
        whole = len(right) < 0.5 * len(others) and len(first) > 0.9 * len(stale)
        name = "loop.state_not_advanced" if whole else "loop.acts_on_other_state"
        yield observed(name, evidence, _chosen_at(name, trace, stale))
    elif len(right) >= FEWEST and not others:
        yield Passed(
            "training loop", f"the program computes Q of the current state before it acts, in {len(right)} cases"
        )


def _is_first(log: Any, starts: list[int], choice: Choice) -> bool:
    """Return whether a choice was made for the first state of an episode."""
    if not log.discrete:
        return choice.asked in log.first
    start = starts[bisect_right(starts, choice.step) - 1]
    return bool(log.steps[start].before == choice.asked)


def _coded(q: Array) -> bool:
    """Return whether numbers are a code of an integer, such as a one-hot array of an action, and not Q-values."""
    return bool(np.isin(q, (0, 1)).all()) or len(np.unique(q)) < q.size


def _integers(values: Sequence[Value]) -> dict[int, int]:
    """Return the last integer of each node, in the order of the first ones."""
    return {
        value.node: int(value.array.reshape(()))
        for value in values
        if value.kind == "value"
        and value.array is not None
        and value.array.size == 1
        and value.array.dtype.kind in "iu"
    }


def _chosen_at(name: str, trace: Any, choices: list[Choice]) -> str:
    """Return the line that computes the action from the Q-values, ``file:line``.

    If it is unknown, return the line that matches a clue of the finding ``name``, or computes the Q-values.
    """
    agreeing = Counter(node for one in choices for node, number in one.numbers.items() if number == one.action)
    if len({one.action for one in choices}) > 1:  # otherwise a constant agrees, too
        for node in dict.fromkeys(node for one in choices for node in one.numbers):
            if agreeing[node] > 0.9 * len(choices):
                return f"{trace.nodes[node].file}:{trace.nodes[node].line}"
    return likely(name, trace.nodes) or choices[0].line


def _greedy(trace: Any, choices: list[Choice], draw: Epsilon | None) -> Iterator[Finding | Passed]:
    """Check that actions that are not random have the largest Q."""
    clear = [one for one in choices if one.clear and (draw is None or one.outcomes.get(draw.node) is not draw.random)]
    if len(clear) < FEWEST:
        return
    best = float(np.mean([one.greedy for one in clear]))
    worst = float(np.mean([int(one.q.argmin()) == one.action for one in clear]))  # type: ignore[union-attr]
    if best > 0.95:
        yield Passed(CHECK, f"greedy actions have the largest Q, in {len(clear)} states")
    elif worst > 0.9:
        evidence = f"{worst:.0%} of {len(clear)} actions have the smallest Q of the current state."
        yield observed("exploration.argmin", evidence, _chosen_at("exploration.argmin", trace, clear))
    elif draw is None and worst > best + 0.2 and _by_chance(worst, len(clear), 1 / trace.log.actions) < CERTAIN:
        evidence = f"{worst:.0%} of {len(clear)} actions have the smallest Q, and {best:.0%} have the largest."
        yield observed("exploration.argmin", evidence, _chosen_at("exploration.argmin", trace, clear))


def _random(trace: Any, choices: list[Choice], draw: Epsilon | None, drawn: list[int]) -> Iterator[Finding]:
    """Check the actions that are drawn at random."""
    actions = trace.log.actions
    if draw is None:
        random = [one for one in choices if one.asked < 0]
    else:
        random = [one for one in choices if one.outcomes.get(draw.node) is draw.random]
    taken = drawn or [one.action for one in random]
    counts = np.bincount([action for action in taken if 0 <= action < actions], minlength=actions)
    never = [action for action in range(actions) if not counts[action]]
    if never and counts.sum() and actions * (1 - 1 / actions) ** counts.sum() < CERTAIN:
        evidence = f"Of {counts.sum()} random actions, none is {' or '.join(map(str, never))}."
        yield observed("exploration.action_never_tried", evidence, _drawn_at(trace))
    asked = [one for one in choices if one.clear]
    always = draw is None and len(choices) >= 300 and len(asked) > 0.9 * len(choices)
    always = always and all(one.asked == one.current for one in choices) and all(one.greedy for one in asked)
    if always and asked[0].step < 5 and not any(BY_CHANCE.search(node.text) for node in trace.nodes):
        evidence = f"Each of {len(asked)} actions has the largest Q of its state, from the first time step on."
        yield observed("exploration.never_explores", evidence, _chosen_at("exploration.never_explores", trace, asked))


def _drawn_at(trace: Any) -> str:
    """Return the line that draws a random action, or ""."""
    places = [f"{one.file}:{one.line}" for one in trace.nodes if one.operator == "Call" and DRAWN.search(one.text)]
    return places[0] if len(set(places)) == 1 else next((one for one in places), "")


def _by_chance(share: float, count: int, chance: float) -> float:
    """Return an upper limit of the probability that at least this share of trials succeeds (Chernoff)."""
    if share <= chance:
        return 1.0
    rest = (1 - share) * np.log(max(1 - share, 1e-12) / (1 - chance))
    return float(np.exp(-count * (share * np.log(share / chance) + rest)))
