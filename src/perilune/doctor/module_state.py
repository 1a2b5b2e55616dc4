"""Give each agent its own copy of a module's variables, for programs that keep their networks in them."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, MutableMapping
from types import ModuleType
from typing import Any

Variables = MutableMapping[str, Any]


class SeparateAgent:
    """An agent with its own variables of the module, which replace those of the module during its calls.

    Attributes:
        agent: The agent.
        module: The values of the variables by name.
    """

    def __init__(self, agent: Any, variables: Variables, running: list[SeparateAgent]) -> None:
        self.agent = agent
        self._variables = variables
        self._running = running  # the agents whose calls are running, of all agents of this factory
        self.module = _state(variables)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the agent, or a method that runs with the agent's own variables."""
        if name.startswith("__") or "agent" not in vars(self):
            raise AttributeError(name)
        with self._entered():
            value = getattr(self.agent, name)
        return functools.partial(self._call, value) if callable(value) else value

    def _call(self, method: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        with self._entered():
            return method(*args, **keywords)

    @contextlib.contextmanager
    def _entered(self) -> Iterator[None]:
        outer = self._running[-1] if self._running else None
        if outer is not self:
            if outer is not None:
                outer.module = _state(self._variables)
            self._variables.update(self.module)
        self._running.append(self)
        try:
            yield
        finally:
            self._running.pop()
            self.module = _state(self._variables)
            if outer is not None and outer is not self:
                self._variables.update(outer.module)

    def __deepcopy__(self, memo: dict[int, Any]) -> SeparateAgent:
        """Return a copy of the agent and of its variables, which may refer to each other."""
        copied = object.__new__(SeparateAgent)
        copied._variables, copied._running = self._variables, self._running
        copied.agent, copied.module = copy.deepcopy((self.agent, self.module), memo)
        return copied


def separated(factory: Callable[..., Any]) -> Callable[..., Any]:
    """Return a factory whose agents do not share the variables of the module that defines ``factory``.

    Raises the exceptions of ``copy.deepcopy`` if a variable cannot be copied.
    """
    variables = _variables_of(factory)
    initial = copy.deepcopy(_state(variables))
    running: list[SeparateAgent] = []

    @functools.wraps(factory)
    def make(*args: Any, **keywords: Any) -> SeparateAgent:
        outer = _state(variables)
        variables.update(copy.deepcopy(initial))
        try:
            return SeparateAgent(factory(*args, **keywords), variables, running)
        finally:
            if running:
                variables.update(outer)

    return make


def _variables_of(factory: Callable[..., Any]) -> Variables:
    while isinstance(factory, functools.partial):
        factory = factory.func
    function = inspect.unwrap(factory)
    return getattr(function, "__globals__", None) or vars(sys.modules[function.__module__])


def _state(variables: Variables) -> dict[str, Any]:
    """Return the variables that are not modules, classes or functions."""
    return {
        name: value
        for name, value in variables.items()
        if not name.startswith("__") and not isinstance(value, ModuleType | type) and not inspect.isroutine(value)
    }
