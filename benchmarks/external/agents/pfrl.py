"""PFRL's DQN family on vectors of observations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from pfrl import agents, explorers, q_functions, replay_buffers
from pfrl import nn as pnn
from pfrl.agents.iqn import CosineBasisLinear, ImplicitQuantileQFunction
from torch import nn

OBSERVATION_SIZE, ACTIONS = 4, 2


class Adapter:
    """Adapter for an agent of PFRL."""

    def __init__(self, agent: Any) -> None:
        self.agent, self.gamma, self.observation_size = agent, agent.gamma, OBSERVATION_SIZE
        self.sync_target = agent.sync_target_network

    def q_values(self, obs: Any) -> Any:
        """Return Q-values of the online network."""
        return self._values(self.agent.model, obs)

    def target_q_values(self, obs: Any) -> Any:
        """Return Q-values of the target network."""
        return self._values(self.agent.target_model, obs)

    def _values(self, model: Any, obs: Any) -> Any:
        out = model(torch.as_tensor(obs))
        if callable(out):  # IQN's model returns a function of quantile thresholds
            out = out(torch.rand(len(obs), self.agent.quantile_thresholds_K))
        return out.q_values

    def train_batch(self, obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any) -> None:
        """Call the agent's update with the batch in the form of its replay buffer."""
        names = ("state", "action", "reward", "next_state", "is_state_terminal")
        rows = zip(obs, action, reward, next_obs, terminated, strict=True)
        self.agent.update([[{**dict(zip(names, row, strict=True)), "next_action": None}] for row in rows])

    def act(self, obs: Any, epsilon: float) -> int:
        """Return an action of the agent's explorer."""
        self.agent.explorer.epsilon = epsilon
        return int(self.agent.act(obs))

    def remember(self, obs: Any, action: int, reward: float, next_obs: Any, terminated: bool, truncated: bool) -> None:
        """Store a transition, as the agent does."""
        self.agent.replay_buffer.append(obs, action, reward, next_obs, is_state_terminal=terminated)
        if terminated or truncated:
            self.agent.replay_buffer.stop_current_episode()

    def sample(self, n: int) -> tuple[Any, ...]:
        """Return transitions from the replay buffer."""
        rows = [steps[0] for steps in self.agent.replay_buffer.sample(n)]
        if isinstance(self.agent.replay_buffer, replay_buffers.PrioritizedReplayBuffer):
            self.agent.replay_buffer.update_errors([1.0] * n)
        names = ("state", "action", "reward", "next_state", "is_state_terminal")
        return tuple(np.array([row[name] for row in rows]) for name in names)

    def run(self, env: Any, env_steps: int) -> None:
        """Train as in the quickstart guide of the library."""
        obs, _ = env.reset()
        for _ in range(env_steps):
            obs, reward, terminated, truncated, _ = env.step(self.agent.act(obs))
            self.agent.observe(obs, reward, terminated, truncated)
            if terminated or truncated:
                obs, _ = env.reset()


def plain() -> Any:
    """Return a fully connected Q-function."""
    return q_functions.FCStateQFunctionWithDiscreteAction(
        OBSERVATION_SIZE, ACTIONS, n_hidden_channels=100, n_hidden_layers=2
    )


def head() -> Any:
    """Return the network of the quickstart guide."""
    return nn.Sequential(
        nn.Linear(OBSERVATION_SIZE, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, ACTIONS),
        q_functions.DiscreteActionValueHead(),
    )  # fmt: skip


def noisy() -> Any:
    """Return a Q-function with factorized noise."""
    made = plain()
    pnn.to_factorized_noisy(made, sigma_scale=0.5)
    return made


def distribution() -> Any:
    """Return a categorical Q-function."""
    return q_functions.DistributionalFCStateQFunctionWithDiscreteAction(
        OBSERVATION_SIZE, ACTIONS, n_atoms=51, v_min=-10, v_max=10, n_hidden_channels=100, n_hidden_layers=2
    )


def implicit() -> Any:
    """Return an implicit quantile Q-function."""
    return ImplicitQuantileQFunction(
        psi=nn.Sequential(nn.Linear(OBSERVATION_SIZE, 64), nn.ReLU()),
        phi=nn.Sequential(CosineBasisLinear(64, 64), nn.ReLU()),
        f=nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, ACTIONS)),
    )


def make(
    kind: Any, q_function: Callable[[], Any], prioritized: bool = False, seed: int = 0, **settings: Any
) -> Adapter:
    """Return an adapter for a new agent."""
    torch.manual_seed(seed)
    buffer = replay_buffers.PrioritizedReplayBuffer if prioritized else replay_buffers.ReplayBuffer
    model = q_function()
    explorer = (
        explorers.Greedy()
        if q_function is noisy
        else explorers.ConstantEpsilonGreedy(0.1, random_action_func=lambda: np.random.randint(ACTIONS))  # noqa: NPY002
    )
    defaults = {"replay_start_size": 100, "target_update_interval": 100, "update_interval": 1, "gamma": 0.99}
    return Adapter(
        kind(model, torch.optim.Adam(model.parameters(), eps=1e-2), buffer(capacity=10_000), explorer=explorer,
             **{**defaults, **settings})
    )  # fmt: skip


AGENTS: dict[str, Callable[..., Any]] = {
    "pfrl-dqn": partial(make, agents.DQN, plain),
    "pfrl-dqn-quickstart": partial(make, agents.DQN, head, gamma=0.9),
    "pfrl-dqn-squared-error": partial(make, agents.DQN, plain, clip_delta=False),
    "pfrl-dqn-soft": partial(
        make, agents.DQN, plain, target_update_method="soft", soft_update_tau=0.01, target_update_interval=1
    ),
    "pfrl-dqn-clipped-gradients": partial(make, agents.DQN, plain, max_grad_norm=0.5),
    "pfrl-dqn-prioritized": partial(make, agents.DQN, plain, prioritized=True),
    "pfrl-dqn-noisy": partial(make, agents.DQN, noisy),
    "pfrl-double-dqn": partial(make, agents.DoubleDQN, plain),
    "pfrl-advantage-learning": partial(make, agents.AL, plain),
    "pfrl-persistent-advantage-learning": partial(make, agents.PAL, plain),
    "pfrl-double-pal": partial(make, agents.DoublePAL, plain),
    "pfrl-dynamic-policy-programming": partial(make, agents.DPP, plain),
    "pfrl-categorical-dqn": partial(make, agents.CategoricalDQN, distribution),
    "pfrl-categorical-double-dqn": partial(make, agents.CategoricalDoubleDQN, distribution),
    "pfrl-iqn": partial(make, agents.IQN, implicit),
}
