"""Adapters that call members of an agent by name: for agents that sample their own batch, and for online learners."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.protocol import Transitions

Member = str | Callable[..., Any]

PLENTY = 1_000_000  # reported number of stored transitions, more than any warm-up needs


class MemberAdapter:
    """Adapter whose methods call members of an agent. ``replay_agent`` and ``online_agent`` return it."""

    online = False

    def __init__(
        self,
        agent: Any,
        train_batch: Callable[..., Any],
        gamma: float,
        observation_size: int,
        methods: Mapping[str, Member | None],
    ) -> None:
        self.agent, self.gamma, self.observation_size = agent, gamma, observation_size
        self.train_batch = partial(train_batch, agent)
        for name, member in methods.items():
            if member is not None:
                setattr(self, name, partial(call, agent, member))


def call(agent: Any, member: Member, *args: Any) -> Any:
    """Call ``member``: a function with the agent as its first argument, or the name of a member of the agent.

    Convert observations to a tensor if the member is a PyTorch module.
    """
    if not isinstance(member, str):
        return member(agent, *args)
    owner, name = _owner(agent, member)
    found = getattr(owner, name)
    if hasattr(found, "state_dict") and hasattr(found, "parameters"):
        like = next(iter(found.parameters()))
        args = tuple(sys.modules["torch"].as_tensor(arg, dtype=like.dtype, device=like.device) for arg in args)
    return found(*args)


def online_agent(
    agent: Any,
    *,
    learn: Member,
    q_values: Member,
    observation_size: int,
    gamma: float | None = None,
    **methods: Member,
) -> MemberAdapter:
    """Return an adapter for an agent that learns from each transition at once, without replay.

    A batch becomes one call of ``learn`` per transition.

    Each member is the name of a member of the agent, or a function with the agent as its first argument.

    Args:
        agent: A new agent. The examination trains it.
        learn: Takes obs (O,), action, reward, next_obs (O,) and terminated of one transition.
        q_values: Takes observations (N, O) and returns Q-values (N, A). It can also be the name of an
            attribute that holds a PyTorch module.
        observation_size: Number of entries of an observation, O.
        gamma: Discount, from 0 to 1. By default, ``agent.gamma``.
        **methods: Optional members of ``AgentAdapter``, by name.

    Returns:
        The adapter.
    """

    def train_batch(agent: Any, *batch: Array) -> None:
        for row in _rows(*batch):
            call(agent, learn, *row)

    adapter = MemberAdapter(
        agent, train_batch, _gamma(agent, gamma), observation_size, {"q_values": q_values, **methods}
    )
    adapter.online = True
    return adapter


def replay_agent(
    agent: Any,
    *,
    memory: str | Mapping[str, str],
    learn: Member,
    q_values: Member,
    observation_size: int,
    gamma: float | None = None,
    draw: str = "sample",
    batch: Callable[..., Any] | None = None,
    batch_size: str | None = "batch_size",
    size: str | None = None,
    **methods: Member,
) -> MemberAdapter:
    """Return an adapter for an agent that samples its own batches from a replay memory.

    During an update, the doctor replaces the memory with its own batch, and sets the batch size to match:

    - If the memory has a method ``draw``, it returns ``batch(obs, action, reward, next_obs, terminated)``.
    - If the memory is a list or a deque, it contains the rows that ``batch`` returns. The agent receives them in this
      order, regardless of the indices that it draws.
    - If the agent stores the columns in arrays, name the column of each array in ``memory``.

    Each member is the name of a member of the agent, or a function with the agent as its first argument. A name may
    contain dots.

    Args:
        agent: A new agent, or a module whose global variables are the agent. The examination trains it.
        memory: Name of the memory, or a mapping from names of arrays to columns, for example
            ``{"state_memory": "obs", "done_memory": "terminated"}``.
        learn: Samples a batch and runs one update.
        q_values: Takes observations (N, O) and returns Q-values (N, A). It can also be the name of an
            attribute that holds a PyTorch module.
        observation_size: Number of entries of an observation, O.
        gamma: Discount, from 0 to 1. By default, ``agent.gamma``.
        draw: Name of the method of the memory that returns a batch.
        batch: Converts the five arrays to what the memory returns. By default, it returns a tuple of the arrays. For a
            list or a deque, it returns one tuple per transition.
        batch_size: Name of the batch size: an attribute of the agent, or a global variable of its module. None if
            there is none.
        size: Name of the attribute or method for the number of stored transitions, if the agent does not use ``len``.
        **methods: Optional members of ``AgentAdapter``, by name.

    Returns:
        The adapter.
    """

    def train_batch(agent: Any, *columns: Array) -> None:
        values = _stand_ins(agent, memory, draw, batch, Transitions(*columns))
        if batch_size is not None:
            values[batch_size] = len(columns[0])
        if size is not None:
            values[size] = PLENTY
        with _replaced(agent, values):
            call(agent, learn)

    return MemberAdapter(agent, train_batch, _gamma(agent, gamma), observation_size, {"q_values": q_values, **methods})


def _gamma(agent: Any, gamma: float | None) -> float:
    return float(agent.gamma if gamma is None else gamma)


def _rows(*columns: Array) -> list[tuple[Any, ...]]:
    obs, action, reward, next_obs, terminated = columns
    return list(zip(obs, action.tolist(), reward.tolist(), next_obs, terminated.tolist(), strict=True))


def _owner(agent: Any, path: str) -> tuple[Any, str]:
    """Return the object that has the attribute ``path``, and the attribute's name.

    ``path`` starts at the agent, or otherwise at the module of its class.
    """
    *parents, name = path.split(".")
    owner = agent
    if not hasattr(agent, (parents or [name])[0]):
        owner = sys.modules[type(agent).__module__]
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name


@contextlib.contextmanager
def _replaced(agent: Any, values: Mapping[str, Any]) -> Iterator[None]:
    """Set attributes of the agent, and restore them on exit. A function that returns the value replaces a method."""
    kept: list[tuple[Any, str, Any]] = []
    try:
        for path, value in values.items():
            owner, name = _owner(agent, path)
            before = getattr(owner, name)
            kept.append((owner, name, before))
            is_method = callable(before) and isinstance(value, int)
            setattr(owner, name, partial(int, value) if is_method else value)
        yield
    finally:
        for owner, name, before in reversed(kept):
            setattr(owner, name, before)


def _stand_ins(
    agent: Any,
    memory: str | Mapping[str, str],
    draw: str,
    batch: Callable[..., Any] | None,
    transitions: Transitions,
) -> dict[str, Any]:
    """Return the objects that replace the memory during an update, by name."""
    if not isinstance(memory, str):
        columns = transitions._asdict()
        return {path: _Column.like(columns[name], getattr(*_owner(agent, path))) for path, name in memory.items()}
    original = getattr(*_owner(agent, memory))
    if hasattr(original, draw):
        return {memory: _Memory(original, draw, batch(*transitions) if batch else tuple(transitions))}
    return {memory: _Rows(batch(*transitions) if batch else _rows(*transitions))}


class _Memory:
    """A memory whose method ``draw`` returns one batch. Its other members are those of the original."""

    def __init__(self, original: Any, draw: str, batch: Any) -> None:
        self._original = original
        setattr(self, draw, lambda *_, **__: batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def __len__(self) -> int:
        return PLENTY


class _Rows(Sequence[Any]):
    """A sequence that reports a large length and returns its rows in turn, for any index."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = list(rows)
        self._next = 0

    def __len__(self) -> int:
        return PLENTY

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return list(self._rows)
        self._next += 1
        return self._rows[(self._next - 1) % len(self._rows)]

    def append(self, row: Any) -> None:
        """Ignore a row that the agent stores during its update."""


class _Column(np.ndarray[Any, Any]):
    """A column that returns all of its rows for any array of indices."""

    @classmethod
    def like(cls, column: Array, original: Any) -> Any:
        """Return ``column`` with the dtype and the row shape of ``original``."""
        rows = np.asarray(column).reshape(len(column), *original.shape[1:])
        return rows.astype(original.dtype).view(cls)

    def __getitem__(self, index: Any) -> Any:
        return np.array(self) if np.ndim(index) == 1 else super().__getitem__(index)
