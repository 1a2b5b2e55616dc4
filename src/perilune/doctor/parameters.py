"""The arrays that an agent learns, found in whatever it is made of: by its own word, or by walking its attributes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.ward import CannotTell, Case, NotFinite, PatientFailed, as_array

Named = dict[str, Array]

DEEPEST = 8
LONGEST = 200  # items of a list that are looked into: a replay's thousands are not weights


def walk(patient: Any) -> Named:
    """Every floating-point array within reach of ``patient``, by the path that leads to it; each memory once."""
    found: Named = {}
    seen: set[int] = set()
    queue: deque[tuple[str, Any, int]] = deque([("", patient, 0)])
    while queue:
        path, value, depth = queue.popleft()
        if id(value) in seen or depth > DEEPEST:
            continue
        seen.add(id(value))
        array = live_array(value)
        if array is not None:
            found[path] = array
        else:
            queue.extend((f"{path}{step}", part, depth + 1) for step, part in _parts(value))
    return {path.removeprefix("."): array for path, array in found.items()}


def live_array(value: Any) -> Array | None:
    """``value`` as a writeable array of floats that shares its memory, or None if it is none."""
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
        learned = [one for one in named if one[1].requires_grad]  # some may be frozen on purpose; but hardly all
        yield from ((f".{name}", tensor) for name, tensor in learned or named)
        return
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in list(value.items())[:LONGEST])
    elif isinstance(value, list | tuple):
        if len(value) <= LONGEST:
            yield from ((f"[{index}]", part) for index, part in enumerate(value))
    else:
        for name in (*getattr(value, "__dict__", ()), *getattr(type(value), "__slots__", ())):
            yield f".{name}", getattr(value, name, None)
        yield from _held_by_function(value)


def _held_by_function(value: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(value, "__self__"):
        yield ".__self__", value.__self__
    for name, cell in zip(
        getattr(getattr(value, "__code__", None), "co_freevars", ()),
        getattr(value, "__closure__", None) or (),
        strict=False,
    ):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:  # not filled yet
            continue


def as_named(value: Any) -> Named:
    """Arrays by name, from a mapping, from pairs or from a plain list of arrays."""
    items = list(value.items() if isinstance(value, Mapping) else value)
    if not items or not isinstance(items[0], tuple):
        items = [(str(index), item) for index, item in enumerate(items)]
    return {str(name): as_array(item) for name, item in items}


def online(case: Case) -> Named:
    """The online network's arrays, live: to change one is to change ``q_values``.

    Raises:
        CannotTell: none could be found.
    """
    names = case.ward.facts.get("online")
    if names is None:
        names = case.ward.facts["online"] = _discover(case)
    source, wanted = names
    arrays = _arrays(case, source)
    if not wanted or any(name not in arrays for name in wanted):
        raise CannotTell("no array was found whose change changes q_values: give the patient parameters()")
    return {name: arrays[name] for name in wanted}


def _arrays(case: Case, source: str) -> Named:
    return walk(case.patient) if source == "walk" else as_named(case.call(source))


def _discover(case: Case) -> tuple[str, list[str]]:
    for source in ("parameters", "walk"):
        if source == "walk" or case.has(source):
            try:
                matter = _that_matter(case, source)
            except (TypeError, ValueError, AttributeError, PatientFailed, NotFinite):
                continue
            if source == "walk":
                matter = [name for name in matter if name not in _statistics(case, matter)]
            if matter:
                return source, matter
    return "walk", []


def _statistics(case: Case, names: list[str]) -> list[str]:
    """Those of the arrays that an update moves whatever is to be learned: what observations are normalised by."""
    batch = case.ward.transitions(16)
    q = case.q(batch.obs)[np.arange(16), batch.action]
    moved: list[Named] = []
    for error in (-5.0, 5.0):
        trained = case.copy()
        before = {name: array.copy() for name, array in walk(trained.patient).items() if name in names}
        trained.train(batch._replace(reward=(q + error).astype(np.float32)))
        after = walk(trained.patient)
        moved.append({name: after[name] - array for name, array in before.items() if name in after})
    one, other = moved
    return [name for name in one if one[name].any() and np.allclose(one[name], other.get(name, 0), rtol=1e-3, atol=0)]


def _that_matter(case: Case, source: str) -> list[str]:
    """The arrays whose change q_values follow. All are moved first: behind weights of zero nothing else matters."""
    base = case.copy()
    random = np.random.default_rng(0)
    obs = random.standard_normal((32, case.ward.size)).astype(np.float32)
    arrays = {name: array for name, array in _arrays(base, source).items() if live_array(array) is not None}
    for array in arrays.values():
        array[...] += (0.1 * random.standard_normal(array.shape)).astype(array.dtype)
    matter = []
    for name, array in arrays.items():
        before, kept = base.q(obs), array.copy()
        array[...] += 0.1 + np.abs(array)
        if np.abs(base.q(obs) - before).max() > 10 * case.ward.noise:
            matter.append(name)
        array[...] = kept
    return matter


def shake(case: Case, seed: int) -> None:
    """Change the online network's weights at random, by about half of each, and nothing else."""
    random = np.random.default_rng(seed)
    for array in online(case).values():
        typical = float(np.abs(array).mean()) or 0.1
        array[...] += (0.5 * typical * random.standard_normal(array.shape)).astype(array.dtype)
