"""Find the pieces of an adapter in a running program: its networks and the code that learns from a batch."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.program.pairs import Forward, Pair, Reading, read
from perilune.doctor.program.recorder import Window, keep
from perilune.doctor.program.rows import column_like
from perilune.doctor.program.sources import text
from perilune.doctor.program.state import namespaces_of, running, scope, walk
from perilune.doctor.session import as_array

DRAWS = re.compile(r"sample|choice|choices|randint|integers|randperm|permutation|draw|minibatch|get_batch")


class Missing(Exception):  # noqa: N818 -- a result, not an error
    """A piece of the adapter was not found. The message names it, and what would help."""


@dataclass(frozen=True)
class Form:
    """The type, dtype and shape in which a program passes observations, such as ``torch.float32 (n, 4)``."""

    library: str  # "torch", "numpy", "matrix" or "list"
    dtype: str
    shape: tuple[Any, ...]  # "n" stands for the number of observations

    @classmethod
    def of(cls, value: Any, states: int) -> Form:
        """Return the form of an example with this number of observations."""
        if isinstance(value, list | tuple):
            return cls("list", "float64", np.shape(value))
        shape: list[Any] = list(value.shape)
        size = int(np.prod(shape)) // states
        if len(shape) > 1 and states in (shape[0], shape[-1]):
            front = shape[0] == states and (states > 1 or int(np.prod(shape[1:])) == size)
            shape[0 if front else -1] = "n"
        dtype = str(value.dtype).removeprefix("torch.")
        library = "matrix" if isinstance(value, np.matrix) else "numpy" if isinstance(value, np.ndarray) else "torch"
        return cls(library, dtype, tuple(shape))

    def __str__(self) -> str:
        shape = ", ".join(str(one) for one in self.shape)
        return f"{self.library} {self.dtype} ({shape})"

    @classmethod
    def parse(cls, text: str) -> Form:
        """Return the form that ``str`` describes."""
        library, dtype, shape = text.split(" ", 2)
        sizes = [one.strip() for one in shape.strip("()").split(",") if one.strip()]
        return cls(library, dtype, tuple(one if one == "n" else int(one) for one in sizes))

    @property
    def single(self) -> bool:
        """Whether it holds one observation."""
        return "n" not in self.shape

    def rows(self, value: Any, states: int) -> Array:
        """Return the observations (N, O) in a value of this form."""
        array = as_array(value).astype(np.float64)
        turned = self.shape[-1:] == ("n",) and self.shape[:1] != ("n",)
        return (array.T if turned else array).reshape(states, -1)

    def make(self, obs: Array) -> Any:
        """Return observations (N, O) in this form."""
        shape = [2 if one == "n" else one for one in self.shape]
        if self.library == "list":
            return obs.reshape(shape if self.single else (len(obs), -1)).astype(np.float64).tolist()
        example: Any = np.zeros(shape, "float32" if self.library == "torch" else self.dtype)
        if self.library == "torch":
            import torch  # noqa: PLC0415 -- the user's program imports it

            example = torch.zeros(shape, dtype=getattr(torch, self.dtype))
        elif self.library == "matrix":
            example = np.matrix(example)
        if self.single:
            array = obs.reshape(shape)
            return array.astype(self.dtype) if self.library != "torch" else example.new_tensor(array)
        return column_like(example, obs, 2)


@dataclass
class Query:
    """How to ask for Q-values.

    Attributes:
        call: An expression that contains ``obs``.
        form: The form of ``obs``.
        obs: Observations whose values are known (n, O).
        q: Their values (n, A).
    """

    call: str
    form: Form
    obs: Array
    q: Array


@dataclass
class Learn:
    """The code that learns from a batch.

    Attributes:
        name: Name of the function, or of the function whose block of statements it is ("" for the module).
        file: Its file.
        calls: For a function, the number of the call that first learns; for a block, the number of time steps before.
        lines: First and last line of the block, or None for a function.
    """

    name: str
    file: str
    calls: int
    lines: tuple[int, int] | None = None


class Finder:
    """Reads the windows of a program until its first update."""

    def __init__(self) -> None:
        self.reading: Reading | None = None
        self.window_step = 0
        self.scope: dict[str, Any] = {}  # variables by name before the update
        self._next: dict[str, Any] = {}
        self._largest = 0

    def window(self, trace: Any, window: Window) -> bool:
        """Read a window. Return whether the program learned in it."""
        if trace.log is None:
            return False
        namespaces = namespaces_of(trace)
        frames = running(namespaces)
        self.scope, self._next = self._next, scope(namespaces, [dict(frame.f_locals) for frame in frames])
        if len(window.values) <= 1.05 * self._largest:  # an update computes more than acting does
            return False
        self._largest = len(window.values)
        reading = read(trace, window)
        if reading.pairs:
            self.reading, self.window_step = reading, window.step
        return bool(reading.pairs)

    @property
    def pair(self) -> Pair:
        """The first comparison of predictions with targets."""
        assert self.reading is not None
        return self.reading.pairs[0]

    def learners(self, trace: Any) -> list[Learn]:
        """Return the code that may learn from a batch: functions, the outermost first, or a block of statements."""
        assert self.reading is not None
        first = self.pair.place
        found: list[tuple[int, Learn]] = []
        spans = _spans(trace.nodes, self.reading.values)
        for start, end in spans:
            if start < first < end:
                node = self.reading.values[start].node
                later = sum(value.node == node for value in self.reading.values[start + 1 :] if value.kind == "enter")
                one = trace.nodes[node]
                found.append((start, Learn(one.text, one.file, trace.recorder.calls[node] - later)))
        learners = [learn for _, learn in sorted(found, key=lambda one: one[0])]
        if (block := self._block(trace)) is not None:
            learners.append(block)
        return learners

    def _block(self, trace: Any) -> Learn | None:
        """Return the smallest block of the running function that draws a batch and learns from it."""
        assert self.reading is not None
        values, nodes = self.reading.values, trace.nodes
        inside = [end for start, end in _spans(nodes, values) if start < self.pair.place < end]
        place = inside[0] + 1 if inside else self.pair.place
        node = next((nodes[one.node] for one in values[place:] if one.kind == "value"), None)
        body = _function(parsed(trace, node.file), node.function) if node else None
        block = _smallest(body, node.line) if node and body else None
        if node is None or block is None:
            return None
        end = block[-1].end_lineno or block[-1].lineno
        return Learn(node.function, node.file, self.window_step, (block[0].lineno, end))

    def query(self, trace: Any, forward: Forward) -> Query:
        """Return how to ask for the Q-values of a network.

        Raises:
            Missing: The network or its arguments are not reachable from the program's variables.
        """
        assert self.reading is not None
        if isinstance(forward.key, int):
            candidates = [one for one in self.reading.values[: forward.place + 1] if one.key == forward.key]
            value = next((one for one in candidates[::-1] if one.kind == "forward"), None)
            if value is None:
                raise Missing("the network is written inside the update, so Q(obs, a) of other states is not known")
            if not forward.exact:
                raise Missing(f"the network receives values other than the observations ({forward.line})")
            path = self._path(forward.key)
            form = Form.of(np.asarray(value.more), len(forward.states))
            form = Form("torch", str(value.more.dtype), form.shape)
            return Query(f"{path}(obs)", form, form.rows(value.more, len(forward.states)), forward.q)
        name, _ = forward.key
        values, nodes = self.reading.values, trace.nodes
        spans = sorted(_spans(nodes, values), key=lambda one: -one[0])
        around = [start for start, end in spans if start < forward.place <= end]  # the innermost first
        before = [start for start, end in spans if end <= forward.place and nodes[values[start].node].text == name]
        for start in [*around, *before[:1]]:
            if any(self._states(value, forward) is not None for value in values[start].more):
                return self._call(trace, forward, values[start])
        raise Missing(f"no argument of {name}() contains the observations as they are")

    def _states(self, value: Any, forward: Forward) -> Array | None:
        """Return the numbers of the states in an argument, if they are those of ``forward``."""
        assert self.reading is not None
        if isinstance(value, list | tuple):
            try:
                value = np.array(value, np.float64)
            except (TypeError, ValueError):  # not numbers, or not all of the same length
                return None
        elif not hasattr(value, "shape"):
            return None
        kept = keep(value)
        numbers = self.reading.known(kept[0]) if kept is not None and kept[0].dtype.kind in "fi" else None
        return numbers if numbers is not None and np.array_equal(numbers, forward.states) else None

    def _call(self, trace: Any, forward: Forward, entered: Any) -> Query:
        parameters = trace.functions[entered.node].parameters
        form, obs, texts = None, np.zeros(0), []
        name = trace.nodes[entered.node].text
        *_, short = name.split(".")
        arguments = dict(zip(parameters, entered.more, strict=True))
        first = next(iter(arguments.values()), None)
        method = hasattr(first, short) and hasattr(first, "__dict__")
        called = short
        if method:
            called = f"{self._path(id(first))}.{short}"
            if short in ("forward", "__call__") and callable(first):
                called = self._path(id(first))
            arguments.pop(parameters[0])
        elif short not in self.scope:
            raise Missing(f"the function {short}() is not reachable from the program's variables")
        for parameter, value in arguments.items():
            numbers = self._states(value, forward) if form is None else None
            if numbers is not None:
                form = Form.of(value, len(numbers))
                obs = form.rows(value, len(numbers))
                texts.append(f"{parameter}=obs")
            elif value is None or isinstance(value, bool | int | float | str):
                texts.append(f"{parameter}={value!r}")
            elif value not in ((), {}) if isinstance(value, tuple | dict) else True:
                texts.append(f"{parameter}={self._path(id(value))}")
        if form is None:
            raise Missing(f"no argument of {name}() contains the observations as they are")
        return Query(f"{called}({', '.join(texts)})", form, obs, forward.q)

    def _path(self, wanted: int) -> str:
        """Return an expression that finds the object with this ``id`` in the program's variables."""
        path = next((path for path, value in walk(self.scope) if id(value) == wanted), None)
        if path is None:
            raise Missing("the network is not reachable from variables of the program that exist when it learns")
        return path

    def target(self) -> Forward | None:
        """Return the forward pass of the target network, if another network than the online one was used."""
        assert self.reading is not None
        online = self.pair.forward
        for one in self.reading.forwards[::-1]:
            if one.place < self.pair.place and _differ(one.key, online.key):
                return one
        return None


