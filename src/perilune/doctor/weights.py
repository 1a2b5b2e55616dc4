"""Find the weights that an agent trains, and measure their updates and the derivatives of Q."""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.protocol import Transitions
from perilune.doctor.session import AgentCopy, AgentFailed, CannotTell, Session, Stepping, as_array
from perilune.doctor.td_reading import with_error

Named = dict[str, Array]

MAX_DEPTH = 8
MAX_ITEMS = 200  # longer lists, such as replay buffers, do not contain weights
COORDINATES = 50  # weights of each array that are measured
ERROR = 10.0  # the TD error that trials use, in units of return
SMALL_ERROR = 0.25  # the one whose gradient they read, so that clipping does not change it
TRIALS = 4
MATTERS = 1e-3  # smallest relative change of an update that counts


def walk(agent: Any) -> Named:
    """Return every floating-point array reachable from ``agent`` by its path. Visit each object once."""
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
            found[path.removeprefix(".")] = array
        else:
            queue.extend((f"{path}{step}", part, depth + 1) for step, part in _parts(value))
    return found


def live_array(value: Any) -> Array | None:
    """Return ``value`` as a writeable float array that shares its memory, or None."""
    is_tensor = hasattr(value, "detach") and hasattr(value, "numpy")
    if not is_tensor and not isinstance(value, np.ndarray):
        return None
    array = as_array(value)
    return array if array.dtype.kind == "f" and array.flags.writeable and array.size else None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, str | bytes | int | float | complex | type | np.generic | None):
        return
    if callable(getattr(value, "named_parameters", None)) and hasattr(value, "state_dict"):  # a torch module
        named = list(value.named_parameters())
        trained = [one for one in named if one[1].requires_grad]  # some may be frozen on purpose
        yield from ((f".{name}", tensor) for name, tensor in trained or named)
    elif isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in list(value.items())[:MAX_ITEMS])
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
                names = [name for name in names if name not in _statistics(agent, names)]
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


def perturbed(agent: AgentCopy, seed: int) -> AgentCopy:
    """Return a copy whose online weights are changed at random, by about half their size."""

    def perturb(copy: AgentCopy) -> None:
        rng = np.random.default_rng(seed)
        for array in online(copy).values():
            typical = float(np.abs(array).mean()) or 0.1
            array[...] += (0.5 * typical * rng.standard_normal(array.shape)).astype(array.dtype)

    changed = agent.copy()
    changed.change(perturb)
    return changed


class Slopes(NamedTuple):
    """Derivatives of Q with respect to some weights of one array."""

    places: Array  # flat indices into the array, (n,)
    slope: Array  # d Q(obs, a) / d weight, (n, A)

    @property
    def clear(self) -> Array:
        """Whether each slope is clearly not 0, (n, A)."""
        return np.asarray(np.abs(self.slope) > 1e-3 * np.abs(self.slope).max(initial=0))

    @property
    def single_output(self) -> bool:
        """Whether each weight affects the output of only one action."""
        return bool(len(self.places) and self.slope.any() and self.clear.sum(axis=1).max() == 1)


def q_slopes(agent: AgentCopy, obs: Array, seed: int = 0) -> dict[str, Slopes]:
    """Return d Q(obs, a) / d weight for one obs (1, O) and some weights of every array of the online network.

    Omit weights at which a ReLU has a kink: there, the differences to both sides disagree.
    """
    if agent.session.noise:
        raise CannotTell("q_values returns different values for the same observations, so it has no derivative")
    copy = agent.copy()
    rng = np.random.default_rng(seed)
    found = {}
    base = copy.q(obs)[0]
    for name, array in online(copy).items():
        places = rng.permutation(array.size)[:COORDINATES]
        size = 0.02 * (float(np.abs(array).mean()) + 0.02)
        slopes, bends = [], []
        for place in places:
            index = np.unravel_index(place, array.shape)
            kept = array[index]
            array[index] = kept + size
            distance = float(array[index])
            up = copy.q(obs)[0]
            array[index] = kept - size
            distance -= float(array[index])  # float32 rounds the change
            down = copy.q(obs)[0]
            array[index] = kept
            slopes.append((up - down) / distance)
            bends.append((up + down - 2 * base) / distance)
        slope = np.array(slopes)
        smooth = np.abs(bends).max(axis=1) <= 0.05 * np.abs(slope).max() + 1e-6
        found[name] = Slopes(places[smooth], slope[smooth])
    return found


def weight_step(agent: AgentCopy, batch: Transitions) -> Named:
    """Return the change of each weight by one update on ``batch``, in float64."""
    trained = agent.copy()
    before = {name: array.astype(np.float64) for name, array in online(trained).items()}
    trained.train(batch)
    return {name: array - before[name] for name, array in online(trained).items()}


def decays_weights(agent: AgentCopy) -> bool:
    """Return whether weights shrink even without an error: each changes against its own sign."""
    session = agent.session
    if session.weight_decay is None:
        idle = flat(weight_step(agent, with_error(agent, session.transitions(1), 0.0)))
        signs = np.sign(flat(online(agent))[idle != 0])
        both = min((signs > 0).sum(), (signs < 0).sum()) >= 10
        session.weight_decay = bool(both) and float((np.sign(idle[idle != 0]) == -signs).mean()) > 0.95
    return session.weight_decay


