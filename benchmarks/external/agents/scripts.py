"""Unmodified scripts: CleanRL's, and PyTorch's tutorial."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.external.sources import find
from perilune.doctor.adapters import Script, replay_agent


def batch(obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any) -> SimpleNamespace:
    """Return a batch in the form of CleanRL's replay buffer."""
    return SimpleNamespace(
        observations=torch.as_tensor(obs),
        actions=torch.as_tensor(action)[:, None],
        next_observations=torch.as_tensor(next_obs),
        dones=torch.as_tensor(terminated)[:, None].float(),
        rewards=torch.as_tensor(reward)[:, None],
    )


def means(network: str, script: Any, obs: Any) -> Any:
    """Return the means of the distributions that a C51 network predicts."""
    net = getattr(script, network)
    logits = net.network(torch.as_tensor(obs)).view(len(obs), net.n, net.n_atoms)
    return (torch.softmax(logits, dim=2) * net.atoms).sum(2)


def cleanrl(file: str, values: Any, seed: int = 0) -> Any:
    """Return an adapter for one of CleanRL's scripts."""
    path = find("vwxyzjn/cleanrl", f"cleanrl/{file}")
    script = Script(path, "rb", [f"--seed={seed}", "--no-cuda"])
    return replay_agent(
        script, memory="rb", learn="update", batch=batch, batch_size="args.batch_size", observation_size=4,
        gamma=vars(script)["args"].gamma, q_values=values("q_network"), target_q_values=values("target_network"),
    )  # fmt: skip


def tutorial(seed: int = 0) -> Any:
    """Return the DQN of PyTorch's tutorial, whose memory has no next state where an episode ended."""
    torch.manual_seed(seed)
    script: Any = Script(find("PyTorchKorea/tutorials-kr", "intermediate_source/reinforcement_q_learning.py"))

    def rows(obs: Any, action: Any, reward: Any, next_obs: Any, terminated: Any) -> list[Any]:
        states, next_states = (torch.as_tensor(one)[:, None] for one in (obs, next_obs))
        actions, rewards = torch.as_tensor(action)[:, None, None], torch.as_tensor(reward)[:, None]
        kept = [None if end else state for state, end in zip(next_states, terminated, strict=True)]
        return [script.Transition(*row) for row in zip(states, actions, kept, rewards, strict=True)]

    return replay_agent(
        script, memory="memory", learn="optimize_model", batch=rows, batch_size="BATCH_SIZE", gamma=script.GAMMA,
        observation_size=4, q_values="policy_net", target_q_values="target_net",
    )  # fmt: skip


AGENTS = {
    "cleanrl-dqn": partial(cleanrl, "dqn.py", str),
    "pytorch-tutorial": tutorial,
    "cleanrl-c51": partial(cleanrl, "c51.py", partial(partial, means)),
}
