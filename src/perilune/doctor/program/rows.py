"""Recognize transitions in a program's objects, and write other transitions in the same form."""

from __future__ import annotations

import copy
import dataclasses
import sys
from collections import deque
from collections.abc import Iterator, Mapping, MutableSequence
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.program.recorder import keep
from perilune.doctor.program.tracer import Log
from perilune.doctor.protocol import Transitions

FEWEST = 6  # rows from which on their entries are recognized
MOST = 800  # rows that are looked at
KEPT = 2048  # rows that arrays keep

Leaves = dict[str, Any]


class Role(NamedTuple):
    """What an entry of a stored transition contains.

    Attributes:
        name: "obs", "action", "one_hot", "reward", "next_obs", "terminated", "running" (not terminated), "constant".
        none: Whether the next observation of a terminated transition is None.
        scale: Factor of the values, such as the discount of a transition that is not terminated.
    """

    name: str
    none: bool = False
    scale: float = 1.0


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the arrays, numbers and None in a row, each with its place."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        for name, one in zip(value._fields, value, strict=True):
            yield from leaves(one, f"{path}.{name}")
    elif (isinstance(value, list | tuple) and (keep(value) is None or path == "")) or _has_objects(value):
        for index, one in enumerate(value):
            yield from leaves(one, f"{path}[{index}]")
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from leaves(one, f"{path}[{key!r}]")
    elif dataclasses.is_dataclass(value) or _is_record(value):
        for name in _names(value):
            yield from leaves(getattr(value, name), f"{path}.{name}")
    else:
        yield path, value


