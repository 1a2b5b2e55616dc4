"""Perilune's own agent, a reference agent of the fault benchmark. Faults are injected into a copy of the package."""

from perilune.agent.config import DQNConfig
from perilune.doctor.adapters import PeriluneAdapter
from perilune.agent.dqn import Agent


def make(seed=0, n_obs=4, n_actions=3):
    config = DQNConfig(
        hidden=(64, 64), buffer_size=5000, batch_size=32, target_update_interval=100, tau=1.0, n_step=1, layer_norm=False
    )
    return PeriluneAdapter(Agent(n_obs, n_actions, config, seed))
