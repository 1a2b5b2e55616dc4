"""CartPole: balance a pole on a cart. An episode has at most 500 steps in version 1, and 200 in version 0."""

from __future__ import annotations

from dataclasses import replace

from perilune._utils.arrays import Array
from perilune.envs.known.record import Controls, KnownEnv, Outcomes, fast_rollout, tuned
from perilune.replay.symmetry import Symmetry


def _outcome(obs: Array, reward: float, terminated: bool) -> str:
    """Name the outcome. The track ends where abs(obs[0]), the absolute position, is 2.4."""
    if not terminated:
        return "balanced"
    return "left the track" if abs(obs[0]) > 2.4 else "fell"


CART_POLE = KnownEnv(
    env_id="CartPole-v1",
    observations=("position", "velocity", "angle", "angular velocity"),
    actions=("push left", "push right"),
    map_axes=(2, 3),
    outcomes=Outcomes(("balanced", "fell", "left the track"), _outcome),
    symmetry=Symmetry(observation_index=(0, 1, 2, 3), observation_sign=(-1, -1, -1, -1), action_index=(1, 0)),
    controls=Controls.arrows(left=0, right=1, idle=(0, 1)),  # alternating pushes nearly cancel
    preset=tuned(
        40_000,
        {"eval_every": 2_500, "eval_episodes": 20},
        mirror=True,
        gamma=0.995,
        huber_delta=10.0,
        optimism=0.75,
        max_action_repeat=5,
    ),
    fast=fast_rollout(100_000, mirror=True, epsilon_decay_steps=10_000, buffer_size=1_024),
)
CART_POLE_V0 = replace(CART_POLE, env_id="CartPole-v0", preset=None, fast=None)
