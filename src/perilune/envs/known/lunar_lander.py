"""What an episode came to, in a word: a mean return does not say what an agent does."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from perilune import envs
from perilune._utils.arrays import Array


class Outcomes(NamedTuple):
    """What an episode can come to: every label, and the one that fits.

    ``label`` takes the last obs[O], the last reward and whether the episode terminated; else it was cut off, by the
    environment's time limit or somebody else's.
    """

    labels: tuple[str, ...]
    label: Callable[[Array, float, bool], str]


def _lunar_lander(obs: Array, reward: float, terminated: bool) -> str:
    """At rest the last reward is 100; it is -100 where the body hit the ground, or |x| (obs[0]) reached 1."""
    if not terminated:
        return "hovered"
    if reward > 0:  # and not 100, which a wrapper may have scaled
        return "landed"
    return "flew off" if abs(obs[0]) >= 1 else "crashed"


def _cart_pole(obs: Array, reward: float, terminated: bool) -> str:
    """The track ends where |x| (obs[0]) is 2.4."""
    if not terminated:
        return "balanced"
    return "left the track" if abs(obs[0]) > 2.4 else "fell"


def _goal(obs: Array, reward: float, terminated: bool) -> str:
    return "reached the goal" if terminated else "ran out of time"


LANDER = Outcomes(("landed", "crashed", "flew off", "hovered"), _lunar_lander)
CART = Outcomes(("balanced", "fell", "left the track"), _cart_pole)
GOAL = Outcomes(("reached the goal", "ran out of time"), _goal)
OUTCOMES = {
    "LunarLander-v3": LANDER,
    "CartPole-v0": CART,
    "CartPole-v1": CART,
    "Acrobot-v1": GOAL,
    "MountainCar-v0": GOAL,
}


def known_outcomes(env: envs.Env) -> Outcomes | None:
    """What the environment's episodes can come to, by its id; None where that has no names."""
    return OUTCOMES.get(envs.name(env))
