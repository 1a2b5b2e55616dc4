"""Explain the targets of a program's updates by known formulas, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array

LEAST_BATCH = 8
FEWEST_ROWS = 24  # rows from which on targets are explained
EXACT = 2e-4  # largest error of an explained target, relative to the size of the values
OUTLIER = 20.0  # times the typical size
ONLINE = "online network"  # the one of the prediction
MASKED = "0 where the episode terminated"
LARGEST = "the largest Q(next_obs, a)"
ROUNDED = "rounded to whole numbers"
OTHER_ROW = f"{LARGEST} of another row"


class Row(NamedTuple):
    """One predicted value and its target."""

    window: int
    pair: int  # number of the pair in ``Targets.pairs``
    step: int  # index of the transition
    target: float
    prediction: float
    chosen: int  # index of the predicted action
    values: dict[tuple[str, str], tuple[int, Array]]  # (network, "next" or "here") -> n and Q-values (A,)
    rewards: dict[str, float]  # values of the program's variables for the reward, by name


class Candidate(NamedTuple):
    """A candidate for the next values of the rows."""

    name: str
    key: Any  # the network
    n: Array  # time steps of the returns (N,)
    values: Array  # (N,), NaN where they are not known


class Explained(NamedTuple):
    """A formula for the targets: reward + discount * next value, where the mask allows it."""

    name: str
    key: Any
    n: int  # time steps of the returns, in most rows
    discount: float
    full: Array  # rows whose target contains the discounted next value
    zero: Array  # rows whose target is the reward
    share: float  # of all rows that are one of these


@dataclass
class Columns:
    """The rows of a site as arrays."""

    step: Array
    target: Array
    prediction: Array
    chosen: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    running: Array


def columns(log: Any, rows: list[Row]) -> Columns:
    """Return the rows as arrays (N,)."""
    steps = [log.steps[row.step] for row in rows]
    terminated, truncated = (np.array([getattr(one, name) for one in steps]) for name in ("terminated", "truncated"))
    return Columns(
        np.array([row.step for row in rows]),
        np.array([row.target for row in rows]),
        np.array([row.prediction for row in rows]),
        np.array([row.chosen for row in rows]),
        np.array([one.action for one in steps]),
        np.array([one.reward for one in steps]),
        terminated,
        truncated,
        ~(terminated | truncated),
    )


def candidates(rows: list[Row], table: Columns) -> list[Candidate]:
    """Return the candidates for the next values of the rows."""
    return [Candidate(*one) for one in _candidates(rows, table)]


def _candidates(rows: list[Row], table: Columns) -> Iterator[tuple[str, Any, Array, Array]]:
    kinds = Counter(kind for row in rows for kind in row.values)
    known = {kind: _stack([row.values.get(kind) for row in rows]) for kind, count in kinds.items() if count > 5}
    index = np.arange(len(rows))
    groups = np.unique([row.pair for row in rows], return_inverse=True)[1]
    for (key, where), (n, q) in known.items():
        rest = q.copy()
        rest[np.isnan(rest)] = -np.inf
        if where == "here":
            yield "the largest Q(obs, a), at obs instead of next_obs", key, np.ones_like(n), q.max(axis=1)
            continue
        yield LARGEST, key, n, q.max(axis=1)
        yield "the mean of Q(next_obs, a)", key, n, q.mean(axis=1)
        tops = np.full((groups.max() + 1, q.shape[1]), -np.inf)
        np.maximum.at(tops, groups, rest)
        if (np.bincount(groups) > 1).all():
            yield "the largest Q(next_obs, a) of all rows", key, n, tops.max(axis=1)[groups]
            yield "the largest Q(next_obs, action) of all rows", key, n, tops[groups, table.action]
        yield "Q(next_obs, action) of the action taken at obs", key, n, q[index, table.action]
        yield "the smallest Q(next_obs, a)", key, n, q.min(axis=1)
        yield "the sum of Q(next_obs, a)", key, n, q.sum(axis=1)
        yield (
            "the index of the largest Q(next_obs, a)",
            key,
            n,
            np.where(np.isnan(q[:, 0]), np.nan, rest.argmax(axis=1)),
        )
        for (other, place), (_, choice) in known.items():
            best = np.where(np.isnan(choice), -np.inf, choice).argmax(axis=1)
            values = np.where(np.isnan(choice[:, 0]), np.nan, q[index, best])
            if place == "next" and other != key:
                yield "Q(next_obs, a) of the action that is best for the other network", key, n, values
            elif place == "here" and other == key:
                yield "Q(next_obs, a) of the greedy action at obs", key, n, values


def _stack(values: list[tuple[int, Array] | None]) -> tuple[Array, Array]:
    """Return n (N,) and the Q-values (N, A), NaN where there are none. If most n are 1, leave out the others."""
    width = next(len(one[1]) for one in values if one is not None)
    n = np.array([0 if one is None else one[0] for one in values])
    q = np.array([np.full(width, np.nan) if one is None else one[1] for one in values])
    if np.median(n[n > 0], axis=0) == 1 if (n > 0).any() else False:
        q[n > 1] = np.nan
    return n, q


def explain(log: Any, options: list[Candidate], table: Columns, shift: Array | None = None) -> Explained | None:
    """Return the formula that explains the targets, or None. Of equal ones, prefer another network."""
    found: list[Explained] = []
    for name, key, n, values in options:
        if np.isnan(values).all():
            continue
        reward = table.reward if shift is None else shift
        most = int(np.median(n[~np.isnan(values)]))
        if most == 1:
            one = _fit(name, key, 1, table.target - reward, values, table)
        else:
            one = _fit_returns(log, name, key, most, np.where(n > 0, n, most), values, table)
        if one is not None:
            found.append(one)
    clear = [one for one in found if one.share > 0.95]
    return max(clear, key=lambda one: (round(200 * one.share), _usual(one.name), one.key != ONLINE), default=None)


def _usual(name: str) -> int:
    return 2 if name.startswith("the largest Q(next_obs") else 1 if "other network" in name else 0


def _fit(name: str, key: Any, n: int, bootstrap: Array, values: Array, table: Columns) -> Explained | None:
    judged = np.isfinite(bootstrap)
    if judged.sum() < FEWEST_ROWS:
        return None
    tolerance = EXACT * _sizes(values, table.target)
    zero = np.abs(bootstrap) < tolerance
    usable = judged & ~zero & (np.abs(values) > 20 * tolerance)
    if usable.sum() < 5:
        return None
    ratios = bootstrap[usable] / values[usable]
    discount = float(np.median(ratios))
    near = np.abs(ratios - discount) < 0.02 * abs(discount) + 1e-6
    if near.sum() < 5:
        return None
    chosen = np.flatnonzero(usable)[near]
    discount = float(bootstrap[chosen] @ values[chosen] / (values[chosen] @ values[chosen]))
    full = np.abs(bootstrap - discount * values) < tolerance
    both = full & zero  # the next value is near 0
    share = float((full | zero)[judged].mean())
    return Explained(name, key, n, discount, full & ~both, zero & ~both, share)


def _sizes(values: Array, target: Array) -> Array:
    """Return the size (N,) of the values of each row. It is that of all rows, unless few are much larger."""
    rows = np.fmax(np.abs(values), np.abs(target)) + 1e-9
    typical = float(np.median(rows))
    if rows.max() > OUTLIER * typical:  # such as a penalty of 100 at the end of an episode
        return np.fmax(rows, typical)
    return np.full(len(rows), np.nanmax(np.abs(values), initial=0) + np.abs(target).max() + 1e-9)


def _fit_returns(log: Any, name: str, key: str, most: int, n: Array, values: Array, table: Columns) -> Explained | None:
    """Fit n-step returns: the discount of the rewards is that of the next value. Returns stop at the episode's end."""
    best = None
    paid = _paid(log, table.step, n)
    for discount in (0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0):
        returns = discount ** np.arange(len(paid)) @ paid
        one = _fit(name, key, most, table.target - returns, values * discount ** (n - most), table)
        if one is not None and abs(one.discount - discount**most) < 1e-3 and (best is None or one.share > best.share):
            best = one
    return best


