"""Read off what updates change: the weights of the online network, and when and how the target network follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.program.keras_hooks import is_model
from perilune.doctor.program.observed import likely, observed
from perilune.doctor.program.pairs import forwards_before, network, read
from perilune.doctor.program.recorder import Value, Window
from perilune.doctor.program.waiting import Waiting
from perilune.doctor.report import Finding, NotRun, Passed
from perilune.doctor.weights import walk

CHECK = "target network"
ENOUGH = 150  # updates
FEWEST = 25  # updates from which on a share is judged
PATIENCE = 2000  # updates without a change of the target network that are worth a note
LARGEST = 2_000_000  # weights of a network
CLOSE = 1e-6  # largest relative difference between equal weights

Weights = dict[str, Array]


class Pair(NamedTuple):
    """The keys of the networks of an update."""

    online: Any
    target: Any


@dataclass
class Moves:
    """How the weights of two networks change, from one window with an update to the next.

    Attributes:
        updates: Windows in which the online network changed.
        single: Of these, windows with one batch.
        equal: Windows with one batch after which both networks were equal.
        synced: Windows after which an array of the target network had changed, by array.
        lagging: Windows after which an unchanged array of the target network differed from the online one, by array.
        moved: Windows in which the target network changed.
        reverted: Windows in which the online network became what the target network was.
        shared: Windows after which both networks used the same memory.
        fractions: How far the target network moved toward the online one, where it moved in a straight line.
        averaged: Windows with an average of both networks' weights, which the target network did not receive.
        average_line: Where the program computes an average of both networks' weights.
        loads: Windows in which the target network loaded weights that did not change it.
        line: Where the program loads weights.
    """

    updates: int = 0
    single: int = 0
    equal: int = 0
    synced: Counter[str] = field(default_factory=Counter)
    lagging: Counter[str] = field(default_factory=Counter)
    moved: int = 0
    reverted: int = 0
    shared: int = 0
    fractions: list[float] = field(default_factory=list)
    averaged: int = 0
    average_line: str = ""
    loads: int = 0
    line: str = ""


class Syncing:
    """Reads how weights change."""

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting
        self.moves = Moves()
        self.pairs: Counter[Pair] = Counter()
        self.alone = 0  # updates that asked one network only
        self.windows = 0
        self.unchanged = 0  # updates that did not change the online network
        self.stale: list[bool] = []  # for each update: whether gradients of the previous one were left
        self.backwards = 0  # windows with gradients
        self.steps = 0  # windows with optimizer steps
        self.taught: list[bool] = []  # for each optimizer step: whether a parameter had a gradient
        self.gradient_line = ""
        self.loss_line = ""
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._activations: set[str] = set()
        self._owners: dict[Any, Any] = {}
        self._names: dict[str, Any] = {}  # latest owner of a role that is rebound at each sync
        self._before: tuple[Any, Any, Weights, Weights] | None = None
        self._latest: Pair | None = None

    @property
    def done(self) -> bool:
        """Whether enough updates were read."""
        return self.windows >= ENOUGH

    def window(self, trace: Any, window: Window) -> None:
        """Read the values of a window."""
        if trace.log is None:
            return
        batches = self._roles(trace, window) if window.values and trace.recorder.on else 0
        for value in window.values:
            if value.kind == "gradient":
                self.gradient_line = value.line or self.gradient_line
                if value.more is not None:
                    self.stale.append(value.more)
            elif value.kind == "loss":
                self.loss_line = value.line
            elif value.kind == "step":
                self.taught.append(value.more[1])
        self.backwards += any(value.kind == "gradient" for value in window.values)
        self.steps += bool(window.updates)
        if self._latest is not None:
            self._compare(trace, window, batches or window.updates)

    def findings(self, trace: Any) -> Iterator[Finding | Passed | NotRun]:
        """Return what the updates change."""
        if trace.log is None:
            return
        yield from self._gradients()
        if self._latest is None or self.moves.updates < FEWEST:
            if self._latest is None and self.alone >= FEWEST:
                yield NotRun(CHECK, "the updates use one network only")
            return
        name, evidence, line = self._fault() or ("", "", "")
        if name:
            yield observed(name, evidence, line or likely(name, trace.nodes))
        elif self.moves.moved:
            text = f"the target network changed in {self.moves.moved} of {self.moves.updates} updates"
            yield Passed(CHECK, text)
        elif missed := self.waiting.not_reached(trace):
            yield observed("target_network.sync_not_reached", *missed)
        else:
            yield NotRun(CHECK, f"the target network did not change in {self.moves.updates} updates")

    def _fault(self) -> tuple[str, str, str] | None:
        """Return the id of a fault, its evidence and its line, or None."""
        moves = self.moves
        tau = float(np.median(moves.fractions)) if len(moves.fractions) >= FEWEST else 0.0
        missing = [name for name, count in moves.lagging.items() if count >= FEWEST and not moves.synced[name]]
        fault = None
        if moves.shared > 0.25 * moves.updates and moves.shared >= FEWEST:
            evidence = (
                f"After {moves.shared} of {moves.updates} updates, both networks used the same memory, so the target "
                "network changes with the online network."
            )
            fault = "target_network.shared", evidence, ""
        elif moves.single >= FEWEST and moves.equal > 0.95 * moves.single and moves.single > 0.8 * moves.updates:
            evidence = f"After {moves.equal} of {moves.single} updates, both networks had equal weights."
            fault = "target_network.every_update", evidence, moves.line
        elif moves.reverted >= 2 and not moves.moved:
            evidence = (
                f"The online network received the weights of the target network {moves.reverted} times, and the "
                "target network never changed."
            )
            fault = "target_network.backwards", evidence, moves.line
        elif not moves.moved and moves.averaged >= 5:
            evidence = (
                f"In {moves.averaged} updates, the program computed an average of the weights of both networks, but "
                "the target network never changed."
            )
            fault = "target_network.never_synced", evidence, moves.average_line
        elif not moves.moved and moves.loads >= 2:
            evidence = f"The target network loaded weights {moves.loads} times, and did not change."
            fault = "target_network.never_synced", evidence, moves.line
        elif tau > 0.5:
            evidence = f"Each update moves the target network by {tau:.3f} of the way to the online network."
            fault = "target_network.tau_reversed", evidence, moves.average_line
        elif missing and moves.moved >= 2 and isinstance(self._latest and self._latest.target, int):
            evidence = (
                f"{moves.moved} syncs changed other arrays of the target network, but not {', '.join(missing[:4])}."
            )
            fault = "target_network.partly_synced", evidence, moves.line
        return fault

    # Roles

    def _roles(self, trace: Any, window: Window) -> int:
        """Find the two networks of an update. Return the number of batches."""
        for value in window.values:
            if value.kind == "enter" and value.more:
                self._enter(trace, value)
        reading = read(trace, window)
        self.windows += bool(reading.pairs)
        for pair in reading.pairs:
            online = network(pair.forward.key)
            states = set(pair.forward.states.tolist())
            others = {
                network(one.key)
                for one in forwards_before(reading, pair.place)
                if network(one.key) != online and len(one.states) >= 1 and set(one.states.tolist()) != states
            }
            if len(others) == 1:
                self._latest = Pair(online, others.pop())
            else:
                self.alone += not others
        alone = all(len(pair.forward.states) == 1 for pair in reading.pairs)  # the rows of one batch, one by one
        return min(len(reading.pairs), 1) if alone else len(reading.pairs)

    def _enter(self, trace: Any, value: Value) -> None:
        """Remember what the keys of hand-written networks stand for, as ``Reading`` makes them."""
        name, arguments = trace.nodes[value.node].text, value.more
        own = arguments[:1] if hasattr(arguments[0], "__dict__") else arguments
        self._owners[name, id(arguments[0])] = arguments[0]
        containers = [one for one in own if isinstance(one, list | dict) or own is not arguments]
        self._owners[name, tuple(id(one) for one in containers)] = containers

    def _weights(self, trace: Any, key: Any) -> Weights | None:
        """Return the arrays of a network, or None if they are not known."""
        owner = trace.recorder.networks.get(key, self._owners.get(key))
        if owner is None:
            return None
        if is_model(owner):
            arrays = {f"get_weights()[{place}]": one for place, one in enumerate(owner.get_weights())}
        else:
            arrays = self._without_activations({name: one for name, one in walk(owner).items() if one.ndim >= 1})
        return arrays if arrays and sum(one.size for one in arrays.values()) <= LARGEST else None

    def _without_activations(self, arrays: Weights) -> Weights:
        """Return the arrays of a network without those that its last forward pass left: their shapes change."""
        for name, one in arrays.items():
            if self._shapes.setdefault(name, one.shape) != one.shape and name not in self._activations:
                self._activations.add(name)
                self.moves, self._before = Moves(), None  # what was compared so far was not only weights
        return {name: one for name, one in arrays.items() if name not in self._activations}

    # Changes

    def _compare(self, trace: Any, window: Window, batches: int) -> None:
        """Compare the weights with those after the previous window."""
        assert self._latest is not None
        keys = self._latest
        online, target = (self._weights(trace, key) for key in keys)
        if online is None or target is None:
            self._before = None
            return
        names = [name for name in online if name in target and online[name].shape == target[name].shape]
        if not names or len(names) != len(target) or len(names) != len(online):
            self._before = None
            return
        shared = {name for name in names if np.shares_memory(online[name], target[name])}
        now = {name: online[name].copy() for name in names}, {name: target[name].copy() for name in names}
        same = self._before is not None and self._before[0] == keys.online and self._before[2].keys() == now[0].keys()
        if self._before is not None and same:
            self._moved(window, trace, (self._before[2], self._before[3]), now, shared, batches)
        self._before = (*keys, *now)

    def _moved(
        self,
        window: Window,
        trace: Any,
        before: tuple[Weights, Weights],
        now: tuple[Weights, Weights],
        shared: set[str],
        batches: int,
    ) -> None:
        moves, (old, old_target), (new, target) = self.moves, before, now
        trained = [name for name in new if _differ(old[name], new[name])]
        if not trained:
            self.unchanged += bool(window.updates)
            return
        moves.updates += 1
        # Both networks may also keep the last observations, but these have one shape.
        moves.shared += len({new[name].shape for name in trained if name in shared}) > 1 or shared.issuperset(trained)
        single = batches == 1
        equal = not any(_differ(new[name], target[name]) for name in trained)
        moves.single += single
        moves.equal += single and equal
        changed = [name for name in trained if _differ(old_target[name], target[name])]
        moves.moved += bool(changed)
        moves.synced.update(changed)
        moves.lagging.update(
            name for name in trained if name not in changed and _differ(new[name], target[name])
        ) if changed else None
        was_equal = not any(_differ(old[name], target[name]) for name in trained)
        moves.reverted += equal and not changed and not was_equal
        if changed and single and not equal:
            moves.fractions += _fraction(new, old_target, target, trained)
        for value in window.values:
            if value.kind == "load":
                moves.line = value.line
                if self._latest is not None and value.key == self._latest.target and not changed and not equal:
                    moves.loads += 1
        if not equal:
            self._average(trace, window, new, target if not changed else old_target, bool(changed))

    def _average(self, trace: Any, window: Window, online: Weights, target: Weights, received: bool) -> None:
        """Find where the program averages the weights of both networks."""
        shapes = {one.shape: name for name, one in target.items() if one.ndim == 2}
        for value in window.values:
            if value.kind != "value" or value.array is None or value.array.shape not in shapes:
                continue
            node = trace.nodes[value.node]
            if node.operator != "Add":
                continue
            name = shapes[value.array.shape]
            way = (online[name] - target[name]).ravel().astype(np.float64)
            off = (value.array - target[name]).ravel().astype(np.float64)
            part = float(off @ way) / max(float(way @ way), 1e-30)
            if 1e-5 < part < 1 - 1e-5 and np.abs(off - part * way).max() < 1e-3 * part * np.abs(way).max():
                self.moves.averaged += not received
                self.moves.average_line = f"{node.file}:{node.line}"
                return

    # Gradients and steps

    def _gradients(self) -> Iterator[Finding]:
        """Check that gradients are set to zero and applied."""
        if len(self.stale) >= FEWEST and np.mean(self.stale[1:]) > 0.9:
            evidence = (
                f"At the start of {sum(self.stale)} of {len(self.stale)} backward passes, the weights still had the "
                "gradients of the previous update."
            )
            yield observed("backward.accumulates", evidence, self.gradient_line)
        if self.backwards >= FEWEST and not self.steps:
            evidence = f"The program computed gradients {self.backwards} times, and no optimizer took a step."
            yield observed("optimizer.no_step", evidence, self.gradient_line)
        elif len(self.taught) >= FEWEST and not any(self.taught) and not self.backwards:
            evidence = f"In {len(self.taught)} optimizer steps, no parameter had a gradient other than 0."
            yield observed("backward.detached", evidence, self.loss_line)
        elif self.steps >= FEWEST and self.unchanged >= FEWEST and not self.moves.updates:
            evidence = f"{self.unchanged} optimizer steps did not change the network that predicts Q(obs, action)."
            yield observed("optimizer.no_step" if self.backwards else "loss.no_update", evidence, self.gradient_line)


def _differ(one: Array, other: Array) -> bool:
    return bool(np.abs(one - other).max(initial=0) > CLOSE * (np.abs(other).max(initial=0) + 1e-12))


def _fraction(online: Weights, before: Weights, after: Weights, names: list[str]) -> list[float]:
    """Return how far ``after`` is on the way from ``before`` to ``online``, if it is on that way."""
    start, way, moved = (
        np.concatenate([one[name].ravel().astype(np.float64) for name in names]) for one in (before, online, after)
    )
    way, moved = way - start, moved - start
    part = float(moved @ way) / max(float(way @ way), 1e-30)
    return [part] if np.abs(moved - part * way).max() < 0.02 * np.abs(way).max() else []
