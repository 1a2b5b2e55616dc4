"""Read the predictions and targets of a program's updates, and report what they show."""

from __future__ import annotations

import linecache
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import listed
from perilune.doctor.checks.td_target import FAULTY
from perilune.doctor.program.formulas import (
    EXACT,
    FEWEST_ROWS,
    LARGEST,
    MASKED,
    ONLINE,
    OTHER_ROW,
    ROUNDED,
    Columns,
    Explained,
    Row,
    candidates,
    columns,
    ends_within,
    formula_of,
)
from perilune.doctor.program.observed import likely, observed
from perilune.doctor.program.pairs import CLOSE, Forward, Pair, Reading, forwards_before, latest_rewards, read
from perilune.doctor.program.recorder import Window
from perilune.doctor.report import Finding, NotRun, Passed

ENOUGH_ROWS = 1500
ENOUGH_WINDOWS = 40
KEPT_ROWS = 4000  # of one place, the newest ones
MOST_STEPS = 12  # of n-step returns
FAULTS = FAULTY | {"of all rows": "td_target.batch_axis", OTHER_ROW: "td_target.other_row"}
REWARD = re.compile(r"(\w+\.)*(\w*rew\w*|b?_?r|R|r_?\w{0,3}|\w{1,3}_r)", re.IGNORECASE)
PAIRS_WITH_REWARDS = 2000
LOOK_BACK, LOOK_BACK_ALONE = 2000, 300  # values before a pair, and before a pair of one row
RANDOM_STEPS = 300
SMALL_VALUE = 1e-3
SMALL_LIMIT = 5.0  # errors of this size are usual, so their gradients must not be cut off


@dataclass
class Site:
    """A place in the program that compares predictions with targets."""

    line: str
    target_line: str
    rows: list[Row] = field(default_factory=list)
    shapes: Counter[Any] = field(default_factory=Counter)
    grads: int = 0  # pairs whose target requires a gradient
    next_grads: Counter[Any] = field(default_factory=Counter)  # networks evaluated at next states with a gradient
    pairs: int = 0
    read: int = 0  # rows in total
    others: int = 0  # rows whose other actions have another target than their own value
    other_targets: list[float] = field(default_factory=list)
    pushed: list[tuple[float, float, float]] = field(
        default_factory=list
    )  # error, its gradient, largest other gradient
    unknown: int = 0  # rows whose transition is not known


