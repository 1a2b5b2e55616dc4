"""Adapter for the DQN family of tianshou 2.

This module does not import tianshou. Your agent's code imports it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from perilune._utils.arrays import Array


class TianshouAdapter:
    """Adapter for tianshou's DQN, C51, Rainbow, QRDQN, IQN or FQF, or a subclass of one of them.

    With ``n_step_return_horizon`` n > 1, the adapter replaces each transition of a batch with n transitions. Only the
    first of them has the reward, so the n-step return equals the reward of the batch.

    Args:
        algorithm: A new algorithm. The examination trains it.
        observation_size: Number of entries of an observation, O.
        buffer: The replay buffer that the algorithm learns from, if the doctor should examine it.
    """

    def __init__(self, algorithm: Any, observation_size: int, buffer: Any = None) -> None:
        self.algorithm, self.buffer = algorithm, buffer
        self.gamma, self.n_step = float(algorithm.gamma), int(algorithm.n_step)
        self.observation_size = observation_size
        if not algorithm.use_target_network:
            self.target_q_values = self.target_parameters = self.sync_target = None  # type: ignore[assignment, method-assign]
        if buffer is None or self.n_step > 1:
            self.remember = self.sample = None  # type: ignore[assignment, method-assign]

    def q_values(self, obs: Array) -> Any:
        """Return Q-values of the online network, (N, A).

        Args:
            obs: Observations, (N, O).
        """
        return self._values(obs, {})

    def target_q_values(self, obs: Array) -> Any:
        """Return Q-values of the target network, (N, A).

        Args:
            obs: Observations, (N, O).
        """
        return self._values(obs, {"model": self.algorithm.model_old})

    def _values(self, obs: Array, model: dict[str, Any]) -> Any:
        policy = self.algorithm.policy
        with self._evaluating():
            out = policy(_batch(obs=obs, info=_batch()), **model)
        if not hasattr(out, "fractions"):
            return policy.compute_q_value(out.logits, None)
        taus = out.fractions.taus  # FQF weights each quantile by the width of its fraction
        return ((taus[:, 1:] - taus[:, :-1]).unsqueeze(1) * out.logits).sum(2)

    def train_batch(self, obs: Array, action: Array, reward: Array, next_obs: Array, terminated: Array) -> None:
        """Run one update of the algorithm.

        Args:
            obs: Observations, (B, O).
            action: Actions, (B,).
            reward: Rewards, (B,).
            next_obs: Next observations, (B, O).
            terminated: Whether the transition terminated its episode, (B,).
        """
        n = self.n_step
        last = np.arange(n * len(action)) % n == n - 1
        rows = _batch(
            obs=np.repeat(obs, n, axis=0),
            act=np.repeat(action, n),
            rew=np.repeat(reward, n) * (np.arange(n * len(action)) % n == 0),
            terminated=np.repeat(terminated, n) & last,
            truncated=last & ~np.repeat(terminated, n),
            done=last,
            obs_next=np.repeat(next_obs, n, axis=0),
        )
        buffer = sys.modules["tianshou.data"].ReplayBuffer.from_data(**dict(rows.items()))
        buffer.last_index = np.array([len(last) - 1])  # otherwise, the buffer treats row 0 as the newest
        starts = np.flatnonzero(np.arange(n * len(action)) % n == 0)
        buffer.sample = lambda _: (buffer[starts], starts)
        self.algorithm.policy.is_within_training_step = True
        try:
            self.algorithm.update(buffer=buffer, sample_size=len(action))
        finally:
            self.algorithm.policy.is_within_training_step = False

    def sync_target(self) -> None:
        """Copy the online network to the target network, as the algorithm does every ``target_update_freq`` updates."""
        self.algorithm._update_lagged_network_weights()

    def act(self, obs: Array, epsilon: float) -> int:
        """Return an action for one observation.

        Args:
            obs: Observation, (O,).
            epsilon: Probability of a random action, from 0 to 1.
        """
        policy = self.algorithm.policy
        policy.set_eps_inference(epsilon)
        observed = _batch(obs=obs[None], info=_batch())
        with self._evaluating():
            return int(policy.add_exploration_noise(policy(observed).act, observed)[0])

    def _evaluating(self) -> Any:
        """Return a context without the noise of noisy layers, as when tianshou collects transitions."""
        return sys.modules["tianshou.utils.torch_utils"].torch_train_mode(self.algorithm, False)

    def remember(
        self, obs: Array, action: int, reward: float, next_obs: Array, terminated: bool, truncated: bool
    ) -> None:
        """Store one transition in the replay buffer.

        Args:
            obs: Observation, (O,).
            action: Action.
            reward: Reward.
            next_obs: Next observation, (O,).
            terminated: Whether the transition terminated its episode.
            truncated: Whether the episode was truncated after it.
        """
        row = {"obs": obs, "act": action, "rew": reward, "obs_next": next_obs, "info": {}}
        self.buffer.add(_batch(**row, terminated=terminated, truncated=truncated, done=terminated or truncated))

    def sample(self, n: int) -> tuple[Array, ...]:
        """Return obs, action, reward, next_obs and terminated of transitions from the replay buffer.

        Args:
            n: Number of transitions.
        """
        drawn, _ = self.buffer.sample(n)
        return drawn.obs, drawn.act, drawn.rew, drawn.obs_next, drawn.terminated

    def parameters(self) -> dict[str, Any]:
        """Return the trained parameters of the online network by name."""
        return _trained(self.algorithm.policy.model)

    def target_parameters(self) -> dict[str, Any]:
        """Return the parameters of the target network by name."""
        old = self.algorithm.model_old
        return _trained(getattr(old, "module", old), self.algorithm.policy.model)


def _trained(module: Any, like: Any = None) -> dict[str, Any]:
    """Return the parameters of ``module`` that ``like`` trains: tianshou's noisy layers store noise as parameters."""
    trained = {name for name, parameter in (like or module).named_parameters() if parameter.requires_grad}
    return {name: parameter for name, parameter in module.named_parameters() if name in trained}


def _batch(**columns: Any) -> Any:
    return sys.modules["tianshou.data"].Batch(**columns)
