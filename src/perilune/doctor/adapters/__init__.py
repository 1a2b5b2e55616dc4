"""Adapters for common agents."""

from perilune.doctor.adapters.members import MemberAdapter, online_agent, replay_agent
from perilune.doctor.adapters.perilune import PeriluneAdapter
from perilune.doctor.adapters.script import Script
from perilune.doctor.adapters.stable_baselines3 import StableBaselines3Adapter
from perilune.doctor.adapters.tianshou import TianshouAdapter
from perilune.doctor.adapters.torch import TorchAdapter

__all__ = [
    "MemberAdapter",
    "PeriluneAdapter",
    "Script",
    "StableBaselines3Adapter",
    "TianshouAdapter",
    "TorchAdapter",
    "online_agent",
    "replay_agent",
]