class Targets:
    """Reads predictions and targets of updates."""

    def __init__(self) -> None:
        self.sites: dict[str, Site] = {}
        self.windows = 0
        self.explained = False  # whether a known formula explains the targets
        self.discount: float | None = None  # of one time step, if it is known
        self._before: dict[int, int] = {}
        self._steps = 0

    @property
    def done(self) -> bool:
        """Whether enough rows were read."""
        rows = max((site.read for site in self.sites.values()), default=0)
        return self.windows >= ENOUGH_WINDOWS and rows >= ENOUGH_ROWS

    def window(self, trace: Any, window: Window) -> None:
        """Read the values of a window."""
        log = trace.log
        if log is None or not window.values:
            return
        reading = read(trace, window)
        if not reading.pairs:
            return
        for index in range(self._steps, len(log.steps)):
            self._before[log.steps[index].before] = index
        self._steps = len(log.steps)
        self.windows += 1
        trace.read += 1
        for pair in reading.pairs:
            self._read(log, reading, pair)

    def findings(self, trace: Any) -> Iterator[Finding | Passed | NotRun]:
        """Return what the targets show."""
        sites = [one for one in self.sites.values() if len(one.rows) >= FEWEST_ROWS]
        if not sites:
            yield NotRun("TD target", "no comparison of Q(obs, action) with a target was found in the program")
            return
        site = max(sites, key=lambda one: len(one.rows))
        table = columns(trace.log, site.rows)
        known, changed = formula_of(trace.log, site.rows, table)
        self.explained = known is not None
        if known is not None and 0 < known.discount <= 1:
            self.discount = round(known.discount ** (1 / known.n), 6)
        for one in (*_routing(site, table), *_target(trace, site, table, known, changed)):
            yield NotRun("TD target", one) if isinstance(one, str) else one

    def _transitions(self, log: Any, reading: Reading, pair: Pair) -> list[int]:
        """Return the indices (n,) of the transitions of a pair, or -1."""
        states = pair.forward.states
        if not log.discrete:
            return [self._before.get(int(number), -1) for number in states]
        found = latest_rewards(reading, pair.place, len(states))
        if found is None:
            return [-1] * len(states)
        return [int(i) if i >= 0 and log.steps[i].before == n else -1 for i, n in zip(found, states, strict=True)]

    def _read(self, log: Any, reading: Reading, pair: Pair) -> None:  # noqa: PLR0912
        if (site := self.sites.get(pair.line)) is None:
            site = self.sites[pair.line] = Site(pair.line, reading.origin(pair))
        site.pairs += 1
        site.grads += pair.grad or reading.flows(pair)
        site.shapes[pair.shapes] += 1
        gradient = reading.gradients.get(pair.forward.entry)
        if gradient is not None and gradient.size == pair.forward.q.size:
            _gradient(site, pair, gradient.reshape(pair.forward.q.shape).astype(np.float64))
        others = [one for one in forwards_before(reading, pair.place) if one is not pair.forward]
        looked: dict[tuple[Any, int], tuple[Forward, int]] = {}
        for forward in others[::-1]:  # the latest last
            for row, number in enumerate(forward.states):
                if number >= 0:
                    looked[forward.key, int(number)] = forward, row
        keys = dict.fromkeys(forward.key for forward in others)
        keys.pop(pair.forward.key, None)
        roles = {pair.forward.key: ONLINE} | {key: f"other network {place}" for place, key in enumerate(keys, 1)}
        rewards = _rewards(reading, pair) if site.pairs <= PAIRS_WITH_REWARDS else {}
        for row, index in enumerate(self._transitions(log, reading, pair)):
            number = int(pair.forward.states[row])
            if index < 0:
                site.unknown += 1
                continue
            action = log.steps[index].action
            if pair.chosen[row] == -1:
                prediction, target = pair.prediction[row], pair.target[row]
                differs = np.abs(target - prediction) > 1e-6 * (np.abs(prediction).max() + 1e-3)
                chosen = action if differs[action] or not differs.any() else int(differs.argmax())
                rest = np.delete(differs, chosen)
                if rest.any():
                    site.others += 1
                    site.other_targets += np.delete(target, chosen)[rest].tolist()
                values = float(target[chosen]), float(prediction[chosen]), chosen
            else:
                taken = np.abs(pair.forward.q[row, action] - pair.prediction[row])
                equal = taken <= CLOSE * (np.abs(pair.forward.q).max() + 1e-6)  # perhaps as for other actions
                chosen = action if equal else int(pair.chosen[row])
                values = float(pair.target[row]), float(pair.prediction[row]), chosen
            found: dict[tuple[str, str], tuple[int, Array]] = {}
            for key, role in roles.items():
                for n, after in _following(log, index, number):
                    if (hit := looked.get((key, after))) is not None:
                        found[role, "next"] = n, hit[0].q[hit[1]]
                        site.next_grads[role] += hit[0].grad or reading.reached(hit[0])
                        break
                if (hit := looked.get((key, number))) is not None:
                    found[role, "here"] = 0, hit[0].q[hit[1]]
            found[ONLINE, "here"] = 0, pair.forward.q[row]
            site.read += 1
            named = {name: float(column[row]) for name, column in rewards.items()}
            site.rows.append(Row(self.windows, site.pairs, index, *values, found, named))
        del site.rows[:-KEPT_ROWS]


def _rewards(reading: Reading, pair: Pair) -> dict[str, Array]:
    """Return the latest values (n,) of the program's variables for rewards, by name."""
    found: dict[str, Array] = {}
    rows = len(pair.forward.states)
    first = pair.place - (LOOK_BACK if rows > 1 else LOOK_BACK_ALONE)
    for value in reversed(reading.values[max(0, first) : pair.place]):
        array = value.array
        if value.node < 0 or array is None or array.size != rows or array.dtype.kind not in "fi":
            continue
        node = reading.nodes[value.node]
        name = node.assigned or node.text
        if REWARD.fullmatch(name):
            found.setdefault(name, array.reshape(-1).astype(np.float64))
    return found


def _following(log: Any, index: int, number: int) -> Iterator[tuple[int, int]]:
    """Yield n and the number of the state n time steps after the transition with this index began."""
    if log.discrete:
        yield 1, log.steps[index].after
    else:
        yield from ((n, number + n) for n in range(1, MOST_STEPS + 1))


def _gradient(site: Site, pair: Pair, gradient: Array) -> None:
    """Record how the loss pushes the outputs (n, A)."""
    rows = np.arange(len(gradient))
    chosen = pair.chosen
    if pair.prediction.ndim == 2:
        chosen = np.abs(pair.target - pair.prediction).argmax(axis=1)
        error = (pair.prediction - pair.target)[rows, chosen]
    else:
        error = pair.prediction - pair.target
    mine = gradient[rows, chosen]
    rest = np.abs(gradient)
    rest[rows, chosen] = 0
    site.pushed += zip(error.tolist(), mine.tolist(), rest.max(axis=1).tolist(), strict=True)