def other_rows(rows: list[Row], options: list[Candidate], table: Columns) -> Explained | None:
    """Return the formula of targets with the next value of another row of the batch, or None.

    Then the bootstraps of a batch, in ascending order, are the discounted next values of its running transitions.
    """
    bootstrap = table.target - table.reward
    pairs = np.array([row.pair for row in rows])
    batches = [batch for pair in np.unique(pairs) if len(batch := np.flatnonzero(pairs == pair)) >= LEAST_BATCH]
    for name, key, n, values in options:
        if name != LARGEST:
            continue
        discounts, misplaced = [], 0
        for batch in batches:
            limit = EXACT * (np.abs(bootstrap[batch]).max() + 1e-9)
            found = np.sort(bootstrap[batch][np.abs(bootstrap[batch]) > limit])
            wanted = np.sort(values[batch][~table.terminated[batch] & np.isfinite(values[batch])])
            if len(found) != len(wanted) or len(wanted) < LEAST_BATCH // 2:
                continue
            discount = float(wanted @ found / (wanted @ wanted))
            if np.abs(found - discount * wanted).max() < limit:
                discounts.append(discount)
                misplaced += int((np.abs(bootstrap[batch] - discount * np.nan_to_num(values[batch])) > limit).sum())
        if len(discounts) > 0.8 * len(batches) and misplaced > 0.1 * len(rows):
            none = np.zeros(len(rows), bool)
            return Explained(OTHER_ROW, key, int(np.nanmedian(n)), float(np.median(discounts)), none, none, 1.0)
    return None


