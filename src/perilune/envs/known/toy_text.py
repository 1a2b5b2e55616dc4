"""Gymnasium's toy text environments: grids and card games with numbered states, which Perilune one-hot encodes."""

from __future__ import annotations

from perilune.envs.known.record import Controls, KnownEnv

FROZEN_LAKE = KnownEnv(
    env_id="FrozenLake-v1",
    actions=("left", "down", "right", "up"),
    controls=Controls.arrows(left=0, right=2, down=1, up=3),
)
CLIFF_WALKING = KnownEnv(
    env_id="CliffWalking-v1",
    actions=("up", "right", "down", "left"),
    controls=Controls.arrows(left=3, right=1, down=2, up=0),
)
TAXI = KnownEnv(
    env_id="Taxi-v4",
    actions=("south", "north", "east", "west", "pick up", "drop off"),
    controls=Controls.arrows(left=3, right=2, down=0, up=1, **{"4": 4, "5": 5}),
)
BLACKJACK = KnownEnv(env_id="Blackjack-v1", actions=("stick", "hit"))
