"""The reward at which an update leaves Q(obs, action) where it is: what the update aims at, read from outside.

An update moves Q(obs, action) towards its target, r + bootstrap, whatever the loss, the optimiser and the step size.
Where it moves nothing, at the still reward r*, the target is Q(obs, action) itself, so

    bootstrap = Q(obs, action) - r*.

The search needs nothing of the agent but ``q_values`` and ``train_batch``.
"""

from __future__ import annotations

from perilune.doctor.patient import Transitions
from perilune.doctor.ward import CannotTell, Case

FURTHEST = 1e5  # in units of the first guess's width


class NoBalance(CannotTell):
    """Q(obs, action) moves the same way whatever the reward is."""


def still_reward(case: Case, transition: Transitions, width: float, level: float | None = None) -> float:
    """r*, for a transition of one row.

    Args:
        case: in any state; copies of it are trained.
        transition: one row; its reward does not matter.
        width: in units of return; the first guess is Q(obs, action) +- ``width``, and r* comes within 1e-4 of it.
        level: where Q(obs, action) ends if nothing pushes it, when that is not where it is: momentum moves it too.

    Raises:
        NoBalance: no reward holds Q(obs, action).
    """
    q = float(case.q(transition.obs)[0, transition.action[0]])
    level = q if level is None else level

    def motion(reward: float) -> float:
        trained = case.copy()
        trained.train(transition._replace(reward=transition.reward * 0 + reward))
        return float(trained.q(transition.obs)[0, transition.action[0]]) - level

    reach = width
    for _ in range(2):  # where no error is learned from that is larger than some limit
        if motion(q - reach) == motion(q + reach) == 0:
            reach /= 10
    while True:
        low, high = q - reach, q + reach
        down, up = motion(low), motion(high)
        if down * up < 0:
            break
        if down == 0 or up == 0:
            near = low if down == 0 else high
            if motion(near + width) != motion(near - width):
                return near
        reach *= 10
        if reach > FURTHEST * width:
            raise NoBalance(f"rewards of {low:.3g} and {high:.3g} move Q(obs, action) by {down:.3g} and {up:.3g}")

    # Illinois' regula falsi: a few steps where the motion is a line, as with SGD, and no worse than halving by much
    # where it is a jump, as with the first step of Adam.
    tolerance = 1e-4 * width
    kept = 0
    for _ in range(80):
        reward = high - up * (high - low) / (up - down)
        moved = motion(reward)
        if moved == 0 or abs(moved) * (high - low) < tolerance * abs(up - down) or high - low < tolerance:
            return reward
        if moved * up > 0:
            high, up = reward, moved
            down = down / 2 if kept == 1 else down
            kept = 1
        else:
            low, down = reward, moved
            up = up / 2 if kept == -1 else up
            kept = -1
    raise CannotTell("no reward holds Q(obs, action) still: its motion is no monotone function of the reward")