def _paid(log: Any, first: Array, n: Array) -> Array:
    """Return the rewards (K, N) of up to n (N,) time steps from ``first`` on, 0 after the end of the episode."""
    reward = np.array([one.reward for one in log.steps] + [0.0])
    continues = np.array([not (one.terminated or one.truncated) for one in log.steps] + [False])
    paid, alive = np.zeros((int(n.max()), len(first))), np.ones(len(first), bool)
    for k in range(len(paid)):
        step = np.minimum(first + k, len(log.steps))
        alive &= k < n
        paid[k, alive] = reward[step[alive]]
        alive &= continues[step]
    return paid


def ends_within(log: Any, table: Columns, n: int) -> Columns:
    """Return the table whose flags tell how the episode ends within n steps."""
    if n == 1:
        return table
    kinds = []
    for first in table.step:
        ends = [one for one in log.steps[first : first + n] if one.terminated or one.truncated][:1]
        kinds.append("terminated" if ends and ends[0].terminated else "truncated" if ends else "")
    kind = np.array(kinds)
    return replace(table, terminated=kind == "terminated", truncated=kind == "truncated", running=kind == "")


def formula_of(log: Any, rows: list[Row], table: Columns) -> tuple[Explained | None, str]:
    """Return the formula of the targets, or None, and how they change the rewards, or ""."""
    options = candidates(rows, table)
    if (known := explain(log, options, table)) is not None:
        return known, ""
    if (known := other_rows(rows, options, table)) is not None:
        return known, ""
    ways = (*_changed_rewards(table), *_scaled_rewards(options, table), *_named_rewards(rows))
    tried = ((explain(log, options, table, shift), words) for words, shift in ways)
    return next(((one, words) for one, words in tried if one is not None), (None, ""))


def _changed_rewards(table: Columns) -> Iterator[tuple[str, Array]]:
    """Yield ways in which a program may change rewards, and the changed rewards (N,)."""
    reward, ended = table.reward, table.terminated | table.truncated
    for rounded in (np.trunc(reward), np.floor(reward), np.round(reward)):
        if (rounded != reward).any():
            yield ROUNDED, rounded
    yield "their signs", np.sign(reward)
    yield "limited to [-1, 1]", np.clip(reward, -1, 1)
    for factor in (0.1, 0.01, 0.001, 10.0, 100.0, 0.0):
        yield f"multiplied by {factor:g}", factor * reward
    for what, rows in (("ended", ended), ("terminated", table.terminated)):
        values = np.round(table.target[rows], 4)
        if len(values) > 4 and len(set(values.tolist())) == 1:
            yield f"{values[0] + 0.0:g} where the episode {what}", np.where(rows, values[0], reward)


def _named_rewards(rows: list[Row]) -> Iterator[tuple[str, Array]]:
    """Yield the program's own variables for the reward (N,)."""
    for name in dict.fromkeys(name for row in rows for name in row.rewards):
        column = np.array([row.rewards.get(name, np.nan) for row in rows])
        if np.isfinite(column).mean() > 0.3:
            yield f"changed by the program, as `{name}` shows", column


def _scaled_rewards(options: list[Candidate], table: Columns) -> Iterator[tuple[str, Array]]:
    """Yield the factors of the reward that fit the targets of running transitions, and the scaled rewards (N,)."""
    for name, _, _, values in options:
        usable = table.running & np.isfinite(values) & np.isfinite(table.target)
        if not name.startswith(("the largest Q(next_obs", "Q(next_obs, a) of the action that is best")):
            continue
        if usable.sum() < FEWEST_ROWS:
            continue
        columns = np.column_stack([table.reward, values, np.ones(len(values))])[usable]
        scale, _, offset = np.linalg.lstsq(columns, table.target[usable], rcond=None)[0]
        left = np.abs(columns @ [scale, _, offset] - table.target[usable]).max()
        if left < EXACT * (np.abs(table.target).max() + np.nanmax(np.abs(values))):
            words = f"multiplied by {scale:.6g}" + (f", plus {offset:.4g}" if abs(offset) > 1e-4 else "")
            yield words, scale * table.reward + (offset if abs(offset) > 1e-4 else 0.0)
