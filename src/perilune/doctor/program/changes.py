"""Recognize the expressions with which a program changes each observation, such as ``obs / SCALE``."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.numbered_env import codes
from perilune.doctor.program.instrument import Node
from perilune.doctor.program.recorder import Window
from perilune.doctor.program.tracer import Log

ENOUGH = 6  # values of an expression from which on it is recognized
MOST = 12  # values that are compared
CLOSE = 1e-5  # largest difference from a linear function, relative to the size of the values


class Changes:
    """Finds expressions that are a linear function of each entry of the latest observation.

    Attributes:
        nodes: Numbers of the expressions.
    """

    def __init__(self) -> None:
        self.nodes: set[int] = set()
        self._values: dict[int, list[tuple[int, Array]]] = defaultdict(list)  # expression -> state and value

    def window(self, nodes: list[Node], log: Log, window: Window) -> None:
        """Read the values that the program computed since an observation."""
        if log.discrete or log.last < 0:
            return
        for value in window.values:
            array = value.array
            if value.kind != "value" or array is None or array.dtype.kind != "f" or array.size != log.size:
                continue
            node = nodes[value.node]
            if value.node in self.nodes or not (node.assigned or node.kind == "variable" or node.operator == "Call"):
                continue
            seen = self._values[value.node]
            if len(seen) < MOST and (not seen or seen[-1][0] != log.last):
                seen.append((log.last, array.reshape(-1).astype(np.float64)))
                if len(seen) >= ENOUGH and _linear(seen):
                    self.nodes.add(value.node)
                    for number, changed in seen:
                        log.change(changed, number)


def _linear(seen: list[tuple[int, Array]]) -> bool:
    """Return whether each entry of the values is a linear function of the same entry of the observation."""
    values = np.array([changed for _, changed in seen])
    given = codes(np.array([number for number, _ in seen]), values.shape[1]).astype(np.float64)
    if np.abs(values - given).max() < CLOSE:  # the observation itself
        return False
    x, y = given - given.mean(axis=0), values - values.mean(axis=0)
    slope = (x * y).sum(axis=0) / (x * x).sum(axis=0)
    return bool((slope != 0).all() and np.abs(y - slope * x).max() <= CLOSE * np.abs(y).max())
