"""Golden vectors: observations with the Q-values and actions of the library, for the self-tests of exports."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from perilune import envs
from perilune._utils.arrays import Array
from perilune.agent.dqn import Agent
from perilune.export.policy import Policy, unencoded
from perilune.training.evaluation import SCORE_SEEDS, play_episode

COUNT = 64  # golden vectors
EPISODES = 4  # from which the observations are chosen
TOLERANCE = 1e-5  # of the largest absolute Q-value of an observation


@dataclass(frozen=True)
class Golden:
    """Golden vectors.

    Attributes:
        obs: observations as the environment returns them, float32 [64, N].
        q_values: Q(obs, a) as the library computes them, float32 [64, A].
        action: the greedy action, as the environment takes it, int64 [64].
    """

    obs: Array
    q_values: Array
    action: Array


def golden_vectors(agent: Agent, env: envs.Env, policy: Policy) -> Golden:
    """Return 64 observations, evenly spaced over greedy episodes, with the Q-values and actions of the library.

    Args:
        agent: the agent.
        env: its environment, with flattened observations. It is reset.
        policy: the policy of the agent.
    """
    rows: list[Array] = []
    for episode in range(EPISODES):
        rows += [step.obs for step in play_episode(agent.greedy_action, env, SCORE_SEEDS + episode, 1_000)]
    chosen = np.stack([rows[i] for i in np.linspace(0, len(rows) - 1, COUNT).round().astype(int)])
    values = agent.q_values(chosen)
    return Golden(unencoded(policy.entries, chosen), values.copy(), policy.first_action + values.argmax(axis=1))


def clear(golden: Golden) -> Array:
    """Return where the two best Q-values differ by more than the tolerance, so that the greedy action is certain.

    Args:
        golden: the golden vectors.

    Returns:
        bool [64].
    """
    if golden.q_values.shape[1] == 1:
        return np.ones(len(golden.obs), bool)
    best = np.sort(golden.q_values, axis=1)
    scale = np.abs(golden.q_values).max(axis=1)
    certain: Array = best[:, -1] - best[:, -2] > 2 * TOLERANCE * scale
    return certain


def golden_json(golden: Golden) -> str:
    """Return the content of golden.json, which the self-tests of the Python and JavaScript exports read.

    Args:
        golden: the golden vectors.
    """
    arrays = {**vars(golden), "certain": clear(golden)}
    lines = [f'  "{name}": {json.dumps(array.tolist())}' for name, array in arrays.items()]
    return "{\n" + ",\n".join([f'  "tolerance": {TOLERANCE}', *lines]) + "\n}\n"
