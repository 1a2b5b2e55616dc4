"""Find the network outputs, the predictions and the targets in what a program computes between two time steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.program.recorder import Value, Window
from perilune.doctor.program.tracer import Log

CLOSE = 2e-5  # largest difference between equal values, relative to their size
MOST_ROWS = 4096
PRODUCT = re.compile(r"@|\b(dot|matmul|einsum|mm|addmm)\(")
TURNED = re.compile(r"\.T\b *(@|,|\.dot)|transpose\(")  # the product of a backward pass, such as h.T @ delta


@dataclass
class Forward:
    """Q-values that the program computed for known states.

    Attributes:
        place: Index of the value in the window.
        key: The network, or the function that computed them.
        states: Numbers of the states (n,), -1 for rows that are not an observation.
        q: Q-values (n, A).
        grad: Whether the output requires a gradient.
        exact: Whether the input is known, and not only the rows that the program handled before.
        line: ``file:line`` of the code.
        entry: Index of the value whose gradient is recorded, or -1.
    """

    place: int
    key: Any
    states: Array
    q: Array
    grad: bool
    exact: bool
    line: str
    entry: int = -1


@dataclass
class Pair:
    """A prediction and its target, which the program compares.

    Attributes:
        forward: The network output that contains the prediction.
        chosen: Indices of the predicted actions (n,), or -1 for all actions of a row.
        prediction: The predictions (n,) or (n, A).
        target: The targets of the same shape.
        shapes: Shapes of prediction and target in the program.
        grad: Whether the target requires a gradient.
        place: Index of the comparison in the window.
        line: ``file:line`` of the comparison.
        target_place: Index of the target in the window, or -1.
    """

    forward: Forward
    chosen: Array
    prediction: Array
    target: Array
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    grad: bool
    place: int
    line: str
    target_place: int


def same(one: Array, other: Array) -> bool:
    """Return whether two arrays are equal within the precision of float32."""
    if one.shape != other.shape:
        return False
    size = np.abs(other).max(initial=0) + 1e-6
    return bool(np.abs(one - other).max(initial=0) <= CLOSE * size)


class Reading:
    """Reads the values of one window in order."""

    def __init__(self, nodes: Any, log: Log, window: Window) -> None:
        self.nodes, self.log, self.values = nodes, log, window.values
        self.forwards: list[Forward] = []
        self.pairs: list[Pair] = []
        self.gradients: dict[int, Array] = {}  # entry of a forward pass -> gradient of its output
        self._latest: dict[int, int] = {}  # node -> index of its latest value
        self._states: dict[int, Array] = {}  # number of rows -> numbers of the latest known states
        self._rows_seen: dict[int, list[tuple[Array, Array]]] = {}  # number of rows -> known states and their rows
        self._known: dict[tuple[tuple[int, ...], str, bytes], Array | None] = {}  # rows -> their states
        self._entered: list[tuple[int, int]] = []  # function -> index of its "enter" value
        for place, value in enumerate(self.values):
            self._read(place, value)

    def line(self, place: int) -> str:
        """Return ``file:line`` of the value with this index."""
        value = self.values[place]
        if value.node < 0:
            return value.line
        node = self.nodes[value.node]
        return f"{node.file}:{node.line}"

    def _read(self, place: int, value: Value) -> None:
        match value.kind:
            case "value":
                self._latest[value.node] = place
                self._rows(value)
                self._product(place, value)
                self._difference(place, value)
            case "parameter":
                self._rows(value)
            case "enter":
                self._entered.append((value.node, place))
            case "leave":
                self._leave(place, value)
            case "forward":
                self._forward(place, value.array, value.more, value.key, value.grad, value.line)
            case "gradient" if value.array is not None:
                self.gradients[value.key] = value.array
            case "loss":
                target, grad, _ = value.more
                if value.array is not None and not self._pair(place, value.array, target, grad, -1, value.line):
                    self._pair(place, target, value.array, value.grad, -1, value.line)  # in the other order

    def _rows(self, value: Value) -> None:
        """Remember the known states of an array."""
        array = value.array
        if array is None or array.ndim == 0 or array.dtype.kind not in "fi":
            return
        numbers = self.known(array)
        if numbers is not None:
            self._states[len(numbers)] = numbers
            seen = self._rows_seen.setdefault(len(numbers), [])
            if not any(np.array_equal(one, numbers) for one, _ in seen[-8:]):
                seen.append((numbers, array.reshape(len(numbers), -1) if array.shape[-1] == self.log.size else array.T))

    def known(self, array: Array, integers: bool = False) -> Array | None:
        """Return the numbers (n,) of the states whose observations are the rows of an array, or None.

        With ``integers``, an array of whole numbers contains discrete observations.
        """
        self.log.learn_size(array)
        size = self.log.size
        if integers and self.log.discrete and array.dtype.kind == "i" and array.ndim <= 1:
            return self.log.states(array.reshape(-1, 1))
        if array.ndim == 0 or array.size % size or array.size > MOST_ROWS * size:
            return None
        if array.shape[-1] == size:
            rows = array.reshape(-1, size)
        elif array.ndim == 2 and array.shape[0] == size:
            rows = array.T
        elif array.ndim in (2, 3) and array.size == size:
            rows = array.reshape(1, size)
        else:
            return None
        if rows.dtype == np.float64 and not self.log.changes and (rows[0] != rows[0].astype(np.float32)).any():
            return None  # such as weights; observations are float32
        key = rows.shape, rows.dtype.char, rows.tobytes()
        if key not in self._known:  # programs use the same array in several expressions
            numbers = self.log.states(rows)
            self._known[key] = numbers if np.count_nonzero(numbers >= 0) > 0.3 * len(numbers) else None
        return self._known[key]

    def _leave(self, place: int, value: Value) -> None:
        """Recognize a function of the program that maps observations to Q-values."""
        name = self.nodes[value.node].text
        while self._entered:
            number, start = self._entered.pop()
            if self.nodes[number].text == name:
                break
        else:
            return
        if value.array is None:
            return
        arguments = self.values[start].more
        owners = self._owners(arguments)
        owner: Any = owners[0] if len(owners) == 1 else owners or None
        for other in self.values[start + 1 :]:
            if other.kind != "parameter":
                break
            if other.array is not None and other.array.dtype.kind in "fi":
                self._forward(place, value.array, other.array, (name, owner), value.grad, self.line(place), loose=False)

    def _owners(self, arguments: tuple[Any, ...]) -> tuple[int, ...]:
        """Return the ``id`` of the object whose method is called, or of the weights that a function receives."""
        first = next(iter(arguments), None)
        if hasattr(first, "__dict__") and not isinstance(first, np.ndarray):
            return (id(first),)
        lists = [one for one in arguments if isinstance(one, list | dict)]
        arrays = [one for one in arguments if isinstance(one, np.ndarray) and one.dtype.kind == "f" and one.ndim]
        weights = [one for one in arrays if self.known(one) is None]
        matrix = len(weights) == 1 < len(arrays) and weights[0].ndim == 2  # the other array is the input
        return tuple(id(one) for one in (*lists, *(weights if len(weights) > 1 or matrix else [])))

    def _forward(
        self, place: int, output: Array | None, given: Array, key: Any, grad: bool, line: str, loose: bool = True
    ) -> None:
        if output is None or output.dtype.kind != "f" or output.ndim == 0:
            return
        numbers, exact = self.known(np.asarray(given), integers=True), True
        if numbers is None and loose and np.ndim(given) >= 1:
            exact = False
            numbers = self._scaled(np.asarray(given))
        if numbers is None or output.size != len(numbers) * self.log.actions:
            return
        turned = output.ndim == 2 and output.shape[0] == self.log.actions != output.shape[1]
        q = (output.T if turned else output.reshape(-1, self.log.actions)).astype(np.float64)
        if self.forwards and not loose and self._wraps(key, numbers, q):
            self.forwards[-1].place = place
            return
        last = self.forwards[-1] if self.forwards else None
        if (
            last is not None
            and loose
            and isinstance(last.key, tuple)
            and np.array_equal(last.states, numbers)
            and same(last.q, q)
        ):
            last.place, last.key, last.entry = place, key, place  # the module of a method forward
            return
        self.forwards.append(Forward(place, key, numbers, q, grad, exact, line, place if loose else -1))

    def _product(self, place: int, value: Value) -> None:
        """Recognize the output layer of a network that no function returns: a matrix product with A columns."""
        node, array, actions = self.nodes[value.node], value.array, self.log.actions
        if array is None or array.dtype.kind != "f" or array.ndim == 0 or array.size % actions:
            return
        if node.operator not in ("Add", "MatMult", "Call") or not PRODUCT.search(node.text):
            return
        numbers = self._states.get(array.size // actions)
        if numbers is None or (array.shape[-1] == actions and TURNED.search(node.text)):
            return
        if array.shape[-1] != actions and array.shape[0] != actions:
            return
        q = (array if array.shape[-1] == actions else array.T).reshape(-1, actions).astype(np.float64)
        key: Any = value.node
        if self._entered:
            number, start = self._entered[-1]
            key = self.nodes[number].text, self._owners(self.values[start].more)
        if self.forwards and np.array_equal(self.forwards[-1].states, numbers) and same(self.forwards[-1].q, q):
            return
        self.forwards.append(Forward(place, key, numbers, q, value.grad, False, self.line(place)))

    def _scaled(self, given: Array) -> Array | None:
        """Return the numbers (n,) of the states whose scaled observations are in an array, or None."""
        rows = len(given) if given.ndim > 1 else 1
        if rows < 4 or given.size != rows * self.log.size:
            return self._states.get(rows)
        columns = given.reshape(rows, -1).astype(np.float64)
        columns = columns - columns.mean(axis=0)
        for numbers, array in reversed(self._rows_seen.get(rows, [])):
            known = array - array.mean(axis=0)
            product = np.abs((columns * known).sum(axis=0))
            if (product > 0.999 * np.sqrt((columns**2).sum(axis=0) * (known**2).sum(axis=0)) - 1e-12).all():
                return numbers
        return None

    def _wraps(self, key: Any, numbers: Array, q: Array) -> bool:
        """Return whether a function returns what the network, or another function that it called, returned."""
        last = self.forwards[-1]
        equal = isinstance(last.key, tuple) and last.key[0] == key[0] and last.key != key  # two equal networks
        return not equal and np.array_equal(last.states, numbers) and same(last.q, q)

    def _difference(self, place: int, value: Value) -> None:
        """Recognize a comparison of a prediction with a target: a subtraction."""
        node = self.nodes[value.node]
        if node.operator not in ("Sub", "Call") or not self.forwards:
            return
        if node.operator == "Call" and not node.text.startswith(("np.subtract(", "torch.sub(")):
            return
        places = [self._latest.get(child, -1) for child in node.children]
        if len(places) != 2 or min(places) < 0:
            return
        one, other = (self.values[index] for index in places)
        if one.array is None or other.array is None:
            return
        line = f"{node.file}:{node.line}"
        self._pair(place, one.array, other.array, other.grad, places[1], line) or self._pair(
            place, other.array, one.array, one.grad, places[0], line
        )

    def _pair(
        self, place: int, prediction: Array | None, target: Array, grad: bool, target_place: int, line: str
    ) -> bool:
        if prediction is None or prediction.dtype.kind != "f" or target.dtype.kind != "f":
            return False
        found = self._predicted(prediction)
        if found is None:
            return False
        forward, chosen, values = found
        shapes = (prediction.shape, target.shape)
        actions = self.log.actions
        if target.size == values.size:
            if (
                values.ndim == 2
                and target.ndim == 2
                and target.shape != values.shape
                and target.T.shape == values.shape
            ):
                target = target.T
            goal = target.reshape(values.shape).astype(np.float64)
        elif values.ndim == 2 and target.size == len(values):  # broadcast over the actions
            goal = np.repeat(target.reshape(-1, 1), actions, axis=1).astype(np.float64)
        elif values.ndim == 1 and target.ndim == 0:
            goal = np.full(values.shape, float(target))
        else:
            return False
        if self._predicted(target) is not None and values.ndim == 1:
            return False  # two network outputs
        if values.ndim == 2 and same(values, goal):
            return False
        self.pairs.append(Pair(forward, chosen, values, goal, shapes, grad, place, line, target_place))
        return True

    def _predicted(self, array: Array) -> tuple[Forward, Array, Array] | None:
        """Return the forward pass whose outputs are in ``array``, the actions (n,), and the values, or None."""
        size = array.size
        for forward in self.forwards[::-1]:
            rows, actions = forward.q.shape
            if size == rows * actions and not (rows == 1 and size == 1):
                for turned in (array, array.T):
                    if turned.size == size and same(turned.reshape(-1).astype(np.float64), forward.q.reshape(-1)):
                        return forward, np.full(rows, -1), forward.q
            if size == rows:
                values = array.reshape(-1).astype(np.float64)
                distance = np.abs(forward.q - values[:, None])
                limit = CLOSE * (np.abs(forward.q).max() + 1e-6)
                if (distance.min(axis=1) <= limit).all():
                    return forward, distance.argmin(axis=1), values
        return self._collected(array)

    def _collected(self, array: Array) -> tuple[Forward, Array, Array] | None:
        """Return the outputs (n,) or (n, A) that the program collected from n passes of one state each, or None."""
        single = [one for one in self.forwards if len(one.states) == 1]
        actions = self.log.actions
        rows = array.size // actions if array.ndim > 1 and array.shape[-1] == actions else array.size
        if not 1 < rows <= len(single):
            return None
        outputs = np.concatenate([one.q for one in single])
        values = array.reshape(rows, -1).astype(np.float64)
        limit = CLOSE * (np.abs(outputs).max() + 1e-6)
        if values.shape[1] == actions:
            distance = np.abs(values[:, None] - outputs).max(axis=2)
            chosen = np.full(rows, -1)
        else:
            each = np.abs(values[:, :, None] - outputs)
            distance = each.min(axis=2)
            chosen = each[np.arange(rows), distance.argmin(axis=1)].argmin(axis=1)
        if (distance.min(axis=1) > limit).any():
            return None
        found = distance.argmin(axis=1)
        keys = [single[place].key for place in found]
        forward = Forward(
            max(single[place].place for place in found),
            max(set(keys), key=keys.count),
            np.array([single[place].states[0] for place in found]),
            outputs[found],
            any(single[place].grad for place in found),
            exact=True,
            line=single[found[0]].line,
        )
        return forward, chosen, values[:, 0] if chosen[0] >= 0 else forward.q

    def reached(self, forward: Forward) -> bool:
        """Return whether a gradient of the loss with respect to the output of a forward pass was recorded."""
        gradient = self.gradients.get(forward.entry)
        return gradient is not None and bool(gradient.any())

    def flows(self, pair: Pair) -> bool:
        """Return whether a tape of TensorFlow passed a gradient to outputs of the network for other states."""
        states = set(pair.forward.states.tolist())
        return any(
            one.key == pair.forward.key
            and not one.grad
            and self.reached(one)
            and not states.issuperset(one.states.tolist())
            for one in forwards_before(self, pair.place)
        )

    def origin(self, pair: Pair) -> str:
        """Return ``file:line`` of the operation that first computed the target of a pair, or most of its rows alone."""
        wanted = pair.target
        if wanted.ndim == 2:
            rows = np.arange(len(wanted))
            wanted = wanted[rows, np.abs(wanted - pair.prediction).argmax(axis=1)]
        ordered = np.sort(wanted)
        limit = CLOSE * (np.abs(wanted).max(initial=0) + 1e-6)
        alone: dict[str, set[int]] = {}  # line -> rows whose targets it computes
        for place, value in enumerate(self.values[: pair.place]):
            array, node = value.array, self.nodes[value.node]
            if value.kind != "value" or array is None or array.dtype.kind != "f":
                continue
            if node.operator not in ("Add", "Sub", "Mult") and node.kind != "variable":
                continue
            if array.size == ordered.size and same(np.sort(array.reshape(-1).astype(np.float64)), ordered):
                return self.line(place)
            if array.size == 1:
                rows = np.flatnonzero(np.abs(wanted - float(array.reshape(()))) <= limit)
                alone.setdefault(self.line(place), set()).update(rows.tolist())
        line = max(alone, key=lambda one: len(alone[one]), default="")
        if line and alone[line]:
            return line
        return self.line(pair.target_place) if pair.target_place >= 0 else ""


def read(trace: Any, window: Window) -> Reading:
    """Return the reading of a window. It is made once."""
    if window.reading is None:
        window.reading = Reading(trace.nodes, trace.log, window)
    reading: Reading = window.reading
    return reading


def network(key: Any) -> Any:
    """Return the key of a network, the same for a function and for a product in it."""
    alone = isinstance(key, tuple) and isinstance(key[1], tuple) and len(key[1]) == 1
    return (key[0], key[1][0]) if alone else key


def latest_rewards(reading: Reading, before: int, rows: int) -> Array | None:
    """Return the indices (n,) of the time steps whose rewards the program handled last before ``before``, or None."""
    for value in reversed(reading.values[:before]):
        array = value.array
        if (
            value.kind in ("value", "parameter")
            and array is not None
            and array.size == rows
            and array.dtype.kind == "f"
        ):
            found = reading.log.by_reward(array.reshape(-1).astype(np.float64))
            if (found >= 0).mean() > 0.9:
                return found
    return _one_by_one(reading, before, rows)


def _one_by_one(reading: Reading, before: int, rows: int) -> Array | None:
    """Return the time steps (n,) whose rewards the program handled last, each alone, in their order, or None."""
    alone = [
        float(value.array)
        for value in reading.values[:before]
        if value.kind in ("value", "parameter") and value.array is not None and value.array.size == 1
        if value.array.dtype.kind == "f" and value.array.ndim == 0
    ]
    found = reading.log.by_reward(np.array(alone)) if alone else np.zeros(0, int)
    found = found[found >= 0]
    found = found[np.append(found[1:] != found[:-1], True)] if len(found) else found
    return found[-rows:] if len(found) >= rows else None


def forwards_before(reading: Reading, place: int) -> Iterator[Forward]:
    """Yield the forward passes before a place in the window, the latest first."""
    yield from (one for one in reversed(reading.forwards) if one.place < place)
