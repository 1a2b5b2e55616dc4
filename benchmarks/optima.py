"""Best possible returns: dynamic programming for toy text, and a search for MountainCar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.toy_text.blackjack import BlackjackEnv

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Model:
    """A Markov decision process with S states and A actions."""

    observations: Sequence[Any]
    """Observation of each state, as the environment returns it."""
    start: Array
    """Probability of each state at the start of an episode, [S]."""
    next_state: Array
    """Probability of each next state, [S, A, S]. The rest of the probability ends the episode."""
    reward: Array
    """Expected reward, [S, A]."""
    horizon: int
    """Time steps after which an episode ends."""

    def best_return(self) -> float:
        """Return the expected return of the best policy, which may depend on the number of remaining time steps."""
        value = np.zeros(len(self.start))
        for _ in range(self.horizon):
            before, value = value, (self.reward + self.next_state @ value).max(axis=1)
            if np.array_equal(before, value):
                break
        return float(self.start @ value)

    def expected_return(self, policy: Array) -> float:
        """Return the expected return of a policy, given as the probability of each action in each state, [S, A]."""
        reward = (policy * self.reward).sum(axis=1)
        next_state = np.einsum("sa,sat->st", policy, self.next_state)
        value = np.zeros(len(self.start))
        for _ in range(self.horizon):
            before, value = value, reward + next_state @ value
            if np.array_equal(before, value):
                break
        return float(self.start @ value)

    def n_step_values(self, n_step: int, epsilon: float, gamma: float = 0.99) -> Array:
        """Return the Q-values to which uncorrected n-step returns converge, [S, A].

        After the first action, each return contains ``n_step`` - 1 rewards of the epsilon-greedy policy, and then the
        value of the best action. With ``n_step`` = 1, the result is Q of the optimal policy.

        Args:
            n_step: number of rewards in a return.
            epsilon: share of random actions in the replay buffer.
            gamma: discount factor.
        """
        values = np.zeros(self.reward.shape)
        for _ in range(2_000):
            policy = epsilon * self.uniform() + (1 - epsilon) * self.greedy(values.argmax(axis=1).tolist())
            following = values.max(axis=1)
            for _ in range(n_step - 1):
                following = (policy * (self.reward + gamma * self.next_state @ following)).sum(axis=1)
            before, values = values, self.reward + gamma * self.next_state @ following
            if np.abs(values - before).max() < 1e-9:
                break
        return values

    def greedy(self, actions: Sequence[int]) -> Array:
        """Return the policy that takes one action in each state, [S, A]."""
        found: Array = np.eye(self.reward.shape[1])[list(actions)]
        return found

    def uniform(self) -> Array:
        """Return the policy that takes each action with the same probability, [S, A]."""
        return np.full(self.reward.shape, 1 / self.reward.shape[1])


def of_table(env: gym.Env[Any, Any], horizon: int) -> Model:
    """Return the model of an environment of toy text that has a table of its transitions.

    Args:
        env: FrozenLake, CliffWalking or Taxi.
        horizon: its time limit.
    """
    inner: Any = env.unwrapped
    states, actions = len(inner.P), len(inner.P[0])
    next_state, reward = np.zeros((states, actions, states)), np.zeros((states, actions))
    for state, choices in inner.P.items():
        for action, outcomes in choices.items():
            for probability, following, gain, terminated in outcomes:
                reward[state, action] += probability * gain
                if not terminated:
                    next_state[state, action, following] += probability
    return Model(range(states), np.asarray(inner.initial_state_distrib), next_state, reward, horizon)


CARDS = {card: (4 if card == 10 else 1) / 13 for card in range(1, 11)}
BUST, STICK, HIT = 22, 0, 1


def add_card(total: int, ace: int, card: int) -> tuple[int, int]:
    """Return the sum of a hand after a card, and whether an ace counts as 11. A bust hand has the sum 22."""
    total, ace = (total + 11, 1) if card == 1 and total + 11 <= 21 else (total + card, ace)
    if total > 21 and ace:
        total, ace = total - 10, 0
    return min(total, BUST), ace


def dealer_sums(total: int, ace: int) -> dict[int, float]:
    """Return the probability of each final sum of a dealer who draws until 17. 22 stands for bust."""
    if total >= 17:
        return {total: 1.0}
    found: dict[int, float] = {}
    for card, probability in CARDS.items():
        for final, share in dealer_sums(*add_card(total, ace, card)).items():
            found[final] = found.get(final, 0.0) + probability * share
    return found


def hands() -> Iterator[tuple[float, int, int, bool]]:
    """Yield the probability, the sum, the usable ace and whether it is a natural for each hand of two cards."""
    for first, p in CARDS.items():
        for second, q in CARDS.items():
            total, ace = add_card(*add_card(0, 0, first), second)
            yield p * q, total, ace, total == 21


def blackjack(env: gym.Env[Any, Any]) -> Model:
    """Return the model of Blackjack with the rules of Sutton and Barto. Cards are drawn with replacement.

    A natural wins unless the dealer has one, too. The observation does not show it, but the state does.

    Args:
        env: the environment.
    """
    inner = env.unwrapped
    assert isinstance(inner, BlackjackEnv)
    assert inner.sab, "the rules differ from those of the model"
    keys = [(total, dealer, ace, False) for total in range(4, 22) for dealer in CARDS for ace in (0, 1)]
    keys += [(21, dealer, 1, True) for dealer in CARDS]
    index = {key: number for number, key in enumerate(keys)}
    next_state, reward, start = np.zeros((len(keys), 2, len(keys))), np.zeros((len(keys), 2)), np.zeros(len(keys))
    finals: Mapping[int, Mapping[int, float]] = {dealer: dealer_sums(*add_card(0, 0, dealer)) for dealer in CARDS}
    natural = {dealer: {1: CARDS[10], 10: CARDS[1]}.get(dealer, 0.0) for dealer in CARDS}
    for (total, dealer, ace, is_natural), state in index.items():
        for final, probability in finals[dealer].items():
            beaten = final == BUST or total > final
            reward[state, STICK] += probability * (1 if beaten else -1 if total < final else 0)
        if is_natural:
            reward[state, STICK] = 1 - natural[dealer]
        for card, probability in CARDS.items():
            reached, usable = add_card(total, ace, card)
            if reached == BUST:
                reward[state, HIT] -= probability
            else:
                next_state[state, HIT, index[reached, dealer, usable, False]] += probability
    for probability, total, ace, is_natural in hands():
        for dealer, share in CARDS.items():
            start[index[total, dealer, ace, is_natural]] += probability * share
    return Model([key[:3] for key in keys], start, next_state, reward, horizon=20)


def fewest_steps(position: float, gravity: float = 0.0025, limit: int = 200) -> int | None:
    """Return the length of a shortest episode of MountainCar that a search finds, or None.

    The search expands all states that are reached in the same number of time steps, but only one state in each cell of
    a grid. An episode of the returned length exists. A shorter one may exist, too.

    Args:
        position: the position of the car at the start.
        gravity: the gravity of the environment.
        limit: time steps after which the search stops.
    """
    shape = (3_600, 2_800)  # cells of the position (-1.2 to 0.6) and of the velocity (-0.07 to 0.07)
    seen = np.zeros(shape[0] * shape[1], bool)
    at, velocity = np.array([position]), np.array([0.0])
    for step in range(1, limit + 1):
        push = np.array([[-0.001], [0.0], [0.001]])
        velocity = np.clip(velocity + push - gravity * np.cos(3 * at), -0.07, 0.07)
        at = np.clip(at + velocity, -1.2, 0.6)
        velocity[(at == -1.2) & (velocity < 0)] = 0
        at, velocity = at.ravel(), velocity.ravel()
        if (at >= 0.5).any():
            return step
        rows = ((at + 1.2) / 1.8 * (shape[0] - 1)).round().astype(int)
        columns = ((velocity + 0.07) / 0.14 * (shape[1] - 1)).round().astype(int)
        cells, first = np.unique(rows * shape[1] + columns, return_index=True)
        new = first[~seen[cells]]
        seen[cells] = True
        at, velocity = at[new], velocity[new]
    return None


def shortest_climb(gravity: float, starts: int = 21) -> float:
    """Return the mean of ``fewest_steps`` over evenly spaced starts from -0.6 to -0.4."""
    lengths = [fewest_steps(float(start), gravity) for start in np.linspace(-0.6, -0.4, starts)]
    return float(np.mean([length for length in lengths if length is not None]))
