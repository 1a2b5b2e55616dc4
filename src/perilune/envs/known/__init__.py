"""What is known about single environments, one file each. ``register`` adds the record of another environment."""

from __future__ import annotations

from perilune.envs.known.acrobot import ACROBOT
from perilune.envs.known.cart_pole import CART_POLE, CART_POLE_V0
from perilune.envs.known.lunar_lander import LUNAR_LANDER
from perilune.envs.known.mountain_car import MOUNTAIN_CAR
from perilune.envs.known.record import Controls, KnownEnv, Outcomes, Preset
from perilune.envs.known.toy_text import BLACKJACK, CLIFF_WALKING, FROZEN_LAKE, TAXI

__all__ = ["ENVIRONMENTS", "Controls", "KnownEnv", "Outcomes", "Preset", "lookup", "register"]

ENVIRONMENTS = {
    known.env_id: known
    for known in (
        LUNAR_LANDER,
        CART_POLE,
        CART_POLE_V0,
        ACROBOT,
        MOUNTAIN_CAR,
        FROZEN_LAKE,
        CLIFF_WALKING,
        TAXI,
        BLACKJACK,
    )
}
"""The known environments by id; of several versions the newest comes first."""


def lookup(env_id: str) -> KnownEnv:
    """Return what is known about an environment; for unknown ones, a record in which everything is missing.

    An id without a version means the newest version.
    """
    versions = (known for name, known in ENVIRONMENTS.items() if env_id in (name, name.rpartition("-v")[0]))
    return next(versions, KnownEnv(env_id=env_id))


def register(known: KnownEnv) -> None:
    """Add the record of an environment, or replace it. Call it where you register the environment with Gymnasium."""
    ENVIRONMENTS[known.env_id] = known
