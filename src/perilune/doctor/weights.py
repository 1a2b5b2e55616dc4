"""Find the weights that an agent trains, and measure their updates and the derivatives of Q."""

from __future__ import annotations

import contextlib
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.locate import is_own
from perilune.doctor.module_state import SeparateAgent
from perilune.doctor.protocol import Transitions
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, as_array

Named = dict[str, Array]

MAX_DEPTH = 8
PLAIN = frozenset({str, bytes, int, float, complex, bool, type(None)})  # types of values that contain no arrays
MAX_ITEMS = 200  # longer lists, such as replay buffers, do not contain weights
STATISTIC = re.compile(r"(^|[._['])(mean|std|var|rms)\b", re.IGNORECASE)  # names of statistics of the observations
MATTERS = 1e-3  # smallest relative change of an update that counts


def walk(agent: Any) -> Named:
    """Return every floating-point array reachable from ``agent`` by its path. Visit each object once."""
    return {path: array for path, (array, _) in _walk(agent).items()}


def _walk(agent: Any) -> dict[str, tuple[Array, Any]]:
    """Return the arrays of ``walk``, each with the array or tensor that it belongs to."""
    found: dict[str, tuple[Array, Any]] = {}
    seen: set[int] = set()
    queue: deque[tuple[str, Any, int]] = deque([("", agent, 0)])
    while queue:
        path, value, depth = queue.popleft()
        if type(value) in PLAIN or id(value) in seen or depth > MAX_DEPTH or isinstance(value, type):
            continue
        if isinstance(value, ModuleType) and not is_own(getattr(value, "__file__", None) or "<built-in>"):
            continue
        seen.add(id(value))
        try:
            array = live_array(value)
            if array is not None:
                found[path.removeprefix(".")] = array, value
            elif type(value) is not np.ndarray:
                queue.extend((f"{path}{step}", part, depth + 1) for step, part in _parts(value))
        except Exception:  # noqa: S112 -- objects of the agent may raise anything when they are inspected
            continue
    return found


def unregistered(agent: AgentCopy) -> set[str]:
    """Return the parameters of PyTorch layers that no module contains: their paths lead through a list or a dict."""
    arrays = _walk(agent.agent)
    return {path for path, (_, value) in arrays.items() if type(value).__name__ == "Parameter" and "[" in path}


def has_gradients(agent: Any) -> bool:
    """Return whether a PyTorch tensor of ``agent`` has a gradient other than 0."""
    leaves = [value for _, value in _walk(agent).values() if getattr(value, "is_leaf", False)]
    return any(leaf.grad is not None and bool(as_array(leaf.grad).any()) for leaf in leaves)


def live_array(value: Any) -> Array | None:
    """Return ``value`` as a writeable float array that shares its memory, or None."""
    if type(value) is np.ndarray:
        array = value
    elif isinstance(value, np.ndarray) or (hasattr(value, "detach") and hasattr(value, "numpy")):
        array = as_array(value)
    else:
        return None
    return array if array.dtype.kind == "f" and array.flags.writeable and array.size else None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, str | bytes | int | float | complex | type | np.generic | None):
        return
    if callable(getattr(value, "named_parameters", None)) and hasattr(value, "state_dict"):  # a torch module
        named = list(value.named_parameters())
        trained = [one for one in named if one[1].requires_grad]  # some may be frozen on purpose
        yield from ((f".{name}", tensor) for name, tensor in trained or named)
        # Layers in a plain list are not registered in the module, but they take part in the forward pass.
        yield from ((f".{name}", part) for name, part in vars(value).items() if not name.startswith("_"))
    elif isinstance(value, SeparateAgent):
        yield from ((f".{name}", part) for name, part in value.module.items())
        yield "", value.agent
    elif isinstance(value, Mapping):
        for place, (key, part) in enumerate(list(value.items())[:MAX_ITEMS]):
            # A PyTorch optimizer's state has tensors as keys, whose values change.
            yield f"[{key!r}]" if isinstance(key, str | int | tuple) else f"[key {place}]", part
    elif isinstance(value, list | tuple):
        if len(value) <= MAX_ITEMS:
            yield from ((f"[{index}]", part) for index, part in enumerate(value))
    else:
        for name in (*getattr(value, "__dict__", ()), *getattr(type(value), "__slots__", ()), "__self__"):
            yield f".{name}", getattr(value, name, None)
        names = getattr(getattr(value, "__code__", None), "co_freevars", ())
        for name, cell in zip(names, getattr(value, "__closure__", None) or (), strict=False):
            with contextlib.suppress(ValueError):  # an empty cell
                yield f".{name}", cell.cell_contents


