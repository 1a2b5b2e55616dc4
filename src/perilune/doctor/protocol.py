"""The interface between the doctor and an agent: the methods that the doctor calls and the batches that it passes."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from perilune._utils.arrays import Array


class Transitions(NamedTuple):
    """A batch of transitions.

    Attributes:
        obs: Observations, float32 (B, O).
        action: Actions, int64 (B,).
        reward: Rewards, float32 (B,).
        next_obs: Next observations, float32 (B, O).
        terminated: Whether each transition terminated its episode, bool (B,).
    """

    obs: Array
    action: Array
    reward: Array
    next_obs: Array
    terminated: Array

    def rows(self, index: Any) -> Transitions:
        """Return a copy of the transitions that ``index`` selects.

        Args:
            index: Anything that indexes the first axis of an array.
        """
        return Transitions(*(np.array(column[index]) for column in self))

    def repeat(self, times: int) -> Transitions:
        """Return a batch that contains each transition ``times`` times.

        Args:
            times: Number of copies of each transition (>= 1).
        """
        return Transitions(*(np.repeat(column, times, axis=0) for column in self))


@runtime_checkable
class AgentAdapter(Protocol):
    """The members through which the doctor examines an agent. Your adapter does not need a base class.

    ``gamma``, ``observation_size``, ``q_values`` and ``train_batch`` are required. The following members are optional.
    Each one enables more checks:

    - ``target_q_values(obs)`` returns the Q-values of the target network, (N, A).
    - ``sync_target()`` runs one hard or Polyak update of the target network.
    - ``parameters()`` and ``target_parameters()`` return the trained arrays by name: the arrays themselves, not copies.
    - ``gradients(obs, action, reward, next_obs, terminated)`` returns the gradient of the loss for each parameter, by
      name.
    - ``loss(obs, action, reward, next_obs, terminated)`` returns the loss as a number.
    - ``act(obs, epsilon)`` returns an action (int) for one observation (O,).
    - ``remember(obs, action, reward, next_obs, terminated, truncated)`` stores one transition.
    - ``sample(n)`` returns obs, action, reward, next_obs and terminated of stored transitions, as arrays.
    - ``run(env, env_steps)`` runs your training loop on a Gymnasium environment.
    - ``n_step`` (int): each reward is a discounted sum over this many time steps, and the target discounts the next
      value by gamma^n_step.
    - ``online`` (bool): ``train_batch`` learns from one transition after another, as an agent without replay does.

    Attributes:
        gamma: Discount, from 0 to 1.
        observation_size: Number of entries of an observation, O.
    """

    gamma: float
    observation_size: int

    def q_values(self, obs: Array) -> Array:
        """Return Q(obs, a) of the online network for every action, (N, A).

        Args:
            obs: Observations, float32 (N, O).
        """

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> Any:
        """Run your update once on a batch.

        Args:
            obs: Observations, float32 (B, O).
            action: Actions, int64 (B,).
            reward: Rewards, float32 (B,).
            next_obs: Next observations, float32 (B, O).
            terminated: Whether each transition terminated its episode, bool (B,).

        Returns:
            Anything; the doctor ignores it.
        """
