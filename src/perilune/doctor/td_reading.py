"""Measure the target of an update from its effect on Q.

An update moves Q(obs, action) toward its target r + bootstrap, for any loss, optimizer and step size. At the neutral
reward r*, the target equals Q(obs, action), and the update changes nothing. So

    bootstrap = Q(obs, action) - r*.

The search for r* needs only ``q_values`` and ``train_batch``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from perilune._utils.arrays import Array
from perilune.doctor.catalogue import listed
from perilune.doctor.protocol import Transitions
from perilune.doctor.report import Points
from perilune.doctor.session import AgentCopy, CannotTell, Session
from perilune.doctor.weights import cosine, flat, received_gradients, weight_step

Aim = tuple[bool, Array]  # the value of ``terminated``, and how far the target lies above the reward (B,)

MAX_REACH = 1e5  # largest distance of the search from Q, relative to its initial width
UNSURE = 5e-3  # precision of a bootstrap, relative to the largest one
CLEAR = 0.01  # largest relative distance at which a candidate matches
ALIKE = 0.99  # smallest cosine between equal directions of two steps


def _motion(agent: AgentCopy, transition: Transitions, q: float, width: float) -> Callable[[float], float]:
    """Return the function of the reward that is positive where an update moves Q(obs, action) up.

    Where the gradients are known, it is the gradient in the direction of the gradient for a large target: the gradient
    of a single transition is the TD error times a constant vector, unlike the steps of most optimizers.
    """

    def batch(reward: float) -> Transitions:
        return transition._replace(reward=np.full_like(transition.reward, reward))

    @lru_cache(maxsize=8)  # the search returns to its ends
    def received(reward: float) -> Array | None:
        gradients = received_gradients(agent, batch(reward))
        return None if gradients is None else flat(gradients)

    for error in (width, width / 10, width / 100):  # some losses ignore errors beyond a limit
        if (gradients := received(q + error)) is None:
            return cache(lambda reward: float(agent.trained(batch(reward)).q_taken(transition)[0]) - q)
        upwards = gradients
        if upwards.any():
            break
    upwards = upwards / (np.abs(upwards).max() + 1e-300)

    def motion(reward: float) -> float:
        gradients = received(reward)
        return 0.0 if gradients is None else float(upwards @ gradients)

    return motion


def neutral_reward(agent: AgentCopy, transition: Transitions, width: float, precision: float = 1e-4) -> float:
    """Find the reward at which an update on one transition leaves Q(obs, action) unchanged.

    The search starts at Q(obs, action) +- ``width`` and is accurate to ``precision`` times ``width``. Raise
    CannotTell if it finds no such reward.
    """
    q = float(agent.q_taken(transition)[0])

    motion = _motion(agent, transition, q, width)
    reach = width
    for _ in range(2):  # some losses ignore errors beyond a limit
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
        if reach > MAX_REACH * width:
            raise CannotTell(
                f"rewards of {low:.3g} and {high:.3g} should move Q(obs, action) in opposite directions, but move "
                f"it by {down:.3g} and {up:.3g}"
            )

    # The Illinois variant of regula falsi. It takes few steps if the motion is linear, as with SGD, and not many more
    # than bisection if the motion jumps, as with the first step of Adam.
    tolerance = precision * width
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
    raise CannotTell("no reward leaves Q(obs, action) unchanged, because the change of Q is not monotone in the reward")


def read_bootstraps(agent: AgentCopy, batch: Transitions, width: float) -> Array:
    """Return Q(obs, action) - r* of each transition, (B,)."""
    neutral = [neutral_reward(agent, batch.rows([row]), width) for row in range(len(batch.action))]
    return np.asarray(agent.q_taken(batch) - np.array(neutral))


def require_regression(session: Session) -> None:
    """Raise CannotTell unless an update whose target equals Q leaves Q unchanged.

    If an agent learns a distribution, or a regularized or noisy target, such an update changes Q.
    """
    if session.not_regression is None:
        session.not_regression = _why_not_regression(session)
    if session.not_regression:
        raise CannotTell(session.not_regression)


def _why_not_regression(session: Session) -> str:
    if (session.ends, session.routing) != ("sound", "sound"):
        return ""  # a reported fault would affect the result
    agent = session.new_copy()
    batch = session.transitions(3)  # terminated, so that the target is the reward
    q = agent.q_taken(batch)
    width = float(np.abs(q).max()) + 1e-3
    try:
        neutral = q - read_bootstraps(agent, batch, width)
    except CannotTell as reason:
        if _steps_reverse(agent, batch, q, CLEAR * width):
            return ""
        return f"no reward leaves Q(obs, action) of a terminated transition unchanged: {reason}"
    if np.abs(neutral - q).max() < CLEAR * width or _steps_reverse(agent, batch, q, CLEAR * width):
        return ""
    return (
        f"terminated transitions leave Q(obs, action) unchanged at rewards of {listed(neutral)}, but Q is {listed(q)}: "
        "the update does not move Q toward a single number. The agent may learn a distribution, or a noisy or "
        "regularized target"
    )


def _steps_reverse(agent: AgentCopy, batch: Transitions, q: Array, error: float) -> bool:
    """Return whether the weights take opposite steps for targets above and below Q(obs, action).

    Then updates move Q toward a number, even if a wrong backward pass moves it in another direction.
    """
    for row, value in enumerate(q):
        one = batch.rows([row])
        rewards = (np.full_like(one.reward, value + sign * error) for sign in (1, -1))
        try:
            up, down = (flat(weight_step(agent, one._replace(reward=reward))) for reward in rewards)
        except CannotTell:
            return False
        if cosine(up, down) > -ALIKE:
            return False
    return True


def require_varied_q(session: Session) -> None:
    """Raise CannotTell if Q is the same in all states, because updates then do not reveal their targets."""
    q = session.new_copy().q(session.observations(32))
    if np.ptp(q) <= 1e-9 + 10 * session.noise:
        raise CannotTell(
            f"Q of a new agent is {q[0, 0]:.4g} for every state and action, so its targets cannot be measured"
        )


def aim(agent: AgentCopy, transition: Transitions) -> Aim:
    """Return how to set the target with the reward.

    In a correct agent, the target of a terminated transition is its reward.
    """
    ends = agent.session.ends
    flag = ends in ("sound", "no_mask")
    if ends in ("sound", "mask_inverted"):
        return flag, np.zeros(len(transition.action))
    flagged = transition._replace(terminated=np.full_like(transition.terminated, flag))
    return flag, read_bootstraps(agent, flagged, float(np.abs(agent.q(transition.obs)).max()) + 1)


def with_error(agent: AgentCopy, transition: Transitions, error: float, aimed: Aim | None = None) -> Transitions:
    """Return ``transition`` with the reward that makes its TD error ``error``."""
    terminated, above = aimed or aim(agent, transition)
    return transition._replace(
        reward=(agent.q_taken(transition) + error - above).astype(np.float32),
        terminated=np.full_like(transition.terminated, terminated),
    )


class Fit(NamedTuple):
    """How well ``factor`` times the candidate ``name`` explains measured bootstraps."""

    name: str
    factor: float
    distance: float  # largest difference, relative to the largest bootstrap

    @property
    def clear(self) -> bool:
        """Whether the candidate explains the bootstraps."""
        return self.distance <= CLEAR


class Targets(NamedTuple):
    """Measured bootstraps (B,) of a batch, and candidates for them by name, the correct one first."""

    batch: Transitions
    bootstrap: Array
    candidates: dict[str, Array]

    @property
    def all_zero(self) -> bool:
        """Whether the targets equal the rewards, as in a correct agent whose discount is 0."""
        largest = max(float(np.abs(values).max()) for values in self.candidates.values())
        return float(np.abs(self.bootstrap).max()) < UNSURE * largest

    def fit(self, name: str) -> Fit:
        """Return the fit of one candidate, with the factor that fits best."""
        values = self.candidates[name]
        factor = float(self.bootstrap @ values / (values @ values + 1e-30))
        distance = np.abs(self.bootstrap - factor * values).max() / (np.abs(self.bootstrap).max() + 1e-12)
        return Fit(name, factor, float(distance))

    def best_fit(self, discount: float) -> Fit:
        """Return the fit of the nearest candidate.

        Of candidates that are equally near within the precision of the measurement, the one whose factor is nearest
        to ``discount`` wins, and then the first one.
        """
        fits = [self.fit(name) for name in self.candidates]
        limit = min(fit.distance for fit in fits) + UNSURE
        near = [fit for fit in fits if fit.distance <= limit]
        return min(near, key=lambda fit: round(abs(fit.factor - discount) / UNSURE))

    def described(self, fit: Fit) -> str:
        """Return the reason why no candidate explains the bootstraps."""
        return (
            f"the update aims at r + {listed(self.bootstrap)}, which is not a known target. The nearest one, "
            f"{fit.factor:.3g} times {fit.name}, differs by {fit.distance:.0%}"
        )

    def picture(self, discount: float) -> Points:
        """Return a plot of the bootstraps against the correct ones."""
        expected = discount * next(iter(self.candidates.values()))
        labels = "expected: discount times the next value", "found: target minus reward"
        return Points("Bootstrap: the target without the reward", *labels, expected, self.bootstrap, expected)


def read_targets(
    session: Session,
    agent: AgentCopy,
    candidates: Callable[[Transitions], dict[str, Array]],
    terminated: bool = False,
    more: int = 0,
) -> Targets:
    """Measure the bootstraps of transitions that distinguish the first candidate from the others, up to three for each.

    ``more`` is the number of other random transitions to measure.
    """
    pool = session.transitions(60 * session.actions, terminated, scale=2.0)
    wanted, *rivals = candidates(pool).values()
    rows = set(range(more))
    for rival in rivals:
        rows |= {int(np.abs(rival - wanted).argmax()), int(rival.argmax()), int(rival.argmin())}
    batch = pool.rows(sorted(rows))
    width = float(np.abs(wanted).max() + np.abs(agent.q_taken(batch)).max()) + 1e-6
    return Targets(batch, read_bootstraps(agent, batch, width), candidates(batch))
