"""LunarLander-v3: land between the flags. Needs Box2D."""

from __future__ import annotations

from perilune._utils.arrays import Array
from perilune.envs.known.record import Controls, KnownEnv, Outcomes, Scene, fast_rollout, tuned
from perilune.replay.symmetry import Symmetry


def _outcome(obs: Array, reward: float, terminated: bool) -> str:
    """Name the outcome. The last reward is 100 after a landing, and -100 after a crash or if abs(obs[0]) >= 1."""
    if not terminated:
        return "hovered"
    if reward > 0:  # not "reward == 100": a wrapper may have scaled it
        return "landed"
    return "flew off" if abs(obs[0]) >= 1 else "crashed"


LUNAR_LANDER = KnownEnv(
    env_id="LunarLander-v3",
    observations=(
        "x",
        "y",
        "x velocity",
        "y velocity",
        "angle",
        "angular velocity",
        "left leg down",
        "right leg down",
    ),
    actions=("nothing", "left engine", "main engine", "right engine"),
    scene=Scene(terrain=-0.09, pad=(-0.2, 0.2)),
    outcomes=Outcomes(("landed", "crashed", "flew off", "hovered"), _outcome, unfinished="hovered"),
    symmetry=Symmetry(
        observation_index=(0, 1, 2, 3, 4, 5, 7, 6),
        observation_sign=(-1, 1, -1, 1, -1, -1, 1, 1),
        action_index=(0, 3, 2, 1),
    ),
    controls=Controls.arrows(left=1, right=3, up=2, idle=(0,)),
    preset=tuned(
        200_000,
        mirror=True,
        batch_size=128,
        gamma=0.995,
        munchausen=0.9,
        munchausen_temperature=0.3,
        munchausen_floor=-10.0,
    ),
    fast=fast_rollout(500_000, mirror=True, epsilon_decay_steps=60_000),
)
