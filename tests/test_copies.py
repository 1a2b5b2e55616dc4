"""A copied or pickled agent is independent and learns exactly like the original."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251 -- users may pickle agents; no file of Perilune's is a pickle
from collections.abc import Callable

import numpy as np
import pytest

from perilune.agent.dqn import Agent
from perilune.nn import SGD, Adam, AdamW, RMSProp
from perilune.replay.prioritized import SumTree
from perilune.replay.symmetry import Symmetry
from worlds import small

pytestmark = pytest.mark.usefixtures("backend")
SETTINGS = {
    "plain": {},
    "rainbow": {"priority_alpha": 0.6, "noisy": True, "dueling": True, "head": "qr", "quantiles": 4, "n_step": 3},
    "average": {"ema_decay": 0.9, "mirror": True, "munchausen": 0.9, "optimizer": "adamw"},
}
MIRROR = Symmetry(observation_index=(1, 0), observation_sign=(1, 1), action_index=(2, 1, 0))


def pickled(agent: Agent) -> Agent:
    made: Agent = pickle.loads(pickle.dumps(agent))  # noqa: S301 -- trusted data
    return made


def arrays_of(agent: Agent) -> dict[str, np.ndarray]:
    found = {"online": agent.online.parameters, "target": agent.target.parameters, "obs": agent.replay.arrays.obs}
    found |= {"action": agent.replay.arrays.action} | agent.optimizer.arrays
    if agent.priorities is not None:
        found["priorities"] = agent.priorities.tree.nodes
    return found if agent.average is None else found | {"average": agent.average.parameters}


def trained(agent: Agent, steps: int, seed: int) -> Agent:
    generator = np.random.default_rng(seed)
    for step in range(steps):
        obs, next_obs = generator.normal(size=(2, agent.observation_size)).astype(np.float32)
        action, reward = agent.act(obs[None]), [float(generator.normal())]
        agent.observe(obs[None], action, reward, next_obs[None], [step % 7 == 6], [False])
    return agent


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@pytest.mark.parametrize("name", SETTINGS)
def test_copy_learns_like_the_original_and_shares_no_memory(name: str, copied: Callable[[Agent], Agent]) -> None:
    agent = trained(Agent(2, 3, small(**SETTINGS[name]), 0, MIRROR), 40, seed=0)
    other = copied(agent)
    before = {key: array.copy() for key, array in arrays_of(agent).items()}
    for key, array in arrays_of(other).items():
        assert not np.shares_memory(array, arrays_of(agent)[key]), key
    trained(other, 20, seed=1)
    assert not np.array_equal(other.online.parameters, agent.online.parameters)
    for key, array in arrays_of(agent).items():
        np.testing.assert_array_equal(array, before[key], err_msg=key)
    trained(agent, 20, seed=1)
    for key, array in arrays_of(other).items():
        np.testing.assert_array_equal(array, arrays_of(agent)[key], err_msg=key)


def test_copied_trees_and_optimizers_update_their_own_arrays() -> None:
    tree = SumTree(3)
    tree.set_one(1, 2.0)
    other = copy.deepcopy(tree)
    other.set_one(2, 3.0)
    assert (tree.total, other.total) == (2.0, 5.0)
    for optimizer in (SGD(3), RMSProp(3), Adam(3), AdamW(3)):
        made, parameters = copy.deepcopy(optimizer), np.ones(3, np.float32)
        made.step(parameters, np.ones(3, np.float32), 0.1)
        assert (made.updates, optimizer.updates) == (1, 0)
        assert (parameters < 1).all()
