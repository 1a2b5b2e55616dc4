"""MountainCar-v0: swing a weak car back and forth until it reaches the top of a hill."""

from __future__ import annotations

from perilune.envs.known.record import GOAL, Controls, KnownEnv, fast_replay, tuned

MOUNTAIN_CAR = KnownEnv(
    env_id="MountainCar-v0",
    observations=("position", "velocity"),
    actions=("push left", "nothing", "push right"),
    outcomes=GOAL,
    controls=Controls.arrows(left=0, right=2, idle=(1,)),
    preset=tuned(100_000),
    fast=fast_replay(100_000, hidden=(64, 64)),  # a rollout without replay uses the rare goal too few times
)
