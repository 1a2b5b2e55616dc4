"""MountainCar-v0: swing a weak car back and forth until it reaches the top of a hill."""

from __future__ import annotations

from perilune.envs.known.record import GOAL, Controls, KnownEnv, tuned

MOUNTAIN_CAR = KnownEnv(
    env_id="MountainCar-v0",
    observations=("position", "velocity"),
    actions=("push left", "nothing", "push right"),
    outcomes=GOAL,
    controls=Controls.arrows(left=0, right=2, idle=(1,)),
    preset=tuned(100_000),
    # The goal is rare at first, so the fast preset keeps the replay buffer, unlike those of the other environments.
    fast=tuned(
        100_000,
        {"num_envs": 8, "eval_every": 2_500, "eval_episodes": 20},
        hidden=(64, 64),
        head="expected",
        optimism=0.0,
        huber_delta=10.0,
        batch_size=128,
        train_freq=8,
        learning_rate=2e-3,
    ),
)
