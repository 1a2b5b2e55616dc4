"""Records of known environments."""

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
"""Records by Gymnasium ID. The newest version of an environment comes first."""


def lookup(env_id: str) -> KnownEnv:
    """Return the record of an environment, or an empty record if the environment is unknown.

    Args:
        env_id: Gymnasium ID. An ID without a version selects the newest version.
    """
    versions = (known for name, known in ENVIRONMENTS.items() if env_id in (name, name.rpartition("-v")[0]))
    return next(versions, KnownEnv(env_id=env_id))


def register(known: KnownEnv) -> None:
    """Add or replace the record of an environment. Call it where you register the environment with Gymnasium.

    Args:
        known: the record.

    Example:
        >>> register(KnownEnv(env_id="Corridor-v0", actions=("left", "right")))
        >>> lookup("Corridor-v0").actions
        ('left', 'right')
    """
    ENVIRONMENTS[known.env_id] = known