def negative_gradients(agent: AgentCopy, batch: Transitions) -> Named | None:
    """Return minus the gradient of each array: from ``gradients()``, or what a PyTorch optimizer receives, or None."""
    known = agent.session.weights
    if not agent.has("gradients", "parameters") or known is None or known[0] != "parameters":
        return _received_by_optimizer(agent, batch)
    given = as_named(agent.copy().call("gradients", *(column.copy() for column in batch)))
    shapes = {name: array.shape for name, array in online(agent).items()}
    if not set(shapes) <= set(given):
        given = dict(zip(as_named(agent.call("parameters")), given.values(), strict=False))
    if any(name not in given or given[name].shape != shape for name, shape in shapes.items()):
        raise CannotTell("gradients() and parameters() return different names or shapes")
    return {name: -given[name].astype(np.float64) for name in shapes}


def _received_by_optimizer(agent: AgentCopy, batch: Transitions) -> Named | None:
    """Return minus the gradients in the first step of a PyTorch optimizer, or None if no such step is taken."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    received: dict[int, Array] = {}  # by address

    def record(optimizer: Any, *_: Any) -> None:
        for group in optimizer.param_groups:
            sign = 1.0 if group.get("maximize") else -1.0
            for parameter in group["params"]:
                if parameter.grad is not None and not parameter.grad.is_sparse:
                    gradient = sign * as_array(parameter.grad).astype(np.float64)
                    received.setdefault(parameter.data_ptr(), gradient)

    trained = agent.copy()
    arrays = online(trained)
    hook = torch.optim.optimizer.register_optimizer_step_pre_hook(record)
    try:
        trained.train(batch)
    finally:
        hook.remove()
    found = {name: received.get(array.ctypes.data) for name, array in arrays.items()}
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


def first_step(agent: AgentCopy) -> Stepping:
    """Return how the first step depends on the gradient: "proportional" as in SGD, "signs" as in Adam, ..."""
    session = agent.session
    if session.stepping is None:
        session.stepping = "unknown"
        for _ in range(10):  # in some states, no weight of the action can change
            transition = session.transitions(1)
            small, large = (weight_step(agent, with_error(agent, transition, error)) for error in (0.05, 0.5))
            one, two = flat(small), flat(large)
            if one.any() and two.any():
                break
        both = (one != 0) & (two != 0)
        ratio = float(np.median(np.abs(two[both] / one[both]))) if both.any() else 0.0
        if _equal_sizes(large):
            session.stepping = "signs"
        elif 0 < ratio < 0.5:
            session.stepping = "inverse"
        elif cosine(one, two) > 0.98 and ratio > 1.5:
            session.stepping = "proportional"
    return session.stepping


def _equal_sizes(steps: Named) -> bool:
    """Return whether most weights change by the same amount, ignoring small changes by weight decay."""
    sizes = [np.abs(array[np.abs(array) > 0.05 * np.abs(array).max()]) for array in steps.values()]
    usual = [np.abs(size / np.median(size) - 1) < 0.02 for size in sizes if size.size > 1]
    return bool(usual) and float(np.concatenate(usual).mean()) > 0.6


class Trial(NamedTuple):
    """Two updates on one transition: with a target above Q(obs, action), and with one below."""

    action: int
    obs: Array  # (1, O)
    slopes: dict[str, Slopes]
    step: Named  # change of the weights in the update with the higher target
    step_down: Named  # the same with the lower target
    push: Named  # minus the gradients if they are known, or step

    def single_output_arrays(self) -> list[str]:
        """Return the arrays in which each weight affects the output of one action only, matrices first."""
        names = [name for name, slopes in self.slopes.items() if slopes.single_output]
        return sorted(names, key=lambda name: -self.step[name].ndim)

    def output_push(self, pushed: Named) -> Array | None:
        """Return how far ``pushed`` pushes each action's output (A,), or None if all weights affect several outputs."""
        names = self.single_output_arrays()
        if not names:
            return None
        slopes = self.slopes[names[0]]
        slope = slopes.slope * slopes.clear
        return np.asarray(self.sampled(pushed, names[0]) @ np.sign(slope) / (np.abs(slope).sum(axis=0) + 1e-300))

    def expected(self, name: str) -> Array:
        """Return the direction (n,) in which the array ``name`` should change, given the push of the outputs."""
        outputs = self.output_push(self.push)
        if outputs is None:
            outputs = np.eye(self.slopes[name].slope.shape[1])[self.action]
        outputs = outputs * (np.abs(outputs) > 0.01 * np.abs(outputs).max(initial=0))
        return np.asarray(self.slopes[name].slope @ (outputs / (np.abs(outputs).max() + 1e-300)))

    def sampled(self, pushed: Named, name: str) -> Array:
        """Return the entries (n,) of ``pushed[name]`` for which there are slopes."""
        return pushed[name].reshape(-1)[self.slopes[name].places]


def trials(session: Session, agent: AgentCopy) -> Iterator[Trial]:
    """Yield ``TRIALS`` trials. Each trains copies of ``agent`` on one transition. The actions cycle."""
    for seed in range(TRIALS):
        transition = session.transitions(1)._replace(action=np.array([seed % session.actions]))
        up, down = (with_error(agent, transition, error) for error in (ERROR, -ERROR))
        step, step_down = weight_step(agent, up), weight_step(agent, down)
        if decays_weights(agent):  # without a gradient, Adam makes the decay as large as other steps
            for one, other in zip(step.values(), step_down.values(), strict=True):
                decay = np.isclose(one, other, rtol=0.01, atol=0)
                one[decay] = other[decay] = 0
        pushed = negative_gradients(agent, with_error(agent, transition, SMALL_ERROR)) or step
        slopes = q_slopes(agent, transition.obs, seed)
        yield Trial(seed % session.actions, transition.obs, slopes, step, step_down, pushed)
