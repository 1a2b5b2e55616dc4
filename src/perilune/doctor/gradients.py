"""Where an update pushes each weight, and where it should: the derivatives of Q by central differences."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor import networks
from perilune.doctor.balance import still_reward
from perilune.doctor.patient import Transitions
from perilune.doctor.ward import CannotTell, Case

COORDINATES = 50  # of each array

Kind = Literal["proportional", "signs", "inverse", "unknown"]


class Slope(NamedTuple):
    """Of one array: ``places``[n], flat indices into it, and ``slope``[n, A], d Q(obs, a) / d each of them."""

    places: Array
    slope: Array


def slopes(case: Case, obs: Array, seed: int = 0) -> dict[str, Slope]:
    """d Q(obs, a) / d weight for one obs[1, O], on some coordinates of every array of the online network.

    Central differences; coordinates where the two sides differ lie at a kink of ReLU and are left out.
    """
    if case.ward.noise:
        raise CannotTell("q_values differ from call to call, so that they cannot be differentiated")
    poked = case.copy()
    random = np.random.default_rng(seed)
    found = {}
    base = poked.q(obs)[0]
    for name, array in networks.online(poked).items():
        places = random.permutation(array.size)[:COORDINATES]
        step = 0.02 * (float(np.abs(array).mean()) + 0.02)
        slope, bend = np.stack([_difference(poked, obs, base, array, place, step) for place in places], axis=1)
        smooth = np.abs(bend).max(axis=1) <= 0.05 * np.abs(slope).max() + 1e-6
        found[name] = Slope(places[smooth], slope[smooth])
    return found


def _difference(case: Case, obs: Array, base: Array, array: Array, place: int, step: float) -> tuple[Array, Array]:
    """The slope of Q along one weight, [A], and by how much the slopes on both sides of it differ."""
    index = np.unravel_index(place, array.shape)
    kept = array[index]
    array[index] = kept + step
    reach = float(array[index])
    up = case.q(obs)[0]
    array[index] = kept - step
    reach -= float(array[index])  # float32 does not step as far as it was told
    down = case.q(obs)[0]
    array[index] = kept
    return (up - down) / reach, (up + down - 2 * base) / reach


def weights(case: Case) -> networks.Named:
    """The online network's weights now, as copies in float64."""
    return {name: np.array(array, np.float64) for name, array in networks.online(case).items()}


def step(case: Case, batch: Transitions) -> networks.Named:
    """What one update on ``batch`` adds to each weight."""
    trained = case.copy()
    before = weights(trained)
    trained.train(batch)
    after = weights(trained)
    return {name: after[name] - before[name] for name in before}


def decays(case: Case) -> bool:
    """Whether weights shrink also where there is no error: each is stepped against its own sign."""
    ward = case.ward
    if "decays" not in ward.facts:
        still = joined(step(case, towards(case, ward.transitions(1), 0.0)))
        signs = np.sign(joined(weights(case))[still != 0])
        both = min((signs > 0).sum(), (signs < 0).sum()) >= 10
        ward.facts["decays"] = bool(both) and float((np.sign(still[still != 0]) == -signs).mean()) > 0.95
    known: bool = ward.facts["decays"]
    return known


def gradient_push(case: Case, batch: Transitions) -> networks.Named | None:
    """The patient's own gradients with the sign turned, by the names of its parameters; None if it gives none."""
    if not case.has("gradients", "parameters") or case.ward.facts.get("online", ("", []))[0] != "parameters":
        return None
    given = networks.as_named(case.copy().call("gradients", *(column.copy() for column in batch)))
    shapes = {name: array.shape for name, array in networks.online(case).items()}
    if not set(shapes) <= set(given):
        given = dict(zip(networks.as_named(case.call("parameters")), given.values(), strict=False))
    if any(name not in given or given[name].shape != shape for name, shape in shapes.items()):
        raise CannotTell("gradients() gives other names and shapes than parameters()")
    return {name: -given[name].astype(np.float64) for name in shapes}


class Aim(NamedTuple):
    """How to make a TD error of this agent's: with which flag, and how far its target lies above the reward."""

    terminated: bool
    above: Array


def aim(case: Case, transition: Transitions) -> Aim:
    """Where ends are treated as they should be, a terminated transition's target is its reward."""
    ends = case.ward.facts.get("ends", "sound")
    flag = ends in ("sound", "no_mask")
    if ends in ("sound", "mask_inverted"):
        return Aim(flag, np.zeros(len(transition.action)))
    flagged = transition._replace(terminated=np.full_like(transition.terminated, flag))
    q = case.q(transition.obs)
    width = float(np.abs(q).max()) + 1
    above = [
        q[row, action] - still_reward(case, flagged.rows([row]), width) for row, action in enumerate(transition.action)
    ]
    return Aim(flag, np.array(above))


def towards(case: Case, transition: Transitions, error: float, aimed: Aim | None = None) -> Transitions:
    """``transition`` with the reward that makes its TD error ``error``."""
    terminated, above = aimed or aim(case, transition)
    q = case.q(transition.obs)[np.arange(len(transition.action)), transition.action]
    return transition._replace(
        reward=(q + error - above).astype(np.float32), terminated=np.full_like(transition.terminated, terminated)
    )


def joined(moves: networks.Named) -> Array:
    return np.concatenate([move.reshape(-1) for move in moves.values()])


def cosine(one: Array, other: Array) -> float:
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length else 0.0


def _of_one_size(moves: networks.Named) -> bool:
    """Whether most weights that are pushed move as far as the others of their array; decay moves the rest a little."""
    usual = total = 0
    for move in moves.values():
        sizes = np.abs(move[np.abs(move) > 0.05 * np.abs(move).max()])
        if sizes.size > 1:
            usual += int((np.abs(sizes / np.median(sizes) - 1) < 0.02).sum())
            total += sizes.size
    return usual > 0.6 * total


def stepping(case: Case) -> Kind:
    """How the first step follows the gradient: in proportion, by its signs (as Adam's), or inversely."""
    ward = case.ward
    if "stepping" not in ward.facts:
        kind: Kind = "unknown"
        for _ in range(10):  # until one lies where its action's value can be moved
            transition = ward.transitions(1)
            small, large = (step(case, towards(case, transition, error)) for error in (0.05, 0.5))
            if joined(small).any() and joined(large).any():
                break
        one, two = joined(small), joined(large)
        both = (one != 0) & (two != 0)
        ratio = float(np.median(np.abs(two[both] / one[both]))) if both.any() else 0.0
        if _of_one_size(large):
            kind = "signs"
        elif 0 < ratio < 0.5:
            kind = "inverse"
        elif cosine(one, two) > 0.98 and ratio > 1.5:
            kind = "proportional"
        ward.facts["stepping"] = kind
    known: Kind = ward.facts["stepping"]
    return known