def _has_objects(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == object


def _is_record(value: Any) -> bool:
    return not isinstance(value, type) and keep(value) is None and bool(_names(value))


def _names(value: Any) -> list[str]:
    if dataclasses.is_dataclass(value):
        return [one.name for one in dataclasses.fields(value)]
    if type(value).__module__.partition(".")[0] in ("torch", "numpy", "collections"):
        return []
    slots = getattr(type(value), "__slots__", ())
    return [*getattr(value, "__dict__", ()), *([slots] if isinstance(slots, str) else slots)]


def rebuilt(example: Any, values: Leaves, path: str = "") -> Any:  # noqa: PLR0911 -- one for each type
    """Return a row of the same form as ``example``, with other values at the places of ``values``."""
    if path in values:
        return values[path]
    if isinstance(example, tuple) and hasattr(example, "_fields"):
        fields = [rebuilt(one, values, f"{path}.{name}") for name, one in zip(example._fields, example, strict=True)]
        return type(example)(*fields)
    if isinstance(example, list | tuple) and (keep(example) is None or path == ""):
        return type(example)(rebuilt(one, values, f"{path}[{index}]") for index, one in enumerate(example))
    if isinstance(example, np.ndarray) and example.dtype == object:
        new = example.copy()
        for index, one in enumerate(example):
            new[index] = rebuilt(one, values, f"{path}[{index}]")
        return new
    if isinstance(example, Mapping):
        return {key: rebuilt(one, values, f"{path}[{key!r}]") for key, one in example.items()}
    if dataclasses.is_dataclass(example) or _is_record(example):
        new = copy.copy(example)
        for name in _names(example):
            object.__setattr__(new, name, rebuilt(getattr(example, name), values, f"{path}.{name}"))
        return new
    return example


def like(example: Any, value: Any) -> Any:
    """Return a value in the type, dtype and shape of ``example``."""
    kind = type(example)
    if (torch := sys.modules.get("torch")) is not None and isinstance(example, torch.Tensor):
        tensor = torch.as_tensor(np.asarray(value)).to(example.dtype).to(example.device)
        return tensor.reshape(example.shape)
    if isinstance(example, np.ndarray):
        return np.asarray(value).astype(example.dtype).reshape(example.shape).view(kind)
    if isinstance(example, np.generic):
        return example.dtype.type(value)
    if isinstance(example, list | tuple):
        inner = type(example[0]) if example else float
        return kind(inner(one) for one in np.asarray(value).reshape(-1))
    return kind(value) if kind in (bool, int, float) else value


def column_like(example: Any, values: Array, rows: int) -> Any:
    """Return a column in the type and orientation of ``example``, which has ``rows`` rows.

    Args:
        example: An array, a tensor or a list.
        values: The values (B,) or (B, O).
        rows: Number of rows of the example.
    """
    if isinstance(example, list | tuple | deque):
        made = [like(example[0], one) for one in values]
        return deque(made, example.maxlen) if isinstance(example, deque) else type(example)(made)
    shape = tuple(example.shape)
    count = len(values)
    turned = bool(shape) and shape[0] != rows and shape[-1] == rows
    wide = int(np.prod(shape)) // rows
    flat = np.asarray(values).reshape(count, wide)
    new = flat.T.reshape(*shape[:-1], count) if turned else flat.reshape(count, *shape[1:])
    if isinstance(example, np.ndarray):
        return new.astype(example.dtype).view(type(example))
    torch = sys.modules["torch"]
    return torch.as_tensor(np.ascontiguousarray(new)).to(example.dtype).to(example.device)


def roles(columns: Mapping[str, list[Any]], log: Log) -> dict[str, Role] | None:
    """Return what each column of stored values contains, or None if they are not transitions.

    Args:
        columns: The values of each column by name, of the same number of rows.
        log: The time steps of the environment.
    """
    states: dict[str, Array] = {}
    for name, values in columns.items():
        known = [one for one in values if one is not None]
        arrays = [_array(one) for one in known]
        if len(known) >= max(FEWEST, 0.3 * len(values)) and all(a is not None and a.size == log.size for a in arrays):
            numbers = np.full(len(values), -1)
            found = log.states(np.array([a.reshape(-1) for a in arrays if a is not None], np.float64))
            numbers[[index for index, one in enumerate(values) if one is not None]] = found
            states[name] = numbers
    before = {step.before: step for step in log.steps}
    best: dict[str, Role] | None = None
    for obs, first in states.items():
        if (first >= 0).mean() < 0.95:
            continue
        for after, second in states.items():
            both = (first >= 0) & (second >= 0)
            if after == obs or both.sum() < FEWEST or (second - first == 1)[both].mean() < 0.95:
                continue
            steps = [before.get(int(number)) for number in first]
            rows = [index for index, step in enumerate(steps) if step is not None]
            kinds = {
                name: _role([values[index] for index in rows], [steps[index] for index in rows], log.actions)
                for name, values in columns.items()
                if name not in (obs, after)
            }
            kinds[obs] = Role("obs")
            kinds[after] = Role("next_obs", any(one is None for one in columns[after]))
            names = [role.name for role in kinds.values() if role is not None]
            complete = None not in kinds.values() or "terminated" in names or "running" in names
            if "reward" in names and ("action" in names or "one_hot" in names) and complete:
                best = {name: role or Role("constant") for name, role in kinds.items()}
    return best


def _array(value: Any) -> Array | None:
    kept = keep(value)
    return None if kept is None else kept[0]


def _role(values: list[Any], steps: list[Any], actions: int) -> Role | None:  # noqa: PLR0911 -- one for each role
    """Return what a column contains, or None if it is not known."""
    arrays = [_array(one) for one in values]
    if all(one is None or isinstance(one, str) for one in values):
        return Role("constant")
    if any(one is None for one in arrays):
        return Role("constant") if all(isinstance(one, dict) for one in values) else None
    taken = np.array([step.action for step in steps])
    if all(one is not None and one.size == actions for one in arrays) and actions > 1:
        table = np.array([one.reshape(-1) for one in arrays if one is not None])
        hot = (table.argmax(axis=1) == taken) & (table.sum(axis=1) == 1)
        return Role("one_hot") if hot.mean() > 0.98 else None
    if any(one is None or one.size != 1 for one in arrays):
        return None
    column = np.array([float(one.reshape(())) for one in arrays if one is not None])
    ended, terminated = (np.array([getattr(step, name) for step in steps]) for name in ("ended", "terminated"))
    reward = np.array([step.reward for step in steps])
    if (column == taken).mean() > 0.98 and len(set(column.tolist())) > 1:
        return Role("action")
    if (np.abs(column - reward) < 1e-6).mean() > 0.6:
        return Role("reward")
    for flags in (one for one in (ended, terminated) if 0 < one.mean() < 1):
        if (column == flags).all():
            return Role("terminated")
        largest = column.max()
        if largest > 0 and (column == largest * ~flags).all():
            return Role("running", scale=float(largest))
    return Role("constant") if len(set(column.tolist())) == 1 else None


def values_of(role: Role, batch: Transitions, actions: int) -> list[Any]:
    """Return the values of a column for these transitions."""
    match role.name:
        case "one_hot":
            return list(np.eye(actions)[batch.action])
        case "running":
            return list(~batch.terminated if role.scale == 1 else role.scale * ~batch.terminated)
        case "next_obs" if role.none:
            ends = batch.terminated.tolist()
            return [None if end else one for one, end in zip(batch.next_obs, ends, strict=True)]
        case name:
            return list(getattr(batch, name))


class Rows:
    """A container of transitions, each in an object of its own: a list, a deque or an array of objects.

    Attributes:
        roles: What the entries of a transition contain, by their place in it.
        examples: A stored transition that is not terminated, by its entries.
    """

    def __init__(self, container: Any, log: Log) -> None:
        rows = [one for one in list(container) if one is not None and not isinstance(one, int | float)]
        self.count = len(rows)
        rows = rows[-MOST:]
        if self.count < FEWEST:
            raise ValueError("too few rows")
        table = [dict(leaves(row)) for row in rows]
        if any(one.keys() != table[0].keys() for one in table) or len(table[0]) > 40:
            raise ValueError("the rows differ")
        found = roles({path: [one[path] for one in table] for path in table[0]}, log)
        if found is None:
            raise ValueError("the rows are not transitions")
        self.roles, self.actions = found, log.actions
        self.row = copy.deepcopy(next((row for row, one in zip(rows, table, strict=True) if _full(one)), rows[0]))

    def made(self, batch: Transitions) -> list[Any]:
        """Return the transitions as rows."""
        example = dict(leaves(self.row))
        columns = {
            path: values_of(role, batch, self.actions) for path, role in self.roles.items() if role.name != "constant"
        }
        rows = []
        for index in range(len(batch.action)):
            values = {
                path: None if column[index] is None else like(example[path], column[index])
                for path, column in columns.items()
            }
            rows.append(rebuilt(self.row, values))
        return rows

    def write(self, container: Any, batch: Transitions, fill: int) -> None:
        """Replace the transitions in ``container``. Repeat them until there are ``fill``."""
        made = self.made(batch) if len(batch.action) else []
        rows = [made[index % len(made)] for index in range(max(fill, len(made)))] if made else []
        if isinstance(container, deque | MutableSequence):
            if isinstance(container, list) and len(container) > self.count:  # with empty places
                container[: len(rows)] = rows
                return
            container.clear()
            container.extend(rows)
            if len(container) < len(made):
                raise ValueError("the container is too small")
        else:
            for index, row in enumerate(rows[: len(container)]):
                container[index] = row

    def describe(self) -> str:
        """Return the entries of a row."""
        return ", ".join(f"{path.lstrip('.') or 'row'} = {role.name}" for path, role in self.roles.items())


def _full(row: Leaves) -> bool:
    return all(one is not None for one in row.values())


class Columns:
    """Transitions in several arrays or lists: attributes of an object, or items of a dictionary.

    Attributes:
        roles: What the columns contain, by name.
        count: Number of stored transitions.
    """

    def __init__(self, owner: Any, log: Log) -> None:
        named = dict(_named(owner))
        columns = {name: value for name, value in named.items() if isinstance(name, str) and _is_column(value)}
        for length in {len(one) for one in columns.values()}:
            group = {name: one for name, one in columns.items() if len(one) == length}
            if len(group) >= 4 and self._read(group, log):
                break
        else:
            raise ValueError("no columns of transitions")
        self.actions = log.actions
        self.counters = [name for name, value in named.items() if type(value) is int and value == self.count]
        self.examples = {name: copy.deepcopy(group[name][0]) for name in self.roles}

    def _read(self, group: Mapping[str, Any], log: Log) -> bool:
        """Find what each column contains. Return whether they are those of transitions."""
        stored = 0
        for column in group.values():
            table = _rows_of(column)
            if table is not None and table.shape[1] == log.size:
                known = log.states(table.astype(np.float64)) >= 0
                full = int(known.argmin()) if not known.all() else len(known)
                stored = max(stored, full)
        if stored < FEWEST:
            return False
        first = max(0, stored - MOST)
        found = roles({name: [column[i] for i in range(first, stored)] for name, column in group.items()}, log)
        self.roles, self.count = found or {}, stored
        return found is not None

    def shorten(self, owner: Any) -> None:
        """Keep the first rows of long arrays only, because copies of them take long."""
        if isinstance(owner, np.ndarray):
            return
        for name in self.roles:
            column = _get(owner, name)
            if not isinstance(column, MutableSequence | deque) and len(column) > KEPT:
                _set(owner, name, column[:KEPT].copy() if isinstance(column, np.ndarray) else column[:KEPT].clone())

    def write(self, owner: Any, batch: Transitions, fill: int) -> None:
        """Replace the transitions. Repeat them until there are ``fill``."""
        count = len(batch.action)
        if not count:
            return
        fill = max(fill, count)
        index = np.arange(fill) % count
        repeated = batch.rows(index)
        for name, role in self.roles.items():
            if role.name == "constant":
                continue
            column, values = _get(owner, name), values_of(role, repeated, self.actions)
            if isinstance(column, deque | list):
                column.clear()
                column.extend(like(self.examples[name], one) if one is not None else None for one in values)
            else:
                if len(column) < count:
                    raise ValueError("the arrays are too small")
                for place, one in enumerate(values[: len(column)]):
                    column[place] = like(self.examples[name], one)
        for name in self.counters:
            _set(owner, name, fill)

    def describe(self) -> str:
        """Return the columns."""
        return ", ".join(f"{name} = {role.name}" for name, role in self.roles.items())


def _named(owner: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the names and values of a mapping, of a structured array or of an object."""
    if isinstance(owner, np.ndarray):
        yield from ((name, np.asarray(owner[name])) for name in owner.dtype.names or ())
    else:
        yield from (owner if isinstance(owner, Mapping) else vars(owner)).items()


def _get(owner: Any, name: str) -> Any:
    return owner[name] if isinstance(owner, Mapping | np.ndarray) else getattr(owner, name)


def _set(owner: Any, name: str, value: Any) -> None:
    if isinstance(owner, Mapping):
        owner[name] = value  # type: ignore[index]
    else:
        setattr(owner, name, value)


def _is_column(value: Any) -> bool:
    if isinstance(value, list | deque):
        return len(value) >= FEWEST
    shape = getattr(value, "shape", None)
    return hasattr(value, "dtype") and isinstance(shape, tuple) and len(shape) >= 1 and shape[0] >= FEWEST


def _rows_of(column: Any) -> Array | None:
    """Return the rows of a column (N, O), or None."""
    if isinstance(column, list | deque):
        arrays = [_array(one) for one in column]
        if any(one is None or one.size != arrays[0].size for one in arrays):  # type: ignore[union-attr]
            return None
        return np.array([one.reshape(-1) for one in arrays if one is not None])
    array = column.detach().cpu().numpy() if hasattr(column, "detach") else np.asarray(column)
    return array.reshape(len(array), -1) if array.dtype.kind in "fi" else None