def _differ(one: Any, other: Any) -> bool:
    """Return whether two keys of forward passes are those of different networks."""
    if isinstance(one, int) or isinstance(other, int):
        return isinstance(one, int) and isinstance(other, int) and one != other
    owners = [key[1] if isinstance(key[1], tuple) else (key[1],) for key in (one, other)]
    return one[0] != other[0] or (None not in owners[0] + owners[1] and owners[0] != owners[1])


def _spans(nodes: Any, values: Any) -> list[tuple[int, int]]:
    """Return the calls in a window: the indices of their "enter" and "leave" values, the outermost first."""
    open_: list[int] = []
    found: list[tuple[int, int]] = []
    for place, value in enumerate(values):
        if value.kind == "enter":
            open_.append(place)
        elif value.kind == "leave":
            name = nodes[value.node].text
            while open_:
                start = open_.pop()
                if nodes[values[start].node].text == name:
                    found.append((start, place))
                    break
    return sorted(found)


def parsed(trace: Any, file: str) -> ast.Module:
    """Return the syntax tree of a file of the program, or of all cells of a notebook."""
    sources = [unit.source for unit in trace.program.units if unit.file == file] or [text(Path(file))]
    return ast.Module([statement for source in sources for statement in ast.parse(source).body], [])


def _function(tree: ast.Module, name: str) -> list[ast.stmt] | None:
    """Return the statements of the function with this dotted name, or of the module for ""."""
    body: list[ast.stmt] = tree.body
    for part in name.split(".") if name else []:
        one = next(
            (
                node
                for statement in body
                for node in ast.walk(statement)
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part
            ),
            None,
        )
        if one is None:
            return None
        body = one.body
    return body


def _smallest(body: list[ast.stmt], line: int) -> list[ast.stmt] | None:
    """Return the smallest block around a line that also draws a batch, up to the next time step."""
    for statement in body:
        if statement.lineno <= line <= (statement.end_lineno or statement.lineno):
            for name in ("body", "orelse", "finalbody"):
                inner = _smallest(getattr(statement, name, None) or [], line)
                if inner is not None:
                    return inner
            index = body.index(statement)
            rest = body[: index + 1]
            draws = [place for place, one in enumerate(rest) if _draws(one)]
            following = list(takewhile(lambda one: not _steps([one]), body[index + 1 :]))
            return rest[draws[-1] :] + following if draws and not _steps(rest[draws[-1] :]) else None
    return None


def _draws(statement: ast.stmt) -> bool:
    for node in ast.walk(statement):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if DRAWS.search(name) and "action_space" not in ast.unparse(node.func):
                return True
    return False


def _steps(statements: list[ast.stmt]) -> bool:
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("step", "reset")
        and "env" in ast.unparse(node.func.value)
        for statement in statements
        for node in ast.walk(statement)
    )