def _routing(site: Site, table: Columns) -> Iterator[Finding | Passed | str]:
    """Check the predictions: shapes, actions, and the targets of other actions."""
    (first, second), count = site.shapes.most_common(1)[0]
    joint = np.broadcast_shapes(first, second) if _compatible(first, second) else first
    if int(np.prod(joint)) > max(int(np.prod(first)), int(np.prod(second))) and len(joint) == 2:
        evidence = (
            f"In {count} of {site.pairs} updates, predictions of shape {first} are compared with targets of shape "
            f"{second}, so the loss compares {joint[0]} x {joint[1]} pairs."
        )
        yield observed("loss.broadcast", evidence, site.line)
    wrong = table.chosen != table.action
    share = float(wrong.mean())
    if share > 0.02:
        evidence = (
            f"In {wrong.sum()} of {len(wrong)} rows, the prediction is Q(obs, a) of an action other than the one "
            f"in the transition."
        )
        yield observed("loss.wrong_action", evidence, site.line)
    else:
        yield Passed("batch", f"the prediction is Q(obs, action) of the action taken, in {len(wrong)} rows")
    yield from _pushes(site)
    if site.others > 0.1 * len(site.rows):
        values = np.array(site.other_targets)
        zeros = float((np.abs(values) < 1e-9).mean())
        if zeros > 0.9:
            evidence = f"In {site.others} of {len(site.rows)} rows, the targets of the other actions are 0."
            yield observed("loss.others_to_zero", evidence, site.target_line or site.line)
        else:
            evidence = f"In {site.others} of {len(site.rows)} rows, the error also changes the values of other actions."
            yield observed("loss.all_actions", evidence, site.target_line or site.line)


def _pushes(site: Site) -> Iterator[Finding | Passed]:
    """Check the gradient of the loss with respect to the outputs: which rows it reaches, and in which direction."""
    if len(site.pushed) < FEWEST_ROWS:
        return
    error, mine, _ = np.array(site.pushed).T
    clear = np.abs(error) > 0.05 * np.abs(error).max()
    reached, size = mine[clear] != 0, np.abs(error[clear])
    limit = float(size[reached].max(initial=0))
    if 0 < limit < np.min(size[~reached], initial=np.inf) and (~reached).mean() > 0.1:  # large errors are cut off
        if limit < SMALL_LIMIT:
            count = f"{(~reached).sum()} of {len(reached)}"
            evidence = f"The loss has no gradient in {count} rows: those with an error above {limit:.3g}."
            yield observed("loss.clipped_away", evidence, site.line)
        return
    if reached.mean() < 0.6:
        evidence = f"In {(~reached).sum()} of {len(reached)} rows with an error, the loss has no gradient."
        yield observed("loss.rows_ignored", evidence, site.line)
        return
    against = np.sign(mine[clear][reached]) != np.sign(error[clear][reached])
    if against.mean() > 0.95:
        evidence = f"In {against.sum()} of {len(against)} rows, the gradient of the loss points away from the target."
        yield observed("backward.sign", evidence, site.line)
    else:
        yield Passed(
            "gradients", f"the gradients of the loss point toward the targets, in {reached.mean():.0%} of the rows"
        )


