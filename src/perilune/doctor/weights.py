"""Find the arrays that an agent trains: through its ``parameters()``, or by walking its attributes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, NotFinite, as_array

Named = dict[str, Array]

MAX_DEPTH = 8
MAX_ITEMS = 200  # longer lists, such as a replay buffer, do not hold weights


def walk(agent: Any) -> Named:
    """Return every floating-point array reachable from ``agent``, by its path; each object once."""
    found: Named = {}
    seen: set[int] = set()
    queue: deque[tuple[str, Any, int]] = deque([("", agent, 0)])
    while queue:
        path, value, depth = queue.popleft()
        if id(value) in seen or depth > MAX_DEPTH:
            continue
        seen.add(id(value))
        array = live_array(value)
        if array is not None:
            found[path] = array
        else:
            queue.extend((f"{path}{step}", part, depth + 1) for step, part in _parts(value))
    return {path.removeprefix("."): array for path, array in found.items()}


def live_array(value: Any) -> Array | None:
    """Return ``value`` as a writeable float array that shares its memory, or None."""
    if not isinstance(value, np.ndarray):
        if not (hasattr(value, "detach") and hasattr(value, "numpy")):  # a tensor
            return None
        value = as_array(value)
    return value if value.dtype.kind == "f" and value.flags.writeable and value.size else None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, str | bytes | int | float | complex | type | np.generic | None):
        return
    if callable(getattr(value, "named_parameters", None)) and hasattr(value, "state_dict"):  # a torch module
        named = list(value.named_parameters())
        trained = [one for one in named if one[1].requires_grad]  # some may be frozen on purpose, but hardly all
        yield from ((f".{name}", tensor) for name, tensor in trained or named)
    elif isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in list(value.items())[:MAX_ITEMS])
    elif isinstance(value, list | tuple):
        if len(value) <= MAX_ITEMS:
            yield from ((f"[{index}]", part) for index, part in enumerate(value))
    else:
        for name in (*getattr(value, "__dict__", ()), *getattr(type(value), "__slots__", ())):
            yield f".{name}", getattr(value, name, None)
        yield from _closure(value)


def _closure(value: Any) -> Iterator[tuple[str, Any]]:
    """What a function or bound method refers to."""
    if hasattr(value, "__self__"):
        yield ".__self__", value.__self__
    names = getattr(getattr(value, "__code__", None), "co_freevars", ())
    for name, cell in zip(names, getattr(value, "__closure__", None) or (), strict=False):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:  # not filled yet
            continue


def as_named(value: Any) -> Named:
    """Return arrays by name, from a mapping, from pairs or from a list of arrays."""
    items = list(value.items() if isinstance(value, Mapping) else value)
    if not items or not isinstance(items[0], tuple):
        items = [(str(index), item) for index, item in enumerate(items)]
    return {str(name): as_array(item) for name, item in items}


def online(agent: AgentCopy) -> Named:
    """Return the online network's arrays. Writing to one changes ``q_values``.

    Raises:
        CannotTell: None were found.
    """
    session = agent.session
    if session.weights is None:
        session.weights = _discover(agent)
    source, wanted = session.weights
    arrays = _arrays(agent, source)
    if not wanted or any(name not in arrays for name in wanted):
        raise CannotTell("no array was found that determines q_values: add parameters() to the adapter")
    return {name: arrays[name] for name in wanted}


def _arrays(agent: AgentCopy, source: str) -> Named:
    return walk(agent.agent) if source == "walk" else as_named(agent.call(source))


def _discover(agent: AgentCopy) -> tuple[str, list[str]]:
    for source in ("parameters", "walk"):
        if source == "walk" or agent.has(source):
            try:
                names = _determine_q(agent, source)
            except (TypeError, ValueError, AttributeError, AgentFailed, NotFinite):
                continue
            if source == "walk":
                names = [name for name in names if name not in _statistics(agent, names)]
            if names:
                return source, names
    return "walk", []


def _statistics(agent: AgentCopy, names: list[str]) -> list[str]:
    """Return the arrays that move in the same way whatever the TD error: statistics of the observations."""
    batch = agent.session.transitions(16)
    q = agent.q_taken(batch)
    moved: list[Named] = []
    for error in (-5.0, 5.0):
        trained = agent.copy()
        before = {name: array.copy() for name, array in walk(trained.agent).items() if name in names}
        trained.train(batch._replace(reward=(q + error).astype(np.float32)))
        after = walk(trained.agent)
        moved.append({name: after[name] - array for name, array in before.items() if name in after})
    one, other = moved
    return [name for name in one if one[name].any() and np.allclose(one[name], other.get(name, 0), rtol=1e-3, atol=0)]


def _determine_q(agent: AgentCopy, source: str) -> list[str]:
    """Return the arrays that q_values depend on. Perturb all of them first: zero weights hide the layers before."""
    base = agent.copy()
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((32, agent.session.observation_size)).astype(np.float32)
    arrays = {name: array for name, array in _arrays(base, source).items() if live_array(array) is not None}
    for array in arrays.values():
        array[...] += (0.1 * rng.standard_normal(array.shape)).astype(array.dtype)
    names = []
    for name, array in arrays.items():
        before, kept = base.q(obs), array.copy()
        array[...] += 0.1 + np.abs(array)
        if np.abs(base.q(obs) - before).max() > 10 * agent.session.noise:
            names.append(name)
        array[...] = kept
    return names


def perturb(agent: AgentCopy, seed: int) -> None:
    """Change the online network's weights at random, by about half their size."""
    rng = np.random.default_rng(seed)
    for array in online(agent).values():
        typical = float(np.abs(array).mean()) or 0.1
        array[...] += (0.5 * typical * rng.standard_normal(array.shape)).astype(array.dtype)
