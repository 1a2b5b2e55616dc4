"""Acrobot-v1: swing up the tip of a two-link pendulum by torque on the joint between the links."""

from __future__ import annotations

from perilune.envs.known.record import GOAL, Controls, KnownEnv, fast_replay, tuned
from perilune.replay.symmetry import Symmetry

ACROBOT = KnownEnv(
    env_id="Acrobot-v1",
    observations=("cos angle 1", "sin angle 1", "cos angle 2", "sin angle 2", "velocity 1", "velocity 2"),
    actions=("torque -1", "no torque", "torque +1"),
    map_axes=(4, 5),
    outcomes=GOAL,
    symmetry=Symmetry(
        observation_index=(0, 1, 2, 3, 4, 5),
        observation_sign=(1, -1, 1, -1, -1, -1),
        action_index=(2, 1, 0),
    ),
    controls=Controls.arrows(left=0, right=2, idle=(1,)),
    preset=tuned(100_000, mirror=True, epsilon_end=0.01),
    fast=fast_replay(100_000, hidden=(64, 64)),
)
