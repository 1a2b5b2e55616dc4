"""Perilune's own agent. A host of the mutation benchmark: the package is copied, and faults are put into the copy."""

from perilune.agent.config import DQNConfig
from perilune.doctor.adapters import PerilunePatient
from perilune.agent.dqn import Agent


def make(seed=0, n_obs=4, n_actions=3):
    config = DQNConfig(
        hidden=(64, 64), buffer_size=5000, batch_size=32, target_update_every=100, tau=1.0, n_step=1, layer_norm=False
    )
    return PerilunePatient(Agent(n_obs, n_actions, config, seed))
