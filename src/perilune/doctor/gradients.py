"""Where an update pushes each weight, and where it should: the derivatives of Q by central differences."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor import parameters
from perilune.doctor.parameters import Named
from perilune.doctor.protocol import Transitions
from perilune.doctor.session import AgentCopy, CannotTell, Session, Stepping
from perilune.doctor.td_reading import with_error

COORDINATES = 50  # of each array
ERROR = 10.0  # the TD error that trials use, in units of return
TRIALS = 4


class Slope(NamedTuple):
    """Derivatives of Q on some coordinates of one array.

    ``places`` (n,) are flat indices into it, ``slope`` (n, A) is d Q(obs, a) / d weight.
    """

    places: Array
    slope: Array


def q_slopes(agent: AgentCopy, obs: Array, seed: int = 0) -> dict[str, Slope]:
    """Return d Q(obs, a) / d weight for one obs (1, O), on some coordinates of every array of the online network.

    Coordinates where the differences on both sides disagree lie at a kink of ReLU and are left out.
    """
    if agent.session.noise:
        raise CannotTell("q_values differ between calls and cannot be differentiated")
    copy = agent.copy()
    rng = np.random.default_rng(seed)
    found = {}
    base = copy.q(obs)[0]
    for name, array in parameters.online(copy).items():
        places = rng.permutation(array.size)[:COORDINATES]
        size = 0.02 * (float(np.abs(array).mean()) + 0.02)
        slope, bend = np.stack([_difference(copy, obs, base, array, place, size) for place in places], axis=1)
        smooth = np.abs(bend).max(axis=1) <= 0.05 * np.abs(slope).max() + 1e-6
        found[name] = Slope(places[smooth], slope[smooth])
    return found


def _difference(
    agent: AgentCopy, obs: Array, base: Array, array: Array, place: int, size: float
) -> tuple[Array, Array]:
    """Return the slope of Q along one weight (A,), and by how much the slopes on both sides of it differ."""
    index = np.unravel_index(place, array.shape)
    kept = array[index]
    array[index] = kept + size
    distance = float(array[index])
    up = agent.q(obs)[0]
    array[index] = kept - size
    distance -= float(array[index])  # float32 rounds the size
    down = agent.q(obs)[0]
    array[index] = kept
    return (up - down) / distance, (up + down - 2 * base) / distance


def weights(agent: AgentCopy) -> Named:
    """Return copies of the online network's weights in float64."""
    return {name: np.array(array, np.float64) for name, array in parameters.online(agent).items()}


def weight_step(agent: AgentCopy, batch: Transitions) -> Named:
    """Return what one update on ``batch`` adds to each weight."""
    trained = agent.copy()
    before = weights(trained)
    trained.train(batch)
    after = weights(trained)
    return {name: after[name] - before[name] for name in before}


def has_weight_decay(agent: AgentCopy) -> bool:
    """Return whether weights shrink even without an error: each steps against its own sign."""
    session = agent.session
    if session.weight_decay is None:
        idle = joined(weight_step(agent, with_error(agent, session.transitions(1), 0.0)))
        signs = np.sign(joined(weights(agent))[idle != 0])
        both = min((signs > 0).sum(), (signs < 0).sum()) >= 10
        session.weight_decay = bool(both) and float((np.sign(idle[idle != 0]) == -signs).mean()) > 0.95
    return session.weight_decay


def negative_gradients(agent: AgentCopy, batch: Transitions) -> Named | None:
    """Return minus the agent's own gradients by the names of its parameters, or None if it has none.

    Raises:
        CannotTell: ``gradients()`` and ``parameters()`` do not match.
    """
    known = agent.session.weights
    if not agent.has("gradients", "parameters") or known is None or known[0] != "parameters":
        return None
    given = parameters.as_named(agent.copy().call("gradients", *(column.copy() for column in batch)))
    shapes = {name: array.shape for name, array in parameters.online(agent).items()}
    if not set(shapes) <= set(given):
        given = dict(zip(parameters.as_named(agent.call("parameters")), given.values(), strict=False))
    if any(name not in given or given[name].shape != shape for name, shape in shapes.items()):
        raise CannotTell("gradients() has other names or shapes than parameters()")
    return {name: -given[name].astype(np.float64) for name in shapes}


def push(agent: AgentCopy, batch: Transitions) -> Named:
    """Return the direction in which the agent pushes its weights: minus its gradients if it has them, or its step."""
    own = negative_gradients(agent, batch)
    return weight_step(agent, batch) if own is None else own