def is_vector(array: Array) -> bool:
    """Return whether an array is a vector, a row or a column, as biases are."""
    return array.size == max(array.shape, default=1)


def as_named(value: Any) -> Named:
    """Return arrays by name, from a mapping, from pairs or from a list of arrays."""
    items = list(value.items() if isinstance(value, Mapping) else value)
    if not items or not isinstance(items[0], tuple):
        items = list(enumerate(items))
    return {str(name): as_array(item) for name, item in items}


def online(agent: AgentCopy) -> Named:
    """Return the online network's arrays. Writing to one changes ``q_values``. Raise CannotTell if none are found."""
    session = agent.session
    if session.weights is None:
        session.weights = _discover(agent)
    source, wanted = session.weights
    arrays = _arrays(agent, source)
    if not wanted or any(name not in arrays for name in wanted):
        raise CannotTell("the doctor found no weights that determine q_values. Add parameters() to the adapter")
    return {name: arrays[name] for name in wanted}


def _arrays(agent: AgentCopy, source: str) -> Named:
    return walk(agent.agent) if source == "walk" else as_named(agent.call(source))


def _discover(agent: AgentCopy) -> tuple[str, list[str]]:
    for source in ("parameters", "walk"):
        if source == "walk" or agent.has(source):
            try:
                names = _determine_q(agent, source)
            except (TypeError, ValueError, AttributeError, AgentFailed):
                continue
            if source == "walk":
                # Arrays without gradient are noise or statistics, unless the agent computes every gradient itself.
                tensors = {name: value for name, (_, value) in _walk(agent.agent).items() if name in names}
                trained = {name: getattr(value, "requires_grad", None) for name, value in tensors.items()}
                names = [name for name in names if trained.get(name) or True not in trained.values()]
                names = [name for name in names if not STATISTIC.search(name)] or names
                alike = _statistics(agent, names)
                # If every array is one of these, the update ignores the sign of the error.
                names = [name for name in names if name not in alike] or names
                agent.session.statistics = len(alike) > 0 and not set(names) <= set(alike)
            if names:
                return source, names
    return "walk", []


def _statistics(agent: AgentCopy, names: list[str]) -> list[str]:
    """Return the arrays that change in the same way for every TD error, such as statistics of the observations."""
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


def _determine_q(agent: AgentCopy, source: str, method: str = "q_values") -> list[str]:
    """Return the arrays that ``method`` depends on. Perturb all first, because zero weights hide earlier layers."""
    base = agent.copy()
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((32, agent.session.observation_size)).astype(np.float32)
    arrays = {name: array for name, array in _arrays(base, source).items() if live_array(array) is not None}
    for array in arrays.values():
        array[...] += (0.1 * rng.standard_normal(array.shape)).astype(array.dtype)
    names = []
    for name, array in arrays.items():
        before, kept = base.q(obs, method), array.copy()
        array[...] += 0.1 + np.abs(array)
        if np.abs(base.q(obs, method) - before).max() > 10 * agent.session.noise:
            names.append(name)
        array[...] = kept
    return names


def target_arrays(agent: AgentCopy) -> Named:
    """Return the target network's arrays in the order of the agent's attributes. Raise CannotTell if none are found."""
    source = "target_parameters" if agent.has("target_parameters") else "walk"
    own = online(agent)
    if agent.session.target_weights is None:
        names = _determine_q(agent, source, "target_q_values")
        agent.session.target_weights = [name for name in names if source != "walk" or name not in own]
    arrays = _arrays(agent, source)
    found = {name: arrays[name] for name in agent.session.target_weights if name in arrays}
    if not found:
        raise CannotTell("the doctor found no weights that determine target_q_values")
    return found


def perturb(agent: AgentCopy, seed: int) -> None:
    """Change the online weights of ``agent`` at random, by about half their size."""
    rng = np.random.default_rng(seed)
    for array in online(agent).values():
        typical = float(np.abs(array).mean()) or 0.1
        array[...] += (0.5 * typical * rng.standard_normal(array.shape)).astype(array.dtype)


def randomize(agent: AgentCopy, seed: int) -> None:
    """Change the weights of ``agent`` at random, and sync the target network if the adapter can."""
    perturb(agent, seed)
    if agent.has("sync_target"):
        agent.call("sync_target")


def perturbed(agent: AgentCopy, seed: int) -> AgentCopy:
    """Return a copy whose online weights are changed at random, by about half their size."""
    changed = agent.copy()
    changed.change(lambda copy: perturb(copy, seed))
    return changed


