"""Record the values that an instrumented program computes between two steps of its environment."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.program.instrument import Node

LARGEST = 200_000  # entries of an array that is recorded
LARGEST_CONTAINER = 5_000  # entries of an array that is recorded because an item was assigned, as in a replay memory
LONGEST = 4096  # numbers in a list that is recorded
NUMBERS = (float, int, bool, np.float32, np.float64, np.int64, np.bool_)
MOST = 60_000  # values in one window


class Value(NamedTuple):
    """A recorded value.

    Attributes:
        node: Number of the node, or -1 if a hook recorded it.
        kind: "value", "enter", "leave", "forward" (a network maps observations to values), "loss",
            "gradient" (of an output), "clip" (of gradients), "step" (of an optimizer) or "load" (of a state dict).
        array: The value as an array, or None. Of a forward pass: the output.
        grad: Whether the value is a tensor that requires a gradient.
        more: Other values: of a forward pass, the input; of a loss, the target; the arguments of a function; of a step,
            the optimizer's class and whether a parameter has a gradient other than 0.
        key: Identifies the object: the network of a forward pass, the owner of a method.
        line: ``file:line`` of the user's code, if the node does not tell.
    """

    node: int
    kind: str
    array: Array | None
    grad: bool = False
    more: Any = None
    key: Any = None
    line: str = ""


@dataclass
class Window:
    """What a program computes from one call of ``env.step`` (or ``reset``) to the next."""

    step: int  # number of time steps before it
    values: list[Value] = field(default_factory=list)
    updates: int = 0
    rates: dict[Any, float] = field(default_factory=dict)  # optimizer -> its learning rate at the last step
    reading: Any = None  # see ``pairs.read``


class Recorder:
    """Collects values into windows. ``begin`` starts a new one."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.on = False
        self.window = Window(0)
        self.updates = 0  # optimizer steps so far
        self.stepped = False  # whether an optimizer took a step after the latest gradient
        self.networks: dict[Any, Any] = {}  # modules of PyTorch and models of Keras, by id
        self.optimizers: dict[Any, Any] = {}  # by id
        self._busy = False

    # Called by the program

    def record(self, number: int, value: Any) -> Any:
        """Record the value of an expression, and return it."""
        if self.on and not self._busy and len(self.window.values) < MOST:
            self._busy = True
            try:
                large = LARGEST_CONTAINER if self.nodes[number].operator == "Item" else LARGEST
                if (kept := keep(value, large)) is not None:
                    self.window.values.append(Value(number, "value", *kept))
            except (RuntimeError, TypeError, AttributeError):  # a tensor without values, such as one of torch.func
                pass
            finally:
                self._busy = False
        return value

    def enter(self, number: int, arguments: tuple[Any, ...]) -> None:
        """Record the arguments of a function."""
        if self.on and not self._busy and len(self.window.values) < MOST:
            self._busy = True
            try:
                self.window.values.append(Value(number, "enter", None, more=arguments))
                for value in arguments:
                    if (kept := keep(value)) is not None:
                        self.window.values.append(Value(number, "parameter", *kept))
            finally:
                self._busy = False

    def leave(self, number: int, value: Any) -> Any:
        """Record the result of a function, and return it."""
        if self.on and not self._busy and len(self.window.values) < MOST:
            self._busy = True
            try:
                kept = keep(value) or (None, False)
                self.window.values.append(Value(number, "leave", *kept))
            finally:
                self._busy = False
        return value

    # Called by hooks

    def add(self, kind: str, value: Any, **more: Any) -> None:
        """Record what a hook observes."""
        if self.on and not self._busy:
            self._busy = True
            try:
                array, grad = keep(value) or (None, False)
                self.window.values.append(Value(-1, kind, array, grad, **more))
            finally:
                self._busy = False

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Record nothing in this context."""
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before

    def step(self, optimizer: Any, rate: float | None, taught: bool, line: str) -> None:
        """Record a step of an optimizer.

        Args:
            optimizer: The optimizer.
            rate: Its learning rate, or None if it is not known.
            taught: Whether a parameter may have a gradient other than 0.
            line: ``file:line`` of the user's code.
        """
        self.updates += 1
        self.window.updates += 1
        self.optimizers[id(optimizer)] = optimizer
        if rate is not None:
            self.window.rates[id(optimizer)] = rate
            self.add("step", rate, key=id(optimizer), more=(type(optimizer).__name__, taught), line=line)

    def begin(self, step: int, recording: bool) -> None:
        """Start a new window."""
        self.window = Window(step)
        self.on = recording


def keep(value: Any, largest: int = LARGEST) -> tuple[Array, bool] | None:
    """Return a copy of a number, an array or a tensor, and whether it requires a gradient; None for other objects.

    Args:
        value: Any object.
        largest: Entries of the largest array that is copied.
    """
    kind = type(value)
    if kind is float or kind is int or kind is bool:
        return np.asarray(value), False
    array: Any = None
    grad = False
    if isinstance(value, np.ndarray | np.generic):
        array = value if value.size <= largest else None
    elif (torch := sys.modules.get("torch")) is not None and isinstance(value, torch.Tensor):
        if value.numel() <= largest:
            array, grad = value.detach().cpu().numpy(), bool(value.requires_grad)
    elif kind in (list, tuple) and 2 <= len(value) <= LONGEST and all(type(one) in NUMBERS for one in value):
        array = value
    elif kind.__module__.startswith(("tensorflow", "keras")) and hasattr(value, "numpy"):
        array = value.numpy()
    if array is None:
        return None
    copy = np.array(array)
    return (copy, grad) if copy.dtype.kind in "fiub" else None