def joined(arrays: Named) -> Array:
    """Return all arrays as one flat vector."""
    return np.concatenate([array.reshape(-1) for array in arrays.values()])


def cosine(one: Array, other: Array) -> float:
    """Return the cosine between two vectors; 0 if one of them is 0."""
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length else 0.0


def first_step(agent: AgentCopy) -> Stepping:
    """Return how the first step follows the gradient.

    Returns:
        "proportional" (SGD), "signs" (Adam), "inverse" (larger gradients make smaller steps) or "unknown".
    """
    session = agent.session
    if session.stepping is None:
        session.stepping = "unknown"
        for _ in range(10):  # until a transition is found whose action's value can move
            transition = session.transitions(1)
            small, large = (weight_step(agent, with_error(agent, transition, error)) for error in (0.05, 0.5))
            if joined(small).any() and joined(large).any():
                break
        one, two = joined(small), joined(large)
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
    """Return whether most weights that move do so by the same amount. Weight decay moves the others a little."""
    usual = total = 0
    for array in steps.values():
        sizes = np.abs(array[np.abs(array) > 0.05 * np.abs(array).max()])
        if sizes.size > 1:
            usual += int((np.abs(sizes / np.median(sizes) - 1) < 0.02).sum())
            total += sizes.size
    return usual > 0.6 * total


class Trial(NamedTuple):
    """Updates on one transition, with a target above Q(obs, action) and with one below it."""

    action: int
    obs: Array  # (1, O)
    slopes: dict[str, Slope]
    step: Named  # what the update with the higher target adds to the weights
    step_down: Named  # what the update with the lower target adds
    push: Named  # minus the agent's own gradients if it has them, or step
    own_gradients: bool

    def single_output_arrays(self) -> list[str]:
        """Return the arrays each of whose weights affects the output of one action only, matrices first."""
        names = []
        for name, (places, slope) in self.slopes.items():
            affected = (np.abs(slope) > 1e-3 * np.abs(slope).max(initial=0)).sum(axis=1)
            if len(places) and slope.any() and affected.max() == 1:
                names.append(name)
        return sorted(names, key=lambda name: -self.step[name].ndim)

    def output_push(self, pushed: Named) -> Array | None:
        """Return how far ``pushed`` pushes each action's output (A,), or None if no weight belongs to one action."""
        names = self.single_output_arrays()
        if not names:
            return None
        places, slope = self.slopes[names[0]]
        slope = slope * (np.abs(slope) > 1e-3 * np.abs(slope).max())
        outputs: Array = pushed[names[0]].reshape(-1)[places] @ np.sign(slope) / (np.abs(slope).sum(axis=0) + 1e-300)
        return outputs

    def expected(self, name: str) -> Array:
        """Return the direction (n,) in which the array ``name`` should move, given how the outputs are pushed."""
        outputs = self.output_push(self.push)
        if outputs is None:
            outputs = np.eye(self.slopes[name].slope.shape[1])[self.action]
        outputs = outputs * (np.abs(outputs) > 0.01 * np.abs(outputs).max(initial=0))
        direction: Array = self.slopes[name].slope @ (outputs / (np.abs(outputs).max() + 1e-300))
        return direction

    def sampled(self, pushed: Named, name: str) -> Array:
        """Return the entries (n,) of ``pushed[name]`` for which there are slopes."""
        return pushed[name].reshape(-1)[self.slopes[name].places]


def trial(session: Session, agent: AgentCopy, seed: int) -> Trial:
    """Train copies of ``agent`` on one transition whose action is ``seed`` modulo A."""
    transition = session.transitions(1)._replace(action=np.array([seed % session.actions]))
    up, down = (with_error(agent, transition, error) for error in (ERROR, -ERROR))
    step, step_down = weight_step(agent, up), weight_step(agent, down)
    if has_weight_decay(agent):  # Adam makes the decay as large as any step where there is no gradient
        for one, other in zip(step.values(), step_down.values(), strict=True):
            decay = np.isclose(one, other, rtol=0.01, atol=0)
            one[decay] = other[decay] = 0
    own = negative_gradients(agent, up)
    slopes = q_slopes(agent, transition.obs, seed)
    action = int(transition.action[0])
    return Trial(action, transition.obs, slopes, step, step_down, step if own is None else own, own is not None)