def _compatible(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    try:
        np.broadcast_shapes(first, second)
    except ValueError:
        return False
    return True


def _unexplained(rows: list[Row], table: Columns, line: str) -> Finding | str:
    """Return what targets that no formula explains show."""
    off = table.target - table.reward
    if np.abs(off).max() >= EXACT * (np.abs(table.reward).max() + 1e-9):
        return f"the targets in {line} match no known formula (target minus reward: {listed(off[:4])})"
    following = [values[table.running] for name, _, _, values in candidates(rows, table) if name == LARGEST]
    if any(np.isfinite(one).sum() > len(one) / 2 and np.nanmax(np.abs(one)) < SMALL_VALUE for one in following):
        return f"the next values in {line} are 0 so far, so the targets do not show whether they bootstrap"
    return observed("td_target.no_bootstrap", f"All of {len(rows)} targets are the reward alone.", line)


def _target(
    trace: Any, site: Site, table: Columns, known: Explained | None, changed: str
) -> Iterator[Finding | Passed | str]:
    """Explain the targets."""
    log, rows, line = trace.log, site.rows, site.target_line or site.line
    if known is None:
        yield _unexplained(rows, table, line)
        return
    if changed == MASKED:
        evidence = f"The targets of all terminated transitions are 0, regardless of their rewards ({len(rows)} rows)."
        yield observed("td_target.reward_masked", evidence, line)
    elif (scale := re.fullmatch(r"multiplied by ([\d.e-]+)", changed)) and abs(float(scale[1]) - known.discount) < 1e-3:
        evidence = (
            f"{known.share:.0%} of {len(rows)} targets are {scale[1]} x reward + {known.discount:.4f} x {known.name}."
        )
        yield observed("td_target.reward_discounted", evidence, line)
    elif changed == ROUNDED:
        if _pays_fractions(trace.envs[0].original):
            evidence = f"The rewards in the targets are {changed}, and the environment pays fractions."
            yield observed("replay.rounds_rewards", evidence, likely("replay.rounds_rewards", trace.nodes))
    elif changed:
        yield observed("replay.rewards_changed", f"The rewards in the targets are {changed}.", "")
    formula = f"reward + {known.discount:.4f} x {known.name}"
    fault = next((one for phrase, one in FAULTS.items() if phrase in known.name), None)
    if fault is not None:
        evidence = f"{known.share:.0%} of {len(rows)} targets are {formula}."
        yield observed(fault, evidence, line)
    else:
        yield Passed("TD target", f"the targets are {formula}, in {known.share:.0%} of {len(rows)} rows")
    if known.key == ONLINE and "other network" not in known.name:
        evidence = f"{known.share:.0%} of {len(rows)} targets use the network of the prediction for the next value."
        yield replace(observed("target_network.none", evidence, line), severity="note")
    if "other network" in known.name and known.key == ONLINE:
        evidence = (
            f"{known.share:.0%} of {len(rows)} targets are the online network's Q(next_obs, a) of the action that is "
            "best for the target network."
        )
        yield observed("td_target.double_swapped", evidence, line)
    if site.grads > 0.5 * site.pairs and known.key == ONLINE and site.next_grads[ONLINE]:
        evidence = (
            f"In {site.grads} of {site.pairs} updates, the target requires a gradient, and it is computed with the "
            "network that is trained."
        )
        yield observed("td_target.gradient_flows", evidence, line)
    yield from _mask(trace, ends_within(log, table, known.n), known, line)
    if not 0 < known.discount <= 1.0005:
        evidence = f"{known.share:.0%} of {len(rows)} targets are {formula}."
        yield observed("td_target.gamma", evidence, line)


def _pays_fractions(env: Any) -> bool:
    """Return whether an environment pays a reward that is not a whole number, in time steps with random actions."""
    if env is None:
        return False
    env.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(RANDOM_STEPS):
        _, reward, terminated, truncated, *_ = env.step(env.action_space.sample())
        if float(reward) != round(float(reward)):
            return True
        if terminated or truncated:
            env.reset()
    return False


def _joined(trace: Any) -> str:
    """Return the line that joins terminated and truncated, or ""."""
    for file in dict.fromkeys(node.file for node in trace.nodes):
        for number, text in enumerate(linecache.getlines(file), 1):
            if re.search(r"=\s*\(?\w*(term|done)\w*\)?\s*(or|\|)\s*\(?\w*(trunc|time)", text):
                return f"{file}:{number}"
    return ""


def _mask(trace: Any, table: Columns, known: Explained, line: str) -> Iterator[Finding | Passed]:
    """Check which rows have a bootstrap."""
    decided = known.full | known.zero
    running, ended, cut = (decided & rows for rows in (table.running, table.terminated, table.truncated))
    if min(running.sum(), ended.sum()) < 5:
        return
    zero_running = float(known.zero[running].mean())
    zero_ended = float(known.zero[ended].mean())
    zero_cut = float(known.zero[cut].mean()) if cut.sum() >= 5 else 0.0
    counts = f"{known.zero[ended].sum()} of {ended.sum()} terminated and {known.zero[running].sum()} of {running.sum()}"
    evidence = f"The target is the reward alone in {counts} other transitions."
    if zero_ended > 0.95 and zero_running < 0.05:
        text = f"terminated transitions do not bootstrap, and the others do, in {decided.sum()} rows"
        yield Passed("episode ends", text)
        if zero_cut > 0.9 and not trace.old:
            evidence = (
                f"The target is the reward alone in {known.zero[cut].sum()} of {cut.sum()} transitions that a time "
                "limit truncated."
            )
            yield observed("environment.truncation_as_end", evidence, _joined(trace))
    elif zero_ended < 0.05 and zero_running > 0.95:
        yield observed("td_target.mask_inverted", evidence, line)
    elif zero_ended < 0.05 and zero_running < 0.05:
        yield observed("td_target.no_mask", evidence, line)
    elif abs(zero_ended - zero_running) < 0.3:
        yield observed("td_target.mask_of_another_row", evidence, line)