def weight_step(agent: AgentCopy, batch: Transitions) -> Named:
    """Return the change of each weight by one update on ``batch``, in float64."""
    trained = agent.copy()
    before = {name: array.astype(np.float64) for name, array in online(trained).items()}
    trained.train(batch)
    return {name: array - before[name] for name, array in online(trained).items()}


def linear(agent: AgentCopy) -> bool:
    """Return whether Q is a linear function of the weights that an update changes."""
    step = weight_step(agent, agent.session.transitions(max(16, agent.session.min_batch)))
    moved = [name for name in step if step[name].any()]
    obs = agent.session.observations(16)

    def shifted(sign: int) -> Array:
        copy, rng = agent.copy(), np.random.default_rng(0)
        for name in moved:
            online(copy)[name][...] += sign * 0.1 * rng.standard_normal(step[name].shape)
        return copy.q(obs)

    up, here, down = shifted(1), agent.q(obs), shifted(-1)
    return bool(moved) and float(np.abs(up + down - 2 * here).max()) < MATTERS * float(np.abs(up - down).max())


def negative_gradients(agent: AgentCopy, batch: Transitions) -> Named | None:
    """Return minus the gradient of each array: from ``gradients()``, or what a PyTorch optimizer receives, or None."""
    known = agent.session.weights
    if not agent.has("gradients", "parameters") or known is None or known[0] != "parameters":
        return received_gradients(agent, batch)
    given = as_named(agent.copy().call("gradients", *(column.copy() for column in batch)))
    if any(array.dtype.kind not in "fiu" for array in given.values()):  # None, where a copy has no gradient
        return received_gradients(agent, batch)
    shapes = {name: array.shape for name, array in online(agent).items()}
    if not set(shapes) <= set(given):
        given = dict(zip(as_named(agent.call("parameters")), given.values(), strict=False))
    for name, shape in shapes.items():
        if name in given and given[name].size == 1:  # as the update broadcasts it
            given[name] = np.broadcast_to(given[name].reshape(()), shape)
    if any(name not in given or given[name].shape != shape for name, shape in shapes.items()):
        raise CannotTell("gradients() and parameters() return different names or shapes")
    return {name: -given[name].astype(np.float64) for name in shapes}


def received_gradients(agent: AgentCopy, batch: Transitions) -> Named | None:
    """Return minus the gradients in the first step of a PyTorch optimizer, or None if no such step is taken."""
    optimizers = sys.modules.get("torch.optim.optimizer")
    if optimizers is None or agent.session.uses_torch_optimizer is False:
        return None
    received: dict[int, Array] = {}  # by address

    agent.session.optimizer_steps = 0

    def record(optimizer: Any, *_: Any) -> None:
        agent.session.optimizer_steps += 1
        for group in optimizer.param_groups:
            sign = 1.0 if group.get("maximize") else -1.0
            for parameter in group["params"]:
                if parameter.grad is not None and not parameter.grad.is_sparse:
                    gradient = sign * as_array(parameter.grad).astype(np.float64)
                    received.setdefault(parameter.data_ptr(), gradient)

    trained = agent.copy()
    try:
        arrays = online(trained)
    except CannotTell:
        return None
    hook = optimizers.register_optimizer_step_pre_hook(record)
    try:
        trained.train(batch)
    finally:
        hook.remove()
    found = {name: received.get(array.ctypes.data) for name, array in arrays.items()}
    if agent.session.uses_torch_optimizer is None:
        agent.session.uses_torch_optimizer = any(gradient is not None for gradient in found.values())
    if all(gradient is None for gradient in found.values()):
        return None
    return {name: np.zeros(arrays[name].shape) if one is None else one for name, one in found.items()}


def push(agent: AgentCopy, batch: Transitions) -> Named:
    """Return minus the agent's own gradients if the adapter returns them, otherwise the change of the weights."""
    return negative_gradients(agent, batch) or weight_step(agent, batch)


def response(agent: AgentCopy, batch: Transitions) -> Array:
    """Return the update on ``batch`` as a flat vector: its gradient if known, or the change of the weights or of Q."""
    try:
        online(agent)
    except CannotTell:
        return agent.effect(batch).reshape(-1)
    return flat(push(agent, batch))


def differ(one: Array, other: Array) -> bool:
    """Return whether two updates differ by more than rounding."""
    return float(np.abs(one - other).max()) > MATTERS * float(np.abs(one).max())


def flat(arrays: Named) -> Array:
    """Return all arrays as one flat vector."""
    return np.concatenate([array.reshape(-1) for array in arrays.values()])


def cosine(one: Array, other: Array) -> float:
    """Return the cosine between two vectors, or 0 if one of them is 0."""
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length else 0.0
