"""Measure how single transitions move the weights, and the derivatives of Q that explain it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.session import AgentCopy, CannotTell, Session, Stepping
from perilune.doctor.td_reading import with_error
from perilune.doctor.weights import Named, cosine, flat, negative_gradients, online, weight_step

COORDINATES = 32  # weights of each array that are measured
ERROR = 10.0  # the TD error that trials use, in units of return
SMALL_ERROR = 0.25  # the one whose gradient they read, so that clipping does not change it
TRIALS = 4
CLIPPED = 5  # equal largest entries of a gradient that show that it is clipped


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


def q_slopes(agent: AgentCopy, obs: Array, seed: int = 0, wanted: Callable[[str], object] = bool) -> dict[str, Slopes]:
    """Return d Q(obs, a) / d weight for one obs (1, O) and some weights of the online network's wanted arrays."""
    rng = np.random.default_rng(seed)
    places = {name: rng.permutation(array.size)[:COORDINATES] for name, array in online(agent).items()}
    return slopes_at(agent, obs, {name: chosen for name, chosen in places.items() if wanted(name)})


def slopes_at(agent: AgentCopy, obs: Array, places: dict[str, Array]) -> dict[str, Slopes]:
    """Return d Q(obs, a) / d weight for one obs (1, O) and the weights at flat indices ``places`` (n,) of each array.

    Omit weights at which a ReLU has a kink: there, the differences to both sides disagree.
    """
    if agent.session.noise:
        raise CannotTell("q_values returns different values for the same observations, so it has no derivative")
    copy = agent.copy()
    found = {}
    base = copy.q(obs)[0]
    arrays = online(copy)
    for name, chosen in places.items():
        array = arrays[name]
        size = 0.02 * (float(np.abs(array).mean()) + 0.02)
        slopes, bends = [], []
        for place in chosen:
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
        found[name] = Slopes(chosen[smooth], slope[smooth])
    return found


def decays_weights(agent: AgentCopy) -> bool:
    """Return whether weights shrink even without an error: each changes against its own sign."""
    session = agent.session
    if session.weight_decay is None:
        # An optimizer such as Adam amplifies an error of almost 0. Its first steps for errors of both signs cancel out.
        transition = session.transitions(1)
        up, down = (flat(weight_step(agent, with_error(agent, transition, error))) for error in (1.0, -1.0))
        idle = np.where(np.abs(up + down) > 1e-4 * np.abs(up - down), up + down, 0)
        signs = np.sign(flat(online(agent))[idle != 0])
        both = min((signs > 0).sum(), (signs < 0).sum()) >= 10
        session.weight_decay = bool(both) and float((np.sign(idle[idle != 0]) == -signs).mean()) > 0.95
    return session.weight_decay


def first_step(agent: AgentCopy) -> Stepping:
    """Return how the first step depends on the gradient: "proportional" as in SGD, "signs" as in Adam, ...

    Steps are "damped" if they grow less than the gradient, as in RMSProp if epsilon is not small.
    """
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
        elif both.any() and (two[both] / one[both]).min() > 0.99:
            session.stepping = "damped"
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

    @property
    def limit(self) -> float:
        """The value at which clipping limits the entries of the push, or infinity."""
        sizes = [np.abs(array) for array in self.push.values()]
        largest = max(float(size.max()) for size in sizes)
        reached = [int((size > 0.999 * largest).sum()) for size in sizes]
        return largest if sum(reached) >= CLIPPED and np.count_nonzero(reached) >= 2 else np.inf

    def rescaled_outputs(self, weights: Named) -> bool:
        """Return whether the step multiplies the weights of other outputs by a number, as PopArt does."""
        for name in self.single_output_arrays():
            step, before, actions = self.step[name], weights[name], self.slopes[name].slope.shape[1]
            if step.ndim == 2 and actions in step.shape:
                if step.shape[1] != actions:
                    step, before = step.T, before.T
                others = [action for action in range(actions) if action != self.action]
                return all(abs(cosine(step[:, other], before[:, other])) > 0.999 for other in others)
        return False

    def sampled(self, pushed: Named, name: str) -> Array:
        """Return the entries (n,) of ``pushed[name]`` for which there are slopes."""
        return pushed[name].reshape(-1)[self.slopes[name].places]


def first_trials(session: Session, agent: AgentCopy) -> list[Trial]:
    """Return the trials of an agent in its initial state, which several checks use."""
    if session.trials is None:
        session.trials = list(trials(session, agent))
    return session.trials


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
