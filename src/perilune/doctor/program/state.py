"""The variables of a stopped program: find objects in them, and give each agent its own copy."""

from __future__ import annotations

import copy
import gc
import sys
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping
from types import CellType, CodeType, FrameType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any

import numpy as np

MAX_DEPTH = 7
MAX_ITEMS = 300  # longer lists do not contain networks
NO_PARTS = (type, ModuleType, FunctionType, CodeType, str, bytes, int, float)
# Libraries whose objects show or log results. Copies of an agent share them.
SHOWING = (
    *("_io", "gym", "gymnasium", "IPython", "logging", "matplotlib", "perilune", "PIL", "pygame", "tensorboard"),
    *("tensorboardX", "threading", "tqdm", "wandb"),
)


class Variables(MutableMapping[str, Any]):
    """The variables that a program's functions read: of its modules, of their classes, and of enclosing functions."""

    def __init__(self, namespaces: Mapping[str, dict[str, Any]], functions: list[FunctionType]) -> None:
        self._places: dict[str, tuple[Any, str]] = {}
        for prefix, namespace in namespaces.items():
            for name, value in namespace.items():
                if isinstance(value, type) and value.__module__ == namespace.get("__name__"):
                    self._add_class(prefix + name, value)
                elif not name.startswith("__") and not isinstance(value, ModuleType | type):
                    self._places[prefix + name] = namespace, name
        for function in functions:
            names = function.__code__.co_freevars
            for name, cell in zip(names, function.__closure__ or (), strict=True):
                if not any(owner is cell for owner, _ in self._places.values()):
                    self._places[f"{function.__qualname__}.{name}"] = cell, name

    def _add_class(self, prefix: str, owner: type) -> None:
        for name, value in vars(owner).items():
            if not name.startswith("__") and not callable(value) and not hasattr(value, "__get__"):
                self._places[f"{prefix}.{name}"] = owner, name

    def __getitem__(self, key: str) -> Any:
        owner, name = self._places[key]
        if isinstance(owner, CellType):
            return owner.cell_contents
        return owner[name] if isinstance(owner, dict) else vars(owner)[name]

    def __setitem__(self, key: str, value: Any) -> None:
        owner, name = self._places[key]
        if isinstance(owner, CellType):
            owner.cell_contents = value
        elif isinstance(owner, dict):
            owner[name] = value
        else:
            setattr(owner, name, value)

    def __iter__(self) -> Iterator[str]:
        for key, (owner, name) in self._places.items():
            if isinstance(owner, CellType):
                try:
                    _ = owner.cell_contents
                except ValueError:  # not assigned yet
                    continue
            elif name not in (owner if isinstance(owner, dict) else vars(owner)):
                continue
            yield key

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __delitem__(self, key: str) -> None:
        raise TypeError("variables of a program are not deleted")


class Stopped:
    """A program that was stopped.

    Attributes:
        namespaces: Variables of its modules, by a prefix: "" for the program, "name." for a module that it imports.
        frames: The frames of its functions that were running, the outermost first.
    """

    def __init__(self, trace: Any) -> None:
        self.namespaces = namespaces_of(trace)
        frames: list[FrameType] = []
        tb = trace.end.__traceback__ if trace.end is not None else None
        while tb is not None:
            frames.append(tb.tb_frame)
            tb = tb.tb_next
        self.frames = _own(frames, self.namespaces)
        self.locals = [dict(frame.f_locals) for frame in self.frames]

    @property
    def scope(self) -> dict[str, Any]:
        """The variables by name. Local variables of outer functions hide those of inner ones."""
        return scope(self.namespaces, self.locals)

    def variables(self) -> Variables:
        """Return the variables that the program's functions read."""
        return Variables(self.namespaces, closures([*self.namespaces.values(), *self.locals]))

    def shared(self) -> list[Any]:
        """Return the objects that cannot be copied, and those that show or log results."""
        return [value for _, value in walk(self.scope, depth=10, objects=True) if _is_shared(value)]


def namespaces_of(trace: Any) -> dict[str, dict[str, Any]]:
    """Return the variables of a program's modules, by a prefix: "" for the program, "name." for others."""
    return {"": trace.namespace, **{f"{name}.": one for name, one in trace.modules.items()}}


