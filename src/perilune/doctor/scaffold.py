"""A commented adapter for the user to fill in."""

from __future__ import annotations

import os
from pathlib import Path

from perilune.errors import ExaminationError

TEXT = '''"""What the doctor needs to know of my agent.

    perilune doctor {file}:make

Fill in the two methods below, and as many of the others as you can: each one unlocks more checks. Delete those that you
leave out: what cannot be checked is listed in the report, and is no fault.
"""

import numpy as np

# from my_dqn import MyAgent


class Patient:
    def __init__(self, agent):
        self.agent = agent
        self.gamma = 0.99  # the discount that your agent uses
        self.observation_size = 8  # numbers in one observation
        # self.n_step = 3  # only if the rewards of your batches are sums over several steps

    # These two are enough.

    def q_values(self, obs):
        """Q of every action: obs[N, O] in, an array [N, A] out. The network that is trained, not the target network."""
        raise NotImplementedError("for example: return self.agent.network.forward(obs)")

    def train_batch(self, obs, action, reward, next_obs, terminated):
        """One call of your own update. obs and next_obs are [B, O]; action (int), reward and terminated (bool) [B]."""
        raise NotImplementedError("for example: self.agent.learn(obs, action, reward, next_obs, terminated)")

    # Each of these tells more.

    # def target_q_values(self, obs):
    #     return self.agent.target_network.forward(obs)

    # def sync_target(self):
    #     self.agent.update_target()

    # def parameters(self):
    #     """The arrays themselves, by name: not copies."""
    #     return {{"W1": self.agent.network.W1, "b1": self.agent.network.b1}}

    # def gradients(self, obs, action, reward, next_obs, terminated):
    #     """The gradients of the loss, by the same names, without stepping."""

    # def loss(self, obs, action, reward, next_obs, terminated):
    #     """The loss, a number."""

    # def act(self, obs, epsilon):
    #     """One observation [O] in, an action out: random with probability epsilon, else the best one."""
    #     return self.agent.act(obs, epsilon)

    # def remember(self, obs, action, reward, next_obs, terminated, truncated):
    #     self.agent.buffer.add(obs, action, reward, next_obs, terminated)

    # def sample(self, n):
    #     """n transitions as arrays: obs, action, reward, next_obs, terminated."""
    #     return self.agent.buffer.sample(n)

    # def run(self, env, env_steps):
    #     """Your own training loop, on any Gymnasium environment."""
    #     self.agent.train(env, env_steps)


def make(seed=0):
    """A new agent each time. If its weights are drawn at random, let the seed decide on them."""
    np.random.seed(seed)  # for torch: torch.manual_seed(seed)
    # return Patient(MyAgent())
    raise NotImplementedError("make your agent here")
'''


def write_scaffold(path: Path) -> None:
    """Write the adapter to ``path``, which must not exist yet.

    Raises:
        ExaminationError: it exists, is no name of a Python file, or cannot be written.
    """
    if path.suffix != ".py":
        raise ExaminationError(f"{str(path)!r} is not allowed: the name of a Python file that does not exist yet")
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
            file.write(TEXT.format(file=path))
    except FileExistsError as error:
        raise ExaminationError(f"{path} exists already: give another name, or remove it") from error
    except OSError as error:
        raise ExaminationError(f"{path} cannot be written: {error.strerror}") from error