def running(namespaces: Mapping[str, dict[str, Any]]) -> list[FrameType]:
    """Return the frames of the program's functions that are running, the outermost first."""
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        frames.insert(0, frame)
        frame = frame.f_back
    return _own(frames, namespaces)


def _own(frames: list[FrameType], namespaces: Mapping[str, dict[str, Any]]) -> list[FrameType]:
    known = [id(one) for one in namespaces.values()]
    return [one for one in frames if id(one.f_globals) in known and one.f_code.co_name != "<module>"]


def scope(namespaces: Mapping[str, dict[str, Any]], frames: list[dict[str, Any]]) -> dict[str, Any]:
    """Return variables by name: those of the program, its functions from the outer ones to the inner, and modules."""
    known: dict[str, Any] = {}
    for variables in (namespaces[""], *frames):
        for name, value in variables.items():
            if not name.startswith("__"):
                known.setdefault(name, value)
    for prefix, variables in namespaces.items():
        for name, value in variables.items():
            if prefix and not name.startswith("__"):
                known.setdefault(name, value)
    return known


def walk(known: Mapping[str, Any], depth: int = MAX_DEPTH, objects: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield expressions and the objects that they find, the shortest first.

    Args:
        known: Variables by name.
        depth: Largest number of steps from a variable.
        objects: Whether to look into objects of libraries too.
    """
    seen: set[int] = set()
    queue = deque((name, value, 0) for name, value in known.items() if not name.startswith("__"))
    while queue:
        path, value, level = queue.popleft()
        if id(value) in seen or isinstance(value, NO_PARTS):
            continue
        seen.add(id(value))
        yield path, value
        if level < depth:
            queue.extend((path + step, part, level + 1) for step, part in parts(value, objects))


def parts(value: Any, objects: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield the parts of an object: how to reach each one from the object, and the part."""
    if isinstance(value, np.ndarray | GeneratorType) or _is_tensor(value):
        return
    if isinstance(value, Mapping):
        if len(value) <= MAX_ITEMS:
            for key, one in list(value.items()):
                if isinstance(key, str | int | tuple):
                    yield f"[{key!r}]", one
    elif isinstance(value, list | tuple | deque):
        if len(value) <= MAX_ITEMS:
            yield from ((f"[{index}]", one) for index, one in enumerate(list(value)))
    elif not _is_shared(value):
        if isinstance(value, MethodType):
            yield ".__self__", value.__self__
        for name, one in list(getattr(value, "__dict__", {}).items()):
            if objects or not name.startswith("_"):
                yield f".{name}", one
        for key, one in getattr(value, "_modules", {}).items():  # the layers of a torch module
            yield (f".{key}" if key.isidentifier() else f"[{key}]"), one


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _is_shared(value: Any) -> bool:
    if isinstance(value, GeneratorType | np.random.Generator | np.random.RandomState):
        return isinstance(value, GeneratorType)
    root = type(value).__module__.partition(".")[0]
    if root in SHOWING or type(value).__module__.startswith("torch.utils.tensorboard"):
        return type(value).__name__ not in ("Box", "Discrete")
    if hasattr(value, "__dict__") or isinstance(value, list | tuple | dict | set | deque | np.ndarray):
        return False
    try:
        copy.deepcopy(value)
    except Exception:  # such as a lock
        return True
    return False


def closures(scopes: list[dict[str, Any]]) -> list[FunctionType]:
    """Return the functions in these variables that read variables of an enclosing function."""
    found: dict[int, FunctionType] = {}
    for variables in scopes:
        queue = list(variables.values())
        while queue:
            value = queue.pop()
            if isinstance(value, FunctionType) and value.__closure__ and id(value) not in found:
                found[id(value)] = value
                for cell in value.__closure__:
                    try:
                        queue.append(cell.cell_contents)
                    except ValueError:  # not assigned yet
                        continue
    return list(found.values())


def function_of(code: CodeType) -> FunctionType | None:
    """Return the latest function with this code."""
    functions = [one for one in gc.get_referrers(code) if isinstance(one, FunctionType) and one.__code__ is code]
    return functions[-1] if functions else None
